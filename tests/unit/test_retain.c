/* Retention: spans, each rule, clocks and time zones; and random sets against a second, naive implementation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "calendar/civil.h"
#include "calendar/span.h"
#include "repository/retain.h"

#define DAY	86400
#define HOUR	3600
#define MAX	9000		/* points of one test: a year of hourly ones */
#define SET	48		/* points of one random set */

static const char *const zones[] = { "UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/St_Johns", "Asia/Kolkata",
    "Pacific/Apia", "Asia/Kathmandu" };
#define NZONES (sizeof(zones) / sizeof(zones[0]))

static uint64_t seed = 88172645463325252;

/* xorshift64: the same numbers each time. */
static unsigned int
rnd(unsigned int below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return ((unsigned int)(seed >> 11) % below);
}

static void
zone(const char *name)
{
	setenv("TZ", name, 1);
	tzset();
}

static time_t
at(const char *text)
{
	struct tm tm = { 0 };

	assert_non_null(strptime(text, "%Y-%m-%d %H:%M", &tm));
	return (timegm(&tm));
}

/* In the zone that is set; the day may be outside of its month. */
static time_t
local(int year, int month, int day, int hour, int minute)
{
	struct tm tm = { .tm_year = year - 1900, .tm_mon = month - 1, .tm_mday = day, .tm_hour = hour, .tm_min = minute, .tm_isdst = -1 };

	return (mktime(&tm));
}

static void
apply(struct retain_point *p, size_t n, const struct conf_keep *keep, time_t now)
{
	struct err err = ERR_INIT;

	if (retain_apply(p, n, keep, now, &err) == -1)
		fail_msg("%s", err.text);
}

/* Calendar days and spans. */

static void
test_civil(void **state)
{
	(void)state;
	for (int64_t n = -800000; n < 800000; n += 1 + rnd(50)) {
		struct civil c = civil_date(n);
		time_t t = n * CIVIL_DAY;
		struct tm tm;

		gmtime_r(&t, &tm);
		assert_int_equal(c.year, tm.tm_year + 1900);
		assert_int_equal(c.month, tm.tm_mon + 1);
		assert_int_equal(c.day, tm.tm_mday);
		assert_int_equal(civil_weekday(n), (tm.tm_wday + 6) % 7);
		assert_int_equal(civil_day(c.year, c.month, c.day), n);
		assert_in_range(c.day, 1, civil_month_days(c.year, c.month));
		assert_int_equal(civil_date(civil_day(c.year, c.month, civil_month_days(c.year, c.month) + 1)).day, 1);
	}
}

static void
test_span_texts(void **state)
{
	static const char *const bad[] = { "", " ", "d", "1", "14", "0d", "-1d", "+1d", "1 d", "1d ", "1d1d", "1d1y", "1D", "1min", "1s", "100001h",
	    "99999999999999999999h", "1.5d", "1dh", "14days", "y1" };
	struct err err = ERR_INIT;
	struct span s;

	(void)state;
	assert_int_equal(span_parse("1y6m2w3d12h", &s, &err), 0);
	assert_int_equal(s.years, 1);
	assert_int_equal(s.months, 6);
	assert_int_equal(s.weeks, 2);
	assert_int_equal(s.days, 3);
	assert_int_equal(s.hours, 12);
	assert_int_equal(span_parse("100000h", &s, &err), 0);
	assert_int_equal(s.hours, 100000);
	assert_int_equal(s.years + s.months + s.weeks + s.days, 0);
	assert_int_equal(span_parse("007d", &s, &err), 0);
	assert_int_equal(s.days, 7);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		err.text[0] = '\0';
		assert_int_equal(span_parse(bad[i], &s, &err), -1);
		assert_non_null(strstr(err.text, "expected a span of time like \"14d\""));
	}
}

static void
test_span_before(void **state)
{
	static const struct {
		const char *from, *span, *to;
	} cases[] = {
		{ "2026-11-22 01:30", "14d", "2026-11-08 01:30" },
		{ "2026-11-22 01:30", "36h", "2026-11-20 13:30" },
		{ "2026-11-22 01:30", "2w", "2026-11-08 01:30" },
		{ "2026-11-22 01:30", "6m", "2026-05-22 01:30" },
		{ "2026-11-22 01:30", "1y6m3d12h", "2025-05-18 13:30" },
		{ "2026-03-31 05:00", "1m", "2026-03-01 00:00" },
		{ "2026-03-28 23:59", "1m", "2026-02-28 23:59" },
		{ "2028-03-29 23:59", "1m", "2028-02-29 23:59" },
		{ "2028-02-29 12:00", "1y", "2027-03-01 00:00" },
		{ "2028-02-29 12:00", "4y", "2024-02-29 12:00" },
		{ "2026-01-31 12:00", "1m", "2025-12-31 12:00" },
		{ "2026-01-31 12:00", "13m", "2024-12-31 12:00" },
		{ "1970-01-01 00:00", "1h", "1969-12-31 23:00" },
	};
	struct err err = ERR_INIT;
	struct span s;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(span_parse(cases[i].span, &s, &err), 0);
		assert_int_equal(span_before(at(cases[i].from), &s), at(cases[i].to));
	}
	/* Later never gives earlier, and the largest span does not overflow. */
	for (size_t i = 0; i < 20; i++) {
		struct span r = { (int)rnd(3), (int)rnd(20), (int)rnd(3), (int)rnd(40), (int)rnd(50) };
		time_t last = span_before(at("2023-12-25 00:00"), &r);

		for (time_t t = at("2023-12-25 00:00"); t < at("2025-04-05 00:00"); t += 1800 + rnd(1800)) {
			assert_true(span_before(t, &r) >= last);
			last = span_before(t, &r);
		}
	}
	s = (struct span){ SPAN_MAX, SPAN_MAX, SPAN_MAX, SPAN_MAX, SPAN_MAX };
	assert_true(span_before(0, &s) < -INT64_C(3000000000000));
}

/* Each rule by hand. */

/* Points at ${times}, newest first, must have the reasons of ${want}. */
static void
check_table(const char *tz, struct conf_keep keep, const char *now, const char *const table[][2], size_t n)
{
	struct retain_point *p = calloc(n, sizeof(*p));
	char text[RETAIN_TEXT];

	zone(tz);
	for (size_t i = 0; i < n; i++) {
		size_t from = n - 1 - i;	/* the order given does not matter */

		p[i].time = at(table[from][0]);
		p[i].suffix = 1;
		p[i].is_protected = strcmp(table[from][1], "protected") == 0;
	}
	apply(p, n, &keep, at(now));
	for (size_t i = 0; i < n; i++) {
		const char *want = table[n - 1 - i][1];

		if (strcmp(retain_reasons(&p[i], &keep, text), want) != 0)
			fail_msg("%s: \"%s\", not \"%s\"", table[n - 1 - i][0], text, want);
		assert_int_equal(retain_keeps(&p[i]), want[0] != '\0');
	}
	free(p);
}
#define TABLE(tz, now, table, ...) \
	check_table(tz, (struct conf_keep){ __VA_ARGS__ }, now, table, sizeof(table) / sizeof((table)[0]))

static void
test_rules(void **state)
{
	static const char *const several[][2] = {
		{ "2026-11-22 12:00", "last 1 of 2, daily 1 of 3, weekly 1 of 2, monthly 1 of 2, yearly 1 of 2" },
		{ "2026-11-22 01:30", "last 2 of 2" },
		{ "2026-11-20 01:30", "daily 2 of 3" },			/* the 21st has none and is not counted */
		{ "2026-11-19 01:30", "daily 3 of 3" },
		{ "2026-11-15 23:59", "weekly 2 of 2" },		/* a Sunday */
		{ "2026-11-15 01:30", "" },
		{ "2026-10-31 23:59", "monthly 2 of 2" },
		{ "2026-09-30 23:59", "" },
		{ "2025-12-31 23:59", "yearly 2 of 2" },
		{ "2024-12-31 23:59", "" },
	};
	static const char *const hourly[][2] = {
		{ "2026-11-22 12:59", "hourly 1 of 2" },
		{ "2026-11-22 12:00", "" },
		{ "2026-11-22 11:59", "hourly 2 of 2" },
		{ "2026-11-22 10:59", "" },
	};
	static const char *const within[][2] = {
		{ "2026-11-22 12:00", "within 1d12h" },
		{ "2026-11-21 00:00", "within 1d12h" },		/* exactly so old */
		{ "2026-11-20 23:59", "" },
	};
	static const char *const none[][2] = { { "2026-11-22 12:00", "no rule" }, { "2020-11-21 00:00", "no rule" } };
	static const char *const apart[][2] = {
		{ "2026-11-24 12:00", "future" },
		{ "2026-11-22 13:00", "protected" },
		{ "2026-11-22 12:00", "last 1 of 1" },
		{ "2026-11-21 12:00", "protected" },
		{ "2026-11-20 12:00", "" },
	};

	(void)state;
	TABLE("UTC", "2026-11-22 12:00", several, .last = 2, .daily = 3, .weekly = 2, .monthly = 2, .yearly = 2);
	TABLE("UTC", "2026-11-22 12:59", hourly, .hourly = 2);
	TABLE("UTC", "2027-11-22 12:59", within, .within = (char *)(uintptr_t)"1d12h");
	TABLE("UTC", "2027-11-22 12:59", none, .last = 0);
	TABLE("UTC", "2026-11-23 12:00", apart, .last = 1);
}

static void
test_calendar(void **state)
{
	static const char *const weeks[][2] = {		/* 2020 has an ISO week 53, from 28 December to 3 January */
		{ "2021-01-04 00:00", "weekly 1 of 3" },
		{ "2021-01-03 23:59", "weekly 2 of 3" },
		{ "2020-12-31 23:59", "" },
		{ "2020-12-28 00:00", "" },
		{ "2020-12-27 23:59", "weekly 3 of 3" },
		{ "2020-12-20 23:59", "" },
	};
	static const char *const leap[][2] = {
		{ "2028-03-01 00:00", "daily 1 of 3, monthly 1 of 3" },
		{ "2028-02-29 23:59", "daily 2 of 3, monthly 2 of 3" },
		{ "2028-02-28 23:59", "daily 3 of 3" },
		{ "2028-02-27 23:59", "" },
		{ "2028-01-31 23:59", "monthly 3 of 3" },
	};
	static const char *const berlin[][2] = {	/* days begin at 22:00 UTC in summer, at 23:00 in winter */
		{ "2026-10-25 22:59", "daily 1 of 3" },
		{ "2026-10-24 22:00", "" },
		{ "2026-10-24 21:59", "daily 2 of 3" },
		{ "2026-10-23 22:30", "" },
		{ "2026-10-23 21:30", "daily 3 of 3" },
	};
	static const char *const repeated[][2] = {	/* from 02:00 to 03:00 twice, at 00:00 and 01:00 UTC: one hour */
		{ "2026-10-25 02:00", "hourly 1 of 3" },
		{ "2026-10-25 01:59", "hourly 2 of 3" },
		{ "2026-10-25 01:00", "" },
		{ "2026-10-25 00:59", "" },
		{ "2026-10-25 00:00", "" },
		{ "2026-10-24 23:59", "hourly 3 of 3" },
	};
	static const char *const st_johns[][2] = {	/* until 2011, from 00:01 back to 23:01 of the day before: 02:31 UTC */
		{ "2010-11-07 04:00", "daily 1 of 2" },	/* the 7th, 00:30 */
		{ "2010-11-07 03:00", "daily 2 of 2" },	/* the 6th again, 23:30 */
		{ "2010-11-07 02:30", "" },		/* the 7th, 00:00 */
		{ "2010-11-07 02:00", "" },		/* the 6th, 23:30 */
	};

	(void)state;
	TABLE("UTC", "2022-01-01 00:00", weeks, .weekly = 3);
	TABLE("UTC", "2029-01-01 00:00", leap, .daily = 3, .monthly = 3);
	TABLE("Europe/Berlin", "2027-01-01 00:00", berlin, .daily = 3);
	TABLE("Europe/Berlin", "2027-01-01 00:00", repeated, .hourly = 3);
	TABLE("America/St_Johns", "2027-01-01 00:00", st_johns, .daily = 2);
}

static void
test_equal_times(void **state)
{
	struct conf_keep keep = { .last = 2, .daily = 1 };
	struct retain_point p[] = {
		{ .time = 1000, .suffix = 2 }, { .time = 1000, .suffix = 10 }, { .time = 1000, .suffix = 1 }, { .time = 1000, .suffix = 3 },
	};

	(void)state;
	zone("UTC");
	apply(p, 4, &keep, 1000);
	assert_int_equal(p[1].reasons, 1u << RETAIN_LAST | 1u << RETAIN_DAILY);
	assert_int_equal(p[3].reasons, 1u << RETAIN_LAST);
	assert_false(retain_keeps(&p[0]) || retain_keeps(&p[2]));
	apply(p, 0, &keep, 1000);
}

static void
test_refused(void **state)
{
	struct conf_keep keep = { .within = (char *)(uintptr_t)"1 day" };
	struct retain_point p = { .time = INT64_MAX, .suffix = 1 };
	struct err err = ERR_INIT;
	char text[RETAIN_TEXT];

	(void)state;
	assert_int_equal(retain_apply(&p, 1, &keep, INT64_MAX, &err), -1);
	assert_non_null(strstr(err.text, "within: \"1 day\": expected a span"));
	keep = (struct conf_keep){ .yearly = 1 };
	assert_int_equal(retain_apply(&p, 1, &keep, INT64_MAX, &err), -1);
	assert_non_null(strstr(err.text, "out of range"));
	/* The longest text fits. */
	keep = (struct conf_keep){ 100000, 100000, 100000, 100000, 100000, 100000, (char *)(uintptr_t)"100000y100000m100000w100000d100000h" };
	p.reasons = (1u << (RETAIN_NO_RULE + 1)) - 1;
	for (int i = 0; i < RETAIN_COUNTS; i++)
		p.rank[i] = 100000;
	assert_true(strlen(retain_reasons(&p, &keep, text)) + 1 < RETAIN_TEXT);
	assert_string_equal(text + strlen(text) - 7, "no rule");
}

/* A second implementation: periods as texts, counted by looking at every other point. */

static bool
newer(const struct retain_point *a, const struct retain_point *b)
{
	return (a->time > b->time || (a->time == b->time && a->suffix > b->suffix));
}

static void
naive_periods(time_t t, char out[RETAIN_COUNTS][24])
{
	struct tm tm;

	localtime_r(&t, &tm);
	out[RETAIN_LAST][0] = '\0';
	strftime(out[RETAIN_HOURLY], 24, "%Y-%m-%d %H", &tm);
	strftime(out[RETAIN_DAILY], 24, "%Y-%m-%d", &tm);
	strftime(out[RETAIN_WEEKLY], 24, "%G-W%V", &tm);
	strftime(out[RETAIN_MONTHLY], 24, "%Y-%m", &tm);
	strftime(out[RETAIN_YEARLY], 24, "%Y", &tm);
}

static char naive_names[SET][RETAIN_COUNTS][24];	/* of the set at hand */

static unsigned int
naive_reasons(const struct retain_point *all, size_t n, size_t i, const struct conf_keep *keep, time_t now)
{
	const int counts[] = { keep->last, keep->hourly, keep->daily, keep->weekly, keep->monthly, keep->yearly };
	const struct retain_point *newest = NULL;
	unsigned int reasons = 0;
	struct err err;
	struct span s;

#define TAKES_PART(p)	((p)->time <= now && !(p)->is_protected)
	if (!TAKES_PART(&all[i]))
		return ((all[i].is_protected ? 1u << RETAIN_PROTECTED : 0) | (all[i].time > now ? 1u << RETAIN_FUTURE : 0));
	for (size_t k = 0; k < n; k++)
		if (TAKES_PART(&all[k]) && (newest == NULL || newer(&all[k], newest)))
			newest = &all[k];
	for (int r = 0; r < RETAIN_COUNTS; r++) {
		bool is_newest = true;
		int later = 0;

		for (size_t k = 0; k < n; k++) {
			bool first_of_its = true;

			if (!TAKES_PART(&all[k]) || !newer(&all[k], &all[i]))
				continue;
			if (r != RETAIN_LAST && strcmp(naive_names[k][r], naive_names[i][r]) == 0)
				is_newest = false;
			for (size_t m = 0; m < n && r != RETAIN_LAST; m++)
				if (TAKES_PART(&all[m]) && newer(&all[m], &all[k]) && strcmp(naive_names[m][r], naive_names[k][r]) == 0)
					first_of_its = false;
			later += first_of_its;
		}
		if (is_newest && later < counts[r])
			reasons |= 1u << r;
	}
	if (keep->within != NULL && span_parse(keep->within, &s, &err) == 0 && all[i].time >= span_before(newest->time, &s))
		reasons |= 1u << RETAIN_WITHIN;
	return (reasons);
}

static int
by_age(const void *a, const void *b)
{
	return (newer(a, b) ? -1 : newer(b, a));
}

static struct conf_keep
random_policy(void)
{
	static const char *const spans[] = { NULL, NULL, "36h", "3d", "2w", "1m", "1y2m", "1h" };
	struct conf_keep k = { .last = 1 };
	int *const counts[] = { &k.last, &k.hourly, &k.daily, &k.weekly, &k.monthly, &k.yearly };

	for (size_t i = 0; i < RETAIN_COUNTS; i++)
		*counts[i] = rnd(2) ? 0 : (int)rnd(8);
	k.within = (char *)(uintptr_t)spans[rnd(sizeof(spans) / sizeof(spans[0]))];
	if (k.last + k.hourly + k.daily + k.weekly + k.monthly + k.yearly == 0 && k.within == NULL)
		k.last = 1;
	return (k);
}

static size_t
random_points(struct retain_point *p, size_t max, time_t now)
{
	static const unsigned int spread[] = { 5, 2 * HOUR, 3 * DAY, 40 * DAY, 800 * DAY };
	size_t n = rnd((unsigned int)max + 1);
	unsigned int range = spread[rnd(5)];

	for (size_t i = 0; i < n; i++) {
		p[i] = (struct retain_point){ .time = now - (time_t)rnd(range + range / 10 + 1) + range / 20, .suffix = 1 + rnd(3) };
		p[i].is_protected = rnd(12) == 0;
		for (size_t k = 0; k < i; k++)		/* no two are the same point */
			if (p[k].time == p[i].time && p[k].suffix <= 3 && p[k].suffix == p[i].suffix)
				p[i].suffix = 4 + (unsigned int)i;
	}
	return (n);
}

static void
check_random(struct retain_point *p, size_t n, const struct conf_keep *keep, time_t now)
{
	struct retain_point *left = calloc(n + 1, sizeof(*left));
	size_t nleft = 0, i, taking_part = 0;

	qsort(p, n, sizeof(*p), by_age);
	apply(p, n, keep, now);
	for (i = 0; i < n; i++)
		naive_periods(p[i].time, naive_names[i]);
	for (i = 0; i < n; i++) {
		unsigned int want = naive_reasons(p, n, i, keep, now);

		if (p[i].reasons != want)
			fail_msg("point %zu of %zu: reasons %x, not %x", i, n, p[i].reasons, want);
		/* 1: the newest one that takes part is kept. */
		if (p[i].time <= now && !p[i].is_protected && taking_part++ == 0)
			assert_true(retain_keeps(&p[i]));
		if (retain_keeps(&p[i]))
			left[nleft++] = p[i];
	}
	/* 3: stable. */
	apply(left, nleft, keep, now);
	for (i = 0; i < nleft; i++)
		assert_true(retain_keeps(&left[i]));
	/* 2: without the protected and future ones, the same. */
	for (i = nleft = 0; i < n; i++)
		if (p[i].time <= now && !p[i].is_protected)
			left[nleft++] = p[i];
	apply(left, nleft, keep, now + (time_t)rnd(1000 * DAY));
	for (i = nleft = 0; i < n; i++)
		if (p[i].time <= now && !p[i].is_protected)
			assert_memory_equal(&left[nleft++], &p[i], sizeof(*p));
	/* A clock that is behind keeps more. */
	memcpy(left, p, n * sizeof(*p));
	apply(left, n, keep, now - (time_t)rnd(800 * DAY));
	for (i = 0; i < n; i++)
		assert_true(retain_keeps(&left[i]) || !retain_keeps(&p[i]));
	free(left);
}

static void
test_random(void **state)
{
	struct retain_point p[SET];

	(void)state;
	memset(p, 0, sizeof(p));
	for (int round = 0; round < 6000; round++) {
		struct conf_keep keep = random_policy();
		time_t now = at("2009-01-01 00:00") + (time_t)rnd(20 * 365) * DAY + (time_t)rnd(DAY);
		size_t n;

		zone(zones[rnd(NZONES)]);
		if (rnd(3) == 0)	/* around a change of clocks in Europe, or a year's end */
			now = rnd(2) ? at("2026-10-25 01:30") : at("2021-01-04 00:30");
		n = random_points(p, sizeof(p) / sizeof(p[0]), now);
		check_random(p, n, &keep, now);
	}
}

/* Years of nights. */

/* Add a point and delete by the policy, as each run does; returns how many are left. */
static size_t
one_run(struct retain_point *left, size_t n, time_t now, const struct conf_keep *keep)
{
	size_t kept = 0;

	left[n++] = (struct retain_point){ .time = now, .suffix = 1 };
	apply(left, n, keep, now);
	for (size_t i = 0; i < n; i++)
		if (retain_keeps(&left[i]))
			left[kept++] = left[i];
	return (kept);
}

/* 4: what is left after each run is what one application to all points ever made keeps. */
static void
simulate(const char *tz, struct conf_keep keep, int runs, int runs_a_day)
{
	struct retain_point *all = calloc(MAX, sizeof(*all)), *left = calloc(MAX, sizeof(*left));
	size_t n = 0, nleft = 0;

	zone(tz);
	for (int run = 0; run < runs; run++) {
		time_t now = runs_a_day == 1 ? local(2025, 12, 30 + run, 2, 30) : local(2025, 12, 30, 0, 5) + (time_t)run * DAY / runs_a_day;

		all[n++] = (struct retain_point){ .time = now, .suffix = 1 };
		nleft = one_run(left, nleft, now, &keep);
		if (runs_a_day > 1 && run % 61 != 0)
			continue;
		apply(all, n, &keep, now);
		for (size_t i = 0, k = 0; i < n; i++)
			if (retain_keeps(&all[i])) {
				assert_in_range(k, 0, nleft - 1);
				assert_memory_equal(&all[i], &left[k], sizeof(*left));
				k++;
			} else
				assert_true(k == nleft || all[i].time < left[k].time);
	}
	free(all);
	free(left);
}

static void
test_year(void **state)
{
	(void)state;
	for (size_t z = 0; z < NZONES; z++) {
		simulate(zones[z], (struct conf_keep){ .last = 3, .daily = 7, .weekly = 4, .monthly = 12 }, 500, 1);
		simulate(zones[z], (struct conf_keep){ .within = (char *)(uintptr_t)"1m2d", .yearly = 2 }, 500, 1);
	}
	for (size_t z = 1; z < 4; z++)
		simulate(zones[z], (struct conf_keep){ .hourly = 48, .daily = 7, .weekly = 5, .monthly = 6, .within = (char *)(uintptr_t)"36h" }, 8800,
		    24);
	for (int i = 0; i < 12; i++)
		simulate(zones[rnd(NZONES)], random_policy(), 500, 1);
}

/* The example of the manual over a year of nights at 02:30, which one night has not and another has twice: which dates are left, by hand. */
static void
check_dates(const char *tz)
{
	static const char *const want[] = { "2026-01-31", "2026-02-28", "2026-03-31", "2026-04-30", "2026-05-31", "2026-06-30", "2026-07-31",
	    "2026-08-31", "2026-09-30", "2026-10-31", "2026-11-30", "2026-12-13", "2026-12-20", "2026-12-25", "2026-12-26", "2026-12-27",
	    "2026-12-28", "2026-12-29", "2026-12-30", "2026-12-31" };
	struct conf_keep keep = { .last = 3, .daily = 7, .weekly = 4, .monthly = 12 };
	struct retain_point left[64];
	size_t n = 0;
	char date[32];

	zone(tz);
	for (int night = 1; night <= 365; night++)
		n = one_run(left, n, local(2026, 1, night, 2, 30), &keep);
	assert_int_equal(n, sizeof(want) / sizeof(want[0]));
	for (size_t i = 0; i < n; i++) {
		struct tm tm;

		strftime(date, sizeof(date), "%Y-%m-%d", localtime_r(&left[i].time, &tm));
		assert_string_equal(date, want[i]);
	}
}

static void
test_dates(void **state)
{
	(void)state;
	check_dates("Europe/Berlin");
	check_dates("America/New_York");
	check_dates("UTC");
}

/* The clock jumps back and forth while points are made and deleted: what is made in the future never costs a real point its place. */
static void
test_clock_jumps(void **state)
{
	struct conf_keep keep = { .last = 3, .daily = 7, .weekly = 4, .monthly = 3 };
	struct retain_point real[64], mixed[1024];
	size_t nreal = 0, nmixed = 0, future = 0;

	(void)state;
	zone("Europe/Berlin");
	for (int night = 1; night <= 400; night++) {
		time_t now = local(2026, 1, night, 1, 30);

		if (rnd(10) == 0) {	/* a stray point years ahead, made without deleting anything: the next run sees it as what it is */
			mixed[nmixed++] = (struct retain_point){ .time = now + (time_t)(1000 + rnd(30000)) * DAY, .suffix = 1 };
			future++;
		}
		if (rnd(10) == 0)	/* deleting by a clock that is behind does nothing that the right clock would not do */
			apply(mixed, nmixed, &keep, now - (time_t)rnd(3000) * DAY);
		nreal = one_run(real, nreal, now, &keep);
		nmixed = one_run(mixed, nmixed, now, &keep);
		assert_int_equal(nmixed, nreal + future);
		for (size_t i = 0, k = 0; i < nmixed; i++)
			if (mixed[i].time <= now)
				assert_int_equal(mixed[i].time, real[k++].time);
			else
				assert_int_equal(mixed[i].reasons, 1u << RETAIN_FUTURE);
	}
	assert_true(future > 10);
	/* All points in the future: all are kept. */
	apply(real, nreal, &keep, 0);
	for (size_t i = 0; i < nreal; i++)
		assert_int_equal(real[i].reasons, 1u << RETAIN_FUTURE);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_civil),
		cmocka_unit_test(test_span_texts),
		cmocka_unit_test(test_span_before),
		cmocka_unit_test(test_rules),
		cmocka_unit_test(test_calendar),
		cmocka_unit_test(test_equal_times),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_year),
		cmocka_unit_test(test_dates),
		cmocka_unit_test(test_clock_jumps),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
