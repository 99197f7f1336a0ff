/* prune_after.h - applies a job's "keep" once its run has made new points. */
#ifndef OVB_PRUNE_AFTER_H
#define OVB_PRUNE_AFTER_H

#include <stddef.h>

#include "repo.h"
#include "run_job.h"

/* Machines that the run has backed up, as a manifest knows them: UUIDs of domains, names of images. */
struct succeeded {
	const char	**v;		/* borrowed */
	size_t		  n;
};

#define SUCCEEDED_INIT	{ NULL, 0 }

/** succeeded_add(s, machine, err): Fails: -1. */
int succeeded_add(struct succeeded *s, const char *machine, struct err *err);
void succeeded_free(struct succeeded *s);

/**
 * prune_after(r, job, done, opt):
 * Prune what ${job} does not keep of the machines ${done}, and report it on standard output or standard error.  The caller's own lock is released
 * before.  When others use the repository, nothing is done: the next run does it.  Returns 0, or 1 when it failed.
 */
int prune_after(struct repo *r, const struct conf_job *job, const struct succeeded *done, const struct run_options *opt);

#endif
