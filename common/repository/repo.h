/*
 * repo.h - a repository: its machines and restore points, and how a new point is published (FORMAT.md, "Repository").
 *
 * Calling sequence to read:   repo_open -> repo_machines, repo_points, repo_find -> repo_close
 * Calling sequence to write:  repo_open(make) -> lock_run -> point_begin -> point_create* -> point_publish | (nothing) -> point_end
 * A point that is ended without being published leaves no trace.
 */
#ifndef OVB_REPO_H
#define OVB_REPO_H

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#include "repository/lock.h"
#include "repository/manifest.h"
#include "repository/naming.h"
#include "store/store.h"

#define REPOSITORY_NAME	"repository.json"

struct repo {
	struct store	*st;
	char		 id[UUID_LEN];	/* empty when repository.json is missing or damaged */
};

struct point {
	char		 folder[NAMING_MAX];	/* the machine's, escaped */
	char		 name[NAMING_MAX];	/* the point's */
	time_t		 time;
	unsigned int	 suffix;		/* 1, or more for further points of one second */
};

/* The endings of a point's folder while it is consolidated (point_swap.c). */
#define PLACE_NEW	".new"
#define PLACE_OLD	".old"

struct points {
	struct point	*v;
	size_t		 n, cap;
};

#define POINTS_INIT	{ NULL, 0, 0 }

/**
 * repo_open(url, make, err):
 * Open the repository at ${url}.  With ${make}, a folder that is no repository yet becomes one, and a damaged repository.json is put aside and
 * made anew; without, it may be missing or damaged (the points are enough to restore).  Fails: NULL, also when its format is not known.
 */
struct repo *repo_open(const char *url, bool make, struct err *err);

/** repo_open_in(st, make, err): The same in an open store, which is the repository's from now on, and is closed when this fails. */
struct repo *repo_open_in(struct store *st, bool make, struct err *err);
void repo_close(struct repo *r);

/** repo_points(r, folder, out, err): Append all published points of the machine with that folder, in order of time.  Fails: -1. */
int repo_points(struct repo *r, const char *folder, struct points *out, struct err *err);

/** repo_all_points(r, out, err): Those of all machines, by folder and then by time.  Fails: -1. */
int repo_all_points(struct repo *r, struct points *out, struct err *err);

/**
 * repo_places(r, folder, out, err), repo_all_places(r, out, err):
 * The same, but every folder that may hold an archive: while a point is consolidated it has two, and ->name has the ending.  Fails: -1.
 */
int repo_places(struct repo *r, const char *folder, struct points *out, struct err *err);
int repo_all_places(struct repo *r, struct points *out, struct err *err);

/** point_place_parse(name, base, t, suffix): The name of a point's folder, without its ending.  Returns whether it is one. */
bool point_place_parse(const char *name, char base[NAMING_MAX], time_t *t, unsigned int *suffix);

/** repo_is_lost_and_found(name, why): Whether what cannot be listed is a file system's own folder, which only root may read, and is no machine's. */
bool repo_is_lost_and_found(const char *name, const struct err *why);

/** repo_find(r, spec, out, err): The point that "VM@TIME" means.  Fails: -1 when there is none, or more than one. */
int repo_find(struct repo *r, const char *spec, struct point *out, struct err *err);

void points_free(struct points *p);

/** points_add(ps, p, err): Add a copy of ${p}.  Fails: -1. */
int points_add(struct points *ps, const struct point *p, struct err *err);

/**
 * repo_manifest(r, p, m, err):
 * Read a point's manifest, which the caller frees.  Fails: -1; err->code is ENOENT when there is none, ESTALE when the point was pruned,
 * be it since ${p} was found.
 */
int repo_manifest(struct repo *r, const struct point *p, struct manifest *m, struct err *err);

/** repo_manifest_any(r, p, m, err): The same, but also that of a point that was pruned while others still need its archive. */
int repo_manifest_any(struct repo *r, const struct point *p, struct manifest *m, struct err *err);

/** repo_is_pruned(r, p): Whether the point was pruned while others still need its archive. */
bool repo_is_pruned(struct repo *r, const struct point *p);

/** repo_file(r, p, name, err): Open a file of a point to read, wherever the point is while it is consolidated.  Fails: NULL. */
struct store_file *repo_file(struct repo *r, const struct point *p, const char *name, struct err *err);

/** repo_read_small(r, p, name, max, out, err): The same, all of a file of at most ${max} bytes, which the caller frees with buf_free().  Fails: -1. */
int repo_read_small(struct repo *r, const struct point *p, const char *name, size_t max, struct buf *out, struct err *err);

/** point_name_is_free(r, p, err): 1 when no folder has the name of the point ${p}, or will have it; 0 and EEXIST when one does; -1 on error. */
int point_name_is_free(struct repo *r, const struct point *p, struct err *err);

/**
 * repo_settle(r, lk, err):
 * Finish, as the holder of the repository alone, what consolidations have published as `<point>.new` (FORMAT.md, "A consolidated point").  To be called
 * before anything else that such a holder does with points; repo_sweep_alone() does so.  Fails: -1.
 */
int repo_settle(struct repo *r, struct lock *lk, struct err *err);

/**
 * repo_sweep(r, program, swept, err):
 * Remove what dead runs left behind, when nobody else uses the repository just now; else do nothing.  *${swept} is how many
 * unfinished points were removed.  Fails: -1.
 */
int repo_sweep(struct repo *r, const char *program, unsigned int *swept, struct err *err);

/** repo_sweep_alone(r, lk, swept, err): The same, as the holder ${lk} of the repository alone. */
int repo_sweep_alone(struct repo *r, struct lock *lk, unsigned int *swept, struct err *err);

/* What repo_upkeep.c does to published points: as the holder of the repository alone, but for the first two. */

/** repo_is_protected(r, p, yes, err): *${yes} is whether the point ${p} must not be pruned.  Fails: -1. */
int repo_is_protected(struct repo *r, const struct point *p, bool *yes, struct err *err);

/** repo_protect(r, p, yes, err): Protect the point ${p}, or no longer; durable.  As the holder of a run's lock.  Fails: -1. */
int repo_protect(struct repo *r, const struct point *p, bool yes, struct err *err);

/** repo_unlist(r, p, err): The point ${p} is no longer one, but its archive can still be found by its id; durable.  Fails: -1. */
int repo_unlist(struct repo *r, const struct point *p, struct err *err);

/**
 * repo_remove(r, lk, p, err):
 * Remove the folder of ${p}, which was unlisted.  It is renamed first, to a name that the next sweep knows, so that nobody ever sees half of it.  Fails: -1; the sweep removes what is left.
 */
int repo_remove(struct repo *r, struct lock *lk, const struct point *p, struct err *err);

/** repo_must_be_one(r, err): Fails: -1 when ${r}, opened without making it, is some other folder: nothing in it is ours to remove. */
int repo_must_be_one(struct repo *r, struct err *err);

/** repo_remove_empty(r, err): Remove machines' folders that have nothing in them: somebody died before he came to.  Fails: -1. */
int repo_remove_empty(struct repo *r, struct err *err);

struct point_writer;

/** point_begin(r, lk, vm, t, err): Begin a point of the machine ${vm} (its name) at the time ${t}.  Fails: NULL. */
struct point_writer *point_begin(struct repo *r, struct lock *lk, const char *vm, time_t t, struct err *err);

/**
 * point_begin_named(r, lk, vm, t, name, known, err):
 * The same, of which ${name} is what it will be called, if that is free then.  ${known}: the machine has points, so that its folder is there
 * and durable.
 */
struct point_writer *point_begin_named(struct repo *r, struct lock *lk, const char *vm, time_t t, const char *name, bool known, struct err *err);

/** point_create(pw, name, err): A new file in it.  Fails: NULL. */
struct store_file *point_create(struct point_writer *pw, const char *name, struct err *err);

/** point_write(pw, name, text, err): A new small file in it, durable.  Fails: -1. */
int point_write(struct point_writer *pw, const char *name, const struct buf *text, struct err *err);

/** point_take(pw, path, name, err): The file ${path} of the repository, which is durable, becomes the file ${name} in it.  Fails: -1. */
int point_take(struct point_writer *pw, const char *path, const char *name, struct err *err);

/** point_file_path(pw, name, out, n): Where its file ${name} lies until it is published. */
void point_file_path(const struct point_writer *pw, const char *name, char *out, size_t n);

/**
 * point_publish(pw, m, sums, err):
 * Write the manifest and SHA256SUMS (${sums} holds its lines for the files made before), make all durable and give the point its final
 * name, unless the lock was lost.  The files made before are durable already (store_sync).
 *
 * Fails:  -1.  If only the last fsync failed, the point may be visible but not durable: fail the run.
 */
int point_publish(struct point_writer *pw, const struct manifest *m, struct buf *sums, struct err *err);

/**
 * point_publish_text(pw, file, manifest, name, sums, err):
 * The same with a manifest in JSON, in the file ${file} (manifest.json or pruned.json), and under the name ${name} instead of the next free one of the
 * point's time (unless NULL).  Fails: -1; err->code is EEXIST when there is a folder ${name}.
 */
int point_publish_text(struct point_writer *pw, const char *file, const struct buf *manifest, const char *name, struct buf *sums, struct err *err);

/** point_publish_near(pw, file, manifest, name, sums, err): The same, but when ${name} is taken (or NULL), under the next free name of the point's time. */
int point_publish_near(struct point_writer *pw, const char *file, const struct buf *manifest, const char *name, struct buf *sums, struct err *err);

/** point_published(pw): The point, once it is published. */
const struct point *point_published(const struct point_writer *pw);

/** point_end(pw): Remove what was not published; harmless on NULL. */
void point_end(struct point_writer *pw);

#endif
