/*
 * retain.h - retention: which of a machine's restore points a policy keeps, and why.
 *
 * Turns points and a policy into deletions.  It touches no disk and knows no repository, and the clock is an argument.
 *
 * Calling sequence:  fill an array of struct retain_point -> retain_apply -> retain_keeps, retain_reasons for each
 *
 * The rules are those that users of restic (forget --keep-...) and Proxmox Backup Server (prune) know.  A point is kept if any rule keeps it:
 *
 *   last = n      the n newest points
 *   daily = n     of the n most recent days that have a point at all, the newest point each.  Likewise hourly, weekly (ISO weeks, Monday to
 *                 Sunday), monthly, yearly.  Days without a point are not counted: a machine that was off loses nothing.
 *   within = s    every point at most s older than the newest one (span.h)
 *
 * Hours, days, weeks, months and years are those of the process's time zone (localtime_r(3); TZ is read when the process starts).  The hour that
 * a change from daylight saving time repeats is one hour; the one that it leaves out has no points.
 *
 * Where the models differ:
 *   - Rules are independent, as restic's: the newest point of today is the first of the daily, weekly and monthly ones alike, so that what a rule
 *     keeps does not depend on the others.  In Proxmox Backup Server a rule passes over the periods that an earlier rule has covered: the
 *     same numbers reach further back there ("last = 3; daily = 7" is ten nights, seven here), though not every point kept here is kept there.
 *   - restic also keeps the very oldest point while a rule has counts left.  Not so here, nor in Proxmox Backup Server.
 *   - A protected point is kept and takes no part, as in Proxmox Backup Server: protecting a point never costs another one its place.
 *   - within is measured from the newest point, not from the clock, as in restic: a machine that is no longer backed up keeps what it has.  A
 *     point exactly that old is kept; restic drops it.
 *
 * Clocks jump, and times can be forged (FIELD.md).  A point dated after ${now} is kept with the reason "future" and takes no part either:
 * it cannot push out a real one, and the caller can warn of it.  A clock that is set back therefore only keeps more.  Points made while
 * the clock was ahead cost what so many real ones would have cost by the counts, but make all others old to within: combine it with last.
 *
 * What holds for every set of points (tests/unit/test_retain.c proves it on random ones):
 *   1. If any point takes part, the newest one that does is kept.
 *   2. Verdicts on the points that take part depend on nothing but those points: neither on protected or future ones nor on ${now}.
 *   3. Stable: applied again to what it kept, it keeps all of it.
 *   4. History does not matter: when points are made in the order of their times, applying the policy after each one and deleting leaves exactly
 *      what one application to all points ever made would keep.
 */
#ifndef OVB_RETAIN_H
#define OVB_RETAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#include "base/err.h"
#include "config/conf.h"

enum retain_rule {
	RETAIN_LAST,
	RETAIN_HOURLY,
	RETAIN_DAILY,
	RETAIN_WEEKLY,
	RETAIN_MONTHLY,
	RETAIN_YEARLY,
	RETAIN_COUNTS,			/* the rules up to here have a count */
	RETAIN_WITHIN = RETAIN_COUNTS,
	RETAIN_PROTECTED,
	RETAIN_FUTURE,
	RETAIN_NO_RULE			/* the policy is empty: all is kept */
};

#define RETAIN_TEXT	256u	/* bytes: room for all reasons, the span of within cut to 40 */

struct retain_point {
	/* filled by the caller */
	time_t		 time;
	unsigned int	 suffix;		/* orders points of one second: naming.h */
	bool		 is_protected;
	void		*ctx;			/* the caller's own */

	/* filled by retain_apply() */
	unsigned int	 reasons;		/* 1u << enum retain_rule; 0: to be deleted */
	unsigned int	 rank[RETAIN_COUNTS];	/* where the reason is set: 1 for the newest one that the rule keeps */
};

/**
 * retain_apply(points, n, keep, now, err):
 * Decide on each of ${n} ${points}, in any order and left in it, of one machine and job, by the policy ${keep} and the clock ${now}, in seconds since
 * 1970 in UTC.  Points with equal times are ordered by suffix.  A policy without any rule keeps all.  Takes n log n steps and 16 bytes of memory a
 * point.
 *
 * Fails:   -1 and ${err} set, and no verdict may be acted upon: out of memory, a within that span_parse() refuses (which the configuration's
 *          check lets none come to), a time too far off for localtime_r(3).
 * Threads: any, while none changes TZ.
 */
int retain_apply(struct retain_point *points, size_t n, const struct conf_keep *keep, time_t now, struct err *err);

/** retain_keeps(p): Whether ${p} is kept. */
bool retain_keeps(const struct retain_point *p);

/**
 * retain_reasons(p, keep, out):
 * Why ${p} is kept, for a table: "last 2 of 3, daily 4 of 7, within 14d", "protected", "future"; empty if it is not.  Returns ${out}.
 */
const char *retain_reasons(const struct retain_point *p, const struct conf_keep *keep, char out[RETAIN_TEXT]);

#endif
