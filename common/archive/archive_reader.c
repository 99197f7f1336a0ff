#include "archive/archive_reader.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "archive/archive_scan.h"
#include "archive/bare_index.h"

static struct archive_reader *
reader_new(const char *a, const char *b, const char *c, struct err *err)
{
	struct archive_reader *ar = calloc(1, sizeof(*ar));
	struct buf name = BUF_INIT;

	if (ar == NULL || buf_addf(&name, err, "%s%s%s%s%s", a, b != NULL ? "/" : "", b != NULL ? b : "", c != NULL ? "/" : "",
	    c != NULL ? c : "") == -1) {
		free(ar);
		err_nomem(err);
		return (NULL);
	}
	ar->name = name.ptr;
	return (ar);
}

static int
add_note(struct archive_reader *ar, const char *what, const char *instead, struct err *err)
{
	struct buf b = BUF_INIT;

	if (buf_addf(&b, err, "%s%s%s%s%s", ar->note != NULL ? ar->note : "", ar->note != NULL ? "; " : "", what, instead != NULL ? ": " : "",
	    instead != NULL ? instead : "") == -1)
		return (-1);
	free(ar->note);
	ar->note = b.ptr;
	return (0);
}

/* The index inside the archive, or else one made of its headers and maps.  ${why} says what is wrong with index.bin. */
static int
open_inner(struct archive_reader *ar, const char *why, const struct manifest *m, struct err *err)
{
	struct err inner = ERR_INIT;
	struct buf notes = BUF_INIT;
	struct store_file *f;
	int rc = -1;

	if ((f = bare_index(ar->data, &inner)) != NULL && (ar->ix = index_open(f, &inner)) != NULL) {
		if (bare_check(ar->data, ar->ix, &inner) == 0)
			return (why == NULL ? 0 : add_note(ar, why, "the index inside the archive is used", err));
		index_close(ar->ix);
	}
	/* Room can be made: nobody should have to do without digests for the lack of it. */
	if (inner.code == ENOSPC) {
		*err = inner;
		return (-1);
	}
	if (why != NULL && add_note(ar, why, "the index inside the archive is looked for", err) == -1)
		return (-1);
	if ((ar->ix = archive_scan(ar->data, m, &notes, err)) == NULL)
		err_wrap(err, "%s", inner.text);
	else if (add_note(ar, inner.text, "its headers and maps are used, without digests: only what the codec itself checks is checked", err) == 0)
		rc = notes.len > 0 ? add_note(ar, notes.ptr, NULL, err) : 0;
	buf_free(&notes);
	return (rc);
}

/* Why index.bin cannot be used: -1 and ${err} says so. */
static int
open_index_bin(struct archive_reader *ar, struct repo *r, const struct point *p, const struct manifest *m, struct err *err)
{
	struct store_file *f = repo_file(r, p, INDEX_MEMBER, err);
	struct err tail = ERR_INIT;
	char id[UUID_LEN];

	if (f == NULL)
		return (-1);
	if ((ar->ix = index_open(f, err)) == NULL)
		return (err_wrap(err, "%s/%s/%s/" INDEX_MEMBER, r->st->url, p->folder, p->name));
	if (bare_check(ar->data, ar->ix, &tail) == 0)
		return (0);
	/* With its end lost, only the manifest can tell whether the archive belongs to the index. */
	uuid_text(index_info(ar->ix)->archive, id);
	if (m != NULL && strcmp(id, m->archive.id) == 0)
		return (add_note(ar, tail.text, "index.bin is used", err));
	index_close(ar->ix);
	ar->ix = NULL;
	return (err_set(err, 0, "%s/%s/%s/" INDEX_MEMBER " is not the index of this archive", r->st->url, p->folder, p->name));
}

static int
check_manifest(struct archive_reader *ar, const struct manifest *m, struct err *err)
{
	char id[UUID_LEN], text[160];

	uuid_text(index_info(ar->ix)->archive, id);
	if (ar->note == NULL && strcmp(id, m->archive.id) != 0)
		return (add_note(ar, "the manifest belongs to another archive", "the archive's own index is used", err));
	if (ar->data->size != m->archive.size) {
		snprintf(text, sizeof(text), "the archive has %llu bytes, the manifest says %llu", (unsigned long long)ar->data->size,
		    (unsigned long long)m->archive.size);
		return (add_note(ar, text, "it was cut off or changed", err));
	}
	return (0);
}

struct find_archive {
	char	name[32];
};

static int
is_archive(void *arg, const char *name, struct err *err)
{
	struct find_archive *f = arg;

	(void)err;
	if (strncmp(name, "disks.tar", 9) == 0 && strlen(name) < sizeof(f->name) && codec_by_suffix(name) != NULL)
		memcpy(f->name, name, strlen(name) + 1);
	return (0);
}

/* Without a manifest, the archive is known by its name. */
static int
archive_name(struct repo *r, const struct point *p, const struct manifest *m, struct find_archive *f, struct err *err)
{
	char path[2 * NAMING_MAX];

	memset(f, 0, sizeof(*f));
	if (m != NULL) {
		snprintf(f->name, sizeof(f->name), "%s", m->archive.file);
		return (0);
	}
	snprintf(path, sizeof(path), "%.255s/%.200s", p->folder, p->name);
	if (store_list(r->st, path, is_archive, f, err) == -1)
		return (-1);
	return (f->name[0] != '\0' ? 0 : err_plain(err, ENOENT, "%s/%s holds no archive", r->st->url, path));
}

static struct archive_reader *
open_point(struct repo *r, const struct point *p, const struct manifest *m, struct err *err)
{
	struct archive_reader *ar;
	struct find_archive f;
	struct err why = ERR_INIT;

	if (archive_name(r, p, m, &f, err) == -1 || (ar = reader_new(p->folder, p->name, f.name, err)) == NULL)
		return (NULL);
	if ((ar->data = repo_file(r, p, f.name, err)) == NULL)
		goto fail;
	if (open_index_bin(ar, r, p, m, &why) == -1 && open_inner(ar, why.text, m, err) == -1) {
		err_wrap(err, "%s", ar->name);
		goto fail;
	}
	/* An index that was made up from headers knows no time. */
	if (index_info(ar->ix)->time != 0 && index_info(ar->ix)->time != p->time) {
		err_set(err, 0, "%s and its index belong to another restore point: files were exchanged", ar->name);
		goto fail;
	}
	if (m == NULL || check_manifest(ar, m, err) == 0)
		return (ar);
fail:
	archive_close(ar);
	return (NULL);
}

/* A point may be consolidated, so that its files are others, after its manifest was read: then *${now} is the new one. */
static bool
was_changed(struct repo *r, const struct point *p, const struct manifest *m, struct manifest *now)
{
	struct err ignored = ERR_INIT;

	if (repo_manifest_any(r, p, now, &ignored) == -1)
		return (false);
	if (strcmp(now->archive.id, m->archive.id) != 0)
		return (true);
	manifest_free(now);
	return (false);
}

struct archive_reader *
archive_open_point(struct repo *r, const struct point *p, const struct manifest *m, struct err *err)
{
	struct archive_reader *ar = open_point(r, p, m, err);
	struct manifest now = MANIFEST_INIT;

	if ((ar != NULL && ar->note == NULL) || m == NULL || !was_changed(r, p, m, &now))
		return (ar);
	archive_close(ar);
	*err = (struct err)ERR_INIT;
	ar = open_point(r, p, &now, err);
	manifest_free(&now);
	return (ar);
}

struct archive_reader *
archive_open_bare(const char *path, struct err *err)
{
	struct archive_reader *ar = reader_new(path, NULL, NULL, err);

	if (ar == NULL)
		return (NULL);
	if ((ar->data = store_dir_open_file(path, err)) == NULL)
		goto fail;
	if (open_inner(ar, NULL, NULL, err) == 0)
		return (ar);
	err_wrap(err, "%s", path);
fail:
	archive_close(ar);
	return (NULL);
}

void
archive_close(struct archive_reader *ar)
{
	if (ar == NULL)
		return;
	store_file_close(ar->data);
	index_close(ar->ix);
	free(ar->name);
	free(ar->note);
	free(ar);
}

bool
archive_is_whole(const struct archive_reader *ar)
{
	uint64_t frames = index_frame_count(ar->ix);
	struct err ignored = ERR_INIT;
	struct index_frame f;

	return (frames == 0 || (index_frames(ar->ix, frames - 1, 1, &f, &ignored) == 0 && f.offset + f.stored <= ar->data->size));
}
