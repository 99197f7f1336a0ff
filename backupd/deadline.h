/*
 * deadline.h - time, as deadlines count it: milliseconds of a clock that nobody sets.
 *
 * Whatever of backupd/ waits, waits here.  The tests build this one file with a second that is shorter.
 * Threads: any.
 */
#ifndef OVB_DEADLINE_H
#define OVB_DEADLINE_H

#include <poll.h>
#include <pthread.h>
#include <stdint.h>

/** deadline_now(): Milliseconds since some moment; never goes back. */
int64_t deadline_now(void);

/** deadline_left(until): Milliseconds until ${until}, which deadline_now() counts; 0 when it has passed. */
int64_t deadline_left(int64_t until);

/** deadline_nap(ms): Sleep. */
void deadline_nap(int64_t ms);

/** deadline_poll(fds, n, ms): poll(2); ${ms} -1: for as long as it takes. */
int deadline_poll(struct pollfd *fds, nfds_t n, int64_t ms);

/** deadline_cond_init(cond): A condition for deadline_wait(). */
void deadline_cond_init(pthread_cond_t *cond);

/** deadline_wait(cond, lock, until): pthread_cond_timedwait(3): 0, or ETIMEDOUT. */
int deadline_wait(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t until);

#endif
