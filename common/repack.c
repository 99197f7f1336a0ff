/*
 * Repack: the archives of pruned points shrink to what kept points still use.
 *
 * Those of one machine and codec of which more than a fifth is dead are packed into one new archive that lists their ids (FORMAT.md, type 7) and
 * holds, as pieces of disks of the same names, every block of theirs that is used; then their folders go.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compact.h"
#include "compact_archive.h"
#include "frame_reader.h"
#include "full_copy.h"
#include "live.h"

#define DEAD_MAX	5u			/* a fifth */
#define DISKS_MAX	1024u

/* The blocks of one source, in one of the old archives. */
struct lot {
	struct live_archive	*a;
	uint32_t		 source;	/* there */
	struct index_source	 key;
	uint32_t		 disk;		/* of the new archive */
};

struct repack {
	struct repo			*r;
	struct lock			*lk;
	const struct compact_how	*how;
	struct live_archive		**old;
	size_t				 n;
	struct index_disk		*disks;		/* of the new archive */
	json_t				*rows;		/* theirs in the manifest */
	json_t				*replaces;	/* ids, in the manifest */
	uint32_t			 ndisks;
	struct lot			*lots;
	size_t				 nlots;
	struct frame_reader		*fr;
	struct compact_archive		 ca;
	uint64_t			 done;		/* bytes of frames */
};

static void
say(const struct compact_how *how, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	if (how->say == NULL)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	how->say(how->arg, text);
}

static bool
is_worth_it(const struct live_archive *a)
{
	return (a->dead > a->stored / DEAD_MAX);
}

static uint64_t
blocks_used(const struct live_archive *a)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < index_sources(a->ar->ix); i++)
		n += a->used[i];
	return (n);
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
want_disk(struct repack *rp, const struct live_archive *a, uint32_t disk, struct err *err)
{
	const struct index_disk *d = index_disk(a->ar->ix, disk);
	json_t *row = json_array_get(json_object_get(a->m.json, "disks"), disk);
	struct index_disk *mine;

	for (uint32_t i = 0; i < rp->ndisks; i++) {
		mine = &rp->disks[i];
		if (strcmp(mine->member, d->member) != 0)
			continue;
		if (d->size > mine->size)
			mine->size = d->size;
		return (i);
	}
	if (rp->ndisks == DISKS_MAX)
		return (err_set(err, 0, "more than %u disks", DISKS_MAX));
	if ((row = json_deep_copy(row)) == NULL || json_array_append_new(rp->rows, row) == -1)
		return (err_set(err, 0, "its manifest and its index name different disks"));
	rp->disks[rp->ndisks] = *d;
	return (rp->ndisks++);
}

static int
add_lots(struct repack *rp, struct live_archive *a, struct err *err)
{
	const struct index_reader *ix = a->ar->ix;
	struct lot *v, *lot;
	uint32_t disk;
	int64_t mine;

	for (uint32_t i = 0; i < index_sources(ix); i++) {
		if (a->used[i] == 0)
			continue;
		if ((v = realloc(rp->lots, (rp->nlots + 1) * sizeof(*v))) == NULL)
			return (err_nomem(err));
		rp->lots = v;
		lot = &v[rp->nlots];
		*lot = (struct lot){ .a = a, .source = i };
		if (index_source(ix, i, &lot->key, err) == -1 || disk_of_source(ix, i, &disk, err) == -1 ||
		    (mine = want_disk(rp, a, disk, err)) == -1)
			return (-1);
		lot->disk = (uint32_t)mine;
		rp->nlots++;
	}
	rp->old[rp->n++] = a;
	return (0);
}

/*
 * Whether an archive can go with those chosen before it: one codec, one name for each target, and, which only a crash can make otherwise, no source
 * that another one holds too.  -1 on error.
 */
static int
fits(const struct repack *rp, const struct live_archive *a, struct err *err)
{
	const struct index_reader *ix = a->ar->ix;
	const struct index_disk *d;
	struct index_source s;
	uint32_t disk;

	if (rp->n > 0 && index_info(ix)->codec != index_info(rp->old[0]->ar->ix)->codec)
		return (0);
	for (uint32_t i = 0; i < index_sources(ix); i++) {
		if (a->used[i] == 0)
			continue;
		if (index_source(ix, i, &s, err) == -1 || disk_of_source(ix, i, &disk, err) == -1)
			return (-1);
		for (size_t k = 0; k < rp->nlots; k++)
			if (rp->lots[k].key.disk == s.disk && memcmp(rp->lots[k].key.archive, s.archive, ARCHIVE_ID_LEN) == 0)
				return (0);
		d = index_disk(ix, disk);
		for (uint32_t k = 0; k < rp->ndisks; k++)
			if ((strcmp(rp->disks[k].target, d->target) == 0) != (strcmp(rp->disks[k].member, d->member) == 0))
				return (0);
	}
	return (1);
}

/* One frame: as it stands when all of it is used, else what is used of it. */
static int
pack_frame(struct repack *rp, const struct lot *lot, uint64_t number, const struct index_frame *f, struct err *err)
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
		return (archive_writer_delta_copy(rp->ca.aw, &c, err));
	if (frame_reader_load(rp->fr, lot->a->ar, lot->source, f, err) == -1)
		return (-1);
	for (uint32_t i = 0; i < f->blocks; at += rp->fr->blocks[i].length, i++) {
		if (!live_bit(bits, f->first_block + i))
			continue;
		if (!frame_reader_block_is_good(rp->fr, i, at))
			return (err_set(err, 0, "%s: disk offset %llu: the block does not have the digest that was taken when it was stored",
			    lot->a->ar->name, (unsigned long long)rp->fr->blocks[i].offset));
		if (archive_writer_delta_block(rp->ca.aw, rp->fr->blocks[i].offset, rp->fr->raw + at, rp->fr->blocks[i].length, err) == -1)
			return (-1);
	}
	return (0);
}

static int
pack_lot(struct repack *rp, const struct lot *lot, struct err *err)
{
	const struct index_reader *ix = lot->a->ar->ix;
	uint64_t number, last, count = index_block_count(ix, lot->source);
	struct index_frame f;

	if (archive_writer_delta_source(rp->ca.aw, &lot->key, err) == -1 || index_frame_of(ix, lot->source, 0, &number, err) == -1 ||
	    index_frame_of(ix, lot->source, count - 1, &last, err) == -1)
		return (-1);
	for (; number <= last; number++) {
		if (rp->how->stop != NULL && *rp->how->stop)
			return (err_plain(err, EINTR, "stopped"));
		if (index_frames(ix, number, 1, &f, err) == -1)
			return (-1);
		if (f.source == NO_SOURCE)
			continue;
		if (pack_frame(rp, lot, number, &f, err) == -1)
			return (-1);
		rp->done += f.raw;
		if (rp->how->tick != NULL)
			rp->how->tick(rp->how->arg, rp->done);
	}
	return (0);
}

static int
pack_disk(struct repack *rp, uint32_t disk, struct err *err)
{
	const struct index_disk *d = &rp->disks[disk];
	struct archive_disk_written w;
	json_t *row = json_array_get(rp->rows, disk);

	if (archive_writer_delta_begin(rp->ca.aw, d->target, d->member, d->size, err) == -1)
		return (-1);
	for (size_t i = 0; i < rp->nlots; i++)
		if (rp->lots[i].disk == disk && pack_lot(rp, &rp->lots[i], err) == -1)
			return (-1);
	if (archive_writer_delta_end(rp->ca.aw, &w, err) == -1)
		return (-1);
	if (json_object_set_new(row, "data", json_integer((json_int_t)w.data)) == -1 || json_object_set_new(row, "zero", json_integer(0)) == -1 ||
	    json_object_set_new(row, "size", json_integer((json_int_t)d->size)) == -1)
		return (err_nomem(err));
	return (0);
}

static int
replaces(struct repack *rp, const uint8_t id[ARCHIVE_ID_LEN], struct err *err)
{
	char text[UUID_LEN];

	uuid_text(id, text);
	if (json_array_append_new(rp->replaces, json_string(text)) == -1)
		return (err_nomem(err));
	return (archive_writer_replaces(rp->ca.aw, id, err));
}

/* The ids of the old archives, and of those that they replaced. */
static int
add_replaced(struct repack *rp, struct err *err)
{
	uint8_t id[ARCHIVE_ID_LEN];

	for (size_t i = 0; i < rp->n; i++) {
		const struct index_reader *ix = rp->old[i]->ar->ix;

		if (replaces(rp, index_info(ix)->archive, err) == -1)
			return (-1);
		for (uint64_t k = 0; k < index_replaced(ix); k++)
			if (index_replaced_id(ix, k, id, err) == -1 || replaces(rp, id, err) == -1)
				return (-1);
	}
	return (0);
}

static int
publish(struct repack *rp, struct err *err)
{
	json_t *m = json_deep_copy(rp->old[0]->m.json);
	char text[128];
	int rc = -1;

	snprintf(text, sizeof(text), "repacked from %zu pruned point%s by %.60s", rp->n, rp->n == 1 ? "" : "s", rp->how->program);
	if (m == NULL || json_object_set(m, "disks", rp->rows) == -1 || json_object_set(m, "replaces", rp->replaces) == -1 || json_object_set_new(m, "members", json_array()) == -1 ||
	    json_object_set_new(m, "kind", json_string("incremental")) == -1 ||
	    json_object_set_new(m, "notes", json_pack("[s]", text)) == -1)
		err_nomem(err);
	else
		rc = compact_archive_publish(&rp->ca, m, PRUNED_NAME, NULL, err);
	json_decref(m);
	return (rc);
}

static int
best_level(const struct repack *rp)
{
	int level = 0;

	for (size_t i = 0; i < rp->n; i++)
		if (index_info(rp->old[i]->ar->ix)->level > level)
			level = index_info(rp->old[i]->ar->ix)->level;
	return (level);
}

static int
pack(struct repack *rp, struct err *err)
{
	const struct live_archive *first = rp->old[0];
	uint64_t total = 0;

	for (size_t i = 0; i < rp->n; i++)
		total += rp->old[i]->raw;
	if (rp->how->begin != NULL)
		rp->how->begin(rp->how->arg, "repack", total);
	if ((rp->fr = frame_reader_new(err)) == NULL ||
	    compact_archive_begin(&rp->ca, rp->r, rp->lk, first->m.vm, first->point.time, index_info(first->ar->ix)->codec, best_level(rp), err) == -1)
		return (-1);
	for (uint32_t i = 0; i < rp->ndisks; i++)
		if (pack_disk(rp, i, err) == -1)
			return (-1);
	return (add_replaced(rp, err) == -1 || compact_archive_finish(&rp->ca, err) == -1 ? -1 : publish(rp, err));
}

static int
remove_archive(struct repack *rp, const struct live_archive *a, struct compact_stats *stats, struct err *err)
{
	if (repo_remove(rp->r, rp->lk, &a->point, err) == -1)
		return (-1);
	stats->freed += a->m.archive.size;
	stats->removed++;
	return (0);
}

static int
repack_begin(struct repack *rp, struct live *lv, struct err *err)
{
	rp->old = calloc(live_count(lv) + 1, sizeof(struct live_archive *));
	rp->disks = calloc(DISKS_MAX, sizeof(*rp->disks));
	rp->rows = json_array();
	rp->replaces = json_array();
	return (rp->old == NULL || rp->disks == NULL || rp->rows == NULL || rp->replaces == NULL ? err_nomem(err) : 0);
}

static void
repack_end(struct repack *rp)
{
	compact_archive_end(&rp->ca);
	frame_reader_free(rp->fr);
	json_decref(rp->rows);
	json_decref(rp->replaces);
	free(rp->old);
	free(rp->disks);
	free(rp->lots);
}

/* Pack what fits into one new archive.  Returns how many old ones that were, or -1. */
static int
repack_some(struct live *lv, struct repo *r, struct lock *lk, const struct compact_how *how, struct compact_stats *stats, struct err *err)
{
	struct repack rp = { .r = r, .lk = lk, .how = how, .ca = COMPACT_ARCHIVE_INIT };
	struct live_archive *a;
	int fit, rc = -1;

	if (repack_begin(&rp, lv, err) == -1)
		goto out;
	for (size_t i = 0; i < live_count(lv); i++) {
		a = live_archive(lv, i);
		if (!is_worth_it(a))
			continue;
		if ((fit = fits(&rp, a, err)) == -1 || (fit && add_lots(&rp, a, err) == -1))
			goto out;
	}
	if (rp.n > 0) {
		if (pack(&rp, err) == -1)
			goto out;
		stats->written += rp.ca.written.size;
		stats->copied += rp.ca.written.copied;
		stats->repacked += (unsigned int)rp.n;
		for (size_t i = 0; i < rp.n; i++) {
			if (remove_archive(&rp, rp.old[i], stats, err) == -1)
				goto out;
			rp.old[i]->dead = 0;	/* it is done with */
		}
		say(how, "%s@%s: %zu archive%s of pruned points repacked, %u %% copied", rp.old[0]->point.folder, rp.old[0]->point.name, rp.n,
		    rp.n == 1 ? "" : "s", full_copy_percent(&rp.ca.written));
	}
	rc = (int)rp.n;
out:
	if (rc == -1)
		err_wrap(err, "the archives of pruned points cannot be repacked");
	repack_end(&rp);
	return (rc);
}

/* An archive that another one replaces is what a crash left of a repack. */
static int
remove_replaced(struct live *lv, struct repack *rp, struct compact_stats *stats, struct err *err)
{
	const struct live_archive *a;
	bool replaced;

	for (size_t i = 0; i < live_count(lv);) {
		a = live_archive(lv, i);
		replaced = false;
		for (size_t k = 0; k < live_count(lv) && !replaced; k++)
			replaced = k != i && index_replaces(live_archive(lv, k)->ar->ix, index_info(a->ar->ix)->archive);
		if (!replaced) {
			i++;
			continue;
		}
		if (remove_archive(rp, a, stats, err) == -1)
			return (-1);
		live_drop(lv, i);
	}
	return (0);
}

static int
remove_unused(struct live *lv, struct repack *rp, struct compact_stats *stats, struct err *err)
{
	const struct live_archive *a;

	for (size_t i = 0; i < live_count(lv);) {
		a = live_archive(lv, i);
		if (blocks_used(a) > 0) {
			i++;
			continue;
		}
		if (remove_archive(rp, a, stats, err) == -1)
			return (-1);
		live_drop(lv, i);
	}
	return (0);
}

/* Some pruned points of one machine. */
static int
compact_some(struct live *lv, const struct points *all, struct repo *r, struct lock *lk, const struct compact_how *how,
    struct compact_stats *stats, struct err *err)
{
	struct repack rp = { .r = r, .lk = lk, .how = how };
	int packed;

	if (remove_replaced(lv, &rp, stats, err) == -1 || live_mark(lv, all, err) == -1 || remove_unused(lv, &rp, stats, err) == -1)
		return (-1);
	while ((packed = repack_some(lv, r, lk, how, stats, err)) > 0)
		;
	return (packed);
}

int
compact_after_prune(struct repo *r, struct lock *lk, const struct compact_how *how, struct compact_stats *stats, struct err *err)
{
	struct points all = POINTS_INIT;
	struct live *lv = NULL;
	struct err why = ERR_INIT;
	size_t i = 0, begin;
	int rc = -1, added;

	memset(stats, 0, sizeof(*stats));
	if (repo_settle(r, lk, err) == -1 || repo_all_points(r, &all, err) == -1)
		goto out;
	while (i < all.n) {
		live_free(lv);
		if ((lv = live_new(r, err)) == NULL)
			goto out;
		for (begin = i; i < all.n && strcmp(all.v[i].folder, all.v[begin].folder) == 0; i++) {
			if (!repo_is_pruned(r, &all.v[i]))
				continue;
			if ((added = live_add(lv, &all.v[i], &why)) == 0)
				break;
			if (added == -1)
				say(how, "%s@%s: the archive of this pruned point is left alone: %s", all.v[i].folder, all.v[i].name, why.text);
		}
		if (live_count(lv) > 0 && compact_some(lv, &all, r, lk, how, stats, err) == -1)
			goto out;
	}
	rc = 0;
out:
	live_free(lv);
	points_free(&all);
	return (rc);
}

int
compact_dead_share(struct repo *r, const struct point *p, double *share, struct err *err)
{
	struct points all = POINTS_INIT;
	struct live *lv = live_new(r, err);
	const struct live_archive *a;
	int rc = -1;

	if (lv != NULL && live_add(lv, p, err) == 1 && repo_all_points(r, &all, err) == 0 && live_mark(lv, &all, err) == 0) {
		a = live_archive(lv, 0);
		*share = a->stored > 0 ? (double)a->dead / (double)a->stored : 1;
		rc = 0;
	}
	live_free(lv);
	points_free(&all);
	return (rc);
}
