/*
 * replicate_plan.h - which points and archives replication copies, and in which order (for replicate.h).
 *
 * Calling sequence:  replicate_plan_make -> walk the tasks in order -> replicate_plan_free
 */
#ifndef OVB_REPLICATE_PLAN_H
#define OVB_REPLICATE_PLAN_H

#include "replication/replica_look.h"
#include "replication/replicate.h"

enum task_state { TASK_WAITS, TASK_RUNS, TASK_DONE, TASK_FAILED };

struct task {
	struct point	 p;			/* at the source */
	bool		 as_pruned;
	bool		 extract;		/* its archive stands for others: only what it has of the archive ->id is wanted */
	archive_id	 id;
	archive_id	*needs;			/* other archives */
	size_t		 nneeds;
	archive_id	*replaces;		/* archives that its own stands for */
	size_t		 nreplaces;
	uint64_t	 size;			/* bytes of its archive */
	bool		 packed;		/* of some of them there is only what stands for them, and may have only part */
	size_t		*after;			/* tasks, all before it in the order, that must be done first */
	size_t		 nafter;
	enum task_state	 state;
	struct replica_hint hint;
};

struct replicate_plan {
	struct task	*v;
	size_t		 n, cap;
	uint64_t	 bytes;
	json_t		*by_id;			/* archive id -> task */
	struct catalog	 source;		/* all that the source has, once it was asked for */
	bool		 has_source;
	bool		 leftovers;		/* an interrupted run left something where points go */
};

#define REPLICATE_PLAN_INIT	{ .v = NULL }

/**
 * replicate_plan_make(how, from, to, more, nmore, l, out, stats, err):
 * Compare the two repositories; ${more} are further connections to ${to}; ${l}, what ${to} is known to have, learns on the way.  Points that cannot be copied are told and counted.  ${out} is freed
 * by the caller, also on failure.  Fails: -1.
 */
int replicate_plan_make(const struct replicate *how, struct repo *from, struct repo *to, struct store *const *more, size_t nmore, struct replica_list *l,
    struct replicate_plan *out, struct replicate_stats *stats, struct err *err);

/**
 * replicate_plan_holder(plan, from, id, err):
 * What the source ${from} has that is the archive ${id}, or stands for it; good until the plan is freed.  The first time all manifests there are read.
 * Fails: NULL; err->code is EBADMSG when it has none.
 */
const struct catalog_entry *replicate_plan_holder(struct replicate_plan *plan, struct repo *from, const archive_id id, struct err *err);
void replicate_plan_free(struct replicate_plan *plan);

#endif
