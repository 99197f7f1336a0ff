#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "repository/repo.h"

#define SUFFIX_MAX	1000u		/* points of one machine in one second */
#define TOGETHER_MAX	64u		/* of these, under way at once */
#define PATH_LEN	(2 * NAMING_MAX + 64)

/* A name is taken too while its point is consolidated, when its folder may have only the other names. */
int
point_name_is_free(struct repo *r, const struct point *p, struct err *err)
{
	static const char *const endings[] = { "", PLACE_NEW, PLACE_OLD };
	struct store_stat sb;
	char path[PATH_LEN];

	for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++) {
		snprintf(path, sizeof(path), "%s/%.200s%s", p->folder, p->name, endings[i]);
		if (store_stat(r->st, path, &sb, err) == 0) {
			err_set(err, EEXIST, "%s/%s", r->st->url, path);
			return (0);
		}
		if (err->code != ENOENT)
			return (-1);
	}
	return (1);
}

struct point_writer {
	struct repo	*r;
	struct lock	*lk;
	struct point	 point;			/* its name is only known once it is published */
	char		 partial[PATH_LEN];	/* folder, while it is not */
	bool		 made, published;
};

struct point_writer *
point_begin(struct repo *r, struct lock *lk, const char *vm, time_t t, struct err *err)
{
	char name[NAMING_MAX];

	point_name(t, 1, name);
	return (point_begin_named(r, lk, vm, t, name, false, err));
}

/* Two of one time under one lock have working names of their own: by ${name} first, then by other suffixes.  Returns 0; 1: there is no folder of the machine; -1. */
static int
make_partial(struct point_writer *pw, const char *name, struct err *err)
{
	char other[NAMING_MAX];

	for (unsigned int suffix = 1; suffix <= TOGETHER_MAX; suffix++) {
		snprintf(pw->partial, sizeof(pw->partial), "%s/%.32s.%s.partial", pw->point.folder, name, lock_token(pw->lk));
		if (store_mkdir(pw->r->st, pw->partial, err) == 0) {
			pw->made = true;
			return (0);
		}
		if (err->code != EEXIST)
			return (err->code == ENOENT ? 1 : -1);
		point_name(pw->point.time, suffix + 1, other);
		name = other;
	}
	return (-1);
}

struct point_writer *
point_begin_named(struct repo *r, struct lock *lk, const char *vm, time_t t, const char *name, bool known, struct err *err)
{
	struct point_writer *pw = calloc(1, sizeof(*pw));
	int rc = 1;

	if (pw == NULL) {
		err_nomem(err);
		return (NULL);
	}
	pw->r = r;
	pw->lk = lk;
	pw->point.time = t;
	snprintf(pw->point.name, sizeof(pw->point.name), "%s", name);
	if (name_escape(vm, pw->point.folder, err) == -1)
		goto fail;
	if (known && make_partial(pw, name, err) == 0)
		return (pw);
	/* Another run of this machine, that fails just now, may take the empty folder away. */
	for (int tries = 0; tries < 10 && rc == 1; tries++)
		if ((store_mkdir(r->st, pw->point.folder, err) == -1 && err->code != EEXIST) || (rc = make_partial(pw, name, err)) == -1)
			goto fail;
	/* Whoever made the machine's folder may not have come to make it durable. */
	if (rc == 0 && store_sync_dir(r->st, ".", err) == 0)
		return (pw);
fail:
	point_end(pw);
	return (NULL);
}

/* Who lost the lock lost the folder too: that is the reason to tell. */
static void
tell_why(const struct point_writer *pw, struct err *err)
{
	struct err lost = ERR_INIT;

	if (lock_check(pw->lk, &lost) == -1)
		*err = lost;
}

struct store_file *
point_create(struct point_writer *pw, const char *name, struct err *err)
{
	char path[PATH_LEN + NAMING_MAX];
	struct store_file *f;

	snprintf(path, sizeof(path), "%s/%s", pw->partial, name);
	if ((f = store_create(pw->r->st, path, err)) == NULL)
		tell_why(pw, err);
	return (f);
}

int
point_write(struct point_writer *pw, const char *name, const struct buf *text, struct err *err)
{
	char path[PATH_LEN + NAMING_MAX];

	snprintf(path, sizeof(path), "%s/%s", pw->partial, name);
	return (store_write_small(pw->r->st, path, text, err));
}

void
point_file_path(const struct point_writer *pw, const char *name, char *out, size_t n)
{
	snprintf(out, n, "%s/%s", pw->partial, name);
}

int
point_take(struct point_writer *pw, const char *path, const char *name, struct err *err)
{
	char to[PATH_LEN + NAMING_MAX];

	point_file_path(pw, name, to, sizeof(to));
	return (store_rename(pw->r->st, path, to, err));
}

/* The line of SHA256SUMS calls it manifest.json, whatever the file is called. */
static int
write_manifest(struct point_writer *pw, const char *file, const struct buf *text, struct buf *sums, struct err *err)
{
	struct sha256 *sha = sha256_new(err);
	char hex[SHA256_HEX];
	int rc = -1;

	if (sha == NULL || sha256_add(sha, text->ptr, text->len, err) == -1 || sha256_end(sha, hex, err) == -1 ||
	    buf_addf(sums, err, "%s  %s\n", hex, MANIFEST_NAME) == -1)
		goto out;
	if (point_write(pw, file, text, err) == -1 || point_write(pw, "SHA256SUMS", sums, err) == -1)
		goto out;
	rc = store_sync_dir(pw->r->st, pw->partial, err);
out:
	sha256_free(sha);
	return (rc);
}

static int
give_name(struct point_writer *pw, const char *name, struct err *err)
{
	char path[PATH_LEN];

	snprintf(path, sizeof(path), "%s/%.200s", pw->point.folder, name);
	if (lock_check(pw->lk, err) == -1 || store_rename(pw->r->st, pw->partial, path, err) == -1)
		return (-1);
	pw->published = true;
	return (store_sync_dir(pw->r->st, pw->point.folder, err));
}

/* The highest suffix that a folder of the point's time has, 0 without one: the name of an earlier point that was pruned is free, but a later one goes on from there. */
static int
last_suffix(const struct point_writer *pw, unsigned int *last, struct err *err)
{
	struct points ps = POINTS_INIT;
	int rc = repo_places(pw->r, pw->point.folder, &ps, err);

	*last = 0;
	for (size_t i = 0; rc == 0 && i < ps.n; i++)
		if (ps.v[i].time == pw->point.time && ps.v[i].suffix > *last && ps.v[i].suffix < SUFFIX_MAX)
			*last = ps.v[i].suffix;
	points_free(&ps);
	return (rc);
}

/* The next free name of the point's time. */
static int
give_free_name(struct point_writer *pw, struct err *err)
{
	struct point *p = &pw->point;
	unsigned int last;
	int is_free;

	if (last_suffix(pw, &last, err) == -1)
		return (-1);
	for (p->suffix = last + 1; p->suffix <= SUFFIX_MAX; p->suffix++) {
		point_name(p->time, p->suffix, p->name);
		if ((is_free = point_name_is_free(pw->r, p, err)) == -1)
			return (-1);
		if (!is_free)
			continue;
		if (give_name(pw, p->name, err) == 0)
			return (0);
		if (pw->published || (err->code != EEXIST && err->code != ENOTEMPTY))
			return (-1);
	}
	return (-1);
}

/* Returns 1 when it is taken. */
static int
try_name(struct point_writer *pw, const char *name, struct err *err)
{
	if (give_name(pw, name, err) == 0) {
		snprintf(pw->point.name, sizeof(pw->point.name), "%s", name);
		return (0);
	}
	return (!pw->published && (err->code == EEXIST || err->code == ENOTEMPTY) ? 1 : -1);
}

int
point_publish_near(struct point_writer *pw, const char *file, const struct buf *manifest, const char *name, struct buf *sums, struct err *err)
{
	int rc = write_manifest(pw, file, manifest, sums, err);

	if (rc == 0)
		rc = name != NULL ? try_name(pw, name, err) : 1;
	if (rc == 1)
		rc = give_free_name(pw, err);
	if (rc == -1 && !pw->published)
		tell_why(pw, err);
	return (rc);
}

int
point_publish_text(struct point_writer *pw, const char *file, const struct buf *manifest, const char *name, struct buf *sums, struct err *err)
{
	if (write_manifest(pw, file, manifest, sums, err) == 0 && (name != NULL ? give_name(pw, name, err) : give_free_name(pw, err)) == 0) {
		if (name != NULL)
			snprintf(pw->point.name, sizeof(pw->point.name), "%s", name);
		return (0);
	}
	if (!pw->published)
		tell_why(pw, err);
	return (-1);
}

int
point_publish(struct point_writer *pw, const struct manifest *m, struct buf *sums, struct err *err)
{
	struct buf text = BUF_INIT;
	int rc = -1;

	if (manifest_encode(m, &text, err) == 0)
		rc = point_publish_text(pw, MANIFEST_NAME, &text, NULL, sums, err);
	buf_free(&text);
	return (rc);
}

const struct point *
point_published(const struct point_writer *pw)
{
	return (&pw->point);
}

void
point_end(struct point_writer *pw)
{
	struct err ignored = ERR_INIT;

	if (pw == NULL)
		return;
	if (pw->made && !pw->published) {
		/* What cannot be removed now is swept by a later run. */
		store_remove_tree(pw->r->st, pw->partial, &ignored);
		store_rmdir(pw->r->st, pw->point.folder, &ignored);
	}
	free(pw);
}
