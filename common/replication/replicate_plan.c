#include "replication/replicate_plan.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replication/replica_extract.h"

#define FUTURE_S	3600		/* clocks differ */
#define PASSES_MAX	1000u		/* over references that lead back in time */

/* Who is asking, and what is known. */
struct planning {
	const struct replicate	*how;
	struct repo		*from, *to;
	struct store		*const *more;	/* further connections to ->to */
	size_t			 nmore;
	struct replica_look	 look;
	struct replica_list	*l;
	struct replicate_plan	*plan;
	struct replicate_stats	*stats;
	time_t			 now;
};

static void
refuse(struct planning *pl, const struct point *p, const struct err *why)
{
	char spec[2 * NAMING_MAX];

	snprintf(spec, sizeof(spec), "%s@%s", p->folder, p->name);
	pl->how->failed(pl->how->arg, spec, p->folder, why);
	pl->stats->failed++;
}

/* The time of the machine's newest point that came from there and is still here; -1 when there is none. */
static time_t
newest_here(const struct replica_list *l, const char *folder)
{
	time_t newest = -1, t;
	unsigned int suffix;

	for (size_t i = 0; i < l->n; i++)
		if (l->v[i].there != NULL && l->v[i].here != NULL && strcmp(l->v[i].folder, folder) == 0 &&
		    point_name_parse(l->v[i].there, &t, &suffix) && t > newest)
			newest = t;
	return (newest);
}

/* What is new there. */

static bool
is_text_equal(const char *a, const char *b)
{
	return (a == NULL || b == NULL ? a == b : strcmp(a, b) == 0);
}

/* Consolidating a point gives it another archive; what it is a point of stays. */
static bool
is_same_point(const struct manifest *a, const struct manifest *b)
{
	if (a->time != b->time || a->ndisks != b->ndisks || !is_text_equal(a->vm, b->vm) || !is_text_equal(a->uuid, b->uuid) ||
	    !is_text_equal(a->host, b->host) || !is_text_equal(a->job, b->job))
		return (false);
	for (size_t i = 0; i < a->ndisks; i++)
		if (!is_text_equal(a->disks[i].target, b->disks[i].target) || a->disks[i].size != b->disks[i].size ||
		    a->disks[i].provisioned != b->disks[i].provisioned || !is_text_equal(a->disks[i].source, b->disks[i].source) || !is_text_equal(a->disks[i].identity, b->disks[i].identity))
			return (false);
	return (true);
}

/* The folder here that is the point ${p} there with the manifest ${m}, though nothing remembers that it came; NULL: none. */
static const char *
find_same(struct planning *pl, const struct point *p, const struct manifest *m, const archive_id id)
{
	const struct replica *rp = replica_find_here(pl->l, p->folder, p->name);
	struct manifest here = MANIFEST_INIT;
	struct point at = *p;
	bool same;

	if (replica_holds(pl->l, id) == 1)
		for (size_t i = 0; i < pl->l->n; i++)
			if (pl->l->v[i].here != NULL && strcmp(pl->l->v[i].folder, p->folder) == 0 &&
			    memcmp(pl->l->v[i].id, id, sizeof(archive_id)) == 0)
				return (pl->l->v[i].here);
	if (rp == NULL || repo_manifest_any(pl->to, &at, &here, &(struct err)ERR_INIT) == -1)
		return (NULL);
	/* What was packed has the manifest of one of the points that it was packed of. */
	same = here.nreplaces == 0 && is_same_point(m, &here);
	manifest_free(&here);
	return (same ? rp->here : NULL);
}

static int
remember(struct planning *pl, const struct point *p, const char *here, const struct manifest *m, struct err *err)
{
	const struct replica *old = here != NULL ? replica_find_here(pl->l, p->folder, here) : NULL;
	struct replica rp = { .folder = (char *)(uintptr_t)p->folder, .there = (char *)(uintptr_t)p->name, .here = (char *)(uintptr_t)here };

	if (old != NULL) {
		rp = *old;
		rp.there = (char *)(uintptr_t)p->name;
	} else if (here != NULL)
		rp.has_id = uuid_parse(m->archive.id, rp.id) == 0;
	return (replica_add(pl->l, &rp, err));
}

static struct task *
new_task(struct replicate_plan *plan, struct err *err)
{
	size_t cap = plan->cap == 0 ? 64 : plan->cap * 2;
	struct task *v;

	if (plan->n == plan->cap) {
		if ((v = realloc(plan->v, cap * sizeof(*v))) == NULL) {
			err_nomem(err);
			return (NULL);
		}
		plan->v = v;
		plan->cap = cap;
	}
	v = &plan->v[plan->n++];
	*v = (struct task){ .state = TASK_WAITS };
	return (v);
}

static int
add_task(struct planning *pl, const struct point *p, const struct manifest *m, const archive_id id, struct err *err)
{
	struct task *t = new_task(pl->plan, err);
	char text[UUID_LEN];

	if (t == NULL)
		return (-1);
	t->p = *p;
	t->hint = replica_look_hint(&pl->look, &t->p);
	t->size = m->archive.size;
	memcpy(t->id, id, sizeof(t->id));
	uuid_text(id, text);
	pl->plan->bytes += t->size;
	if (json_object_set_new(pl->plan->by_id, text, json_integer((json_int_t)pl->plan->n - 1)) == -1)
		return (err_nomem(err));
	return (archive_ids_parse(m->references, m->nreferences, &t->needs, &t->nneeds, err) == -1 ||
	    archive_ids_parse(m->replaces, m->nreplaces, &t->replaces, &t->nreplaces, err) == -1 ? -1 : 0);
}

static int
consider_manifest(struct planning *pl, const struct point *p, const struct manifest *m, struct err *err)
{
	struct err why = ERR_INIT;
	const char *here;
	archive_id id;

	if (pl->how->of_job != NULL && strcmp(m->job, pl->how->of_job) != 0)
		return (0);
	if (uuid_parse(m->archive.id, id) == -1) {
		err_plain(&why, EBADMSG, "%s@%s: its manifest names no archive", p->folder, p->name);
		refuse(pl, p, &why);
		return (0);
	}
	if ((here = find_same(pl, p, m, id)) != NULL) {
		pl->stats->present++;
		return (remember(pl, p, here, m, err));
	}
	return (add_task(pl, p, m, id, err));
}

/* What can be told without reading it.  Returns whether the point is to be looked at. */
static bool
is_wanted(struct planning *pl, const struct point *p, time_t newest, const char *only)
{
	const struct replica *known = replica_find_there(pl->l, p->folder, p->name);
	struct err why = ERR_INIT;

	if (only != NULL && strcmp(p->folder, only) != 0)
		return (false);
	if (known != NULL) {
		pl->stats->present += known->here != NULL ? 1 : 0;
		return (false);
	}
	if (pl->how->newer_only && p->time < newest) {
		pl->stats->older++;
		return (false);
	}
	if (pl->how->no_future && p->time > pl->now + FUTURE_S) {
		err_set(&why, 0, "its time is still to come: set the clock of the host that made it right, or our own");
		refuse(pl, p, &why);
		return (false);
	}
	return (true);
}

static int
consider(struct planning *pl, const struct point *p, struct err *err)
{
	struct manifest m = MANIFEST_INIT;
	struct err why = ERR_INIT;
	int rc = 0;

	if (repo_manifest(pl->from, p, &m, &why) == 0)
		rc = consider_manifest(pl, p, &m, err);
	else if (why.code == ESTALE)
		rc = repo_is_pruned(pl->from, p) ? remember(pl, p, NULL, NULL, err) : 0;
	else if (why.code == ETIMEDOUT || why.code == ECONNRESET || why.code == ENOMEM) {
		*err = why;
		rc = -1;
	} else
		refuse(pl, p, &why);
	manifest_free(&m);
	return (rc);
}

static int
by_time(const void *pa, const void *pb)
{
	const struct point *a = pa, *b = pb;

	if (a->time != b->time)
		return (a->time < b->time ? -1 : 1);
	if (a->suffix != b->suffix)
		return (a->suffix < b->suffix ? -1 : 1);
	return (strcmp(a->folder, b->folder));
}

static int
find_new(struct planning *pl, struct err *err)
{
	struct points ps = POINTS_INIT;
	char only[NAMING_MAX], folder[NAMING_MAX] = "";
	time_t newest = -1;
	size_t wanted = 0;
	int rc = -1;

	if ((pl->how->vm != NULL && name_escape(pl->how->vm, only, err) == -1) || repo_all_points(pl->from, &ps, err) == -1 ||
	    replica_look(pl->to, pl->more, pl->nmore, pl->l, &ps, pl->how->vm != NULL ? only : NULL, &pl->look, err) == -1)
		goto out;
	pl->plan->leftovers = pl->look.leftovers;
	for (size_t i = 0; i < ps.n; i++) {
		struct point p = ps.v[i];

		if (!utf8_valid(p.folder))
			continue;
		if (strcmp(p.folder, folder) != 0) {
			snprintf(folder, sizeof(folder), "%s", p.folder);
			newest = newest_here(pl->l, folder);
		}
		if (is_wanted(pl, &p, newest, pl->how->vm != NULL ? only : NULL))
			ps.v[wanted++] = p;
	}
	if (wanted > 1)
		qsort(ps.v, wanted, sizeof(*ps.v), by_time);
	rc = 0;
	for (size_t i = 0; i < wanted && rc == 0; i++)
		rc = pl->how->stop != NULL && *pl->how->stop ? err_plain(err, EINTR, "stopped") : consider(pl, &ps.v[i], err);
out:
	points_free(&ps);
	return (rc);
}

/* What it needs. */

static int64_t
task_of(const struct replicate_plan *plan, const archive_id id)
{
	char text[UUID_LEN];
	const json_t *at;

	uuid_text(id, text);
	at = json_object_get(plan->by_id, text);
	return (at != NULL ? (int64_t)json_integer_value(at) : -1);
}

/*
 * An archive that stands for others holds only what was still used of them at the source.  Where one of those is here, all that it has of that one would come
 * a second time, and readers would have two to choose from.
 */
static bool
repeats_here(const struct planning *pl, const struct catalog_entry *e)
{
	for (size_t i = 0; i < e->nreplaces; i++)
		if (replica_holds(pl->l, e->replaces[i]) != 0)
			return (true);
	return (false);
}

static int
note_task(struct planning *pl, const archive_id id, struct err *err)
{
	char text[UUID_LEN];

	uuid_text(id, text);
	return (json_object_set_new(pl->plan->by_id, text, json_integer((json_int_t)pl->plan->n - 1)) == -1 ? err_nomem(err) : 0);
}

/* Of an archive that stands for others, only what it has of ${id}. */
static int
add_extract(struct planning *pl, const struct catalog_entry *e, const archive_id id, struct err *err)
{
	uint64_t size;
	struct task *t;

	if (replica_extract_size(pl->from, &e->point, id, &size, err) == -1 || (t = new_task(pl->plan, err)) == NULL)
		return (-1);
	t->p = e->point;
	t->as_pruned = t->extract = true;
	t->size = size;
	memcpy(t->id, id, sizeof(t->id));
	pl->plan->bytes += size;
	return (note_task(pl, id, err));
}

static int
add_archive(struct planning *pl, const struct catalog_entry *e, struct err *err)
{
	struct task *t = new_task(pl->plan, err);

	if (t == NULL)
		return (-1);
	t->p = e->point;
	t->as_pruned = true;
	t->hint = replica_look_hint(&pl->look, &t->p);
	t->size = e->stored;
	memcpy(t->id, e->id, sizeof(t->id));
	if ((t->replaces = calloc(e->nreplaces + 1, sizeof(archive_id))) == NULL)
		return (err_nomem(err));
	if (e->nreplaces > 0)
		memcpy(t->replaces, e->replaces, e->nreplaces * sizeof(archive_id));
	t->nreplaces = e->nreplaces;
	pl->plan->bytes += t->size;
	return (note_task(pl, e->id, err));
}

const struct catalog_entry *
replicate_plan_holder(struct replicate_plan *plan, struct repo *from, const archive_id id, struct err *err)
{
	const struct catalog_entry *e = NULL;
	const struct catalog_holder *h;
	char text[UUID_LEN];
	size_t count;

	if (!plan->has_source && catalog_load(from, &plan->source, err) == -1)
		return (NULL);
	plan->has_source = true;
	h = catalog_find(&plan->source, id, &count);
	for (size_t i = 0; i < count; i++)
		if (e == NULL || !h[i].replacing)
			e = &plan->source.v[h[i].entry];
	uuid_text(id, text);
	if (e == NULL)
		err_plain(err, EBADMSG, "the archive %s, which it needs, is missing at the source (virt-backupctl verify tells more)", text);
	return (e);
}

/* A task for the archive ${id}, which a point that is copied needs.  Returns its number, or -1. */
static int64_t
want_archive(struct planning *pl, const archive_id id, struct err *err)
{
	const struct catalog_entry *e = replicate_plan_holder(pl->plan, pl->from, id, err);

	if (e == NULL)
		return (-1);
	if (task_of(pl->plan, e->id) >= 0)
		return (task_of(pl->plan, e->id));
	if ((repeats_here(pl, e) ? add_extract(pl, e, id, err) : add_archive(pl, e, err)) == -1)
		return (-1);
	return ((int64_t)pl->plan->n - 1);
}

static int
add_needs(struct planning *pl, size_t number, struct err *err)
{
	size_t n = pl->plan->v[number].nneeds, *after = calloc(n + 1, sizeof(*after)), count = 0;
	int64_t other;

	if (after == NULL)
		return (err_nomem(err));
	for (size_t i = 0; i < n; i++) {
		int held = replica_holds(pl->l, pl->plan->v[number].needs[i]);

		pl->plan->v[number].packed |= held == 2;
		if (held != 0)
			continue;
		if ((other = task_of(pl->plan, pl->plan->v[number].needs[i])) < 0 &&
		    (other = want_archive(pl, pl->plan->v[number].needs[i], err)) < 0) {
			free(after);
			return (-1);
		}
		pl->plan->v[number].packed |= pl->plan->v[other].extract ||
		    memcmp(pl->plan->v[other].id, pl->plan->v[number].needs[i], sizeof(archive_id)) != 0;
		if ((size_t)other != number)
			after[count++] = (size_t)other;
	}
	pl->plan->v[number].after = after;
	pl->plan->v[number].nafter = count;
	return (0);
}

static int
find_needs(struct planning *pl, struct err *err)
{
	size_t listed = pl->plan->n;
	struct err why;

	for (size_t i = 0; i < listed; i++) {
		why = (struct err)ERR_INIT;
		if (add_needs(pl, i, &why) == 0)
			continue;
		if (why.code != EBADMSG && why.code != ESTALE) {
			*err = why;
			return (-1);
		}
		if (why.code == EBADMSG)
			refuse(pl, &pl->plan->v[i].p, &why);
		else
			pl->stats->vanished++;
		pl->plan->v[i].state = TASK_FAILED;
		pl->plan->bytes -= pl->plan->v[i].size;
	}
	return (0);
}

/* In order. */

static bool
can_go(const struct task *t, const size_t *place)
{
	for (size_t i = 0; i < t->nafter; i++)
		if (place[t->after[i]] == SIZE_MAX)
			return (false);
	return (true);
}

/* Tasks are put behind those that they need; ${place} says where each has gone. */
static size_t
put_in_order(const struct replicate_plan *plan, size_t *order, size_t *place)
{
	size_t done = 0, before;

	for (size_t i = 0; i < plan->n; i++)
		place[i] = SIZE_MAX;
	for (unsigned int pass = 0; pass < PASSES_MAX && done < plan->n; pass++) {
		before = done;
		for (size_t i = 0; i < plan->n; i++)
			if (place[i] == SIZE_MAX && can_go(&plan->v[i], place)) {
				place[i] = done;
				order[done++] = i;
			}
		if (done == before)
			break;
	}
	return (done);
}

static int
sort_tasks(struct planning *pl, struct err *err)
{
	struct replicate_plan *plan = pl->plan;
	size_t *order = calloc(plan->n + 1, sizeof(*order)), *place = calloc(plan->n + 1, sizeof(*place)), done;
	struct task *v = calloc(plan->n + 1, sizeof(*v));
	struct err why = ERR_INIT;

	if (order == NULL || place == NULL || v == NULL) {
		free(order);
		free(place);
		free(v);
		return (err_nomem(err));
	}
	done = put_in_order(plan, order, place);
	err_set(&why, 0, "what it needs leads back to itself");
	for (size_t i = 0; i < plan->n; i++)
		if (place[i] == SIZE_MAX) {
			refuse(pl, &plan->v[i].p, &why);
			place[i] = done;
			order[done++] = i;
			plan->v[i].state = TASK_FAILED;
		}
	for (size_t i = 0; i < plan->n; i++) {
		v[i] = plan->v[order[i]];
		for (size_t k = 0; k < v[i].nafter; k++)
			v[i].after[k] = place[v[i].after[k]];
	}
	free(plan->v);
	free(order);
	free(place);
	plan->v = v;
	plan->cap = plan->n + 1;
	return (0);
}

int
replicate_plan_make(const struct replicate *how, struct repo *from, struct repo *to, struct store *const *more, size_t nmore, struct replica_list *l,
    struct replicate_plan *out, struct replicate_stats *stats, struct err *err)
{
	struct planning pl = { .how = how, .from = from, .to = to, .more = more, .nmore = nmore, .look = REPLICA_LOOK_INIT, .l = l, .plan = out, .stats = stats, .now = time(NULL) };
	int rc = -1;

	*out = (struct replicate_plan)REPLICATE_PLAN_INIT;
	out->by_id = json_object();
	if (out->by_id == NULL)
		err_nomem(err);
	else if (find_new(&pl, err) == 0 && find_needs(&pl, err) == 0 && sort_tasks(&pl, err) == 0)
		rc = 0;
	replica_look_free(&pl.look);
	return (rc);
}

void
replicate_plan_free(struct replicate_plan *plan)
{
	for (size_t i = 0; i < plan->n; i++) {
		free(plan->v[i].needs);
		free(plan->v[i].replaces);
		free(plan->v[i].after);
	}
	free(plan->v);
	catalog_free(&plan->source);
	json_decref(plan->by_id);
	*plan = (struct replicate_plan)REPLICATE_PLAN_INIT;
}
