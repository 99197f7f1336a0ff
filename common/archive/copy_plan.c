#include "archive/copy_plan.h"

#include <stdlib.h>
#include <string.h>

#define VIEW_BATCH	128u
#define BLOCK_BATCH	128u

/* Where a source's blocks are, and the frame that was looked at last. */
struct origin {
	struct archive_reader	*ar;		/* NULL: not looked for yet */
	uint32_t		 source;
	bool			 usable;	/* frames of this archive may be copied */
	struct index_frame	 frame;
	uint64_t		 number, begin, end;	/* of that frame; begin == end: none yet */
};

struct planner {
	struct copy_plan	*plan;
	struct archive_set	*set;
	struct index_reader	*ix;		/* of the set's first archive */
	uint32_t		 disk;
	uint64_t		 size;
	const struct codec	*codec;
	size_t			 raw_max, out_max;
	struct origin		*origins;

	struct index_view	 views[VIEW_BATCH];	/* a window on the view */
	uint64_t		 first;
	size_t			 n;

	uint64_t		 done;		/* where what was planned so far ends */
};

static uint64_t
view_end(const struct index_view *v)
{
	return (v->offset + v->length);
}

/* The record number ${i} of the view; NULL with err->text empty when there is none. */
static const struct index_view *
view_at(struct planner *p, uint64_t i, struct err *err)
{
	uint64_t count = index_view_count(p->ix, p->disk);

	if (i >= count)
		return (NULL);
	if (p->n == 0 || i < p->first || i >= p->first + p->n) {
		/* Looking back goes a few records, if any. */
		p->first = i > VIEW_BATCH / 4 ? i - VIEW_BATCH / 4 : 0;
		p->n = count - p->first < VIEW_BATCH ? (size_t)(count - p->first) : VIEW_BATCH;
		if (index_view(p->ix, p->disk, p->first, p->n, p->views, err) == -1) {
			p->n = 0;
			return (NULL);
		}
	}
	return (&p->views[i - p->first]);
}

static int
find_origin(struct planner *p, uint32_t source, struct origin **out, struct err *err)
{
	struct origin *o = &p->origins[source];
	struct index_source s;

	*out = o;
	if (o->ar != NULL)
		return (0);
	if (index_source(p->ix, source, &s, err) == -1 || (o->ar = archive_set_find(p->set, &s, &o->source, err)) == NULL)
		return (-1);
	/* An index that was made up from headers has digests of what was read, not of what was stored: that is packed anew. */
	o->usable = index_info(o->ar->ix)->codec == p->codec && o->ar->note == NULL;
	return (0);
}

/* Make o->frame the frame that holds ${offset}. */
static int
find_frame(struct origin *o, uint64_t offset, struct err *err)
{
	struct index_block first, last;
	uint64_t block;

	if (offset >= o->begin && offset < o->end)
		return (0);
	if (index_block_find(o->ar->ix, o->source, offset, &block, err) == -1)
		return (-1);
	if (block == index_block_count(o->ar->ix, o->source))
		return (err_set(err, 0, "offset %llu: no block of the archive holds this part", (unsigned long long)offset));
	if (index_frame_of(o->ar->ix, o->source, block, &o->number, err) == -1 || index_frames(o->ar->ix, o->number, 1, &o->frame, err) == -1 ||
	    index_blocks(o->ar->ix, o->source, o->frame.first_block, 1, &first, err) == -1 ||
	    index_blocks(o->ar->ix, o->source, o->frame.first_block + o->frame.blocks - 1, 1, &last, err) == -1)
		return (-1);
	o->begin = first.offset;
	o->end = last.offset + last.length;
	return (0);
}

/* A walk along the view, beside the blocks of a frame. */
struct walk {
	uint64_t	i;		/* record */
	uint64_t	at;		/* everything before is as wanted */
};

/* Step over records that end at or before ${offset}.  Returns the one after, or NULL (err->text empty: none). */
static const struct index_view *
skip_to(struct planner *p, struct walk *w, uint64_t offset, struct err *err)
{
	const struct index_view *v;

	while ((v = view_at(p, w->i, err)) != NULL && view_end(v) <= offset)
		w->i++;
	return (v);
}

/* Whether nothing of the disk's data stands between w->at and ${upto}.  -1 on error. */
static int
gap_is_empty(struct planner *p, struct walk *w, uint64_t upto, struct err *err)
{
	const struct index_view *v;

	if (w->at == upto)
		return (1);
	for (; (v = skip_to(p, w, w->at, err)) != NULL && v->offset < upto; w->i++) {
		if (v->kind == VIEW_DATA)
			return (0);
		if (view_end(v) > upto)
			break;
	}
	w->at = upto;
	return (v == NULL && err->text[0] != '\0' ? -1 : 1);
}

/* Whether the view shows all of the block ${b} of the view's source ${source}.  -1 on error. */
static int
block_is_shown(struct planner *p, struct walk *w, const struct index_block *b, uint32_t source, struct err *err)
{
	uint64_t end = b->offset + b->length;
	const struct index_view *v;

	while (w->at < end) {
		if ((v = skip_to(p, w, w->at, err)) == NULL)
			return (err->text[0] != '\0' ? -1 : 0);
		if (v->offset > w->at || (v->kind == VIEW_DATA ? v->source != source : (b->flags & BLOCK_ZERO) == 0))
			return (0);
		w->at = view_end(v) < end ? view_end(v) : end;
	}
	return (1);
}

static bool
in_one_window(uint64_t end, uint64_t begin)
{
	return (end == begin && end % WINDOW_SIZE != 0);
}

/* The first record that may concern what is from ${offset} on, at ${i} or before. */
static int
look_back(struct planner *p, uint64_t i, uint64_t offset, uint64_t *out, struct err *err)
{
	const struct index_view *v;

	for (*out = i; *out > 0; --*out) {
		if ((v = view_at(p, *out - 1, err)) == NULL)
			return (-1);
		if (view_end(v) <= offset)
			break;
	}
	return (0);
}

/*
 * Whether the origin's frame can be copied, as the view's record number ${i} comes upon it: the view shows each of its blocks and nothing between
 * them, and no data beside it would be joined with its first or last block.  -1 on error.
 */
static int
frame_is_live(struct planner *p, const struct origin *o, uint32_t source, uint64_t i, struct err *err)
{
	struct walk w = { .at = p->done };
	struct index_block b[BLOCK_BATCH];
	const struct index_view *v;
	uint64_t before = p->done;
	uint32_t n;
	int r;

	if (!o->usable || o->begin < p->done || o->frame.raw > p->raw_max || o->frame.stored > p->out_max)
		return (0);
	if (look_back(p, i, p->done, &w.i, err) == -1)
		return (-1);
	for (uint32_t at = 0; at < o->frame.blocks; at += n) {
		n = o->frame.blocks - at < BLOCK_BATCH ? o->frame.blocks - at : BLOCK_BATCH;
		if (index_blocks(o->ar->ix, o->source, o->frame.first_block + at, n, b, err) == -1)
			return (-1);
		for (uint32_t k = 0; k < n; before = b[k].offset + b[k].length, k++) {
			if (in_one_window(before, b[k].offset))
				return (0);
			if ((r = gap_is_empty(p, &w, b[k].offset, err)) != 1 || (r = block_is_shown(p, &w, &b[k], source, err)) != 1)
				return (r);
		}
	}
	if (before % SECTOR != 0 && before != p->size)
		return (0);
	if ((v = skip_to(p, &w, before, err)) == NULL)
		return (err->text[0] != '\0' ? -1 : 1);
	/* Maps are in sectors: data that begins within the next one touches it too. */
	return (v->kind != VIEW_DATA || before % WINDOW_SIZE == 0 || v->offset >= before + SECTOR);
}

static int
take_frame(struct planner *p, const struct origin *o, struct err *err)
{
	struct archive_copy c;
	struct index_block b[BLOCK_BATCH];
	uint32_t n;

	memset(&c, 0, sizeof(c));	/* padding too: it goes to a spool */
	c.ar = o->ar;
	c.number = o->number;
	c.source = o->source;
	c.offset = o->begin;
	c.end = o->end;
	for (uint32_t at = 0; at < o->frame.blocks; at += n) {
		n = o->frame.blocks - at < BLOCK_BATCH ? o->frame.blocks - at : BLOCK_BATCH;
		if (index_blocks(o->ar->ix, o->source, o->frame.first_block + at, n, b, err) == -1)
			return (-1);
		for (uint32_t k = 0; k < n; k++)
			if (extents_add(p->plan->ex, b[k].offset, b[k].length, err) == -1)
				return (-1);
	}
	p->done = o->end;
	return (spool_add(p->plan->copies, &c, err));
}

/* Maps are in whole sectors. */
static int
take_range(struct planner *p, uint64_t offset, uint64_t end, struct err *err)
{
	if (extents_add(p->plan->ex, offset, end - offset, err) == -1)
		return (-1);
	if (end % SECTOR != 0)
		end = p->size - end < SECTOR - end % SECTOR ? p->size : end + SECTOR - end % SECTOR;
	p->done = end;
	return (0);
}

/* One record of data: frames that can be copied, and what is left between them. */
static int
take_record(struct planner *p, uint64_t i, const struct index_view *v, struct err *err)
{
	uint64_t at = v->offset > p->done ? v->offset : p->done, end = view_end(v), upto;
	struct origin *o;
	int live;

	if (at >= end)
		return (0);
	if (find_origin(p, v->source, &o, err) == -1)
		return (-1);
	if (!o->usable)
		return (take_range(p, at, end, err));
	for (; at < end; at = p->done) {
		if (find_frame(o, at, err) == -1 || (live = frame_is_live(p, o, v->source, i, err)) == -1)
			return (-1);
		if (live) {
			if (take_frame(p, o, err) == -1)
				return (-1);
			continue;
		}
		/* Up to where the next frame may begin. */
		upto = at < o->begin ? o->begin : o->end;
		if (take_range(p, at, upto < end ? upto : end, err) == -1)
			return (-1);
	}
	return (0);
}

static int
plan_disk(struct planner *p, struct err *err)
{
	const struct index_view *v;
	struct index_view record;

	for (uint64_t i = 0; (v = view_at(p, i, err)) != NULL; i++) {
		record = *v;
		if (v->kind == VIEW_DATA && take_record(p, i, &record, err) == -1)
			return (-1);
	}
	return (err->text[0] != '\0' ? -1 : extents_end(p->plan->ex, err));
}

int
copy_plan_make(struct copy_plan *plan, struct archive_set *set, uint32_t disk, const struct codec *codec, int level, struct err *err)
{
	struct index_reader *ix = archive_set_first(set)->ix;
	struct planner *p = calloc(1, sizeof(*p));
	int rc = -1;

	*err = (struct err)ERR_INIT;
	if (p == NULL || (p->origins = calloc((size_t)index_sources(ix) + 1, sizeof(*p->origins))) == NULL) {
		free(p);
		return (err_nomem(err));
	}
	p->plan = plan;
	p->set = set;
	p->ix = ix;
	p->disk = disk;
	p->size = index_disk(ix, disk)->size;
	p->codec = codec;
	p->raw_max = codec->raw_max(level);
	p->out_max = codec->bound(p->raw_max);
	if ((plan->ex = extents_new(p->size, err)) != NULL && (plan->copies = spool_new(sizeof(struct archive_copy), err)) != NULL)
		rc = plan_disk(p, err);
	if (rc == -1)
		err_wrap(err, "disk %s", index_disk(ix, disk)->target);
	free(p->origins);
	free(p);
	return (rc);
}

void
copy_plan_free(struct copy_plan *plan)
{
	extents_free(plan->ex);
	spool_free(plan->copies);
	*plan = (struct copy_plan)COPY_PLAN_INIT;
}
