/*
 * run_outcome.h - what a run has come to, machine by machine, with the hooks around the run and around each machine.
 *
 * Calling sequence:  run_begins -> (run_machine_begins -> run_machine_done | run_machine_failed)* -> run_ended
 * Whatever of these fails, the one that ends it follows: what a hook began, its counterpart can undo.
 */
#ifndef OVB_RUN_OUTCOME_H
#define OVB_RUN_OUTCOME_H

#include "base/buf.h"
#include "base/err.h"
#include "config/conf.h"
#include "point_store.h"
#include "run_job.h"

struct run_outcome {
	unsigned int	succeeded, failed;	/* machines */
	char		error[1024];		/* the first one's; "": none */
	struct buf	lines;			/* a line for each machine, as many as are sensible */
	uint64_t	room;			/* bytes free in a repository over sftp; UINT64_MAX: not known */
};

#define RUN_OUTCOME_INIT	{ 0, 0, "", BUF_INIT, UINT64_MAX }

/** run_begins(job, opt, err): Fails: -1, the run is not to be. */
int run_begins(const struct conf_job *job, const struct run_options *opt, struct err *err);

/** run_machine_begins(job, opt, vm, err): Fails: -1, the machine is not to be touched. */
int run_machine_begins(const struct conf_job *job, const struct run_options *opt, const char *vm, struct err *err);

/** run_machine_done(job, opt, vm, r): Its point is published. */
void run_machine_done(const struct conf_job *job, const struct run_options *opt, const char *vm, const struct point_result *r);

/** run_machine_failed(job, opt, vm, error): There is none. */
void run_machine_failed(const struct conf_job *job, const struct run_options *opt, const char *vm, const char *error);

/** run_machine_unsettled(opt, vm, error): There is one, but something is left to be undone. */
void run_machine_unsettled(const struct run_options *opt, const char *vm, const char *error);

/** run_ended(job, opt, rc, error): ${rc} as run_job() returns it, and ${error} why if it is -1. */
void run_ended(const struct conf_job *job, const struct run_options *opt, int rc, const char *error);

/** run_outcome_free(o): Free what ${o} owns. */
void run_outcome_free(struct run_outcome *o);

#endif
