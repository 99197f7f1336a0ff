/* The checkpoint that a run made: it stays when its point was published, and goes when it was not (settle.h). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint.h"
#include "repository/repo.h"
#include "settle.h"

/* Whether one of the points names the checkpoint. */
static bool
is_named(struct repo *r, const struct points *points, const char *checkpoint)
{
	struct manifest m = MANIFEST_INIT;
	bool named = false;

	for (size_t i = points->n; i-- > 0 && !named;) {
		if (repo_manifest(r, &points->v[i], &m, &(struct err)ERR_INIT) == -1)
			continue;
		named = m.checkpoint != NULL && strcmp(m.checkpoint, checkpoint) == 0;
		manifest_free(&m);
	}
	return (named);
}

/* A run may die after it has published and before its journal says so: 1, 0, or -1 when it cannot be told. */
static int
is_published(const struct journal *j)
{
	struct points points = POINTS_INIT;
	struct err why = ERR_INIT;
	char folder[NAMING_MAX];
	struct repo *r;
	int rc = -1;

	if (j->repository == NULL || (r = repo_open(j->repository, false, &why)) == NULL)
		return (-1);
	/* A folder without repository.json may be where the repository is mounted at other times. */
	if (r->id[0] != '\0' && name_escape(j->name, folder, &why) == 0) {
		if (repo_points(r, folder, &points, &why) == 0)
			rc = is_named(r, &points, j->checkpoint);
		else if (why.code == ENOENT)
			rc = 0;
	}
	points_free(&points);
	repo_close(r);
	return (rc);
}

static int
delete(const struct settle *s, struct err *err)
{
	virDomainPtr dom = hypervisor_domain(s->hv, s->journal->uuid, LIBVIRT_SECONDS, err);
	int rc;

	if (dom == NULL)
		return (err->code == ENOENT ? 0 : -1);
	rc = checkpoint_delete(dom, s->journal->checkpoint, err);
	virDomainFree(dom);
	return (rc);
}

int
settle_checkpoint(const struct settle *s, struct err *err)
{
	struct journal *j = s->journal;

	if (j->checkpoint == NULL)
		return (0);
	if (is_published(j) == 0 && delete(s, err) == -1)
		return (-1);
	free(j->checkpoint);
	free(j->repository);
	j->checkpoint = j->repository = NULL;
	return (0);
}
