/*
 * notifier.h - the daemon tells people: each notice by a child of its own, one after the other, so that no server can hold up the daemon.
 *
 * What is not told, because a channel fails or hangs or too much waits, is a line in the daemon's log and in that of the run, and nothing else.
 * Threads: that of the loop.
 */
#ifndef OVB_NOTIFIER_H
#define OVB_NOTIFIER_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct daemon;
struct notifier;

/** notifier_new(d, err): Fails: NULL, out of memory. */
struct notifier *notifier_new(struct daemon *d, struct err *err);

/** notifier_free(n): What is not told by then never is.  NULL is harmless. */
void notifier_free(struct notifier *n);

/** notifier_tell(n, notice, job, run): Take ${notice}, which is about ${job} (NULL: none) and its ${run} (0: none), to be told next.  ${n} may be NULL. */
void notifier_tell(struct notifier *n, json_t *notice, const char *job, int64_t run);

/** notifier_test(n, job, err): Try the channels, for ${job}.  Returns a number to ask with, or -1. */
int64_t notifier_test(struct notifier *n, const char *job, struct err *err);

/** notifier_result(n, test): API.md's object of such a test, a new reference; NULL: there is none, or it is long ago. */
json_t *notifier_result(const struct notifier *n, int64_t test);

/** notifier_idle(n): All is told.  True for NULL. */
bool notifier_idle(const struct notifier *n);

/** notifier_hurry(n, ms): The daemon is to end: what is not told in so many milliseconds is not told; the first word counts, but for 0. */
void notifier_hurry(struct notifier *n, int64_t ms);

#endif
