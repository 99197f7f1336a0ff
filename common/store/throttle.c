#include "store/throttle.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#define SECOND		INT64_C(1000000000)
#define MILLISECOND	INT64_C(1000000)
#define LOOK		(50 * MILLISECOND)	/* how often it is looked whether to stop */
#define PIECE_MAX	((uint64_t)1 << 30)

/*
 * The bucket is kept as a time: the one at which all that was taken has passed at the rate.  It lags behind the clock by no more than the burst.
 */
struct throttle {
	uint64_t			 rate;
	const atomic_int	*stop;
	pthread_mutex_t			 lock;		/* guards passed */
	int64_t				 passed;	/* nanoseconds */
};

struct throttle *
throttle_new(uint64_t rate, const atomic_int *stop, struct err *err)
{
	struct throttle *t = calloc(1, sizeof(*t));

	if (t == NULL) {
		err_nomem(err);
		return (NULL);
	}
	t->rate = rate > 0 ? rate : 1;
	t->stop = stop;
	t->passed = INT64_MIN;
	pthread_mutex_init(&t->lock, NULL);
	return (t);
}

void
throttle_free(struct throttle *t)
{
	if (t == NULL)
		return;
	pthread_mutex_destroy(&t->lock);
	free(t);
}

size_t
throttle_piece(const struct throttle *t)
{
	uint64_t piece = t->rate / 8 > 0 ? t->rate / 8 : 1;

	return ((size_t)(piece < PIECE_MAX ? piece : PIECE_MAX));
}

int64_t
throttle_reserve(struct throttle *t, size_t n, int64_t now)
{
	int64_t wait;

	pthread_mutex_lock(&t->lock);
	if (t->passed < now - THROTTLE_BURST_MS * MILLISECOND)
		t->passed = now - THROTTLE_BURST_MS * MILLISECOND;
	wait = t->passed > now ? t->passed - now : 0;
	t->passed += (int64_t)((double)n * (double)SECOND / (double)t->rate);
	pthread_mutex_unlock(&t->lock);
	return (wait);
}

static int64_t
monotonic(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec * SECOND + now.tv_nsec);
}

int
throttle_take(struct throttle *t, size_t n, struct err *err)
{
	int64_t now = monotonic(), until = now + throttle_reserve(t, n, now), left;
	struct timespec nap;

	for (; (left = until - now) > 0; now = monotonic()) {
		if (t->stop != NULL && *t->stop)
			return (err_plain(err, EINTR, "stopped while it waited for its turn to write (rate_limit)"));
		if (left > LOOK)
			left = LOOK;
		nap = (struct timespec){ .tv_sec = 0, .tv_nsec = left };
		nanosleep(&nap, NULL);
	}
	return (0);
}
