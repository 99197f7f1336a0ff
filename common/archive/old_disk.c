#include "archive/old_disk.h"

#include <stdlib.h>
#include <string.h>

#define VIEW_BATCH	256u
#define BLOCK_BATCH	256u

/* A source of the view: where its blocks are. */
struct origin {
	struct index_source	 is;
	struct archive_reader	*ar;		/* NULL: not looked for yet, or lost */
	bool			 lost;
	uint32_t		 source;	/* its number in that archive */
	struct index_block	*blocks;	/* those from number first on */
	uint64_t		 first;
	size_t			 n;
};

struct old_disk {
	struct archive_set	*set;
	struct index_reader	*ix;
	uint32_t		 disk;
	struct origin		*origins;	/* by source of the first archive */
	uint32_t		 norigins;
	struct index_view	*views;		/* those from number first on */
	uint64_t		 first, count;
	size_t			 n, at;		/* in the batch, and the one asked for last */
};

struct old_disk *
old_disk_new(struct archive_set *set, uint32_t disk, struct err *err)
{
	struct old_disk *od = calloc(1, sizeof(*od));

	if (od == NULL) {
		err_nomem(err);
		return (NULL);
	}
	od->set = set;
	od->ix = archive_set_first(set)->ix;
	od->disk = disk;
	od->norigins = index_sources(od->ix);
	od->count = index_view_count(od->ix, disk);
	od->origins = calloc((size_t)od->norigins + 1, sizeof(*od->origins));
	od->views = calloc(VIEW_BATCH, sizeof(*od->views));
	if (od->origins == NULL || od->views == NULL) {
		err_nomem(err);
		old_disk_free(od);
		return (NULL);
	}
	return (od);
}

void
old_disk_free(struct old_disk *od)
{
	if (od == NULL)
		return;
	for (uint32_t i = 0; od->origins != NULL && i < od->norigins; i++)
		free(od->origins[i].blocks);
	free(od->origins);
	free(od->views);
	free(od);
}

/* The first record that ends after ${offset}: 1, or 0 when there is none, or -1. */
static int
view_at(struct old_disk *od, uint64_t offset, const struct index_view **out, struct err *err)
{
	for (;;) {
		for (; od->at < od->n; od->at++)
			if (od->views[od->at].offset + od->views[od->at].length > offset) {
				*out = &od->views[od->at];
				return (1);
			}
		od->first += od->n;
		od->at = 0;
		od->n = od->count - od->first < VIEW_BATCH ? (size_t)(od->count - od->first) : VIEW_BATCH;
		if (od->n == 0)
			return (0);
		if (index_view(od->ix, od->disk, od->first, od->n, od->views, err) == -1)
			return (-1);
	}
}

/* An archive that is shorter than its frames, or is not there, has lost what it had. */
static int
find_origin(struct old_disk *od, uint32_t n, struct origin **out, struct err *err)
{
	struct origin *o = &od->origins[n];
	struct err why = ERR_INIT;

	*out = o;
	if (o->ar != NULL || o->lost)
		return (0);
	if (index_source(od->ix, n, &o->is, err) == -1)
		return (-1);
	if ((o->ar = archive_set_find(od->set, &o->is, &o->source, &why)) == NULL || !archive_is_whole(o->ar)) {
		o->ar = NULL;
		o->lost = true;
	}
	return (0);
}

/* The block of ${o} that begins at ${offset}: 1, or 0 when none does, or -1. */
static int
block_at(struct origin *o, uint64_t offset, const struct index_block **out, struct err *err)
{
	uint64_t number, count;
	size_t lo = 0, hi, mid;

	if (o->blocks == NULL && (o->blocks = calloc(BLOCK_BATCH, sizeof(*o->blocks))) == NULL) {
		err_nomem(err);
		return (-1);
	}
	if (o->n == 0 || offset < o->blocks[0].offset || offset > o->blocks[o->n - 1].offset) {
		count = index_block_count(o->ar->ix, o->source);
		if (index_block_find(o->ar->ix, o->source, offset, &number, err) == -1)
			return (-1);
		o->first = number;
		o->n = count - number < BLOCK_BATCH ? (size_t)(count - number) : BLOCK_BATCH;
		if (o->n == 0)
			return (0);
		if (index_blocks(o->ar->ix, o->source, number, o->n, o->blocks, err) == -1)
			return (-1);
	}
	for (hi = o->n; lo < hi;) {
		mid = lo + (hi - lo) / 2;
		if (o->blocks[mid].offset < offset)
			lo = mid + 1;
		else
			hi = mid;
	}
	*out = &o->blocks[lo];
	return (lo < o->n && o->blocks[lo].offset == offset ? 1 : 0);
}

int
old_disk_block(struct old_disk *od, uint64_t offset, uint64_t length, struct old_part *part, struct err *err)
{
	const struct index_block *b = NULL;
	const struct index_view *v;
	struct origin *o;
	int r;

	memset(part, 0, sizeof(*part));
	if ((r = view_at(od, offset, &v, err)) != 1)
		return (r);
	if (v->kind != VIEW_DATA || v->offset > offset || v->offset + v->length < offset + length)
		return (0);
	if (find_origin(od, v->source, &o, err) == -1)
		return (-1);
	if (o->lost || (r = block_at(o, offset, &b, err)) == 0)
		return (0);
	if (r == -1)
		return (-1);
	if (b->length != length)
		return (0);
	part->source = &o->is;
	part->secret = index_info(o->ar->ix)->secret;
	memcpy(part->digest, b->digest, DIGEST_LEN);
	return (0);
}

int
old_disk_part(struct old_disk *od, uint64_t offset, uint64_t end, uint64_t *length, struct old_part *part, bool *had, struct err *err)
{
	const struct index_view *v;
	struct origin *o;
	int r;

	memset(part, 0, sizeof(*part));
	*had = false;
	*length = end - offset;
	if ((r = view_at(od, offset, &v, err)) != 1)
		return (r);
	if (v->offset > offset) {
		if (v->offset < end)
			*length = v->offset - offset;
		return (0);
	}
	if (v->offset + v->length < end)
		*length = v->offset + v->length - offset;
	if (v->kind == VIEW_ZERO) {
		part->zero = true;
		*had = true;
		return (0);
	}
	if (find_origin(od, v->source, &o, err) == -1)
		return (-1);
	part->source = &o->is;
	*had = !o->lost;
	return (0);
}
