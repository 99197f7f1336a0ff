#include "ops.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "alarms.h"
#include "daemon_private.h"
#include "notifier.h"
#include "ops_json.h"

/* ---- jobs ---- */

struct machines {
	struct daemon	*d;
	json_t		*array;
};

static bool
add_machine(void *arg, const struct run *r, const struct machine *m)
{
	struct machines *all = arg;
	json_t *o = ops_record(r, m);

	if (o != NULL)
		json_object_set_new(o, "last_success", ops_time(db_last_success(all->d->db, r->job, m != NULL ? m->vm : NULL)));
	return (json_array_append_new(all->array, o) == 0);
}

static json_t *
last_of(struct daemon *d, const char *job)
{
	struct err err = ERR_INIT;
	struct run r;

	return (db_last(d->db, job, &r, &err) == 1 ? ops_last(&r) : json_null());
}

/* The one that runs, or else the first that waits. */
static json_t *
active_of(const struct runs *active, const char *job)
{
	const struct run *found = NULL;

	for (size_t i = 0; i < active->n; i++)
		if (strcmp(active->v[i].job, job) == 0 && (found == NULL || active->v[i].state == RUN_RUNNING))
			found = &active->v[i];
	return (found != NULL ? json_integer(found->id) : json_null());
}

static json_t *
one_job(struct daemon *d, const struct conf_job *job, const struct runs *active)
{
	struct machines all = { d, json_array() };
	struct err err = ERR_INIT;
	int64_t next = engine_next(d->engine, job, daemon_now());

	if (all.array == NULL || db_machines(d->db, job->name, add_machine, &all, &err) == -1) {
		json_decref(all.array);
		return (NULL);
	}
	return (json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:b, s:o, s:o}", "name", job->name, "repository", job->repository->name, "schedule",
	    ops_text(job->schedule), "next", next == SCHEDULE_NEVER ? json_null() : ops_time(next), "last", last_of(d, job->name), "last_success",
	    ops_time(db_last_success(d->db, job->name, NULL)), "overdue",
	    (int)alarms_overdue(d, job, daemon_now()), "run", active_of(active, job->name), "machines", all.array));
}

static json_t *
all_jobs(struct daemon *d, const struct runs *active)
{
	json_t *a = json_array();

	for (size_t i = 0; a != NULL && i < d->conf->njobs; i++)
		if (json_array_append_new(a, one_job(d, &d->conf->jobs[i], active)) == -1) {
			json_decref(a);
			return (NULL);
		}
	return (a);
}

json_t *
ops_jobs(void *arg)
{
	struct runs active = RUNS_INIT;
	struct err err = ERR_INIT;
	struct daemon *d = arg;
	json_t *a = NULL;

	if (db_active(d->db, &active, &err) == 0)
		a = all_jobs(d, &active);
	runs_free(&active);
	return (a);
}

/* ---- status ---- */

static json_t *
all_runs(const struct daemon *d, const struct runs *active)
{
	json_t *a = json_array();

	for (size_t i = 0; a != NULL && i < active->n; i++)
		if (json_array_append_new(a, ops_run(&active->v[i], daemon_worker(d, active->v[i].id), daemon_now())) == -1) {
			json_decref(a);
			return (NULL);
		}
	return (a);
}

/* Where it is not there yet, or far away, that cannot be told. */
static json_t *
repositories(const struct daemon *d)
{
	json_t *a = json_array();

	for (size_t i = 0; a != NULL && i < d->conf->nrepositories; i++) {
		const struct conf_repository *r = &d->conf->repositories[i];
		struct alarms_space s = alarms_space(d->alarms, r);

		if (json_array_append_new(a, json_pack("{s:s, s:o, s:o, s:o, s:b}", "name", r->name, "url", ops_text(r->url), "free",
		    s.known ? json_integer((json_int_t)s.free) : json_null(), "total", s.known && s.total > 0 ? json_integer((json_int_t)s.total) : json_null(),
		    "low", (int)(s.known && s.low))) == -1) {
			json_decref(a);
			return (NULL);
		}
	}
	return (a);
}

static json_t *
warnings(const struct daemon *d)
{
	json_t *a = json_array();

	if (d->in_memory)
		json_array_append_new(a, json_string("queue and history are in memory only: see to the disk of the state folder"));
	if (a != NULL)
		alarms_warnings(d->alarms, a);
	return (a);
}

json_t *
ops_status(void *arg)
{
	struct runs active = RUNS_INIT;
	struct err err = ERR_INIT;
	struct daemon *d = arg;
	json_t *o = NULL;

	if (db_active(d->db, &active, &err) == 0)
		o = json_pack("{s:s, s:o, s:o, s:b, s:{s:o, s:o, s:o}, s:o, s:o, s:o, s:o}", "version", OVB_VERSION, "time", ops_time(daemon_now()), "started",
		    ops_time(d->started), "paused", engine_paused(d->engine), "config", "file", ops_text(d->config), "loaded", ops_time(d->conf_loaded), "error",
		    ops_text(d->conf_error), "jobs", all_jobs(d, &active), "runs", all_runs(d, &active), "repositories", repositories(d), "warnings", warnings(d));
	runs_free(&active);
	return (o);
}

/* ---- history ---- */

static bool
add_record(void *arg, const struct run *r, const struct machine *m)
{
	return (json_array_append_new(arg, ops_record(r, m)) == 0);
}

json_t *
ops_history(void *arg, const char *job, unsigned int limit)
{
	struct daemon *d = arg;
	struct err err = ERR_INIT;
	json_t *a = json_array();

	if (a != NULL && db_history(d->db, job, limit, add_record, a, &err) == 0)
		return (a);
	json_decref(a);
	return (NULL);
}

/* ---- schedule ---- */

struct upcoming {
	const struct conf_job	*job;
	int64_t			 due, fires;
};

static int
compare_upcoming(const void *a, const void *b)
{
	const struct upcoming *x = a, *y = b;

	if (x->fires != y->fires)
		return (x->fires < y->fires ? -1 : 1);
	return (strcmp(x->job->name, y->job->name));
}

/* Each job's next time, of which the earliest is taken and replaced by that job's next one. */
json_t *
ops_schedule(void *arg, unsigned int next)
{
	struct daemon *d = arg;
	size_t n = d->conf->njobs;
	struct upcoming *v = calloc(n + 1, sizeof(*v));
	json_t *a = json_array();

	if (v == NULL || a == NULL)
		goto fail;
	for (size_t i = 0; i < n; i++) {
		v[i].job = &d->conf->jobs[i];
		v[i].fires = engine_due(d->engine, v[i].job, daemon_now(), &v[i].due);
	}
	while (n > 0 && next-- > 0) {
		struct upcoming *first = &v[0];

		for (size_t i = 1; i < n; i++)
			if (compare_upcoming(&v[i], first) < 0)
				first = &v[i];
		if (first->fires == SCHEDULE_NEVER)
			break;
		if (json_array_append_new(a, json_pack("{s:s, s:o, s:s}", "job", first->job->name, "time", ops_time(first->fires), "schedule",
		    first->job->schedule)) == -1)
			goto fail;
		first->fires = engine_due(d->engine, first->job, first->due, &first->due);
	}
	free(v);
	return (a);
fail:
	json_decref(a);
	free(v);
	return (NULL);
}

/* ---- actions ---- */

int
ops_run_job(void *arg, const char *job, const char *domain, bool full, int64_t *run_id, struct err *err)
{
	struct daemon *d = arg;

	if (engine_run(d->engine, job, domain, full, daemon_now(), run_id, err) == -1)
		return (-1);
	daemon_tick(d);
	return (0);
}

int
ops_cancel(void *arg, int64_t run, struct err *err)
{
	struct daemon *d = arg;

	if (engine_cancel(d->engine, run, daemon_now(), err) == -1)
		return (-1);
	daemon_tick(d);
	return (0);
}

static int
set_paused(struct daemon *d, bool paused, struct err *err)
{
	if (engine_pause(d->engine, paused, err) == -1)
		return (-1);
	daemon_say(false, paused ? "paused: nothing of the schedule is started until it is resumed" : "resumed");
	daemon_tick(d);
	return (0);
}

int
ops_pause(void *arg, struct err *err)
{
	return (set_paused(arg, true, err));
}

int
ops_resume(void *arg, struct err *err)
{
	return (set_paused(arg, false, err));
}

int
ops_notify_test(void *arg, const char *job, int64_t *id, struct err *err)
{
	struct daemon *d = arg;

	if (d->conf->notify.nmails + d->conf->notify.nwebhooks == 0)
		err_set(err, 0, "nobody is to be notified: add a group \"notify\" to %s, and reload", d->config);
	else if (job != NULL ? conf_find_job(d->conf, job) == NULL : d->conf->njobs == 0)
		err_set(err, 0, job != NULL ? "there is no job \"%.200s\"" : "there are no jobs%s", job != NULL ? job : "");
	else
		return ((*id = notifier_test(d->notifier, job != NULL ? job : d->conf->jobs[0].name, err)) == -1 ? -1 : 0);
	err->code = ENOENT;
	return (-1);
}

json_t *
ops_notify_result(void *arg, int64_t id)
{
	struct daemon *d = arg;

	return (notifier_result(d->notifier, id));
}

int
ops_log(void *arg, int64_t run, struct buf *out, struct err *err)
{
	struct daemon *d = arg;
	struct run r;
	int rc = db_run(d->db, run, &r, err);

	if (rc == 0) {
		err_set(err, 0, "there is no run %" PRId64, run);
		err->code = ENOENT;
	}
	if (rc != 1)
		return (-1);
	if (run_log_read(run, OPS_LOG_MAX, out, err) == 0)
		return (0);
	/* None yet. */
	return (err->code == ENOENT ? 0 : -1);
}

json_t *
ops_run_state(void *arg, int64_t run)
{
	struct daemon *d = arg;
	struct err err = ERR_INIT;
	struct run r;

	return (db_run(d->db, run, &r, &err) == 1 ? ops_run(&r, daemon_worker(d, run), daemon_now()) : NULL);
}
