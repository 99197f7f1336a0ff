/* xz: a frame is one stream, its dictionary no larger than the frame: more would only cost memory. */
#include <lzma.h>
#include <stdlib.h>
#include <string.h>

#include "archive/codec.h"

#define DICT_MAX	FRAME_RAW_MAX
#define DECODER_MEMORY	((uint64_t)32 << 20)	/* bytes: a frame of ours needs 5 MiB, so more is an attack */

/* liblzma keeps a stream's memory for the next one when it is begun anew without lzma_end() (lzma/base.h). */
struct xz {
	lzma_stream		 s;
	lzma_options_lzma	 options;
	lzma_filter		 filters[2];
};

static size_t
xz_raw_max(int level)
{
	(void)level;
	return (FRAME_RAW_MAX);
}

static const char *
xz_reason(lzma_ret r)
{
	switch (r) {
	case LZMA_MEM_ERROR:
		return ("cannot allocate memory");
	case LZMA_MEMLIMIT_ERROR:
		return ("its dictionary is larger than any that this program writes");
	case LZMA_FORMAT_ERROR:
		return ("not an xz stream");
	case LZMA_OK:
	case LZMA_BUF_ERROR:
		return ("the stream is cut off, or too long");
	default:
		return ("the stream is damaged");
	}
}

static void
xz_free(void *p)
{
	struct xz *x = p;

	if (x == NULL)
		return;
	lzma_end(&x->s);
	free(x);
}

static void *
xz_decoder_new(struct err *err)
{
	struct xz *x = calloc(1, sizeof(*x));

	if (x == NULL)
		err_nomem(err);
	else
		x->s = (lzma_stream)LZMA_STREAM_INIT;
	return (x);
}

static void *
xz_encoder_new(int level, struct err *err)
{
	struct xz *x = xz_decoder_new(err);

	if (x == NULL)
		return (NULL);
	if (lzma_lzma_preset(&x->options, (uint32_t)level)) {
		err_set(err, 0, "liblzma has no preset %d", level);
		xz_free(x);
		return (NULL);
	}
	if (x->options.dict_size > DICT_MAX)
		x->options.dict_size = DICT_MAX;
	x->filters[0] = (lzma_filter){ LZMA_FILTER_LZMA2, &x->options };
	x->filters[1] = (lzma_filter){ LZMA_VLI_UNKNOWN, NULL };
	return (x);
}

/* Feed a whole frame to the stream that was just begun. */
static lzma_ret
run(lzma_stream *s, const uint8_t *in, size_t n, uint8_t *out, size_t cap)
{
	s->next_in = in;
	s->avail_in = n;
	s->next_out = out;
	s->avail_out = cap;
	return (lzma_code(s, LZMA_FINISH));
}

static int
xz_encode(void *enc, const uint8_t *in, size_t n, uint8_t *out, size_t cap, size_t *out_len, struct err *err)
{
	struct xz *x = enc;
	lzma_ret r = lzma_stream_encoder(&x->s, x->filters, LZMA_CHECK_CRC64);

	if (r == LZMA_OK)
		r = run(&x->s, in, n, out, cap);
	*out_len = cap - x->s.avail_out;
	return (r == LZMA_STREAM_END ? 0 : err_set(err, 0, "xz: %s", xz_reason(r)));
}

static int
xz_decode(void *dec, const uint8_t *in, size_t n, size_t *used, uint8_t *out, size_t cap, size_t *out_len, struct err *err)
{
	struct xz *x = dec;
	lzma_ret r = lzma_stream_decoder(&x->s, DECODER_MEMORY, 0);

	if (r == LZMA_OK)
		r = run(&x->s, in, n, out, cap);
	*used = n - x->s.avail_in;
	*out_len = cap - x->s.avail_out;
	return (r == LZMA_STREAM_END ? 0 : err_set(err, 0, "xz: %s", xz_reason(r)));
}

static bool
xz_may_begin(const uint8_t *p, size_t n)
{
	return (n >= 6 && memcmp(p, "\xfd" "7zXZ\0", 6) == 0);
}

const struct codec codec_xz = {
	.id = 2, .name = "xz", .suffix = ".tar.xz",
	.raw_max = xz_raw_max, .bound = lzma_stream_buffer_bound,
	.encoder_new = xz_encoder_new, .encode = xz_encode, .encoder_free = xz_free,
	.decoder_new = xz_decoder_new, .decode = xz_decode, .decoder_free = xz_free,
	.may_begin = xz_may_begin,
};
