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

#include "archive/full_copy.h"
#include "replication/replica_list.h"
#include "repository/compact.h"
#include "repository/doubles.h"
#include "repository/pack.h"

#define DEAD_MAX	5u			/* a fifth */

struct repack {
	struct repo			*r;
	struct lock			*lk;
	const struct compact_how	*how;
	struct pack			 pk;
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

static int
remove_archive(struct repack *rp, const struct live_archive *a, struct compact_stats *stats, struct err *err)
{
	if (repo_remove(rp->r, rp->lk, &a->point, err) == -1)
		return (-1);
	stats->freed += a->m.archive.size;
	stats->removed++;
	return (0);
}

/* The ids of the old archives, and of those that they replaced. */
static int
add_replaced(struct pack *pk, struct err *err)
{
	uint8_t id[ARCHIVE_ID_LEN];

	for (size_t i = 0; i < pk->n; i++) {
		const struct index_reader *ix = pk->old[i]->ar->ix;

		if (pack_replaces(pk, index_info(ix)->archive, err) == -1)
			return (-1);
		for (uint64_t k = 0; k < index_replaced(ix); k++)
			if (index_replaced_id(ix, k, id, err) == -1 || pack_replaces(pk, id, err) == -1)
				return (-1);
	}
	return (0);
}

static int
write_pack(struct repack *rp, struct err *err)
{
	const struct compact_how *how = rp->how;
	struct pack *pk = &rp->pk;
	uint64_t total = 0;
	char note[128];

	for (size_t i = 0; i < pk->n; i++)
		total += pk->old[i]->raw;
	if (how->begin != NULL)
		how->begin(how->arg, "repack", total);
	snprintf(note, sizeof(note), "repacked from %zu pruned point%s by %.60s", pk->n, pk->n == 1 ? "" : "s", how->program);
	replica_lists_settle(rp->r, pk->old[0]->point.folder, NULL);
	if (pack_write(pk, rp->r, rp->lk, how, err) == -1 || add_replaced(pk, err) == -1 || compact_archive_finish(&pk->ca, err) == -1)
		return (-1);
	return (pack_publish(pk, note, err));
}

/* Pack what fits into one new archive.  Returns how many old ones that were, or -1. */
static int
repack_some(struct live *lv, struct repack *rp, struct compact_stats *stats, struct err *err)
{
	struct pack *pk = &rp->pk;
	struct live_archive *a;
	int rc = -1;

	if (pack_begin(pk, err) == -1)
		goto out;
	for (size_t i = 0; i < live_count(lv); i++) {
		a = live_archive(lv, i);
		if (is_worth_it(a) && pack_add(pk, a, err) == -1)
			goto out;
	}
	if (pk->n > 0) {
		if (write_pack(rp, err) == -1)
			goto out;
		stats->written += pk->ca.written.size;
		stats->copied += pk->ca.written.copied;
		stats->repacked += (unsigned int)pk->n;
		for (size_t i = 0; i < pk->n; i++) {
			if (remove_archive(rp, pk->old[i], stats, err) == -1)
				goto out;
			pk->old[i]->dead = 0;	/* it is done with */
		}
		say(rp->how, "%s@%s: %zu archive%s of pruned points repacked, %u %% copied", pk->old[0]->point.folder, pk->old[0]->point.name, pk->n,
		    pk->n == 1 ? "" : "s", full_copy_percent(&pk->ca.written));
	}
	rc = (int)pk->n;
out:
	if (rc == -1)
		err_wrap(err, "the archives of pruned points cannot be repacked");
	pack_end(pk);
	return (rc);
}

/*
 * What another one has too: what a crash left of a repack, or came twice.  Of what came from another repository, more than one archive may have different parts
 * of one that they stand for, so what counts is the blocks.
 */
static int
remove_doubled(struct live *lv, struct repack *rp, struct compact_stats *stats, struct err *err)
{
	struct live_archive *a;
	int doubled;

	for (size_t i = 0; i < live_count(lv);) {
		a = live_archive(lv, i);
		doubled = 0;
		for (size_t k = 0; k < live_count(lv) && doubled == 0; k++)
			if (k != i && blocks_used(a) > 0)
				doubled = doubles_has_all(live_archive(lv, k), a, rp->how->stop, err);
		if (doubled == -1 || (doubled == 1 && remove_archive(rp, a, stats, err) == -1))
			return (-1);
		if (doubled == 1)
			live_drop(lv, i);
		else
			i++;
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

	if (live_mark(lv, all, err) == -1 || remove_unused(lv, &rp, stats, err) == -1 || remove_doubled(lv, &rp, stats, err) == -1)
		return (-1);
	while ((packed = repack_some(lv, &rp, stats, err)) > 0)
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
