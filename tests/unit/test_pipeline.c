/* Pipelines: order, bounds, the first error, and an end at any time. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/pipeline.h"

#define JOBS_MAX	16

struct job {
	uint64_t number, result;
	bool	 filled;
	bool	 busy;		/* between get and finish: the caller must not get it meanwhile */
};

struct run {
	struct job	 jobs[JOBS_MAX];
	void		*ring[JOBS_MAX];
	_Atomic int	 workers_made, workers_gone, worked;
	int		 fail_worker;		/* worker_new number so much fails; 0: none */
	uint64_t	 fail_fill, fail_work, fail_finish;	/* number of the job; UINT64_MAX: none */
	_Atomic uint64_t finished;		/* by the finisher alone, which may go on while a failure is told */
	bool		 naps;			/* work takes a while, now and then */
	sem_t		 gate;			/* with gated: work waits here for each job */
	bool		 gated;
	_Atomic bool	 fired;			/* with paired: job 1 has failed */
	bool		 paired;		/* job 0 fails only after job 1 */
};

static void *
worker_new(void *ctx, struct err *err)
{
	struct run *r = ctx;
	int n = atomic_fetch_add(&r->workers_made, 1) + 1;
	char *worker;

	if (n == r->fail_worker) {
		atomic_fetch_sub(&r->workers_made, 1);
		err_set(err, ENOMEM, "no worker");
		return (NULL);
	}
	worker = malloc(16);	/* valgrind and sanitizers see it when it is lost */
	assert_non_null(worker);
	return (worker);
}

static struct run *current;	/* worker_free() is given no context */

static void
worker_free(void *worker)
{
	atomic_fetch_add(&current->workers_gone, 1);
	free(worker);
}

static void
nap(long us)
{
	nanosleep(&(struct timespec){ 0, us * 1000 }, NULL);
}

static int
work(void *ctx, void *worker, void *job, struct err *err)
{
	struct run *r = ctx;
	struct job *j = job;

	*(char *)worker = 1;
	if (r->gated)
		while (sem_wait(&r->gate) == -1)
			;
	if (r->naps && j->number % 3 == 0)
		nap((long)(j->number * 7919 % 500));
	if (r->paired && j->number == 1) {
		err_set(err, 0, "job 1 failed");
		atomic_store(&r->fired, true);
		return (-1);
	}
	if (r->paired && j->number == 0) {
		while (!atomic_load(&r->fired))
			sched_yield();
		nap(20000);
		return (err_set(err, 0, "job 0 failed"));
	}
	atomic_fetch_add(&r->worked, 1);
	if (j->number == r->fail_work)
		return (err_set(err, EIO, "work %d failed", (int)j->number));
	j->result = j->number * 3 + 1;
	return (0);
}

static int
finish(void *ctx, void *job, struct err *err)
{
	struct run *r = ctx;
	struct job *j = job;

	if (j->number != r->finished)
		return (err_set(err, 0, "job %d finished in the place of %d", (int)j->number, (int)r->finished));
	if (j->result != j->number * 3 + 1)
		return (err_set(err, 0, "job %d was not worked on", (int)j->number));
	if (j->number == r->fail_finish)
		return (err_set(err, 0, "finish %d failed", (int)j->number));
	r->finished++;
	j->busy = false;
	return (0);
}

static int
fill(void *ctx, unsigned int reader, void *job, struct err *err)
{
	struct run *r = ctx;
	struct job *j = job;

	if (reader >= 2)
		return (err_set(err, 0, "reader %u of 2", reader));
	if (r->naps && j->number % 5 == 0)
		nap((long)(j->number * 104729 % 700));
	if (j->number == r->fail_fill)
		return (err_set(err, 0, "fill %d failed", (int)j->number));
	j->filled = true;
	return (0);
}

static int
work_filled(void *ctx, void *worker, void *job, struct err *err)
{
	struct job *j = job;

	if (!j->filled)
		return (err_set(err, 0, "job %d was not filled", (int)j->number));
	j->filled = false;
	return (work(ctx, worker, job, err));
}

static const struct pipeline_ops with_finish = { .worker_new = worker_new, .worker_free = worker_free, .work = work, .finish = finish };
static const struct pipeline_ops without_finish = { .worker_new = worker_new, .worker_free = worker_free, .work = work };
static const struct pipeline_ops with_fill = { .fill = fill, .worker_new = worker_new, .worker_free = worker_free, .work = work_filled, .finish = finish };

static struct pipeline *
begin(struct run *r, const struct pipeline_ops *ops, size_t njobs, unsigned int workers)
{
	struct err err = ERR_INIT;
	struct pipeline *pl;

	for (size_t i = 0; i < JOBS_MAX; i++)
		r->ring[i] = &r->jobs[i];
	assert_int_equal(sem_init(&r->gate, 0, 0), 0);
	current = r;
	assert_non_null(pl = pipeline_new(ops, r, r->ring, njobs, 2, workers, &err));
	return (pl);
}

#define RUN_INIT	{ .fail_fill = UINT64_MAX, .fail_work = UINT64_MAX, .fail_finish = UINT64_MAX }

/* Submit up to ${n} jobs, from number ${first} on.  Returns how many went in before it failed. */
static uint64_t
feed(struct pipeline *pl, uint64_t first, uint64_t n)
{
	struct job *j;

	for (uint64_t i = 0; i < n; i++) {
		if ((j = pipeline_get(pl)) == NULL)
			return (i);
		assert_false(j->busy);
		j->busy = true;
		j->number = first + i;
		j->result = 0;
		pipeline_submit(pl);
	}
	return (n);
}

static void
end(struct run *r, struct pipeline *pl)
{
	pipeline_free(pl);
	assert_int_equal(atomic_load(&r->workers_made), atomic_load(&r->workers_gone));
	sem_destroy(&r->gate);
}

static void
jobs_are_finished_in_order(void **state)
{
	static const struct {
		size_t jobs;
		unsigned int workers;
	} shapes[] = { { 1, 1 }, { 1, 4 }, { 2, 1 }, { 3, 2 }, { 16, 4 }, { 4, 8 } };

	(void)state;
	for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++)
		for (int naps = 0; naps < 2; naps++) {
			struct run r = RUN_INIT;
			struct err err = ERR_INIT;
			uint64_t n = naps ? 150 : 2000;
			struct pipeline *pl;

			r.naps = naps;
			pl = begin(&r, &with_finish, shapes[s].jobs, shapes[s].workers);
			assert_int_equal(feed(pl, 0, n), n);
			assert_int_equal(pipeline_wait(pl, &err), 0);
			assert_int_equal(r.finished, n);
			/* After a wait it goes on. */
			assert_int_equal(feed(pl, n, 10), 10);
			assert_int_equal(pipeline_wait(pl, &err), 0);
			assert_int_equal(pipeline_wait(pl, &err), 0);
			assert_int_equal(r.finished, n + 10);
			assert_int_equal(atomic_load(&r.worked), n + 10);
			assert_string_equal(err.text, "");
			end(&r, pl);
		}
}

static void
without_finish_all_jobs_are_done(void **state)
{
	(void)state;
	for (size_t jobs = 1; jobs <= 5; jobs += 2) {
		struct run r = RUN_INIT;
		struct err err = ERR_INIT;
		struct pipeline *pl = begin(&r, &without_finish, jobs, 3);

		r.naps = true;
		for (uint64_t i = 0; i < 300; i++) {
			struct job *j = pipeline_get(pl);

			assert_non_null(j);
			/* It is free: what was done with it is done. */
			assert_true(i < jobs || j->result == j->number * 3 + 1);
			j->number = i;
			j->result = 0;
			pipeline_submit(pl);
		}
		assert_int_equal(pipeline_wait(pl, &err), 0);
		assert_int_equal(atomic_load(&r.worked), 300);
		end(&r, pl);
	}
}

static void
waiting_for_nothing_returns(void **state)
{
	struct run r = RUN_INIT;
	struct err err = ERR_INIT;
	struct pipeline *pl = begin(&r, &with_finish, 4, 2);

	(void)state;
	assert_int_equal(pipeline_wait(pl, &err), 0);
	assert_non_null(pipeline_get(pl));	/* a job that is got and not submitted holds nobody */
	assert_int_equal(pipeline_wait(pl, &err), 0);
	end(&r, pl);
	pipeline_free(NULL);
}

struct waiter {
	struct pipeline	*pl;
	_Atomic bool	 through;
};

static void *
get_one(void *arg)
{
	struct waiter *w = arg;

	assert_non_null(pipeline_get(w->pl));
	atomic_store(&w->through, true);
	return (NULL);
}

/* With all jobs under way, the next one waits until the first is through. */
static void
the_number_of_jobs_is_the_bound(void **state)
{
	struct run r = RUN_INIT;
	struct err err = ERR_INIT;
	struct pipeline *pl = begin(&r, &with_finish, 3, 2);
	struct waiter w = { .pl = pl };
	pthread_t t;

	(void)state;
	r.gated = true;
	assert_int_equal(feed(pl, 0, 3), 3);
	assert_int_equal(pthread_create(&t, NULL, get_one, &w), 0);
	nap(100000);
	assert_false(atomic_load(&w.through));
	for (int i = 0; i < 3; i++)
		sem_post(&r.gate);
	pthread_join(t, NULL);
	assert_true(atomic_load(&w.through));
	assert_int_equal(pipeline_wait(pl, &err), 0);
	end(&r, pl);
}

/* Feed it until it fails; then everybody is told, again and again. */
static void
check_failure(struct run *r, struct pipeline *pl, const char *text)
{
	struct err err = ERR_INIT;

	assert_true(feed(pl, 0, 100000) < 100000);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(pipeline_wait(pl, &err), -1);
		assert_non_null(strstr(err.text, text));
		assert_null(pipeline_get(pl));
	}
	end(r, pl);
}

static void
an_error_in_work_stops_it(void **state)
{
	static const uint64_t at[] = { 0, 1, 7, 100 };

	(void)state;
	for (size_t i = 0; i < 4; i++)
		for (unsigned int workers = 1; workers <= 4; workers += 3)
			for (size_t jobs = 1; jobs <= 9; jobs += 4)
				for (int naps = 0; naps < 2; naps++) {
					struct run r = RUN_INIT;
					struct pipeline *pl;
					char text[32];

					r.fail_work = at[i];
					r.naps = naps;
					snprintf(text, sizeof(text), "work %d failed", (int)at[i]);
					pl = begin(&r, &with_finish, jobs, workers);
					check_failure(&r, pl, text);
					/* Nothing was finished out of order, or after it. */
					assert_true(r.finished <= at[i]);
				}
}

static void
an_error_in_finish_stops_it(void **state)
{
	(void)state;
	for (uint64_t at = 0; at < 50; at += 7)
		for (size_t jobs = 1; jobs <= 9; jobs += 4) {
			struct run r = RUN_INIT;
			struct pipeline *pl;
			char text[32];

			r.fail_finish = at;
			snprintf(text, sizeof(text), "finish %d failed", (int)at);
			pl = begin(&r, &with_finish, jobs, 3);
			check_failure(&r, pl, text);
			assert_int_equal(r.finished, at);
		}
}

static void
an_error_without_finish_stops_it(void **state)
{
	struct run r = RUN_INIT;
	struct pipeline *pl;

	(void)state;
	r.fail_work = 20;
	pl = begin(&r, &without_finish, 4, 2);
	for (size_t i = 0; i < JOBS_MAX; i++)
		r.jobs[i].busy = false;
	{
		struct err err = ERR_INIT;
		struct job *j;
		uint64_t n = 0;

		while ((j = pipeline_get(pl)) != NULL) {
			j->number = n++;
			pipeline_submit(pl);
		}
		assert_true(n > 20 && n < 40);
		assert_int_equal(pipeline_wait(pl, &err), -1);
		assert_non_null(strstr(err.text, "work 20 failed"));
	}
	end(&r, pl);
}

/* Job 1 fails, then job 0: what is told is what came first. */
static void
the_first_error_wins(void **state)
{
	struct run r = RUN_INIT;
	struct err err = ERR_INIT;
	struct pipeline *pl;

	(void)state;
	r.paired = true;
	pl = begin(&r, &with_finish, 4, 2);
	assert_int_equal(feed(pl, 0, 2), 2);
	assert_int_equal(pipeline_wait(pl, &err), -1);
	assert_string_equal(err.text, "job 1 failed");
	nap(50000);
	assert_int_equal(pipeline_wait(pl, &err), -1);
	assert_string_equal(err.text, "job 1 failed");
	assert_int_equal(r.finished, 0);
	end(&r, pl);
}

static void
a_worker_that_cannot_start_stops_it(void **state)
{
	(void)state;
	for (int which = 1; which <= 4; which++) {
		struct run r = RUN_INIT;
		struct pipeline *pl;

		r.fail_worker = which;
		r.naps = true;
		pl = begin(&r, &with_finish, 4, 4);
		check_failure(&r, pl, "no worker");
	}
}

/* The end may come while all jobs are under way; those that nobody has begun are dropped. */
static void
it_stops_while_full(void **state)
{
	(void)state;
	for (int round = 0; round < 30; round++) {
		struct run r = RUN_INIT;
		struct pipeline *pl;

		r.naps = true;
		pl = begin(&r, round % 2 ? &with_finish : &without_finish, 8, 2);
		for (uint64_t i = 0; i < 8 + (uint64_t)round % 5; i++) {
			struct job *j = pipeline_get(pl);

			assert_non_null(j);
			j->number = i;
			pipeline_submit(pl);
		}
		end(&r, pl);
	}
}

static void
jobs_are_filled_first(void **state)
{
	(void)state;
	for (size_t jobs = 1; jobs <= 9; jobs += 2)
		for (int naps = 0; naps < 2; naps++) {
			struct run r = RUN_INIT;
			struct err err = ERR_INIT;
			struct pipeline *pl;

			r.naps = naps;
			pl = begin(&r, &with_fill, jobs, 3);
			assert_int_equal(feed(pl, 0, 300), 300);
			assert_int_equal(pipeline_wait(pl, &err), 0);
			assert_int_equal(r.finished, 300);
			end(&r, pl);
		}
}

static void
an_error_in_fill_stops_it(void **state)
{
	(void)state;
	for (uint64_t at = 0; at < 20; at += 3) {
		struct run r = RUN_INIT;
		struct err err = ERR_INIT;
		struct pipeline *pl;
		char wanted[32];

		r.fail_fill = at;
		pl = begin(&r, &with_fill, 4, 2);
		feed(pl, 0, 1000);
		assert_int_equal(pipeline_wait(pl, &err), -1);
		snprintf(wanted, sizeof(wanted), "fill %d failed", (int)at);
		assert_string_equal(err.text, wanted);
		assert_true(r.finished <= at);
		end(&r, pl);
	}
}

static void
there_is_a_core(void **state)
{
	cpu_set_t all, one;
	int cpu = 0;

	(void)state;
	assert_true(pipeline_cores() >= 1);
	/* It is what this process may use, not what the machine has. */
	assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
	while (!CPU_ISSET(cpu, &all))
		cpu++;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
	assert_int_equal(pipeline_cores(), 1);
	assert_int_equal(sched_setaffinity(0, sizeof(all), &all), 0);
	assert_int_equal(pipeline_cores(), CPU_COUNT(&all));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(jobs_are_finished_in_order),
		cmocka_unit_test(without_finish_all_jobs_are_done),
		cmocka_unit_test(waiting_for_nothing_returns),
		cmocka_unit_test(the_number_of_jobs_is_the_bound),
		cmocka_unit_test(an_error_in_work_stops_it),
		cmocka_unit_test(an_error_in_finish_stops_it),
		cmocka_unit_test(an_error_without_finish_stops_it),
		cmocka_unit_test(the_first_error_wins),
		cmocka_unit_test(a_worker_that_cannot_start_stops_it),
		cmocka_unit_test(it_stops_while_full),
		cmocka_unit_test(jobs_are_filled_first),
		cmocka_unit_test(an_error_in_fill_stops_it),
		cmocka_unit_test(there_is_a_core),
	};

	alarm(120);	/* a pipeline that hangs is a failure too */
	return (cmocka_run_group_tests(tests, NULL, NULL));
}
