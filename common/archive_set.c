#include <stdlib.h>
#include <string.h>

#include "archive_reader.h"


struct archive_set {
	struct repo		 *repo;		/* NULL: a bare archive */
	char			  folder[NAMING_MAX];	/* the machine's: its own points are looked at first */
	struct archive_reader	**v;
	size_t			  n;
};

struct archive_set *
archive_set_new(struct repo *r, struct archive_reader *first, const char *folder, struct err *err)
{
	struct archive_set *set = calloc(1, sizeof(*set));

	if (set == NULL || (set->v = calloc(1, sizeof(*set->v))) == NULL) {
		free(set);
		archive_close(first);
		err_nomem(err);
		return (NULL);
	}
	set->repo = r;
	strncpy(set->folder, folder, sizeof(set->folder) - 1);
	set->v[set->n++] = first;
	return (set);
}

void
archive_set_free(struct archive_set *set)
{
	if (set == NULL)
		return;
	for (size_t i = 0; i < set->n; i++)
		archive_close(set->v[i]);
	free(set->v);
	free(set);
}

struct archive_reader *
archive_set_first(const struct archive_set *set)
{
	return (set->v[0]);
}

static struct archive_reader *
find_open(const struct archive_set *set, const struct index_source *s, uint32_t *source)
{
	for (size_t i = 0; i < set->n; i++)
		if ((*source = index_source_find(set->v[i]->ix, s)) != UINT32_MAX)
			return (set->v[i]);
	return (NULL);
}

static int
add(struct archive_set *set, const struct point *p, const struct manifest *m, struct err *err)
{
	struct archive_reader **v = realloc(set->v, (set->n + 1) * sizeof(*v));

	if (v == NULL)
		return (err_nomem(err));
	set->v = v;
	if ((v[set->n] = archive_open_point(set->repo, p, m, err)) == NULL)
		return (-1);
	set->n++;
	return (0);
}

/*
 * Whether the point's archive is the one with ${id}, or, when ${replacing}, stands for it; then it is added to the set.  A point whose
 * manifest cannot be read is passed over: another may be the one.
 */
static int
try_point(struct archive_set *set, const struct point *p, const uint8_t *id, bool replacing, bool *found, struct err *err)
{
	struct err ignored = ERR_INIT;
	struct manifest m = MANIFEST_INIT;
	uint8_t got[ARCHIVE_ID_LEN];
	int rc = 0;

	if (repo_manifest_any(set->repo, p, &m, &ignored) == -1)
		return (0);
	if (uuid_parse(m.archive.id, got) == 0) {
		if (!replacing && memcmp(got, id, ARCHIVE_ID_LEN) == 0) {
			*found = true;
			rc = add(set, p, &m, err);
		} else if (replacing && add(set, p, &m, &ignored) == 0) {
			*found = index_replaces(set->v[set->n - 1]->ix, id);
			if (!*found)
				archive_close(set->v[--set->n]);
		}
	}
	manifest_free(&m);
	return (rc);
}

static int
try_points(struct archive_set *set, const struct points *ps, const uint8_t *id, bool replacing, bool *found, struct err *err)
{
	for (size_t i = ps->n; i-- > 0 && !*found;)
		if (try_point(set, &ps->v[i], id, replacing, found, err) == -1)
			return (-1);
	return (0);
}

static int
open_archive(struct archive_set *set, const uint8_t *id, struct err *err)
{
	struct points own = POINTS_INIT, all = POINTS_INIT;
	char text[UUID_LEN];
	bool found = false;
	int rc = -1;

	uuid_text(id, text);
	if (set->repo == NULL)
		return (err_set(err, 0, "the data is in another archive (%s): restore from the repository, not from this archive alone", text));
	if (repo_points(set->repo, set->folder, &own, err) == -1 || try_points(set, &own, id, false, &found, err) == -1)
		goto out;
	if (!found && (repo_all_points(set->repo, &all, err) == -1 || try_points(set, &all, id, false, &found, err) == -1 ||
	    try_points(set, &all, id, true, &found, err) == -1))
		goto out;
	rc = found ? 0 : err_set(err, 0, "the archive %s, which holds part of this restore point, is not in the repository", text);
out:
	points_free(&own);
	points_free(&all);
	return (rc);
}

struct archive_reader *
archive_set_find(struct archive_set *set, const struct index_source *s, uint32_t *source, struct err *err)
{
	struct archive_reader *ar = find_open(set, s, source);

	if (ar != NULL)
		return (ar);
	if (open_archive(set, s->archive, err) == -1)
		return (NULL);
	if ((ar = find_open(set, s, source)) == NULL)
		err_set(err, 0, "%s holds no blocks of disk %u, which this restore point needs", set->v[set->n - 1]->name, s->disk);
	return (ar);
}
