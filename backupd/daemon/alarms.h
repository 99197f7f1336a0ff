/*
 * alarms.h - what an administrator should know although no run has failed: a job whose last success is too old, a repository with little space left.
 *
 * Both are looked at each minute.  What was told is in the database, so that a restart tells nothing twice.  The space is asked for by a child: a network file
 * system that hangs holds up nobody.
 * Threads: that of the loop.
 */
#ifndef OVB_ALARMS_H
#define OVB_ALARMS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "config/conf.h"

struct daemon;
struct alarms;

/** alarms_new(d, err): Fails: NULL, out of memory. */
struct alarms *alarms_new(struct daemon *d, struct err *err);
void alarms_free(struct alarms *a);

/** alarms_configure(a): The daemon's configuration is another one.  ${a} may be NULL. */
void alarms_configure(struct alarms *a);

/** alarms_tick(a, now): Look, if it is time.  Returns when to look again, SCHEDULE_NEVER: never. */
int64_t alarms_tick(struct alarms *a, int64_t now);

/** alarms_soon(a): Something has changed: the next tick looks at the space. */
void alarms_soon(struct alarms *a);

/** alarms_overdue(d, job, now): Whether its last success is older than its alert_after. */
bool alarms_overdue(struct daemon *d, const struct conf_job *job, int64_t now);

/** alarms_room(a, job, free): A run of ${job} has seen so many bytes free in its repository, which the daemon cannot see itself. */
void alarms_room(struct alarms *a, const char *job, uint64_t free);

/* What is known of a repository's space; total 0: not known. */
struct alarms_space {
	bool		known, low;
	uint64_t	free, total;
};

/** alarms_space(a, r): Of ${r}.  ${a} may be NULL: nothing is. */
struct alarms_space alarms_space(const struct alarms *a, const struct conf_repository *r);

/** alarms_warnings(a, out): Append a text for each alarm that stands. */
void alarms_warnings(struct alarms *a, json_t *out);

#endif
