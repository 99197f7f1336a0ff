#include "replication/replicate.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/thread.h"
#include "replication/replica_extract.h"
#include "replication/replica_send.h"
#include "replication/replicate_plan.h"

#define PART_DAYS	7		/* what arrived of an archive that nobody goes on with */

/* All that the threads share. */
struct transfer {
	const struct replicate	*how;
	struct lock		*lk;
	struct replicate_plan	 plan;
	struct replica_list	 list;
	struct replicate_stats	*stats;
	struct buf		 parts;

	pthread_mutex_t		 mutex;		/* guards what follows, the tasks' states, the list, and the calls of how's functions */
	pthread_cond_t		 changed;
	size_t			 next;
	uint64_t		 done;		/* bytes */
	bool			 broken;
	struct err		 why;		/* then */

	pthread_mutex_t		 again;		/* guards what follows, and the plan's catalog of the source; taken before the other one */
	archive_id		*brought;	/* once more */
	size_t			 nbrought;
};

struct worker {
	struct transfer		*t;
	struct replica_link	 ln;
	pthread_t		 thread;
};

/* Each further thread has repositories of its own; they are opened while it is found out what there is to do, and one reads meanwhile what came before. */
struct opening {
	const struct replicate	*how;
	struct repo		*from, *to;
	pthread_t		 thread;
	bool			 joined;
	struct replica_list	*list;		/* NULL, or to be read */
	bool			 has_list;
};

struct crew {
	struct opening		 v[REPLICATE_PARALLEL_MAX];
	size_t			 n;
};

static double
seconds_since(const struct timespec *begun)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return ((double)(now.tv_sec - begun->tv_sec) + (double)(now.tv_nsec - begun->tv_nsec) / 1e9);
}

static void
tick(void *arg, uint64_t more)
{
	struct transfer *t = arg;

	pthread_mutex_lock(&t->mutex);
	t->done += more;
	if (t->how->tick != NULL)
		t->how->tick(t->how->arg, t->done);
	pthread_mutex_unlock(&t->mutex);
}

/* With the mutex. */
static void
set_state(struct transfer *t, struct task *k, enum task_state state)
{
	k->state = state;
	pthread_cond_broadcast(&t->changed);
}

/* A point that cannot be had does not stop the others; anything else concerns all. */
static void
task_failed(struct transfer *t, struct task *k, const struct err *why)
{
	char spec[2 * NAMING_MAX];

	pthread_mutex_lock(&t->mutex);
	set_state(t, k, TASK_FAILED);
	if (why->code == ESTALE)
		t->stats->vanished++;
	else if (why->code == EBADMSG) {
		snprintf(spec, sizeof(spec), "%s@%s", k->p.folder, k->p.name);
		t->how->failed(t->how->arg, spec, k->p.folder, why);
		t->stats->failed++;
	} else if (!t->broken) {
		t->broken = true;
		t->why = *why;
	}
	pthread_mutex_unlock(&t->mutex);
}

/* ${has}: what the other end has now, and ${r} tells; its entry and its specification are made of the task's. */
static void
task_done(struct transfer *t, struct task *k, struct replica *has, struct replicated *r)
{
	struct err ignored = ERR_INIT;
	char spec[2 * NAMING_MAX];

	has->folder = k->p.folder;
	has->there = k->as_pruned ? NULL : k->p.name;
	has->here = (char *)(uintptr_t)r->here;
	has->has_id = true;
	r->as_pruned = k->as_pruned;
	pthread_mutex_lock(&t->mutex);
	/* Without its entry it is found again by its manifest. */
	replica_add(&t->list, has, &ignored);
	r->spec = point_spec_format(r->vm, k->p.time, k->p.suffix, spec);
	if (k->as_pruned)
		t->stats->archives++;
	else
		t->stats->sent++;
	t->stats->bytes += r->stored;
	t->stats->resumed += r->resumed;
	if (t->how->sent != NULL)
		t->how->sent(t->how->arg, r);
	set_state(t, k, TASK_DONE);
	pthread_mutex_unlock(&t->mutex);
}

/* Until the archives that it needs have their names.  They come before it in the order, so somebody has them in hand. */
static int
wait_for_needs(struct transfer *t, const struct task *k, struct err *err)
{
	int rc = 0;

	pthread_mutex_lock(&t->mutex);
	for (size_t i = 0; i < k->nafter && rc == 0; i++) {
		const struct task *other = &t->plan.v[k->after[i]];

		while (other->state != TASK_DONE && other->state != TASK_FAILED && !t->broken)
			pthread_cond_wait(&t->changed, &t->mutex);
		if (other->state != TASK_DONE)
			rc = t->broken ? err_plain(err, ECANCELED, "broken off") :
			    err_plain(err, EBADMSG, "%s@%s, which it needs, could not be copied", other->p.folder, other->p.name);
	}
	pthread_mutex_unlock(&t->mutex);
	return (rc);
}

static int
extract_archive(struct worker *w, struct task *k, const struct timespec *begun, struct err *err)
{
	struct replica_extract x = REPLICA_EXTRACT_INIT;
	struct replica has = { .replaces = &k->id, .nreplaces = 1 };
	int rc = replica_extract(&w->ln, &k->p, k->id, w->t->how->program, &x, err);

	if (rc == 0) {
		memcpy(has.id, x.id, sizeof(has.id));
		task_done(w->t, k, &has, &(struct replicated){ .vm = x.m.vm, .machine = x.m.uuid != NULL ? x.m.uuid : x.m.vm, .here = x.here,
		    .stored = x.stored, .seconds = seconds_since(begun) });
	}
	replica_extract_end(&x);
	return (rc);
}

/* Once in a run: what else is missing afterwards the source does not have either. */
static int
bring_again(struct worker *w, const archive_id id, struct err *err)
{
	struct transfer *t = w->t;
	struct task k = { .as_pruned = true, .extract = true };
	const struct catalog_entry *e;
	archive_id *more;
	struct timespec begun;
	int rc = -1;

	clock_gettime(CLOCK_MONOTONIC, &begun);
	pthread_mutex_lock(&t->again);
	for (size_t i = 0; i < t->nbrought && rc == -1; i++)
		rc = memcmp(t->brought[i], id, sizeof(archive_id)) == 0 ? 0 : -1;
	if (rc == -1 && (more = realloc(t->brought, (t->nbrought + 1) * sizeof(*more))) == NULL)
		err_nomem(err);
	else if (rc == -1) {
		t->brought = more;
		memcpy(k.id, id, sizeof(archive_id));
		if ((e = replicate_plan_holder(&t->plan, w->ln.from, id, err)) != NULL) {
			k.p = e->point;
			replica_lists_settle(w->ln.to, k.p.folder, w->ln.from->id);
			if ((rc = extract_archive(w, &k, &begun, err)) == 0)
				memcpy(more[t->nbrought++], id, sizeof(archive_id));
		}
	}
	pthread_mutex_unlock(&t->again);
	return (rc);
}

/* 0, 1 or -1 as replica_send_check(). */
static int
check_once(struct worker *w, const struct task *k, const struct replica_send *s, archive_id lacking, struct err *err)
{
	struct replica_holders h = REPLICA_HOLDERS_INIT;
	int rc;

	pthread_mutex_lock(&w->t->mutex);
	rc = replica_holders(&w->t->list, k->needs, k->nneeds, &h, err);
	pthread_mutex_unlock(&w->t->mutex);
	if (rc == 0)
		rc = replica_send_check(s, &h, lacking, err);
	replica_holders_free(&h);
	return (rc);
}

/* What the other end has let go of, as no point there used it, is brought once more. */
static int
check_needs(struct worker *w, const struct task *k, const struct replica_send *s, struct err *err)
{
	archive_id lacking, last;
	struct err gap = ERR_INIT;
	bool again = false;
	int rc;

	while ((rc = check_once(w, k, s, lacking, &gap)) == 1) {
		if (again && memcmp(lacking, last, sizeof(last)) == 0)
			break;
		if (bring_again(w, lacking, err) == -1)
			return (-1);
		memcpy(last, lacking, sizeof(last));
		again = true;
		gap = (struct err)ERR_INIT;
	}
	if (rc != 0)
		*err = gap;
	return (rc == 0 ? 0 : -1);
}

static int
copy_point(struct worker *w, struct task *k, const struct timespec *begun, struct err *err)
{
	struct replica_send *s = replica_send_copy(&w->ln, &k->p, k->as_pruned, &k->hint, err);
	struct replica has = { .replaces = k->replaces, .nreplaces = k->nreplaces };
	const struct manifest *m;
	int rc = -1;

	if (s != NULL && wait_for_needs(w->t, k, err) == 0 && (!k->packed || check_needs(w, k, s, err) == 0) && replica_send_publish(s, err) == 0) {
		m = replica_send_manifest(s);
		memcpy(has.id, k->id, sizeof(has.id));
		task_done(w->t, k, &has, &(struct replicated){ .vm = m->vm, .machine = m->uuid != NULL ? m->uuid : m->vm,
		    .here = replica_send_here(s), .stored = m->archive.size, .resumed = replica_send_resumed(s), .seconds = seconds_since(begun) });
		rc = 0;
	}
	replica_send_end(s);
	return (rc);
}

static void
do_task(struct worker *w, struct task *k)
{
	struct err err = ERR_INIT;
	struct timespec begun;

	clock_gettime(CLOCK_MONOTONIC, &begun);
	if ((k->extract ? extract_archive : copy_point)(w, k, &begun, &err) == -1)
		task_failed(w->t, k, &err);
}

static struct task *
take_task(struct transfer *t)
{
	struct task *k = NULL;

	pthread_mutex_lock(&t->mutex);
	while (t->next < t->plan.n && t->plan.v[t->next].state != TASK_WAITS)
		t->next++;
	if (t->how->stop != NULL && *t->how->stop && !t->broken) {
		t->broken = true;
		err_plain(&t->why, EINTR, "stopped; the next replication goes on from here");
		pthread_cond_broadcast(&t->changed);
	}
	if (!t->broken && t->next < t->plan.n) {
		k = &t->plan.v[t->next++];
		k->state = TASK_RUNS;
	}
	pthread_mutex_unlock(&t->mutex);
	return (k);
}

static void *
open_both(void *arg)
{
	struct opening *o = arg;
	struct err ignored = ERR_INIT;		/* the server takes no more connections: those that are there do it */

	if ((o->from = o->how->open_from(o->how->arg, &ignored)) != NULL)
		o->to = o->how->open_to(o->how->arg, &ignored);
	if (o->to != NULL && o->list != NULL)
		o->has_list = replica_list_load(o->to, o->from->id, o->list, &ignored) == 0;
	return (NULL);
}

static void
crew_open(struct crew *c, const struct replicate *how, struct replica_list *list)
{
	struct err ignored = ERR_INIT;		/* with fewer it is slower */

	for (c->n = 0; c->n + 1 < how->parallel && c->n < REPLICATE_PARALLEL_MAX - 1; c->n++) {
		c->v[c->n] = (struct opening){ .how = how, .list = c->n == 0 ? list : NULL };
		if (thread_start(&c->v[c->n].thread, open_both, &c->v[c->n], &ignored) == -1)
			break;
	}
}

static void
crew_wait(struct crew *c)
{
	for (size_t i = 0; i < c->n; i++) {
		if (!c->v[i].joined)
			pthread_join(c->v[i].thread, NULL);
		c->v[i].joined = true;
	}
}

/* Whether it has read what came before. */
static bool
crew_has_list(struct crew *c)
{
	if (c->n == 0 || c->v[0].joined)
		return (false);
	pthread_join(c->v[0].thread, NULL);
	c->v[0].joined = true;
	return (c->v[0].has_list);
}

static void
crew_close(struct crew *c)
{
	for (size_t i = 0; i < c->n; i++) {
		repo_close(c->v[i].from);
		repo_close(c->v[i].to);
	}
}

static void *
work(void *arg)
{
	struct worker *w = arg;
	struct task *k;

	while ((k = take_task(w->t)) != NULL)
		do_task(w, k);
	return (NULL);
}

static void
run_workers(struct transfer *t, const struct replica_link *ln, const struct crew *crew)
{
	struct worker w[REPLICATE_PARALLEL_MAX];
	struct err ignored = ERR_INIT;
	size_t started = 0;

	for (size_t i = 0; i < crew->n; i++) {
		if (crew->v[i].from == NULL || crew->v[i].to == NULL)
			continue;
		w[started] = (struct worker){ .t = t, .ln = *ln };
		w[started].ln.from = crew->v[i].from;
		w[started].ln.to = crew->v[i].to;
		if (thread_start(&w[started].thread, work, &w[started], &ignored) == -1)
			break;
		started++;
	}
	w[started] = (struct worker){ .t = t, .ln = *ln };
	work(&w[started]);
	for (size_t i = 0; i < started; i++)
		pthread_join(w[i].thread, NULL);
}

/* Archives that arrived in part. */

static int
add_part(void *arg, const char *name, struct err *err)
{
	size_t n = strlen(name);

	return (n > 5 && strcmp(name + n - 5, ".part") == 0 ? buf_add(arg, name, n + 1, err) : 0);
}

static int
list_parts(struct repo *to, struct buf *parts, struct err *err)
{
	return (store_list(to->st, REPLICAS_DIR, add_part, parts, err) == -1 && err->code != ENOENT ? -1 : 0);
}

/* Those that nobody will go on with: their archive is here, or they are old.  What cannot be removed stays until the next time. */
static void
remove_parts(struct transfer *t, struct repo *to)
{
	struct err ignored = ERR_INIT;
	char path[3 * NAMING_MAX], token[LOCK_TOKEN_LEN], text[UUID_LEN];
	const char *name;
	struct store_stat sb;
	archive_id id;

	for (size_t at = 0; at < t->parts.len; at += strlen(name) + 1) {
		name = t->parts.ptr + at;
		snprintf(path, sizeof(path), "%s/%.200s", REPLICAS_DIR, name);
		snprintf(text, sizeof(text), "%.36s", name);
		if (uuid_parse(text, id) == -1 || strlen(name) < UUID_LEN || sscanf(name + UUID_LEN - 1, ".%16[0-9a-f]", token) != 1 ||
		    lock_is_held(t->lk, token, &ignored) != 0 || store_stat(to->st, path, &sb, &ignored) == -1)
			continue;
		if (replica_holds(&t->list, id) == 1 || time(NULL) - sb.mtime > PART_DAYS * 86400)
			store_unlink(to->st, path, &ignored);
	}
}

static bool
has_large(const struct replicate_plan *plan)
{
	for (size_t i = 0; i < plan->n; i++)
		if (plan->v[i].size >= REPLICA_RESUME_LEAST)
			return (true);
	return (false);
}

/* What was read before the lock was held counts if nobody has put a consolidated point in its place since. */
static int
load_list(struct transfer *t, struct crew *crew, struct repo *from, struct repo *to, struct err *err)
{
	if (crew_has_list(crew) && replica_list_is_current(to, from->id, &t->list))
		return (0);
	replica_list_free(&t->list);
	return (replica_list_load(to, from->id, &t->list, err));
}

/* Nobody may be in the way of sweeping: it is done before our own lock is held, and only where there is something to sweep. */
static int
make_plan(struct transfer *t, struct crew *crew, struct repo *from, struct repo *to, struct err *err)
{
	const struct replicate *how = t->how;
	struct replicate_stats fresh = *t->stats;
	struct store *more[REPLICATE_PARALLEL_MAX];
	unsigned int swept;
	size_t nmore;

	for (int try = 0; try < 2; try++) {
		*t->stats = fresh;
		if ((t->lk = lock_run(to->st, how->program, how->wait_s, how->stop, err)) == NULL || load_list(t, crew, from, to, err) == -1)
			return (-1);
		crew_wait(crew);
		for (size_t i = nmore = 0; i < crew->n; i++)
			if (crew->v[i].to != NULL)
				more[nmore++] = crew->v[i].to->st;
		if (replicate_plan_make(how, from, to, more, nmore, &t->list, &t->plan, t->stats, err) == -1)
			return (-1);
		if (!t->plan.leftovers || try > 0)
			break;
		replicate_plan_free(&t->plan);
		replica_list_free(&t->list);
		lock_release(t->lk);
		t->lk = NULL;
		if (repo_sweep(to, how->program, &swept, err) == -1)
			return (-1);
	}
	return (!has_large(&t->plan) ? 0 : list_parts(to, &t->parts, err));
}

/* Who gets a name of its own here may get one that other sources remember for what had it before. */
static void
settle_lists(const struct transfer *t, struct repo *from, struct repo *to)
{
	const char *last = "";

	for (size_t i = 0; i < t->plan.n; i++) {
		const struct task *k = &t->plan.v[i];

		if ((!k->extract && !k->hint.has_name) || strcmp(k->p.folder, last) == 0)
			continue;
		last = k->p.folder;
		replica_lists_settle(to, last, from->id);
	}
}

static int
replicate_between(struct transfer *t, struct crew *crew, struct repo *from, struct repo *to, struct err *err)
{
	const struct replicate *how = t->how;
	struct replica_link ln = { .from = from, .to = to, .job = how->job, .parts = &t->parts, .read_back = how->read_back, .stop = how->stop,
		.tick = tick, .arg = t };
	struct err saved = ERR_INIT;
	int rc;

	if (from->id[0] != '\0' && strcmp(from->id, to->id) == 0)
		return (err_set(err, 0, "%s and %s are one repository, or copies of one: nothing is to be replicated", from->st->url, to->st->url));
	snprintf(t->stats->from, sizeof(t->stats->from), "%s", from->id);
	rc = make_plan(t, crew, from, to, err);
	if (rc == 0) {
		settle_lists(t, from, to);
		ln.lk = t->lk;
		if (how->begin != NULL)
			how->begin(how->arg, t->plan.n, t->plan.bytes);
		run_workers(t, &ln, crew);
		*err = t->why;
		rc = t->broken ? -1 : 0;
	}
	/* It only saves time: that it cannot be written is told by the next thing that is.  With the lock: nobody consolidates meanwhile. */
	if (t->lk != NULL)
		replica_list_save(to, from->id, &t->list, &saved);
	if (rc == 0)
		remove_parts(t, to);
	lock_release(t->lk);
	return (rc);
}

int
replicate_run(const struct replicate *how, struct replicate_stats *stats, struct err *err)
{
	struct transfer t = { .how = how, .stats = stats, .plan = REPLICATE_PLAN_INIT, .list = REPLICA_LIST_INIT, .parts = BUF_INIT,
		.mutex = PTHREAD_MUTEX_INITIALIZER, .again = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER, .why = ERR_INIT };
	struct repo *from, *to = NULL;
	struct crew crew = { .n = 0 };
	struct timespec begun;
	int rc = -1;

	memset(stats, 0, sizeof(*stats));
	clock_gettime(CLOCK_MONOTONIC, &begun);
	if ((from = how->open_from(how->arg, err)) != NULL) {
		crew_open(&crew, how, &t.list);
		if ((to = how->open_to(how->arg, err)) != NULL)
			rc = replicate_between(&t, &crew, from, to, err);
		crew_wait(&crew);
		crew_close(&crew);
	}
	stats->seconds = seconds_since(&begun);
	replicate_plan_free(&t.plan);
	replica_list_free(&t.list);
	buf_free(&t.parts);
	free(t.brought);
	repo_close(from);
	repo_close(to);
	return (rc);
}
