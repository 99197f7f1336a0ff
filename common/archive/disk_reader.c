#include "archive/disk_reader.h"

#include <stdlib.h>
#include <string.h>

#include "archive/frame_reader.h"

#define CACHE_MAX	4u		/* frames; each takes up to 13 MB with its decoder, and two disk_readers may be at work */

struct origin {
	struct archive_reader	*ar;		/* NULL: not looked for yet */
	uint32_t		 source;
};

/* A frame that was decompressed. */
struct cached {
	struct frame_reader	*fr;
	const struct origin	*origin;	/* NULL: empty */
	uint64_t		 number;
	uint64_t		 used;		/* when, for the oldest to go first */
};

struct disk_reader {
	struct archive_set	*set;
	uint32_t		 disk;
	struct origin		*origins;	/* by source of the first archive */
	struct cached		 cache[CACHE_MAX];
	size_t			 ncache;
	uint64_t		 clock;
	uint64_t		 record;	/* of the view: the one that was read last */
};

struct disk_reader *
disk_reader_new(struct archive_set *set, uint32_t disk, struct err *err)
{
	struct disk_reader *dr = calloc(1, sizeof(*dr));
	struct index_reader *ix = archive_set_first(set)->ix;

	if (dr == NULL || (dr->origins = calloc((size_t)index_sources(ix) + 1, sizeof(*dr->origins))) == NULL) {
		free(dr);
		err_nomem(err);
		return (NULL);
	}
	dr->set = set;
	dr->disk = disk;
	return (dr);
}

void
disk_reader_free(struct disk_reader *dr)
{
	if (dr == NULL)
		return;
	for (size_t i = 0; i < dr->ncache; i++)
		frame_reader_free(dr->cache[i].fr);
	free(dr->origins);
	free(dr);
}

struct extents *
disk_reader_extents(struct disk_reader *dr, struct err *err)
{
	struct index_reader *ix = archive_set_first(dr->set)->ix;
	struct extents *ex = extents_new(index_disk(ix, dr->disk)->size, err);
	struct index_view v;

	for (uint64_t i = 0; ex != NULL && i < index_view_count(ix, dr->disk); i++)
		if (index_view(ix, dr->disk, i, 1, &v, err) == -1 ||
		    (v.kind == VIEW_DATA && extents_add(ex, v.offset, v.length, err) == -1))
			goto fail;
	if (ex != NULL && extents_end(ex, err) == 0)
		return (ex);
fail:
	extents_free(ex);
	return (NULL);
}

/*
 * The entry for a frame of an origin: the one that holds that origin's last frame, which is read through when the next one is asked for; else a
 * new one, else the oldest.
 */
static struct cached *
cache_entry(struct disk_reader *dr, const struct origin *o, struct err *err)
{
	struct cached *c, *oldest = NULL;

	for (size_t i = 0; i < dr->ncache; i++) {
		c = &dr->cache[i];
		if (c->origin == o)
			return (c);
		if (oldest == NULL || c->used < oldest->used)
			oldest = c;
	}
	if (dr->ncache == CACHE_MAX)
		return (oldest);
	c = &dr->cache[dr->ncache];
	if ((c->fr = frame_reader_new(err)) == NULL)
		return (NULL);
	dr->ncache++;
	return (c);
}

static struct frame_reader *
get_frame(struct disk_reader *dr, struct origin *o, uint64_t block, struct err *err)
{
	struct index_frame f;
	struct cached *c;
	uint64_t number;

	if (index_frame_of(o->ar->ix, o->source, block, &number, err) == -1 || (c = cache_entry(dr, o, err)) == NULL)
		return (NULL);
	c->used = ++dr->clock;
	if (c->origin == o && c->number == number)
		return (c->fr);
	c->origin = NULL;
	if (index_frames(o->ar->ix, number, 1, &f, err) == -1 || frame_reader_load(c->fr, o->ar, o->source, &f, err) == -1)
		return (NULL);
	c->origin = o;
	c->number = number;
	return (c->fr);
}

static int
find_origin(struct disk_reader *dr, uint32_t source, struct origin **out, struct err *err)
{
	struct origin *o = &dr->origins[source];
	struct index_source s;

	*out = o;
	if (o->ar != NULL)
		return (0);
	if (index_source(archive_set_first(dr->set)->ix, source, &s, err) == -1)
		return (-1);
	return ((o->ar = archive_set_find(dr->set, &s, &o->source, err)) == NULL ? -1 : 0);
}

/* Part of one record of the view. */
static int
read_data(struct disk_reader *dr, uint32_t source, uint8_t *p, uint64_t offset, uint64_t end, struct err *err)
{
	struct frame_reader *fr;
	struct origin *o;
	uint64_t block;
	size_t got;

	if (find_origin(dr, source, &o, err) == -1)
		return (-1);
	for (; offset < end; offset += got, p += got) {
		if (index_block_find(o->ar->ix, o->source, offset, &block, err) == -1)
			break;
		if (block == index_block_count(o->ar->ix, o->source)) {
			err_set(err, 0, "no block of the archive holds this part");
			break;
		}
		if ((fr = get_frame(dr, o, block, err)) == NULL ||
		    frame_reader_copy(fr, block, offset, end, p, &got, err) == -1)
			break;
	}
	if (offset < end)
		return (err_wrap(err, "disk %s at offset %llu", index_disk(archive_set_first(dr->set)->ix, dr->disk)->target,
		    (unsigned long long)offset));
	return (0);
}

/* The first record that ends after the offset: reads go forward, so it is near the last one. */
static int
find_record(struct disk_reader *dr, uint64_t offset, struct err *err)
{
	struct index_reader *ix = archive_set_first(dr->set)->ix;
	uint64_t count = index_view_count(ix, dr->disk);
	struct index_view v;

	for (; dr->record > 0; dr->record--) {
		if (index_view(ix, dr->disk, dr->record - 1, 1, &v, err) == -1)
			return (-1);
		if (v.offset + v.length <= offset)
			break;
	}
	for (; dr->record < count; dr->record++) {
		if (index_view(ix, dr->disk, dr->record, 1, &v, err) == -1)
			return (-1);
		if (v.offset + v.length > offset)
			break;
	}
	return (0);
}

int
disk_reader_read(struct disk_reader *dr, void *p, size_t n, uint64_t offset, struct err *err)
{
	struct index_reader *ix = archive_set_first(dr->set)->ix;
	uint64_t end = offset + n, from, to;
	struct index_view v;

	memset(p, 0, n);
	if (find_record(dr, offset, err) == -1)
		return (-1);
	for (; dr->record < index_view_count(ix, dr->disk); dr->record++) {
		if (index_view(ix, dr->disk, dr->record, 1, &v, err) == -1)
			return (-1);
		if (v.offset >= end)
			break;
		from = v.offset > offset ? v.offset : offset;
		to = v.offset + v.length < end ? v.offset + v.length : end;
		if (v.kind == VIEW_DATA && read_data(dr, v.source, (uint8_t *)p + (from - offset), from, to, err) == -1)
			return (-1);
		if (v.offset + v.length >= end)
			break;
	}
	return (0);
}
