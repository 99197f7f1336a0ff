#include "calendar/zone.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/io.h"
#include "calendar/civil.h"
#include "calendar/zone_rule.h"

#define FOLDER		"/usr/share/zoneinfo"
#define MAX_FILE	(64 * 1024)	/* bytes; the largest of the database has 4 KiB */
#define HEADER		44u		/* bytes */
#define MAX_NAME	200u
#define MAX_OFFSET	(26 * 3600)	/* seconds; RFC 9636 asks for less than 26 hours */

struct zone {
	int64_t		*at;		/* when the offset changes, rising */
	int32_t		*offset;	/* one more than changes: offset[i] is in force before at[i] */
	size_t		 n;
	char		 abbreviation[2][ZONE_ABBREVIATION];	/* the last ones of standard and daylight saving time; or empty */
	bool		 has_rule;	/* what comes after the last change */
	struct zone_rule rule;
};

/* The part of a TZif file with 64-bit times: where its pieces are. */
struct tzif {
	const unsigned char	*times, *indexes, *types, *chars, *footer, *end;
	size_t			 ntimes, ntypes, nchars;
};

static uint32_t
be32(const unsigned char *p)
{
	return ((uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3]);
}

static int64_t
be64(const unsigned char *p)
{
	return ((int64_t)((uint64_t)be32(p) << 32 | be32(p + 4)));
}

/* The bytes of the data behind a header, or 0 when the header is none or the data is not all there. */
static size_t
body_bytes(const unsigned char *h, size_t len, size_t time_bytes)
{
	uint64_t n;

	if (len < HEADER || memcmp(h, "TZif", 4) != 0)
		return (0);
	/* isutcnt, isstdcnt, leapcnt, timecnt, typecnt, charcnt */
	n = (uint64_t)be32(h + 20) + be32(h + 24) + be32(h + 28) * (uint64_t)(time_bytes + 4) + be32(h + 32) * (uint64_t)(time_bytes + 1) +
	    be32(h + 36) * UINT64_C(6) + be32(h + 40);
	return (n > 0 && n <= len - HEADER ? (size_t)n : 0);
}

static bool
tzif_open(struct tzif *f, const unsigned char *p, size_t len)
{
	const unsigned char *h;
	size_t n = body_bytes(p, len, 4);

	/* Version 1 has 32-bit times only; every database of this century has the second part. */
	if (n == 0 || p[4] < '2')
		return (false);
	h = p + HEADER + n;
	if ((n = body_bytes(h, len - HEADER - n, 8)) == 0 || be32(h + 28) != 0)
		return (false);
	f->ntimes = be32(h + 32);
	f->ntypes = be32(h + 36);
	f->nchars = be32(h + 40);
	f->times = h + HEADER;
	f->indexes = f->times + f->ntimes * 8;
	f->types = f->indexes + f->ntimes;
	f->chars = f->types + f->ntypes * 6;
	f->footer = h + HEADER + n;
	f->end = p + len;
	return (f->ntypes > 0);
}

/* The offset of a type; the abbreviation is noted, so that in the end the last ones are. */
static bool
take_type(struct zone *z, const struct tzif *f, size_t type, int32_t *offset)
{
	const unsigned char *p = f->types + type * 6;
	size_t at, n = 0;

	if (type >= f->ntypes || p[4] > 1 || (at = p[5]) >= f->nchars)
		return (false);
	*offset = (int32_t)be32(p);
	while (at + n < f->nchars && f->chars[at + n] != '\0')
		n++;
	if (at + n == f->nchars || *offset <= -MAX_OFFSET || *offset >= MAX_OFFSET)
		return (false);
	snprintf(z->abbreviation[p[4]], ZONE_ABBREVIATION, "%.*s", (int)n, (const char *)f->chars + at);
	return (true);
}

static bool
take_footer(struct zone *z, const struct tzif *f)
{
	char text[128];
	size_t n = (size_t)(f->end - f->footer);

	if (n < 2 || n > sizeof(text) || f->footer[0] != '\n' || f->footer[n - 1] != '\n')
		return (false);
	memcpy(text, f->footer + 1, n - 2);
	text[n - 2] = '\0';
	z->has_rule = text[0] != '\0';
	if (!z->has_rule)
		return (true);
	if (memchr(text, '\0', n - 2) != NULL || !zone_rule_parse(text, &z->rule))
		return (false);
	memcpy(z->abbreviation, z->rule.abbreviation, z->rule.has_dst ? sizeof(z->abbreviation) : ZONE_ABBREVIATION);
	return (true);
}

/* Whether the bytes are a zone; ${z} holds it, or what is left to free. */
static bool
take_file(struct zone *z, const unsigned char *p, size_t len)
{
	struct tzif f;

	if (!tzif_open(&f, p, len) || (z->at = calloc(f.ntimes + 1, sizeof(*z->at))) == NULL ||
	    (z->offset = calloc(f.ntimes + 1, sizeof(*z->offset))) == NULL || !take_type(z, &f, 0, &z->offset[0]))
		return (false);
	for (z->n = 0; z->n < f.ntimes; z->n++) {
		z->at[z->n] = be64(f.times + z->n * 8);
		if ((z->n > 0 && z->at[z->n] <= z->at[z->n - 1]) || !take_type(z, &f, f.indexes[z->n], &z->offset[z->n + 1]))
			return (false);
	}
	return (take_footer(z, &f));
}

static struct zone *
zone_new(struct err *err)
{
	struct zone *z = calloc(1, sizeof(*z));

	if (z == NULL)
		err_nomem(err);
	return (z);
}

static struct zone *
zone_read(const char *path, struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	unsigned char *p = NULL;
	struct zone *z = NULL;
	ssize_t n = -1;

	if (fd == -1) {
		err_set(err, errno, "time zone %s", path);
		return (NULL);
	}
	if ((p = malloc(MAX_FILE)) == NULL || (z = zone_new(err)) == NULL)
		err_nomem(err);
	else if ((n = io_pread(fd, p, MAX_FILE, 0)) == -1)
		err_set(err, errno, "time zone %s", path);
	else if (n == MAX_FILE || !take_file(z, p, (size_t)n)) {
		err_set(err, 0, "time zone %s: not a zone file that this program understands", path);
		n = -1;
	}
	io_close(&fd);
	free(p);
	if (n == -1) {
		zone_free(z);
		return (NULL);
	}
	return (z);
}

/* As systemd: no way out of the database's folder, nothing odd. */
static bool
is_zone_name(const char *name)
{
	size_t n = strlen(name);

	return (n > 0 && n < MAX_NAME && name[0] != '/' && name[n - 1] != '/' && strstr(name, "//") == NULL && strstr(name, "..") == NULL &&
	    strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/") == n);
}

struct zone *
zone_named(const char *name, struct err *err)
{
	const char *folder = getenv("TZDIR");
	char path[PATH_MAX];
	struct zone *z;

	if (!is_zone_name(name)) {
		err_plain(err, ENOENT, "\"%.60s\" is not the name of a time zone like Europe/Berlin", name);
		return (NULL);
	}
	if (folder == NULL || folder[0] != '/' || strlen(folder) + MAX_NAME > sizeof(path))
		folder = FOLDER;
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	if ((z = zone_read(path, err)) == NULL && (err->code == EISDIR || err->code == ENOTDIR))
		err->code = ENOENT;
	return (z);
}

struct zone *
zone_utc(struct err *err)
{
	struct zone *z = zone_new(err);

	if (z != NULL) {
		z->has_rule = true;
		(void)zone_rule_parse("UTC0", &z->rule);
		memcpy(z->abbreviation, z->rule.abbreviation, sizeof(z->abbreviation));
	}
	return (z);
}

/* TZ when it is no file's name. */
static struct zone *
zone_of_rule(const char *text, struct err *err)
{
	struct zone *z = zone_utc(err);
	struct zone_rule r;

	if (z != NULL && zone_rule_parse(text, &r)) {
		z->rule = r;
		memcpy(z->abbreviation, r.abbreviation, sizeof(z->abbreviation));
	}
	return (z);
}

struct zone *
zone_local(struct err *err)
{
	const char *tz = getenv("TZ");
	struct err why = ERR_INIT;
	struct zone *z;

	if (tz == NULL)
		tz = "/etc/localtime";
	else if (tz[0] == '\0')
		return (zone_utc(err));
	if (tz[0] == ':')
		tz++;
	z = tz[0] == '/' ? zone_read(tz, &why) : zone_named(tz, &why);
	return (z != NULL ? z : zone_of_rule(tz, err));
}

void
zone_free(struct zone *z)
{
	if (z == NULL)
		return;
	free(z->at);
	free(z->offset);
	free(z);
}

/* The offset in force at ${t}, and until before which moment. */
static int
segment(const struct zone *z, int64_t t, int64_t *until)
{
	size_t lo = 0, hi = z->n;
	int64_t from;

	while (lo < hi) {	/* how many changes are at or before t */
		size_t mid = lo + (hi - lo) / 2;

		if (z->at[mid] <= t)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo == z->n && z->has_rule)
		return (zone_rule_segment(&z->rule, t, &from, until));
	*until = lo < z->n ? z->at[lo] : INT64_MAX;
	return (z->offset[lo]);
}

int
zone_offset(const struct zone *z, time_t t)
{
	int64_t until;

	return (segment(z, t, &until));
}

bool
zone_has_abbreviation(const struct zone *z, const char *text)
{
	for (int i = 0; i < 2; i++)
		if (z->abbreviation[i][0] != '\0' && strcasecmp(z->abbreviation[i], text) == 0)
			return (true);
	return (false);
}

bool
zone_wall(const struct zone *z, int64_t *wall, time_t after, time_t *t)
{
	int64_t at = *wall - 2 * CIVIL_DAY, until, moment;
	int offset;

	/* What the wall shows at ${at} is not later than *wall, and from there on the segments are looked through one by one. */
	if (at <= after)
		at = (int64_t)after + 1;
	for (;; at = until) {
		offset = segment(z, at, &until);
		moment = *wall - offset;
		if (moment < at) {
			*wall = at + offset;
			return (false);
		}
		if (moment < until) {
			*t = moment;
			return (true);
		}
	}
}
