#include "repository/catalog.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "archive/archive_reader.h"
#include "replication/replica_list.h"

static int
add_id(archive_id **v, size_t *n, const uint8_t *id, struct err *err)
{
	archive_id *more = realloc(*v, (*n + 1) * sizeof(*more));

	if (more == NULL)
		return (err_nomem(err));
	*v = more;
	memcpy(more[(*n)++], id, ARCHIVE_ID_LEN);
	return (0);
}

static int
add_texts(archive_id **v, size_t *n, const char **texts, size_t ntexts, struct err *err)
{
	archive_id id;

	for (size_t i = 0; i < ntexts; i++) {
		if (uuid_parse(texts[i], id) == -1)
			return (err_plain(err, EBADMSG, "the manifest names an archive that has no UUID"));
		if (add_id(v, n, id, err) == -1)
			return (-1);
	}
	return (0);
}

static int
copy_text(char **out, const char *text, struct err *err)
{
	return (text == NULL || (*out = strdup(text)) != NULL ? 0 : err_nomem(err));
}

static int
take_manifest(struct catalog_entry *e, const struct manifest *m, struct err *err)
{
	e->stored = m->stored;
	e->full = strcmp(m->kind, "full") == 0 && m->nreferences == 0;
	e->has_id = uuid_parse(m->archive.id, e->id) == 0;
	if (copy_text(&e->vm, m->vm, err) == -1 || copy_text(&e->job, m->job, err) == -1 || copy_text(&e->uuid, m->uuid, err) == -1)
		return (-1);
	if (add_texts(&e->references, &e->nreferences, m->references, m->nreferences, err) == -1 ||
	    add_texts(&e->replaces, &e->nreplaces, m->replaces, m->nreplaces, err) == -1)
		return (-1);
	return (0);
}

static int
take_index(struct catalog_entry *e, const struct index_reader *ix, struct err *err)
{
	struct index_source s;

	e->has_id = true;
	memcpy(e->id, index_info(ix)->archive, ARCHIVE_ID_LEN);
	for (uint32_t i = 0; i < index_sources(ix); i++) {
		if (index_source(ix, i, &s, err) == -1)
			return (-1);
		if (memcmp(s.archive, e->id, ARCHIVE_ID_LEN) != 0 && add_id(&e->references, &e->nreferences, s.archive, err) == -1)
			return (-1);
	}
	return (0);
}

/* The point's index, from index.bin or its archive, for ${use}.  One that was made up of headers says nothing of other archives: EBADMSG. */
static int
with_index(struct repo *r, struct catalog_entry *e, int (*use)(struct catalog_entry *, const struct index_reader *, void *, struct err *), void *arg,
    struct err *err)
{
	struct store_file *f = repo_file(r, &e->point, INDEX_MEMBER, err);
	struct archive_reader *ar = NULL;
	struct index_reader *ix = NULL;
	struct err why = ERR_INIT;
	bool none = f == NULL && err->code == ENOENT;
	int rc;

	if (f != NULL && (ix = index_open(f, err)) != NULL && index_info(ix)->time == e->point.time) {
		rc = use(e, ix, arg, err);
		index_close(ix);
		return (rc);
	}
	index_close(ix);
	if ((ar = archive_open_point(r, &e->point, NULL, &why)) == NULL)
		return (err_plain(err, none && why.code == ENOENT ? ENOENT : EBADMSG, "%s", why.text));
	if (index_info(ar->ix)->time == 0)
		rc = err_plain(err, EBADMSG, "%s: its index is lost", ar->name);
	else
		rc = use(e, ar->ix, arg, err);
	archive_close(ar);
	return (rc);
}

static int
use_references(struct catalog_entry *e, const struct index_reader *ix, void *arg, struct err *err)
{
	(void)arg;
	return (take_index(e, ix, err));
}

static void
entry_free(struct catalog_entry *e)
{
	free(e->vm);
	free(e->job);
	free(e->uuid);
	free(e->replica_job);
	free(e->replica_from);
	free(e->references);
	free(e->replaces);
	free(e->trouble);
}

/* Without its manifest a point still needs what its index names. */
static int
take_damaged(struct repo *r, struct catalog_entry *e, const char *why, struct err *err)
{
	struct point p = e->point;
	bool listed = e->listed;

	entry_free(e);
	*e = (struct catalog_entry){ .point = p, .listed = listed };
	if (copy_text(&e->trouble, why, err) == -1 || copy_text(&e->vm, p.folder, err) == -1)
		return (-1);
	if (with_index(r, e, use_references, NULL, err) == 0)
		return (0);
	/* Nothing of it is left: it can need nothing. */
	if (err->code != ENOENT) {
		e->unclear = true;
		e->has_id = false;
	}
	return (err->code == ENOMEM ? -1 : 0);
}

static int
take_mark(struct repo *r, struct catalog_entry *e, struct err *err)
{
	struct replica_mark mark;

	if (replica_mark_read(r, &e->point, &mark, err) == -1)
		return (-1);
	if (mark.job[0] == '\0')
		return (0);
	return (copy_text(&e->replica_job, mark.job, err) == -1 ? -1 : copy_text(&e->replica_from, mark.from, err));
}

/* Returns 1 when it is gone meanwhile. */
static int
load_entry(struct repo *r, const struct point *p, struct catalog_entry *e, struct err *err)
{
	struct manifest m = MANIFEST_INIT;
	struct err why = ERR_INIT;
	int rc;

	*e = (struct catalog_entry){ .point = *p, .listed = true };
	rc = repo_manifest(r, p, &m, &why);
	if (rc == -1 && why.code == ESTALE) {
		e->listed = false;
		rc = repo_manifest_any(r, p, &m, &why);
		if (rc == -1 && why.code == ENOENT)
			return (1);
	}
	if (rc == 0)
		rc = take_manifest(e, &m, &why);
	manifest_free(&m);
	if (rc == -1 && why.code == ENOMEM) {
		*err = why;
		return (-1);
	}
	if (rc == -1 && take_damaged(r, e, why.text, err) == -1)
		return (-1);
	if (!e->listed)
		return (0);
	return (take_mark(r, e, err) == -1 ? -1 : repo_is_protected(r, p, &e->is_protected, err));
}

/* Archives that listed points need, and no manifest names. */
struct missing {
	archive_id	*v;
	size_t		 n;
};

static int
use_replaced(struct catalog_entry *e, const struct index_reader *ix, void *arg, struct err *err)
{
	const struct missing *m = arg;

	for (size_t i = 0; i < m->n; i++)
		if (index_replaces(ix, m->v[i]) && add_id(&e->replaces, &e->nreplaces, m->v[i], err) == -1)
			return (-1);
	return (0);
}

static int
compare_ids(const void *a, const void *b)
{
	return (memcmp(a, b, ARCHIVE_ID_LEN));
}

static int
find_missing(const struct catalog *c, struct missing *m, struct err *err)
{
	size_t count, kept = 0;

	for (size_t i = 0; i < c->n; i++)
		for (size_t k = 0; c->v[i].listed && k < c->v[i].nreferences; k++)
			if (catalog_find(c, c->v[i].references[k], &count) == NULL && add_id(&m->v, &m->n, c->v[i].references[k], err) == -1)
				return (-1);
	if (m->n > 0)
		qsort(m->v, m->n, sizeof(*m->v), compare_ids);
	for (size_t i = 0; i < m->n; i++)
		if (kept == 0 || memcmp(m->v[kept - 1], m->v[i], ARCHIVE_ID_LEN) != 0)
			memmove(m->v[kept++], m->v[i], ARCHIVE_ID_LEN);
	m->n = kept;
	return (0);
}

/* What no manifest tells, the indexes do. */
static int
find_replaced(struct repo *r, struct catalog *c, struct err *err)
{
	struct missing m = { NULL, 0 };
	struct err why;
	int rc = find_missing(c, &m, err);

	for (size_t i = 0; i < c->n && rc == 0 && m.n > 0; i++) {
		why = (struct err)ERR_INIT;
		if (c->v[i].nreplaces > 0 || c->v[i].unclear || with_index(r, &c->v[i], use_replaced, &m, &why) == 0)
			continue;
		/* It may be the one that is looked for. */
		if (why.code == EBADMSG && !c->v[i].listed)
			c->v[i].unclear = true;
		if (why.code == ENOMEM) {
			*err = why;
			rc = -1;
		}
	}
	free(m.v);
	return (rc == 0 ? catalog_index(c, err) : -1);
}

int
catalog_load(struct repo *r, struct catalog *out, struct err *err)
{
	struct points ps = POINTS_INIT;
	int rc = -1, got;

	*out = (struct catalog)CATALOG_INIT;
	if (repo_all_points(r, &ps, err) == -1)
		goto out;
	if ((out->v = calloc(ps.n + 1, sizeof(*out->v))) == NULL) {
		err_nomem(err);
		goto out;
	}
	for (size_t i = 0; i < ps.n; i++) {
		if ((got = load_entry(r, &ps.v[i], &out->v[out->n], err)) == -1) {
			entry_free(&out->v[out->n]);
			goto out;
		}
		if (got == 1)
			entry_free(&out->v[out->n]);
		else
			out->n++;
	}
	rc = catalog_index(out, err) == -1 ? -1 : find_replaced(r, out, err);
out:
	points_free(&ps);
	if (rc == -1)
		catalog_free(out);
	return (rc);
}

void
catalog_free(struct catalog *c)
{
	for (size_t i = 0; c->v != NULL && i < c->n; i++)
		entry_free(&c->v[i]);
	free(c->v);
	free(c->holders);
	*c = (struct catalog)CATALOG_INIT;
}

static int
compare_holders(const void *pa, const void *pb)
{
	const struct catalog_holder *a = pa, *b = pb;
	int diff = memcmp(a->id, b->id, ARCHIVE_ID_LEN);

	if (diff != 0)
		return (diff);
	return (a->entry < b->entry ? -1 : a->entry > b->entry);
}

int
catalog_index(struct catalog *c, struct err *err)
{
	struct catalog_holder *h;
	size_t n = 1;

	for (size_t i = 0; i < c->n; i++)
		n += (c->v[i].has_id ? 1 : 0) + c->v[i].nreplaces;
	if ((h = calloc(n, sizeof(*h))) == NULL)
		return (err_nomem(err));
	free(c->holders);
	c->holders = h;
	c->nholders = 0;
	for (size_t i = 0; i < c->n; i++) {
		if (c->v[i].has_id) {
			memcpy(h[c->nholders].id, c->v[i].id, ARCHIVE_ID_LEN);
			h[c->nholders++].entry = i;
		}
		for (size_t k = 0; k < c->v[i].nreplaces; k++) {
			memcpy(h[c->nholders].id, c->v[i].replaces[k], ARCHIVE_ID_LEN);
			h[c->nholders].replacing = true;
			h[c->nholders++].entry = i;
		}
	}
	qsort(h, c->nholders, sizeof(*h), compare_holders);
	return (0);
}

const struct catalog_holder *
catalog_find(const struct catalog *c, const archive_id id, size_t *count)
{
	size_t low = 0, high = c->nholders, mid, end;

	while (low < high) {
		mid = low + (high - low) / 2;
		if (memcmp(c->holders[mid].id, id, ARCHIVE_ID_LEN) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	for (end = low; end < c->nholders && memcmp(c->holders[end].id, id, ARCHIVE_ID_LEN) == 0; end++)
		;
	*count = end - low;
	return (*count > 0 ? &c->holders[low] : NULL);
}
