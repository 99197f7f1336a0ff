#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "archive/archive_reader.h"
#include "archive/coverage.h"

#define LOOKS_MAX	10u

struct archive_set {
	struct archive_reader	 *first;
	pthread_mutex_t		  lock;		/* guards all below */
	struct repo		 *repo;		/* NULL: a bare archive */
	char			  folder[NAMING_MAX];	/* the machine's: its own points are looked at first */
	struct archive_reader	**v;
	size_t			  n;
	bool			  has_others;	/* what stands for any of those that the point names was looked for */
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

static bool
has_id(const struct archive_reader *ar, const uint8_t *id)
{
	return (memcmp(index_info(ar->ix)->archive, id, ARCHIVE_ID_LEN) == 0);
}

/* The number of ${s} in the point's own index; UINT32_MAX: it does not name it. */
static uint32_t
number_of(const struct archive_set *set, const struct index_source *s)
{
	const struct index_reader *ix = set->first->ix;
	struct err ignored = ERR_INIT;
	struct index_source mine;

	for (uint32_t i = 0; i < index_sources(ix); i++)
		if (index_source(ix, i, &mine, &ignored) == 0 && mine.disk == s->disk && memcmp(mine.archive, s->archive, ARCHIVE_ID_LEN) == 0)
			return (i);
	return (UINT32_MAX);
}

/* Whether the open archive ${i} is a better choice than ${best}: one of them has all that the point needs, or else more. */
static bool
is_better(const struct archive_set *set, const struct index_source *s, size_t i, size_t best)
{
	uint32_t n = number_of(set, s), source = index_source_find(set->v[i]->ix, s), other = index_source_find(set->v[best]->ix, s);
	struct err ignored = ERR_INIT;
	struct coverage_gap gap;

	if (n != UINT32_MAX && coverage_find_gap(set->first->ix, n, set->v[best]->ix, other, &gap, &ignored) == 0)
		return (false);
	if (n != UINT32_MAX && coverage_find_gap(set->first->ix, n, set->v[i]->ix, source, &gap, &ignored) == 0)
		return (true);
	return (index_block_count(set->v[i]->ix, source) > index_block_count(set->v[best]->ix, other));
}

/* The archive itself; or of those that stand for it, which may each have only part of it, the best. */
static struct archive_reader *
find_open(const struct archive_set *set, const struct index_source *s, uint32_t *source)
{
	size_t best = SIZE_MAX;

	for (size_t i = 0; i < set->n; i++) {
		if (index_source_find(set->v[i]->ix, s) == UINT32_MAX)
			continue;
		if (has_id(set->v[i], s->archive)) {
			best = i;
			break;
		}
		if (best == SIZE_MAX || is_better(set, s, i, best))
			best = i;
	}
	if (best == SIZE_MAX)
		return (NULL);
	*source = index_source_find(set->v[best]->ix, s);
	return (set->v[best]);
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
	return (replacing ? index_replaces(ar->ix, id) : has_id(ar, id));
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

/* The folders of the machine first, then all; an archive that only stands for the one with ${id} last.  ${all} is what there was to look at. */
static struct archive_reader *
look_everywhere(struct archive_set *set, const uint8_t *id, struct points *all, struct err *err)
{
	struct points own = POINTS_INIT;
	struct archive_reader *ar = NULL;

	*err = (struct err)ERR_INIT;
	if (repo_places(set->repo, set->folder, &own, err) == 0)
		ar = try_points(set, &own, id, false, err);
	else if (err->code == ENOENT)
		*err = (struct err)ERR_INIT;
	if (ar == NULL && err->text[0] == '\0' && repo_all_places(set->repo, all, err) == 0 &&
	    (ar = try_points(set, all, id, false, err)) == NULL && err->text[0] == '\0')
		ar = try_points(set, all, id, true, err);
	points_free(&own);
	return (ar);
}

static bool
same_points(const struct points *a, const struct points *b)
{
	if (a->n != b->n)
		return (false);
	for (size_t i = 0; i < a->n; i++)
		if (strcmp(a->v[i].folder, b->v[i].folder) != 0 || strcmp(a->v[i].name, b->v[i].name) != 0)
			return (false);
	return (true);
}

/* Readers take no lock: while folders come, go and are renamed, an archive is not missing until a look has found all at rest. */
static struct archive_reader *
open_archive(struct archive_set *set, const uint8_t *id, struct err *err)
{
	struct points now = POINTS_INIT, then = POINTS_INIT;
	struct err ignored = ERR_INIT;
	struct archive_reader *ar = NULL;
	char text[UUID_LEN];
	bool rest = false;

	uuid_text(id, text);
	if (set->repo == NULL) {
		*err = (struct err)ERR_INIT;
		err_set(err, 0, "the data is in another archive (%s): restore from the repository, not from this archive alone", text);
		return (NULL);
	}
	for (unsigned int i = 0; i < LOOKS_MAX && ar == NULL && !rest; i++) {
		points_free(&then);
		points_free(&now);
		if (repo_all_places(set->repo, &then, &ignored) == -1 || (ar = look_everywhere(set, id, &now, err)) != NULL)
			break;
		points_free(&now);
		rest = repo_all_places(set->repo, &now, &ignored) == -1 || same_points(&then, &now);
	}
	if (ar == NULL && err->text[0] == '\0')
		err_set(err, 0, "the archive %s, which holds part of this restore point, is not in the repository", text);
	points_free(&then);
	points_free(&now);
	return (ar);
}

/* Whether the manifest names, as one that its archive stands for, an archive that the point needs; ${open} when that is open already. */
static bool
is_other(const struct archive_set *set, const struct manifest *m, bool *open)
{
	uint8_t id[ARCHIVE_ID_LEN];
	struct err ignored = ERR_INIT;
	struct index_source s;
	bool found = false;

	*open = uuid_parse(m->archive.id, id) == -1;
	for (size_t i = 0; i < set->n && !*open; i++)
		*open = has_id(set->v[i], id);
	for (size_t k = 0; k < m->nreplaces && !found; k++)
		for (uint32_t i = 0; i < index_sources(set->first->ix) && !found; i++)
			found = uuid_parse(m->replaces[k], id) == 0 && index_source(set->first->ix, i, &s, &ignored) == 0 &&
			    memcmp(s.archive, id, ARCHIVE_ID_LEN) == 0;
	return (found);
}

/* All of the machine's archives that stand for one that the point names: replication may have brought more than one of the same. */
static int
add_others(struct archive_set *set, struct err *err)
{
	struct points ps = POINTS_INIT;
	struct err ignored = ERR_INIT;
	struct archive_reader *ar;
	int rc = 0;
	bool open;

	set->has_others = true;
	if (set->repo == NULL || repo_places(set->repo, set->folder, &ps, &ignored) == -1)
		return (0);
	for (size_t i = 0; i < ps.n && rc == 0; i++) {
		struct manifest m = MANIFEST_INIT;

		if (repo_manifest_any(set->repo, &ps.v[i], &m, &ignored) == 0 && m.nreplaces > 0 && is_other(set, &m, &open) && !open &&
		    (ar = archive_open_point(set->repo, &ps.v[i], &m, &ignored)) != NULL)
			rc = add(set, ar, err);
		manifest_free(&m);
	}
	points_free(&ps);
	return (rc);
}

int
archive_set_add(struct archive_set *set, const struct points *holders, struct err *err)
{
	struct err ignored = ERR_INIT;
	struct archive_reader *ar;
	bool all = true;

	for (size_t i = 0; i < holders->n; i++) {
		struct manifest m = MANIFEST_INIT;

		ar = NULL;
		if (repo_manifest_any(set->repo, &holders->v[i], &m, &ignored) == 0)
			ar = archive_open_point(set->repo, &holders->v[i], &m, &ignored);
		manifest_free(&m);
		all = all && ar != NULL;
		if (ar != NULL && add(set, ar, err) == -1)
			return (-1);
	}
	set->has_others = all;
	return (0);
}

/* With the lock held. */
static struct archive_reader *
find(struct archive_set *set, const struct index_source *s, uint32_t *source, struct err *err)
{
	struct archive_reader *ar = find_open(set, s, source), *opened = NULL;

	if (ar != NULL && (has_id(ar, s->archive) || set->has_others))
		return (ar);
	if (ar == NULL && ((opened = open_archive(set, s->archive, err)) == NULL || add(set, opened, err) == -1))
		return (NULL);
	if ((opened == NULL || !has_id(opened, s->archive)) && !set->has_others && add_others(set, err) == -1)
		return (NULL);
	if ((ar = find_open(set, s, source)) != NULL)
		return (ar);
	err_set(err, 0, "%s holds no blocks of disk %u, which this restore point needs", opened != NULL ? opened->name : "the repository", s->disk);
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

/* Returns whether all that the first archive names is there. */
static bool
hold(struct archive_set *set)
{
	const struct index_reader *ix = set->first->ix;
	struct err ignored = ERR_INIT;
	struct index_source s;
	bool all = true;
	uint32_t n;

	for (uint32_t i = 0; i < index_sources(ix); i++)
		if (index_source(ix, i, &s, &ignored) == -1 || (memcmp(s.archive, index_info(ix)->archive, ARCHIVE_ID_LEN) != 0 &&
		    archive_set_find(set, &s, &n, &ignored) == NULL))
			all = false;
	return (all);
}

/* A point that was consolidated just now needs nothing of what its old archive did: then that may be gone. */
static bool
is_another(const struct archive_set *set, struct repo *r, const struct point *p)
{
	struct manifest now = MANIFEST_INIT;
	uint8_t id[ARCHIVE_ID_LEN];
	bool other;

	if (repo_manifest_any(r, p, &now, &(struct err)ERR_INIT) == -1)
		return (false);
	other = uuid_parse(now.archive.id, id) == 0 && memcmp(id, index_info(set->first->ix)->archive, ARCHIVE_ID_LEN) != 0;
	manifest_free(&now);
	return (other);
}

struct archive_set *
archive_set_open(struct repo *r, const struct point *p, const struct manifest *m, struct err *err)
{
	struct manifest again = MANIFEST_INIT;
	struct archive_reader *ar;
	struct archive_set *set = NULL;

	for (unsigned int i = 0; i < LOOKS_MAX; i++) {
		if ((ar = archive_open_point(r, p, m, err)) == NULL || (set = archive_set_new(r, ar, p->folder, err)) == NULL)
			break;
		if (hold(set) || m == NULL || !is_another(set, r, p))
			break;
		manifest_free(&again);
		if (repo_manifest_any(r, p, &again, &(struct err)ERR_INIT) == -1)
			break;
		m = &again;
		archive_set_free(set);
		set = NULL;
	}
	manifest_free(&again);
	return (set);
}
