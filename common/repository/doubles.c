#include "repository/doubles.h"

#include <errno.h>
#include <string.h>

#include "archive/frame_reader.h"

/* One of the two: its frame that was read last, and where the block is in it that was asked for. */
struct side {
	struct live_archive	*a;
	uint32_t		 source;
	struct frame_reader	*fr;
	bool			 loaded;
	uint64_t		 number;
	uint32_t		 block;		/* in the frame */
	size_t			 at;		/* bytes in it */
};

/* Returns 1, or 0: it cannot be read, or is damaged. */
static int
load_block(struct side *s, uint64_t block)
{
	struct err ignored = ERR_INIT;
	struct index_frame f;
	uint64_t number;

	if (index_frame_of(s->a->ar->ix, s->source, block, &number, &ignored) == -1)
		return (0);
	if (!s->loaded || s->number != number) {
		s->loaded = false;
		if (index_frames(s->a->ar->ix, number, 1, &f, &ignored) == -1 || frame_reader_load(s->fr, s->a->ar, s->source, &f, &ignored) == -1)
			return (0);
		s->loaded = true;
		s->number = number;
		s->block = 0;
		s->at = 0;
	}
	/* Blocks are asked for as they rise. */
	for (; s->block < block - s->fr->frame.first_block; s->block++)
		s->at += s->fr->blocks[s->block].length;
	return (frame_reader_block_is_good(s->fr, s->block, s->at) ? 1 : 0);
}

static int
is_same_block(struct side *a, uint64_t block, struct side *b, uint64_t theirs)
{
	return (load_block(a, block) == 1 && load_block(b, theirs) == 1 &&
	    memcmp(a->fr->raw + a->at, b->fr->raw + b->at, a->fr->blocks[a->block].length) == 0);
}

/* The used blocks of one source: whether the other has one for each, and with ${bytes}, whether they are the same.  1, 0, -1. */
static int
has_source(struct side *a, struct side *b, bool bytes, const atomic_int *stop, struct err *err)
{
	const struct index_reader *ax = a->a->ar->ix, *bx = b->a->ar->ix;
	uint64_t count = index_block_count(ax, a->source), theirs = 0;
	struct err ignored = ERR_INIT;
	struct index_block mine, other;

	a->loaded = b->loaded = false;
	for (uint64_t i = 0; i < count; i++) {
		if (!live_bit(a->a->bits[a->source], i))
			continue;
		if (stop != NULL && *stop)
			return (err_plain(err, EINTR, "stopped"));
		if (index_blocks(ax, a->source, i, 1, &mine, &ignored) == -1 || index_block_find(bx, b->source, mine.offset, &theirs, &ignored) == -1 ||
		    theirs == index_block_count(bx, b->source) || index_blocks(bx, b->source, theirs, 1, &other, &ignored) == -1)
			return (0);
		if (other.offset != mine.offset || other.length != mine.length || (bytes && !is_same_block(a, i, b, theirs)))
			return (0);
	}
	return (1);
}

static int
has_all(struct side *a, struct side *b, bool bytes, const atomic_int *stop, struct err *err)
{
	struct err ignored = ERR_INIT;
	struct index_source s;
	int rc = 1;

	for (uint32_t i = 0; rc == 1 && i < index_sources(a->a->ar->ix); i++) {
		if (a->a->used[i] == 0)
			continue;
		if (index_source(a->a->ar->ix, i, &s, &ignored) == -1 || (b->source = index_source_find(b->a->ar->ix, &s)) == UINT32_MAX)
			return (0);
		a->source = i;
		rc = has_source(a, b, bytes, stop, err);
	}
	return (rc);
}

int
doubles_has_all(struct live_archive *b, struct live_archive *a, const atomic_int *stop, struct err *err)
{
	struct side mine = { .a = a }, other = { .a = b };
	int rc = has_all(&mine, &other, false, stop, err);

	if (rc != 1)
		return (rc);
	rc = -1;
	if ((mine.fr = frame_reader_new(err)) != NULL && (other.fr = frame_reader_new(err)) != NULL)
		rc = has_all(&mine, &other, true, stop, err);
	frame_reader_free(mine.fr);
	frame_reader_free(other.fr);
	return (rc);
}
