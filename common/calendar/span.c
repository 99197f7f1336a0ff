#include "calendar/span.h"

#include <string.h>

#include "calendar/civil.h"

#define HOUR	3600	/* seconds */

int
span_parse(const char *text, struct span *out, struct err *err)
{
	static const char units[] = "ymwdh";
	const char *p = text, *unit;
	struct span s = { 0 };
	int *const values[] = { &s.years, &s.months, &s.weeks, &s.days, &s.hours };
	size_t next = 0;
	int v;

	do {
		for (v = 0; *p >= '0' && *p <= '9' && v <= SPAN_MAX; p++)
			v = v * 10 + (*p - '0');
		if (v < 1 || v > SPAN_MAX || *p == '\0' || (unit = strchr(units + next, *p)) == NULL)
			return (err_set(err, 0, "\"%.40s\": expected a span of time like \"14d\", \"36h\" or \"1y6m3d12h\": "
			    "numbers from 1 to %d with the units y, m (months), w, d and h in this order", text, SPAN_MAX));
		*values[unit - units] = v;
		next = (size_t)(unit - units) + 1;
		p++;
	} while (*p != '\0');
	*out = s;
	return (0);
}

time_t
span_before(time_t t, const struct span *s)
{
	int64_t day = civil_floor(t, CIVIL_DAY), second = t - day * CIVIL_DAY, months;
	struct civil c = civil_date(day);

	months = c.year * 12 + c.month - 1 - s->years * INT64_C(12) - s->months;
	c.year = civil_floor(months, 12);
	c.month = (int)(months - c.year * 12) + 1;
	if (c.day > civil_month_days(c.year, c.month)) {
		c.day = civil_month_days(c.year, c.month) + 1;
		second = 0;
	}
	day = civil_day(c.year, c.month, c.day) - s->weeks * INT64_C(7) - s->days;
	return (day * CIVIL_DAY + second - s->hours * (int64_t)HOUR);
}
