#include "chain.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static bool
is_same_machine(const struct manifest *m, const char *vm, const char *uuid)
{
	if (strcmp(m->vm, vm) != 0 || (m->uuid == NULL) != (uuid == NULL))
		return (false);
	return (uuid == NULL || strcmp(m->uuid, uuid) == 0);
}

/* The latest manifest of the machine, and of the job unless that is NULL.  Returns whether there is one; one that is damaged is looked past. */
static bool
find_manifest(struct chain *c, struct repo *repo, const struct points *points, const char *job, const char *vm, const char *uuid)
{
	struct err why = ERR_INIT;

	for (size_t i = points->n; i-- > 0;) {
		if (repo_manifest(repo, &points->v[i], &c->manifest, &why) == -1) {
			snprintf(c->why, sizeof(c->why), "%s", why.text);
			continue;
		}
		if (is_same_machine(&c->manifest, vm, uuid) && (job == NULL || strcmp(c->manifest.job, job) == 0)) {
			c->point = points->v[i];
			return (true);
		}
		manifest_free(&c->manifest);
	}
	return (false);
}

static size_t
place_of(const struct points *points, const struct point *p)
{
	size_t i = 0;

	while (i < points->n && strcmp(points->v[i].name, p->name) != 0)
		i++;
	return (i);
}

void
chain_open(struct chain *c, struct repo *repo, const char *job, const char *vm, const char *uuid)
{
	struct points points = POINTS_INIT;
	struct err why = ERR_INIT;
	char folder[NAMING_MAX];
	struct archive_reader *ar;

	if (name_escape(vm, folder, &why) == -1 || repo_points(repo, folder, &points, &why) == -1) {
		/* Without a folder it is the machine's first point. */
		if (why.code != ENOENT)
			snprintf(c->why, sizeof(c->why), "%s", why.text);
	} else if (find_manifest(c, repo, &points, job, vm, uuid) || find_manifest(c, repo, &points, NULL, vm, uuid)) {
		ar = archive_open_point(repo, &c->point, &c->manifest, &why);
		/* What was made good without its digests is no ground to build upon. */
		if (ar != NULL && ar->note != NULL) {
			snprintf(c->why, sizeof(c->why), "%s", ar->note);
			archive_close(ar);
		} else if (ar == NULL || (c->set = archive_set_new(repo, ar, c->point.folder, &why)) == NULL)
			snprintf(c->why, sizeof(c->why), "%s", why.text);
		if (c->set != NULL)
			inherited_open(&c->inherited, repo, &points, place_of(&points, &c->point), &c->manifest);
	}
	points_free(&points);
}

const struct manifest_disk *
chain_disk(const struct chain *c, const char *target, uint32_t *number)
{
	const struct index_reader *ix;

	if (c->set == NULL)
		return (NULL);
	ix = archive_set_first(c->set)->ix;
	for (size_t i = 0; i < c->manifest.ndisks; i++)
		if (strcmp(c->manifest.disks[i].target, target) == 0) {
			for (*number = 0; *number < index_disks(ix); ++*number)
				if (strcmp(index_disk(ix, *number)->target, target) == 0)
					return (&c->manifest.disks[i]);
		}
	return (NULL);
}

void
chain_close(struct chain *c)
{
	inherited_close(&c->inherited);
	archive_set_free(c->set);
	manifest_free(&c->manifest);
	c->set = NULL;
}
