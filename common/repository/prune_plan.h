/*
 * prune_plan.h - which folders a repository no longer needs.  Pure: it knows what points need, and touches no disk.
 *
 * Points are kept for themselves, and for the archives that kept points need.  Where more than one folder has such an archive, or stands for it, all stay:
 * repack.c, which looks at the blocks, removes what another one has too.
 */
#ifndef OVB_PRUNE_PLAN_H
#define OVB_PRUNE_PLAN_H

#include "repository/catalog.h"

enum prune_action {
	PRUNE_KEEP,		/* a restore point, now and afterwards */
	PRUNE_UNLIST,		/* no longer a point, but others need its archive */
	PRUNE_STAY,		/* was pruned before; others still need its archive */
	PRUNE_REMOVE		/* nobody needs it: its folder goes */
};

/**
 * prune_plan(c, drop, action, err):
 * What becomes of each of ${c}'s entries when the listed ones with ${drop} set are no longer points.  The choice is safe: what
 * cannot be told (an entry that is unclear) counts as needing, or being, what is needed.
 *
 * Fails: -1, out of memory.
 */
int prune_plan(const struct catalog *c, const bool *drop, enum prune_action *action, struct err *err);

#endif
