/* run_job.h - one run of a job, over all its machines. */
#ifndef OVB_RUN_JOB_H
#define OVB_RUN_JOB_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/err.h"
#include "config/conf.h"

struct run_outcome;

struct run_options {
	bool				 json;		/* events as lines of JSON on standard output */
	bool				 full;		/* everything is read and stored */
	const char			*only;		/* this machine of the job's, by name; NULL: all */
	const struct earlier		*earlier;	/* machines that are not backed up again (earlier.h); NULL: none */
	bool				 reread;	/* what is known not to have changed is compared all the same */
	const atomic_int	*interrupted;
	struct run_outcome		*outcome;	/* run_outcome.h; the caller's */
};

/**
 * run_job(job, opt, err):
 * Back up every machine of ${job}; each has its own outcome, reported on standard output or standard error, and the others go on.
 * Returns 0 when all succeeded, 1 when some failed, -1 and ${err} set when the run as a whole could not begin.
 */
int run_job(const struct conf_job *job, const struct run_options *opt, struct err *err);

/**
 * reconcile(err):
 * Settle what interrupted runs did to guests, and say so on standard error.  Returns how many guests could not be settled, or -1.
 */
int reconcile(struct err *err);

#endif
