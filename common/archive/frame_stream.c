#include "archive/frame_stream.h"

#include <stdlib.h>

struct frame_stream {
	struct store_file	*f;
	const struct codec	*codec;
	void			*dec;
	uint64_t		 offset;	/* of the next frame */
	uint8_t			*in, *out;
	size_t			 in_max;
	size_t			 limit;		/* of a frame that nothing marks */
};

struct frame_stream *
frame_stream_new(struct store_file *f, const struct codec *codec, uint64_t offset, struct err *err)
{
	struct frame_stream *fs = calloc(1, sizeof(*fs));

	if (fs == NULL) {
		err_nomem(err);
		return (NULL);
	}
	fs->f = f;
	fs->codec = codec;
	fs->offset = offset;
	fs->limit = FRAME_RAW_MAX;
	fs->in_max = codec->bound(FRAME_RAW_MAX);
	if ((fs->in = malloc(fs->in_max)) == NULL || (fs->out = malloc(FRAME_RAW_MAX)) == NULL) {
		err_nomem(err);
		goto fail;
	}
	if ((fs->dec = codec->decoder_new(err)) == NULL)
		goto fail;
	return (fs);
fail:
	frame_stream_free(fs);
	return (NULL);
}

int
frame_stream_next(struct frame_stream *fs, const uint8_t **raw, size_t *len, struct err *err)
{
	size_t n, used;

	if (fs->offset >= fs->f->size)
		return (0);
	n = fs->f->size - fs->offset < fs->in_max ? (size_t)(fs->f->size - fs->offset) : fs->in_max;
	if (n > fs->limit && fs->codec == &codec_none)
		n = fs->limit;
	if (store_file_read(fs->f, fs->in, n, fs->offset, err) == -1)
		return (-1);
	if (fs->codec->decode(fs->dec, fs->in, n, &used, fs->out, FRAME_RAW_MAX, len, err) == -1)
		return (err_wrap(err, "the frame at offset %llu is damaged", (unsigned long long)fs->offset));
	if (used == 0)
		return (err_set(err, 0, "the frame at offset %llu is empty", (unsigned long long)fs->offset));
	fs->offset += used;
	*raw = fs->out;
	return (1);
}

uint64_t
frame_stream_offset(const struct frame_stream *fs)
{
	return (fs->offset);
}

void
frame_stream_limit(struct frame_stream *fs, size_t n)
{
	fs->limit = n;
}

void
frame_stream_free(struct frame_stream *fs)
{
	if (fs == NULL)
		return;
	if (fs->dec != NULL)
		fs->codec->decoder_free(fs->dec);
	free(fs->in);
	free(fs->out);
	free(fs);
}
