#include "calendar/calendar_parse.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define MAX_NUMBER	100000000	/* larger than any value, small enough to be added to others */

/* What is left to read of a text. */
struct cursor {
	const char	*whole, *at;
	struct err	*err;
};

static const char *const weekdays[] = { "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday" };

/* What the words stand for. */
static const struct {
	const char *word, *event;
} words[] = {
	{ "minutely", "*-*-* *:*:00" },
	{ "hourly", "*-*-* *:00:00" },
	{ "daily", "*-*-* 00:00:00" },
	{ "weekly", "Mon *-*-* 00:00:00" },
	{ "monthly", "*-*-01 00:00:00" },
	{ "quarterly", "*-01,04,07,10-01 00:00:00" },
	{ "semiannually", "*-01,07-01 00:00:00" },
	{ "semi-annually", "*-01,07-01 00:00:00" },
	{ "biannually", "*-01,07-01 00:00:00" },
	{ "bi-annually", "*-01,07-01 00:00:00" },
	{ "yearly", "*-01-01 00:00:00" },
	{ "annually", "*-01-01 00:00:00" },
	{ "anually", "*-01-01 00:00:00" },	/* sic: systemd takes it */
};

int
calendar_unit_min(enum calendar_unit unit)
{
	static const int min[] = { CALENDAR_MIN_YEAR, 1, 1, 0, 0, 0 };

	return (min[unit]);
}

int
calendar_unit_max(enum calendar_unit unit)
{
	static const int max[] = { CALENDAR_MAX_YEAR, 12, 31, 23, 59, 59 };

	return (max[unit]);
}

static int
expected(const struct cursor *c, const char *what)
{
	if (*c->at == '\0')
		return (err_set(c->err, 0, "\"%.100s\" is not a calendar event (systemd.time(7)): expected %s at its end", c->whole, what));
	return (err_set(c->err, 0, "\"%.100s\" is not a calendar event (systemd.time(7)): expected %s at \"%.40s\"", c->whole, what, c->at));
}

static bool
skip(struct cursor *c, const char *text)
{
	if (strncmp(c->at, text, strlen(text)) != 0)
		return (false);
	c->at += strlen(text);
	return (true);
}

static void
skip_spaces(struct cursor *c)
{
	c->at += strspn(c->at, " ");
}

static int
number(struct cursor *c, int *out)
{
	const char *p = c->at;
	int v = 0;

	if (*p < '0' || *p > '9')
		return (expected(c, "a number"));
	for (; *p >= '0' && *p <= '9'; p++)
		if ((v = v * 10 + (*p - '0')) > MAX_NUMBER)
			return (expected(c, "a smaller number"));
	if (p[0] == '.' && p[1] != '.')
		return (expected(c, "a whole number"));
	c->at = p;
	*out = v;
	return (0);
}

static int
item(struct cursor *c, struct calendar_item *out)
{
	*out = (struct calendar_item){ .start = 0, .stop = -1, .repeat = 0 };
	if (number(c, &out->start) == -1)
		return (-1);
	if (skip(c, "..")) {
		out->repeat = 1;
		if (number(c, &out->stop) == -1)
			return (-1);
	}
	if (*c->at == '/') {
		c->at++;
		if (number(c, &out->repeat) == -1)
			return (-1);
		if (out->repeat == 0) {
			c->at--;
			return (expected(c, "a repetition of at least 1"));
		}
	}
	return (0);
}

static int
list(struct cursor *c, struct calendar_list *out)
{
	out->n = 0;
	if (skip(c, "*"))
		return (0);
	do {
		if (out->n == CALENDAR_MAX_LIST)
			return (expected(c, "no more items in a list"));
		if (item(c, &out->item[out->n++]) == -1)
			return (-1);
	} while (skip(c, ","));
	return (0);
}

/* Moves behind a weekday's name, whole or its first three letters.  Returns 0 to 6, or -1 if there is none. */
static int
weekday(struct cursor *c)
{
	for (int i = 0; i < 7; i++) {
		size_t len = strlen(weekdays[i]);

		if (strncasecmp(c->at, weekdays[i], len) != 0)
			len = 3;
		if (strncasecmp(c->at, weekdays[i], len) == 0) {
			c->at += len;
			return (i);
		}
	}
	return (-1);
}

/* "Mon..Fri,Sun", up to the date.  A comma may end the list, and "-" may stand for "..", as in systemd. */
static int
take_weekdays(struct cursor *c, struct calendar_spec *spec)
{
	int first, last;

	for (first = weekday(c); first != -1; first = weekday(c)) {
		last = first;
		if (skip(c, "..") || skip(c, "-")) {
			if ((last = weekday(c)) < first)
				return (expected(c, last == -1 ? "a weekday" : "a range of weekdays from Mon to Sun before this"));
			if (*c->at == '.' || *c->at == '-')
				return (expected(c, "a comma or the end of the weekdays"));
		}
		for (; first <= last; first++)
			spec->weekdays |= 1u << first;
		if (!skip(c, ",")) {
			if (*c->at != '\0' && *c->at != ' ')
				return (expected(c, "a weekday like Mon or Monday before this, then a space, \",\" or \"..\""));
			skip_spaces(c);
			return (0);
		}
		if (*c->at == '\0' || *c->at == ' ') {
			skip_spaces(c);
			return (0);
		}
	}
	return (spec->weekdays == 0 ? 0 : expected(c, "a weekday"));
}

static int
set_time(struct calendar_spec *spec, const int value[CALENDAR_UNITS], enum calendar_unit from)
{
	for (int unit = from; unit < CALENDAR_UNITS; unit++) {
		spec->list[unit].n = 1;
		spec->list[unit].item[0] = (struct calendar_item){ .start = value[unit], .stop = -1 };
	}
	return (0);
}

/* "@SECONDS": that one second. */
static int
take_timestamp(struct cursor *c, struct calendar_spec *spec)
{
	struct tm tm;
	time_t t = 0;

	if (*c->at < '0' || *c->at > '9')
		return (expected(c, "a number"));
	for (; *c->at >= '0' && *c->at <= '9'; c->at++) {
		t = t * 10 + (*c->at - '0');
		if (t > INT64_C(100000000000))
			return (expected(c, "a smaller number of seconds since 1970"));
	}
	if (spec->zone[0] != '\0' && strcmp(spec->zone, "UTC") != 0)
		return (expected(c, "UTC, or no time zone,"));
	gmtime_r(&t, &tm);
	snprintf(spec->zone, sizeof(spec->zone), "UTC");
	return (set_time(spec, (const int[]){ tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec }, CALENDAR_YEAR));
}

/* [YEAR-]MONTH-DAY; nothing is taken if this is a time. */
static int
take_date(struct cursor *c, struct calendar_spec *spec)
{
	struct calendar_list part[3];
	const char *begin = c->at;
	int n = 1;

	if (list(c, &part[0]) == -1)
		return (-1);
	if (*c->at == ':') {
		c->at = begin;
		return (0);
	}
	for (; n < 3 && !spec->from_end && (*c->at == '-' || *c->at == '~'); n++) {
		spec->from_end = *c->at++ == '~';
		if (list(c, &part[n]) == -1)
			return (-1);
	}
	if (n == 1)
		return (expected(c, "\"-\", \"~\" or \":\""));
	if (*c->at != '\0' && *c->at != ' ')
		return (expected(c, "a space and a time, or the end,"));
	skip_spaces(c);
	spec->list[CALENDAR_DAY] = part[n - 1];
	spec->list[CALENDAR_MONTH] = part[n - 2];
	if (n == 3)
		spec->list[CALENDAR_YEAR] = part[0];
	return (0);
}

static int
take_time(struct cursor *c, struct calendar_spec *spec)
{
	static const int midnight[CALENDAR_UNITS] = { 0 };

	if (*c->at == '\0')
		return (set_time(spec, midnight, CALENDAR_HOUR));
	if (list(c, &spec->list[CALENDAR_HOUR]) == -1)
		return (-1);
	if (!skip(c, ":"))
		return (expected(c, "\":\" and minutes"));
	if (list(c, &spec->list[CALENDAR_MINUTE]) == -1)
		return (-1);
	if (*c->at == '\0')
		return (set_time(spec, midnight, CALENDAR_SECOND));
	if (!skip(c, ":"))
		return (expected(c, "\":\" and seconds, or the end,"));
	if (list(c, &spec->list[CALENDAR_SECOND]) == -1)
		return (-1);
	return (*c->at == '\0' ? 0 : expected(c, "the end, or a space and a time zone like UTC or Europe/Berlin,"));
}

static int
item_compare(const void *va, const void *vb)
{
	const struct calendar_item *a = va, *b = vb;

	if (a->start != b->start)
		return (a->start < b->start ? -1 : 1);
	if (a->stop != b->stop)
		return (a->stop < b->stop ? -1 : 1);
	return (a->repeat < b->repeat ? -1 : a->repeat > b->repeat);
}

static int
full_year(int year)
{
	return (year < 0 || year >= 100 ? year : year + (year < 70 ? 2000 : 1900));
}

/* One writing for what is the same: years with four digits, ranges that end on a value of theirs, no range of one. */
static void
normalise(struct calendar_list *l, enum calendar_unit unit)
{
	size_t n = 0;

	for (size_t i = 0; i < l->n; i++) {
		struct calendar_item *it = &l->item[i];

		if (unit == CALENDAR_YEAR) {
			it->start = full_year(it->start);
			it->stop = full_year(it->stop);
		}
		if (it->stop > it->start && it->repeat > 0)
			it->stop -= (it->stop - it->start) % it->repeat;
		if (it->stop == it->start) {
			it->stop = -1;
			it->repeat = 0;
		}
	}
	qsort(l->item, l->n, sizeof(l->item[0]), item_compare);
	for (size_t i = 0; i < l->n; i++)
		if (i == 0 || item_compare(&l->item[i], &l->item[n - 1]) != 0)
			l->item[n++] = l->item[i];
	l->n = n;
}

/* Each value is possible, and a repetition repeats at least once. */
static bool
is_possible(const struct calendar_list *l, enum calendar_unit unit, bool from_end)
{
	int min = calendar_unit_min(unit), max = calendar_unit_max(unit);

	if (from_end && unit == CALENDAR_DAY)
		max = 28;	/* so that every month has it */
	for (size_t i = 0; i < l->n; i++) {
		const struct calendar_item *it = &l->item[i];

		if (it->start < min || it->start > max || it->stop > max || it->repeat > max - min)
			return (false);
		if (it->stop >= 0 ? it->start + it->repeat > it->stop :
		    from_end && unit == CALENDAR_DAY ? it->start - it->repeat < min : it->start + it->repeat > max)
			return (false);
	}
	return (true);
}

static int
finish(const struct cursor *c, struct calendar_spec *spec)
{
	static const char *const names[] = { "a year", "a month", "a day", "an hour", "a minute", "a second" };

	if (spec->weekdays == 0)
		spec->weekdays = CALENDAR_ALL_DAYS;
	spec->from_end = spec->from_end && spec->list[CALENDAR_DAY].n > 0;
	for (int unit = 0; unit < CALENDAR_UNITS; unit++) {
		normalise(&spec->list[unit], (enum calendar_unit)unit);
		if (!is_possible(&spec->list[unit], (enum calendar_unit)unit, spec->from_end))
			return (err_set(c->err, 0, "\"%.100s\" is not a calendar event (systemd.time(7)): %s, range or repetition of it is not "
			    "possible", c->whole, names[unit]));
	}
	/* systemd writes a * for seconds among which is 0/1, but not for other units. */
	for (size_t i = 0; i < spec->list[CALENDAR_SECOND].n; i++)
		if (item_compare(&spec->list[CALENDAR_SECOND].item[i], &(struct calendar_item){ 0, -1, 1 }) == 0)
			spec->list[CALENDAR_SECOND].n = 0;
	return (0);
}

/* Cut the zone off the copy ${text}: a last word that begins with a letter, as no part of a date or time does. */
static void
take_zone(char *text, struct calendar_spec *spec)
{
	char *space = strrchr(text, ' ');

	if (space == NULL || !((space[1] >= 'A' && space[1] <= 'Z') || (space[1] >= 'a' && space[1] <= 'z')))
		return;
	snprintf(spec->zone, sizeof(spec->zone), "%s", strcasecmp(space + 1, "UTC") == 0 ? "UTC" : space + 1);
	*space = '\0';
}

int
calendar_spec_parse(const char *text, struct calendar_spec *spec, struct err *err)
{
	char copy[CALENDAR_MAX_TEXT + 1];
	struct cursor c = { .whole = text, .at = copy, .err = err };

	memset(spec, 0, sizeof(*spec));
	if (strlen(text) > CALENDAR_MAX_TEXT)
		return (err_set(err, 0, "\"%.100s...\": a calendar event has at most %d bytes", text, CALENDAR_MAX_TEXT));
	memcpy(copy, text, strlen(text) + 1);
	take_zone(copy, spec);
	if (copy[0] == '\0')
		return (expected(&c, "a date, a time, or a word like daily"));
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strcasecmp(copy, words[i].word) == 0)
			c.at = words[i].event;
	if (take_weekdays(&c, spec) == -1)
		return (-1);
	if (skip(&c, "@")) {
		if (take_timestamp(&c, spec) == -1)
			return (-1);
		if (*c.at != '\0')
			return (expected(&c, "the end"));
	} else if ((*c.at != '\0' && take_date(&c, spec) == -1) || take_time(&c, spec) == -1)
		return (-1);
	return (finish(&c, spec));
}
