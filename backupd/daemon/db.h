/*
 * db.h - the daemon's state: the queue and the history of runs, and how far each job's schedule has been worked off (SQLite).
 *
 * Calling sequence:  db_open -> ... -> db_close
 *
 * Each call that changes something is one transaction, durable when it returns.  A database that is damaged, or of a newer version, is set aside and a
 * new one made.  When the disk is full or broken, the state goes on in memory, which is told, and goes back to the disk when that takes it (db_tend): the
 * schedule does not stop for it, but what happens meanwhile is forgotten if the daemon is killed.
 *
 * Threads: one at a time.   Blocks: on the disk.
 *
 * The files behind this header:  db.c opening, setting aside, memory and back;  db_jobs.c the schedule's state;  db_marks.c what was told;  db_runs.c a run's way through the
 * queue;  db_read.c what there is;  sql.h SQLite with struct err
 */
#ifndef OVB_DB_H
#define OVB_DB_H

#include "base/buf.h"
#include "base/err.h"
#include "run.h"

#define DB_FILE		"state.db"
#define DB_MAX_QUEUE	1000	/* runs that wait */

struct db;

/* What an administrator should know is told here, in whole sentences. */
typedef void db_say(void *arg, const char *text);

/**
 * db_open(folder, say, arg, err):
 * Open the database in ${folder}, or make it.  ${folder} NULL: in memory only, for tests.  Fails: NULL, out of memory.
 */
struct db *db_open(const char *folder, db_say *say, void *arg, struct err *err);

/** db_close(db): harmless on NULL. */
void db_close(struct db *db);

/** db_tend(db): To be called now and then, each minute say: back to the disk, if it was left.  Returns whether the state is in memory only. */
bool db_tend(struct db *db);

/* ---- db_jobs.c ---- */

/**
 * db_job_last(db, job, schedule, now, last, err):
 * Up to when ${job}'s ${schedule} is worked off.  For a new job, and for one whose schedule is another now, that is ${now}, from now on.
 */
int db_job_last(struct db *db, const char *job, const char *schedule, int64_t now, int64_t *last, struct err *err);

/** db_job_pass(db, job, last, err): Up to ${last} it is worked off, without a run. */
int db_job_pass(struct db *db, const char *job, int64_t last, struct err *err);

/** db_forget_jobs(db, c, now, err): Forget the schedules of jobs that ${c} does not have, and cancel their runs that wait. */
int db_forget_jobs(struct db *db, const struct conf *c, int64_t now, struct err *err);

/** db_paused(db), db_set_paused(db, paused, err): Whether scheduled runs are held; this survives a restart. */
bool db_paused(struct db *db);
int db_set_paused(struct db *db, bool paused, struct err *err);

/* ---- db_runs.c ---- */

/**
 * db_queue(db, r, err):
 * Queue ${r}: job, domain, full, reason, due, queued and not_before are used, and its id is set.  One of a schedule takes the place of a retry of the same
 * job that waits, and the schedule is worked off up to its due time.
 *
 * Fails: -1; err->code is EEXIST when such a run waits already, EAGAIN when DB_MAX_QUEUE do.
 */
int db_queue(struct db *db, struct run *r, struct err *err);

/** db_start(db, id, now, err): It is being started: running from now on.  Fails: -1; it is queued as before. */
int db_start(struct db *db, int64_t id, int64_t now, struct err *err);

/** db_process(db, id, process, err): Its worker's process (process.h): set before the worker does anything. */
int db_process(struct db *db, int64_t id, const char *process, struct err *err);

/** db_machine(db, m, err): What it did for one machine. */
int db_machine(struct db *db, const char *job, const struct machine *m, struct err *err);

/** db_sent(db, m, err): It has sent ${m}->sent bytes more for a machine that is recorded; of one that is not, nothing is noted. */
int db_sent(struct db *db, const struct machine *m, struct err *err);

/* How a run ends. */
struct run_end {
	enum run_state	 state;		/* not RUN_QUEUED, RUN_RUNNING */
	int64_t		 finished;
	const char	*message;	/* NULL: nothing to say */
	bool		 again;		/* it is queued again */
	int64_t		 retry_at;	/* ... for then; RUN_NO_TIME: at once */
};

/**
 * db_finish(db, id, end, next, err):
 * It has ended.  Its sums are those of its machines; what follows it is queued in the same transaction, with its id in *${next}, or 0.  When the whole
 * job has succeeded, a retry that waits is not needed any more.
 */
int db_finish(struct db *db, int64_t id, const struct run_end *end, int64_t *next, struct err *err);

/**
 * db_trim(db, job, keep, gone, arg, err):
 * Forget the runs of ${job} that have ended, but the newest ${keep}; each is told to ${gone}, unless that is NULL.  Earlier attempts of a run that runs or
 * waits stay until that has ended.
 */
int db_trim(struct db *db, const char *job, int keep, void (*gone)(void *arg, int64_t id), void *arg, struct err *err);

/* ---- db_marks.c ---- */

/** db_mark(db, kind, name): A number that is remembered of the job or repository ${name}, such as when something was told; RUN_NO_TIME: none. */
int64_t db_mark(struct db *db, const char *kind, const char *name);

/** db_set_mark(db, kind, name, value, err): Remember it; RUN_NO_TIME: forget it. */
int db_set_mark(struct db *db, const char *kind, const char *name, int64_t value, struct err *err);

/** db_forget_marks(db, c, err): Forget those of what ${c} does not have. */
int db_forget_marks(struct db *db, const struct conf *c, struct err *err);

/* ---- db_read.c ---- */

struct runs {
	struct run	*v;
	size_t		 n;
};

#define RUNS_INIT	{ NULL, 0 }

/** db_active(db, out, err): The runs that run or wait, in the order in which they were queued.  ${out} is the caller's to runs_free(). */
int db_active(struct db *db, struct runs *out, struct err *err);

/** db_run(db, id, r, err): One run: 1; 0 when there is none. */
int db_run(struct db *db, int64_t id, struct run *r, struct err *err);

/** db_done(db, r, out, err): Append the machines that earlier attempts of ${r} have backed up, one on a line. */
int db_done(struct db *db, const struct run *r, struct buf *out, struct err *err);

/** db_has_machine(db, m): Whether ${m}'s run has a record of that machine in that state. */
bool db_has_machine(struct db *db, const struct machine *m);

/** db_last(db, job, r, err): The last run of ${job} that has ended: 1; 0 when there is none. */
int db_last(struct db *db, const char *job, struct run *r, struct err *err);

/** db_last_success(db, job, vm): When ${vm}, or NULL: the job as a whole, last succeeded, or RUN_NO_TIME. */
int64_t db_last_success(struct db *db, const char *job, const char *vm);

/**
 * db_history(db, job, limit, each, arg, err):
 * The newest ${limit} records of runs that have ended, the newest first, of ${job} or of all (NULL).  A run that came to no machine has one without a vm.
 * ${each} may end it with false.
 */
int db_history(struct db *db, const char *job, unsigned int limit, bool (*each)(void *arg, const struct run *r, const struct machine *m), void *arg,
    struct err *err);

/** db_machines(db, job, each, arg, err): The latest record of each machine of ${job}, by name. */
int db_machines(struct db *db, const char *job, bool (*each)(void *arg, const struct run *r, const struct machine *m), void *arg, struct err *err);

/** runs_free(r): Free what ${r} owns and make it empty. */
void runs_free(struct runs *r);

#endif
