#include "archive/archive_scan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "archive/bare_index.h"
#include "archive/frame_stream.h"
#include "archive/tar.h"
#include "archive/tar_parse.h"
#include "base/extent.h"
#include "base/io.h"
#include "repository/naming.h"

#define PAX_MAX		(512u << 10)	/* bytes of a pax header that are looked at: the extents of a piece of 512-byte blocks, and more */
#define NUMBER_MAX	20u		/* digits of a number in a map */

enum state { IN_HEADER, IN_PAX, IN_MAP, IN_DATA, IN_MEMBER, IN_PLAIN };

struct scan {
	struct index_writer	*iw;
	struct frame_stream	*fs;
	const struct codec	*codec;
	enum state		 state;
	struct buf		 header;	/* of the header, or the pax records, so far */
	uint64_t		 left;		/* bytes of the member and its padding that are still to come */
	uint64_t		 tar_offset;

	struct tar_pax		 pax;		/* for the member that follows */

	/* The small member being read. */
	struct index_member	 member;
	struct digest_stream	*ds;
	uint64_t		 member_left;	/* bytes of it, without padding */
	uint32_t		 nmembers;

	/* The delta whose pieces come. */
	char			 delta[INDEX_NAME_LEN];		/* its member; empty: none yet */
	uint32_t		 delta_source;
	uint64_t		 delta_end;	/* of its last block so far */
	uint64_t		 delta_size;	/* of the disk, as far as it is known */
	const struct manifest	*manifest;	/* NULL, or what may know the disks' sizes */
	struct buf		*notes;

	/* The sparse member whose map is being read. */
	char			 name[INDEX_NAME_LEN];
	uint64_t		 realsize;

	/* The map, and the disk whose data comes. */
	struct extents		*ex;
	uint64_t		 entries, numbers, number, offset, map_read, stored;
	unsigned int		 digits;
	uint32_t		 source;
	bool			 partial;	/* the data is a piece: its map says nothing of the rest of the disk */
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

static int
begin_map(struct scan *s, struct err *err)
{
	if (s->pax.realsize > INT64_MAX || s->pax.sparse_name[0] == '\0' || strlen(s->pax.sparse_name) >= INDEX_NAME_LEN)
		return (bad(err, "a sparse member has no name or size"));
	s->realsize = s->pax.realsize;
	memcpy(s->name, s->pax.sparse_name, strlen(s->pax.sparse_name) + 1);
	if ((s->ex = extents_new(s->realsize, err)) == NULL)
		return (-1);
	s->entries = s->numbers = s->number = s->map_read = 0;
	s->digits = 0;
	s->state = IN_MAP;
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

static uint64_t
size_in_manifest(const struct scan *s, const char *member)
{
	for (size_t i = 0; s->manifest != NULL && i < s->manifest->ndisks; i++)
		if (strcmp(s->manifest->disks[i].member, member) == 0)
			return (s->manifest->disks[i].size);
	return (0);
}

/* The first piece of a delta: a disk of which only these pieces are known. */
static int
begin_delta(struct scan *s, const char *member, size_t len, struct err *err)
{
	struct index_disk d = { .data_offset = NO_OFFSET, .header_offset = NO_OFFSET };
	int n;

	if (len >= INDEX_NAME_LEN)
		return (bad(err, "the name of a piece is too long"));
	memcpy(d.member, member, len);
	if (!member_name_valid(d.member))
		return (bad(err, "the name of a piece is not allowed"));
	target_of(d.member, d.target);
	d.size = size_in_manifest(s, d.member);
	if ((n = index_writer_disk(s->iw, &d, err)) == -1)
		return (-1);
	index_writer_partial(s->iw, (uint32_t)n, d.size);
	memcpy(s->delta, d.member, sizeof(s->delta));
	s->ndisks++;
	s->delta_source = (uint32_t)n;
	s->delta_size = d.size;
	s->delta_end = 0;
	return (buf_addf(s->notes, err, "%sof disk %s only what changed since another archive is here%s", s->notes->len > 0 ? "; " : "", d.target,
	    d.size == 0 ? ", and its size is not known" : ""));
}

/* A piece: its extents take the place of a map.  What is not this archive's own is passed over. */
static int
begin_piece(struct scan *s, const char *name, size_t len, uint64_t size, struct err *err)
{
	uint64_t first = 0;

	if ((strlen(s->delta) != len || memcmp(s->delta, name, len) != 0) && begin_delta(s, name, len, err) == -1)
		return (-1);
	s->state = s->left > 0 ? IN_PLAIN : IN_HEADER;
	if (s->pax.foreign)
		return (0);
	if (size > FRAME_RAW_MAX || (s->ex = tar_parse_extents(s->pax.extents.ptr, &first, err)) == NULL || s->ex->bytes != size)
		return (bad(err, "the extents of a piece do not fit it"));
	if (first < s->delta_end || s->delta_end % SECTOR != 0 || (s->ex->size % SECTOR != 0 && s->ex->size < s->delta_size))
		return (bad(err, "the pieces of a disk are out of order"));
	s->delta_end = s->ex->size;
	if (s->delta_size < s->delta_end) {
		s->delta_size = s->delta_end;
		index_writer_partial(s->iw, s->delta_source, s->delta_size);
	}
	s->source = s->delta_source;
	s->partial = true;
	spool_cursor_init(&s->cursor, s->ex->spool);
	s->now.length = 0;
	s->state = IN_DATA;
	return (0);
}

/* Of a small member the place is noted when all of it was seen; one that could not be ours is only passed over. */
static void
end_member(struct scan *s)
{
	struct err ignored = ERR_INIT;

	digest_stream_end(s->ds, s->member.digest);
	if (index_writer_member(s->iw, &s->member, &ignored) == 0)
		s->nmembers++;
	s->state = IN_HEADER;
}

static int
begin_plain(struct scan *s, const char *name, uint64_t size, struct err *err)
{
	size_t n = s->pax.extents.len > 0 ? tar_parse_piece(name) : 0;

	if (n > 0)
		return (begin_piece(s, name, n, size, err));
	s->state = s->left > 0 ? IN_PLAIN : IN_HEADER;
	if (s->ndisks > 0 || strlen(name) >= INDEX_NAME_LEN || size > INDEX_MEMBER_MAX)
		return (0);
	s->member = (struct index_member){ .tar_offset = s->tar_offset, .length = size };
	memcpy(s->member.name, name, strlen(name) + 1);
	digest_stream_begin_keyed(s->ds, s->secret);
	s->member_left = size;
	s->state = IN_MEMBER;
	if (s->left == 0)
		end_member(s);
	return (0);
}

static int
end_header(struct scan *s, struct err *err)
{
	uint8_t h[TAR_BLOCK];
	char name[TAR_NAME_LEN];
	uint64_t size;
	int rc;

	memcpy(h, s->header.ptr, TAR_BLOCK);
	buf_reset(&s->header);
	if (bytes_are_zero(h, TAR_BLOCK))
		return (0);
	if (!tar_parse_size(h, &size) || memcmp(h + 257, "ustar", 5) != 0)
		return (bad(err, "a header is no ustar header"));
	s->left = size + tar_padding(size);
	s->stored = size;
	if (h[156] == 'x') {
		s->state = size == 0 ? IN_HEADER : size <= PAX_MAX ? IN_PAX : IN_PLAIN;
		return (0);
	}
	if (s->pax.sparse)
		rc = begin_map(s, err);
	else if (tar_parse_name(h, &s->pax, name))
		rc = begin_plain(s, name, size, err);
	else {
		s->state = s->left > 0 ? IN_PLAIN : IN_HEADER;
		rc = 0;
	}
	tar_pax_reset(&s->pax);
	return (rc);
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
	memcpy(d.member, s->name, strlen(s->name));
	target_of(s->name, d.target);
	if ((n = index_writer_disk(s->iw, &d, err)) == -1)
		return (-1);
	s->ndisks++;
	s->source = (uint32_t)n;
	s->partial = false;
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
	int rc;

	switch (s->state) {
	case IN_HEADER:
		want = TAR_BLOCK - s->header.len;
		*used = n < want ? n : want;
		if (buf_add(&s->header, p, *used, err) == -1)
			return (-1);
		/* What begins after the header begins there. */
		s->tar_offset += *used;
		rc = s->header.len == TAR_BLOCK ? end_header(s, err) : 0;
		s->tar_offset -= *used;
		return (rc);
	case IN_PAX:
		*used = n < s->left ? n : (size_t)s->left;
		if (buf_add(&s->header, p, *used, err) == -1)
			return (-1);
		if ((s->left -= *used) > 0)
			return (0);
		s->state = IN_HEADER;
		rc = tar_parse_pax(&s->pax, s->header.ptr, s->header.len, err);
		buf_reset(&s->header);
		return (rc);
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
	case IN_MEMBER:
		*used = n < s->left ? n : (size_t)s->left;
		want = *used < s->member_left ? *used : (size_t)s->member_left;
		digest_stream_add(s->ds, p, want);
		s->member_left -= want;
		if ((s->left -= *used) == 0)
			end_member(s);
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
	int rc = 0;

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
		for (size_t at = 0; at < len && rc == 0; at += used, s->tar_offset += used)
			rc = s->state == IN_DATA ? bad(err, "a frame holds headers and data") : take_meta(s, raw + at, len - at, &used, err);
	}
	/* What was understood of a meta frame counts: small members may be in it. */
	return (index_writer_frame(s->iw, f, s->blocks, err) == -1 ? -1 : rc);
}

/* How much to take at once of an archive that is not compressed, where nothing marks the frames. */
static size_t
plain_piece(const struct scan *s)
{
	uint64_t n = 0, len;
	struct spool_cursor c = s->cursor;
	struct extent now = s->now;
	struct err ignored = ERR_INIT;

	if (s->state == IN_MEMBER || s->state == IN_PLAIN)
		return (s->left < FRAME_RAW_MAX ? (size_t)s->left : FRAME_RAW_MAX);
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

	if (s->state != IN_DATA || s->ex == NULL || s->partial)
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
		io_temp_failed(errno, "open again", err);
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
	tar_pax_reset(&s->pax);
	if ((s->ds = digest_stream_new(err)) == NULL)
		return (-1);
	return ((s->iw = index_writer_new(&info, err)) == NULL || (s->fs = frame_stream_new(data, s->codec, 0, err)) == NULL ? -1 : 0);
}

struct index_reader *
archive_scan(struct store_file *data, const struct manifest *m, struct buf *notes, struct err *err)
{
	struct scan *s = calloc(1, sizeof(*s));
	struct index_reader *ix = NULL;
	struct err ended = ERR_INIT;

	if (s == NULL) {
		err_nomem(err);
		return (NULL);
	}
	s->manifest = m;
	s->notes = notes;
	if (scan_begin(s, data, err) == -1)
		goto out;
	if (walk(s, &ended) == -1 && buf_addf(notes, err, "%sit is good up to where it is damaged: %s", notes->len > 0 ? "; " : "", ended.text) == -1)
		goto out;
	if (s->ndisks == 0 && s->nmembers == 0)
		err_set(err, 0, "no disk could be found in it: %s", ended.text[0] != '\0' ? ended.text : "it holds no sparse member");
	else if (note_lost(s, err) == 0)
		ix = finish(s, err);
out:
	frame_stream_free(s->fs);
	index_writer_free(s->iw);
	extents_free(s->ex);
	digest_stream_free(s->ds);
	buf_free(&s->pax.extents);
	buf_free(&s->header);
	free(s->blocks);
	free(s);
	return (ix);
}
