/*
 * copy_plan.h - how the disk of a restore point becomes one sparse member: its map, and which frames are copied as they stand.
 *
 * A frame is copied when the point still shows all of its blocks and nothing else stands between them, so that the writer would cut the same blocks.
 * Its zero blocks need not be shown as data: where the view calls them zero they were allocated in the source, and may be in the map.  Other zeroes
 * stay out of it.
 * Memory does not grow with the disk.
 */
#ifndef OVB_COPY_PLAN_H
#define OVB_COPY_PLAN_H

#include "archive/archive_writer.h"

struct copy_plan {
	struct extents	*ex;		/* the map */
	struct spool	*copies;	/* of struct archive_copy */
};

#define COPY_PLAN_INIT	{ NULL, NULL }

/**
 * copy_plan_make(plan, set, disk, codec, level, err):
 * Plan the disk number ${disk} of the set's first archive for an archive of ${codec} and ${level}.  The caller frees the plan, also on failure.
 * The set must outlive it.  Fails: -1.
 */
int copy_plan_make(struct copy_plan *plan, struct archive_set *set, uint32_t disk, const struct codec *codec, int level, struct err *err);
void copy_plan_free(struct copy_plan *plan);

#endif
