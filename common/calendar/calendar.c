#include "calendar/calendar.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "calendar/calendar_parse.h"
#include "calendar/civil.h"
#include "calendar/zone.h"

struct calendar {
	uint64_t	 set[CALENDAR_UNITS];	/* which values count, 1 << value; the days may count from the month's end */
	uint64_t	 years[4];		/* 1 << (year - CALENDAR_MIN_YEAR) */
	bool		 from_end;
	unsigned int	 weekdays;
	struct zone	*zone;
	char		*text;
};

/* What is in the sets. */

static void
put(struct calendar *c, enum calendar_unit unit, int value)
{
	unsigned int bit = (unsigned int)(value - (unit == CALENDAR_YEAR ? CALENDAR_MIN_YEAR : 0));

	if (unit == CALENDAR_YEAR)
		c->years[bit / 64] |= UINT64_C(1) << (bit % 64);
	else
		c->set[unit] |= UINT64_C(1) << bit;
}

static void
fill(struct calendar *c, enum calendar_unit unit, const struct calendar_list *l)
{
	int min = calendar_unit_min(unit), max = calendar_unit_max(unit), v;

	for (v = min; v <= max && l->n == 0; v++)
		put(c, unit, v);
	for (size_t i = 0; i < l->n; i++) {
		const struct calendar_item *it = &l->item[i];

		if (it->repeat == 0)
			put(c, unit, it->start);
		else if (it->stop < 0 && unit == CALENDAR_DAY && c->from_end)
			for (v = it->start; v >= min; v -= it->repeat)		/* later days are nearer to the month's end */
				put(c, unit, v);
		else
			for (v = it->start; v <= (it->stop < 0 ? max : it->stop); v += it->repeat)
				put(c, unit, v);
	}
}

static bool
has(const struct calendar *c, enum calendar_unit unit, int value)
{
	return ((c->set[unit] >> value & 1) != 0);
}

static bool
has_year(const struct calendar *c, int64_t year)
{
	uint64_t bit = (uint64_t)(year - CALENDAR_MIN_YEAR);

	return ((c->years[bit / 64] >> (bit % 64) & 1) != 0);
}

/* The text in full. */

static int
text_weekdays(struct buf *b, unsigned int days, struct err *err)
{
	static const char *const names[] = { "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun" };
	const char *comma = "";
	int first, last;

	if (days == CALENDAR_ALL_DAYS)
		return (0);
	for (first = 0; first < 7; first = last + 1) {
		for (last = first; (days >> last & 1) != 0; last++)
			;
		if (last == first)
			continue;
		if (buf_addf(b, err, "%s%s", comma, names[first]) == -1 ||
		    (last - first > 1 && buf_addf(b, err, "%s%s", last - first > 2 ? ".." : ",", names[last - 1]) == -1))
			return (-1);
		comma = ",";
	}
	return (buf_add(b, " ", 1, err));
}

/* One list and what follows it. */
static int
text_list(struct buf *b, const struct calendar_list *l, int width, const char *then, struct err *err)
{
	if (l->n == 0)
		return (buf_addf(b, err, "*%s", then));
	for (size_t i = 0; i < l->n; i++) {
		const struct calendar_item *it = &l->item[i];

		if (buf_addf(b, err, "%s%0*d", i > 0 ? "," : "", width, it->start) == -1 ||
		    (it->stop >= 0 && buf_addf(b, err, "..%0*d", width, it->stop) == -1) ||
		    (it->repeat > 0 && (it->stop < 0 || it->repeat > 1) && buf_addf(b, err, "/%d", it->repeat) == -1))
			return (-1);
	}
	return (buf_addf(b, err, "%s", then));
}

static int
text(struct buf *b, const struct calendar_spec *spec, struct err *err)
{
	static const char *const after[] = { "-", "-", " ", ":", ":", "" };

	if (text_weekdays(b, spec->weekdays, err) == -1)
		return (-1);
	for (int unit = 0; unit < CALENDAR_UNITS; unit++)
		if (text_list(b, &spec->list[unit], unit == CALENDAR_YEAR ? 4 : 2,
		    unit == CALENDAR_MONTH && spec->from_end ? "~" : after[unit], err) == -1)
			return (-1);
	return (spec->zone[0] == '\0' ? 0 : buf_addf(b, err, " %s", spec->zone));
}

/* Making one. */

static struct zone *
zone_of(const char *whole, const char *name, struct err *err)
{
	struct zone *local = zone_local(err), *z = NULL;

	if (local == NULL || name[0] == '\0')
		return (local);
	if (zone_has_abbreviation(local, name))
		err_set(err, 0, "\"%.100s\": %.40s is short for a part of the local time zone: leave it out, or name a zone like Europe/Berlin or UTC",
		    whole, name);
	else if ((z = zone_named(name, err)) == NULL && err->code == ENOENT)
		err_set(err, 0, "\"%.100s\": there is no time zone %.100s: expected UTC or a name like Europe/Berlin", whole, name);
	zone_free(local);
	return (z);
}

struct calendar *
calendar_parse(const char *whole, struct err *err)
{
	struct calendar_spec spec;
	struct buf b = BUF_INIT;
	struct calendar *c;

	if (calendar_spec_parse(whole, &spec, err) == -1)
		return (NULL);
	if ((c = calloc(1, sizeof(*c))) == NULL) {
		err_nomem(err);
		return (NULL);
	}
	c->weekdays = spec.weekdays;
	c->from_end = spec.from_end;
	for (int unit = 0; unit < CALENDAR_UNITS; unit++)
		fill(c, (enum calendar_unit)unit, &spec.list[unit]);
	c->zone = strcmp(spec.zone, "UTC") == 0 ? zone_utc(err) : zone_of(whole, spec.zone, err);
	if (c->zone == NULL || text(&b, &spec, err) == -1) {
		buf_free(&b);
		calendar_free(c);
		return (NULL);
	}
	c->text = b.ptr;
	return (c);
}

void
calendar_free(struct calendar *c)
{
	if (c == NULL)
		return;
	zone_free(c->zone);
	free(c->text);
	free(c);
}

const char *
calendar_text(const struct calendar *c)
{
	return (c->text);
}

/* Finding the next one, by what the wall shows. */

static bool
has_day(const struct calendar *c, int64_t number, const struct civil *date)
{
	int day = c->from_end ? civil_month_days(date->year, date->month) + 1 - date->day : date->day;

	return (has(c, CALENDAR_DAY, day) && (c->weekdays >> civil_weekday(number) & 1) != 0);
}

/* The first day that counts, ${day} or a later one.  Some 85,000 short steps at most, when there is none to the end of time. */
static bool
next_day(const struct calendar *c, int64_t *day)
{
	struct civil d = civil_date(*day);

	if (d.year < CALENDAR_MIN_YEAR)
		d = (struct civil){ .year = CALENDAR_MIN_YEAR, .month = 1, .day = 1 };
	for (; d.year <= CALENDAR_MAX_YEAR; d.year++, d.month = 1, d.day = 1) {
		if (!has_year(c, d.year))
			continue;
		for (; d.month <= 12; d.month++, d.day = 1) {
			int last = has(c, CALENDAR_MONTH, d.month) ? civil_month_days(d.year, d.month) : 0;

			for (; d.day <= last; d.day++) {
				*day = civil_day(d.year, d.month, d.day);
				if (has_day(c, *day, &d))
					return (true);
			}
		}
	}
	return (false);
}

/* The first value of a unit that counts, ${from} or a larger one; -1: none. */
static int
next_value(const struct calendar *c, enum calendar_unit unit, int from)
{
	for (; from <= calendar_unit_max(unit); from++)
		if (has(c, unit, from))
			return (from);
	return (-1);
}

/* The first second of a day that counts, ${from} or a later one; -1: none. */
static int
next_second(const struct calendar *c, int from)
{
	int from_minute = from / 60 % 60, from_second = from % 60, hour, minute, second;

	for (hour = from / 3600; (hour = next_value(c, CALENDAR_HOUR, hour)) != -1; hour++, from_minute = from_second = 0) {
		if (hour != from / 3600)
			from_minute = from_second = 0;
		for (minute = from_minute; (minute = next_value(c, CALENDAR_MINUTE, minute)) != -1; minute++, from_second = 0) {
			if (minute != from_minute)
				from_second = 0;
			if ((second = next_value(c, CALENDAR_SECOND, from_second)) != -1)
				return (hour * 3600 + minute * 60 + second);
		}
	}
	return (-1);
}

/* The first time that counts, *wall or a later one. */
static bool
next_wall(const struct calendar *c, int64_t *wall)
{
	int64_t begin = civil_floor(*wall, CIVIL_DAY), day = begin;
	int second;

	if (!next_day(c, &day))
		return (false);
	second = next_second(c, day == begin ? (int)(*wall - begin * CIVIL_DAY) : 0);
	if (second == -1) {		/* too late on that day; every day has one */
		day++;
		if (!next_day(c, &day))
			return (false);
		second = next_second(c, 0);
	}
	*wall = day * CIVIL_DAY + second;
	return (true);
}

bool
calendar_next(const struct calendar *c, time_t after, time_t *next)
{
	static const time_t min = -2 * CIVIL_DAY, max = INT64_C(7300000000);	/* a day and more around all years that count */
	int64_t wall;

	if (after < min)
		after = min;
	if (after > max)
		return (false);
	wall = after + zone_offset(c->zone, after) + 1;
	/* A time that the wall never shows is passed over, from where it goes on. */
	while (next_wall(c, &wall))
		if (zone_wall(c->zone, &wall, after, next))
			return (true);
	return (false);
}
