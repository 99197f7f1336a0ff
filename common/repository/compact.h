/*
 * compact.h - what makes old restore points cheap: consolidate (a point becomes a full archive that stock tar reads) and repack (archives of pruned
 * points shrink to what kept points still use).
 *
 * Readers take no lock and never fail meanwhile (FORMAT.md, "A consolidated point", "Pruned points").  A crash at any moment leaves the old or the new
 * state, and is settled by whoever holds the repository alone next: repo_sweep(), compact_after_prune().
 * Threads: one at a time.
 */
#ifndef OVB_COMPACT_H
#define OVB_COMPACT_H

#include <stdatomic.h>

#include "config/compression.h"
#include "repository/repo.h"

/* How to do it.  All may be zero. */
struct compact_how {
	const char		*program;	/* for the locks and the manifest */
	const struct compression *compression;	/* NULL: that of the archive */
	unsigned int		 wait_s;	/* for others who hold the repository */
	const atomic_int *stop;	/* set by a signal: stop; NULL: never */

	/** begin(arg, what, bytes), tick(arg, done): A piece of work of ${bytes} bytes begins; ${done} of it are done.  NULL: do not tell. */
	void			(*begin)(void *arg, const char *what, uint64_t bytes);
	void			(*tick)(void *arg, uint64_t done);

	/** say(arg, text): What was done, or why it was not, for people.  NULL: do not tell. */
	void			(*say)(void *arg, const char *text);
	void			*arg;
};

struct compact_stats {
	uint64_t	written;		/* bytes of new archives (consolidate: of the point's) */
	uint64_t	copied;			/* of these, frames that were copied as they stood */
	uint64_t	freed;			/* bytes of archives that were removed */
	unsigned int	removed, repacked;	/* archives of pruned points */
	bool		already;		/* consolidate: the point is full, nothing was done */
	bool		pending;		/* consolidate: the new archive is there, but somebody holds the repository: it is put in place later */
};

/**
 * compact_consolidate(r, p, how, stats, err):
 * Make the restore point ${p} one that needs no other archive: every disk one sparse member.  The repository is held together with others while the
 * new archive is written, and alone when it takes the old one's place; then compact_after_prune() looks at what the old archive needed.  It stays
 * itself, as a pruned point's, while other points use it.  Fails: -1; the point is as it was, or already consolidated.
 */
int compact_consolidate(struct repo *r, const struct point *p, const struct compact_how *how, struct compact_stats *stats, struct err *err);

/** compact_write(r, lk, p, how, stats, err): Its first half, under any lock of the caller's: write and publish `<point>.new`; repo_settle() is the other. */
int compact_write(struct repo *r, struct lock *lk, const struct point *p, const struct compact_how *how, struct compact_stats *stats,
    struct err *err);

/**
 * compact_after_prune(r, lk, how, stats, err):
 * To be called by the holder of the repository alone when points were pruned: removes the archives of pruned points that no kept point uses, and packs
 * those of which more than a fifth is dead into new ones.  Nothing is removed while a kept point cannot be read, as it may use anything.  Fails: -1;
 * everything that kept points use is there all the same.
 */
int compact_after_prune(struct repo *r, struct lock *lk, const struct compact_how *how, struct compact_stats *stats, struct err *err);

/**
 * compact_prune(r, job, how, p, stats, err):
 * prune_run() and compact_after_prune(), under one lock.  That archives cannot be packed is said, and no failure.  Fails: -1 as prune_run() does; err->code is
 * EBUSY when others hold the repository, and nothing was done.
 */
struct prune;
struct prune_job;
int compact_prune(struct repo *r, const struct prune_job *job, const struct compact_how *how, struct prune *p, struct compact_stats *stats,
    struct err *err);

/**
 * compact_dead_share(r, p, share, err):
 * *${share} is how much of the stored blocks of the point's archive, 0 to 1 by their stored size, no kept point uses.  Fails: -1, also when a kept point
 * cannot be read.
 */
int compact_dead_share(struct repo *r, const struct point *p, double *share, struct err *err);

#endif
