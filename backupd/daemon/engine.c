#include "engine.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "calendar/calendar.h"
#include "calendar/window.h"
#include "machine.h"

#define AGAIN_S		10	/* after the state could not be written */
#define MAX_INTERRUPTED	10	/* times that a run is queued again after it was interrupted */

struct engine_job {
	const struct conf_job	*conf;
	struct calendar		*calendar;
	struct window		*window;
	int64_t			 last;
	int64_t			 looked, wake;	/* between these times its schedule asks for nothing new */
	int64_t			 overran;	/* its run that was told to end because its window has closed; 0: none */
};

/* The end of a run that could not be written yet. */
struct unwritten {
	struct unwritten	*next;
	int64_t			 id, when;
	enum run_state		 state;
	char			 message[RUN_TEXT_LEN];
};

struct engine {
	struct db			*db;
	char				 host[256];
	const struct engine_ops		*ops;
	void				*arg;
	const struct conf		*conf;
	struct engine_job		*jobs;
	size_t				 njobs;
	struct unwritten		*unwritten;
	bool				 paused, held;
	char				 trouble[RUN_TEXT_LEN];	/* told last: once is enough */
};

static void tell(struct engine *e, const char *job, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static void
tell(struct engine *e, const char *job, const char *fmt, ...)
{
	char text[RUN_TEXT_LEN];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	e->ops->say(e->arg, false, job, text);
}

/* The state cannot be written: it will be tried again, and told once. */
static void
complain(struct engine *e, const struct err *err)
{
	if (strcmp(e->trouble, err->text) == 0)
		return;
	snprintf(e->trouble, sizeof(e->trouble), "%s", err->text);
	e->ops->say(e->arg, true, NULL, err->text);
}

struct engine *
engine_new(struct db *db, const char *host, const struct engine_ops *ops, void *arg, struct err *err)
{
	struct engine *e = calloc(1, sizeof(*e));

	if (e == NULL) {
		err_nomem(err);
		return (NULL);
	}
	e->db = db;
	e->ops = ops;
	e->arg = arg;
	snprintf(e->host, sizeof(e->host), "%s", host);
	e->paused = db_paused(db);
	return (e);
}

static void
free_jobs(struct engine_job *v, size_t n)
{
	for (size_t i = 0; v != NULL && i < n; i++) {
		calendar_free(v[i].calendar);
		window_free(v[i].window);
	}
	free(v);
}

void
engine_free(struct engine *e)
{
	if (e == NULL)
		return;
	for (struct unwritten *u = e->unwritten, *next; u != NULL; u = next) {
		next = u->next;
		free(u);
	}
	free_jobs(e->jobs, e->njobs);
	free(e);
}

static int
take_job(struct engine *e, struct engine_job *j, const struct conf_job *conf, int64_t now, struct err *err)
{
	*j = (struct engine_job){ .conf = conf, .looked = INT64_MAX };
	if (conf->window != NULL && (j->window = window_parse(conf->window, err)) == NULL)
		return (-1);
	if (conf->schedule == NULL)
		return (0);
	if ((j->calendar = calendar_parse(conf->schedule, err)) == NULL)
		return (-1);
	j->last = now;
	/* A state that cannot be written is no reason not to go on. */
	if (db_job_last(e->db, conf->name, conf->schedule, now, &j->last, err) == -1)
		complain(e, err);
	return (0);
}

static struct engine_job *
find_job(const struct engine *e, const char *name)
{
	for (size_t i = 0; i < e->njobs; i++)
		if (strcmp(e->jobs[i].conf->name, name) == 0)
			return (&e->jobs[i]);
	return (NULL);
}

int
engine_configure(struct engine *e, const struct conf *c, int64_t now, struct err *err)
{
	struct engine_job *v = calloc(c->njobs + 1, sizeof(*v));

	if (v == NULL)
		return (err_nomem(err));
	for (size_t i = 0; i < c->njobs; i++)
		if (take_job(e, &v[i], &c->jobs[i], now, err) == -1) {
			free_jobs(v, c->njobs);
			return (-1);
		}
	if (db_forget_jobs(e->db, c, now, err) == -1)
		complain(e, err);
	for (size_t i = 0; i < c->njobs; i++)
		v[i].overran = find_job(e, c->jobs[i].name) != NULL ? find_job(e, c->jobs[i].name)->overran : 0;
	free_jobs(e->jobs, e->njobs);
	e->jobs = v;
	e->njobs = c->njobs;
	e->conf = c;
	return (0);
}

static struct schedule
schedule_of(const struct engine_job *j)
{
	return ((struct schedule){ j->conf->name, j->calendar, j->conf->random_delay, j->conf->catch_up != 0, j->last });
}

/* A job never overlaps itself, and never waits twice.  A retry that waits for its time is no obstacle: the run that is due takes its place. */
static bool
is_busy(const struct engine_job *j, const struct runs *active)
{
	for (size_t i = 0; i < active->n; i++)
		if (strcmp(active->v[i].job, j->conf->name) == 0 && (active->v[i].state == RUN_RUNNING || active->v[i].not_before == RUN_NO_TIME))
			return (true);
	return (false);
}

/* Whether it is tried again.  One that was interrupted is, whatever its job's retries: at once, and then with the same growing waits. */
static void
plan_again(const struct run *r, const struct engine_job *j, struct run_end *end)
{
	const struct conf_job *job = j->conf;
	int failures = r->attempt - r->requeued;

	if (end->state == RUN_INTERRUPTED) {
		end->again = r->requeued < MAX_INTERRUPTED;
		if (r->requeued > 0)
			end->retry_at = end->finished + schedule_retry_wait(job->retry_wait, r->requeued);
	} else if (end->state == RUN_FAILED && failures <= job->retries) {
		end->again = true;
		end->retry_at = end->finished + schedule_retry_wait(job->retry_wait, failures);
	} else if (end->state == RUN_CANCELLED && failures <= job->retries && j->overran == r->id && j->window != NULL) {
		end->again = true;
		end->retry_at = window_opens(j->window, (time_t)end->finished);
	}
}

static void
tell_again(struct engine *e, const struct run *r, const struct run_end *end, int64_t next)
{
	if (end->retry_at == RUN_NO_TIME)
		tell(e, r->job, "run %" PRId64 " was interrupted, and is queued again as run %" PRId64, r->id, next);
	else
		tell(e, r->job, "%sis tried again in %" PRId64 " s, as run %" PRId64, end->state == RUN_INTERRUPTED ? "was interrupted again, and " : "",
		    end->retry_at - end->finished, next);
}

/* What follows the run is told, too. */
static int
write_end(struct engine *e, int64_t id, enum run_state state, const char *message, int64_t when, struct err *err)
{
	struct run_end end = { .state = state, .finished = when, .message = message, .retry_at = RUN_NO_TIME };
	const struct engine_job *j;
	int64_t next = 0;
	struct run r;
	int rc;

	if ((rc = db_run(e->db, id, &r, err)) != 1)
		return (rc);
	if ((j = find_job(e, r.job)) != NULL)
		plan_again(&r, j, &end);
	if (db_finish(e->db, id, &end, &next, err) == -1)
		return (-1);
	e->ops->changed(e->arg, id);
	r.state = state;
	r.finished = when;
	snprintf(r.message, sizeof(r.message), "%s", message != NULL ? message : "");
	if (e->ops->ended != NULL)
		e->ops->ended(e->arg, &r, next, end.retry_at);
	if (next != 0) {
		tell_again(e, &r, &end, next);
		e->ops->changed(e->arg, next);
	}
	if (db_trim(e->db, r.job, e->conf->daemon.history, e->ops->gone, e->arg, err) == -1)
		complain(e, err);
	return (0);
}

void
engine_ended(struct engine *e, int64_t id, enum run_state state, const char *message, int64_t now)
{
	struct err err = ERR_INIT;
	struct unwritten *u;

	if (write_end(e, id, state, message, now, &err) == 0)
		return;
	complain(e, &err);
	/* Somebody holds the database, say.  Until it is written the job counts as running. */
	if ((u = calloc(1, sizeof(*u))) == NULL)
		return;
	*u = (struct unwritten){ .next = e->unwritten, .id = id, .when = now, .state = state };
	snprintf(u->message, sizeof(u->message), "%s", message != NULL ? message : "");
	e->unwritten = u;
}

/* Returns when to try again. */
static int64_t
write_unwritten(struct engine *e, int64_t now)
{
	struct unwritten *u;
	struct err err = ERR_INIT;

	while ((u = e->unwritten) != NULL) {
		if (write_end(e, u->id, u->state, u->message, u->when, &err) == -1) {
			complain(e, &err);
			return (now + AGAIN_S);
		}
		e->unwritten = u->next;
		free(u);
	}
	return (SCHEDULE_NEVER);
}

static int
queue_due(struct engine *e, struct engine_job *j, const struct schedule_answer *a, int64_t now, struct err *err)
{
	struct run r = { .reason = a->late ? RUN_MISSED : RUN_SCHEDULE, .due = a->time, .queued = now, .not_before = RUN_NO_TIME };

	snprintf(r.job, sizeof(r.job), "%s", j->conf->name);
	if (db_queue(e->db, &r, err) == -1)
		return (-1);
	e->trouble[0] = '\0';
	if (a->late)
		tell(e, j->conf->name, "missed a run, which is made up for now");
	e->ops->changed(e->arg, r.id);
	return (0);
}

/* Returns when to look again.  It is queued at most once: then it is busy. */
static int64_t
look_at(struct engine *e, struct engine_job *j, int64_t now)
{
	struct schedule s = schedule_of(j);
	struct schedule_answer a;
	struct err err = ERR_INIT;
	int rc;

	for (;;) {
		a = schedule_look(&s, e->host, now);
		if (a.verdict == SCHEDULE_WAIT) {
			j->looked = now;
			j->wake = a.time;
			return (a.time);
		}
		rc = a.verdict == SCHEDULE_RUN ? queue_due(e, j, &a, now, &err) : db_job_pass(e->db, j->conf->name, a.time, &err);
		if (rc == -1) {
			complain(e, &err);
			return (now + AGAIN_S);
		}
		if (a.verdict == SCHEDULE_PASS)
			tell(e, j->conf->name, "runs that were missed are passed over, as catch_up = false has it");
		else if (a.verdict == SCHEDULE_RESET)
			tell(e, j->conf->name, "the clock was set back by more than a day: its schedule begins anew");
		s.last = j->last = a.time;
		j->looked = INT64_MAX;
		if (a.verdict == SCHEDULE_RUN)
			return (SCHEDULE_NEVER);
	}
}

static int64_t
queue_all(struct engine *e, const struct runs *active, int64_t now)
{
	int64_t wake = SCHEDULE_NEVER, at;

	for (size_t i = 0; i < e->njobs; i++) {
		struct engine_job *j = &e->jobs[i];

		if (j->calendar == NULL || is_busy(j, active))
			continue;
		at = now >= j->looked && now < j->wake ? j->wake : look_at(e, j, now);
		if (at < wake)
			wake = at;
	}
	return (wake);
}

/* Fails: -1; nothing is to be tried for a while. */
static int
start_run(struct engine *e, const struct run *r, int64_t now)
{
	const struct engine_job *j = find_job(e, r->job);
	struct run running = *r;
	struct err err = ERR_INIT;

	if (db_start(e->db, r->id, now, &err) == -1) {
		complain(e, &err);
		return (-1);
	}
	running.state = RUN_RUNNING;
	running.started = now;
	e->ops->changed(e->arg, r->id);
	if (j == NULL)
		engine_ended(e, r->id, RUN_CANCELLED, "the configuration has no such job any more", now);
	else if (e->ops->start(e->arg, &running, j->conf, &err) == -1)
		engine_ended(e, r->id, RUN_FAILED, err.text, now);
	return (0);
}

/* One of those that may.  Returns whether there may be another one. */
static bool
start_one(struct engine *e, int64_t now, int64_t *wake)
{
	struct runs active = RUNS_INIT;
	struct waiting *v = NULL;
	struct err err = ERR_INIT;
	bool started = false;
	int next;

	*wake = now + AGAIN_S;
	if (db_active(e->db, &active, &err) == -1) {
		complain(e, &err);
		goto out;
	}
	if ((v = calloc(active.n + 1, sizeof(*v))) == NULL)
		goto out;
	for (size_t i = 0; i < active.n; i++) {
		const struct engine_job *j = find_job(e, active.v[i].job);

		v[i] = (struct waiting){ &active.v[i], j != NULL ? j->window : NULL, j != NULL ? j->conf : NULL };
	}
	if ((next = schedule_pick(v, active.n, e->conf->daemon.max_parallel, e->paused, now, wake)) == -1)
		goto out;
	if (start_run(e, &active.v[next], now) == -1)
		*wake = now + AGAIN_S;
	else
		started = true;
out:
	free(v);
	runs_free(&active);
	return (started);
}

static bool
any_cancels(const struct engine *e)
{
	for (size_t i = 0; i < e->njobs; i++)
		if (e->jobs[i].window != NULL && e->jobs[i].conf->window_cancel)
			return (true);
	return (false);
}

/* What runs when its window closes is told to end, if its job wants that.  Returns when the next window does. */
static int64_t
close_windows(struct engine *e, int64_t now)
{
	int64_t wake = SCHEDULE_NEVER, closes;
	struct runs active = RUNS_INIT;
	struct err err = ERR_INIT;
	char why[RUN_TEXT_LEN];

	if (!any_cancels(e))
		return (wake);
	if (db_active(e->db, &active, &err) == -1) {
		complain(e, &err);
		wake = now + AGAIN_S;
	}
	for (size_t i = 0; i < active.n; i++) {
		const struct run *r = &active.v[i];
		struct engine_job *j = find_job(e, r->job);

		if (r->state != RUN_RUNNING || r->reason == RUN_REQUEST || j == NULL || j->window == NULL || !j->conf->window_cancel || j->overran == r->id)
			continue;
		if ((closes = window_closes(j->window, (time_t)r->started)) > now) {
			wake = closes < wake ? closes : wake;
			continue;
		}
		snprintf(why, sizeof(why), "not done when its window %s closed (window_end)", j->conf->window);
		j->overran = r->id;
		e->ops->cancel(e->arg, r->id, why);
		e->ops->changed(e->arg, r->id);
	}
	runs_free(&active);
	return (wake);
}

int64_t
engine_tick(struct engine *e, int64_t now)
{
	struct runs active = RUNS_INIT;
	struct err err = ERR_INIT;
	int64_t wake = SCHEDULE_NEVER, at = SCHEDULE_NEVER, again = SCHEDULE_NEVER, closes;

	if (e->conf == NULL || (again = write_unwritten(e, now)) != SCHEDULE_NEVER)
		return (e->conf == NULL ? SCHEDULE_NEVER : again);
	if (e->held)
		return (SCHEDULE_NEVER);
	if (db_active(e->db, &active, &err) == -1) {
		complain(e, &err);
		runs_free(&active);
		return (now + AGAIN_S);
	}
	if (!e->paused)
		wake = queue_all(e, &active, now);
	runs_free(&active);
	while (start_one(e, now, &at))
		continue;
	closes = close_windows(e, now);
	wake = closes < wake ? closes : wake;
	return (at < wake ? at : wake);
}

void
engine_hold(struct engine *e)
{
	e->held = true;
}

int
engine_run(struct engine *e, const char *job, const char *domain, bool full, int64_t now, int64_t *id, struct err *err)
{
	struct run r = { .full = full, .reason = RUN_REQUEST, .due = RUN_NO_TIME, .queued = now, .not_before = RUN_NO_TIME };

	if (find_job(e, job) == NULL) {
		err_set(err, 0, "there is no job \"%.200s\"", job);
		err->code = ENOENT;
		return (-1);
	}
	if (domain != NULL && (domain[0] == '\0' || strlen(domain) >= sizeof(r.domain))) {
		err_set(err, 0, "a machine's name has 1 to %zu bytes", sizeof(r.domain) - 1);
		err->code = EINVAL;
		return (-1);
	}
	/* Whether there is one, the run will tell. */
	if (domain != NULL && !machine_possible(find_job(e, job)->conf, domain)) {
		err_set(err, 0, "job %s has no machine \"%.400s\": none of the names and patterns in its configuration is that", job, domain);
		err->code = ENOENT;
		return (-1);
	}
	snprintf(r.job, sizeof(r.job), "%s", job);
	snprintf(r.domain, sizeof(r.domain), "%s", domain != NULL ? domain : "");
	if (db_queue(e->db, &r, err) == -1)
		return (-1);
	*id = r.id;
	e->ops->changed(e->arg, r.id);
	return (0);
}

int
engine_cancel(struct engine *e, int64_t id, int64_t now, struct err *err)
{
	struct run_end end = { .state = RUN_CANCELLED, .finished = now, .message = "cancelled on request before it began", .retry_at = RUN_NO_TIME };
	int64_t next;
	struct run r;
	int rc = db_run(e->db, id, &r, err);

	if (rc == -1)
		return (-1);
	if (rc == 0) {
		err_set(err, 0, "there is no run %" PRId64, id);
		err->code = ENOENT;
		return (-1);
	}
	if (r.state == RUN_RUNNING) {
		e->ops->cancel(e->arg, id, "cancelled on request");
		e->ops->changed(e->arg, id);
		return (0);
	}
	if (r.state != RUN_QUEUED) {
		err_set(err, 0, "run %" PRId64 " has ended already: %s", id, run_state_name(r.state));
		err->code = EALREADY;
		return (-1);
	}
	if (db_finish(e->db, id, &end, &next, err) == -1)
		return (-1);
	e->ops->changed(e->arg, id);
	return (0);
}

int
engine_pause(struct engine *e, bool paused, struct err *err)
{
	if (db_set_paused(e->db, paused, err) == -1)
		return (-1);
	e->paused = paused;
	return (0);
}

bool
engine_paused(const struct engine *e)
{
	return (e->paused);
}

int64_t
engine_due(const struct engine *e, const struct conf_job *job, int64_t after, int64_t *due)
{
	const struct engine_job *j = find_job(e, job->name);
	struct schedule s;
	time_t next;

	if (j == NULL || j->calendar == NULL || !calendar_next(j->calendar, (time_t)after, &next))
		return (SCHEDULE_NEVER);
	s = schedule_of(j);
	*due = next;
	return (*due + schedule_delay(&s, e->host, *due));
}

int64_t
engine_next(const struct engine *e, const struct conf_job *job, int64_t now)
{
	const struct engine_job *j = find_job(e, job->name);
	int64_t due;

	if (j == NULL || j->calendar == NULL)
		return (SCHEDULE_NEVER);
	return (engine_due(e, job, j->last > now + SCHEDULE_AHEAD ? now : j->last, &due));
}
