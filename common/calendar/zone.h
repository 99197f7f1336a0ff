/*
 * zone.h - time zones as values: what a clock on the wall shows, and when.
 *
 * Calling sequence:  zone_local | zone_named -> zone_offset, zone_wall ... -> zone_free
 *
 * The C library knows one zone for the whole process, in TZ, and no way to ask which of two moments a repeated hour means.  A schedule names
 * its zone ("02:30 Europe/Berlin"), and the daemon has threads; so the system's zone files (RFC 9636, TZif) and the rules for years to come
 * in them (POSIX TZ strings, tzset(3)) are read here.  tests/unit/test_calendar.c compares every zone of the system with localtime_r(3).
 *
 * The files behind this header:  zone.c  finds and reads the file, answers;  zone_rule.c  POSIX TZ strings
 *
 * A struct zone never changes; any number of threads may read it.  "Wall time" is the time that a clock in the zone shows, as seconds since
 * 1970-01-01 00:00 on that clock.  Leap seconds are not known: files that count them (right/...) are refused.
 */
#ifndef OVB_ZONE_H
#define OVB_ZONE_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "base/err.h"

struct zone;

/**
 * zone_local(err):
 * The process's zone, found as by tzset(3): TZ, or /etc/localtime if that is not set.  A zone that cannot be found or understood is UTC, as for
 * localtime_r(3).
 *
 * Fails:  NULL, out of memory.
 * Blocks: on the disk.
 */
struct zone *zone_local(struct err *err);

/**
 * zone_named(name, err):
 * The zone ${name} of the system's database, such as "Europe/Berlin", in /usr/share/zoneinfo or $TZDIR.
 *
 * Fails:  NULL and ${err} set: no name of a zone, no such file (code ENOENT), or not one that can be understood.
 * Blocks: on the disk.
 */
struct zone *zone_named(const char *name, struct err *err);

/** zone_utc(err): UTC.  Fails: NULL, out of memory. */
struct zone *zone_utc(struct err *err);

/** zone_free(z): harmless on NULL. */
void zone_free(struct zone *z);

/** zone_offset(z, t): What the wall shows at ${t} minus ${t}, in seconds: positive east of Greenwich. */
int zone_offset(const struct zone *z, time_t t);

/** zone_has_abbreviation(z, text): Whether ${text} is what ${z} calls its standard or daylight saving time, in any case of letters: "CET". */
bool zone_has_abbreviation(const struct zone *z, const char *text);

/**
 * zone_wall(z, wall, after, t):
 * When the wall next shows *${wall}, which must be later than what it shows at ${after}: the earliest such moment later than ${after}.  So an hour
 * that is repeated is met the first time by a caller from before it, and the second time only by one that is in that already.
 *
 * Returns true and sets *${t}; or false and sets *${wall} to what the wall shows when it jumps over it.
 */
bool zone_wall(const struct zone *z, int64_t *wall, time_t after, time_t *t);

#endif
