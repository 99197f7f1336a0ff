#include "repository/repo.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/document.h"
#include "base/io.h"

#define REPOSITORY_MAX	65536u
#define PATH_LEN	(2 * NAMING_MAX + 64)

/* Something of a repository: machine's folder, point's folder, file. */
static int
make_path(char out[PATH_LEN], const char *a, const char *b, const char *c, struct err *err)
{
	int n = snprintf(out, PATH_LEN, "%s%s%s%s%s", a, b != NULL ? "/" : "", b != NULL ? b : "", c != NULL ? "/" : "", c != NULL ? c : "");

	if (n < 0 || (size_t)n >= PATH_LEN)
		return (err_set(err, ENAMETOOLONG, "%.80s...", a));
	return (0);
}

static int
read_repository_json(struct repo *r, const char *path, struct err *err)
{
	struct buf text = BUF_INIT;
	uint8_t bytes[16];
	const char *id;
	json_t *o = NULL;
	int rc = -1;

	if (store_read_small(r->st, path, REPOSITORY_MAX, &text, err) == -1)
		goto out;
	if ((o = doc_parse(text.ptr, text.len, REPOSITORY_NAME, err)) == NULL || !json_is_integer(json_object_get(o, "format")) ||
	    doc_text(o, "id", &id, err) == -1) {
		err_plain(err, EBADMSG, "%s is damaged: it has no format and id", REPOSITORY_NAME);
		goto out;
	}
	if (doc_format_is(o, REPOSITORY_NAME, err) == -1)
		goto out;
	/* It names a file in other repositories, and must not lead out of their folder. */
	if (uuid_parse(id, bytes) == -1) {
		err_plain(err, EBADMSG, "%s is damaged: its id is no UUID", REPOSITORY_NAME);
		goto out;
	}
	snprintf(r->id, sizeof(r->id), "%s", id);
	rc = 0;
out:
	json_decref(o);
	buf_free(&text);
	return (rc);
}

static int
write_repository_json(struct repo *r, struct err *err)
{
	char created[RFC3339_LEN], staged[64];
	struct buf text = BUF_INIT;
	uint8_t id[16];
	int rc = -1;

	if (uuid_random(id, err) == -1)
		return (-1);
	uuid_text(id, r->id);
	time_rfc3339(time(NULL), created);
	snprintf(staged, sizeof(staged), "%s.%.8s.partial", REPOSITORY_NAME, r->id);
	if (doc_write(json_pack("{s:i, s:s, s:s, s:s}", "format", 1, "id", r->id, "created", created, "program",
	    "openvirt-backup " OVB_VERSION), &text, err) == -1)
		goto out;
	if (store_write_small(r->st, staged, &text, err) == -1 || store_rename(r->st, staged, REPOSITORY_NAME, err) == -1)
		store_unlink(r->st, staged, &(struct err)ERR_INIT);
	else
		rc = store_sync_dir(r->st, ".", err);
out:
	buf_free(&text);
	return (rc);
}

/*
 * Put a damaged repository.json aside, and look at what was put aside: if another run has just made it anew, it goes back to its place.
 */
static int
set_aside(struct repo *r, struct err *err)
{
	char aside[64];
	uint8_t random[4];

	if (io_random(random, sizeof(random), err) == -1)
		return (-1);
	snprintf(aside, sizeof(aside), "%s.damaged-%02x%02x%02x%02x", REPOSITORY_NAME, random[0], random[1], random[2], random[3]);
	if (store_rename(r->st, REPOSITORY_NAME, aside, err) == -1)
		return (err->code == ENOENT ? 0 : -1);
	if (read_repository_json(r, aside, err) == 0 && store_rename(r->st, aside, REPOSITORY_NAME, err) == -1 && err->code != EEXIST)
		return (-1);
	return (0);
}

struct repo *
repo_open(const char *url, bool make, struct err *err)
{
	struct store *st = store_open(url, make, err);

	return (st != NULL ? repo_open_in(st, make, err) : NULL);
}

/* As a disk or a file system that is broken says it. */
static bool
is_beyond_reading(int code)
{
	return (code == EIO || code == EUCLEAN || code == ELOOP);
}

struct repo *
repo_open_in(struct store *st, bool make, struct err *err)
{
	struct repo *r = calloc(1, sizeof(*r));
	int rc;

	if (r == NULL) {
		store_close(st);
		err_nomem(err);
		return (NULL);
	}
	r->st = st;
	rc = read_repository_json(r, REPOSITORY_NAME, err);
	/* Nothing in it is needed to restore: one that is damaged is as good as none.  A writer puts it aside. */
	if (rc == -1 && (err->code == EBADMSG || (!make && is_beyond_reading(err->code)))) {
		if (!make)
			err->code = ENOENT;
		else if (set_aside(r, err) == 0)
			rc = read_repository_json(r, REPOSITORY_NAME, err);
	}
	if (rc == -1 && err->code == ENOENT) {
		rc = 0;
		r->id[0] = '\0';
		/* Another run may make it at the same moment: then read theirs. */
		if (make && write_repository_json(r, err) == -1)
			rc = err->code == EEXIST || err->code == ENOENT ? read_repository_json(r, REPOSITORY_NAME, err) : -1;
	}
	if (rc == 0)
		return (r);
	err_wrap(err, "repository %s", st->url);
	repo_close(r);
	return (NULL);
}

void
repo_close(struct repo *r)
{
	if (r == NULL)
		return;
	store_close(r->st);
	free(r);
}

bool
repo_is_pruned(struct repo *r, const struct point *p)
{
	struct err ignored = ERR_INIT;
	struct store_stat sb;
	char path[PATH_LEN];

	return (make_path(path, p->folder, p->name, PRUNED_NAME, &ignored) == 0 && store_stat(r->st, path, &sb, &ignored) == 0);
}

/* The folder is renamed after its manifest: whoever finds no manifest, of neither name, looks for the folder last. */
static bool
is_gone(struct repo *r, const struct point *p)
{
	struct err why = ERR_INIT;
	struct store_stat sb;
	char path[PATH_LEN];

	return (make_path(path, p->folder, p->name, NULL, &why) == 0 && store_stat(r->st, path, &sb, &why) == -1 && why.code == ENOENT);
}

/* Points whose names begin with the prefix; the whole name wins over longer ones. */
static int
choose(struct repo *r, const struct points *ps, const struct point_spec *sp, struct point *out, struct err *err)
{
	const char *url = r->st->url;
	size_t i, found = 0;

	for (i = 0; i < ps->n; i++) {
		if (strncmp(ps->v[i].name, sp->prefix, strlen(sp->prefix)) != 0 || repo_is_pruned(r, &ps->v[i]))
			continue;
		if (strcmp(ps->v[i].name, sp->prefix) == 0) {
			*out = ps->v[i];
			return (0);
		}
		found++;
		*out = ps->v[i];	/* in order of time: the last one is the latest */
	}
	if (found == 0)
		return (err_plain(err, ENOENT, "%s has no restore point %s@%s (virt-restore list shows what there is)", url, sp->vm,
		    sp->prefix[0] != '\0' ? sp->prefix : "latest"));
	if (found > 1 && sp->prefix[0] != '\0')
		return (err_set(err, 0, "%zu restore points of %s begin with %s, the last is %s: write more of the time", found, sp->vm,
		    sp->prefix, out->name));
	return (0);
}

int
repo_find(struct repo *r, const char *spec, struct point *out, struct err *err)
{
	struct points ps = POINTS_INIT;
	struct point_spec sp;
	char folder[NAMING_MAX];
	int rc = -1;

	if (point_spec_parse(spec, &sp, err) == -1 || name_escape(sp.vm, folder, err) == -1)
		return (-1);
	if (repo_points(r, folder, &ps, err) == -1 && err->code != ENOENT)
		goto out;
	rc = choose(r, &ps, &sp, out, err);
out:
	points_free(&ps);
	return (rc);
}

/*
 * The path of a point's file at the ${try}th try: a point that is just being consolidated is looked for where it is meanwhile.  Returns whether
 * there is one to try.
 */
static bool
file_path(struct repo *r, const struct point *p, const char *name, unsigned int try, char path[PATH_LEN])
{
	static const char *const endings[] = { "", PLACE_NEW, "", PLACE_OLD };
	char folder[PATH_LEN], place[NAMING_MAX + 8];
	struct err ignored = ERR_INIT;
	struct store_stat sb;

	if (try >= sizeof(endings) / sizeof(endings[0]))
		return (false);
	if (try > 0 && (name_has_ending(p->name, PLACE_NEW) || name_has_ending(p->name, PLACE_OLD)))
		return (false);
	/* Where the folder is there, only the file is missing, unless it came just now. */
	if (try > 0 && make_path(folder, p->folder, p->name, NULL, &ignored) == 0 && store_stat(r->st, folder, &sb, &ignored) == 0) {
		if (try > 1)
			return (false);
		return (make_path(path, p->folder, p->name, name, &ignored) == 0);
	}
	snprintf(place, sizeof(place), "%s%s", p->name, endings[try]);
	return (make_path(path, p->folder, place, name, &ignored) == 0);
}

int
repo_read_small(struct repo *r, const struct point *p, const char *name, size_t max, struct buf *out, struct err *err)
{
	struct err why = ERR_INIT;
	char path[PATH_LEN];

	if (make_path(path, p->folder, p->name, name, err) == -1)
		return (-1);
	for (unsigned int try = 0; file_path(r, p, name, try, path); try++) {
		if (store_read_small(r->st, path, max, out, &why) == 0)
			return (0);
		if (try == 0 || why.code != ENOENT)
			*err = why;
		if (why.code != ENOENT)
			break;
	}
	return (-1);
}

static int
read_manifest(struct repo *r, const struct point *p, const char *name, struct manifest *m, struct err *err)
{
	char path[PATH_LEN], folder[NAMING_MAX];
	struct buf text = BUF_INIT;
	int rc = -1;

	if (make_path(path, p->folder, p->name, name, err) == -1)
		return (-1);
	if (repo_read_small(r, p, name, MANIFEST_MAX, &text, err) == 0) {
		rc = manifest_decode(m, text.ptr, text.len, err);
		/* NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): no list of points has entries and no memory */
		if (rc == 0 && (name_escape(m->vm, folder, err) == -1 || strcmp(folder, p->folder) != 0 || m->time != p->time)) {
			manifest_free(m);
			rc = err_set(err, 0, "it belongs to another restore point: files were exchanged");
		}
		if (rc == -1)
			err_wrap(err, "%s/%s", r->st->url, path);
	}
	buf_free(&text);
	return (rc);
}

int
repo_manifest(struct repo *r, const struct point *p, struct manifest *m, struct err *err)
{
	if (read_manifest(r, p, MANIFEST_NAME, m, err) == 0)
		return (0);
	if (err->code == ENOENT && (repo_is_pruned(r, p) || is_gone(r, p)))
		err_plain(err, ESTALE, "%s@%s was pruned", p->folder, p->name);
	return (-1);
}

int
repo_manifest_any(struct repo *r, const struct point *p, struct manifest *m, struct err *err)
{
	struct err why = ERR_INIT;

	if (read_manifest(r, p, MANIFEST_NAME, m, err) == 0)
		return (0);
	if (err->code != ENOENT)
		return (-1);
	if (read_manifest(r, p, PRUNED_NAME, m, &why) == 0)
		return (0);
	/* When neither is there, the one of a listed point is missed. */
	if (why.code != ENOENT)
		*err = why;
	return (-1);
}

struct store_file *
repo_file(struct repo *r, const struct point *p, const char *name, struct err *err)
{
	struct err why = ERR_INIT;
	struct store_file *f;
	char path[PATH_LEN];

	if (make_path(path, p->folder, p->name, name, err) == -1)
		return (NULL);
	for (unsigned int try = 0; file_path(r, p, name, try, path); try++) {
		if ((f = store_file_open(r->st, path, &why)) != NULL)
			return (f);
		if (try == 0 || why.code != ENOENT)
			*err = why;
		if (why.code != ENOENT)
			break;
	}
	return (NULL);
}

struct sweep {
	struct repo	*r;
	const char	*token;		/* of the sweeper's lock */
	unsigned int	*swept;
	const char	*folder;
};

/* "<point>.<token of a lock>.partial"; whatever else has that ending (a download) is not ours. */
static bool
is_partial(const char *name)
{
	size_t n = strlen(name), tail = sizeof(".0123456789abcdef.partial") - 1;
	char point[NAMING_MAX], base[NAMING_MAX];
	unsigned int suffix;
	time_t t;

	if (n <= tail || n >= sizeof(point) || !name_has_ending(name, ".partial") || name[n - tail] != '.' ||
	    strspn(name + n - tail + 1, "0123456789abcdef") != 16)
		return (false);
	memcpy(point, name, n - tail);
	point[n - tail] = '\0';
	return (point_place_parse(point, base, &t, &suffix));
}

/* Renamed first, so that a writer who was only asleep cannot publish what is half removed. */
static int
sweep_partial(void *arg, const char *name, struct err *err)
{
	struct sweep *s = arg;
	char path[PATH_LEN], away[PATH_LEN], away_name[NAMING_MAX];

	if (!is_partial(name))
		return (0);
	snprintf(away_name, sizeof(away_name), "%.18s.%s.partial", name, s->token);
	if (make_path(path, s->folder, name, NULL, err) == -1 || make_path(away, s->folder, away_name, NULL, err) == -1)
		return (-1);
	if (strcmp(path, away) != 0 && store_rename(s->r->st, path, away, err) == -1)
		return (err->code == ENOENT ? 0 : -1);
	if (store_remove_tree(s->r->st, away, err) == -1)
		return (-1);
	++*s->swept;
	return (0);
}

static int
sweep_machine(void *arg, const char *name, struct err *err)
{
	struct sweep *s = arg;
	unsigned int before = *s->swept;
	struct store_stat sb;

	if (name_has_ending(name, ".partial") && strncmp(name, REPOSITORY_NAME, strlen(REPOSITORY_NAME)) == 0)
		return (store_unlink(s->r->st, name, err) == -1 && err->code != ENOENT ? -1 : 0);
	if (name[0] == '.')
		return (0);
	if (store_stat(s->r->st, name, &sb, err) == -1)
		return (err->code == ENOENT ? 0 : -1);
	if (!sb.is_dir)
		return (0);
	s->folder = name;
	if (store_list(s->r->st, name, sweep_partial, s, err) == -1)
		return (repo_is_lost_and_found(name, err) ? 0 : -1);
	/* A machine whose first point never came to be leaves an empty folder; others' empty folders (lost+found) are not ours. */
	if (*s->swept > before)
		store_rmdir(s->r->st, name, &(struct err)ERR_INIT);
	return (0);
}

int
repo_sweep_alone(struct repo *r, struct lock *lk, unsigned int *swept, struct err *err)
{
	struct sweep s = { .r = r, .swept = swept, .token = lock_token(lk) };

	*swept = 0;
	return (repo_settle(r, lk, err) == -1 ? -1 : store_list(r->st, ".", sweep_machine, &s, err));
}

int
repo_sweep(struct repo *r, const char *program, unsigned int *swept, struct err *err)
{
	struct lock *lk = lock_alone(r->st, program, err);
	int rc;

	*swept = 0;
	if (lk == NULL)
		return (err->code == EBUSY ? 0 : -1);
	rc = repo_sweep_alone(r, lk, swept, err);
	return (lock_end(lk, rc == 0 ? err : &(struct err)ERR_INIT) == -1 ? -1 : rc);
}
