#include "archive_scan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bare_index.h"
#include "extent.h"
#include "frame_stream.h"
#include "io.h"
#include "tar.h"

#define PAX_MAX		65536u		/* bytes of a pax header that are looked at; longer ones are none of ours */
#define NUMBER_MAX	20u		/* digits of a number in a map */

enum state { IN_HEADER, IN_PAX, IN_MAP, IN_DATA, IN_PLAIN };

struct scan {
	struct index_writer	*iw;
	struct frame_stream	*fs;
	const struct codec	*codec;
	enum state		 state;
	struct buf		 header;	/* of the header, or the pax records, so far */
	uint64_t		 left;		/* bytes of the member and its padding that are still to come */
	uint64_t		 tar_offset;

	/* From the pax header, for the member that follows. */
	char			 name[INDEX_NAME_LEN];
	uint64_t		 realsize;
	bool			 sparse;

	/* The map being read, and the disk whose data comes. */
	struct extents		*ex;
	uint64_t		 entries, numbers, number, offset, map_read, stored;
	unsigned int		 digits;
	uint32_t		 source;
	struct spool_cursor	 cursor;
	struct extent		 now;		/* the extent being read; length: what is left of it */
	uint32_t		 ndisks;
	struct index_block	*blocks;	/* of one frame */
	uint8_t			 secret[SECRET_LEN];
};

static int
bad(struct err *err, const char *what)
{
	return (err_set(err, 0, "its tar stream cannot be understood: %s", what));
}

/* Octal, or GNU's base-256. */
static int
parse_size(const uint8_t *h, uint64_t *size, struct err *err)
{
	*size = 0;
	if (h[0] == 0x80) {
		for (int i = 4; i < 12; i++)
			*size = *size << 8 | h[i];
		return (*size > INT64_MAX ? bad(err, "a size is out of range") : 0);
	}
	for (int i = 0; i < 12 && h[i] != '\0' && h[i] != ' '; i++) {
		if (h[i] < '0' || h[i] > '7')
			return (bad(err, "a size is not octal"));
		*size = *size << 3 | (uint64_t)(h[i] - '0');
	}
	return (0);
}

static void
parse_pax(struct scan *s)
{
	const char *p = s->header.ptr, *end = p + s->header.len, *key, *value;
	char *rest;
	size_t len;

	s->sparse = false;
	s->name[0] = '\0';
	s->realsize = UINT64_MAX;
	for (; p < end && *p != '\0'; p += len) {
		len = strtoul(p, &rest, 10);
		if (len == 0 || len > (size_t)(end - p) || *rest != ' ' || p[len - 1] != '\n')
			return;
		key = rest + 1;
		if ((value = memchr(key, '=', (size_t)(p + len - key))) == NULL)
			return;
		value++;
		if (strncmp(key, "GNU.sparse.major=", 17) == 0)
			s->sparse = true;
		else if (strncmp(key, "GNU.sparse.realsize=", 20) == 0)
			s->realsize = strtoull(value, NULL, 10);
		else if (strncmp(key, "GNU.sparse.name=", 16) == 0 && (size_t)(p + len - value) <= INDEX_NAME_LEN) {
			memcpy(s->name, value, (size_t)(p + len - value - 1));
			s->name[p + len - value - 1] = '\0';
		}
	}
}

static int
begin_map(struct scan *s, struct err *err)
{
	if (s->realsize > INT64_MAX || s->name[0] == '\0')
		return (bad(err, "a sparse member has no name or size"));
	if ((s->ex = extents_new(s->realsize, err)) == NULL)
		return (-1);
	s->entries = s->numbers = s->number = s->map_read = 0;
	s->digits = 0;
	s->state = IN_MAP;
	return (0);
}

static int
end_header(struct scan *s, struct err *err)
{
	const uint8_t *h = (const uint8_t *)s->header.ptr;
	uint64_t size;
	bool sparse = s->sparse;

	buf_reset(&s->header);
	if (bytes_are_zero(h, TAR_BLOCK))
		return (0);
	if (parse_size(h + 124, &size, err) == -1 || memcmp(h + 257, "ustar", 5) != 0)
		return (bad(err, "a header is no ustar header"));
	s->left = size + tar_padding(size);
	s->stored = size;
	if (h[156] == 'x') {
		s->state = size <= PAX_MAX ? IN_PAX : IN_PLAIN;
		return (0);
	}
	s->sparse = false;
	if (sparse)
		return (begin_map(s, err));
	s->state = s->left > 0 ? IN_PLAIN : IN_HEADER;
	return (0);
}

/* The name without its ending is the target's, as for images (and vda.img is vda). */
static void
target_of(const char *member, char target[INDEX_NAME_LEN])
{
	const char *dot = strrchr(member, '.');
	size_t n = dot != NULL && dot != member ? (size_t)(dot - member) : strlen(member);

	memset(target, 0, INDEX_NAME_LEN);
	memcpy(target, member, n);
}

static int
end_map(struct scan *s, struct err *err)
{
	struct index_disk d = { .size = s->realsize, .data_offset = s->tar_offset, .map_entries = s->entries, .header_offset = NO_OFFSET };
	int n;

	if (extents_end(s->ex, err) == -1)
		return (-1);
	if (s->map_read + s->ex->bytes != s->stored)
		return (bad(err, "a map does not fit its member"));
	memcpy(d.member, s->name, sizeof(d.member));
	target_of(s->name, d.target);
	if ((n = index_writer_disk(s->iw, &d, err)) == -1)
		return (-1);
	s->ndisks++;
	s->source = (uint32_t)n;
	s->left = s->ex->bytes + tar_padding(s->ex->bytes);
	spool_cursor_init(&s->cursor, s->ex->spool);
	s->now.length = 0;
	s->state = s->ex->bytes > 0 ? IN_DATA : IN_HEADER;
	return (0);
}

static int
add_number(struct scan *s, struct err *err)
{
	if (s->digits == 0)
		return (bad(err, "a map has an empty number"));
	if (s->numbers++ == 0)
		s->entries = s->number;
	else if (s->numbers % 2 == 0)
		s->offset = s->number;
	else if (extents_add(s->ex, s->offset, s->number, err) == -1)
		return (-1);
	s->number = 0;
	s->digits = 0;
	return (0);
}

/* Whether all numbers of the map are there: then only its padding comes. */
static bool
map_is_complete(const struct scan *s)
{
	return (s->numbers > 0 && s->numbers == 2 * s->entries + 1);
}

static int
take_map(struct scan *s, const uint8_t *p, size_t n, struct err *err)
{
	for (size_t i = 0; i < n && !map_is_complete(s); i++) {
		if (p[i] == '\n') {
			if (add_number(s, err) == -1)
				return (-1);
		} else if (p[i] < '0' || p[i] > '9' || ++s->digits >= NUMBER_MAX)
			return (bad(err, "a map holds something other than numbers"));
		else
			s->number = s->number * 10 + (uint64_t)(p[i] - '0');
	}
	return (0);
}

/* What of the bytes at hand belongs to the state: headers, maps and padding are whole blocks of 512. */
static int
take_meta(struct scan *s, const uint8_t *p, size_t n, size_t *used, struct err *err)
{
	size_t want;

	switch (s->state) {
	case IN_HEADER:
		want = TAR_BLOCK - s->header.len;
		*used = n < want ? n : want;
		if (buf_add(&s->header, p, *used, err) == -1)
			return (-1);
		return (s->header.len == TAR_BLOCK ? end_header(s, err) : 0);
	case IN_PAX:
		*used = n < s->left ? n : (size_t)s->left;
		if (buf_add(&s->header, p, *used, err) == -1)
			return (-1);
		if ((s->left -= *used) == 0) {
			parse_pax(s);
			buf_reset(&s->header);
			s->state = IN_HEADER;
		}
		return (0);
	case IN_MAP:
		want = TAR_BLOCK - (size_t)(s->map_read % TAR_BLOCK);
		*used = n < want ? n : want;
		if (take_map(s, p, *used, err) == -1)
			return (-1);
		s->map_read += *used;
		s->tar_offset += *used;
		if (s->map_read % TAR_BLOCK == 0 && map_is_complete(s) && end_map(s, err) == -1)
			return (-1);
		s->tar_offset -= *used;
		return (0);
	default:
		*used = n < s->left ? n : (size_t)s->left;
		if ((s->left -= *used) == 0)
			s->state = IN_HEADER;
		return (0);
	}
}

/* Cut a data frame into its blocks; it holds whole ones. */
static int
cut_blocks(struct scan *s, const uint8_t *p, size_t n, uint32_t *count, struct err *err)
{
	struct index_block *b;
	size_t at, len;
	int r;

	*count = 0;
	for (at = 0; at < n; at += len) {
		if (s->now.length == 0 && (r = extents_next(&s->cursor, &s->now, err)) != 1)
			return (r == 0 ? bad(err, "a disk has more data than its map") : -1);
		len = WINDOW_SIZE - (size_t)(s->now.offset % WINDOW_SIZE);
		if (len > s->now.length)
			len = (size_t)s->now.length;
		if (len > n - at || *count == FRAME_RAW_MAX / SECTOR + 1)
			return (bad(err, "a frame ends inside a block"));
		b = &s->blocks[(*count)++];
		b->offset = s->now.offset;
		b->length = (uint32_t)len;
		b->flags = bytes_are_zero(p + at, len) ? BLOCK_ZERO : 0;
		digest_block(s->secret, p + at, len, b->digest);
		s->now.offset += len;
		s->now.length -= len;
	}
	s->left -= n;
	return (0);
}

static int
take_frame(struct scan *s, const uint8_t *raw, size_t len, struct index_frame *f, struct err *err)
{
	struct spool_cursor cursor = s->cursor;
	struct extent now = s->now;
	size_t used = 0;

	f->tar_offset = s->tar_offset;
	f->raw = (uint32_t)len;
	if (s->state == IN_DATA && s->left > tar_padding(s->ex->bytes)) {
		f->source = s->source;
		if (cut_blocks(s, raw, len, &f->blocks, err) == -1) {
			/* None of its blocks counts: all of them are lost. */
			s->cursor = cursor;
			s->now = now;
			return (-1);
		}
		s->tar_offset += len;
		if (s->left == tar_padding(s->ex->bytes)) {
			extents_free(s->ex);
			s->ex = NULL;
			s->state = s->left > 0 ? IN_PLAIN : IN_HEADER;
		}
	} else {
		f->source = NO_SOURCE;
		for (size_t at = 0; at < len; at += used, s->tar_offset += used) {
			if (s->state == IN_DATA)
				return (bad(err, "a frame holds headers and data"));
			if (take_meta(s, raw + at, len - at, &used, err) == -1)
				return (-1);
		}
	}
	return (index_writer_frame(s->iw, f, s->blocks, err));
}

/* How much to take at once of an archive that is not compressed, where nothing marks the frames. */
static size_t
plain_piece(const struct scan *s)
{
	uint64_t n = 0, len;
	struct spool_cursor c = s->cursor;
	struct extent now = s->now;
	struct err ignored = ERR_INIT;

	if (s->state != IN_DATA)
		return (TAR_BLOCK);
	for (;;) {
		if (now.length == 0 && extents_next(&c, &now, &ignored) != 1)
			break;
		len = WINDOW_SIZE - now.offset % WINDOW_SIZE;
		if (len > now.length)
			len = now.length;
		if (n + len > FRAME_RAW_MAX)
			break;
		n += len;
		now.offset += len;
		now.length -= len;
	}
	return ((size_t)n);
}

/* Frame by frame, until the end or the first that is not good. */
static int
walk(struct scan *s, struct err *err)
{
	const uint8_t *raw;
	struct index_frame f;
	size_t len;
	int r;

	for (;;) {
		memset(&f, 0, sizeof(f));
		f.offset = frame_stream_offset(s->fs);
		if (s->codec == &codec_none)
			frame_stream_limit(s->fs, plain_piece(s));
		if ((r = frame_stream_next(s->fs, &raw, &len, err)) != 1)
			return (r);
		f.stored = (uint32_t)(frame_stream_offset(s->fs) - f.offset);
		if (len > 0 && take_frame(s, raw, len, &f, err) == -1)
			return (err_wrap(err, "the frame at offset %llu", (unsigned long long)f.offset));
	}
}

/* What of the last disk was not reached is lost, but known: it goes into the view. */
static int
note_lost(struct scan *s, struct err *err)
{
	int r;

	if (s->state != IN_DATA || s->ex == NULL)
		return (0);
	do {
		if (s->now.length > 0 && index_writer_lost(s->iw, s->source, s->now.offset, s->now.length, err) == -1)
			return (-1);
	} while ((r = extents_next(&s->cursor, &s->now, err)) == 1);
	return (r);
}

static int
emit(void *arg, const void *p, size_t n, struct err *err)
{
	struct store_file *f = arg;

	return (store_append(f, p, n, err));
}

/* The index that was gathered, by way of a temporary file. */
static struct index_reader *
finish(struct scan *s, struct err *err)
{
	struct index_place nowhere = { 0, 0 };
	struct store_file *out = NULL, *in;
	int fd, again = -1, rc = -1;

	if ((fd = io_tempfile(err)) == -1)
		return (NULL);
	if ((again = dup(fd)) == -1)
		err_set(err, errno, "cannot make a temporary file");
	else if ((out = store_stream_wrap(fd, "a temporary file", err)) != NULL)
		rc = index_writer_emit(s->iw, &nowhere, emit, out, err);
	store_file_close(out);
	io_close(&fd);
	if (rc == -1) {
		io_close(&again);
		return (NULL);
	}
	return ((in = store_dir_wrap(again, INDEX_MEMBER, err)) == NULL ? NULL : index_open(in, err));
}

static int
scan_begin(struct scan *s, struct store_file *data, struct err *err)
{
	struct index_info info;

	memset(&info, 0, sizeof(info));
	if ((s->codec = bare_codec(data, err)) == NULL)
		return (-1);
	info.codec = s->codec;
	info.level = s->codec == &codec_bz2 ? 9 : 0;
	memcpy(info.secret, s->secret, SECRET_LEN);
	if ((s->blocks = calloc(FRAME_RAW_MAX / SECTOR + 2, sizeof(*s->blocks))) == NULL)
		return (err_nomem(err));
	return ((s->iw = index_writer_new(&info, err)) == NULL || (s->fs = frame_stream_new(data, s->codec, 0, err)) == NULL ? -1 : 0);
}

struct index_reader *
archive_scan(struct store_file *data, struct buf *why, struct err *err)
{
	struct scan *s = calloc(1, sizeof(*s));
	struct index_reader *ix = NULL;
	struct err ended = ERR_INIT;

	if (s == NULL) {
		err_nomem(err);
		return (NULL);
	}
	if (scan_begin(s, data, err) == -1)
		goto out;
	if (walk(s, &ended) == -1 && buf_addf(why, err, "%s", ended.text) == -1)
		goto out;
	if (s->ndisks == 0)
		err_set(err, 0, "no disk could be found in it: %s", ended.text[0] != '\0' ? ended.text : "it holds no sparse member");
	else if (note_lost(s, err) == 0)
		ix = finish(s, err);
out:
	frame_stream_free(s->fs);
	index_writer_free(s->iw);
	extents_free(s->ex);
	buf_free(&s->header);
	free(s->blocks);
	free(s);
	return (ix);
}
