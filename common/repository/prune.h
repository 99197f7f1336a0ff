/*
 * prune.h - lets go of restore points that a job's policy no longer keeps, and of archives that nobody needs any more.
 *
 * Calling sequence:  prune_run | prune_decide -> read the verdicts -> prune_free
 */
#ifndef OVB_PRUNE_H
#define OVB_PRUNE_H

#include <stdatomic.h>

#include "config/conf.h"
#include "repository/catalog.h"
#include "repository/prune_plan.h"
#include "repository/retain.h"

struct prune_job {
	const char		*name;		/* of the job: only its points are judged */
	const struct conf_keep	*keep;
	time_t			 now;
	const char *const	*machines;	/* UUIDs of domains and names of images; NULL: all */
	size_t			 nmachines;
	bool			 replicas;	/* of points that replication brought: those that this job did; else none of these */
	const char		*from;		/* of these, those from the repository with this id; NULL: all */
};

struct prune_verdict {
	enum prune_action	 action;
	bool			 judged;	/* a listed point of the job: retain says why it is kept */
	struct retain_point	 retain;
};

struct prune {
	struct catalog		 catalog;
	struct prune_verdict	*v;		/* by the catalog's entries */
	size_t			 done;		/* folders that were removed */
	uint64_t		 freed;		/* bytes of their archives */
};

#define PRUNE_INIT	{ CATALOG_INIT, NULL, 0, 0 }

/**
 * prune_decide(r, job, out, err):
 * What prune_run() would do just now; changes nothing and takes no lock.  ${out} is freed by the caller, also on failure.  Points are of one machine
 * when they have the same domain's UUID or, without one, the same folder.  Fails: -1.
 */
int prune_decide(struct repo *r, const struct prune_job *job, struct prune *out, struct err *err);

/**
 * prune_run(r, lk, job, stop, out, err):
 * Decide and do it, as the holder ${lk} of the repository alone; what interrupted runs left behind goes first.  First all points that go
 * stop being points, then folders that nobody needs are removed: whenever it is interrupted, each point that is left has all it needs, and the
 * next one finishes it.  *${stop} (unless NULL) is set by a signal: then it ends early, with -1.  Needs no room.
 *
 * Fails: -1; ${out} says what was decided, as far as it was, and what was removed.
 */
int prune_run(struct repo *r, struct lock *lk, const struct prune_job *job, const atomic_int *stop, struct prune *out, struct err *err);

/** prune_count(p, action): How many entries have that verdict. */
size_t prune_count(const struct prune *p, enum prune_action action);

/** prune_would_free(p): Bytes of the archives that go. */
uint64_t prune_would_free(const struct prune *p);

void prune_free(struct prune *p);

#endif
