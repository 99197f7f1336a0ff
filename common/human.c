#include "human.h"

#include <stdio.h>

const char *
human_size(uint64_t bytes, char out[HUMAN_LEN])
{
	static const char *const units[] = { "B", "kB", "MB", "GB", "TB", "PB", "EB" };
	double v = (double)bytes;
	size_t u = 0;

	while (v >= 999.5 && u < 6) {
		v /= 1000;
		u++;
	}
	snprintf(out, HUMAN_LEN, "%.*f %s", u > 0 && v < 9.95 ? 1 : 0, v, units[u]);
	return (out);
}

const char *
human_duration(double s, char out[HUMAN_LEN])
{
	unsigned long t = (unsigned long)(s + 0.5);

	if (s < 9.95)
		snprintf(out, HUMAN_LEN, "%.1f s", s < 0 ? 0 : s);
	else if (t < 60)
		snprintf(out, HUMAN_LEN, "%lu s", t);
	else if (t < 3600)
		snprintf(out, HUMAN_LEN, "%lu:%02lu min", t / 60, t % 60);
	else
		snprintf(out, HUMAN_LEN, "%lu:%02lu:%02lu h", t / 3600, t / 60 % 60, t % 60);
	return (out);
}

char *
human_safe(char *text)
{
	for (unsigned char *p = (unsigned char *)text; *p != '\0'; p++)
		if ((*p < 0x20 && *p != '\n') || *p == 0x7f || (*p == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0))
			*p = '?';
	return (text);
}
