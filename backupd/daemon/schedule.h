/*
 * schedule.h - what a job's schedule asks for at some moment, and which of the runs that wait is next.  Pure: it knows no clock and no database.
 *
 * A run is due at a time of the job's schedule, and fires its delay later (schedule_delay).  "last" is the time up to which the schedule has been
 * worked off: it rises with each run that was queued or passed over, and stands in the database, so that no time is met twice.  It never rises above
 * the clock; where it stands far above it, the clock was wrong when it was set.
 *
 * Threads: any.
 */
#ifndef OVB_SCHEDULE_H
#define OVB_SCHEDULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "calendar/calendar.h"
#include "calendar/window.h"
#include "run.h"

#define SCHEDULE_NEVER	INT64_MAX
#define SCHEDULE_GRACE	60		/* seconds that a run may fire late and is still on time: a restart, a busy machine */
#define SCHEDULE_AHEAD	(25 * 3600)	/* seconds that last may be ahead of the clock: it was set back, by an hour or a day */

struct schedule {
	const char		*job;
	const struct calendar	*calendar;
	int			 random_delay;	/* seconds */
	bool			 catch_up;
	int64_t			 last;
};

enum schedule_verdict {
	SCHEDULE_WAIT,		/* look again at .time, or earlier if the clock is set; SCHEDULE_NEVER: never */
	SCHEDULE_RUN,		/* a run that is due at .time fires: .late, and it was missed */
	SCHEDULE_PASS,		/* all up to .time was missed, and is not made up for */
	SCHEDULE_RESET		/* last is far ahead of the clock: begin anew, at .time */
};

struct schedule_answer {
	enum schedule_verdict	verdict;
	int64_t			time;
	bool			late;
};

/** schedule_look(s, host, now): What to do now.  After anything but SCHEDULE_WAIT, ${s}->last is to become .time, and this to be called again. */
struct schedule_answer schedule_look(const struct schedule *s, const char *host, int64_t now);

/** schedule_delay(s, host, due): Of the run due then: 0 to random_delay, always the same for one job, host and time. */
int64_t schedule_delay(const struct schedule *s, const char *host, int64_t due);

/** schedule_next(s, host, after): When the first run due later than ${after} fires, or SCHEDULE_NEVER. */
int64_t schedule_next(const struct schedule *s, const char *host, int64_t after);

/* Of a run that runs or waits. */
struct waiting {
	const struct run	*run;
	const struct window	*window;	/* NULL: at any time */
	const struct conf_job	*job;		/* NULL: the configuration has it no more */
};

/**
 * schedule_pick(v, n, max_parallel, paused, now, wake):
 * Which of the ${n} runs, in the order of the queue, is to be started now: its number, or -1; then at *${wake} it is to be asked again, at the latest.  No
 * two runs of a job, no more than ${max_parallel} at all, and no more than a repository's own max_parallel that write to it run at once: one that has
 * to wait for its repository does not hold up those behind it.  Runs on request do not mind ${paused} or their window.
 */
int schedule_pick(const struct waiting *v, size_t n, int max_parallel, bool paused, int64_t now, int64_t *wake);

/** schedule_retry_wait(first, attempt): Seconds to wait after ${attempt} (1: the first) has failed: ${first}, and twice as long each time, a day at most. */
int64_t schedule_retry_wait(int first, int attempt);

#endif
