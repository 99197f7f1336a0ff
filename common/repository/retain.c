#include "repository/retain.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "calendar/civil.h"
#include "calendar/span.h"

/* A point that takes part, and the period of the rule at hand that it falls into. */
struct entry {
	struct retain_point	*p;
	int64_t			 period;
};

static int
newest_first(const void *va, const void *vb)
{
	const struct retain_point *a = ((const struct entry *)va)->p, *b = ((const struct entry *)vb)->p;

	if (a->time != b->time)
		return (a->time > b->time ? -1 : 1);
	if (a->suffix != b->suffix)
		return (a->suffix > b->suffix ? -1 : 1);
	return (a > b ? -1 : a < b);	/* no two are equal, so the order never depends on the sort */
}

/* Beside each other those of one period, each period's newest first. */
static int
by_period(const void *va, const void *vb)
{
	const struct entry *a = va, *b = vb;

	if (a->period != b->period)
		return (a->period > b->period ? -1 : 1);
	return (newest_first(va, vb));
}

/*
 * The number of the period that a time falls into: the same for all times of it, and for no other.  An ISO week is known by its
 * Monday, so that the week that spans two years needs no care.
 */
static int64_t
period_of(enum retain_rule rule, const struct tm *tm)
{
	int64_t year = tm->tm_year + INT64_C(1900), day = civil_day(year, tm->tm_mon + 1, tm->tm_mday);

	switch (rule) {
	case RETAIN_HOURLY:
		return (day * 24 + tm->tm_hour);
	case RETAIN_DAILY:
		return (day);
	case RETAIN_WEEKLY:
		return (day - civil_weekday(day));
	case RETAIN_MONTHLY:
		return (year * 12 + tm->tm_mon);
	default:
		return (year);
	}
}

static void
keep_for(struct retain_point *p, enum retain_rule rule, unsigned int rank)
{
	p->reasons |= 1u << rule;
	if (rule < RETAIN_COUNTS)
		p->rank[rule] = rank;
}

/* Keep the newest point of each of the ${count} most recent periods that have one. */
static int
apply_count(struct entry *e, size_t n, enum retain_rule rule, int count, struct err *err)
{
	size_t i, kept = 0;
	struct tm tm;

	for (i = 0; i < n; i++) {
		if (rule == RETAIN_LAST) {
			e[i].period = -(int64_t)i;
			continue;
		}
		if (localtime_r(&e[i].p->time, &tm) == NULL)
			return (err_set(err, 0, "a restore point's time, %lld s after 1970, is out of range", (long long)e[i].p->time));
		e[i].period = period_of(rule, &tm);
	}
	/*
	 * Sorted by period, because a period need not be unbroken: where clocks go back across midnight, some minutes of the new
	 * day come before the last ones of the old day.  The newest of each period move to the front, to be counted by time.
	 */
	qsort(e, n, sizeof(*e), by_period);
	for (i = 0; i < n; i++) {
		if (i == 0 || e[i].period != e[kept - 1].period) {
			struct entry newest = e[i];

			e[i] = e[kept];
			e[kept++] = newest;
		}
	}
	qsort(e, kept, sizeof(*e), newest_first);
	for (i = 0; i < kept && i < (size_t)count; i++)
		keep_for(e[i].p, rule, (unsigned int)i + 1);
	qsort(e, n, sizeof(*e), newest_first);
	return (0);
}

static const int *
count_of(const struct conf_keep *k, enum retain_rule rule)
{
	const int *const counts[] = { &k->last, &k->hourly, &k->daily, &k->weekly, &k->monthly, &k->yearly };

	return (counts[rule]);
}

/* ${e}: the points that take part, newest first. */
static int
apply_rules(struct entry *e, size_t n, const struct conf_keep *keep, struct err *err)
{
	bool any = keep->within != NULL;
	struct span s;
	time_t since;
	size_t i;

	for (int rule = 0; rule < RETAIN_COUNTS; rule++) {
		int count = *count_of(keep, (enum retain_rule)rule);

		any |= count > 0;
		if (count > 0 && apply_count(e, n, (enum retain_rule)rule, count, err) == -1)
			return (-1);
	}
	if (keep->within != NULL) {
		if (span_parse(keep->within, &s, err) == -1)
			return (err_wrap(err, "within"));
		since = n > 0 ? span_before(e[0].p->time, &s) : 0;
		for (i = 0; i < n && e[i].p->time >= since; i++)
			keep_for(e[i].p, RETAIN_WITHIN, 0);
	}
	for (i = 0; i < n && !any; i++)
		keep_for(e[i].p, RETAIN_NO_RULE, 0);
	return (0);
}

int
retain_apply(struct retain_point *points, size_t n, const struct conf_keep *keep, time_t now, struct err *err)
{
	struct entry *e;
	size_t i, taking_part = 0;
	int rc;

	if ((e = calloc(n + 1, sizeof(*e))) == NULL)
		return (err_nomem(err));
	for (i = 0; i < n; i++) {
		struct retain_point *p = &points[i];

		p->reasons = 0;
		for (int rule = 0; rule < RETAIN_COUNTS; rule++)
			p->rank[rule] = 0;
		if (p->is_protected)
			keep_for(p, RETAIN_PROTECTED, 0);
		if (p->time > now)
			keep_for(p, RETAIN_FUTURE, 0);
		if (p->reasons == 0)
			e[taking_part++].p = p;
	}
	qsort(e, taking_part, sizeof(*e), newest_first);
	rc = apply_rules(e, taking_part, keep, err);
	free(e);
	return (rc);
}

bool
retain_keeps(const struct retain_point *p)
{
	return (p->reasons != 0);
}

const char *
retain_reasons(const struct retain_point *p, const struct conf_keep *keep, char out[RETAIN_TEXT])
{
	static const char *const names[] = { "last", "hourly", "daily", "weekly", "monthly", "yearly", "within", "protected", "future",
	    "no rule" };
	const char *comma = "";
	size_t len = 0;

	out[0] = '\0';
	for (unsigned int rule = 0; rule <= RETAIN_NO_RULE; rule++) {
		if ((p->reasons & (1u << rule)) == 0)
			continue;
		len += (size_t)snprintf(out + len, RETAIN_TEXT - len, "%s%s", comma, names[rule]);
		if (rule < RETAIN_COUNTS)
			len += (size_t)snprintf(out + len, RETAIN_TEXT - len, " %u of %d", p->rank[rule],
			    *count_of(keep, (enum retain_rule)rule));
		if (rule == RETAIN_WITHIN)
			len += (size_t)snprintf(out + len, RETAIN_TEXT - len, " %.40s", keep->within != NULL ? keep->within : "");
		comma = ", ";
	}
	return (out);
}
