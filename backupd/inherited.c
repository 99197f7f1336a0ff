#include "inherited.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "archive/index_diff.h"
#include "checkpoint.h"

static bool
is_same(const char *a, const char *b)
{
	return (a == NULL || b == NULL ? a == b : strcmp(a, b) == 0);
}

/* A point for which a checkpoint was made has its XML as a small member; an archive that was repacked has none. */
static bool
is_own(const struct manifest *m)
{
	char name[INDEX_NAME_LEN];

	checkpoint_member(m->checkpoint, name);
	for (size_t i = 0; i < m->nmembers; i++)
		if (strcmp(m->members[i].name, name) == 0)
			return (true);
	return (false);
}

/* By an index that is all there. */
static struct archive_reader *
open_origin(struct repo *repo, const struct point *p, const struct manifest *m)
{
	struct err ignored = ERR_INIT;
	struct archive_reader *ar = archive_open_point(repo, p, m, &ignored);

	if (ar != NULL && ar->note != NULL) {
		archive_close(ar);
		ar = NULL;
	}
	return (ar);
}

void
inherited_open(struct inherited *in, struct repo *repo, const struct points *points, size_t n, const struct manifest *m)
{
	struct manifest earlier = MANIFEST_INIT;
	struct err ignored = ERR_INIT;
	bool same, more = true;

	if (m->checkpoint == NULL || is_own(m))
		return;
	in->is = true;
	for (size_t i = n; i-- > 0 && more; manifest_free(&earlier)) {
		/* One that was pruned will do, while its archive is needed. */
		if (repo_manifest_any(repo, &points->v[i], &earlier, &ignored) == -1)
			continue;
		same = is_same(earlier.vm, m->vm) && is_same(earlier.uuid, m->uuid);
		if (same && is_same(earlier.checkpoint, m->checkpoint) && is_own(&earlier)) {
			in->origin = open_origin(repo, &points->v[i], &earlier);
			in->manifest = earlier;
			earlier = (struct manifest)MANIFEST_INIT;
			more = false;
		} else if (same && is_same(earlier.job, m->job) && !is_same(earlier.checkpoint, m->checkpoint))
			more = false;	/* the job had another one then: this one is not as old */
	}
}

static uint32_t
disk_of(const struct inherited *in, const char *target)
{
	for (uint32_t i = 0; in->origin != NULL && i < index_disks(in->origin->ix); i++)
		if (strcmp(index_disk(in->origin->ix, i)->target, target) == 0)
			return (i);
	return (UINT32_MAX);
}

/* The path says which image a bitmap is of: two may have been exchanged since. */
bool
inherited_tells(const struct inherited *in, const char *target, const char *source)
{
	const struct manifest *m = &in->manifest;

	if (!in->is)
		return (true);
	for (size_t i = 0; i < m->ndisks; i++)
		if (strcmp(m->disks[i].target, target) == 0 && is_same(m->disks[i].source, source))
			return (disk_of(in, target) != UINT32_MAX);
	return (false);
}

/* Both in order. */
static int
unite(struct extents *out, const struct extents *a, const struct extents *b, struct err *err)
{
	struct spool_cursor *c = calloc(2, sizeof(*c));
	struct extent e[2];
	int more[2], rc = 0;
	size_t k;

	if (c == NULL)
		return (err_nomem(err));
	spool_cursor_init(&c[0], a->spool);
	spool_cursor_init(&c[1], b->spool);
	more[0] = extents_next(&c[0], &e[0], err);
	more[1] = extents_next(&c[1], &e[1], err);
	while (rc == 0 && more[0] >= 0 && more[1] >= 0 && more[0] + more[1] > 0) {
		k = more[0] == 0 || (more[1] == 1 && e[1].offset < e[0].offset);
		rc = extents_add(out, e[k].offset, e[k].length, err);
		more[k] = extents_next(&c[k], &e[k], err);
	}
	free(c);
	return (rc == -1 || more[0] == -1 || more[1] == -1 ? -1 : extents_end(out, err));
}

struct extents *
inherited_dirty(const struct inherited *in, const char *target, const struct index_reader *point, uint32_t disk, const struct extents *bitmap,
    struct err *err)
{
	struct extents *differ = extents_new(bitmap->size, err), *all = differ == NULL ? NULL : extents_new(bitmap->size, err);
	uint32_t then = disk_of(in, target);
	int rc = all == NULL ? -1 : 0;

	if (rc == 0 && in->is && then == UINT32_MAX)
		rc = err_set(err, 0, "nothing is known of the disk %s when its bitmap began", target);
	if (rc == 0 && in->is)
		rc = index_diff(in->origin->ix, then, point, disk, differ, err);
	if (rc == 0 && (rc = extents_end(differ, err)) == 0)
		rc = unite(all, bitmap, differ, err);
	extents_free(differ);
	if (rc == 0)
		return (all);
	extents_free(all);
	return (NULL);
}

void
inherited_close(struct inherited *in)
{
	archive_close(in->origin);
	manifest_free(&in->manifest);
	*in = (struct inherited)INHERITED_INIT;
}
