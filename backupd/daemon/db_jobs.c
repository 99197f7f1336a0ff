#include <string.h>

#include "db_private.h"

struct job_last {
	const char	*job, *schedule;
	int64_t		 now, last;
};

static int
insert_job(struct db *db, void *arg, struct err *err)
{
	const struct job_last *j = arg;

	return (sql_run(db->sql, err, "INSERT OR REPLACE INTO jobs (name, schedule, last) VALUES (?1, ?2, ?3)", "tti", j->job, j->schedule, j->now));
}

int
db_job_last(struct db *db, const char *job, const char *schedule, int64_t now, int64_t *last, struct err *err)
{
	struct job_last j = { job, schedule, now, now };
	sqlite3_stmt *st = sql_prepare(db->sql, err, "SELECT last FROM jobs WHERE name = ?1 AND schedule = ?2", "tt", job, schedule);
	int rc;

	if (st == NULL)
		return (-1);
	if ((rc = sql_next(st, err)) == 1)
		*last = sql_number(st, 0);
	if (sql_end(st, rc) == -1)
		return (-1);
	if (rc == 1)
		return (0);
	*last = now;
	return (db_change(db, insert_job, &j, err));
}

static int
pass_job(struct db *db, void *arg, struct err *err)
{
	const struct job_last *j = arg;

	return (sql_run(db->sql, err, "UPDATE jobs SET last = ?2 WHERE name = ?1", "ti", j->job, j->last));
}

int
db_job_pass(struct db *db, const char *job, int64_t last, struct err *err)
{
	struct job_last j = { job, NULL, 0, last };

	return (db_change(db, pass_job, &j, err));
}

struct known {
	const struct conf	*conf;
	int64_t			 now;
};

/* Its job is not in the configuration any more. */
static int
forget(struct db *db, const char *job, int64_t now, struct err *err)
{
	if (sql_run(db->sql, err, "DELETE FROM jobs WHERE name = ?1", "t", job) == -1)
		return (-1);
	return (sql_run(db->sql, err, "UPDATE runs SET state = 'cancelled', finished = ?2, message = 'the configuration has no such job any more' "
	    "WHERE job = ?1 AND state = 'queued'", "ti", job, now));
}

static int
forget_unknown(struct db *db, void *arg, struct err *err)
{
	const struct known *k = arg;
	sqlite3_stmt *st = sql_prepare(db->sql, err, "SELECT name FROM jobs UNION SELECT job FROM runs WHERE state IN ('queued', 'running')", "");
	char job[CONF_MAX_NAME + 1];
	int rc;

	if (st == NULL)
		return (-1);
	while ((rc = sql_next(st, err)) == 1) {
		sql_text(st, 0, job, sizeof(job));
		if (conf_find_job(k->conf, job) == NULL && forget(db, job, k->now, err) == -1) {
			rc = -1;
			break;
		}
	}
	return (sql_end(st, rc));
}

int
db_forget_jobs(struct db *db, const struct conf *c, int64_t now, struct err *err)
{
	struct known k = { c, now };

	return (db_change(db, forget_unknown, &k, err));
}

bool
db_paused(struct db *db)
{
	struct err err = ERR_INIT;
	sqlite3_stmt *st = sql_prepare(db->sql, &err, "SELECT 1 FROM settings WHERE name = 'paused' AND value", "");
	bool paused;

	if (st == NULL)
		return (false);
	paused = sql_next(st, &err) == 1;
	sqlite3_finalize(st);
	return (paused);
}

static int
set_paused(struct db *db, void *arg, struct err *err)
{
	const bool *paused = arg;

	return (sql_run(db->sql, err, "INSERT OR REPLACE INTO settings (name, value) VALUES ('paused', ?1)", "i", (int64_t)*paused));
}

int
db_set_paused(struct db *db, bool paused, struct err *err)
{
	return (db_change(db, set_paused, &paused, err));
}
