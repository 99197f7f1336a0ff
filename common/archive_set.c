#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "archive_reader.h"

struct archive_set {
	struct archive_reader	 *first;
	pthread_mutex_t		  lock;		/* guards all below */
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
	pthread_mutex_init(&set->lock, NULL);
	set->first = first;
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
	pthread_mutex_destroy(&set->lock);
	free(set->v);
	free(set);
}

struct archive_reader *
archive_set_first(const struct archive_set *set)
{
	return (set->first);
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
add(struct archive_set *set, struct archive_reader *ar, struct err *err)
{
	struct archive_reader **v = realloc(set->v, (set->n + 1) * sizeof(*v));

	if (v == NULL) {
		archive_close(ar);
		return (err_nomem(err));
	}
	set->v = v;
	v[set->n++] = ar;
	return (0);
}

static bool
stands_for(const struct archive_reader *ar, const uint8_t *id, bool replacing)
{
	return (replacing ? index_replaces(ar->ix, id) : memcmp(index_info(ar->ix)->archive, id, ARCHIVE_ID_LEN) == 0);
}

/*
 * Open the point's archive when it is the one with ${id}, or, when ${replacing}, stands for it.  A point whose
 * manifest is lost is asked for its index instead.  Returns NULL with err->text empty when it is not the one.
 */
static struct archive_reader *
try_point(struct archive_set *set, const struct point *p, const uint8_t *id, bool replacing, struct err *err)
{
	struct err ignored = ERR_INIT;
	struct manifest m = MANIFEST_INIT;
	uint8_t got[ARCHIVE_ID_LEN];
	struct archive_reader *ar = NULL;

	if (repo_manifest_any(set->repo, p, &m, &ignored) == -1) {
		/* The archive itself knows which it is. */
		if ((ar = archive_open_point(set->repo, p, NULL, &ignored)) != NULL && !stands_for(ar, id, replacing)) {
			archive_close(ar);
			ar = NULL;
		}
		return (ar);
	}
	if (uuid_parse(m.archive.id, got) == 0) {
		if (!replacing && memcmp(got, id, ARCHIVE_ID_LEN) == 0)
			ar = archive_open_point(set->repo, p, &m, err);
		else if (replacing && (ar = archive_open_point(set->repo, p, &m, &ignored)) != NULL && !stands_for(ar, id, true)) {
			archive_close(ar);
			ar = NULL;
		}
	}
	manifest_free(&m);
	return (ar);
}

static struct archive_reader *
try_points(struct archive_set *set, const struct points *ps, const uint8_t *id, bool replacing, struct err *err)
{
	struct archive_reader *ar = NULL;

	for (size_t i = ps->n; i-- > 0 && ar == NULL && err->text[0] == '\0';)
		ar = try_point(set, &ps->v[i], id, replacing, err);
	return (ar);
}

/* The points of the machine first, then all; an archive that only stands for the one with ${id} last. */
static struct archive_reader *
open_archive(struct archive_set *set, const uint8_t *id, struct err *err)
{
	struct points own = POINTS_INIT, all = POINTS_INIT;
	struct archive_reader *ar = NULL;
	char text[UUID_LEN];

	*err = (struct err)ERR_INIT;
	uuid_text(id, text);
	if (set->repo == NULL) {
		err_set(err, 0, "the data is in another archive (%s): restore from the repository, not from this archive alone", text);
		return (NULL);
	}
	if (repo_points(set->repo, set->folder, &own, err) == 0)
		ar = try_points(set, &own, id, false, err);
	if (ar == NULL && err->text[0] == '\0' && repo_all_points(set->repo, &all, err) == 0 &&
	    (ar = try_points(set, &all, id, false, err)) == NULL)
		ar = try_points(set, &all, id, true, err);
	if (ar == NULL && err->text[0] == '\0')
		err_set(err, 0, "the archive %s, which holds part of this restore point, is not in the repository", text);
	points_free(&own);
	points_free(&all);
	return (ar);
}

/* With the lock held. */
static struct archive_reader *
find(struct archive_set *set, const struct index_source *s, uint32_t *source, struct err *err)
{
	struct archive_reader *ar = find_open(set, s, source);

	if (ar != NULL)
		return (ar);
	if ((ar = open_archive(set, s->archive, err)) == NULL || add(set, ar, err) == -1)
		return (NULL);
	if ((*source = index_source_find(ar->ix, s)) != UINT32_MAX)
		return (ar);
	err_set(err, 0, "%s holds no blocks of disk %u, which this restore point needs", ar->name, s->disk);
	return (NULL);
}

struct archive_reader *
archive_set_find(struct archive_set *set, const struct index_source *s, uint32_t *source, struct err *err)
{
	struct archive_reader *ar;

	pthread_mutex_lock(&set->lock);
	ar = find(set, s, source, err);
	pthread_mutex_unlock(&set->lock);
	return (ar);
}
