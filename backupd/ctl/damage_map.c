#include "damage_map.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "archive/archive_reader.h"
#include "archive/coverage.h"

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
	struct archive_reader	*packed;	/* the one that was looked into last, or NULL */
	size_t			 packed_entry;
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
	archive_close(d->packed);
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

/* Whether a look into its index is worth it: something that it needs is damaged, or in an archive that stands for another, and may have less of it. */
static bool
is_suspect(const struct damage_map *d, size_t point)
{
	const struct catalog_entry *e = &d->c->v[point];
	const struct catalog_holder *h;

	if (is_damaged(&d->v[point]))
		return (true);
	for (size_t i = 0; i < e->nreferences; i++)
		if ((h = holder_of(d, point, e->references[i])) == NULL || h->replacing || is_damaged(&d->v[h->entry]))
			return (true);
	return (false);
}

static struct archive_reader *
open_entry(struct repo *r, const struct catalog_entry *e, struct err *err)
{
	struct manifest m = MANIFEST_INIT;
	bool known = e->trouble == NULL && repo_manifest_any(r, &e->point, &m, err) == 0;
	struct archive_reader *ar = archive_open_point(r, &e->point, known ? &m : NULL, err);

	manifest_free(&m);
	return (ar);
}

/* Whether the archive of ${entry} has all that ${ix} shows of its source ${n}: 1, 0 and the place in ${gap}, or -1. */
static int
has_all(struct damage_map *d, struct repo *r, size_t entry, const struct index_reader *ix, uint32_t n, struct coverage_gap *gap, struct err *err)
{
	struct index_source s;
	uint32_t source;
	int rc;

	if (d->packed == NULL || d->packed_entry != entry) {
		archive_close(d->packed);
		/* Who packs it meanwhile leaves what points need. */
		if ((d->packed = open_entry(r, &d->c->v[entry], err)) == NULL)
			return (err->code == ENOENT || err->code == ESTALE ? 1 : -1);
		d->packed_entry = entry;
	}
	if (index_source(ix, n, &s, err) == -1)
		return (-1);
	source = index_source_find(d->packed->ix, &s);
	rc = coverage_find_gap(ix, n, source != UINT32_MAX ? d->packed->ix : NULL, source, gap, err);
	return (rc == -1 ? -1 : !rc);
}

/* Of those that stand for the archive, the one that a reader takes: which has all that is needed.  Returns 1 when none has, and ${why} says where; 0; -1. */
static int
find_packed(struct damage_map *d, struct repo *r, const struct index_reader *ix, uint32_t n, const struct catalog_holder **out, struct err *why,
    struct err *err)
{
	const struct catalog_holder *h;
	struct index_source s;
	struct coverage_gap gap = { 0, 0 };
	char id[UUID_LEN];
	size_t count;
	int rc = 0;

	if (index_source(ix, n, &s, err) == -1)
		return (-1);
	h = catalog_find(d->c, s.archive, &count);
	for (size_t i = 0; i < count; i++) {
		/* What cannot be opened is told as damage of its own. */
		if (d->v[h[i].entry].archive) {
			*out = &h[i];
			continue;
		}
		if ((rc = has_all(d, r, h[i].entry, ix, n, &gap, err)) == -1)
			return (-1);
		*out = &h[i];
		if (rc == 1)
			return (0);
	}
	if (d->v[(*out)->entry].archive)
		return (0);
	uuid_text(s.archive, id);
	err_set(why, 0, "disk %s, from offset %llu: what it needs of the archive %s is in none of those that stand for it", index_disk(ix, gap.disk)->target,
	    (unsigned long long)gap.offset, id);
	return (1);
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
breaks_record(const struct damage_map *d, const struct catalog_holder *h, const char *disk, const struct index_source *s, const struct index_view *v,
    struct err *why)
{
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

/* The records of the disk that are in the source ${n}, which ${h} has. */
static int
breaks_disk(const struct damage_map *d, const struct catalog_holder *h, const struct index_reader *ix, uint32_t disk, uint32_t n, struct err *why,
    struct err *err)
{
	uint64_t count = index_view_count(ix, disk);
	struct index_view v[BATCH];
	struct index_source s;
	size_t part;

	if (index_source(ix, n, &s, err) == -1)
		return (-1);
	for (uint64_t at = 0; at < count; at += part) {
		part = count - at < BATCH ? (size_t)(count - at) : BATCH;
		if (index_view(ix, disk, at, part, v, err) == -1)
			return (-1);
		for (size_t i = 0; i < part; i++)
			if (v[i].kind == VIEW_DATA && v[i].source == n && breaks_record(d, h, index_disk(ix, disk)->target, &s, &v[i], why) == 1)
				return (1);
	}
	return (0);
}

static int
breaks_source(struct damage_map *d, struct repo *r, size_t point, const struct index_reader *ix, uint32_t n, struct err *why, struct err *err)
{
	const struct catalog_holder *h;
	struct index_source s;
	int rc = 0;

	if (index_source(ix, n, &s, err) == -1)
		return (-1);
	h = holder_of(d, point, s.archive);
	if (h != NULL && h->replacing)
		rc = find_packed(d, r, ix, n, &h, why, err);
	for (uint32_t i = 0; rc == 0 && i < index_disks(ix); i++)
		rc = breaks_disk(d, h, ix, i, n, why, err);
	return (rc);
}

int
damage_map_breaks(struct damage_map *d, struct repo *r, size_t point, struct err *why, struct err *err)
{
	struct archive_reader *ar;
	int rc = 0;

	if (d->v[point].archive || d->v[point].point) {
		err_set(why, 0, d->v[point].archive ? "its own archive is lost" : "a file that was saved with it is damaged");
		return (1);
	}
	if (!is_suspect(d, point))
		return (0);
	if ((ar = open_entry(r, &d->c->v[point], err)) == NULL)
		return (-1);
	for (uint32_t n = 0; rc == 0 && n < index_sources(ar->ix); n++)
		rc = breaks_source(d, r, point, ar->ix, n, why, err);
	archive_close(ar);
	return (rc);
}
