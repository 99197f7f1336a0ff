/* hook.h - the commands that a job has around itself and around each of its machines, with the facts in their environment. */
#ifndef OVB_HOOK_H
#define OVB_HOOK_H

#include "base/err.h"
#include "config/conf.h"
#include "run_job.h"

/* What is known by then; NULL where it is not. */
struct hook_facts {
	const char	*vm, *point, *kind, *consistency;
	const char	*result;	/* "succeeded" or "failed" */
	const char	*error;
	unsigned int	 succeeded, failed;	/* machines, so far */
};

/**
 * hook_run(job, which, f, opt, err):
 * Run it, if the job has it, by sh -c, in a process group that is killed as a whole when its time is up; one that comes before something, also when the run is
 * told to stop.  Its output goes to standard error, line by line.  Fails: -1, and ${err} says which hook of which job, and why.
 */
int hook_run(const struct conf_job *job, enum conf_hook which, const struct hook_facts *f, const struct run_options *opt, struct err *err);

#endif
