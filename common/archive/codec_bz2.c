/* bzip2: a frame is one stream, sized so that it is one bzip2 block: nothing is gained by a longer one. */
#include <bzlib.h>
#include <stdlib.h>
#include <string.h>

#include "archive/codec.h"

/*
 * libbz2 allocates and frees some 8 MB for each stream, and the kernel clears those pages anew each time.  A codec keeps what
 * was freed for the next stream; libbz2 asks for at most four pieces.
 */
#define PIECES	6

struct bz2 {
	int		 level;
	struct {
		void	*p;
		size_t	 size;
		bool	 used;
	} piece[PIECES];
};

static void *
piece_alloc(void *opaque, int items, int size)
{
	struct bz2 *b = opaque;
	size_t n = (size_t)items * (size_t)size;
	int i, room = -1;

	for (i = 0; i < PIECES; i++) {
		if (b->piece[i].used)
			continue;
		if (b->piece[i].p != NULL && b->piece[i].size == n) {
			b->piece[i].used = true;
			return (b->piece[i].p);
		}
		if (room == -1 || b->piece[i].p == NULL)
			room = i;
	}
	if (room == -1)
		return (NULL);
	free(b->piece[room].p);
	b->piece[room].p = malloc(n);
	b->piece[room].size = n;
	b->piece[room].used = b->piece[room].p != NULL;
	return (b->piece[room].p);
}

static void
piece_free(void *opaque, void *p)
{
	struct bz2 *b = opaque;

	for (int i = 0; i < PIECES; i++)
		if (b->piece[i].p == p)
			b->piece[i].used = false;
}

static const char *
bz2_reason(int r)
{
	switch (r) {
	case BZ_MEM_ERROR:
		return ("cannot allocate memory");
	case BZ_DATA_ERROR:
		return ("a checksum inside the stream does not match");
	case BZ_DATA_ERROR_MAGIC:
		return ("not a bzip2 stream");
	case BZ_OK:
		return ("the stream is cut off, or too long");
	default:
		return ("the stream is damaged");
	}
}

static size_t
bz2_raw_max(int level)
{
	size_t windows = ((size_t)level * 100000 - 19) / WINDOW_SIZE;

	return (WINDOW_SIZE * (windows > 0 ? windows : 1));
}

/* "1% larger than the uncompressed data, plus six hundred extra bytes", says libbz2's manual. */
static size_t
bz2_bound(size_t raw)
{
	return (raw + raw / 100 + 600);
}

static void *
bz2_encoder_new(int level, struct err *err)
{
	struct bz2 *b = calloc(1, sizeof(*b));

	if (b == NULL)
		err_nomem(err);
	else
		b->level = level;
	return (b);
}

static void *
bz2_decoder_new(struct err *err)
{
	return (bz2_encoder_new(0, err));
}

static int
bz2_encode(void *enc, const uint8_t *in, size_t n, uint8_t *out, size_t cap, size_t *out_len, struct err *err)
{
	struct bz2 *b = enc;
	bz_stream s = { .bzalloc = piece_alloc, .bzfree = piece_free, .opaque = b };
	int r;

	if ((r = BZ2_bzCompressInit(&s, b->level, 0, 0)) != BZ_OK)
		return (err_set(err, 0, "bzip2: %s", bz2_reason(r)));
	s.next_in = (char *)(uintptr_t)in;
	s.avail_in = (unsigned int)n;
	s.next_out = (char *)out;
	s.avail_out = (unsigned int)cap;
	r = BZ2_bzCompress(&s, BZ_FINISH);
	*out_len = cap - s.avail_out;
	BZ2_bzCompressEnd(&s);
	if (r != BZ_STREAM_END)
		return (err_set(err, 0, "bzip2: a frame did not fit its buffer"));
	return (0);
}

static int
bz2_decode(void *dec, const uint8_t *in, size_t n, size_t *used, uint8_t *out, size_t cap, size_t *out_len, struct err *err)
{
	bz_stream s = { .bzalloc = piece_alloc, .bzfree = piece_free, .opaque = dec };
	int r;

	if ((r = BZ2_bzDecompressInit(&s, 0, 0)) != BZ_OK)
		return (err_set(err, 0, "bzip2: %s", bz2_reason(r)));
	s.next_in = (char *)(uintptr_t)in;
	s.avail_in = (unsigned int)n;
	s.next_out = (char *)out;
	s.avail_out = (unsigned int)cap;
	r = BZ2_bzDecompress(&s);
	*used = n - s.avail_in;
	*out_len = cap - s.avail_out;
	BZ2_bzDecompressEnd(&s);
	if (r != BZ_STREAM_END)
		return (err_set(err, 0, "bzip2: %s", bz2_reason(r)));
	return (0);
}

static void
bz2_free(void *p)
{
	struct bz2 *b = p;

	if (b == NULL)
		return;
	for (int i = 0; i < PIECES; i++)
		free(b->piece[i].p);
	free(b);
}

static bool
bz2_may_begin(const uint8_t *p, size_t n)
{
	return (n >= 10 && memcmp(p, "BZh", 3) == 0 && p[3] >= '1' && p[3] <= '9' && memcmp(p + 4, "\x31\x41\x59\x26\x53\x59", 6) == 0);
}

const struct codec codec_bz2 = {
	.id = 1, .name = "bzip2", .suffix = ".tar.bz2",
	.raw_max = bz2_raw_max, .bound = bz2_bound,
	.encoder_new = bz2_encoder_new, .encode = bz2_encode, .encoder_free = bz2_free,
	.decoder_new = bz2_decoder_new, .decode = bz2_decode, .decoder_free = bz2_free,
	.may_begin = bz2_may_begin,
};
