#include "repository/prune.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A machine is known by its domain's UUID, so that it may be renamed and another one have its name; an image by its name. */
static const char *
machine_of(const struct catalog_entry *e)
{
	return (e->uuid != NULL ? e->uuid : e->vm);
}

static bool
is_judged(const struct prune_job *job, const struct catalog_entry *e)
{
	const char *whose = job->replicas ? e->replica_job : e->job;

	/* Without its manifest nobody knows whose it is. */
	if (!e->listed || e->trouble != NULL || (e->replica_job != NULL) != job->replicas || strcmp(whose, job->name) != 0)
		return (false);
	if (job->replicas && job->from != NULL && strcmp(e->replica_from, job->from) != 0)
		return (false);
	if (job->machines == NULL)
		return (true);
	for (size_t i = 0; i < job->nmachines; i++)
		if (strcmp(job->machines[i], machine_of(e)) == 0)
			return (true);
	return (false);
}

static int
compare_machines(const void *pa, const void *pb)
{
	const struct retain_point *a = pa, *b = pb;
	const struct catalog_entry *ea = a->ctx, *eb = b->ctx;

	if ((ea->uuid != NULL) != (eb->uuid != NULL))
		return (ea->uuid != NULL ? -1 : 1);
	return (strcmp(machine_of(ea), machine_of(eb)));
}

/* The policy, for each machine by itself. */
static int
judge(const struct prune_job *job, struct prune *p, struct err *err)
{
	struct catalog *c = &p->catalog;
	struct retain_point *points = calloc(c->n + 1, sizeof(*points));
	size_t n = 0, end;
	int rc = -1;

	if (points == NULL)
		return (err_nomem(err));
	for (size_t i = 0; i < c->n; i++)
		if (is_judged(job, &c->v[i]))
			points[n++] = (struct retain_point){ .time = c->v[i].point.time, .suffix = c->v[i].point.suffix,
			    .is_protected = c->v[i].is_protected, .ctx = &c->v[i] };
	if (n > 1)
		qsort(points, n, sizeof(*points), compare_machines);
	for (size_t at = 0; at < n; at = end) {
		for (end = at + 1; end < n && compare_machines(&points[at], &points[end]) == 0; end++)
			;
		if (retain_apply(points + at, end - at, job->keep, job->now, err) == -1)
			goto out;
	}
	for (size_t i = 0; i < n; i++) {
		struct prune_verdict *v = &p->v[(const struct catalog_entry *)points[i].ctx - c->v];

		v->judged = true;
		v->retain = points[i];
	}
	rc = 0;
out:
	free(points);
	return (rc);
}

int
prune_decide(struct repo *r, const struct prune_job *job, struct prune *out, struct err *err)
{
	enum prune_action *action = NULL;
	bool *drop = NULL;
	size_t n;
	int rc = -1;

	*out = (struct prune)PRUNE_INIT;
	if (catalog_load(r, &out->catalog, err) == -1)
		return (-1);
	n = out->catalog.n;
	if ((out->v = calloc(n + 1, sizeof(*out->v))) == NULL || (drop = calloc(n + 1, sizeof(*drop))) == NULL ||
	    (action = calloc(n + 1, sizeof(*action))) == NULL) {
		err_nomem(err);
		goto out;
	}
	if (judge(job, out, err) == -1)
		goto out;
	for (size_t i = 0; i < n; i++)
		drop[i] = out->v[i].judged && !retain_keeps(&out->v[i].retain);
	if (prune_plan(&out->catalog, drop, action, err) == -1)
		goto out;
	for (size_t i = 0; i < n; i++)
		out->v[i].action = action[i];
	rc = 0;
out:
	free(action);
	free(drop);
	return (rc);
}

static int
go_on(struct lock *lk, const atomic_int *stop, struct err *err)
{
	if (stop != NULL && *stop)
		return (err_plain(err, EINTR, "stopped; the next run goes on"));
	return (lock_check(lk, err));
}

/*
 * None of those that go is a point any more before the first folder goes: a point may need another one that goes as well, and must not
 * stay behind without it.
 */
static int
apply(struct repo *r, struct lock *lk, const atomic_int *stop, struct prune *p, struct err *err)
{
	const struct catalog *c = &p->catalog;

	for (size_t i = 0; i < c->n; i++)
		if (c->v[i].listed && p->v[i].action != PRUNE_KEEP && (go_on(lk, stop, err) == -1 || repo_unlist(r, &c->v[i].point, err) == -1))
			return (-1);
	for (size_t i = 0; i < c->n; i++) {
		if (p->v[i].action != PRUNE_REMOVE)
			continue;
		if (go_on(lk, stop, err) == -1 || repo_remove(r, lk, &c->v[i].point, err) == -1)
			return (-1);
		p->done++;
		p->freed += c->v[i].stored;
	}
	return (0);
}

int
prune_run(struct repo *r, struct lock *lk, const struct prune_job *job, const atomic_int *stop, struct prune *out, struct err *err)
{
	unsigned int swept;

	*out = (struct prune)PRUNE_INIT;
	if (repo_sweep_alone(r, lk, &swept, err) == -1)
		return (-1);
	if (prune_decide(r, job, out, err) == -1 || apply(r, lk, stop, out, err) == -1)
		return (-1);
	return (repo_remove_empty(r, err));
}

size_t
prune_count(const struct prune *p, enum prune_action action)
{
	size_t n = 0;

	for (size_t i = 0; p->v != NULL && i < p->catalog.n; i++)
		n += p->v[i].action == action ? 1 : 0;
	return (n);
}

uint64_t
prune_would_free(const struct prune *p)
{
	uint64_t sum = 0;

	for (size_t i = 0; p->v != NULL && i < p->catalog.n; i++)
		sum += p->v[i].action == PRUNE_REMOVE ? p->catalog.v[i].stored : 0;
	return (sum);
}

void
prune_free(struct prune *p)
{
	catalog_free(&p->catalog);
	free(p->v);
	*p = (struct prune)PRUNE_INIT;
}
