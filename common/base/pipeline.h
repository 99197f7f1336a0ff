/*
 * pipeline.h - jobs that some threads fill, others work on, and one takes over again in the order in which they were given.
 *
 * Calling sequence:  pipeline_new -> (pipeline_get -> say what the job is -> pipeline_submit)* -> pipeline_wait -> pipeline_free
 * The caller makes the jobs, and frees them after pipeline_free(); their number bounds the memory.  The first failure, in any
 * thread, stops the pipeline: pipeline_get() then returns NULL and pipeline_wait() gives the error.
 */
#ifndef OVB_PIPELINE_H
#define OVB_PIPELINE_H

#include <stddef.h>

#include "base/err.h"

struct pipeline;

struct pipeline_ops {
	/**
	 * fill(ctx, reader, job, err):
	 * Get what the job needs, on the reading thread number ${reader}; NULL for nothing to get.  Apart from work, so that waiting for storage
	 * and computing go on at the same time.  Fails: -1.
	 */
	int	 (*fill)(void *ctx, unsigned int reader, void *job, struct err *err);

	/** worker_new(ctx, err): What one thread needs.  Fails: NULL. */
	void	*(*worker_new)(void *ctx, struct err *err);
	void	 (*worker_free)(void *worker);

	/** work(ctx, worker, job, err): On any thread, in any order.  Fails: -1. */
	int	 (*work)(void *ctx, void *worker, void *job, struct err *err);

	/** finish(ctx, job, err): On one thread, in the order of submission; NULL for nothing to do.  Fails: -1. */
	int	 (*finish)(void *ctx, void *job, struct err *err);
};

/**
 * pipeline_new(ops, ctx, jobs, njobs, nreaders, nworkers, err):
 * Start ${nreaders} threads for fill (where there is one), ${nworkers} for work, and one for finish.  ${jobs} must live until
 * pipeline_free().  Fails: NULL.
 */
struct pipeline *pipeline_new(const struct pipeline_ops *ops, void *ctx, void **jobs, size_t njobs, unsigned int nreaders,
    unsigned int nworkers, struct err *err);

/** pipeline_get(pl): The next free job; waits for one.  NULL when the pipeline has failed. */
void *pipeline_get(struct pipeline *pl);

/** pipeline_room(pl, ms): Wait at most ${ms} milliseconds until a job is free.  Returns 1, 0 when the time is up, -1 when the pipeline has failed. */
int pipeline_room(struct pipeline *pl, unsigned int ms);

/** pipeline_idle(pl, ms): The same until every job that was submitted is done. */
int pipeline_idle(struct pipeline *pl, unsigned int ms);

/** pipeline_submit(pl): Hand over the job that pipeline_get() returned last. */
void pipeline_submit(struct pipeline *pl);

/** pipeline_wait(pl, err): Wait until every job that was submitted is done.  Fails: -1 with the first failure. */
int pipeline_wait(struct pipeline *pl, struct err *err);

/** pipeline_free(pl): Stop the threads, dropping what is not done yet; harmless on NULL. */
void pipeline_free(struct pipeline *pl);

/** pipeline_cores(): How many threads may run at once here. */
unsigned int pipeline_cores(void);

#endif
