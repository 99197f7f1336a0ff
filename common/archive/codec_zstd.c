/* zstd: a frame is one zstd frame with its content size and checksum. */
#include <stdio.h>
#include <string.h>
#include <zstd.h>

#include "archive/codec.h"

static size_t
zstd_raw_max(int level)
{
	(void)level;
	return (FRAME_RAW_MAX);
}

static void *
zstd_encoder_new(int level, struct err *err)
{
	ZSTD_CCtx *c = ZSTD_createCCtx();

	if (c == NULL ||
	    ZSTD_isError(ZSTD_CCtx_setParameter(c, ZSTD_c_compressionLevel, level)) ||
	    ZSTD_isError(ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, 1))) {
		ZSTD_freeCCtx(c);
		err_set(err, 0, "cannot prepare zstd level %d: out of memory", level);
		return (NULL);
	}
	return (c);
}

static int
zstd_encode(void *enc, const uint8_t *in, size_t n, uint8_t *out, size_t cap, size_t *out_len, struct err *err)
{
	size_t r = ZSTD_compress2(enc, out, cap, in, n);

	if (ZSTD_isError(r))
		return (err_set(err, 0, "zstd: %s", ZSTD_getErrorName(r)));
	*out_len = r;
	return (0);
}

static void
zstd_encoder_free(void *enc)
{
	ZSTD_freeCCtx(enc);
}

static void *
zstd_decoder_new(struct err *err)
{
	ZSTD_DCtx *d = ZSTD_createDCtx();

	if (d == NULL)
		err_nomem(err);
	return (d);
}

static int
zstd_decode(void *dec, const uint8_t *in, size_t n, size_t *used, uint8_t *out, size_t cap, size_t *out_len, struct err *err)
{
	size_t r = ZSTD_findFrameCompressedSize(in, n);

	if (ZSTD_isError(r))
		return (err_set(err, 0, "zstd: %s", ZSTD_getErrorName(r)));
	*used = r;
	r = ZSTD_decompressDCtx(dec, out, cap, in, *used);
	if (ZSTD_isError(r))
		return (err_set(err, 0, "zstd: %s", ZSTD_getErrorName(r)));
	*out_len = r;
	return (0);
}

static void
zstd_decoder_free(void *dec)
{
	ZSTD_freeDCtx(dec);
}

static bool
zstd_may_begin(const uint8_t *p, size_t n)
{
	return (n >= 4 && memcmp(p, "\x28\xb5\x2f\xfd", 4) == 0);
}

const struct codec codec_zstd = {
	.id = 3, .name = "zstd", .suffix = ".tar.zst",
	.raw_max = zstd_raw_max, .bound = ZSTD_compressBound,
	.encoder_new = zstd_encoder_new, .encode = zstd_encode, .encoder_free = zstd_encoder_free,
	.decoder_new = zstd_decoder_new, .decode = zstd_decode, .decoder_free = zstd_decoder_free,
	.may_begin = zstd_may_begin,
};
