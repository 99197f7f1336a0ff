/*
 * engine.h - the schedule, the queue and the configuration brought together: what happens when.  The clock is an argument, and how a run is started is the
 * caller's, so that a test can live through a month in a moment.
 *
 * Calling sequence:  engine_new -> engine_configure -> (engine_tick at the time that the last one gave, and whenever something has changed)* ->
 *                    engine_free
 * Threads: one at a time.   Blocks: on the disk.
 */
#ifndef OVB_ENGINE_H
#define OVB_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "config/conf.h"
#include "db.h"
#include "schedule.h"

struct engine_ops {
	/* Start ${r}, of ${job}.  Fails: -1; the run has failed. */
	int	(*start)(void *arg, const struct run *r, const struct conf_job *job, struct err *err);
	/* Ask the running ${id} to end, for the reason ${why}; engine_ended() follows. */
	void	(*cancel)(void *arg, int64_t id, const char *why);
	/* The state of ${id} has changed. */
	void	(*changed)(void *arg, int64_t id);
	/* ${id} is forgotten: so may its log be. */
	void	(*gone)(void *arg, int64_t id);
	/* A line for the administrator; ${job} may be NULL. */
	void	(*say)(void *arg, bool trouble, const char *job, const char *text);
	/* ${r} has ended; ${next}, unless it is 0, goes on for it, at ${next_at} or at once (RUN_NO_TIME).  NULL: nobody wants to know. */
	void	(*ended)(void *arg, const struct run *r, int64_t next, int64_t next_at);
};

struct engine;

/** engine_new(db, host, ops, arg, err): ${db} and ${ops} must stay; ${host} makes random delays differ from host to host.  Fails: NULL, out of memory. */
struct engine *engine_new(struct db *db, const char *host, const struct engine_ops *ops, void *arg, struct err *err);

/** engine_free(e): harmless on NULL. */
void engine_free(struct engine *e);

/**
 * engine_configure(e, c, now, err):
 * ${c}, which must stay until the next one is given, is in force from now on.  Fails: -1, out of memory; the old one is.
 */
int engine_configure(struct engine *e, const struct conf *c, int64_t now, struct err *err);

/** engine_tick(e, now): Queue what is due, start what may start.  Returns when to call it again, at the latest; SCHEDULE_NEVER: when something changes. */
int64_t engine_tick(struct engine *e, int64_t now);

/** engine_hold(e): From now on, nothing is started. */
void engine_hold(struct engine *e);

/**
 * engine_ended(e, id, state, message, now):
 * A run has ended in ${state}: as its job has it, it is tried again.  One that was interrupted is queued again at once; when that happens to it again and
 * again, after growing waits, as something in it may be what interrupts it.  One that its window's end
 * has cancelled is tried again no earlier than the window opens.
 */
void engine_ended(struct engine *e, int64_t id, enum run_state state, const char *message, int64_t now);

/**
 * engine_run(e, job, domain, full, now, id, err):
 * Queue a run on request.  Fails: -1, err->code as api.h wants it: ENOENT when there is no such job, or it cannot have a machine ${domain}.
 */
int engine_run(struct engine *e, const char *job, const char *domain, bool full, int64_t now, int64_t *id, struct err *err);

/** engine_cancel(e, id, now, err): Of a run that waits or runs.  Fails: -1, likewise. */
int engine_cancel(struct engine *e, int64_t id, int64_t now, struct err *err);

/** engine_pause(e, paused, err): Scheduled runs are not queued, and not started; what was missed is treated as after a time switched off. */
int engine_pause(struct engine *e, bool paused, struct err *err);
bool engine_paused(const struct engine *e);

/** engine_next(e, job, now): When ${job} is due next, with its delay, or SCHEDULE_NEVER. */
int64_t engine_next(const struct engine *e, const struct conf_job *job, int64_t now);

/** engine_due(e, job, after): The same of the first time after ${after}; *${due} is the schedule's own time. */
int64_t engine_due(const struct engine *e, const struct conf_job *job, int64_t after, int64_t *due);

#endif
