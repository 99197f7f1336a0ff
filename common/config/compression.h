/*
 * compression.h - how an archive is compressed: the codec and its level, and the text that names them.
 */
#ifndef OVB_COMPRESSION_H
#define OVB_COMPRESSION_H

#include "base/err.h"

enum compression_codec {	/* these numbers are in the file format */
	CODEC_NONE = 0,
	CODEC_BZIP2 = 1,
	CODEC_XZ = 2,
	CODEC_ZSTD = 3
};

struct compression {
	enum compression_codec	codec;
	int			level;	/* as the codec counts; 0 with CODEC_NONE */
};

#define COMPRESSION_DEFAULT	{ CODEC_BZIP2, 9 }

/**
 * compression_parse(text, out, err):
 * Read "bzip2[:1-9]" (without a level: 9), "xz[:0-9]" (6), "zstd[:1-19]" (3) or "none" into ${out}.
 *
 * Fails: -1, ${err} quotes ${text} and says what is expected; ${out} is untouched.
 */
int compression_parse(const char *text, struct compression *out, struct err *err);

#endif
