/*
 * calendar.h - schedules: systemd's calendar events (systemd.time(7)) and when they come.
 *
 * Turns the text of a schedule and a clock into due times, and knows no jobs.
 *
 * Calling sequence:  calendar_parse -> calendar_next ... -> calendar_free
 *
 *	[WEEKDAYS] [[YEAR-]MONTH-DAY] [HOUR:MINUTE[:SECOND]] [ZONE]
 *
 * or minutely, hourly, daily, weekly, monthly, quarterly, semiannually, yearly and systemd's other words for these, or @SECONDS since 1970 in
 * UTC.  WEEKDAYS are names, also "Mon..Fri" and "Sat,Sun".  Each number may be a *, or a list like "1,5..9,20/2" of values, ranges and
 * repetitions; "~" in place of the "-" before the day counts from the month's end ("*-*~1": its last day).  ZONE is UTC or a name like
 * Europe/Berlin; without it, the times are local.
 *
 * systemd-analyze(1) calendar is the oracle of tests/scenario/calendar.t, for what is accepted, how it is written in full and when it comes.  As
 * there, a time that a change to daylight saving time leaves out does not come that day ("02:30" on the last Sunday of March in Berlin), and
 * a time that is repeated comes once, the first time.  What differs, on purpose:
 *   - Seconds are whole: fractions are refused.
 *   - An abbreviation of the local zone ("CET" where it is Berlin's) is refused: systemd reads it as "only while this is in force", and then
 *     answers with times that contradict it, or never.
 *   - Its slips (of version 252) are not followed: a time that it passes over after a repetition that runs over the end of a month or an hour, or at
 *     some changes of clocks; "5..5" for seconds and lists like "~20,27", which it refuses.
 *   - A list has at most CALENDAR_MAX_LIST items, a text CALENDAR_MAX_TEXT bytes.
 *
 * The files behind this header:  calendar_parse.c  text to sets of numbers;  calendar.c  the text in full, and the next time;  zone.h  time zones
 */
#ifndef OVB_CALENDAR_H
#define OVB_CALENDAR_H

#include <stdbool.h>
#include <time.h>

#include "base/err.h"

#define CALENDAR_MAX_LIST	60	/* items */
#define CALENDAR_MAX_TEXT	1000	/* bytes */
#define CALENDAR_MIN_YEAR	1970
#define CALENDAR_MAX_YEAR	2199	/* systemd's limits */

struct calendar;

/**
 * calendar_parse(text, err):
 * Read the calendar event ${text}.  The local zone, where it is meant, is the one that TZ or /etc/localtime name now.
 *
 * Fails:  NULL; ${err} quotes ${text} and says what is expected, or is out of memory.
 * Blocks: on the disk, to read the zone.
 */
struct calendar *calendar_parse(const char *text, struct err *err);

/** calendar_free(c): harmless on NULL. */
void calendar_free(struct calendar *c);

/** calendar_text(c): The event in full, as systemd-analyze(1) writes it: "weekly" is "Mon *-*-* 00:00:00".  It lives as long as ${c}. */
const char *calendar_text(const struct calendar *c);

/**
 * calendar_next(c, after, next):
 * When ${c} comes next: the first time later than ${after}, both in seconds since 1970 in UTC.  Returns false if it never comes again: times end with
 * CALENDAR_MAX_YEAR.  Threads: any.  Takes well under a millisecond, whatever ${c} is.
 */
bool calendar_next(const struct calendar *c, time_t after, time_t *next);

#endif
