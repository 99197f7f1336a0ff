#include "archive/tar_parse.h"

#include <stdlib.h>
#include <string.h>

enum { H_NAME = 0, H_SIZE = 124, H_TYPE = 156, H_PREFIX = 345 };

void
tar_pax_reset(struct tar_pax *x)
{
	x->sparse = x->foreign = false;
	x->sparse_name[0] = x->path[0] = '\0';
	x->realsize = UINT64_MAX;
	buf_reset(&x->extents);
}

static bool
key_is(const char *key, size_t n, const char *want)
{
	return (n == strlen(want) && memcmp(key, want, n) == 0);
}

/* One that is too long is none of ours. */
static void
take_name(char out[TAR_NAME_LEN], const char *value, size_t n)
{
	if (n >= TAR_NAME_LEN)
		n = 0;
	memcpy(out, value, n);
	out[n] = '\0';
}

static int
take_record(struct tar_pax *x, const char *key, size_t keylen, const char *value, size_t n, struct err *err)
{
	if (key_is(key, keylen, "GNU.sparse.major"))
		x->sparse = true;
	else if (key_is(key, keylen, "GNU.sparse.realsize"))
		x->realsize = strtoull(value, NULL, 10);
	else if (key_is(key, keylen, "GNU.sparse.name"))
		take_name(x->sparse_name, value, n);
	else if (key_is(key, keylen, "path"))
		take_name(x->path, value, n);
	else if (key_is(key, keylen, "OPENVIRT.source"))
		x->foreign = true;
	else if (key_is(key, keylen, "OPENVIRT.extents")) {
		buf_reset(&x->extents);
		return (buf_add(&x->extents, value, n, err));
	}
	return (0);
}

int
tar_parse_pax(struct tar_pax *x, const char *text, size_t len, struct err *err)
{
	const char *p = text, *end = text + len, *key, *value;
	char *rest;
	size_t n;

	tar_pax_reset(x);
	for (; p < end && *p >= '1' && *p <= '9'; p += n) {
		n = strtoul(p, &rest, 10);
		if (n > (size_t)(end - p) || rest >= p + n || *rest != ' ' || p[n - 1] != '\n')
			break;
		key = rest + 1;
		if ((value = memchr(key, '=', (size_t)(p + n - key))) == NULL)
			break;
		value++;
		if (take_record(x, key, (size_t)(value - 1 - key), value, (size_t)(p + n - 1 - value), err) == -1)
			return (-1);
	}
	return (0);
}

bool
tar_parse_size(const uint8_t *h, uint64_t *size)
{
	const uint8_t *p = h + H_SIZE;

	*size = 0;
	if (p[0] == 0x80) {
		for (int i = 4; i < 12; i++)
			*size = *size << 8 | p[i];
		return (*size <= INT64_MAX);
	}
	for (int i = 0; i < 12 && p[i] != '\0' && p[i] != ' '; i++) {
		if (p[i] < '0' || p[i] > '7')
			return (false);
		*size = *size << 3 | (uint64_t)(p[i] - '0');
	}
	return (true);
}

bool
tar_parse_name(const uint8_t *h, const struct tar_pax *x, char name[TAR_NAME_LEN])
{
	size_t n = strnlen((const char *)h + H_NAME, 100);

	if (x->path[0] != '\0')
		memcpy(name, x->path, TAR_NAME_LEN);
	else {
		memcpy(name, h + H_NAME, n);
		name[n] = '\0';
	}
	return (name[0] != '\0' && (h[H_TYPE] == '0' || h[H_TYPE] == '\0') && (x->path[0] != '\0' || h[H_PREFIX] == '\0'));
}

size_t
tar_parse_piece(const char *name)
{
	const char *slash = strrchr(name, '/');

	if (slash == NULL || slash - name < 7 || memcmp(slash - 6, ".delta", 6) != 0 || strlen(slash + 1) < 6 ||
	    strspn(slash + 1, "0123456789") != strlen(slash + 1))
		return (0);
	return ((size_t)(slash - 6 - name));
}

/* A decimal number that is followed by one of ${after}. */
static bool
parse_number(const char **p, uint64_t *out, char after, char or_after)
{
	size_t n = strspn(*p, "0123456789");

	if (n == 0 || n > 18 || ((*p)[n] != after && (*p)[n] != or_after))
		return (false);
	*out = strtoull(*p, NULL, 10);
	*p += n;
	return (true);
}

/* "offset+length" and the comma or the end after it. */
static bool
parse_pair(const char **p, struct extent *e)
{
	if (!parse_number(p, &e->offset, '+', '+'))
		return (false);
	++*p;
	if (!parse_number(p, &e->length, ',', '\0') || e->length == 0)
		return (false);
	*p += **p == ',';
	return (true);
}

struct extents *
tar_parse_extents(const char *text, uint64_t *first, struct err *err)
{
	const char *comma = strrchr(text, ','), *p = comma != NULL ? comma + 1 : text;
	struct extents *ex = NULL;
	uint64_t sum = 0;
	struct extent e;

	if (!parse_pair(&p, &e) || (ex = extents_new(e.offset + e.length, err)) == NULL)
		goto malformed;
	for (p = text; *p != '\0'; sum += e.length) {
		if (!parse_pair(&p, &e) || extents_add(ex, e.offset, e.length, err) == -1)
			goto malformed;
		if (sum == 0)
			*first = e.offset;
	}
	/* The map is widened to whole sectors, and joins what overlaps: neither may have been there. */
	if (extents_end(ex, err) == 0 && ex->bytes == sum)
		return (ex);
malformed:
	extents_free(ex);
	err_set(err, 0, "the extents of a piece are malformed");
	return (NULL);
}
