/* virt-backupctl verify: is all of the repository there, and as it was stored; and if not, which restore points does that break? */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "against_source.h"
#include "archive/archive_reader.h"
#include "archive/extract.h"
#include "base/document.h"
#include "base/human.h"
#include "base/io.h"
#include "base/progress.h"
#include "damage_map.h"
#include "options.h"
#include "repository/repo_named.h"
#include "repository/verify.h"

#define SHOWN_MAX	100u		/* damages that are listed */
#define LOOKS		3u		/* at all folders, before an archive is missing */

struct verify {
	const struct options	*o;
	struct repo		*r;
	struct catalog		 catalog;
	bool			*wanted;	/* by the catalog's entries: points to be checked */
	bool			*needed;	/* folders to be checked for them */
	struct damage_map	*map;
	struct progress		 progress;
	unsigned long		 points, archives, damages, broken;
	uint64_t		 random;	/* never 0 */

	/* The folder that is being checked. */
	size_t			 entry;
	struct archive_reader	*ar;
	struct err		 index_lost;	/* not told yet: opening the archive will say the same, and what is used instead */
	uint64_t		 frames, sure;	/* data frames; one that a sample has in any case */
};

static const char *
spec(const struct verify *v, size_t entry, char out[2 * NAMING_MAX])
{
	const struct catalog_entry *e = &v->catalog.v[entry];

	return (point_spec_format(e->vm, e->point.time, e->point.suffix, out));
}

/* The disk that a source is, as the archive that is open knows it. */
static void
source_text(const struct verify *v, const struct index_source *s, char out[2 * NAMING_MAX])
{
	char id[UUID_LEN];

	if (memcmp(s->archive, index_info(v->ar->ix)->archive, ARCHIVE_ID_LEN) == 0 && s->disk < index_disks(v->ar->ix))
		snprintf(out, 2 * NAMING_MAX, "disk %s", index_disk(v->ar->ix, s->disk)->target);
	else {
		uuid_text(s->archive, id);
		snprintf(out, 2 * NAMING_MAX, "disk %u of the replaced archive %s", s->disk, id);
	}
}

/* Readers take no lock: a folder may go while it is checked ... */
static bool
folder_is_gone(const struct verify *v, size_t entry)
{
	struct manifest m = MANIFEST_INIT;
	struct err why = ERR_INIT;

	/* In the one that is there a manifest, be it damaged, has one name or the other. */
	if (repo_manifest(v->r, &v->catalog.v[entry].point, &m, &why) == -1 &&
	    (why.code != ESTALE || repo_manifest_any(v->r, &v->catalog.v[entry].point, &m, &why) == -1))
		return (why.code == ENOENT && repo_manifest(v->r, &v->catalog.v[entry].point, &m, &why) == -1 && why.code == ESTALE);
	manifest_free(&m);
	return (false);
}

/* ... and a point may cease to be one. */
static bool
point_is_gone(const struct verify *v, size_t entry)
{
	struct manifest m = MANIFEST_INIT;
	struct err why = ERR_INIT;

	if (repo_manifest(v->r, &v->catalog.v[entry].point, &m, &why) == -1)
		return (why.code == ESTALE);
	manifest_free(&m);
	return (false);
}

/* Something of the folder that is being checked. */
static void
damaged(struct verify *v, const struct index_source *s, uint64_t offset, uint64_t length, const char *text)
{
	const struct catalog_entry *e = &v->catalog.v[v->entry];
	char point[2 * NAMING_MAX], disk[2 * NAMING_MAX], line[2048];
	json_t *o;

	if (folder_is_gone(v, v->entry))
		return;
	progress_end(&v->progress);
	if (v->damages++ >= SHOWN_MAX)
		return;
	spec(v, v->entry, point);
	if (s != NULL) {
		source_text(v, s, disk);
		snprintf(line, sizeof(line), "%s, %llu bytes at offset %llu: %s", disk, (unsigned long long)length, (unsigned long long)offset, text);
	} else
		snprintf(line, sizeof(line), "%s", text);
	if (!v->o->json) {
		fprintf(stderr, "virt-backupctl: damaged: %s%s: %s\n", human_safe(point), e->listed ? "" : " (pruned)", human_safe(line));
		return;
	}
	o = json_pack("{s:s, s:s, s:b, s:o}", "event", "damaged", "point", point, "listed", (int)e->listed, "error", doc_string(human_safe(line)));
	if (o != NULL && s != NULL) {
		json_object_set_new(o, "offset", json_integer((json_int_t)offset));
		json_object_set_new(o, "length", json_integer((json_int_t)length));
	}
	ctl_print_json(o, JSON_COMPACT);
}

static void
on_begin(void *arg, const char *what, uint64_t total)
{
	struct verify *v = arg;
	char point[2 * NAMING_MAX], label[3 * NAMING_MAX];

	snprintf(label, sizeof(label), "%.400s: %.100s", spec(v, v->entry, point), what);
	progress_begin(&v->progress, label, total);
}

static int
on_progress(void *arg, uint64_t done, struct err *err)
{
	struct verify *v = arg;

	progress_update(&v->progress, done);
	return (interrupted ? err_plain(err, EINTR, "stopped before everything was checked") : 0);
}

static void
on_file(void *arg, const char *file, const struct err *why)
{
	struct verify *v = arg;

	if (why->code == ENOENT && strcmp(file, INDEX_MEMBER) == 0)
		v->index_lost = *why;
	else
		damaged(v, NULL, 0, 0, why->text);
}

static void
on_member(void *arg, const char *name, const struct err *why)
{
	struct verify *v = arg;

	(void)name;
	damage_map_point(v->map, v->entry);
	damaged(v, NULL, 0, 0, why->text);
}

static int
on_bad_block(void *arg, uint32_t source, uint64_t offset, uint64_t length, const char *why, struct err *err)
{
	struct verify *v = arg;
	struct index_source s;

	if (index_source(v->ar->ix, source, &s, err) == -1)
		return (-1);
	damaged(v, &s, offset, length, why);
	return (damage_map_blocks(v->map, v->entry, &s, offset, length, err));
}

static uint64_t
next_random(struct verify *v)
{
	v->random ^= v->random << 13;
	v->random ^= v->random >> 7;
	v->random ^= v->random << 17;
	return (v->random >> 11);
}

static bool
on_want(void *arg, uint64_t n)
{
	struct verify *v = arg;

	return (n == v->sure || (double)next_random(v) / 9007199254740992.0 * 100 < v->o->sample);
}

static int
count_frames(struct verify *v, uint64_t *bytes, struct err *err)
{
	struct index_frame f;

	v->frames = *bytes = 0;
	for (uint64_t i = 0; i < index_frame_count(v->ar->ix); i++) {
		if (index_frames(v->ar->ix, i, 1, &f, err) == -1)
			return (-1);
		if (f.source == NO_SOURCE)
			continue;
		v->frames++;
		*bytes += f.raw;
	}
	v->sure = v->frames > 0 ? next_random(v) % v->frames : 0;
	*bytes = (uint64_t)((double)*bytes / 100 * v->o->sample);
	return (0);
}

static int
check_blocks(struct verify *v, struct err *err)
{
	static const struct extract_ops all = { .bad_block = on_bad_block, .progress = on_progress };
	static const struct extract_ops some = { .bad_block = on_bad_block, .progress = on_progress, .want = on_want };
	uint64_t bytes;

	if (count_frames(v, &bytes, err) == -1)
		return (-1);
	on_begin(v, "blocks", bytes);
	return (extract_check(v->ar, v->o->sample < 100 ? &some : &all, v, err));
}

/* Tell what is lost and can be made good, a missing index.bin once. */
static void
tell_note(struct verify *v, const char *note)
{
	if (v->index_lost.text[0] != '\0' && (note == NULL || strstr(note, v->index_lost.text) == NULL))
		damaged(v, NULL, 0, 0, v->index_lost.text);
	if (note != NULL)
		damaged(v, NULL, 0, 0, note);
	v->index_lost = (struct err)ERR_INIT;
}

static int
check_archive(struct verify *v, const struct manifest *m, struct err *err)
{
	static const struct verify_ops member_ops = { .begin = on_begin, .progress = on_progress, .damage = on_member };
	struct err why = ERR_INIT;
	int rc;

	if ((v->ar = archive_open_point(v->r, &v->catalog.v[v->entry].point, m, &why)) == NULL) {
		if (folder_is_gone(v, v->entry))
			return (0);
		tell_note(v, why.text);
		damage_map_archive(v->map, v->entry);
		return (0);
	}
	tell_note(v, v->ar->note);
	/* An index that was made up of headers knows nothing of other archives: what the point needs cannot be told. */
	if (index_info(v->ar->ix)->time == 0 && v->catalog.v[v->entry].nreferences > 0)
		damage_map_point(v->map, v->entry);
	rc = verify_members(v->ar, &member_ops, v, err) == -1 || check_blocks(v, err) == -1 ? -1 : 0;
	archive_close(v->ar);
	v->ar = NULL;
	return (rc);
}

static int
check_folder(struct verify *v, size_t entry, struct err *err)
{
	static const struct verify_ops file_ops = { .begin = on_begin, .progress = on_progress, .damage = on_file };
	const struct catalog_entry *e = &v->catalog.v[entry];
	struct manifest m = MANIFEST_INIT;
	struct err why = ERR_INIT;
	bool known;
	int rc = 0;

	v->entry = entry;
	v->index_lost = (struct err)ERR_INIT;
	v->archives++;
	known = repo_manifest_any(v->r, &e->point, &m, &why) == 0;
	if (!known)
		damaged(v, NULL, 0, 0, why.text);
	else
		rc = verify_sums(v->r, &e->point, &m, v->o->sample >= 100, &file_ops, v, err);
	if (rc == 0)
		rc = check_archive(v, known ? &m : NULL, err);
	manifest_free(&m);
	return (rc);
}

/* Which points, and whose archives. */
static int
select_points(struct verify *v, struct err *err)
{
	const struct catalog *c = &v->catalog;
	const struct catalog_holder *h;
	struct point p = { .suffix = 0 };
	size_t count;

	if (v->o->nargs > 0 && repo_find(v->r, v->o->args[0], &p, err) == -1)
		return (-1);
	if ((v->wanted = calloc(c->n + 1, sizeof(bool))) == NULL || (v->needed = calloc(c->n + 1, sizeof(bool))) == NULL)
		return (err_nomem(err));
	for (size_t i = 0; i < c->n; i++) {
		if (v->o->nargs > 0)
			v->wanted[i] = strcmp(c->v[i].point.folder, p.folder) == 0 && strcmp(c->v[i].point.name, p.name) == 0;
		else
			v->wanted[i] = c->v[i].listed && (v->o->job == NULL || (c->v[i].job != NULL && strcmp(c->v[i].job, v->o->job) == 0));
		/* All, be they needed or not: what is there should be sound. */
		v->needed[i] = v->needed[i] || v->wanted[i] || (v->o->nargs == 0 && v->o->job == NULL);
		v->points += v->wanted[i];
		for (size_t k = 0; v->wanted[i] && k < c->v[i].nreferences; k++) {
			h = catalog_find(c, c->v[i].references[k], &count);
			for (size_t n = 0; n < count; n++)
				v->needed[h[n].entry] = true;
		}
	}
	if (v->points == 0)
		return (err_set(err, 0, v->o->job != NULL ? "%s has no restore points of the job %s" : "%s has no restore points%s", v->r->st->url,
		    v->o->job != NULL ? v->o->job : ""));
	return (0);
}

static int
tell_broken(struct verify *v, struct err *err)
{
	char point[2 * NAMING_MAX];
	struct err why;
	int rc;

	for (size_t i = 0; i < v->catalog.n; i++) {
		why = (struct err)ERR_INIT;
		if (!v->wanted[i] || (rc = damage_map_breaks(v->map, v->r, i, &why, err)) == 0 || point_is_gone(v, i))
			continue;
		if (rc == -1)
			return (-1);
		v->broken++;
		spec(v, i, point);
		if (v->o->json)
			ctl_print_json(json_pack("{s:s, s:s, s:o}", "event", "broken", "point", point, "error", doc_string(human_safe(why.text))), JSON_COMPACT);
		else
			fprintf(stderr, "virt-backupctl: broken: %s: %s\n", human_safe(point), human_safe(why.text));
	}
	return (0);
}

static int
report(const struct verify *v)
{
	bool good = v->damages == 0 && v->broken == 0;

	if (v->o->json)
		ctl_print_json(json_pack("{s:s, s:I, s:I, s:f, s:I, s:I}", "event", good ? "verified" : "failed", "points", (json_int_t)v->points, "archives",
		    (json_int_t)v->archives, "sample", v->o->sample, "damages", (json_int_t)v->damages, "broken", (json_int_t)v->broken), JSON_COMPACT);
	else if (good && v->o->sample < 100)
		printf("%lu point%s, %lu archive%s: a sample of %g %% is as it was stored\n", v->points, v->points == 1 ? "" : "s", v->archives,
		    v->archives == 1 ? "" : "s", v->o->sample);
	else if (good)
		printf("%lu point%s, %lu archive%s: all is as it was stored\n", v->points, v->points == 1 ? "" : "s", v->archives, v->archives == 1 ? "" : "s");
	else
		fprintf(stderr, "virt-backupctl: %lu damage%s found; %lu of %lu points cannot be restored as a whole\n", v->damages,
		    v->damages == 1 ? "" : "s", v->broken, v->points);
	return (good ? EXIT_DONE : EXIT_FAILED);
}

static bool
names_missing(const struct catalog *c)
{
	size_t count;

	for (size_t i = 0; i < c->n; i++)
		for (size_t k = 0; c->v[i].listed && k < c->v[i].nreferences; k++) {
			catalog_find(c, c->v[i].references[k], &count);
			if (count == 0)
				return (true);
		}
	return (false);
}

/* Readers take no lock: while somebody packs archives, a folder may have been looked at before the new one was there, and after the old one went. */
static int
load_catalog(struct verify *v, struct err *err)
{
	for (unsigned int looks = 0; looks < LOOKS; looks++) {
		catalog_free(&v->catalog);
		if (catalog_load(v->r, &v->catalog, err) == -1)
			return (-1);
		if (!names_missing(&v->catalog))
			break;
	}
	return (0);
}

static int
verify(struct verify *v, struct err *err)
{
	if (io_random(&v->random, sizeof(v->random), err) == -1 || load_catalog(v, err) == -1 || select_points(v, err) == -1 ||
	    (v->map = damage_map_new(&v->catalog, err)) == NULL)
		return (-1);
	v->random |= 1;
	for (size_t i = 0; i < v->catalog.n; i++)
		if (v->needed[i] && check_folder(v, i, err) == -1)
			return (-1);
	progress_end(&v->progress);
	return (tell_broken(v, err));
}

static int
compare_point(const struct options *o)
{
	struct repo *r = NULL;
	struct err err = ERR_INIT;
	struct point p;
	bool same = false;
	int rc = -1;

	if ((r = repo_open_named(o->config, o->repository, &err)) != NULL && repo_find(r, o->args[0], &p, &err) == 0)
		rc = against_source(o, r, &p, &same, &err);
	repo_close(r);
	return (rc == -1 ? ctl_error(&err) : same ? EXIT_DONE : EXIT_FAILED);
}

int
command_verify(const struct options *o)
{
	struct verify v = { .o = o, .catalog = CATALOG_INIT, .index_lost = ERR_INIT };
	struct err err = ERR_INIT;
	int rc = -1;

	if (o->against_source)
		return (compare_point(o));
	progress_init(&v.progress, o->json, stderr, stdout);
	if ((v.r = repo_open_named(o->config, o->repository, &err)) != NULL)
		rc = verify(&v, &err);
	progress_end(&v.progress);
	rc = rc == 0 ? report(&v) : ctl_error(&err);
	archive_close(v.ar);
	damage_map_free(v.map);
	free(v.wanted);
	free(v.needed);
	catalog_free(&v.catalog);
	repo_close(v.r);
	return (rc);
}
