#include "calendar/zone_rule.h"

#include <string.h>

#include "calendar/civil.h"

#define MAX_CHANGE_HOURS	167
#define MAX_OFFSET_HOURS	24

/* A number of at most ${max}; moves *p behind it. */
static bool
number(const char **p, int max, int *out)
{
	int v = 0;

	if (**p < '0' || **p > '9')
		return (false);
	for (; **p >= '0' && **p <= '9'; (*p)++)
		if ((v = v * 10 + (**p - '0')) > max)
			return (false);
	*out = v;
	return (true);
}

/* [+-]hh[:mm[:ss]] in seconds. */
static bool
clock_time(const char **p, int max_hours, int *out)
{
	int sign = **p == '-' ? -1 : 1, h, m = 0, s = 0;

	if (**p == '-' || **p == '+')
		(*p)++;
	if (!number(p, max_hours, &h))
		return (false);
	if (**p == ':') {
		(*p)++;
		if (!number(p, 59, &m))
			return (false);
		if (**p == ':') {
			(*p)++;
			if (!number(p, 59, &s))
				return (false);
		}
	}
	*out = sign * (h * 3600 + m * 60 + s);
	return (true);
}

static bool
is_letter(char c)
{
	return ((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'));
}

/* "CET", or "<+03>" for what has other characters than letters. */
static bool
abbreviation(const char **p, char out[ZONE_ABBREVIATION])
{
	bool quoted = **p == '<';
	const char *begin = *p + quoted, *end = begin;

	while (is_letter(*end) || (quoted && ((*end >= '0' && *end <= '9') || *end == '+' || *end == '-')))
		end++;
	if (end - begin < 3 || end - begin >= (int)ZONE_ABBREVIATION || (quoted && *end != '>'))
		return (false);
	memcpy(out, begin, (size_t)(end - begin));
	out[end - begin] = '\0';
	*p = end + quoted;
	return (true);
}

static bool
change(const char **p, struct zone_change *c)
{
	if (**p != ',')
		return (false);
	(*p)++;
	c->kind = **p == 'M' || **p == 'J' ? *(*p)++ : 'D';
	if (c->kind == 'M') {
		if (!number(p, 12, &c->month) || c->month == 0 || *(*p)++ != '.' || !number(p, 5, &c->week) || c->week == 0 ||
		    *(*p)++ != '.' || !number(p, 6, &c->weekday))
			return (false);
	} else if (!number(p, 365, &c->day) || (c->kind == 'J' && c->day == 0))
		return (false);
	c->seconds = 2 * 3600;
	if (**p == '/') {
		(*p)++;
		return (clock_time(p, MAX_CHANGE_HOURS, &c->seconds));
	}
	return (true);
}

bool
zone_rule_parse(const char *text, struct zone_rule *out)
{
	struct zone_rule r = { .has_dst = false };
	int west;

	if (!abbreviation(&text, r.abbreviation[0]) || !clock_time(&text, MAX_OFFSET_HOURS, &west))
		return (false);
	r.offset[0] = -west;
	if (*text != '\0') {
		r.has_dst = true;
		if (!abbreviation(&text, r.abbreviation[1]))
			return (false);
		west -= 3600;
		if (*text != ',' && !clock_time(&text, MAX_OFFSET_HOURS, &west))
			return (false);
		r.offset[1] = -west;
		if (!change(&text, &r.change[1]) || !change(&text, &r.change[0]) || *text != '\0')
			return (false);
	}
	*out = r;
	return (true);
}

/* When the change ${to} comes in a year, in UTC. */
static int64_t
change_time(const struct zone_rule *r, int to, int64_t year)
{
	const struct zone_change *c = &r->change[to];
	int64_t day, first;

	if (c->kind == 'M') {
		first = civil_day(year, c->month, 1);
		day = first + (c->weekday + 6 - civil_weekday(first) + 7) % 7 + (c->week - 1) * INT64_C(7);
		if (day >= first + civil_month_days(year, c->month))
			day -= 7;
	} else {
		/* J60 is 1 March in every year. */
		day = civil_day(year, 1, 1) + c->day;
		if (c->kind == 'J')
			day -= c->day < 60 || civil_month_days(year, 2) == 28;
	}
	return (day * CIVIL_DAY + c->seconds - r->offset[!to]);
}

/* The changes of the year and those around it, two years to each side because one may lie a week outside of its year, in order. */
int
zone_rule_segment(const struct zone_rule *r, int64_t t, int64_t *from, int64_t *until)
{
	int64_t year = civil_date(civil_floor(t, CIVIL_DAY)).year;
	int now = 0;

	*from = INT64_MIN;
	*until = INT64_MAX;
	for (int64_t y = year - 2; y <= year + 2 && r->has_dst; y++) {
		for (int to = 0; to < 2; to++) {
			int64_t at = change_time(r, to, y);

			/* Where one ends as the other begins, as in a zone that is on daylight saving time all year, the latter counts. */
			if (at <= t && (at > *from || (at == *from && to == 1))) {
				*from = at;
				now = to;
			} else if (at > t && at < *until)
				*until = at;
		}
	}
	return (r->offset[now]);
}
