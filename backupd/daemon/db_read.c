#include <stdlib.h>

#include "db_private.h"

#define MACHINE_COLUMNS	"m.vm, m.state, m.started, m.finished, m.point, m.kind, m.consistency, m.read, m.stored, m.frozen_ms, m.error, m.sent"

void
db_run_row(sqlite3_stmt *st, struct run *r)
{
	char word[32];

	*r = (struct run){ .id = sql_number(st, 0), .full = sql_number(st, 3) == 1, .attempt = (int)sql_number(st, 6), .requeued = (int)sql_number(st, 7),
		.due = sql_number(st, 8), .queued = sql_number(st, 9), .not_before = sql_number(st, 10), .started = sql_number(st, 11),
		.finished = sql_number(st, 12), .succeeded = (unsigned int)sql_number(st, 14), .failed = (unsigned int)sql_number(st, 15),
		.read = sql_number(st, 16), .stored = sql_number(st, 17), .first = sql_number(st, 19) > 0 ? sql_number(st, 19) : 0 };
	sql_text(st, 1, r->job, sizeof(r->job));
	sql_text(st, 2, r->domain, sizeof(r->domain));
	sql_text(st, 4, word, sizeof(word));
	r->reason = run_reason_named(word);
	sql_text(st, 5, word, sizeof(word));
	r->state = run_state_named(word);
	sql_text(st, 13, r->message, sizeof(r->message));
	sql_text(st, 18, r->process, sizeof(r->process));
}

static void
machine_row(sqlite3_stmt *st, int64_t run, struct machine *m)
{
	const int first = DB_RUN_NCOLUMNS;
	char word[32];

	*m = (struct machine){ .run = run, .started = sql_number(st, first + 2), .finished = sql_number(st, first + 3), .read = sql_number(st, first + 7),
		.stored = sql_number(st, first + 8), .frozen_ms = sql_number(st, first + 9), .sent = sql_number(st, first + 11) };
	sql_text(st, first, m->vm, sizeof(m->vm));
	sql_text(st, first + 1, word, sizeof(word));
	m->state = run_state_named(word);
	sql_text(st, first + 4, m->point, sizeof(m->point));
	sql_text(st, first + 5, m->kind, sizeof(m->kind));
	sql_text(st, first + 6, m->consistency, sizeof(m->consistency));
	sql_text(st, first + 10, m->error, sizeof(m->error));
}

int
db_active(struct db *db, struct runs *out, struct err *err)
{
	sqlite3_stmt *st = sql_prepare(db->sql, err, "SELECT " DB_RUN_COLUMNS " FROM runs r WHERE r.state IN ('queued', 'running') ORDER BY r.id", "");
	struct run *more;
	int rc;

	if (st == NULL)
		return (-1);
	while ((rc = sql_next(st, err)) == 1) {
		if ((more = realloc(out->v, (out->n + 1) * sizeof(*more))) == NULL) {
			rc = err_nomem(err);
			break;
		}
		out->v = more;
		db_run_row(st, &more[out->n++]);
	}
	return (sql_end(st, rc));
}

static int
one_run(sqlite3_stmt *st, struct run *r, struct err *err)
{
	int rc;

	if (st == NULL)
		return (-1);
	if ((rc = sql_next(st, err)) == 1)
		db_run_row(st, r);
	return (sql_end(st, rc) == -1 ? -1 : rc);
}

int
db_run(struct db *db, int64_t id, struct run *r, struct err *err)
{
	return (one_run(sql_prepare(db->sql, err, "SELECT " DB_RUN_COLUMNS " FROM runs r WHERE r.id = ?1", "i", id), r, err));
}

bool
db_has_machine(struct db *db, const struct machine *m)
{
	struct err err = ERR_INIT;
	sqlite3_stmt *st = sql_prepare(db->sql, &err, "SELECT 1 FROM machines WHERE run = ?1 AND vm = ?2 AND state = ?3", "itt", m->run, m->vm,
	    run_state_name(m->state));
	bool has;

	if (st == NULL)
		return (false);
	has = sql_next(st, &err) == 1;
	sqlite3_finalize(st);
	return (has);
}

int
db_done(struct db *db, const struct run *r, struct buf *out, struct err *err)
{
	char vm[RUN_MACHINE_LEN];
	sqlite3_stmt *st;
	int rc;

	if (r->first == 0)
		return (0);
	if ((st = sql_prepare(db->sql, err, "SELECT DISTINCT m.vm FROM machines m JOIN runs r ON r.id = m.run WHERE (r.id = ?1 OR r.first = ?1) "
	    "AND m.state = 'succeeded' ORDER BY m.vm", "i", r->first)) == NULL)
		return (-1);
	while ((rc = sql_next(st, err)) == 1) {
		sql_text(st, 0, vm, sizeof(vm));
		if (buf_addf(out, err, "%s\n", vm) == -1) {
			rc = -1;
			break;
		}
	}
	return (sql_end(st, rc));
}

int
db_last(struct db *db, const char *job, struct run *r, struct err *err)
{
	return (one_run(sql_prepare(db->sql, err, "SELECT " DB_RUN_COLUMNS " FROM runs r WHERE r.job = ?1 AND r.state NOT IN ('queued', 'running') "
	    /* What ended later than now did so before the clock was set back. */
	    "ORDER BY r.finished > CAST(strftime('%s', 'now') AS INTEGER), r.finished DESC, r.started IS NULL, r.id DESC LIMIT 1", "t", job), r, err));
}

int64_t
db_last_success(struct db *db, const char *job, const char *vm)
{
	struct err err = ERR_INIT;
	sqlite3_stmt *st = sql_prepare(db->sql, &err, "SELECT finished FROM successes WHERE job = ?1 AND vm = coalesce(?2, '')", "tt", job, vm);
	int64_t when = RUN_NO_TIME;

	if (st == NULL)
		return (when);
	if (sql_next(st, &err) == 1)
		when = sql_number(st, 0);
	sqlite3_finalize(st);
	return (when);
}

static int
each_record(sqlite3_stmt *st, bool (*each)(void *arg, const struct run *r, const struct machine *m), void *arg, struct err *err)
{
	struct machine m;
	struct run r;
	int rc;

	if (st == NULL)
		return (-1);
	while ((rc = sql_next(st, err)) == 1) {
		db_run_row(st, &r);
		machine_row(st, r.id, &m);
		if (!each(arg, &r, m.vm[0] != '\0' ? &m : NULL))
			break;
	}
	return (sql_end(st, rc));
}

int
db_history(struct db *db, const char *job, unsigned int limit, bool (*each)(void *arg, const struct run *r, const struct machine *m), void *arg,
    struct err *err)
{
	return (each_record(sql_prepare(db->sql, err, "SELECT " DB_RUN_COLUMNS ", " MACHINE_COLUMNS " FROM runs r LEFT JOIN machines m ON m.run = r.id "
	    "WHERE r.state NOT IN ('queued', 'running') AND (?1 IS NULL OR r.job = ?1) ORDER BY r.id DESC, m.vm LIMIT ?2", "ti", job, (int64_t)limit), each, arg,
	    err));
}

int
db_machines(struct db *db, const char *job, bool (*each)(void *arg, const struct run *r, const struct machine *m), void *arg, struct err *err)
{
	return (each_record(sql_prepare(db->sql, err, "SELECT " DB_RUN_COLUMNS ", " MACHINE_COLUMNS " FROM machines m JOIN runs r ON r.id = m.run "
	    "WHERE r.job = ?1 AND m.run = (SELECT max(o.run) FROM machines o JOIN runs p ON p.id = o.run WHERE p.job = ?1 AND o.vm = m.vm) ORDER BY m.vm", "t", job),
	    each, arg, err));
}

void
runs_free(struct runs *r)
{
	free(r->v);
	*r = (struct runs)RUNS_INIT;
}
