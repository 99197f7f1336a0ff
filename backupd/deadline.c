#include "deadline.h"

#include <stddef.h>
#include <time.h>

#ifndef DEADLINE_SECOND_MS
#define DEADLINE_SECOND_MS	1000
#endif

#define SECOND_NS	1000000000

/* Nanoseconds, as the kernel counts them, of one of our milliseconds. */
static int64_t
ms_ns(void)
{
	return ((int64_t)DEADLINE_SECOND_MS * 1000);
}

static struct timespec
timespec_of(int64_t ns)
{
	return ((struct timespec){ .tv_sec = (time_t)(ns / SECOND_NS), .tv_nsec = (long)(ns % SECOND_NS) });
}

int64_t
deadline_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (((int64_t)t.tv_sec * SECOND_NS + t.tv_nsec) / ms_ns());
}

int64_t
deadline_left(int64_t until)
{
	int64_t left = until - deadline_now();

	return (left > 0 ? left : 0);
}

void
deadline_nap(int64_t ms)
{
	struct timespec t = timespec_of(ms * ms_ns());

	nanosleep(&t, NULL);
}

int
deadline_poll(struct pollfd *fds, nfds_t n, int64_t ms)
{
	struct timespec t = timespec_of((ms < 0 ? 0 : ms) * ms_ns());

	return (ppoll(fds, n, ms < 0 ? NULL : &t, NULL));
}

void
deadline_cond_init(pthread_cond_t *cond)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(cond, &attr);
	pthread_condattr_destroy(&attr);
}

int
deadline_wait(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t until)
{
	/* Rounded up, so that nothing is left when it has passed. */
	struct timespec t = timespec_of((until + 1) * ms_ns());

	return (pthread_cond_timedwait(cond, lock, &t));
}
