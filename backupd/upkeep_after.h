/* upkeep_after.h - what a job's run does to its repository once it has made new points: its "full" and its "keep". */
#ifndef OVB_UPKEEP_AFTER_H
#define OVB_UPKEEP_AFTER_H

#include <stddef.h>

#include "repository/repo.h"
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
 * upkeep_after(r, job, done, opt):
 * Of the machines ${done}: consolidate the newest point when one is due by the job's "full", so that there is always a full archive that stock tar
 * reads; prune what its "keep" does not keep, and consolidate if no full one is left; pack what pruned points leave.  Reports on standard output or standard error.  The caller's own
 * lock is released before.  When others use the repository, it is left to the next run.  Returns 0, or 1 when something failed.
 */
int upkeep_after(struct repo *r, const struct conf_job *job, const struct succeeded *done, const struct run_options *opt);

/**
 * upkeep_replicas(r, job, from, opt):
 * Prune, of what ${job} has brought into ${r} from the repository with the id ${from}, what its "keep" does not keep.  Reports likewise.  Returns 0 or 1.
 */
int upkeep_replicas(struct repo *r, const struct conf_job *job, const char *from, const struct run_options *opt);

#endif
