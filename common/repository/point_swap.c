/*
 * How a consolidated point takes its old one's place (FORMAT.md, "A consolidated point"):
 *
 *	<point>.new is published, whole; from here on it is only a matter of names
 *	<point>      -> <point>.old
 *	<point>.new  -> <point>
 *	<point>.old goes, or, where other points use its archive, becomes a pruned <point>-N
 *
 * Each step is durable before the next one.  Whoever comes upon the names in between goes on from there.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "archive/archive_reader.h"
#include "replication/replica_list.h"
#include "repository/repo.h"

#define SUFFIX_MAX	1000u
#define PATH_LEN	(2 * NAMING_MAX + 64)

static void
place_path(char out[PATH_LEN], const struct point *p, const char *ending, const char *file)
{
	snprintf(out, PATH_LEN, "%s/%.200s%s%s%s", p->folder, p->name, ending, file != NULL ? "/" : "", file != NULL ? file : "");
}

/* Both are folders of one machine. */
static int
rename_place(struct repo *r, struct lock *lk, const struct point *p, const char *from, const char *to, struct err *err)
{
	if (lock_check(lk, err) == -1 || store_rename(r->st, from, to, err) == -1)
		return (-1);
	return (store_sync_dir(r->st, p->folder, err));
}

static struct point
place(const struct point *p, const char *ending)
{
	struct point at = *p;

	snprintf(at.name, sizeof(at.name), "%.200s%s", p->name, ending);
	return (at);
}

static bool
names(const struct manifest *m, const char *id)
{
	for (size_t i = 0; i < m->nreferences; i++)
		if (strcmp(m->references[i], id) == 0)
			return (true);
	return (false);
}

/* Whether a point that is kept uses the archive ${id}, or may do so: one whose manifest cannot be read may use anything.  -1 on error. */
static int
is_used(struct repo *r, const char *id, struct err *err)
{
	struct points ps = POINTS_INIT;
	struct manifest m = MANIFEST_INIT;
	int used = 0;

	if (repo_all_points(r, &ps, err) == -1)
		used = -1;
	for (size_t i = 0; i < ps.n && used == 0; i++) {
		if (repo_is_pruned(r, &ps.v[i]))
			continue;
		if (repo_manifest(r, &ps.v[i], &m, err) == -1) {
			used = 1;
			break;
		}
		used = names(&m, id);
		manifest_free(&m);
	}
	points_free(&ps);
	return (used);
}

/* The same of the archive in the old place, which may hold blocks of archives that it replaces. */
static int
old_is_used(struct repo *r, const struct point *p, struct err *err)
{
	struct point old = place(p, PLACE_OLD);
	struct manifest m = MANIFEST_INIT;
	struct archive_reader *ar;
	int used = 1;

	if (repo_manifest_any(r, &old, &m, err) == -1)
		return (1);
	if ((ar = archive_open_point(r, &old, &m, err)) != NULL && ar->note == NULL && index_replaced(ar->ix) == 0)
		used = is_used(r, m.archive.id, err);
	archive_close(ar);
	manifest_free(&m);
	return (used);
}

/* The old folder is no point any more: it goes, or it stays as a pruned one. */
static int
dispose(struct repo *r, struct lock *lk, const struct point *p, struct err *err)
{
	char path[PATH_LEN], pruned[PATH_LEN];
	struct point to = *p, from = place(p, PLACE_OLD);
	struct err missing = ERR_INIT;
	int used = old_is_used(r, p, err), is_free = 0;

	if (used != 1)
		return (used == -1 ? -1 : repo_remove(r, lk, &from, err));
	if (lock_check(lk, err) == -1)
		return (-1);
	if (repo_unlist(r, &from, &missing) == -1 && missing.code != ENOENT) {
		*err = missing;
		return (-1);
	}
	place_path(path, p, PLACE_OLD, NULL);
	for (to.suffix = 2; to.suffix <= SUFFIX_MAX && is_free == 0; to.suffix++) {
		point_name(to.time, to.suffix, to.name);
		is_free = point_name_is_free(r, &to, err);
	}
	if (is_free != 1)
		return (-1);
	place_path(pruned, &to, "", NULL);
	return (rename_place(r, lk, p, path, pruned, err));
}

/* What there is of a point, by name. */
struct places {
	bool	plain, new, old;
};

/* The new one takes the old one's place, which must be free. */
static int
put_new(struct repo *r, struct lock *lk, const struct point *p, struct err *err)
{
	char from[PATH_LEN], to[PATH_LEN];

	place_path(from, p, PLACE_NEW, NULL);
	place_path(to, p, "", NULL);
	return (rename_place(r, lk, p, from, to, err));
}

/* Whoever brought it, brought it. */
static int
stay_replica(struct repo *r, const struct point *p, struct err *err)
{
	struct buf mark = BUF_INIT;
	char path[PATH_LEN];
	int rc = 0;

	place_path(path, p, "", REPLICA_NAME);
	if (store_read_small(r->st, path, REPLICA_MAX, &mark, err) == 0) {
		place_path(path, p, PLACE_NEW, REPLICA_NAME);
		if (store_write_small(r->st, path, &mark, err) == -1 && err->code != EEXIST)
			rc = -1;
	} else if (err->code != ENOENT)
		rc = -1;
	buf_free(&mark);
	return (rc);
}

/* Nobody unprotects a point by consolidating it. */
static int
stay_protected(struct repo *r, const struct point *p, struct err *err)
{
	struct point new = place(p, PLACE_NEW);
	bool yes;

	if (repo_is_protected(r, p, &yes, err) == -1)
		return (-1);
	return (yes ? repo_protect(r, &new, true, err) : 0);
}

/* A folder of that name may be anybody's, or damaged since: only a whole point, full, takes another one's place. */
static bool
is_whole(struct repo *r, const struct point *p)
{
	struct point new = place(p, PLACE_NEW);
	struct err ignored = ERR_INIT;
	struct manifest m = MANIFEST_INIT;
	struct archive_reader *ar = NULL;
	bool yes;

	yes = repo_manifest(r, &new, &m, &ignored) == 0 && strcmp(m.kind, "full") == 0 && m.nreferences == 0 &&
	    (ar = archive_open_point(r, &new, &m, &ignored)) != NULL && ar->note == NULL;
	archive_close(ar);
	manifest_free(&m);
	return (yes);
}

static bool
was_point(struct repo *r, const struct point *p)
{
	struct point old = place(p, PLACE_OLD);
	struct manifest m = MANIFEST_INIT;
	bool yes = repo_manifest_any(r, &old, &m, &(struct err)ERR_INIT) == 0;

	manifest_free(&m);
	return (yes);
}

static int
settle_point(struct repo *r, struct lock *lk, const struct point *p, struct places has, struct err *err)
{
	char plain[PATH_LEN], old[PATH_LEN];
	struct point new = place(p, PLACE_NEW);

	place_path(plain, p, "", NULL);
	place_path(old, p, PLACE_OLD, NULL);
	has.new = has.new && is_whole(r, p);
	has.old = has.old && was_point(r, p);
	/* Nobody leaves all three, but they can be settled. */
	if (has.plain && has.old && dispose(r, lk, p, err) == -1)
		return (-1);
	if (has.plain && has.new) {
		/* A point that was pruned since is not wanted back. */
		if (repo_is_pruned(r, p))
			return (repo_remove(r, lk, &new, err));
		replica_lists_forget(r);
		if (stay_replica(r, p, err) == -1 || stay_protected(r, p, err) == -1 || rename_place(r, lk, p, plain, old, err) == -1 || put_new(r, lk, p, err) == -1)
			return (-1);
		return (dispose(r, lk, p, err));
	}
	if (has.new) {
		if (put_new(r, lk, p, err) == -1)
			return (-1);
		return (has.old ? dispose(r, lk, p, err) : 0);
	}
	return (has.old && !has.plain ? rename_place(r, lk, p, old, plain, err) : 0);
}

/* The places of one point stand together. */
int
repo_settle(struct repo *r, struct lock *lk, struct err *err)
{
	struct points ps = POINTS_INIT;
	struct point p;
	struct places has;
	size_t i, next;
	int rc = repo_all_places(r, &ps, err);

	for (i = 0; i < ps.n && rc == 0; i = next) {
		has = (struct places){ false, false, false };
		for (next = i; next < ps.n && strcmp(ps.v[i].folder, ps.v[next].folder) == 0 && ps.v[i].time == ps.v[next].time &&
		    ps.v[i].suffix == ps.v[next].suffix; next++) {
			size_t n = strlen(ps.v[next].name);

			if (strcmp(ps.v[next].name + n - 4, PLACE_NEW) == 0)
				has.new = true;
			else if (strcmp(ps.v[next].name + n - 4, PLACE_OLD) == 0)
				has.old = true;
			else
				has.plain = true;
		}
		p = ps.v[i];
		point_name(p.time, p.suffix, p.name);
		if ((has.new || has.old) && (rc = settle_point(r, lk, &p, has, err)) == -1)
			err_wrap(err, "the consolidation of %s@%s cannot be finished", p.folder, p.name);
	}
	points_free(&ps);
	return (rc);
}
