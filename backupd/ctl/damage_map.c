#include "damage_map.h"

#include <stdlib.h>
#include <string.h>

#include "archive/archive_reader.h"

#define RANGES_MAX	4096u		/* of one archive */
#define BATCH		128u

struct range {
	struct index_source	source;
	uint64_t		begin, end;	/* of the disk */
};

struct damaged {
	bool		 archive, point;
	struct range	*v;
	size_t		 n, cap;
};

struct damage_map {
	const struct catalog	*c;
	struct damaged		*v;		/* by the catalog's entries */
};

struct damage_map *
damage_map_new(const struct catalog *c, struct err *err)
{
	struct damage_map *d = calloc(1, sizeof(*d));

	if (d == NULL || (d->v = calloc(c->n + 1, sizeof(*d->v))) == NULL) {
		free(d);
		err_nomem(err);
		return (NULL);
	}
	d->c = c;
	return (d);
}

void
damage_map_free(struct damage_map *d)
{
	if (d == NULL)
		return;
	for (size_t i = 0; i < d->c->n; i++)
		free(d->v[i].v);
	free(d->v);
	free(d);
}

static bool
same_source(const struct index_source *a, const struct index_source *b)
{
	return (a->disk == b->disk && memcmp(a->archive, b->archive, ARCHIVE_ID_LEN) == 0);
}

int
damage_map_blocks(struct damage_map *d, size_t entry, const struct index_source *s, uint64_t offset, uint64_t length, struct err *err)
{
	struct damaged *a = &d->v[entry];
	struct range *last = a->n > 0 ? &a->v[a->n - 1] : NULL, *more;
	size_t cap;

	/* Frames come back in about their order: what adjoins is joined, and when there are too many, all is. */
	if (last != NULL && same_source(&last->source, s) && (a->n >= RANGES_MAX || (offset >= last->begin && offset <= last->end))) {
		last->begin = offset < last->begin ? offset : last->begin;
		last->end = offset + length > last->end ? offset + length : last->end;
		return (0);
	}
	if (a->n >= 2 * RANGES_MAX) {
		a->archive = true;
		return (0);
	}
	if (a->v == NULL || a->n == a->cap) {
		cap = a->cap == 0 ? 16 : a->cap * 2;
		if ((more = realloc(a->v, cap * sizeof(*more))) == NULL)
			return (err_nomem(err));
		a->v = more;
		a->cap = cap;
	}
	a->v[a->n++] = (struct range){ *s, offset, offset + length };
	return (0);
}

void
damage_map_archive(struct damage_map *d, size_t entry)
{
	d->v[entry].archive = true;
}

void
damage_map_point(struct damage_map *d, size_t entry)
{
	d->v[entry].point = true;
}

static bool
is_damaged(const struct damaged *a)
{
	return (a->archive || a->n > 0);
}

/* The folder that a reader takes an archive from: that of its own machine, rather than a copy, rather than one that stands for it. */
static const struct catalog_holder *
holder_of(const struct damage_map *d, size_t point, const archive_id id)
{
	const struct catalog_holder *h, *best = NULL;
	const char *folder = d->c->v[point].point.folder;
	int rank, best_rank = -1;
	size_t count;

	h = catalog_find(d->c, id, &count);
	for (size_t i = 0; i < count; i++) {
		rank = h[i].replacing ? 0 : strcmp(d->c->v[h[i].entry].point.folder, folder) == 0 ? 2 : 1;
		if (h[i].entry == point)
			rank = 3;
		if (rank > best_rank) {
			best_rank = rank;
			best = &h[i];
		}
	}
	return (best);
}

/* Whether a look into its index is worth it. */
static bool
is_suspect(const struct damage_map *d, size_t point)
{
	const struct catalog_entry *e = &d->c->v[point];
	const struct catalog_holder *h;

	if (is_damaged(&d->v[point]))
		return (true);
	for (size_t i = 0; i < e->nreferences; i++)
		if ((h = holder_of(d, point, e->references[i])) == NULL || is_damaged(&d->v[h->entry]))
			return (true);
	return (false);
}

static const struct range *
find_range(const struct damaged *a, const struct index_source *s, uint64_t offset, uint64_t length)
{
	for (size_t i = 0; i < a->n; i++)
		if (same_source(&a->v[i].source, s) && a->v[i].begin < offset + length && offset < a->v[i].end)
			return (&a->v[i]);
	return (NULL);
}

static int
breaks_record(const struct damage_map *d, size_t point, const char *disk, const struct index_source *s, const struct index_view *v, struct err *why)
{
	const struct catalog_holder *h = holder_of(d, point, s->archive);
	const struct catalog_entry *e;
	const struct range *r;
	char id[UUID_LEN];

	uuid_text(s->archive, id);
	if (h == NULL) {
		err_set(why, 0, "disk %s: the archive %s is not in the repository", disk, id);
		return (1);
	}
	e = &d->c->v[h->entry];
	if (d->v[h->entry].archive)
		err_set(why, 0, "disk %s: needs the archive in %s/%s, which is lost", disk, e->point.folder, e->point.name);
	else if ((r = find_range(&d->v[h->entry], s, v->offset, v->length)) != NULL)
		err_set(why, 0, "disk %s: needs damaged bytes of the archive in %s/%s, at offset %llu", disk, e->point.folder, e->point.name,
		    (unsigned long long)(r->begin > v->offset ? r->begin : v->offset));
	else
		return (0);
	return (1);
}

static int
breaks_disk(const struct damage_map *d, size_t point, const struct index_reader *ix, uint32_t disk, struct err *why, struct err *err)
{
	uint64_t count = index_view_count(ix, disk);
	struct index_view v[BATCH];
	struct index_source s;
	size_t n;

	for (uint64_t at = 0; at < count; at += n) {
		n = count - at < BATCH ? (size_t)(count - at) : BATCH;
		if (index_view(ix, disk, at, n, v, err) == -1)
			return (-1);
		for (size_t i = 0; i < n; i++) {
			if (v[i].kind != VIEW_DATA)
				continue;
			if (index_source(ix, v[i].source, &s, err) == -1)
				return (-1);
			if (breaks_record(d, point, index_disk(ix, disk)->target, &s, &v[i], why) == 1)
				return (1);
		}
	}
	return (0);
}

int
damage_map_breaks(const struct damage_map *d, struct repo *r, size_t point, struct err *why, struct err *err)
{
	const struct catalog_entry *e = &d->c->v[point];
	struct manifest m = MANIFEST_INIT;
	struct archive_reader *ar;
	bool known;
	int rc = 0;

	if (d->v[point].archive || d->v[point].point) {
		err_set(why, 0, d->v[point].archive ? "its own archive is lost" : "a file that was saved with it is damaged");
		return (1);
	}
	if (!is_suspect(d, point))
		return (0);
	known = e->trouble == NULL && repo_manifest(r, &e->point, &m, err) == 0;
	if ((ar = archive_open_point(r, &e->point, known ? &m : NULL, err)) == NULL)
		rc = -1;
	for (uint32_t i = 0; rc == 0 && i < index_disks(ar->ix); i++)
		rc = breaks_disk(d, point, ar->ix, i, why, err);
	archive_close(ar);
	manifest_free(&m);
	return (rc);
}
