#include <errno.h>
#include <string.h>

#include "db_private.h"

#define INSERT	"INSERT INTO runs (job, domain, full, reason, state, attempt, requeued, due, queued, not_before, first) " \
		"VALUES (?1, ?2, ?3, ?4, 'queued', ?5, ?6, ?7, ?8, ?9, ?10)"

static int
insert_run(struct db *db, struct run *r, struct err *err)
{
	if (sql_run(db->sql, err, INSERT, "ttitiioooo", r->job, r->domain, (int64_t)r->full, run_reason_name(r->reason), (int64_t)r->attempt,
	    (int64_t)r->requeued, r->due, r->queued, r->not_before, r->first > 0 ? r->first : RUN_NO_TIME) == -1)
		return (-1);
	r->id = sqlite3_last_insert_rowid(db->sql);
	return (0);
}

/* The number that a statement gives, or -1. */
static int64_t
number(sqlite3_stmt *st, struct err *err)
{
	int64_t n = -1;
	int rc;

	if (st == NULL)
		return (-1);
	if ((rc = sql_next(st, err)) == 1)
		n = sql_number(st, 0);
	return (sql_end(st, rc) == -1 ? -1 : n);
}

static int
check_room(struct db *db, const struct run *r, struct err *err)
{
	int64_t waiting = number(sql_prepare(db->sql, err, "SELECT count(*) FROM runs WHERE state = 'queued'", ""), err), same = 0;

	if (waiting != -1 && r->reason == RUN_REQUEST)
		same = number(sql_prepare(db->sql, err, "SELECT coalesce(max(id), 0) FROM runs WHERE state = 'queued' AND not_before IS NULL AND job = ?1 "
		    "AND domain IS ?2", "tt", r->job, r->domain), err);
	if (waiting == -1 || same == -1)
		return (-1);
	if (same > 0) {
		err_set(err, 0, "run %lld of job %s waits already", (long long)same, r->job);
		err->code = EEXIST;
		return (-1);
	}
	if (waiting >= DB_MAX_QUEUE) {
		err_set(err, 0, "%d runs wait already: cancel some, or wait", DB_MAX_QUEUE);
		err->code = EAGAIN;
		return (-1);
	}
	return (0);
}

/* Those that wait for their time. */
static int
drop_retries(struct db *db, const char *job, int64_t now, const char *why, struct err *err)
{
	return (sql_run(db->sql, err, "UPDATE runs SET state = 'cancelled', finished = ?2, message = ?3 WHERE job = ?1 AND state = 'queued' "
	    "AND not_before IS NOT NULL", "tit", job, now, why));
}

static int
queue(struct db *db, void *arg, struct err *err)
{
	struct run *r = arg;

	if (check_room(db, r, err) == -1)
		return (-1);
	if (r->reason != RUN_REQUEST && (drop_retries(db, r->job, r->queued, "the job was due again before it was tried again", err) == -1 ||
	    sql_run(db->sql, err, "UPDATE jobs SET last = ?2 WHERE name = ?1", "ti", r->job, r->due) == -1))
		return (-1);
	return (insert_run(db, r, err));
}

int
db_queue(struct db *db, struct run *r, struct err *err)
{
	r->attempt = 1;
	r->first = 0;
	r->requeued = 0;
	return (db_change(db, queue, r, err));
}

struct started {
	int64_t		 id, now;
	const char	*process;
};

static int
start(struct db *db, void *arg, struct err *err)
{
	const struct started *s = arg;

	return (sql_run(db->sql, err, "UPDATE runs SET state = 'running', started = ?2, process = NULL WHERE id = ?1", "ii", s->id, s->now));
}

int
db_start(struct db *db, int64_t id, int64_t now, struct err *err)
{
	struct started s = { id, now, NULL };

	return (db_change(db, start, &s, err));
}

static int
set_process(struct db *db, void *arg, struct err *err)
{
	const struct started *s = arg;

	return (sql_run(db->sql, err, "UPDATE runs SET process = ?2 WHERE id = ?1", "it", s->id, s->process));
}

int
db_process(struct db *db, int64_t id, const char *process, struct err *err)
{
	struct started s = { id, 0, process };

	return (db_change(db, set_process, &s, err));
}

struct one_machine {
	const char		*job;
	const struct machine	*m;
};

static int
succeeded(struct db *db, const char *job, const char *vm, int64_t finished, struct err *err)
{
	/* NULL is no key: the job as a whole is ''. */
	return (sql_run(db->sql, err, "INSERT OR REPLACE INTO successes (job, vm, finished) VALUES (?1, coalesce(?2, ''), ?3)", "tti", job, vm, finished));
}

static int
insert_machine(struct db *db, void *arg, struct err *err)
{
	const struct one_machine *o = arg;
	const struct machine *m = o->m;

	if (sql_run(db->sql, err, "INSERT OR REPLACE INTO machines (run, vm, state, started, finished, point, kind, consistency, read, stored, frozen_ms, error, sent) "
	    "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)", "ittootttiioti", m->run, m->vm, run_state_name(m->state), m->started, m->finished,
	    m->point, m->kind, m->consistency, m->read, m->stored, m->frozen_ms, m->error, m->sent) == -1)
		return (-1);
	if (m->state == RUN_SUCCEEDED && succeeded(db, o->job, m->vm, m->finished, err) == -1)
		return (-1);
	return (sql_run(db->sql, err, "UPDATE runs SET (succeeded, failed, read, stored) = "
	    "(SELECT total(state = 'succeeded'), total(state <> 'succeeded'), total(read), total(stored) FROM machines WHERE run = ?1) WHERE id = ?1",
	    "i", m->run));
}

int
db_machine(struct db *db, const char *job, const struct machine *m, struct err *err)
{
	struct one_machine o = { job, m };

	return (m->vm[0] == '\0' ? err_set(err, 0, "a machine without a name") : db_change(db, insert_machine, &o, err));
}

static int
add_sent(struct db *db, void *arg, struct err *err)
{
	const struct machine *m = arg;

	return (sql_run(db->sql, err, "UPDATE machines SET sent = sent + ?3 WHERE run = ?1 AND vm = ?2", "iti", m->run, m->vm, m->sent));
}

int
db_sent(struct db *db, const struct machine *m, struct err *err)
{
	struct machine copy = *m;

	return (db_change(db, add_sent, &copy, err));
}

struct finished {
	int64_t			 id, next;
	const struct run_end	*end;
};

/* What follows a run that has ended. */
static int
queue_next(struct db *db, const struct run *r, struct finished *f, struct err *err)
{
	struct run next = *r;

	next.reason = RUN_RETRY;
	next.attempt++;
	next.first = r->first != 0 ? r->first : r->id;
	next.queued = f->end->finished;
	next.not_before = f->end->retry_at;
	next.requeued += f->end->state == RUN_INTERRUPTED;
	if (insert_run(db, &next, err) == -1)
		return (-1);
	f->next = next.id;
	return (0);
}

static int
finish(struct db *db, void *arg, struct err *err)
{
	struct finished *f = arg;
	const struct run_end *e = f->end;
	struct run r;
	int rc;

	f->next = 0;
	if ((rc = db_run(db, f->id, &r, err)) != 1)
		return (rc == -1 ? -1 : err_set(err, 0, "the state database has no run %lld", (long long)f->id));
	/* It ends once. */
	if (r.state != RUN_QUEUED && r.state != RUN_RUNNING)
		return (0);
	if (sql_run(db->sql, err, "UPDATE runs SET state = ?2, finished = ?3, message = ?4, process = NULL WHERE id = ?1", "itit", f->id,
	    run_state_name(e->state), e->finished, e->message) == -1)
		return (-1);
	if (e->state == RUN_SUCCEEDED && r.domain[0] == '\0' && (succeeded(db, r.job, NULL, e->finished, err) == -1 ||
	    drop_retries(db, r.job, e->finished, "the job has succeeded before it was tried again", err) == -1))
		return (-1);
	return (e->again ? queue_next(db, &r, f, err) : 0);
}

int
db_finish(struct db *db, int64_t id, const struct run_end *end, int64_t *next, struct err *err)
{
	struct finished f = { id, 0, end };

	if (db_change(db, finish, &f, err) == -1)
		return (-1);
	*next = f.next;
	return (0);
}

struct trim {
	const char	 *job;
	int		  keep;
	void		(*gone)(void *arg, int64_t id);
	void		 *arg;
};

static int
trim(struct db *db, void *arg, struct err *err)
{
	const struct trim *t = arg;
	sqlite3_stmt *st = sql_prepare(db->sql, err, "SELECT id FROM runs WHERE job = ?1 AND state NOT IN ('queued', 'running') "
	    "AND NOT EXISTS (SELECT 1 FROM runs n WHERE n.state IN ('queued', 'running') AND n.first IN (runs.id, runs.first)) "
	    "ORDER BY id DESC LIMIT -1 OFFSET ?2", "ti", t->job, (int64_t)t->keep);
	int64_t id;
	int rc;

	if (st == NULL)
		return (-1);
	while ((rc = sql_next(st, err)) == 1) {
		id = sql_number(st, 0);
		if (sql_run(db->sql, err, "DELETE FROM runs WHERE id = ?1", "i", id) == -1) {
			rc = -1;
			break;
		}
		if (t->gone != NULL)
			t->gone(t->arg, id);
	}
	return (sql_end(st, rc));
}

int
db_trim(struct db *db, const char *job, int keep, void (*gone)(void *arg, int64_t id), void *arg, struct err *err)
{
	struct trim t = { job, keep, gone, arg };

	return (db_change(db, trim, &t, err));
}
