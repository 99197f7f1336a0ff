/*
 * civil.h - days of the Gregorian calendar as numbers, without a time zone and without the C library's limits and globals.
 *
 * A day is numbered from 1970-01-01, day 0, which was a Thursday.  The calendar is proleptic: its rules hold for all years, 0 and
 * negative ones included.  Everything here is exact for years within plus or minus 10^8.
 */
#ifndef OVB_CIVIL_H
#define OVB_CIVIL_H

#include <stdint.h>

#define CIVIL_DAY	INT64_C(86400)	/* seconds */

struct civil {
	int64_t	year;
	int	month;	/* 1 to 12 */
	int	day;	/* 1 to 31 */
};

/** civil_day(year, month, day): The number of a day.  ${day} may be outside of its month, which counts on into the next ones. */
int64_t civil_day(int64_t year, int month, int64_t day);

/** civil_date(n): The date of day ${n}. */
struct civil civil_date(int64_t n);

/** civil_weekday(n): 0 for a Monday to 6 for a Sunday. */
int civil_weekday(int64_t n);

/** civil_month_days(year, month): How many days a month has. */
int civil_month_days(int64_t year, int month);

/** civil_floor(a, b): The quotient of ${a} and ${b} > 0, rounded down, also where ${a} is negative. */
int64_t civil_floor(int64_t a, int64_t b);

#endif
