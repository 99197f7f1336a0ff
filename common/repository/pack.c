#include "repository/pack.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "archive/frame_reader.h"

#define DISKS_MAX	1024u

/* The blocks of one source, in one of the old archives. */
struct lot {
	struct live_archive	*a;
	uint32_t		 source;	/* there */
	struct index_source	 key;
	uint32_t		 disk;		/* of the new archive */
};

int
pack_begin(struct pack *pk, struct err *err)
{
	*pk = (struct pack){ .ca = COMPACT_ARCHIVE_INIT };
	pk->disks = calloc(DISKS_MAX, sizeof(*pk->disks));
	pk->rows = json_array();
	pk->replaces = json_array();
	return (pk->disks == NULL || pk->rows == NULL || pk->replaces == NULL ? err_nomem(err) : 0);
}

/* The disk whose member holds the blocks of a source: its own, or where the pieces of a replaced archive's stand. */
static int
disk_of_source(const struct index_reader *ix, uint32_t source, uint32_t *disk, struct err *err)
{
	struct index_source s;
	struct index_frame f;
	uint64_t frame;

	if (index_source(ix, source, &s, err) == -1)
		return (-1);
	if (memcmp(s.archive, index_info(ix)->archive, ARCHIVE_ID_LEN) == 0) {
		*disk = s.disk;
		return (0);
	}
	if (index_frame_of(ix, source, 0, &frame, err) == -1 || index_frames(ix, frame, 1, &f, err) == -1)
		return (-1);
	*disk = UINT32_MAX;
	for (uint32_t i = 0; i < index_disks(ix); i++)
		if (index_disk(ix, i)->header_offset <= f.tar_offset)
			*disk = i;
	return (*disk == UINT32_MAX ? err_set(err, 0, "a source stands before all disks") : 0);
}

/* The new archive's disk for a disk of an old one: by its member's name.  Returns its number, or -1. */
static int64_t
want_disk(struct pack *pk, const struct live_archive *a, uint32_t disk, struct err *err)
{
	const struct index_disk *d = index_disk(a->ar->ix, disk);
	json_t *row = json_array_get(json_object_get(a->m.json, "disks"), disk);
	struct index_disk *mine;

	for (uint32_t i = 0; i < pk->ndisks; i++) {
		mine = &pk->disks[i];
		if (strcmp(mine->member, d->member) != 0)
			continue;
		if (d->size > mine->size)
			mine->size = d->size;
		return (i);
	}
	if (pk->ndisks == DISKS_MAX)
		return (err_set(err, 0, "more than %u disks", DISKS_MAX));
	if ((row = json_deep_copy(row)) == NULL || json_array_append_new(pk->rows, row) == -1)
		return (err_set(err, 0, "its manifest and its index name different disks"));
	pk->disks[pk->ndisks] = *d;
	return (pk->ndisks++);
}

static int
add_lots(struct pack *pk, struct live_archive *a, struct err *err)
{
	const struct index_reader *ix = a->ar->ix;
	struct live_archive **old;
	struct lot *v, *lot;
	uint32_t disk;
	int64_t mine;

	for (uint32_t i = 0; i < index_sources(ix); i++) {
		if (a->used[i] == 0)
			continue;
		if ((v = realloc(pk->lots, (pk->nlots + 1) * sizeof(*v))) == NULL)
			return (err_nomem(err));
		pk->lots = v;
		lot = &v[pk->nlots];
		*lot = (struct lot){ .a = a, .source = i };
		if (index_source(ix, i, &lot->key, err) == -1 || disk_of_source(ix, i, &disk, err) == -1 ||
		    (mine = want_disk(pk, a, disk, err)) == -1)
			return (-1);
		lot->disk = (uint32_t)mine;
		pk->nlots++;
	}
	if ((old = realloc(pk->old, (pk->n + 1) * sizeof(*old))) == NULL)
		return (err_nomem(err));
	pk->old = old;
	old[pk->n++] = a;
	return (0);
}

/*
 * Whether an archive can go with those chosen before it: one codec, one name for each target, and, which only a crash can make otherwise, no source
 * that another one holds too.  -1 on error.
 */
static int
fits(const struct pack *pk, const struct live_archive *a, struct err *err)
{
	const struct index_reader *ix = a->ar->ix;
	const struct index_disk *d;
	struct index_source s;
	uint32_t disk;

	if (pk->n > 0 && index_info(ix)->codec != index_info(pk->old[0]->ar->ix)->codec)
		return (0);
	for (uint32_t i = 0; i < index_sources(ix); i++) {
		if (a->used[i] == 0)
			continue;
		if (index_source(ix, i, &s, err) == -1 || disk_of_source(ix, i, &disk, err) == -1)
			return (-1);
		for (size_t k = 0; k < pk->nlots; k++)
			if (pk->lots[k].key.disk == s.disk && memcmp(pk->lots[k].key.archive, s.archive, ARCHIVE_ID_LEN) == 0)
				return (0);
		d = index_disk(ix, disk);
		for (uint32_t k = 0; k < pk->ndisks; k++)
			if ((strcmp(pk->disks[k].target, d->target) == 0) != (strcmp(pk->disks[k].member, d->member) == 0))
				return (0);
	}
	return (1);
}

int
pack_add(struct pack *pk, struct live_archive *a, struct err *err)
{
	int fit = fits(pk, a, err);

	if (fit != 1)
		return (fit);
	return (add_lots(pk, a, err) == -1 ? -1 : 1);
}

/* One frame: as it stands when all of it is used, else what is used of it. */
static int
pack_frame(struct pack *pk, const struct lot *lot, uint64_t number, const struct index_frame *f, struct err *err)
{
	struct archive_copy c = { .ar = lot->a->ar, .number = number, .source = lot->source };
	const uint8_t *bits = lot->a->bits[lot->source];
	uint32_t used = 0;
	size_t at = 0;

	for (uint32_t i = 0; i < f->blocks; i++)
		used += live_bit(bits, f->first_block + i);
	if (used == 0)
		return (0);
	if (used == f->blocks)
		return (archive_writer_delta_copy(pk->ca.aw, &c, err));
	if (frame_reader_load(pk->fr, lot->a->ar, lot->source, f, err) == -1)
		return (-1);
	for (uint32_t i = 0; i < f->blocks; at += pk->fr->blocks[i].length, i++) {
		if (!live_bit(bits, f->first_block + i))
			continue;
		if (!frame_reader_block_is_good(pk->fr, i, at))
			return (err_set(err, 0, "%s: disk offset %llu: the block does not have the digest that was taken when it was stored",
			    lot->a->ar->name, (unsigned long long)pk->fr->blocks[i].offset));
		if (archive_writer_delta_block(pk->ca.aw, pk->fr->blocks[i].offset, pk->fr->raw + at, pk->fr->blocks[i].length, err) == -1)
			return (-1);
	}
	return (0);
}

static int
pack_lot(struct pack *pk, const struct lot *lot, struct err *err)
{
	const struct index_reader *ix = lot->a->ar->ix;
	uint64_t number, last, count = index_block_count(ix, lot->source);
	struct index_frame f;

	if (archive_writer_delta_source(pk->ca.aw, &lot->key, err) == -1 || index_frame_of(ix, lot->source, 0, &number, err) == -1 ||
	    index_frame_of(ix, lot->source, count - 1, &last, err) == -1)
		return (-1);
	for (; number <= last; number++) {
		if (pk->how->stop != NULL && *pk->how->stop)
			return (err_plain(err, EINTR, "stopped"));
		if (index_frames(ix, number, 1, &f, err) == -1)
			return (-1);
		if (f.source == NO_SOURCE)
			continue;
		if (pack_frame(pk, lot, number, &f, err) == -1)
			return (-1);
		pk->done += f.raw;
		if (pk->how->tick != NULL)
			pk->how->tick(pk->how->arg, pk->done);
	}
	return (0);
}

static int
pack_disk(struct pack *pk, uint32_t disk, struct err *err)
{
	const struct index_disk *d = &pk->disks[disk];
	struct archive_disk_written w;
	json_t *row = json_array_get(pk->rows, disk);

	if (archive_writer_delta_begin(pk->ca.aw, d->target, d->member, d->size, err) == -1)
		return (-1);
	for (size_t i = 0; i < pk->nlots; i++)
		if (pk->lots[i].disk == disk && pack_lot(pk, &pk->lots[i], err) == -1)
			return (-1);
	if (archive_writer_delta_end(pk->ca.aw, &w, err) == -1)
		return (-1);
	if (json_object_set_new(row, "data", json_integer((json_int_t)w.data)) == -1 || json_object_set_new(row, "zero", json_integer(0)) == -1 ||
	    json_object_set_new(row, "size", json_integer((json_int_t)d->size)) == -1)
		return (err_nomem(err));
	return (0);
}

static int
best_level(const struct pack *pk)
{
	int level = 0;

	for (size_t i = 0; i < pk->n; i++)
		if (index_info(pk->old[i]->ar->ix)->level > level)
			level = index_info(pk->old[i]->ar->ix)->level;
	return (level);
}

int
pack_write(struct pack *pk, struct repo *r, struct lock *lk, const struct compact_how *how, struct err *err)
{
	const struct live_archive *first = pk->old[0];

	pk->how = how;
	if ((pk->fr = frame_reader_new(err)) == NULL ||
	    compact_archive_begin(&pk->ca, r, lk, first->m.vm, first->point.time, index_info(first->ar->ix)->codec, best_level(pk), err) == -1)
		return (-1);
	for (uint32_t i = 0; i < pk->ndisks; i++)
		if (pack_disk(pk, i, err) == -1)
			return (-1);
	return (0);
}

int
pack_replaces(struct pack *pk, const uint8_t id[ARCHIVE_ID_LEN], struct err *err)
{
	char text[UUID_LEN];

	uuid_text(id, text);
	if (json_array_append_new(pk->replaces, json_string(text)) == -1)
		return (err_nomem(err));
	return (archive_writer_replaces(pk->ca.aw, id, err));
}

int
pack_publish(struct pack *pk, const char *note, struct err *err)
{
	json_t *m = json_deep_copy(pk->old[0]->m.json);
	int rc = -1;

	if (m == NULL || json_object_set(m, "disks", pk->rows) == -1 || json_object_set(m, "replaces", pk->replaces) == -1 ||
	    json_object_set_new(m, "members", json_array()) == -1 || json_object_set_new(m, "kind", json_string("incremental")) == -1 ||
	    json_object_set_new(m, "notes", json_pack("[s]", note)) == -1)
		err_nomem(err);
	else
		rc = compact_archive_publish(&pk->ca, m, PRUNED_NAME, NULL, err);
	json_decref(m);
	return (rc);
}

void
pack_end(struct pack *pk)
{
	compact_archive_end(&pk->ca);
	frame_reader_free(pk->fr);
	json_decref(pk->rows);
	json_decref(pk->replaces);
	free(pk->old);
	free(pk->disks);
	free(pk->lots);
}
