#include "archive/coverage.h"

#define BATCH	256u

/* The blocks of the holder, from number first on; records rise, so that the next ones are near the last. */
struct window {
	const struct index_reader	*ix;
	uint32_t			 source;
	uint64_t			 first, count;
	size_t				 n, at;
	struct index_block		 v[BATCH];
};

/* The first block that ends after ${offset}: 1, 0 when there is none, -1. */
static int
block_at(struct window *w, uint64_t offset, const struct index_block **out, struct err *err)
{
	while (w->at < w->n && w->v[w->at].offset + w->v[w->at].length <= offset)
		w->at++;
	if (w->at == w->n && w->count == 0)
		return (0);
	if (w->at == w->n) {
		if (index_block_find(w->ix, w->source, offset, &w->first, err) == -1)
			return (-1);
		w->at = 0;
		w->n = w->count - w->first < BATCH ? (size_t)(w->count - w->first) : BATCH;
		if (w->n == 0)
			return (0);
		if (index_blocks(w->ix, w->source, w->first, w->n, w->v, err) == -1)
			return (-1);
	}
	*out = &w->v[w->at];
	return (1);
}

/* Where what it has of the record ends: at its end, or before.  Fails: -1. */
static int
covered_until(struct window *w, const struct index_view *v, uint64_t *upto, struct err *err)
{
	const struct index_block *b;
	int rc;

	for (*upto = v->offset; *upto < v->offset + v->length; *upto = b->offset + b->length) {
		if ((rc = block_at(w, *upto, &b, err)) == -1)
			return (-1);
		if (rc == 0 || b->offset > *upto)
			return (0);
	}
	return (0);
}

static int
find_in_view(struct window *w, const struct index_reader *ix, uint32_t n, struct coverage_gap *gap, struct err *err)
{
	uint64_t count = index_view_count(ix, gap->disk);
	struct index_view v[BATCH];
	size_t part;

	w->n = w->at = 0;
	for (uint64_t at = 0; at < count; at += part) {
		part = count - at < BATCH ? (size_t)(count - at) : BATCH;
		if (index_view(ix, gap->disk, at, part, v, err) == -1)
			return (-1);
		for (size_t i = 0; i < part; i++) {
			if (v[i].kind != VIEW_DATA || v[i].source != n)
				continue;
			if (covered_until(w, &v[i], &gap->offset, err) == -1)
				return (-1);
			if (gap->offset < v[i].offset + v[i].length)
				return (1);
		}
	}
	return (0);
}

int
coverage_find_gap(const struct index_reader *ix, uint32_t n, const struct index_reader *holder, uint32_t source, struct coverage_gap *gap,
    struct err *err)
{
	struct window w = { .ix = holder, .source = source, .count = holder != NULL ? index_block_count(holder, source) : 0 };
	int rc = 0;

	for (gap->disk = 0; rc == 0 && gap->disk < index_disks(ix); gap->disk++)
		if ((rc = find_in_view(&w, ix, n, gap, err)) != 0)
			break;
	return (rc);
}
