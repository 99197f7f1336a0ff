/* No compression: a frame is its bytes. */
#include <string.h>

#include "archive/codec.h"

static size_t
none_raw_max(int level)
{
	(void)level;
	return (FRAME_RAW_MAX);
}

static size_t
none_bound(size_t raw)
{
	return (raw);
}

static void *
none_new(struct err *err)
{
	static int nothing;

	(void)err;
	return (&nothing);
}

static void *
none_encoder_new(int level, struct err *err)
{
	(void)level;
	return (none_new(err));
}

static int
none_encode(void *enc, const uint8_t *in, size_t n, uint8_t *out, size_t cap, size_t *out_len, struct err *err)
{
	(void)enc;
	if (n > cap)
		return (err_set(err, 0, "frame of %zu bytes is too long for its buffer", n));
	memcpy(out, in, n);
	*out_len = n;
	return (0);
}

static int
none_decode(void *dec, const uint8_t *in, size_t n, size_t *used, uint8_t *out, size_t cap, size_t *out_len, struct err *err)
{
	*used = n;
	return (none_encode(dec, in, n, out, cap, out_len, err));
}

static void
none_free(void *p)
{
	(void)p;
}

/* The only place that is looked for in an uncompressed archive is the trailer. */
static bool
none_may_begin(const uint8_t *p, size_t n)
{
	return (n >= 8 && memcmp(p, "OVBTRAIL", 8) == 0);
}

const struct codec codec_none = {
	.id = 0, .name = "none", .suffix = ".tar",
	.raw_max = none_raw_max, .bound = none_bound,
	.encoder_new = none_encoder_new, .encode = none_encode, .encoder_free = none_free,
	.decoder_new = none_new, .decode = none_decode, .decoder_free = none_free,
	.may_begin = none_may_begin,
};
