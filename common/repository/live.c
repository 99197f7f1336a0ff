#include "repository/live.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ARCHIVES_MAX	256u			/* at a time: each has two files open */
#define BITS_MAX	((uint64_t)64 << 20)	/* bytes of bits, of all of them */
#define BATCH		256u

struct live {
	struct repo		*r;
	struct live_archive	*v[ARCHIVES_MAX];
	size_t			 n;
	uint64_t		 bytes;		/* of bits */
};

struct live *
live_new(struct repo *r, struct err *err)
{
	struct live *lv = calloc(1, sizeof(*lv));

	if (lv == NULL) {
		err_nomem(err);
		return (NULL);
	}
	lv->r = r;
	return (lv);
}

static void
archive_free(struct live_archive *a)
{
	for (uint32_t i = 0; a->bits != NULL && i < index_sources(a->ar->ix); i++)
		free(a->bits[i]);
	free(a->bits);
	free(a->used);
	archive_close(a->ar);
	manifest_free(&a->m);
	free(a);
}

void
live_free(struct live *lv)
{
	if (lv == NULL)
		return;
	for (size_t i = 0; i < lv->n; i++)
		archive_free(lv->v[i]);
	free(lv);
}

void
live_drop(struct live *lv, size_t i)
{
	archive_free(lv->v[i]);
	lv->v[i] = lv->v[--lv->n];
}

size_t
live_count(const struct live *lv)
{
	return (lv->n);
}

struct live_archive *
live_archive(struct live *lv, size_t i)
{
	return (lv->v[i]);
}

static int
open_archive(struct live *lv, struct live_archive *a, struct err *err)
{
	const struct index_reader *ix;
	uint64_t n;

	if (repo_manifest_any(lv->r, &a->point, &a->m, err) == -1 || (a->ar = archive_open_point(lv->r, &a->point, &a->m, err)) == NULL)
		return (-1);
	if (a->ar->note != NULL)
		return (err_set(err, 0, "%s: %s", a->ar->name, a->ar->note));
	ix = a->ar->ix;
	a->bits = calloc((size_t)index_sources(ix) + 1, sizeof(*a->bits));
	a->used = calloc((size_t)index_sources(ix) + 1, sizeof(*a->used));
	if (a->bits == NULL || a->used == NULL)
		return (err_nomem(err));
	for (uint32_t i = 0; i < index_sources(ix); i++) {
		if ((n = index_block_count(ix, i)) == 0)
			continue;
		if ((a->bits[i] = calloc(1, n / 8 + 1)) == NULL)
			return (err_nomem(err));
		lv->bytes += n / 8 + 1;
	}
	return (0);
}

int
live_add(struct live *lv, const struct point *p, struct err *err)
{
	struct live_archive *a;

	if (lv->n == ARCHIVES_MAX || lv->bytes >= BITS_MAX)
		return (0);
	if ((a = calloc(1, sizeof(*a))) == NULL)
		return (err_nomem(err));
	a->point = *p;
	if (open_archive(lv, a, err) == -1) {
		archive_free(a);
		return (-1);
	}
	lv->v[lv->n++] = a;
	return (1);
}

static void
set_bits(struct live_archive *a, uint32_t source, uint64_t first, uint64_t end)
{
	uint8_t *bits = a->bits[source];

	for (uint64_t n = first; n < end;) {
		if (n % 8 == 0 && end - n >= 8) {
			a->used[source] += 8 - (unsigned int)__builtin_popcount(bits[n / 8]);
			bits[n / 8] = 0xff;
			n += 8;
			continue;
		}
		a->used[source] += !live_bit(bits, n);
		bits[n / 8] = (uint8_t)(bits[n / 8] | 1u << n % 8);
		n++;
	}
}

/* Where the blocks of one source of a kept point are; records rise, so that the next blocks are near the last ones. */
struct cursor {
	struct live_archive	*a;
	uint32_t		 source;
	struct index_block	 blocks[BATCH];
	uint64_t		 first;
	size_t			 n;
};

/* The first block that ends after ${offset}, or the number of blocks; *${begin} is where it begins. */
static int
find_block(struct cursor *c, uint64_t offset, uint64_t *out, uint64_t *begin, struct err *err)
{
	const struct index_reader *ix = c->a->ar->ix;
	uint64_t count = index_block_count(ix, c->source);
	size_t lo = 0, hi = c->n, mid;

	if (c->n == 0 || offset < c->blocks[0].offset || offset >= c->blocks[c->n - 1].offset + c->blocks[c->n - 1].length) {
		if (index_block_find(ix, c->source, offset, &c->first, err) == -1)
			return (-1);
		c->n = count - c->first < BATCH ? (size_t)(count - c->first) : BATCH;
		if (c->n > 0 && index_blocks(ix, c->source, c->first, c->n, c->blocks, err) == -1)
			return (-1);
		hi = c->n;
	}
	while (lo < hi) {
		mid = lo + (hi - lo) / 2;
		if (c->blocks[mid].offset + c->blocks[mid].length <= offset)
			lo = mid + 1;
		else
			hi = mid;
	}
	*out = c->first + lo;
	*begin = lo < c->n ? c->blocks[lo].offset : UINT64_MAX;
	return (0);
}

static int
mark_range(struct cursor *c, uint64_t offset, uint64_t length, struct err *err)
{
	uint64_t first, last, begin;

	if (find_block(c, offset, &first, &begin, err) == -1 || find_block(c, offset + length - 1, &last, &begin, err) == -1)
		return (-1);
	set_bits(c->a, c->source, first, begin < offset + length ? last + 1 : last);
	return (0);
}

/* All archives that stand for the source: more than one when a repack was cut short, and then each is as good as needed. */
static int
find_holders(struct live *lv, const struct index_source *s, struct cursor ***out, size_t *n, struct err *err)
{
	struct cursor *c;
	uint32_t source;

	*n = 0;
	if ((*out = calloc(lv->n + 1, sizeof(**out))) == NULL)
		return (err_nomem(err));
	for (size_t i = 0; i < lv->n; i++) {
		if ((source = index_source_find(lv->v[i]->ar->ix, s)) == UINT32_MAX)
			continue;
		if ((c = calloc(1, sizeof(*c))) == NULL)
			return (err_nomem(err));
		c->a = lv->v[i];
		c->source = source;
		(*out)[(*n)++] = c;
	}
	return (0);
}

static int
mark_view(struct cursor **cs, size_t n, const struct index_reader *ix, uint32_t disk, uint32_t source, struct err *err)
{
	uint64_t count = index_view_count(ix, disk);
	struct index_view v[BATCH / 4];
	size_t part;

	for (uint64_t at = 0; at < count; at += part) {
		part = count - at < BATCH / 4 ? (size_t)(count - at) : BATCH / 4;
		if (index_view(ix, disk, at, part, v, err) == -1)
			return (-1);
		for (size_t i = 0; i < part; i++)
			for (size_t k = 0; k < n && v[i].kind == VIEW_DATA && v[i].source == source; k++)
				if (mark_range(cs[k], v[i].offset, v[i].length, err) == -1)
					return (-1);
	}
	return (0);
}

static int
mark_source(struct live *lv, const struct index_reader *ix, uint32_t source, struct err *err)
{
	struct cursor **cs = NULL;
	struct index_source s;
	size_t n = 0;
	int rc = -1;

	if (index_source(ix, source, &s, err) == -1 || find_holders(lv, &s, &cs, &n, err) == -1)
		goto out;
	for (uint32_t disk = 0; n > 0 && disk < index_disks(ix); disk++)
		if (mark_view(cs, n, ix, disk, source, err) == -1)
			goto out;
	rc = 0;
out:
	for (size_t i = 0; i < n; i++)
		free(cs[i]);
	free(cs);
	return (rc);
}

/* Whether one of the archives is, or stands for, one that the point names. */
static bool
concerns(const struct live *lv, const struct manifest *m)
{
	uint8_t id[ARCHIVE_ID_LEN];

	for (size_t i = 0; i < m->nreferences; i++) {
		if (uuid_parse(m->references[i], id) == -1)
			return (true);
		for (size_t k = 0; k < lv->n; k++)
			if (memcmp(index_info(lv->v[k]->ar->ix)->archive, id, ARCHIVE_ID_LEN) == 0 || index_replaces(lv->v[k]->ar->ix, id))
				return (true);
	}
	return (false);
}

static int
mark_point(struct live *lv, const struct point *p, struct err *err)
{
	struct manifest m = MANIFEST_INIT;
	struct archive_reader *ar = NULL;
	int rc = -1;

	if (repo_manifest(lv->r, p, &m, err) == -1) {
		/* It was pruned, or its folder has gone, since the points were listed. */
		rc = err->code == ESTALE ? 0 : -1;
		goto out;
	}
	if (!concerns(lv, &m)) {
		rc = 0;
		goto out;
	}
	if ((ar = archive_open_point(lv->r, p, &m, err)) == NULL)
		goto out;
	if (ar->note != NULL) {
		err_set(err, 0, "%s: %s", ar->name, ar->note);
		goto out;
	}
	rc = 0;
	for (uint32_t i = 0; i < index_sources(ar->ix) && rc == 0; i++)
		rc = mark_source(lv, ar->ix, i, err);
out:
	archive_close(ar);
	manifest_free(&m);
	return (rc);
}

/* A frame's bytes are shared out among its blocks by their length. */
static int
count_dead(struct live_archive *a, struct err *err)
{
	struct index_block b[BATCH];
	struct index_frame f;
	uint64_t used;
	uint32_t n;

	for (uint64_t i = 0; i < index_frame_count(a->ar->ix); i++) {
		if (index_frames(a->ar->ix, i, 1, &f, err) == -1)
			return (-1);
		if (f.source == NO_SOURCE)
			continue;
		used = 0;
		for (uint32_t at = 0; at < f.blocks; at += n) {
			n = f.blocks - at < BATCH ? f.blocks - at : BATCH;
			if (index_blocks(a->ar->ix, f.source, f.first_block + at, n, b, err) == -1)
				return (-1);
			for (uint32_t k = 0; k < n; k++)
				used += live_bit(a->bits[f.source], f.first_block + at + k) ? b[k].length : 0;
		}
		a->raw += f.raw;
		a->stored += f.stored;
		a->dead += f.stored - (uint64_t)f.stored * used / f.raw;
	}
	return (0);
}

int
live_mark(struct live *lv, const struct points *all, struct err *err)
{
	for (size_t i = 0; i < all->n; i++)
		if (!repo_is_pruned(lv->r, &all->v[i]) && mark_point(lv, &all->v[i], err) == -1)
			return (err_wrap(err, "%s@%s cannot be read, and may need what pruned points hold", all->v[i].folder, all->v[i].name));
	for (size_t i = 0; i < lv->n; i++)
		if (count_dead(lv->v[i], err) == -1)
			return (-1);
	return (0);
}

int
live_take(struct live_archive *a, const uint8_t id[ARCHIVE_ID_LEN], uint64_t *stored, struct err *err)
{
	const struct index_reader *ix = a->ar->ix;
	struct index_source s;
	struct index_frame f;

	*stored = 0;
	for (uint32_t i = 0; i < index_sources(ix); i++) {
		if (index_source(ix, i, &s, err) == -1)
			return (-1);
		if (index_block_count(ix, i) > 0 && memcmp(s.archive, id, ARCHIVE_ID_LEN) == 0)
			set_bits(a, i, 0, index_block_count(ix, i));
	}
	for (uint64_t i = 0; i < index_frame_count(ix); i++) {
		if (index_frames(ix, i, 1, &f, err) == -1)
			return (-1);
		if (f.source != NO_SOURCE && a->used[f.source] > 0)
			*stored += f.stored;
	}
	return (0);
}
