#include "schedule.h"

#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#define DAY	86400

int64_t
schedule_delay(const struct schedule *s, const char *host, int64_t due)
{
	char text[512];
	int n;

	if (s->random_delay <= 0)
		return (0);
	n = snprintf(text, sizeof(text), "%.200s %.200s %lld", host, s->job, (long long)due);
	return ((int64_t)(XXH3_64bits(text, (size_t)n) % ((uint64_t)s->random_delay + 1)));
}

static int64_t
next_due(const struct schedule *s, int64_t after)
{
	time_t next;

	return (calendar_next(s->calendar, (time_t)after, &next) ? (int64_t)next : SCHEDULE_NEVER);
}

int64_t
schedule_next(const struct schedule *s, const char *host, int64_t after)
{
	int64_t due = next_due(s, after);

	return (due == SCHEDULE_NEVER ? due : due + schedule_delay(s, host, due));
}

/* The last time of the schedule that is not later than ${until}; ${low} is one.  By halves: there may be a year of minutes between them. */
static int64_t
last_due(const struct schedule *s, int64_t low, int64_t until)
{
	int64_t high = until, middle, next;

	while (low < high) {
		middle = low + (high - low) / 2;
		next = next_due(s, middle);
		if (next <= until)
			low = next;
		else
			high = middle;
	}
	return (low);
}

/* Times whose delay has passed by then, whatever it is. */
static int64_t
fired_by(const struct schedule *s, int64_t due, int64_t until)
{
	return (until - s->random_delay > due ? last_due(s, due, until - s->random_delay) : due);
}

struct schedule_answer
schedule_look(const struct schedule *s, const char *host, int64_t now)
{
	int64_t due, fires;

	if (s->calendar == NULL)
		return ((struct schedule_answer){ SCHEDULE_WAIT, SCHEDULE_NEVER, false });
	if (s->last > now + SCHEDULE_AHEAD)
		return ((struct schedule_answer){ SCHEDULE_RESET, now, false });
	if ((due = next_due(s, s->last)) == SCHEDULE_NEVER)
		return ((struct schedule_answer){ SCHEDULE_WAIT, SCHEDULE_NEVER, false });
	fires = due + schedule_delay(s, host, due);
	if (fires > now)
		return ((struct schedule_answer){ SCHEDULE_WAIT, fires, false });
	if (fires + SCHEDULE_GRACE < now && !s->catch_up)
		return ((struct schedule_answer){ SCHEDULE_PASS, fired_by(s, due, now - SCHEDULE_GRACE), false });
	/* However many were missed, one run makes up for them. */
	due = fired_by(s, due, now);
	return ((struct schedule_answer){ SCHEDULE_RUN, due, due + schedule_delay(s, host, due) + SCHEDULE_GRACE < now });
}

/* When it may start, for itself alone. */
static int64_t
may_start(const struct waiting *w, bool paused, int64_t now)
{
	/* No retry waits longer: the clock was set back. */
	bool waits = w->run->not_before > now && w->run->not_before <= now + DAY;
	int64_t from = waits ? w->run->not_before : now;

	if (w->run->reason == RUN_REQUEST)
		return (from);
	if (paused)
		return (SCHEDULE_NEVER);
	return (w->window != NULL ? (int64_t)window_opens(w->window, (time_t)from) : from);
}

static bool
job_runs(const struct waiting *v, size_t n, const char *job)
{
	for (size_t i = 0; i < n; i++)
		if (v[i].run->state == RUN_RUNNING && strcmp(v[i].run->job, job) == 0)
			return (true);
	return (false);
}

static bool
writes_to(const struct conf_job *job, const struct conf_repository *r)
{
	for (size_t i = 0; i < job->nreplicate; i++)
		if (job->replicate[i] == r)
			return (true);
	return (job->repository == r);
}

static bool
is_full(const struct waiting *v, size_t n, const struct conf_repository *r)
{
	int running = 0;

	if (r->max_parallel == 0)
		return (false);
	for (size_t i = 0; i < n; i++)
		running += v[i].run->state == RUN_RUNNING && v[i].job != NULL && writes_to(v[i].job, r);
	return (running >= r->max_parallel);
}

/* Whether one of the repositories that ${job} writes to takes no further run now. */
static bool
must_wait(const struct waiting *v, size_t n, const struct conf_job *job)
{
	if (job == NULL)
		return (false);
	for (size_t i = 0; i < job->nreplicate; i++)
		if (is_full(v, n, job->replicate[i]))
			return (true);
	return (is_full(v, n, job->repository));
}

int
schedule_pick(const struct waiting *v, size_t n, int max_parallel, bool paused, int64_t now, int64_t *wake)
{
	int running = 0;
	int64_t at;

	*wake = SCHEDULE_NEVER;
	for (size_t i = 0; i < n; i++)
		running += v[i].run->state == RUN_RUNNING;
	/* The end of a run is what one has to wait for then. */
	if (running >= max_parallel)
		return (-1);
	for (size_t i = 0; i < n; i++) {
		if (v[i].run->state != RUN_QUEUED || job_runs(v, n, v[i].run->job) || must_wait(v, n, v[i].job))
			continue;
		if ((at = may_start(&v[i], paused, now)) <= now)
			return ((int)i);
		if (at < *wake)
			*wake = at;
	}
	return (-1);
}

int64_t
schedule_retry_wait(int first, int attempt)
{
	int64_t wait = first;

	while (--attempt > 0 && wait < DAY)
		wait *= 2;
	return (wait < DAY ? wait : DAY);
}
