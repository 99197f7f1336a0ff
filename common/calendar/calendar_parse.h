/*
 * calendar_parse.h - a calendar event, taken apart.  For calendar.c.
 */
#ifndef OVB_CALENDAR_PARSE_H
#define OVB_CALENDAR_PARSE_H

#include <stdbool.h>
#include <stdint.h>

#include "calendar/calendar.h"

#define CALENDAR_ALL_DAYS	0x7fu

enum calendar_unit {
	CALENDAR_YEAR,
	CALENDAR_MONTH,
	CALENDAR_DAY,
	CALENDAR_HOUR,
	CALENDAR_MINUTE,
	CALENDAR_SECOND,
	CALENDAR_UNITS
};

/* start, start..stop/repeat or start/repeat */
struct calendar_item {
	int	start;
	int	stop;		/* -1: none */
	int	repeat;		/* 0: none */
};

struct calendar_list {
	size_t			n;		/* 0: * */
	struct calendar_item	item[CALENDAR_MAX_LIST];
};

struct calendar_spec {
	unsigned int		weekdays;	/* 1 << 0 for a Monday to 1 << 6; never 0 */
	bool			from_end;	/* days count from the month's end, 1 for its last */
	struct calendar_list	list[CALENDAR_UNITS];
	char			zone[CALENDAR_MAX_TEXT + 1];	/* "UTC", a name, or empty for the local one */
};

/** calendar_unit_min(unit), calendar_unit_max(unit): The smallest and largest value, from 1970 and to 2199, 1 to 12 and so on. */
int calendar_unit_min(enum calendar_unit unit);
int calendar_unit_max(enum calendar_unit unit);

/**
 * calendar_spec_parse(text, spec, err):
 * Take ${text} apart; lists are sorted, without doubles, and hold only values that are possible.  Whether the zone exists is not looked at.
 *
 * Fails: -1, ${err} quotes ${text} and says what is expected.
 */
int calendar_spec_parse(const char *text, struct calendar_spec *spec, struct err *err);

#endif
