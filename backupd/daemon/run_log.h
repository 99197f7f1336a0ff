/*
 * run_log.h - what runs had to say: a file for each, in the folder "log" of the state folder, of bounded size.
 *
 * What its worker notes (run_result.h) stands beside it until the run's end is in the database: a worker may outlive the daemon.
 * Threads: one at a time.  Blocks: on the disk.
 */
#ifndef OVB_RUN_LOG_H
#define OVB_RUN_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define RUN_LOG_MAX	(4u << 20)	/* bytes; what is more is not kept */

struct run_log {
	int	fd;		/* -1: none */
	size_t	size;
	bool	cut;
};

#define RUN_LOG_INIT	{ -1, 0, false }

/** run_log_open(l, id, err): Begin, or go on with, the log of a run.  Fails: -1; ${l} takes lines all the same, and drops them. */
int run_log_open(struct run_log *l, int64_t id, struct err *err);

/** run_log_line(l, text): A line, with the time.  Control characters in it are replaced. */
void run_log_line(struct run_log *l, const char *text);

/** run_log_close(l): harmless on a closed one. */
void run_log_close(struct run_log *l);

/** run_log_read(id, limit, out, err): Append the last ${limit} bytes.  Fails: -1; ENOENT: there is none. */
int run_log_read(int64_t id, size_t limit, struct buf *out, struct err *err);

/** run_log_remove(id): The log and the result. */
void run_log_remove(int64_t id);

/** run_log_sweep(wanted, arg): Remove the logs, and the notes of workers (${notes}), that are not wanted any more. */
void run_log_sweep(bool (*wanted)(void *arg, int64_t id, bool notes), void *arg);

/** run_result_path(id): Where its worker notes what it does.  NULL: out of memory.  The caller's to free(). */
char *run_result_path(int64_t id);

/** run_result_get(id, why, n): The exit status, and what there was to say to ${why}; -1: it has not come to its end. */
int run_result_get(int64_t id, char *why, size_t n);

/** run_result_each(id, each, arg): Tell ${each} the events, each with its time. */
void run_result_each(int64_t id, void (*each)(void *arg, int64_t when, const char *event), void *arg);

/** run_result_remove(id): It is in the database. */
void run_result_remove(int64_t id);

#endif
