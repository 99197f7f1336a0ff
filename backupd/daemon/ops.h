/*
 * ops.h - what the daemon has to offer to its API: the operations of api.h's struct api_ops, whose words hold here too.  ${arg} is the struct daemon.
 *
 *	static const struct api_ops ops = { ops_status, ops_jobs, ops_history, ops_run_job, ops_cancel, ops_schedule, ops_pause, ops_resume, ops_log,
 *	    ops_run_state, ops_notify_test, ops_notify_result };
 *
 * Whoever wants to know when a run's state changes sets changed and changed_arg of the struct daemon.
 * Threads: that of the daemon's loop.   Blocks: on the disk, for a moment.
 */
#ifndef OVB_OPS_H
#define OVB_OPS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define OPS_LOG_MAX	(8u << 20)	/* bytes of a log */

json_t *ops_status(void *arg);
json_t *ops_jobs(void *arg);
json_t *ops_history(void *arg, const char *job, unsigned int limit);
int ops_run_job(void *arg, const char *job, const char *domain, bool full, int64_t *run_id, struct err *err);
int ops_cancel(void *arg, int64_t run, struct err *err);
json_t *ops_schedule(void *arg, unsigned int next);
int ops_pause(void *arg, struct err *err);
int ops_resume(void *arg, struct err *err);
int ops_log(void *arg, int64_t run, struct buf *out, struct err *err);
json_t *ops_run_state(void *arg, int64_t run);
int ops_notify_test(void *arg, const char *job, int64_t *id, struct err *err);
json_t *ops_notify_result(void *arg, int64_t id);

#endif
