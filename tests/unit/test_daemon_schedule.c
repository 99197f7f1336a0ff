/* The scheduler with a clock of its own: a month of 200 jobs against the calendar, clocks that jump, machines that were off, and runs that fail. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sqlite3.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "calendar/calendar.h"
#include "config/conf.h"
#include "engine.h"

#define MINUTE	60
#define HOUR	3600
#define DAY	86400
#define MAX	200000

/* One world: what was started when. */
static struct world {
	struct db	*db;
	struct engine	*e;
	struct conf	*c;
	int64_t		 now;
	int64_t		 takes;		/* seconds that a run takes */
	enum run_state	 outcome;
	struct begun {
		char		job[CONF_MAX_NAME + 1];
		int64_t		id, at, due, until;
		enum run_reason	reason;
	}		 begun[MAX];
	size_t		 n, first, running, most;	/* first: all before it have ended */
	int64_t		 cancelled;
	char		 why[128];	/* it was */
} w;

static int
start(void *arg, const struct run *r, const struct conf_job *job, struct err *err)
{
	struct begun *b = &w.begun[w.n++];

	(void)arg;
	(void)err;
	assert_true(w.n < MAX);
	assert_string_equal(r->job, job->name);
	*b = (struct begun){ .id = r->id, .at = w.now, .due = r->due, .until = w.now + w.takes, .reason = r->reason };
	snprintf(b->job, sizeof(b->job), "%s", r->job);
	/* A job never overlaps itself. */
	for (size_t i = w.first; i + 1 < w.n; i++)
		assert_true(w.begun[i].until == 0 || strcmp(w.begun[i].job, b->job) != 0);
	if (++w.running > w.most)
		w.most = w.running;
	return (0);
}

static void
cancel(void *arg, int64_t id, const char *why)
{
	(void)arg;
	w.cancelled = id;
	snprintf(w.why, sizeof(w.why), "%s", why);
}

static void
changed(void *arg, int64_t id)
{
	(void)arg;
	(void)id;
}

static void
say(void *arg, bool trouble, const char *job, const char *text)
{
	(void)arg;
	if (trouble)
		fail_msg("%s: %s", job != NULL ? job : "", text);
}

static void
hear(void *arg, const char *text)
{
	(void)arg;
	fail_msg("%s", text);
}

static const struct engine_ops ops = { start, cancel, changed, NULL, say, NULL };

#define REPOSITORY	"{ name = \"r\"; url = \"/r\"; }"

static struct conf *
configuration_in(const char *repositories, const char *jobs)
{
	struct err err = ERR_INIT;
	struct buf b = BUF_INIT;
	struct conf *c;

	assert_int_equal(buf_addf(&b, &err, "repositories = ( %s ); daemon = { max_parallel = 1000; history = 5; }; jobs = ( %s );", repositories, jobs), 0);
	if ((c = conf_parse(b.ptr, b.len, "test", &err)) == NULL)
		fail_msg("%s", err.text);
	buf_free(&b);
	return (c);
}

static struct conf *
configuration(const char *jobs)
{
	return (configuration_in(REPOSITORY, jobs));
}

static void
begin_in(const char *repositories, const char *jobs, int64_t now)
{
	struct err err = ERR_INIT;

	memset(&w, 0, sizeof(w));
	w.now = now;
	w.outcome = RUN_SUCCEEDED;
	w.c = configuration_in(repositories, jobs);
	assert_non_null(w.db = db_open(NULL, hear, NULL, &err));
	assert_non_null(w.e = engine_new(w.db, "host", &ops, NULL, &err));
	assert_int_equal(engine_configure(w.e, w.c, now, &err), 0);
}

static void
begin(const char *jobs, int64_t now)
{
	begin_in(REPOSITORY, jobs, now);
}

static void
finish(void)
{
	engine_free(w.e);
	db_close(w.db);
	conf_free(w.c);
}

/* End the runs whose time has come; returns when the next one ends. */
static int64_t
end_runs(void)
{
	int64_t next = SCHEDULE_NEVER;

	while (w.first < w.n && w.begun[w.first].until == 0)
		w.first++;
	for (size_t i = w.first; i < w.n; i++) {
		if (w.begun[i].until != 0 && w.begun[i].until <= w.now) {
			w.begun[i].until = 0;
			w.running--;
			engine_ended(w.e, w.begun[i].id, w.outcome, w.outcome == RUN_SUCCEEDED ? NULL : "as told", w.now);
		} else if (w.begun[i].until != 0 && w.begun[i].until < next)
			next = w.begun[i].until;
	}
	return (next);
}

/* Live until then, waking only when the scheduler, or the end of a run, asks for it. */
static size_t
live(int64_t until)
{
	size_t wakes = 0;
	int64_t wake, ends;

	for (;; wakes++) {
		(void)end_runs();
		wake = engine_tick(w.e, w.now);
		assert_true(wake > w.now);
		ends = end_runs();
		if (ends < wake)
			wake = ends;
		if (wake > until)
			break;
		w.now = wake;
	}
	w.now = until;
	return (wakes);
}

static int64_t
utc(const char *text)
{
	struct tm tm = { 0 };

	assert_non_null(strptime(text, "%Y-%m-%d %H:%M:%S", &tm));
	return (timegm(&tm));
}

static const char *const events[] = { "daily", "hourly", "Mon..Fri 22:15", "*-*-* 02:30:00 Europe/Berlin", "*-*-* 01:30 America/New_York", "Sat 03:00:30",
	"*-*-1 00:00", "0/3:40", "*-*~1 23:59:59 Asia/Kathmandu", "Sun *-*-8..14 04:00", "*-*-* 00/6:05:10 Australia/Lord_Howe", "*-*-* 02:00 Europe/Berlin" };
#define NEVENTS	(sizeof(events) / sizeof(events[0]))
#define JOBS	200

/* With the changes of clocks in America, Europe and Australia: each run starts when the calendar says, none is missing, none too many. */
static void
test_month(void **state)
{
	const int64_t from = utc("2026-03-07 00:00:00"), until = utc("2026-04-07 00:00:00");
	struct err err = ERR_INIT;
	struct buf b = BUF_INIT;
	size_t wanted = 0, wakes, at;
	struct calendar *c;
	time_t t;

	(void)state;
	for (size_t i = 0; i < JOBS; i++)
		assert_int_equal(buf_addf(&b, &err, "%s{ name = \"job%03zu\"; images = [ \"/x\" ]; schedule = \"%s\"; }", i > 0 ? ", " : "", i,
		    events[i % NEVENTS]), 0);
	begin(b.ptr, from);
	w.takes = 7;
	wakes = live(until);
	for (size_t i = 0; i < JOBS; i++) {
		char name[16];

		snprintf(name, sizeof(name), "job%03zu", i);
		assert_non_null(c = calendar_parse(events[i % NEVENTS], &err));
		at = 0;
		for (t = from; calendar_next(c, t, &t) && t <= until; wanted++) {
			while (at < w.n && strcmp(w.begun[at].job, name) != 0)
				at++;
			assert_true(at < w.n);
			assert_int_equal(w.begun[at].at, t);
			assert_int_equal(w.begun[at].due, t);
			assert_int_equal(w.begun[at].reason, RUN_SCHEDULE);
			at++;
		}
		calendar_free(c);
	}
	assert_int_equal(w.n, wanted);
	assert_true(wanted > 20000);
	/* It wakes when there is something to do, not to look whether there is. */
	assert_true(wakes < 2 * wanted);
	finish();
	buf_free(&b);
}

static void
test_parallel(void **state)
{
	const int64_t from = utc("2026-01-01 00:00:00");
	struct err err = ERR_INIT;
	struct buf b = BUF_INIT;

	(void)state;
	for (size_t i = 0; i < 50; i++)
		assert_int_equal(buf_addf(&b, &err, "%s{ name = \"j%zu\"; images = [ \"/x\" ]; schedule = \"daily\"; }", i > 0 ? ", " : "", i), 0);
	begin(b.ptr, from);
	w.c->daemon.max_parallel = 3;
	w.takes = 10 * MINUTE;
	live(from + 2 * DAY - 1);
	assert_int_equal(w.most, 3);
	assert_int_equal(w.n, 50);
	/* The whole queue is worked off without a gap, and in the order in which it became due. */
	for (size_t i = 0; i < w.n; i++)
		assert_int_equal(w.begun[i].at, from + DAY + (int64_t)(i / 3) * w.takes);
	finish();
	buf_free(&b);
}

/* A run that takes longer than its interval: what came due meanwhile is made up for once. */
static void
test_overlap(void **state)
{
	const int64_t from = utc("2026-01-01 00:30:00");

	(void)state;
	begin("{ name = \"long\"; images = [ \"/x\" ]; schedule = \"hourly\"; }", from);
	w.takes = 150 * MINUTE;
	live(from + 6 * HOUR);
	assert_int_equal(w.n, 3);
	assert_int_equal(w.begun[0].at, utc("2026-01-01 01:00:00"));
	assert_int_equal(w.begun[1].at, utc("2026-01-01 03:30:00"));
	assert_int_equal(w.begun[1].due, utc("2026-01-01 03:00:00"));
	assert_int_equal(w.begun[1].reason, RUN_MISSED);
	assert_int_equal(w.begun[2].at, utc("2026-01-01 06:00:00"));
	assert_int_equal(w.begun[2].due, utc("2026-01-01 06:00:00"));
	finish();
	begin("{ name = \"long\"; images = [ \"/x\" ]; schedule = \"hourly\"; catch_up = false; }", from);
	w.takes = 150 * MINUTE;
	live(from + 6 * HOUR);
	assert_int_equal(w.n, 2);
	assert_int_equal(w.begun[1].at, utc("2026-01-01 04:00:00"));
	assert_int_equal(w.begun[1].reason, RUN_SCHEDULE);
	finish();
}

/* The machine was off for a year and a half: one run for each job, at once, and then as ever. */
static void
test_catch_up(void **state)
{
	const int64_t from = utc("2025-01-01 12:00:00"), back = utc("2026-06-15 12:00:30");

	(void)state;
	begin("{ name = \"a\"; images = [ \"/x\" ]; schedule = \"minutely\"; }, { name = \"b\"; images = [ \"/x\" ]; schedule = \"daily\"; },"
	    "{ name = \"c\"; images = [ \"/x\" ]; schedule = \"daily\"; catch_up = false; }, { name = \"d\"; images = [ \"/x\" ]; schedule = \"2030-01-01\"; },"
	    "{ name = \"e\"; images = [ \"/x\" ]; }", from);
	w.takes = 1;
	w.now = back;
	live(back + 5);
	assert_int_equal(w.n, 2);
	assert_int_equal(w.begun[0].due, utc("2026-06-15 12:00:00"));
	assert_int_equal(w.begun[0].reason, RUN_SCHEDULE);	/* half a minute late is on time */
	assert_int_equal(w.begun[1].due, utc("2026-06-15 00:00:00"));
	assert_int_equal(w.begun[1].reason, RUN_MISSED);
	live(back + 60);
	assert_int_equal(w.n, 3);
	live(utc("2026-06-16 00:00:00"));
	assert_int_equal(w.n, 3 + 12 * 60 + 1);
	finish();
}

static size_t
count(const char *job, int64_t due)
{
	size_t n = 0;

	for (size_t i = 0; i < w.n; i++)
		n += strcmp(w.begun[i].job, job) == 0 && w.begun[i].due == due;
	return (n);
}

static void
test_clock_jumps(void **state)
{
	const int64_t from = utc("2026-01-01 12:30:00");
	size_t before;

	(void)state;
	begin("{ name = \"h\"; images = [ \"/x\" ]; schedule = \"hourly\"; }, { name = \"d\"; images = [ \"/x\" ]; schedule = \"daily\"; }", from);
	w.takes = 1;
	live(from + 3 * HOUR);
	assert_int_equal(w.n, 3);
	/* Back by an hour: nothing is done twice, and the next one comes when its time comes. */
	w.now -= HOUR;
	live(w.now + 2 * HOUR);
	assert_int_equal(w.n, 4);
	assert_int_equal(w.begun[3].due, from + 3 * HOUR + 30 * MINUTE);
	/* Forward by a day: what was leapt over is made up for once. */
	before = w.n;
	w.now += DAY;
	live(w.now + 10);
	assert_int_equal(w.n, before + 2);
	assert_int_equal(count("d", utc("2026-01-02 00:00:00")), 1);
	live(w.now + 10 * DAY);
	assert_int_equal(w.n, before + 2 + 240 + 10);
	/* Back by a month: its schedule begins anew. */
	before = w.n;
	w.now -= 30 * DAY;
	live(w.now + 2 * HOUR);
	assert_int_equal(w.n, before + 2);
	for (size_t i = 0; i < before; i++)
		assert_int_equal(count(w.begun[i].job, w.begun[i].due), 1);
	finish();
}

static void
test_random_delay(void **state)
{
	const int64_t from = utc("2026-01-01 00:00:00");
	struct err err = ERR_INIT;
	struct schedule s = { .job = "spread", .random_delay = 600, .catch_up = true, .last = from };
	struct calendar *c = calendar_parse("*:0/5", &err);
	int64_t delay, least = 600, most = 0;
	size_t others = 0;

	(void)state;
	assert_non_null(s.calendar = c);
	for (int64_t due = from; due < from + DAY; due += 300) {
		delay = schedule_delay(&s, "host", due);
		assert_true(delay >= 0 && delay <= 600);
		assert_int_equal(delay, schedule_delay(&s, "host", due));
		others += delay != schedule_delay(&s, "another", due);
		least = delay < least ? delay : least;
		most = delay > most ? delay : most;
	}
	assert_true(least < 60 && most > 540 && others > 200);
	calendar_free(c);
	/* Delays longer than the interval: each time once, none before its delay has passed. */
	begin("{ name = \"spread\"; images = [ \"/x\" ]; schedule = \"hourly\"; random_delay = 1800; },"
	    "{ name = \"dense\"; images = [ \"/x\" ]; schedule = \"*:0/5\"; random_delay = 1800; }", from);
	w.takes = 1;
	live(from + DAY + 1800);
	s.job = "spread";
	s.random_delay = 1800;
	for (size_t i = 0; i < w.n; i++) {
		assert_int_equal(count(w.begun[i].job, w.begun[i].due), 1);
		s.job = w.begun[i].job;
		assert_true(w.begun[i].at >= w.begun[i].due + schedule_delay(&s, "host", w.begun[i].due));
		if (strcmp(s.job, "spread") == 0)
			assert_int_equal(w.begun[i].at, w.begun[i].due + schedule_delay(&s, "host", w.begun[i].due));
	}
	for (int64_t due = from + HOUR; due <= from + DAY; due += HOUR)
		assert_int_equal(count("spread", due), 1);
	finish();
}

static void
test_retries(void **state)
{
	const int64_t from = utc("2026-01-01 00:00:00"), first = from + DAY;

	(void)state;
	begin("{ name = \"a\"; images = [ \"/x\" ]; schedule = \"daily\"; retries = 3; retry_wait = 600; }", from);
	w.takes = 60;
	w.outcome = RUN_FAILED;
	live(first + DAY - 1);
	/* Ten minutes, twenty, forty; then it is given up until the next day. */
	assert_int_equal(w.n, 4);
	assert_int_equal(w.begun[1].at, first + 60 + 600);
	assert_int_equal(w.begun[2].at, w.begun[1].at + 60 + 1200);
	assert_int_equal(w.begun[3].at, w.begun[2].at + 60 + 2400);
	assert_int_equal(w.begun[3].reason, RUN_RETRY);
	assert_int_equal(w.begun[3].due, first);
	live(first + DAY);
	assert_int_equal(w.n, 5);
	finish();
	assert_int_equal(schedule_retry_wait(600, 40), DAY);
	assert_int_equal(schedule_retry_wait(1, 1), 1);
	/* The next time of the schedule takes a retry's place. */
	begin("{ name = \"a\"; images = [ \"/x\" ]; schedule = \"hourly\"; retries = 3; retry_wait = 7200; }", from);
	w.takes = 60;
	w.outcome = RUN_FAILED;
	live(from + 5 * HOUR);
	assert_int_equal(w.n, 5);
	for (size_t i = 0; i < w.n; i++)
		assert_int_equal(w.begun[i].reason, RUN_SCHEDULE);
	finish();
}

/* Something kills each of its runs, a power cut or the run itself: it goes on at once, then ever later, and what fails has its retries all the same. */
static void
test_interrupted(void **state)
{
	const int64_t from = utc("2026-01-01 00:00:00");

	(void)state;
	begin("{ name = \"a\"; images = [ \"/x\" ]; schedule = \"monthly\"; retries = 1; retry_wait = 600; }", from);
	w.takes = 60;
	w.outcome = RUN_INTERRUPTED;
	w.now = utc("2026-02-01 00:00:00");
	live(w.now + 2 * HOUR);
	assert_int_equal(w.n, 5);
	assert_int_equal(w.begun[1].at, w.begun[0].at + 60);
	assert_int_equal(w.begun[2].at, w.begun[1].at + 60 + 600);
	assert_int_equal(w.begun[3].at, w.begun[2].at + 60 + 1200);
	assert_int_equal(w.begun[4].at, w.begun[3].at + 60 + 2400);
	for (size_t i = 1; i < w.n; i++)
		assert_true(w.begun[i].reason == RUN_RETRY && w.begun[i].due == w.begun[0].due);
	w.outcome = RUN_FAILED;
	live(w.now + DAY);
	assert_int_equal(w.n, 7);
	assert_int_equal(w.begun[6].at, w.begun[5].at + 60 + 600);
	finish();
	/* Not for ever. */
	begin("{ name = \"a\"; images = [ \"/x\" ]; }", from);
	w.outcome = RUN_INTERRUPTED;
	w.takes = 1;
	assert_int_equal(engine_run(w.e, "a", NULL, false, w.now, &(int64_t){ 0 }, &(struct err)ERR_INIT), 0);
	live(from + 30 * DAY);
	assert_int_equal(w.n, 11);
	finish();
}

/* A retry that waits when the clock is set back by years does not wait for years. */
static void
test_retry_and_clock(void **state)
{
	const int64_t from = utc("2036-01-01 00:00:00");

	(void)state;
	begin("{ name = \"a\"; images = [ \"/x\" ]; retries = 1; retry_wait = 600; }", from);
	w.outcome = RUN_FAILED;
	w.takes = 1;
	assert_int_equal(engine_run(w.e, "a", NULL, false, w.now, &(int64_t){ 0 }, &(struct err)ERR_INIT), 0);
	live(from + 10);
	assert_int_equal(w.n, 1);
	w.now -= 10 * 365 * DAY;
	live(w.now + 10);
	assert_int_equal(w.n, 2);
	finish();
}

static void
test_window(void **state)
{
	const int64_t from = utc("2026-03-28 12:00:00");
	struct err err = ERR_INIT;
	struct window *n = window_parse("22:00-06:00 Europe/Berlin", &err);
	int64_t id;

	(void)state;
	assert_non_null(n);
	assert_int_equal(window_opens(n, utc("2026-01-10 20:59:59")), utc("2026-01-10 21:00:00"));
	assert_int_equal(window_opens(n, utc("2026-01-10 21:00:00")), utc("2026-01-10 21:00:00"));
	assert_int_equal(window_opens(n, utc("2026-01-11 04:59:59")), utc("2026-01-11 04:59:59"));
	assert_int_equal(window_opens(n, utc("2026-01-11 05:00:00")), utc("2026-01-11 21:00:00"));
	assert_int_equal(window_opens(n, utc("2026-03-29 04:00:00")), utc("2026-03-29 20:00:00"));
	window_free(n);
	assert_null(window_parse("22:00", &err));
	assert_null(window_parse("22:00-22:00", &err));
	assert_null(window_parse("+2:00-06:00", &err));
	assert_null(window_parse("24:00-06:00", &err));
	assert_null(window_parse("22:00-06:00 Nowhere/Atall", &err));
	begin("{ name = \"a\"; images = [ \"/x\" ]; schedule = \"*-*-* 18:00\"; window = \"22:00-06:00\"; }", from);
	w.takes = 60;
	live(from + 9 * HOUR);
	assert_int_equal(w.n, 0);
	/* Who asks for a run gets it. */
	assert_int_equal(engine_run(w.e, "a", "x", false, w.now, &id, &err), 0);
	live(w.now + 10);
	assert_int_equal(w.n, 1);
	live(from + 12 * HOUR);
	assert_int_equal(w.n, 2);
	assert_int_equal(w.begun[1].at, utc("2026-03-28 22:00:00"));
	finish();
}

/* Runs of these jobs that run at ${t}. */
static size_t
running(const char *names, int64_t t)
{
	size_t n = 0;

	for (size_t i = 0; i < w.n; i++)
		n += w.begun[i].at <= t && t < w.begun[i].at + w.takes && strchr(names, w.begun[i].job[0]) != NULL;
	return (n);
}

/* A repository takes so many runs at once, whatever writes to it; others are not held up by those that wait for it. */
static void
test_target(void **state)
{
	const int64_t from = utc("2026-01-01 00:00:00");
	struct err err = ERR_INIT;
	struct buf b = BUF_INIT;
	int64_t last = 0;

	(void)state;
	/* a..f write to "slow", two at once; g copies to it besides; h..k write to "r" as they like. */
	for (char c = 'a'; c <= 'k'; c++)
		assert_int_equal(buf_addf(&b, &err, "%s{ name = \"%c\"; images = [ \"/x\" ]; schedule = \"daily\"; %s }", c > 'a' ? ", " : "", c,
		    c < 'g' ? "repository = \"slow\";" : c == 'g' ? "replicate = [ \"slow\" ];" : ""), 0);
	begin_in(REPOSITORY ", { name = \"slow\"; url = \"/slow\"; max_parallel = 2; }", b.ptr, from);
	w.takes = 10 * MINUTE;
	live(from + DAY + HOUR);
	assert_int_equal(w.n, 11);
	for (size_t i = 0; i < w.n; i++) {
		assert_true(running("abcdefg", w.begun[i].at) <= 2);
		if (w.begun[i].job[0] > 'g')
			assert_int_equal(w.begun[i].at, from + DAY);
		else
			last = w.begun[i].at > last ? w.begun[i].at : last;
	}
	/* Seven by twos, without a gap. */
	assert_int_equal(last, from + DAY + 3 * w.takes);
	finish();
	buf_free(&b);
}

static enum run_state
state_of(int64_t id, char *message, size_t n)
{
	struct err err = ERR_INIT;
	struct run r;

	assert_int_equal(db_run(w.db, id, &r, &err), 1);
	snprintf(message, n, "%.100s", r.message);
	return (r.state);
}

/* The world's answer to a run that is told to end: it does, some seconds later. */
static void
end_as_told(void)
{
	int64_t told = w.cancelled;

	assert_true(told != 0);
	w.cancelled = 0;
	for (size_t i = 0; i < w.n; i++)
		if (w.begun[i].id == told)
			w.begun[i].until = 0;
	w.running--;
	w.now += 3;
	engine_ended(w.e, told, RUN_CANCELLED, w.why, w.now);
}

static void
test_window_end(void **state)
{
	const int64_t from = utc("2026-01-03 12:00:00"), opens = utc("2026-01-03 22:00:00"), closes = utc("2026-01-04 06:00:00");
	struct err err = ERR_INIT;
	char why[128];
	int64_t id;

	(void)state;
	/* As ever: what has begun is finished. */
	begin("{ name = \"a\"; images = [ \"/x\" ]; schedule = \"Sat 22:00\"; window = \"22:00-06:00\"; retries = 3; }", from);
	w.takes = 10 * HOUR;
	live(from + DAY);
	assert_int_equal(w.n, 1);
	assert_int_equal(w.cancelled, 0);
	assert_int_equal(state_of(w.begun[0].id, why, sizeof(why)), RUN_SUCCEEDED);
	finish();
	/* Cancelled when it closes, and not begun again before it opens: then it is a retry.  What is in time is left alone. */
	begin("{ name = \"a\"; images = [ \"/x\" ]; schedule = \"Sat 22:00\"; window = \"22:00-06:00\"; window_end = \"cancel\"; retries = 1; retry_wait = 1; }",
	    from);
	w.takes = 10 * HOUR;
	live(closes - 1);
	assert_int_equal(w.n, 1);
	assert_int_equal(w.begun[0].at, opens);
	assert_int_equal(w.cancelled, 0);
	live(closes);
	end_as_told();
	assert_int_equal(state_of(w.begun[0].id, why, sizeof(why)), RUN_CANCELLED);
	assert_string_equal(why, "not done when its window 22:00-06:00 closed (window_end)");
	live(opens + DAY - 1);
	assert_int_equal(w.n, 1);
	w.takes = HOUR;
	live(opens + 2 * DAY);
	assert_int_equal(w.n, 2);
	assert_int_equal(w.begun[1].at, opens + DAY);
	assert_int_equal(w.begun[1].reason, RUN_RETRY);
	assert_int_equal(state_of(w.begun[1].id, why, sizeof(why)), RUN_SUCCEEDED);
	/* Who asks for a run gets it, and all of it. */
	w.now = utc("2026-01-06 05:00:00");
	w.takes = 3 * HOUR;
	assert_int_equal(engine_run(w.e, "a", NULL, false, w.now, &id, &err), 0);
	live(w.now + 4 * HOUR);
	assert_int_equal(w.cancelled, 0);
	assert_int_equal(state_of(id, why, sizeof(why)), RUN_SUCCEEDED);
	finish();
	/* Without retries the next one is that of the schedule.  A reload in between does not tell it twice. */
	begin("{ name = \"a\"; images = [ \"/x\" ]; schedule = \"Sat 22:00\"; window = \"22:00-06:00\"; window_end = \"cancel\"; }", from);
	w.takes = 10 * HOUR;
	live(closes);
	id = w.cancelled;
	assert_int_equal(id, w.begun[0].id);
	w.cancelled = 0;
	assert_int_equal(engine_configure(w.e, w.c, w.now, &err), 0);
	live(closes + 2);
	assert_int_equal(w.cancelled, 0);
	w.cancelled = id;
	end_as_told();
	live(opens + 7 * DAY - 1);
	assert_int_equal(w.n, 1);
	live(opens + 7 * DAY);
	assert_int_equal(w.n, 2);
	finish();
}

/* The night on which clocks are set forward and the one on which they are set back: the window closes at six all the same. */
static void
test_window_end_dst(void **state)
{
	static const char *const nights[][2] = { { "2026-03-28 21:00:00", "2026-03-29 04:00:00" }, { "2026-10-24 20:00:00", "2026-10-25 05:00:00" } };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		begin("{ name = \"a\"; images = [ \"/x\" ]; schedule = \"*-*-* 22:00 Europe/Berlin\"; window = \"22:00-06:00 Europe/Berlin\"; window_end = \"cancel\"; }",
		    utc(nights[i][0]) - HOUR);
		w.takes = DAY / 2;
		live(utc(nights[i][1]) - 1);
		assert_int_equal(w.n, 1);
		assert_int_equal(w.begun[0].at, utc(nights[i][0]));
		assert_int_equal(w.cancelled, 0);
		live(utc(nights[i][1]));
		assert_int_equal(w.cancelled, w.begun[0].id);
		finish();
	}
}

static void
machine(int64_t run, const char *vm, enum run_state state)
{
	struct machine m = { .run = run, .state = state, .started = w.now, .finished = w.now, .frozen_ms = -1, .sent = 7 };
	struct err err = ERR_INIT;

	snprintf(m.vm, sizeof(m.vm), "%s", vm);
	assert_int_equal(db_machine(w.db, "a", &m, &err), 0);
}

static void
left_out(int64_t run, const char *wanted)
{
	struct err err = ERR_INIT;
	struct buf b = BUF_INIT;
	struct run r;

	assert_int_equal(db_run(w.db, run, &r, &err), 1);
	assert_int_equal(db_done(w.db, &r, &b, &err), 0);
	assert_string_equal(b.len > 0 ? b.ptr : "", wanted);
	buf_free(&b);
}

/* A retry leaves out what an earlier attempt has done, also when the history is short; the next run of the schedule does all of it. */
static void
test_retry_of_failed(void **state)
{
	const int64_t from = utc("2026-01-01 00:00:00");
	struct err err = ERR_INIT;
	int64_t id;

	(void)state;
	begin("{ name = \"a\"; images = [ \"/x\" ]; schedule = \"daily\"; retries = 2; retry_wait = 600; }", from);
	w.c->daemon.history = 1;
	w.takes = HOUR;
	w.outcome = RUN_FAILED;
	live(from + DAY);
	left_out(w.begun[0].id, "");
	machine(w.begun[0].id, "one", RUN_SUCCEEDED);
	machine(w.begun[0].id, "two", RUN_FAILED);
	machine(w.begun[0].id, "three", RUN_FAILED);
	live(from + DAY + HOUR + 600);
	assert_int_equal(w.n, 2);
	left_out(w.begun[1].id, "one\n");
	machine(w.begun[1].id, "two", RUN_FAILED);
	machine(w.begun[1].id, "three", RUN_SUCCEEDED);
	live(from + DAY + 3 * HOUR);
	assert_int_equal(w.n, 3);
	left_out(w.begun[2].id, "one\nthree\n");
	live(from + 2 * DAY);
	assert_int_equal(w.n, 4);
	left_out(w.begun[3].id, "");
	/* Nobody needs the first ones any more. */
	w.outcome = RUN_SUCCEEDED;
	live(from + 2 * DAY + 2 * HOUR);
	assert_int_equal(db_run(w.db, w.begun[0].id, &(struct run){ 0 }, &err), 0);
	/* One that was interrupted goes on where it was. */
	assert_int_equal(engine_run(w.e, "a", NULL, true, w.now, &id, &err), 0);
	live(w.now + 1);
	machine(id, "one", RUN_SUCCEEDED);
	w.begun[w.n - 1].until = 0;
	w.running--;
	engine_ended(w.e, id, RUN_INTERRUPTED, "killed", w.now);
	live(w.now + 1);
	left_out(w.begun[w.n - 1].id, "one\n");
	finish();
}

static char last_said[256];

static void
say_quietly(void *arg, bool trouble, const char *job, const char *text)
{
	(void)arg;
	(void)job;
	if (trouble)
		snprintf(last_said, sizeof(last_said), "%s", text);
}

/* Somebody holds the database when a run ends, and when one is due: both are made good later. */
static void
test_held_database(void **state)
{
	static const struct engine_ops quiet = { start, cancel, changed, NULL, say_quietly, NULL };
	const int64_t from = utc("2026-01-01 00:00:00");
	char folder[] = "/tmp/ovb-held.XXXXXX", path[64];
	struct err err = ERR_INIT;
	sqlite3 *other = NULL;
	struct run r;

	(void)state;
	assert_non_null(mkdtemp(folder));
	begin("{ name = \"a\"; images = [ \"/x\" ]; schedule = \"hourly\"; }", from);
	engine_free(w.e);
	db_close(w.db);
	assert_non_null(w.db = db_open(folder, hear, NULL, &err));
	assert_non_null(w.e = engine_new(w.db, "host", &quiet, NULL, &err));
	assert_int_equal(engine_configure(w.e, w.c, from, &err), 0);
	w.takes = 60;
	w.now = from + HOUR;
	(void)engine_tick(w.e, w.now);
	assert_int_equal(w.n, 1);
	snprintf(path, sizeof(path), "%s/%s", folder, DB_FILE);
	assert_int_equal(sqlite3_open(path, &other), SQLITE_OK);
	assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
	w.now += 60;
	(void)end_runs();
	assert_non_null(strstr(last_said, "locked"));
	assert_int_equal(db_run(w.db, w.begun[0].id, &r, &err), 1);
	assert_int_equal(r.state, RUN_RUNNING);
	assert_true(engine_tick(w.e, w.now) <= w.now + 60);
	sqlite3_close(other);
	w.now += 10;
	(void)engine_tick(w.e, w.now);
	assert_int_equal(db_run(w.db, w.begun[0].id, &r, &err), 1);
	assert_int_equal(r.state, RUN_SUCCEEDED);
	assert_int_equal(r.finished, from + HOUR + 60);
	live(from + 2 * HOUR);
	assert_int_equal(w.n, 2);
	finish();
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(folder), 0);
}

static void
test_by_hand(void **state)
{
	const int64_t from = utc("2026-01-01 00:00:00");
	struct err err = ERR_INIT;
	struct conf *other;
	int64_t id, id2;

	(void)state;
	begin("{ name = \"a\"; images = [ \"/x\" ]; schedule = \"hourly\"; }, { name = \"b\"; images = [ \"/x\" ]; }", from);
	w.takes = HOUR;
	assert_int_equal(engine_run(w.e, "nosuch", NULL, false, w.now, &id, &err), -1);
	assert_int_equal(engine_run(w.e, "b", "nosuch", false, w.now, &id, &err), -1);
	assert_int_equal(err.code, ENOENT);
	assert_int_equal(engine_run(w.e, "b", NULL, true, w.now, &id, &err), 0);
	assert_int_equal(engine_run(w.e, "b", NULL, true, w.now, &id2, &err), -1);
	live(w.now + 10);
	assert_int_equal(w.n, 1);
	/* It runs; another one waits for its end, and is cancelled before it. */
	assert_int_equal(engine_run(w.e, "b", NULL, false, w.now, &id2, &err), 0);
	live(w.now + 10);
	assert_int_equal(w.n, 1);
	assert_int_equal(engine_cancel(w.e, id2, w.now, &err), 0);
	assert_int_equal(engine_cancel(w.e, id2, w.now, &err), -1);
	assert_int_equal(engine_cancel(w.e, 4711, w.now, &err), -1);
	assert_int_equal(engine_cancel(w.e, id, w.now, &err), 0);
	assert_int_equal(w.cancelled, id);
	live(from + HOUR - 1);
	/* While it is paused nothing of the schedule begins, what is asked for does; afterwards what was missed is made up for. */
	assert_int_equal(engine_pause(w.e, true, &err), 0);
	live(from + 5 * HOUR + 10 * MINUTE);
	assert_int_equal(w.n, 1);
	assert_int_equal(engine_run(w.e, "b", NULL, false, w.now, &id, &err), 0);
	live(w.now + 1);
	assert_int_equal(w.n, 2);
	assert_int_equal(engine_pause(w.e, false, &err), 0);
	live(w.now + 1);
	assert_int_equal(w.n, 3);
	assert_int_equal(w.begun[2].due, from + 5 * HOUR);
	/* A schedule that is changed counts from now on; one that is gone does nothing more. */
	other = configuration("{ name = \"a\"; images = [ \"/x\" ]; schedule = \"*:45\"; }");
	live(from + 7 * HOUR + 50 * MINUTE);
	id = (int64_t)w.n;
	assert_int_equal(engine_configure(w.e, other, w.now, &err), 0);
	conf_free(w.c);
	w.c = other;
	live(from + 8 * HOUR + 44 * MINUTE);
	assert_int_equal(w.n, id);
	live(from + 8 * HOUR + 46 * MINUTE);
	assert_int_equal(w.n, id + 1);
	finish();
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_month), cmocka_unit_test(test_parallel), cmocka_unit_test(test_overlap),
		cmocka_unit_test(test_catch_up), cmocka_unit_test(test_clock_jumps), cmocka_unit_test(test_random_delay), cmocka_unit_test(test_retries), cmocka_unit_test(test_interrupted),
		cmocka_unit_test(test_retry_and_clock),
		cmocka_unit_test(test_window), cmocka_unit_test(test_target), cmocka_unit_test(test_window_end), cmocka_unit_test(test_window_end_dst),
		cmocka_unit_test(test_retry_of_failed), cmocka_unit_test(test_by_hand), cmocka_unit_test(test_held_database) };

	setenv("TZ", "UTC", 1);
	tzset();
	return (cmocka_run_group_tests(tests, NULL, NULL));
}
