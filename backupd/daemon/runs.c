#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "alarms.h"
#include "base/human.h"
#include "base/io.h"
#include "daemon_private.h"
#include "earlier.h"
#include "notifier.h"
#include "notify/notice.h"
#include "notify/notify.h"

#define SETTLE_S	30	/* until what could not be settled is tried again; twice as long each time ... */
#define SETTLE_MAX_S	1800	/* ... up to that */

static const struct worker_ops ops;

static struct worker_settings
settings(const struct daemon *d, const struct conf_job *job)
{
	return ((struct worker_settings){ .conf_fd = d->conf_fd, .earlier_fd = -1, .nice = d->conf->daemon.nice, .idle_io = d->conf->daemon.idle_io != 0,
		.stall_ms = job != NULL ? (int64_t)job->stall_timeout * 1000 : 0, .stop_ms = (int64_t)d->conf->daemon.stop_timeout * 1000 });
}

static void
add_worker(struct daemon *d, struct worker *w)
{
	w->next = d->workers;
	d->workers = w;
}

struct worker *
daemon_worker(const struct daemon *d, int64_t run)
{
	struct worker *w = d->workers;

	while (w != NULL && (w->run != run || run == 0))
		w = w->next;
	return (w);
}

/* ---- who is told ---- */

#define LINES_MAX	16384u	/* bytes */

struct lines {
	int64_t		run;
	struct buf	b;
};

static bool
add_line(void *arg, const struct run *r, const struct machine *m)
{
	struct lines *l = arg;
	struct err ignored = ERR_INIT;
	char size[HUMAN_LEN];

	(void)r;
	if (m == NULL || m->run != l->run)
		return (true);
	if (m->state == RUN_SUCCEEDED)
		buf_addf(&l->b, &ignored, "%s@%s: %s, %s%s%s stored\n", m->vm, m->point, m->kind, m->consistency, m->consistency[0] != '\0' ? ", " : "",
		    human_size((uint64_t)m->stored, size));
	else
		buf_addf(&l->b, &ignored, "%s: failed: %s\n", m->vm, m->error);
	if (l->b.len < LINES_MAX)
		return (true);
	buf_addf(&l->b, &ignored, "(and more)\n");
	return (false);
}

/* What is not told here is what somebody has asked for: that a run is cancelled. */
static void
tell(struct daemon *d, enum conf_event event, const struct run *r, int64_t next, int64_t next_at)
{
	const struct conf_job *job = conf_find_job(d->conf, r->job);
	struct lines lines = { r->id, BUF_INIT };
	struct err ignored = ERR_INIT;
	struct notice_run n = { .event = event, .job = r->job, .repository = job != NULL ? job->repository->name : "", .run = r->id,
		.state = run_state_name(r->state), .error = r->message, .attempt = r->attempt, .started = r->started, .finished = r->finished,
		.succeeded = r->succeeded, .failed = r->failed, .next_run = next, .next_at = next_at };

	if (!notify_wants(&d->conf->notify, event))
		return;
	if (event != CONF_EVENT_START) {
		(void)db_machines(d->db, r->job, add_line, &lines, &ignored);
		n.lines = lines.b.ptr;
	}
	notifier_tell(d->notifier, notice_run(&n), r->job, r->id);
	buf_free(&lines.b);
}

static void
ended(void *arg, const struct run *r, int64_t next, int64_t next_at)
{
	if (r->state != RUN_CANCELLED)
		tell(arg, r->state == RUN_SUCCEEDED ? CONF_EVENT_SUCCESS : next != 0 ? CONF_EVENT_RETRY : CONF_EVENT_FAILURE, r, next, next_at);
}

/* ---- what the engine asks for ---- */

/* A file with what a retry leaves out; -1: nothing, or it cannot be told, and then it does all of it again. */
static int
earlier_file(struct daemon *d, const struct run *r)
{
	struct err err = ERR_INIT;
	struct buf done = BUF_INIT;
	int fd = -1;

	if (db_done(d->db, r, &done, &err) == 0 && (done.len == 0 || (fd = earlier_write(done.ptr, done.len, &err)) != -1))
		goto out;
	daemon_say(true, "job %s: run %" PRId64 " does all machines again: %s", r->job, r->id, err.text);
out:
	buf_free(&done);
	return (fd);
}

static int
start(void *arg, const struct run *r, const struct conf_job *job, struct err *err)
{
	struct worker_settings set = settings(arg, job);
	struct daemon *d = arg;
	struct worker *w;

	set.earlier_fd = earlier_file(d, r);
	w = worker_start(d->ev, r, job, &set, d->db, &ops, d, err);
	io_close(&set.earlier_fd);
	if (w == NULL) {
		daemon_say(true, "job %s: run %" PRId64 ": %s", r->job, r->id, err->text);
		return (-1);
	}
	add_worker(d, w);
	daemon_say(false, "job %s: run %" PRId64 " begins (%s, attempt %d)", r->job, r->id, run_reason_name(r->reason), r->attempt);
	tell(d, CONF_EVENT_START, r, 0, RUN_NO_TIME);
	return (0);
}

static void
cancel(void *arg, int64_t id, const char *why)
{
	struct daemon *d = arg;
	struct worker *w = daemon_worker(d, id);

	if (w == NULL)
		return;
	daemon_say(false, "job %s: run %" PRId64 " is told to end: %s", w->job, id, why);
	worker_stop(w, RUN_CANCELLED, why);
}

static void
changed(void *arg, int64_t id)
{
	struct daemon *d = arg;

	if (d->changed != NULL)
		d->changed(d->changed_arg, id);
}

static void
gone(void *arg, int64_t id)
{
	(void)arg;
	run_log_remove(id);
}

static void
say(void *arg, bool trouble, const char *job, const char *text)
{
	(void)arg;
	daemon_say(trouble, "%s%s%s%s", job != NULL ? "job " : "", job != NULL ? job : "", job != NULL ? ": " : "", text);
}

const struct engine_ops daemon_engine_ops = { start, cancel, changed, gone, say, ended };

/* ---- what workers tell ---- */

static void
worker_machine(void *arg, struct worker *w, const struct machine *m)
{
	struct daemon *d = arg;
	struct err err = ERR_INIT;

	if (db_machine(d->db, w->job, m, &err) == -1)
		daemon_say(true, "%s", err.text);
	changed(d, w->run);
}

static void
worker_sent(void *arg, struct worker *w, const struct machine *m)
{
	struct daemon *d = arg;
	struct err err = ERR_INIT;

	(void)w;
	if (m->sent > 0 && db_sent(d->db, m, &err) == -1)
		daemon_say(true, "%s", err.text);
}

static void
worker_progress(void *arg, struct worker *w)
{
	changed(arg, w->run);
}

static void
worker_say(void *arg, struct worker *w, bool trouble, const char *text)
{
	(void)arg;
	if (w->run == 0)
		daemon_say(trouble, "%s", text);
	else
		daemon_say(trouble, "job %s: run %" PRId64 ": %s", w->job, w->run, text);
}

static void
worker_room(void *arg, struct worker *w, uint64_t bytes)
{
	alarms_room(((struct daemon *)arg)->alarms, w->job, bytes);
}

static void
remove_worker(struct daemon *d, struct worker *w)
{
	struct worker **at = &d->workers;

	while (*at != w)
		at = &(*at)->next;
	*at = w->next;
}

/* Its result has done its service, if its end is in the database. */
static void
forget_result(struct daemon *d, int64_t id)
{
	struct err err = ERR_INIT;
	struct run r;

	if (db_run(d->db, id, &r, &err) == 1 && r.state != RUN_RUNNING)
		run_result_remove(id);
}

static void
run_done(struct daemon *d, struct worker *w)
{
	if (w->adopted)
		daemon_unheard(d, w);
	if (w->state == RUN_SUCCEEDED)
		daemon_say(false, "job %s: run %" PRId64 " succeeded", w->job, w->run);
	else
		daemon_say(true, "job %s: run %" PRId64 " %s: %s", w->job, w->run, run_state_name(w->state), w->message);
	/* What it left of a guest, the next run would undo; but when is that? */
	if (w->was_killed || (w->guests && w->state != RUN_SUCCEEDED))
		d->settle = true;
	engine_ended(d->engine, w->run, w->state, w->message, daemon_now());
	forget_result(d, w->run);
	alarms_soon(d->alarms);
}

static int
on_settle(sd_event_source *s, uint64_t usec, void *arg)
{
	(void)s;
	(void)usec;
	daemon_settle(arg);
	daemon_tick(arg);
	return (0);
}

/* A guest that could not be thawed, a libvirt that is away: both come back, and nobody else may look for a day. */
static void
settled(struct daemon *d, const struct worker *w)
{
	d->settle_later = sd_event_source_disable_unref(d->settle_later);
	if (w->state == RUN_SUCCEEDED || d->stopping) {
		d->settle_wait = 0;
		return;
	}
	d->settle_wait = d->settle_wait == 0 ? SETTLE_S : d->settle_wait < SETTLE_MAX_S ? 2 * d->settle_wait : d->settle_wait;
	daemon_say(true, "what interrupted runs did to guests is not settled yet, and is tried again in %u s: %s", d->settle_wait, w->message);
	(void)sd_event_add_time_relative(d->ev, &d->settle_later, CLOCK_MONOTONIC, d->settle_wait * UINT64_C(1000000), 0, on_settle, d);
}

static void
worker_done(void *arg, struct worker *w)
{
	struct daemon *d = arg;

	remove_worker(d, w);
	if (w->run != 0)
		run_done(d, w);
	else {
		d->settling = false;
		settled(d, w);
	}
	worker_free(w);
	if (d->settle)
		daemon_settle(d);
	daemon_tick(d);
}

static const struct worker_ops ops = { worker_machine, worker_sent, worker_progress, worker_say, worker_done, worker_room };

/* ---- */

void
daemon_settle(struct daemon *d)
{
	struct worker_settings set = settings(d, NULL);
	struct err err = ERR_INIT;
	struct worker *w;

	d->settle = d->settling;
	if (d->settling)
		return;
	if ((w = worker_reconcile(d->ev, &set, &ops, d, &err)) == NULL) {
		daemon_say(true, "what interrupted runs did to guests cannot be looked at: %s", err.text);
		return;
	}
	d->settling = true;
	add_worker(d, w);
	/* Who stops the daemon does not wait for a long commit: it goes on at the next start. */
	if (d->stopping)
		worker_stop(w, RUN_INTERRUPTED, "the daemon was stopped");
}

void
daemon_stop_runs(struct daemon *d)
{
	for (struct worker *w = d->workers; w != NULL; w = w->next)
		worker_stop(w, RUN_INTERRUPTED, "the daemon was stopped while it ran");
}

static void
recover_one(struct daemon *d, const struct run *r)
{
	struct worker_settings set = settings(d, conf_find_job(d->conf, r->job));
	struct worker *w = r->process[0] != '\0' ? worker_adopt(d->ev, r, &set, &ops, d) : NULL;

	if (w != NULL) {
		daemon_say(true, "job %s: run %" PRId64 " of an earlier daemon is on its end, which is waited for", r->job, r->id);
		add_worker(d, w);
		return;
	}
	if ((w = worker_gone(r, &ops, d)) == NULL) {
		daemon_say(true, "job %s: run %" PRId64 ": out of memory", r->job, r->id);
		return;
	}
	daemon_unheard(d, w);
	worker_judge_noted(w);
	worker_log_end(w);
	if (w->state == RUN_INTERRUPTED)
		daemon_say(true, "job %s: run %" PRId64 " was interrupted: %s", r->job, r->id, w->message);
	else
		daemon_say(w->state != RUN_SUCCEEDED, "job %s: run %" PRId64 " came to its end when the daemon was gone: %s%s%s", r->job, r->id,
		    run_state_name(w->state), w->message[0] != '\0' ? ": " : "", w->message);
	engine_ended(d->engine, r->id, w->state, w->message, daemon_now());
	worker_free(w);
	forget_result(d, r->id);
}

static bool
wanted(void *arg, int64_t id, bool notes)
{
	struct daemon *d = arg;
	struct err err = ERR_INIT;
	struct run r;
	int rc = db_run(d->db, id, &r, &err);

	/* When it cannot be told, nothing is removed. */
	return (notes ? rc == -1 || (rc == 1 && r.state == RUN_RUNNING) : rc != 0);
}

void
daemon_recover(struct daemon *d)
{
	struct runs active = RUNS_INIT;
	struct err err = ERR_INIT;

	if (db_active(d->db, &active, &err) == -1)
		daemon_say(true, "%s", err.text);
	for (size_t i = 0; i < active.n; i++)
		if (active.v[i].state == RUN_RUNNING)
			recover_one(d, &active.v[i]);
	runs_free(&active);
	/* A database that was set aside may be looked into, with its logs. */
	if (!d->in_memory)
		run_log_sweep(wanted, d);
}
