#include "archive/frame_reader.h"

#include <stdlib.h>
#include <string.h>

#include "base/extent.h"

#define BLOCKS_MAX	(FRAME_RAW_MAX / SECTOR + 1)

struct frame_reader *
frame_reader_new(struct err *err)
{
	struct frame_reader *fr = calloc(1, sizeof(*fr));

	if (fr == NULL || (fr->raw = malloc(FRAME_RAW_MAX)) == NULL || (fr->blocks = calloc(BLOCKS_MAX, sizeof(*fr->blocks))) == NULL) {
		frame_reader_free(fr);
		err_nomem(err);
		return (NULL);
	}
	return (fr);
}

void
frame_reader_free(struct frame_reader *fr)
{
	if (fr == NULL)
		return;
	if (fr->dec != NULL)
		fr->codec->decoder_free(fr->dec);
	free(fr->in);
	free(fr->raw);
	free(fr->blocks);
	free(fr);
}

static int
decompress(struct frame_reader *fr, const struct codec *codec, const struct index_frame *f, const uint8_t *in, struct err *err)
{
	size_t used, len;

	if (fr->codec != codec) {
		if (fr->dec != NULL)
			fr->codec->decoder_free(fr->dec);
		fr->codec = codec;
		if ((fr->dec = codec->decoder_new(err)) == NULL)
			return (-1);
	}
	if (codec->decode(fr->dec, in, f->stored, &used, fr->raw, f->raw, &len, err) == -1)
		return (-1);
	if (used != f->stored || len != f->raw)
		return (err_set(err, 0, "it gives %zu bytes where the index says %u", len, f->raw));
	return (0);
}

/* The frame's blocks, which must fill it. */
static int
load_blocks(struct frame_reader *fr, uint32_t source, const struct index_frame *f, struct err *err)
{
	uint64_t sum = 0;

	if (f->blocks > BLOCKS_MAX)
		return (err_set(err, 0, "the index gives it too many blocks"));
	if (index_blocks(fr->ix, source, f->first_block, f->blocks, fr->blocks, err) == -1)
		return (-1);
	for (uint32_t i = 0; i < f->blocks; i++)
		sum += fr->blocks[i].length;
	if (sum != f->raw)
		return (err_set(err, 0, "its blocks do not add up to its length in the index"));
	return (0);
}

int
frame_reader_decode(struct frame_reader *fr, struct archive_reader *ar, uint32_t source, const struct index_frame *f, const uint8_t *in,
    struct err *err)
{
	fr->ix = ar->ix;
	fr->frame = *f;
	return (decompress(fr, index_info(ar->ix)->codec, f, in, err) == -1 ? -1 : load_blocks(fr, source, f, err));
}

static int
read_stored(struct frame_reader *fr, struct archive_reader *ar, const struct index_frame *f, struct err *err)
{
	uint8_t *p;

	if (f->stored > fr->in_cap) {
		if ((p = realloc(fr->in, f->stored)) == NULL)
			return (err_nomem(err));
		fr->in = p;
		fr->in_cap = f->stored;
	}
	return (store_file_read(ar->data, fr->in, f->stored, f->offset, err));
}

int
frame_reader_load(struct frame_reader *fr, struct archive_reader *ar, uint32_t source, const struct index_frame *f, struct err *err)
{
	if (read_stored(fr, ar, f, err) == -1 || frame_reader_decode(fr, ar, source, f, fr->in, err) == -1)
		return (err_wrap(err, "%s: frame at %llu", ar->name, (unsigned long long)f->offset));
	return (0);
}

int
frame_reader_load_meta(struct frame_reader *fr, struct archive_reader *ar, const struct index_frame *f, struct err *err)
{
	fr->ix = ar->ix;
	fr->frame = *f;
	if (read_stored(fr, ar, f, err) == -1 || decompress(fr, index_info(ar->ix)->codec, f, fr->in, err) == -1)
		return (err_wrap(err, "%s: frame at %llu", ar->name, (unsigned long long)f->offset));
	return (0);
}

bool
frame_reader_block_is_good(const struct frame_reader *fr, uint32_t i, size_t at)
{
	const struct index_block *b = &fr->blocks[i];
	uint8_t digest[DIGEST_LEN];

	digest_block(index_info(fr->ix)->secret, fr->raw + at, b->length, digest);
	return (memcmp(digest, b->digest, DIGEST_LEN) == 0 &&
	    (b->flags & BLOCK_ZERO) == (bytes_are_zero(fr->raw + at, b->length) ? BLOCK_ZERO : 0));
}

int
frame_reader_copy(struct frame_reader *fr, uint64_t block, uint64_t offset, uint64_t end, uint8_t *p, size_t *got, struct err *err)
{
	uint32_t n = (uint32_t)(block - fr->frame.first_block);
	const struct index_block *b;
	size_t at = 0;

	if (block < fr->frame.first_block || n >= fr->frame.blocks)
		return (err_set(err, 0, "the index gives the frame other blocks than it has"));
	for (uint32_t i = 0; i < n; i++)
		at += fr->blocks[i].length;
	b = &fr->blocks[n];
	if (b->offset > offset || b->offset + b->length <= offset)
		return (err_set(err, 0, "no block of the archive holds this part"));
	if (!frame_reader_block_is_good(fr, n, at))
		return (err_set(err, 0, "the block does not have the digest that was taken when it was stored"));
	*got = (size_t)((b->offset + b->length < end ? b->offset + b->length : end) - offset);
	memcpy(p, fr->raw + at + (offset - b->offset), *got);
	return (0);
}
