#include "calendar/civil.h"

#include <stdbool.h>

#define DAYS_400_YEARS	146097	/* the calendar repeats after these */
#define DAYS_TO_1970	719468	/* from 0000-03-01 */

int64_t
civil_floor(int64_t a, int64_t b)
{
	return (a / b - (a % b < 0));
}

/* Years begin in March here: the leap day is the last of its year, and the months before it have a regular pattern (153 days for five). */
int64_t
civil_day(int64_t year, int month, int64_t day)
{
	int64_t y = year - (month < 3), era = civil_floor(y, 400), of_era = y - era * 400;
	int64_t before_month = (153 * ((month + 9) % 12) + 2) / 5;

	return (era * DAYS_400_YEARS + of_era * 365 + of_era / 4 - of_era / 100 + before_month + day - 1 - DAYS_TO_1970);
}

struct civil
civil_date(int64_t n)
{
	int64_t era = civil_floor(n + DAYS_TO_1970, DAYS_400_YEARS);
	int64_t left = n + DAYS_TO_1970 - era * DAYS_400_YEARS;		/* days into the 400 years */
	int64_t y = (left - left / 1460 + left / 36524 - left / 146096) / 365;
	struct civil c;
	int m;

	left -= y * 365 + y / 4 - y / 100;
	m = (int)((5 * left + 2) / 153);
	c.day = (int)(left - (153 * m + 2) / 5) + 1;
	c.month = m < 10 ? m + 3 : m - 9;
	c.year = era * 400 + y + (c.month < 3);
	return (c);
}

int
civil_weekday(int64_t n)
{
	return ((int)(n + 3 - civil_floor(n + 3, 7) * 7));
}

int
civil_month_days(int64_t year, int month)
{
	static const int days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

	return (days[month - 1] + (month == 2 && leap));
}
