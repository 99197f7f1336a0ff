#include "base/human.h"

#include <locale.h>
#include <stdio.h>
#include <string.h>
#include <wchar.h>

#define DURATION_MAX	1e12		/* seconds */

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
	unsigned long t;

	/* Somebody else may have said it. */
	if (!(s < DURATION_MAX))
		s = DURATION_MAX;
	t = s > 0 ? (unsigned long)(s + 0.5) : 0;
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

const char *
human_age(time_t age, char out[HUMAN_LEN])
{
	const char *sign = age < 0 ? "-" : "";
	long long s = age < 0 ? -(long long)age : (long long)age;

	if (s < 60)
		snprintf(out, HUMAN_LEN, "%s%lld s", sign, s);
	else if (s < 2 * 3600)
		snprintf(out, HUMAN_LEN, "%s%lld min", sign, s / 60);
	else if (s < 2 * 86400)
		snprintf(out, HUMAN_LEN, "%s%lld h", sign, s / 3600);
	else
		snprintf(out, HUMAN_LEN, "%s%lld d", sign, s / 86400);
	return (out);
}

char *
human_safe(char *text)
{
	unsigned char *out = (unsigned char *)text;

	for (const unsigned char *p = out; *p != '\0'; p++) {
		if (*p == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0) {	/* U+0080 to U+009F */
			*out++ = '?';
			p++;
		} else
			*out++ = (*p < 0x20 && *p != '\n') || *p == 0x7f ? '?' : *p;
	}
	*out = '\0';
	return (text);
}

/* The columns that the character at ${at} takes, and its ${bytes}. */
static unsigned int
character_columns(const char *at, size_t *bytes)
{
	mbstate_t state = { 0 };
	wchar_t c;
	int columns;

	*bytes = mbrtowc(&c, at, strlen(at), &state);
	if (*bytes == (size_t)-1 || *bytes == (size_t)-2 || *bytes == 0) {
		*bytes = 1;
		return (1);
	}
	columns = wcwidth(c);
	return (columns < 0 ? 1 : (unsigned int)columns);
}

unsigned int
human_fit(char *text, unsigned int columns)
{
	locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0), before = utf8 != (locale_t)0 ? uselocale(utf8) : (locale_t)0;
	unsigned int used = 0, cut_columns = 0, wide;
	char *at = text, *cut = text;
	size_t bytes;

	for (; *at != '\0' && used <= columns; at += bytes, used += wide) {
		if (used + 3 <= columns) {
			cut = at;
			cut_columns = used;
		}
		wide = character_columns(at, &bytes);
	}
	if (used > columns && columns >= 3) {
		memcpy(cut, "...", 4);
		used = cut_columns + 3;
	} else if (used > columns) {
		*text = '\0';
		used = 0;
	}
	if (utf8 != (locale_t)0) {
		uselocale(before);
		freelocale(utf8);
	}
	return (used);
}
