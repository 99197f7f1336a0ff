#include "archive/codec.h"

#include <string.h>

static const struct codec *const codecs[] = { &codec_bz2, &codec_xz, &codec_zstd, &codec_none };

#define NCODECS	(sizeof(codecs) / sizeof(codecs[0]))

const struct codec *
codec_by_id(uint32_t id)
{
	for (size_t i = 0; i < NCODECS; i++)
		if (codecs[i]->id == id)
			return (codecs[i]);
	return (NULL);
}

const struct codec *
codec_by_suffix(const char *name)
{
	size_t len = strlen(name), n;

	for (size_t i = 0; i < NCODECS; i++) {
		n = strlen(codecs[i]->suffix);
		if (len >= n && strcmp(name + len - n, codecs[i]->suffix) == 0)
			return (codecs[i]);
	}
	return (NULL);
}
