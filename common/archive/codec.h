/*
 * codec.h - compressing and decompressing one frame.  Each codec is one file, codec_*.c, with one struct of operations.
 *
 * A frame is self-contained (FORMAT.md, "Archive"): frames of one archive may be made and read in any order, on any thread,
 * each thread with an encoder or decoder of its own.
 */
#ifndef OVB_CODEC_H
#define OVB_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define WINDOW_SIZE	65536u			/* aligned piece of a disk that a block never leaves */
#define FRAME_RAW_MAX	4194304u		/* no data frame of any codec holds more */

struct codec {
	uint32_t	 id;			/* as in the index */
	const char	*name;
	const char	*suffix;		/* of an archive's name, after "disks" */

	/** raw_max(level): How many raw bytes a data frame may hold. */
	size_t		(*raw_max)(int level);

	/** bound(raw): The most that ${raw} bytes can become. */
	size_t		(*bound)(size_t raw);

	/** encoder_new(level, err): Memory and tables, used for many frames.  Fails: NULL. */
	void		*(*encoder_new)(int level, struct err *err);

	/**
	 * encode(enc, in, n, out, cap, out_len, err):
	 * Make one frame of ${n} bytes, at least 1; ${cap} is at least bound(${n}).  Fails: -1.
	 */
	int		(*encode)(void *enc, const uint8_t *in, size_t n, uint8_t *out, size_t cap, size_t *out_len, struct err *err);
	void		(*encoder_free)(void *enc);

	/** decoder_new(err): As for the encoder. */
	void		*(*decoder_new)(struct err *err);

	/**
	 * decode(dec, in, n, used, out, cap, out_len, err):
	 * Decompress the frame that begins at ${in}.  *${used} is what it took of the ${n} bytes.
	 *
	 * Fails: -1 when the bytes are no sound frame, when it is cut off, or when it would give more than ${cap} bytes.
	 */
	int		(*decode)(void *dec, const uint8_t *in, size_t n, size_t *used, uint8_t *out, size_t cap, size_t *out_len,
			    struct err *err);
	void		(*decoder_free)(void *dec);

	/** may_begin(p, n): Whether a frame may begin with the ${n} bytes at ${p}. */
	bool		(*may_begin)(const uint8_t *p, size_t n);
};

extern const struct codec codec_none, codec_bz2, codec_xz, codec_zstd;

/** codec_by_id(id): The codec with this number in the index, or NULL. */
const struct codec *codec_by_id(uint32_t id);

/** codec_by_suffix(name): The codec of an archive's file name, by its ending, or NULL. */
const struct codec *codec_by_suffix(const char *name);

#endif
