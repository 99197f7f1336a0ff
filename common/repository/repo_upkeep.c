/* What is done to published points: they are protected, unlisted and removed (FORMAT.md, "Pruning"). */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "archive/codec.h"
#include "archive/index.h"
#include "repository/repo.h"

#define PATH_LEN	(3 * NAMING_MAX)

static void
point_path(const struct point *p, const char *file, char out[PATH_LEN])
{
	snprintf(out, PATH_LEN, "%.255s/%.255s%s%.200s", p->folder, p->name, file != NULL ? "/" : "", file != NULL ? file : "");
}

int
repo_is_protected(struct repo *r, const struct point *p, bool *yes, struct err *err)
{
	struct store_stat sb;
	char path[PATH_LEN];

	point_path(p, PROTECTED_NAME, path);
	*yes = store_stat(r->st, path, &sb, err) == 0;
	return (*yes || err->code == ENOENT ? 0 : -1);
}

int
repo_protect(struct repo *r, const struct point *p, bool yes, struct err *err)
{
	char path[PATH_LEN], folder[PATH_LEN];
	const struct buf nothing = BUF_INIT;

	point_path(p, PROTECTED_NAME, path);
	point_path(p, NULL, folder);
	if (yes ? store_write_small(r->st, path, &nothing, err) == -1 && err->code != EEXIST
	    : store_unlink(r->st, path, err) == -1 && err->code != ENOENT)
		return (-1);
	/* Also when nothing was to be done: whoever did it may not have come to make it durable. */
	return (store_sync_dir(r->st, folder, err));
}

int
repo_unlist(struct repo *r, const struct point *p, struct err *err)
{
	char listed[PATH_LEN], unlisted[PATH_LEN], folder[PATH_LEN];

	point_path(p, MANIFEST_NAME, listed);
	point_path(p, PRUNED_NAME, unlisted);
	point_path(p, NULL, folder);
	if (store_rename(r->st, listed, unlisted, err) == -1) {
		/* Somebody copied a pruned point over itself: the one that is listed counts. */
		if (err->code != EEXIST || store_unlink(r->st, unlisted, err) == -1 || store_rename(r->st, listed, unlisted, err) == -1)
			return (-1);
	}
	return (store_sync_dir(r->st, folder, err));
}

static int
add_name(void *arg, const char *name, struct err *err)
{
	if (name[0] == '.' || strcmp(name, "lost+found") == 0)
		return (0);
	return (buf_add(arg, name, strlen(name) + 1, err));
}

/* Archive and index, which are large. */
static int
drop_data(struct repo *r, const struct point *p, const char *folder, struct err *err)
{
	struct buf names = BUF_INIT;
	char path[PATH_LEN];
	const char *name;
	int rc = store_list(r->st, folder, add_name, &names, err);

	for (size_t at = 0; rc == 0 && at < names.len; at += strlen(name) + 1) {
		name = names.ptr + at;
		if (strcmp(name, INDEX_MEMBER) == 0 || strncmp(name, "disks.tar", 9) == 0) {
			point_path(p, name, path);
			rc = store_unlink(r->st, path, err);
		}
	}
	buf_free(&names);
	return (rc);
}

/*
 * A rename needs room where the folder's list of names is full to its last block.  Then the data goes first; the manifest, without which the
 * folder would be a point that is damaged, goes with the folder.
 */
static int
rename_away(struct repo *r, const struct point *p, const char *from, const char *to, struct err *err)
{
	if (store_rename(r->st, from, to, err) == 0)
		return (0);
	if (err->code != ENOSPC && err->code != EDQUOT)
		return (-1);
	if (drop_data(r, p, from, err) == -1)
		return (-1);
	return (store_rename(r->st, from, to, err));
}

int
repo_remove(struct repo *r, struct lock *lk, const struct point *p, struct err *err)
{
	char from[PATH_LEN], to[PATH_LEN];

	point_path(p, NULL, from);
	snprintf(to, sizeof(to), "%.255s/%.32s.%s.partial", p->folder, p->name, lock_token(lk));
	if (lock_check(lk, err) == -1 || rename_away(r, p, from, to, err) == -1)
		return (-1);
	/* Once its files go, the name must not come back. */
	return (store_sync_dir(r->st, p->folder, err) == -1 ? -1 : store_remove_tree(r->st, to, err));
}

int
repo_must_be_one(struct repo *r, struct err *err)
{
	struct points ps = POINTS_INIT;
	int rc;

	if (r->id[0] != '\0')
		return (0);
	rc = repo_all_points(r, &ps, err);
	if (rc == 0 && ps.n == 0)
		rc = err_plain(err, ENOENT, "%s has neither a repository.json nor restore points: it is no repository (is it mounted, and written so?)", r->st->url);
	points_free(&ps);
	return (rc);
}

int
repo_remove_empty(struct repo *r, struct err *err)
{
	struct err ignored = ERR_INIT;
	struct buf names = BUF_INIT;
	struct store_stat sb;
	int rc = store_list(r->st, ".", add_name, &names, err);

	/* One that is not empty refuses. */
	for (size_t at = 0; rc == 0 && at < names.len; at += strlen(names.ptr + at) + 1)
		if (store_stat(r->st, names.ptr + at, &sb, &ignored) == 0 && sb.is_dir)
			store_rmdir(r->st, names.ptr + at, &ignored);
	buf_free(&names);
	return (rc);
}
