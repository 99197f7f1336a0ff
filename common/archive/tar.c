#include "archive/tar.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Offsets in a ustar header: POSIX.1-2017, pax, "ustar Interchange Format". */
enum { H_NAME = 0, H_MODE = 100, H_UID = 108, H_GID = 116, H_SIZE = 124, H_MTIME = 136, H_SUM = 148, H_TYPE = 156, H_MAGIC = 257,
	H_UNAME = 265, H_GNAME = 297 };

#define NAME_FIELD	100u			/* bytes of a name in the header; the last need not be zero */
#define OCTAL_SIZE_MAX	UINT64_C(077777777777)	/* what 11 octal digits hold: 8 GiB - 1 */

/* Octal while it fits, else GNU's base-256: the first bit set, then big-endian. */
static void
put_size(uint8_t *h, uint64_t size)
{
	char digits[13];

	if (size <= OCTAL_SIZE_MAX) {
		snprintf(digits, sizeof(digits), "%011" PRIo64, size);
		memcpy(h + H_SIZE, digits, 12);
		return;
	}
	memset(h + H_SIZE, 0, 12);
	h[H_SIZE] = 0x80;
	for (int i = 11; i >= 4; i--, size >>= 8)
		h[H_SIZE + i] = (uint8_t)size;
}

static void
put_header(uint8_t h[TAR_BLOCK], const char *name, char type, uint64_t size, int64_t mtime)
{
	unsigned int sum = 0;
	char field[16];

	memset(h, 0, TAR_BLOCK);
	memcpy(h + H_NAME, name, strnlen(name, NAME_FIELD));
	memcpy(h + H_MODE, "0000600", 8);
	memcpy(h + H_UID, "0000000", 8);
	memcpy(h + H_GID, "0000000", 8);
	put_size(h, size);
	snprintf(field, sizeof(field), "%011" PRIo64, mtime < 0 ? 0 : (uint64_t)mtime & OCTAL_SIZE_MAX);
	memcpy(h + H_MTIME, field, 12);
	h[H_TYPE] = (uint8_t)type;
	memcpy(h + H_MAGIC, "ustar\00000", 8);
	memcpy(h + H_UNAME, "root", 4);
	memcpy(h + H_GNAME, "root", 4);
	memset(h + H_SUM, ' ', 8);
	for (size_t i = 0; i < TAR_BLOCK; i++)
		sum += h[i];
	snprintf(field, sizeof(field), "%06o", sum);
	memcpy(h + H_SUM, field, 7);
}

/* How many bytes of a name to put in a ustar header, where the pax header carries it whole: no character is cut apart. */
static int
short_len(const char *name)
{
	size_t n = strnlen(name, 80);

	while (n > 0 && ((unsigned char)name[n] & 0xc0) == 0x80)
		n--;
	return ((int)n);
}

/* "<length> <key>=<value>\n", where the length counts its own digits. */
static int
add_pax(struct buf *out, const char *key, const char *value, struct err *err)
{
	size_t body = strlen(key) + strlen(value) + 3, len = body + 1;
	char digits[24];

	while (body + (size_t)snprintf(digits, sizeof(digits), "%zu", len) != len)
		len = body + strlen(digits);
	return (buf_addf(out, err, "%zu %s=%s\n", len, key, value));
}

/* The header of type x with these records, for the member that follows. */
static int
add_pax_header(struct buf *out, const char *name, const struct buf *pax, int64_t mtime, struct err *err)
{
	static const uint8_t zeroes[TAR_BLOCK];
	uint8_t h[TAR_BLOCK];
	char text[128];

	snprintf(text, sizeof(text), "PaxHeaders/%.*s", short_len(name), name);
	put_header(h, text, 'x', pax->len, mtime);
	if (buf_add(out, h, TAR_BLOCK, err) == -1 || buf_add(out, pax->ptr, pax->len, err) == -1)
		return (-1);
	return (buf_add(out, zeroes, tar_padding(pax->len), err));
}

/* Whether a map ends with the entry (size, 0): a hole, or nothing at all, is last. */
static bool
map_is_closed(const struct extents *ex)
{
	return (ex->count == 0 || ex->data_end < ex->size);
}

uint64_t
tar_sparse_entries(const struct extents *ex)
{
	return (ex->count + map_is_closed(ex));
}

/* Give the entries, as text, one by one. */
static int
map_walk(const struct extents *ex, int (*fn)(void *, const char *, size_t, struct err *), void *arg, struct err *err)
{
	struct spool_cursor *c = malloc(sizeof(*c));
	struct extent e;
	char text[64];
	int n, r;

	if (c == NULL)
		return (err_nomem(err));
	n = snprintf(text, sizeof(text), "%" PRIu64 "\n", tar_sparse_entries(ex));
	r = fn(arg, text, (size_t)n, err);
	spool_cursor_init(c, ex->spool);
	while (r == 0 && (r = extents_next(c, &e, err)) == 1) {
		n = snprintf(text, sizeof(text), "%" PRIu64 "\n%" PRIu64 "\n", e.offset, e.length);
		r = fn(arg, text, (size_t)n, err);
	}
	if (r == 0 && map_is_closed(ex)) {
		n = snprintf(text, sizeof(text), "%" PRIu64 "\n0\n", ex->size);
		r = fn(arg, text, (size_t)n, err);
	}
	free(c);
	return (r);
}

static int
map_count(void *arg, const char *text, size_t n, struct err *err)
{
	(void)text;
	(void)err;
	*(uint64_t *)arg += n;
	return (0);
}

uint64_t
tar_sparse_stored(const struct extents *ex, struct err *err)
{
	uint64_t length = 0;

	if (map_walk(ex, map_count, &length, err) == -1)
		return (UINT64_MAX);
	return (length + tar_padding(length) + ex->bytes);
}

int
tar_sparse_header(struct buf *out, const char *name, const struct extents *ex, int64_t mtime, struct err *err)
{
	struct buf pax = BUF_INIT;
	uint8_t h[TAR_BLOCK];
	uint64_t stored;
	char text[128];
	int rc = -1;

	if ((stored = tar_sparse_stored(ex, err)) == UINT64_MAX)
		return (-1);
	snprintf(text, sizeof(text), "%" PRIu64, ex->size);
	if (add_pax(&pax, "GNU.sparse.major", "1", err) == -1 || add_pax(&pax, "GNU.sparse.minor", "0", err) == -1 ||
	    add_pax(&pax, "GNU.sparse.name", name, err) == -1 || add_pax(&pax, "GNU.sparse.realsize", text, err) == -1)
		goto out;
	if (add_pax_header(out, name, &pax, mtime, err) == -1)
		goto out;
	snprintf(text, sizeof(text), "GNUSparseFile.0/%.*s", short_len(name), name);
	put_header(h, text, '0', stored, mtime);
	rc = buf_add(out, h, TAR_BLOCK, err);
out:
	buf_free(&pax);
	return (rc);
}

/* Gathers a map's text in pieces of some size. */
struct map_text {
	struct buf	 text;
	uint64_t	 length;	/* of all pieces so far */
	int		(*emit)(void *, const void *, size_t, struct err *);
	void		*arg;
};

static int
map_gather(void *arg, const char *text, size_t n, struct err *err)
{
	struct map_text *m = arg;

	m->length += n;
	if (buf_add(&m->text, text, n, err) == -1)
		return (-1);
	if (m->text.len < 65536)
		return (0);
	if (m->emit(m->arg, m->text.ptr, m->text.len, err) == -1)
		return (-1);
	buf_reset(&m->text);
	return (0);
}

int
tar_sparse_map(const struct extents *ex, int (*emit)(void *, const void *, size_t, struct err *), void *arg, struct err *err)
{
	static const uint8_t zeroes[TAR_BLOCK];
	struct map_text m = { BUF_INIT, 0, emit, arg };
	int rc = -1;

	if (map_walk(ex, map_gather, &m, err) == 0 && buf_add(&m.text, zeroes, tar_padding(m.length), err) == 0)
		rc = m.text.len > 0 ? emit(arg, m.text.ptr, m.text.len, err) : 0;
	buf_free(&m.text);
	return (rc);
}

int
tar_plain_header(struct buf *out, const char *name, uint64_t size, int64_t mtime, struct err *err)
{
	struct buf pax = BUF_INIT;
	uint8_t h[TAR_BLOCK];
	char cut[128];
	int rc = -1;

	if (strlen(name) > NAME_FIELD) {
		if (add_pax(&pax, "path", name, err) == -1 || add_pax_header(out, name, &pax, mtime, err) == -1)
			goto out;
		snprintf(cut, sizeof(cut), "%.*s", short_len(name), name);
		name = cut;
	}
	put_header(h, name, '0', size, mtime);
	rc = buf_add(out, h, TAR_BLOCK, err);
out:
	buf_free(&pax);
	return (rc);
}

int
tar_piece_header(struct buf *out, const struct tar_piece *p, struct err *err)
{
	struct buf pax = BUF_INIT, name = BUF_INIT;
	uint8_t h[TAR_BLOCK];
	char cut[128];
	int rc = -1;

	if (buf_addf(&name, err, "%s.delta/%06u", p->member, p->number) == -1)
		goto out;
	if ((name.len > NAME_FIELD && add_pax(&pax, "path", name.ptr, err) == -1) || add_pax(&pax, "OPENVIRT.extents", p->extents, err) == -1 ||
	    (p->source != NULL && add_pax(&pax, "OPENVIRT.source", p->source, err) == -1) || add_pax_header(out, name.ptr, &pax, p->mtime, err) == -1)
		goto out;
	snprintf(cut, sizeof(cut), "%.*s", name.len > NAME_FIELD ? short_len(name.ptr) : (int)name.len, name.ptr);
	put_header(h, cut, '0', p->size, p->mtime);
	rc = buf_add(out, h, TAR_BLOCK, err);
out:
	buf_free(&name);
	buf_free(&pax);
	return (rc);
}
