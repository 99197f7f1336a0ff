/* run.h - one run of a job, as the queue and the history know it, and what it did for each machine. */
#ifndef OVB_RUN_H
#define OVB_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include "config/conf.h"

#define RUN_MACHINE_LEN	512u	/* bytes of a machine's name, with its zero byte */
#define RUN_TEXT_LEN	1024u
#define RUN_NO_TIME	(-1)	/* no such time (yet) */

enum run_state { RUN_QUEUED, RUN_RUNNING, RUN_SUCCEEDED, RUN_FAILED, RUN_CANCELLED, RUN_INTERRUPTED };

/* Why it was queued. */
enum run_reason { RUN_SCHEDULE, RUN_MISSED, RUN_RETRY, RUN_REQUEST };

/* Times are seconds since 1970 in UTC, or RUN_NO_TIME. */
struct run {
	int64_t		id;			/* rising, and never used again */
	char		job[CONF_MAX_NAME + 1];
	char		domain[RUN_MACHINE_LEN];	/* only this machine; "": all of the job's */
	bool		full;
	enum run_reason	reason;
	enum run_state	state;
	int		attempt;		/* from 1 */
	int64_t		first;			/* the first attempt of a retry; 0: this is it */
	int		requeued;		/* how many of the attempts before it were interrupted */
	int64_t		due;			/* of the schedule; none when it was requested */
	int64_t		queued;
	int64_t		not_before;		/* a retry waits */
	int64_t		started, finished;
	char		message[RUN_TEXT_LEN];	/* why it did not succeed; "": nothing to say */
	unsigned int	succeeded, failed;	/* machines */
	int64_t		read, stored;		/* bytes, over all machines */
	char		process[96];		/* of its worker (process.h); "": none yet */
};

/* What a run did for one machine: a record of API.md. */
struct machine {
	int64_t		run;
	char		vm[RUN_MACHINE_LEN];
	enum run_state	state;
	int64_t		started, finished;
	char		point[64];		/* the folder's name; "": none */
	char		kind[16], consistency[32];	/* "": not known */
	int64_t		read, stored, sent;	/* bytes; sent: over a network */
	int64_t		frozen_ms;		/* -1: it was not */
	char		error[RUN_TEXT_LEN];
};

/** run_state_name(s), run_reason_name(r): As they stand in the database, and in the API. */
const char *run_state_name(enum run_state s);
const char *run_reason_name(enum run_reason r);

/** run_state_named(text), run_reason_named(text): The other way; what is not known is RUN_FAILED, RUN_REQUEST. */
enum run_state run_state_named(const char *text);
enum run_reason run_reason_named(const char *text);

#endif
