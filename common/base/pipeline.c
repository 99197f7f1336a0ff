#include "base/pipeline.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

/*
 * Jobs stand in a ring.  Four counters of jobs, each at most the one before it, say where each stage is:
 * given (submitted) >= reading (taken by a reader) >= taken (by a worker) >= settled (left the ring, in order).  A job that is filled or done
 * out of order waits, marked, until those before it are taken or settled.
 */
enum slot_state { SLOT_EMPTY, SLOT_FILLED, SLOT_DONE };

struct reader {
	struct pipeline	*pl;
	unsigned int	 number;
};

struct pipeline {
	const struct pipeline_ops	*ops;
	void				*ctx;
	void				**jobs;
	size_t				 njobs;

	struct reader			*readers;
	pthread_t			*threads;	/* readers, then workers, then the finisher */
	size_t				 nthreads;

	pthread_mutex_t			 lock;		/* guards all below */
	pthread_cond_t			 room;		/* a job was settled, or the pipeline failed */
	pthread_cond_t			 given_cond;	/* a job was given, or the pipeline stops */
	pthread_cond_t			 work;		/* a job may be worked on, or the pipeline stops */
	pthread_cond_t			 done;		/* a job was done, or the pipeline stops */
	uint64_t			 given, reading, taken, settled;
	enum slot_state			*state;		/* by slot */
	bool				 stop;
	bool				 failed;
	struct err			 err;		/* of the first failure */
};

/* With the lock held. */
static void
fail(struct pipeline *pl, const struct err *err)
{
	if (!pl->failed)
		pl->err = *err;
	pl->failed = true;
	pthread_cond_broadcast(&pl->room);
	pthread_cond_broadcast(&pl->given_cond);
	pthread_cond_broadcast(&pl->work);
	pthread_cond_broadcast(&pl->done);
}

/* With the lock held: jobs that are done leave the ring in order, through finish when there is one. */
static void
settle(struct pipeline *pl)
{
	while (pl->settled < pl->taken && pl->state[pl->settled % pl->njobs] == SLOT_DONE) {
		pl->state[pl->settled % pl->njobs] = SLOT_EMPTY;
		pl->settled++;
	}
	pthread_cond_broadcast(&pl->room);
}

/* With the lock held: whether the next job can be worked on. */
static bool
next_is_filled(const struct pipeline *pl)
{
	return (pl->taken < pl->given && pl->state[pl->taken % pl->njobs] == SLOT_FILLED);
}

static void *
reader_main(void *arg)
{
	struct reader *r = arg;
	struct pipeline *pl = r->pl;
	struct err err = ERR_INIT;
	size_t slot;
	int rc = 0;

	pthread_mutex_lock(&pl->lock);
	while (rc == 0) {
		while (!pl->stop && !pl->failed && pl->reading == pl->given)
			pthread_cond_wait(&pl->given_cond, &pl->lock);
		if (pl->stop || pl->failed)
			break;
		slot = pl->reading++ % pl->njobs;
		pthread_mutex_unlock(&pl->lock);
		rc = pl->ops->fill(pl->ctx, r->number, pl->jobs[slot], &err);
		pthread_mutex_lock(&pl->lock);
		if (rc == -1)
			fail(pl, &err);
		pl->state[slot] = SLOT_FILLED;
		/* It may be the one that holds up others that are filled already. */
		pthread_cond_broadcast(&pl->work);
	}
	pthread_mutex_unlock(&pl->lock);
	return (NULL);
}

static void *
worker_main(void *arg)
{
	struct pipeline *pl = arg;
	struct err err = ERR_INIT;
	void *worker;
	size_t slot;
	int rc = 0;

	worker = pl->ops->worker_new(pl->ctx, &err);
	pthread_mutex_lock(&pl->lock);
	if (worker == NULL)
		fail(pl, &err);
	while (worker != NULL && rc == 0) {
		while (!pl->stop && !pl->failed && !next_is_filled(pl))
			pthread_cond_wait(&pl->work, &pl->lock);
		if (pl->stop || pl->failed)
			break;
		slot = pl->taken++ % pl->njobs;
		pthread_mutex_unlock(&pl->lock);
		rc = pl->ops->work(pl->ctx, worker, pl->jobs[slot], &err);
		pthread_mutex_lock(&pl->lock);
		if (rc == -1) {
			fail(pl, &err);
			break;
		}
		pl->state[slot] = SLOT_DONE;
		if (pl->ops->finish == NULL)
			settle(pl);
		else
			pthread_cond_signal(&pl->done);
	}
	pthread_mutex_unlock(&pl->lock);
	if (worker != NULL)
		pl->ops->worker_free(worker);
	return (NULL);
}

static void *
finisher_main(void *arg)
{
	struct pipeline *pl = arg;
	struct err err = ERR_INIT;
	size_t slot;
	int rc;

	pthread_mutex_lock(&pl->lock);
	for (;;) {
		slot = pl->settled % pl->njobs;
		while (!pl->stop && !pl->failed && (pl->settled == pl->taken || pl->state[slot] != SLOT_DONE))
			pthread_cond_wait(&pl->done, &pl->lock);
		if (pl->stop || pl->failed)
			break;
		pthread_mutex_unlock(&pl->lock);
		rc = pl->ops->finish(pl->ctx, pl->jobs[slot], &err);
		pthread_mutex_lock(&pl->lock);
		if (rc == -1) {
			fail(pl, &err);
			break;
		}
		pl->state[slot] = SLOT_EMPTY;
		pl->settled++;
		pthread_cond_broadcast(&pl->room);
	}
	pthread_mutex_unlock(&pl->lock);
	return (NULL);
}

static int
start(struct pipeline *pl, void *(*fn)(void *), void *arg, struct err *err)
{
	int r = pthread_create(&pl->threads[pl->nthreads], NULL, fn, arg);

	if (r != 0)
		return (err_set(err, r, "cannot start a thread"));
	pl->nthreads++;
	return (0);
}

static int
start_all(struct pipeline *pl, unsigned int nreaders, unsigned int nworkers, struct err *err)
{
	for (unsigned int i = 0; i < nreaders; i++) {
		pl->readers[i] = (struct reader){ .pl = pl, .number = i };
		if (start(pl, reader_main, &pl->readers[i], err) == -1)
			return (-1);
	}
	for (unsigned int i = 0; i < nworkers; i++)
		if (start(pl, worker_main, pl, err) == -1)
			return (-1);
	return (pl->ops->finish != NULL ? start(pl, finisher_main, pl, err) : 0);
}

struct pipeline *
pipeline_new(const struct pipeline_ops *ops, void *ctx, void **jobs, size_t njobs, unsigned int nreaders, unsigned int nworkers,
    struct err *err)
{
	struct pipeline *pl = calloc(1, sizeof(*pl));
	pthread_condattr_t steady;

	if (ops->fill == NULL)
		nreaders = 0;
	if (pl == NULL || (pl->threads = calloc(nreaders + nworkers + 1, sizeof(*pl->threads))) == NULL ||
	    (pl->readers = calloc(nreaders + 1, sizeof(*pl->readers))) == NULL || (pl->state = calloc(njobs, sizeof(*pl->state))) == NULL) {
		err_nomem(err);
		if (pl != NULL) {
			free(pl->threads);
			free(pl->readers);
		}
		free(pl);
		return (NULL);
	}
	pl->ops = ops;
	pl->ctx = ctx;
	pl->jobs = jobs;
	pl->njobs = njobs;
	pthread_mutex_init(&pl->lock, NULL);
	pthread_condattr_init(&steady);
	pthread_condattr_setclock(&steady, CLOCK_MONOTONIC);
	pthread_cond_init(&pl->room, &steady);
	pthread_condattr_destroy(&steady);
	pthread_cond_init(&pl->given_cond, NULL);
	pthread_cond_init(&pl->work, NULL);
	pthread_cond_init(&pl->done, NULL);
	if (start_all(pl, nreaders, nworkers, err) == -1) {
		pipeline_free(pl);
		return (NULL);
	}
	return (pl);
}

/* Wait until at most ${busy} jobs are under way. */
static int
wait_until(struct pipeline *pl, size_t busy, unsigned int ms)
{
	struct timespec until;
	int rc = 0;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += (time_t)(ms / 1000);
	until.tv_nsec += (long)(ms % 1000) * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	pthread_mutex_lock(&pl->lock);
	while (!pl->failed && pl->given - pl->settled > busy && rc != ETIMEDOUT)
		rc = pthread_cond_timedwait(&pl->room, &pl->lock, &until);
	rc = pl->failed ? -1 : pl->given - pl->settled <= busy ? 1 : 0;
	pthread_mutex_unlock(&pl->lock);
	return (rc);
}

int
pipeline_room(struct pipeline *pl, unsigned int ms)
{
	return (wait_until(pl, pl->njobs - 1, ms));
}

int
pipeline_idle(struct pipeline *pl, unsigned int ms)
{
	return (wait_until(pl, 0, ms));
}

void *
pipeline_get(struct pipeline *pl)
{
	void *job = NULL;

	pthread_mutex_lock(&pl->lock);
	while (!pl->failed && pl->given - pl->settled == pl->njobs)
		pthread_cond_wait(&pl->room, &pl->lock);
	if (!pl->failed)
		job = pl->jobs[pl->given % pl->njobs];
	pthread_mutex_unlock(&pl->lock);
	return (job);
}

void
pipeline_submit(struct pipeline *pl)
{
	pthread_mutex_lock(&pl->lock);
	assert(pl->given - pl->settled < pl->njobs);
	if (pl->ops->fill == NULL)
		pl->state[pl->given % pl->njobs] = SLOT_FILLED;
	pl->given++;
	pthread_cond_signal(pl->ops->fill == NULL ? &pl->work : &pl->given_cond);
	pthread_mutex_unlock(&pl->lock);
}

int
pipeline_wait(struct pipeline *pl, struct err *err)
{
	int rc = 0;

	pthread_mutex_lock(&pl->lock);
	while (!pl->failed && pl->settled != pl->given)
		pthread_cond_wait(&pl->room, &pl->lock);
	if (pl->failed) {
		*err = pl->err;
		rc = -1;
	}
	pthread_mutex_unlock(&pl->lock);
	return (rc);
}

void
pipeline_free(struct pipeline *pl)
{
	if (pl == NULL)
		return;
	pthread_mutex_lock(&pl->lock);
	pl->stop = true;
	pthread_cond_broadcast(&pl->given_cond);
	pthread_cond_broadcast(&pl->work);
	pthread_cond_broadcast(&pl->done);
	pthread_mutex_unlock(&pl->lock);
	for (size_t i = 0; i < pl->nthreads; i++)
		pthread_join(pl->threads[i], NULL);
	pthread_cond_destroy(&pl->room);
	pthread_cond_destroy(&pl->given_cond);
	pthread_cond_destroy(&pl->work);
	pthread_cond_destroy(&pl->done);
	pthread_mutex_destroy(&pl->lock);
	free(pl->state);
	free(pl->readers);
	free(pl->threads);
	free(pl);
}

unsigned int
pipeline_cores(void)
{
	cpu_set_t set;
	int n;

	if (sched_getaffinity(0, sizeof(set), &set) == -1 || (n = CPU_COUNT(&set)) < 1)
		return (1);
	return ((unsigned int)n);
}
