/*
 * zone_rule.h - a zone as a POSIX TZ string: "CET-1CEST,M3.5.0,M10.5.0/3".  For zone.c.
 *
 * Source: POSIX.1-2017, 8.3, with RFC 9636's extension of the hours of a change to -167..167.
 */
#ifndef OVB_ZONE_RULE_H
#define OVB_ZONE_RULE_H

#include <stdbool.h>
#include <stdint.h>

#define ZONE_ABBREVIATION	16u	/* bytes with the zero byte */

/* A day of each year and a time on it. */
struct zone_change {
	char	kind;			/* 'M': month, week, weekday;  'J': day 1 to 365 without leap days;  'D': day 0 to 365 */
	int	month, week, weekday;	/* M: 1 to 12; 1 to 5, 5 for the last one; 0 for a Sunday to 6 */
	int	day;			/* J, D */
	int	seconds;		/* after the day's beginning, on the clock before the change */
};

struct zone_rule {
	char			abbreviation[2][ZONE_ABBREVIATION];	/* standard, daylight saving time */
	int			offset[2];				/* seconds, positive east of Greenwich */
	bool			has_dst;
	struct zone_change	change[2];				/* to standard, to daylight saving time */
};

/** zone_rule_parse(text, out): Returns whether ${text} is such a string, whole and with its dates where it has daylight saving time. */
bool zone_rule_parse(const char *text, struct zone_rule *out);

/**
 * zone_rule_segment(r, t, from, until):
 * The offset in force at ${t}, in seconds, and for how long: from *${from} to before *${until}.
 */
int zone_rule_segment(const struct zone_rule *r, int64_t t, int64_t *from, int64_t *until);

#endif
