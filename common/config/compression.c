#include "config/compression.h"

#include <stddef.h>
#include <string.h>

static const struct {
	const char		*name;
	enum compression_codec	 codec;
	int			 lowest, highest, usual;
} codecs[] = {
	{ "bzip2", CODEC_BZIP2, 1, 9, 9 },
	{ "xz", CODEC_XZ, 0, 9, 6 },
	{ "zstd", CODEC_ZSTD, 1, 19, 3 },
};

/* One or two digits, written as a person would: no sign, no leading zero.  Returns -1 for anything else. */
static int
level_parse(const char *s)
{
	size_t n = strlen(s);

	if (n < 1 || n > 2 || strspn(s, "0123456789") != n || (n == 2 && s[0] == '0'))
		return (-1);
	return (n == 1 ? s[0] - '0' : (s[0] - '0') * 10 + (s[1] - '0'));
}

int
compression_parse(const char *text, struct compression *out, struct err *err)
{
	size_t i, n = strcspn(text, ":");
	int level;

	if (strcmp(text, "none") == 0) {
		*out = (struct compression){ CODEC_NONE, 0 };
		return (0);
	}
	for (i = 0; i < sizeof(codecs) / sizeof(codecs[0]); i++) {
		if (n != strlen(codecs[i].name) || strncmp(text, codecs[i].name, n) != 0)
			continue;
		level = text[n] == ':' ? level_parse(text + n + 1) : codecs[i].usual;
		if (level < codecs[i].lowest || level > codecs[i].highest)
			return (err_set(err, 0, "\"%.100s\": the level of %s is a number from %d to %d", text, codecs[i].name,
			    codecs[i].lowest, codecs[i].highest));
		*out = (struct compression){ codecs[i].codec, level };
		return (0);
	}
	return (err_set(err, 0, "\"%.100s\": expected bzip2[:1-9], xz[:0-9], zstd[:1-19] or none", text));
}
