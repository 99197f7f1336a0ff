#include "repository/naming.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Endings that the repository's own files and folders have. */
static bool
is_reserved_ending(const char *dot)
{
	static const char *const endings[] = { ".partial", ".json", ".old", ".new", ".lock" };

	for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++)
		if (strcmp(dot, endings[i]) == 0)
			return (true);
	return (false);
}

static bool
stands_for_itself(const char *name, const char *p)
{
	unsigned char c = (unsigned char)*p;

	if (c == '.')
		return (p != name && !is_reserved_ending(p));
	return (c >= 0x80 || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
	    strchr("_-+=,@~", c) != NULL);
}

int
name_escape(const char *name, char out[NAMING_MAX], struct err *err)
{
	size_t n = 0;

	if (name[0] == '\0')
		return (err_set(err, 0, "a machine without a name"));
	for (const char *p = name; *p != '\0'; p++) {
		if (n + (stands_for_itself(name, p) ? 1 : 3) >= NAMING_MAX)
			return (err_set(err, ENAMETOOLONG, "machine %.60s...", name));
		if (stands_for_itself(name, p))
			out[n++] = *p;
		else
			n += (size_t)snprintf(out + n, 4, "%%%02X", (unsigned char)*p);
	}
	out[n] = '\0';
	return (0);
}

void
point_name(time_t t, unsigned int suffix, char out[NAMING_MAX])
{
	struct tm tm;
	size_t n;

	gmtime_r(&t, &tm);
	n = strftime(out, NAMING_MAX, "%Y-%m-%dT%H%M%SZ", &tm);
	if (suffix > 1)
		snprintf(out + n, NAMING_MAX - n, "-%u", suffix);
}

/* What is parsed must be what would have been written: that also refuses the 31st of February. */
bool
point_name_parse(const char *name, time_t *t, unsigned int *suffix)
{
	char again[NAMING_MAX];
	struct tm tm = { 0 };
	const char *rest;

	if (strlen(name) > 40 || strspn(name, "0123456789") != 4 || (rest = strptime(name, "%Y-%m-%dT%H%M%SZ", &tm)) == NULL)
		return (false);
	*suffix = 1;
	if (*rest == '-')
		*suffix = (unsigned int)strtoul(rest + 1, NULL, 10);
	*t = timegm(&tm);
	point_name(*t, *suffix, again);
	return (strcmp(name, again) == 0);
}

bool
name_has_ending(const char *name, const char *ending)
{
	size_t n = strlen(name), e = strlen(ending);

	return (n > e && strcmp(name + n - e, ending) == 0);
}

void
time_rfc3339(time_t t, char out[RFC3339_LEN])
{
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(out, RFC3339_LEN, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

bool
time_parse_rfc3339(const char *text, time_t *t)
{
	char again[RFC3339_LEN];
	struct tm tm = { 0 };
	const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%SZ", &tm);

	if (rest == NULL || *rest != '\0')
		return (false);
	*t = timegm(&tm);
	time_rfc3339(*t, again);
	return (strcmp(text, again) == 0);
}

int
point_spec_parse(const char *text, struct point_spec *out, struct err *err)
{
	const char *at = strrchr(text, '@');
	size_t n = 0;

	if (at == NULL || at == text || at[1] == '\0' || (size_t)(at - text) >= sizeof(out->vm) || strlen(at) >= sizeof(out->prefix))
		return (err_set(err, 0, "\"%s\" is not a restore point: write VM@latest, VM@2026-11-22T01:30:00Z or the beginning of a time",
		    text));
	memcpy(out->vm, text, (size_t)(at - text));
	out->vm[at - text] = '\0';
	if (strcmp(at + 1, "latest") != 0)
		for (const char *p = at + 1; *p != '\0'; p++)
			if (*p != ':')
				out->prefix[n++] = *p;
	out->prefix[n] = '\0';
	if (n == 0 && strcmp(at + 1, "latest") != 0)
		return (err_set(err, 0, "\"%s\" names no time: write VM@latest or the beginning of a time", text));
	return (0);
}

/* Length of the UTF-8 sequence at p, 0 when it is none (RFC 3629), or a control character. */
static size_t
utf8_len(const unsigned char *p)
{
	size_t n = *p < 0x80 ? 1 : *p >= 0xc2 && *p < 0xe0 ? 2 : (*p & 0xf0) == 0xe0 ? 3 : *p >= 0xf0 && *p < 0xf5 ? 4 : 0;

	if (n == 1)
		return (*p >= 0x20 && *p != 0x7f ? 1 : 0);
	for (size_t i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return (0);
	if ((*p == 0xe0 && p[1] < 0xa0) || (*p == 0xed && p[1] >= 0xa0) || (*p == 0xf0 && p[1] < 0x90) || (*p == 0xf4 && p[1] >= 0x90) ||
	    (*p == 0xc2 && p[1] < 0xa0))
		return (0);
	return (n);
}

const char *
point_spec_format(const char *vm, time_t t, unsigned int suffix, char out[2 * NAMING_MAX])
{
	char time_text[RFC3339_LEN];

	time_rfc3339(t, time_text);
	if (suffix > 1)
		snprintf(out, 2 * NAMING_MAX, "%.255s@%s-%u", vm, time_text, suffix);
	else
		snprintf(out, 2 * NAMING_MAX, "%.255s@%s", vm, time_text);
	return (out);
}

bool
utf8_valid(const char *s)
{
	const unsigned char *p = (const unsigned char *)s;
	size_t n;

	for (; *p != '\0'; p += n)
		if ((n = utf8_len(p)) == 0)
			return (false);
	return (true);
}

char *
utf8_clean(char *s)
{
	size_t n;

	for (char *p = s; *p != '\0'; p += n)
		if ((n = utf8_len((const unsigned char *)p)) == 0) {
			*p = '?';
			n = 1;
		}
	return (s);
}

bool
member_name_valid(const char *s)
{
	return (s[0] != '\0' && strcmp(s, ".") != 0 && strcmp(s, "..") != 0 && strchr(s, '/') == NULL && utf8_valid(s));
}
