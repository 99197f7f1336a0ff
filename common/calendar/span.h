/*
 * span.h - a span of time as people write it for retention: "14d", "36h", "2w", "6m", "1y6m3d12h".
 *
 * The units are restic's (--keep-within), and w for weeks: y, m (months, not minutes), w, d, h.
 */
#ifndef OVB_SPAN_H
#define OVB_SPAN_H

#include <time.h>

#include "base/err.h"

#define SPAN_MAX	100000	/* of one unit */

struct span {
	int	years, months, weeks, days, hours;
};

/**
 * span_parse(text, out, err):
 * Read ${text}: numbers from 1 to SPAN_MAX, each with its unit, the larger units first and none twice.
 *
 * Fails: -1, ${err} quotes ${text} and says what is expected.
 */
int span_parse(const char *text, struct span *out, struct err *err);

/**
 * span_before(t, s):
 * The moment that lies ${s} before ${t}: years and months by UTC's calendar, then weeks, days and hours as so many seconds.  Where the month
 * arrived at lacks the day (one month before 31 March), it is the first moment of the month after.  So a later ${t} never gives an earlier
 * moment, which neither the local calendar nor restic's overflow into the next month (31 March, 1m: 3 March) can promise.
 */
time_t span_before(time_t t, const struct span *s);

#endif
