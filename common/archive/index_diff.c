#include "archive/index_diff.h"

#include <stdlib.h>
#include <string.h>

#define BATCH	256u

/* Of one disk: the first part that ends after the place that is looked at, which may be in the hole before it. */
struct side {
	const struct index_reader *ix;
	uint32_t	 disk;
	uint32_t	*origins;	/* by source: a number for what it is, the same on both sides */
	uint64_t	 next, count;	/* records that were read, and that there are */
	size_t		 n, at;		/* in the batch */
	struct index_view views[BATCH];
};

/* A source of either side. */
struct origin {
	struct index_source	 is;
	struct side		*side;
	uint32_t		 source;
};

static int
compare_origins(const void *a, const void *b)
{
	const struct origin *x = a, *y = b;
	int r = memcmp(x->is.archive, y->is.archive, ARCHIVE_ID_LEN);

	return (r != 0 ? r : (x->is.disk > y->is.disk) - (x->is.disk < y->is.disk));
}

/* Sources that are the same get the same number. */
static int
number_origins(struct side sides[2], struct err *err)
{
	size_t n[2] = { index_sources(sides[0].ix), index_sources(sides[1].ix) }, total = n[0] + n[1], at = 0;
	struct origin *all = calloc(total + 1, sizeof(*all));
	uint32_t number = 0;
	int rc = 0;

	if (all == NULL)
		return (err_nomem(err));
	for (size_t k = 0; k < 2 && rc == 0; k++) {
		if ((sides[k].origins = calloc(n[k] + 1, sizeof(*sides[k].origins))) == NULL)
			rc = err_nomem(err);
		for (uint32_t i = 0; i < n[k] && rc == 0; i++, at++) {
			all[at].side = &sides[k];
			all[at].source = i;
			rc = index_source(sides[k].ix, i, &all[at].is, err);
		}
	}
	if (rc == 0)
		qsort(all, total, sizeof(*all), compare_origins);
	for (size_t i = 0; i < total && rc == 0; i++) {
		number += i > 0 && compare_origins(&all[i - 1], &all[i]) != 0;
		all[i].side->origins[all[i].source] = number;
	}
	free(all);
	return (rc);
}

/* Past the parts that end at or before ${at}: *${out} is the first one after it, NULL when there is none. */
static int
move_to(struct side *s, uint64_t at, const struct index_view **out, struct err *err)
{
	for (;;) {
		for (; s->at < s->n; s->at++)
			if (s->views[s->at].offset + s->views[s->at].length > at) {
				*out = &s->views[s->at];
				return (0);
			}
		s->at = 0;
		s->n = s->count - s->next < BATCH ? (size_t)(s->count - s->next) : BATCH;
		if (s->n == 0) {
			*out = NULL;
			return (0);
		}
		if (index_view(s->ix, s->disk, s->next, s->n, s->views, err) == -1)
			return (-1);
		s->next += s->n;
	}
}

/* Whether the part ${v} covers ${at}; *${end} is lowered to where that changes. */
static bool
covers(const struct index_view *v, uint64_t at, uint64_t *end)
{
	bool yes = v != NULL && v->offset <= at;
	uint64_t change = v == NULL ? UINT64_MAX : yes ? v->offset + v->length : v->offset;

	if (change < *end)
		*end = change;
	return (yes);
}

static int
walk(struct side sides[2], struct extents *ex, struct err *err)
{
	const struct index_view *a, *b;
	uint64_t end;
	bool in_a, in_b, same;

	for (uint64_t at = 0; at < ex->size; at = end) {
		if (move_to(&sides[0], at, &a, err) == -1 || move_to(&sides[1], at, &b, err) == -1)
			return (-1);
		end = ex->size;
		in_a = covers(a, at, &end);
		in_b = covers(b, at, &end);
		same = in_a == in_b;
		if (in_a && in_b)
			same = a->kind == b->kind && (a->kind == VIEW_ZERO || sides[0].origins[a->source] == sides[1].origins[b->source]);
		if (!same && extents_add(ex, at, end - at, err) == -1)
			return (-1);
	}
	return (0);
}

int
index_diff(const struct index_reader *a, uint32_t disk_a, const struct index_reader *b, uint32_t disk_b, struct extents *ex, struct err *err)
{
	struct side *sides = calloc(2, sizeof(*sides));
	int rc;

	if (sides == NULL)
		return (err_nomem(err));
	sides[0].ix = a;
	sides[0].disk = disk_a;
	sides[0].count = index_view_count(a, disk_a);
	sides[1].ix = b;
	sides[1].disk = disk_b;
	sides[1].count = index_view_count(b, disk_b);
	if ((rc = number_origins(sides, err)) == 0)
		rc = walk(sides, ex, err);
	free(sides[0].origins);
	free(sides[1].origins);
	free(sides);
	return (rc);
}
