/* replicating.h - replication as a run does it: which points, from where to where, and how that shows. */
#ifndef OVB_REPLICATING_H
#define OVB_REPLICATING_H

#include <stdatomic.h>
#include <stdbool.h>

#include "config/conf.h"
#include "replication/replicate.h"
#include "run_job.h"

/* A repository as the configuration has it, or by its URL alone. */
struct replica_end {
	const struct conf_repository	*conf;		/* NULL: */
	const char			*url;
};

struct replicating {
	const char			*program;	/* with its version, for locks */
	struct replica_end		 from, to;
	const struct conf_job		*job;		/* NULL: by hand, all points */
	bool				 pull;		/* it is the job's "from"; else one of its "replicate" */
	const char			*only;		/* this machine; NULL: all */
	bool				 json;
	const atomic_int	*interrupted;
};

/**
 * replicating_run(r, err):
 * Copy what is missing; then, of what the job has brought there, let go of what its "keep" does not keep.  Reports on standard output and standard error.
 * Returns 0, 1 when some points failed, or -1 and ${err} when it could not be done or was broken off.
 */
int replicating_run(const struct replicating *r, struct err *err);

/**
 * replicate_job(job, opt, program, err):
 * The replication of ${job}: what it pulls ("from"), then what it pushes ("replicate").  Returns likewise; that one of several targets could not be reached
 * is reported, and the others go on.
 */
int replicate_job(const struct conf_job *job, const struct run_options *opt, const char *program, struct err *err);

#endif
