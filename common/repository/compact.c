/* Consolidate: a restore point becomes a full archive.  The names are point_swap.c's matter, repacking is repack.c's. */
#include "repository/compact.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "archive/full_copy.h"
#include "repository/compact_archive.h"

struct consolidate {
	const struct compact_how	*how;
	struct archive_set		*set;
	struct manifest			 m;
	json_t				*json;		/* the new manifest */
	struct archive_disk_written	*disks;
	struct compact_archive		 ca;
};

static int
begin(void *arg, const char *target, uint64_t bytes, struct err *err)
{
	struct consolidate *c = arg;

	(void)err;
	if (c->how->begin != NULL)
		c->how->begin(c->how->arg, target, bytes);
	return (0);
}

static int
stopped(const struct compact_how *how, struct err *err)
{
	return (how->stop != NULL && *how->stop ? err_plain(err, EINTR, "stopped; the restore point is as it was") : 0);
}

static int
tick(void *arg, uint64_t done, struct err *err)
{
	struct consolidate *c = arg;

	if (c->how->tick != NULL)
		c->how->tick(c->how->arg, done);
	return (stopped(c->how, err));
}

/* What the new manifest says that the old one did not; all else, also what this version does not know, stays. */
static int
change_manifest(struct consolidate *c, struct err *err)
{
	json_t *rows, *row, *notes;
	char text[128], now[RFC3339_LEN];

	if ((c->json = json_deep_copy(c->m.json)) == NULL)
		return (err_nomem(err));
	time_rfc3339(time(NULL), now);
	snprintf(text, sizeof(text), "consolidated on %s by %.60s", now, c->how->program);
	rows = json_object_get(c->json, "disks");
	for (uint32_t i = 0; i < index_disks(archive_set_first(c->set)->ix); i++)
		if ((row = json_array_get(rows, i)) == NULL || json_object_set_new(row, "data", json_integer((json_int_t)c->disks[i].data)) == -1 ||
		    json_object_set_new(row, "zero", json_integer((json_int_t)c->disks[i].zero)) == -1)
			return (err_set(err, 0, "its manifest and its index name different disks"));
	if (json_object_set_new(c->json, "kind", json_string("full")) == -1)
		return (err_nomem(err));
	json_object_del(c->json, "replaces");
	notes = json_object_get(c->json, "notes");
	return (json_array_append_new(notes, json_string(text)) == -1 ? err_nomem(err) : 0);
}

static int
open_old(struct consolidate *c, struct repo *r, const struct point *p, struct err *err)
{
	struct archive_reader *ar;

	if ((c->set = archive_set_open(r, p, &c->m, err)) == NULL)
		return (-1);
	ar = archive_set_first(c->set);
	/* What was made good for a restore is not good enough to take the place of what is there. */
	if (ar->note != NULL)
		return (err_set(err, 0, "%s is damaged: %s", ar->name, ar->note));
	if (index_disks(ar->ix) != c->m.ndisks)
		return (err_set(err, 0, "%s: its manifest and its index name different disks", ar->name));
	c->disks = calloc(index_disks(ar->ix) + (size_t)1, sizeof(*c->disks));
	return (c->disks == NULL ? err_nomem(err) : 0);
}

static int
write_new(struct consolidate *c, struct repo *r, struct lock *lk, const struct point *p, struct err *err)
{
	const struct index_info *old = index_info(archive_set_first(c->set)->ix);
	const struct compression *z = c->how->compression;
	struct full_copy fc = { .set = c->set, .arg = c, .begin = begin, .tick = tick };
	char name[NAMING_MAX + 8];

	snprintf(name, sizeof(name), "%s%s", p->name, PLACE_NEW);
	if (compact_archive_begin(&c->ca, r, lk, c->m.vm, p->time, z != NULL ? codec_by_id((uint32_t)z->codec) : old->codec,
	    z != NULL ? z->level : old->level, err) == -1)
		return (-1);
	if (full_copy(&fc, c->ca.aw, &c->ca.info, c->disks, err) == -1 || compact_archive_finish(&c->ca, err) == -1 ||
	    change_manifest(c, err) == -1 || stopped(c->how, err) == -1)
		return (-1);
	if (compact_archive_publish(&c->ca, c->json, MANIFEST_NAME, name, err) == 0)
		return (0);
	if (err->code == EEXIST || err->code == ENOTEMPTY)
		return (err_plain(err, EBUSY, "it was consolidated already, and is not in its place yet"));
	return (-1);
}

int
compact_write(struct repo *r, struct lock *lk, const struct point *p, const struct compact_how *how, struct compact_stats *stats, struct err *err)
{
	struct consolidate c = { .how = how, .m = MANIFEST_INIT, .ca = COMPACT_ARCHIVE_INIT };
	int rc = -1;

	if (repo_manifest(r, p, &c.m, err) == -1)
		goto out;
	if (strcmp(c.m.kind, "full") == 0 && c.m.nreferences == 0) {
		stats->already = true;
		rc = 0;
		goto out;
	}
	if (open_old(&c, r, p, err) == -1 || write_new(&c, r, lk, p, err) == -1)
		goto out;
	stats->written += c.ca.written.size;
	stats->copied += c.ca.written.copied;
	rc = 0;
out:
	if (rc == -1)
		err_wrap(err, "%s@%s cannot be consolidated", p->folder, p->name);
	compact_archive_end(&c.ca);
	json_decref(c.json);
	free(c.disks);
	archive_set_free(c.set);
	manifest_free(&c.m);
	return (rc);
}

int
compact_consolidate(struct repo *r, const struct point *p, const struct compact_how *how, struct compact_stats *stats, struct err *err)
{
	struct compact_stats after;
	struct lock *lk;
	int rc;

	memset(stats, 0, sizeof(*stats));
	if ((lk = lock_run(r->st, how->program, how->wait_s, how->stop, err)) == NULL)
		return (-1);
	rc = compact_write(r, lk, p, how, stats, err);
	lock_release(lk);
	if (rc == -1 || stats->already)
		return (rc);
	/* The new archive is published; whoever holds the repository alone next puts it in its place, if that cannot be done now. */
	if ((lk = lock_alone_wait(r->st, how->program, how->wait_s, how->stop, err)) == NULL) {
		stats->pending = err->code == EBUSY;
		return (err->code == EBUSY ? 0 : -1);
	}
	/* The old archive may have been the last to need others. */
	if ((rc = repo_settle(r, lk, err)) == 0 && (rc = compact_after_prune(r, lk, how, &after, err)) == 0) {
		stats->removed = after.removed;
		stats->repacked = after.repacked;
		stats->freed = after.freed;
	}
	return (lock_end(lk, rc == 0 ? err : &(struct err)ERR_INIT) == -1 ? -1 : rc);
}
