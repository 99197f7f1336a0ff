/* virt-backupctl status, jobs: what there is, at a glance. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client.h"
#include "options.h"
#include "table.h"

#define WATCH_S		2u

#define JOB_W		16u
#define TIME_W		16u
#define SUCCESS_W	12u
#define SCHEDULE_W	24u
#define REPOSITORY_W	14u
#define RUN_W		5u
#define RUN_JOB_W	12u		/* in the table of runs, whose last column is long */
#define MACHINE_W	12u
#define STATE_W		10u

static void
print_head(const json_t *o)
{
	size_t jobs = json_array_size(json_object_get(o, "jobs"));
	char age[HUMAN_LEN], version[64];
	time_t now, started;

	snprintf(version, sizeof(version), "%s", json_text(o, "version"));
	printf("virt-backupd %s", human_safe(version));
	if (json_time(o, "time", &now) && json_time(o, "started", &started))
		printf(", up for %s", human_age(now - started, age));
	printf(", %zu job%s\n", jobs, jobs == 1 ? "" : "s");
}

/* What somebody has to look at, first. */
static void
print_warnings(struct table *t, const json_t *o)
{
	const json_t *v;
	size_t i;

	if (json_is_true(json_object_get(o, "paused")))
		table_last(t, PAINT_WARN, "paused: scheduled runs are not started until virt-backupctl resume");
	if (*json_text(json_object_get(o, "config"), "error") != '\0') {
		table_wrapped(t, 0, PAINT_WARN, "the configuration was not taken, and the one read before stays in force:");
		table_wrapped(t, 2, PAINT_BAD, json_text(json_object_get(o, "config"), "error"));
	}
	json_array_foreach(json_object_get(o, "warnings"), i, v) {
		table_wrapped(t, 0, PAINT_WARN, json_is_string(v) ? json_string_value(v) : "");
	}
}

/* "succeeded in 3:05 min", "failed: why". */
static void
print_last(struct table *t, const json_t *last)
{
	const char *state = json_text(last, "state"), *error = json_text(last, "error");
	char text[128], took[HUMAN_LEN];

	if (*state == '\0')
		table_last(t, PAINT_NONE, "never ran");
	else if (*error != '\0')
		table_result(t, state, error);
	else {
		if (json_is_number(json_object_get(last, "duration")))
			snprintf(text, sizeof(text), "%s in %s", state, human_duration(json_value(last, "duration"), took));
		else
			snprintf(text, sizeof(text), "%s", state);
		table_last(t, paint_of_state(state), text);
	}
}

static const char *
success_text(const json_t *job, const json_t *status, char out[2 * HUMAN_LEN])
{
	char age[HUMAN_LEN];
	time_t now, then;

	if (json_time(status, "time", &now) && json_time(job, "last_success", &then))
		snprintf(out, 2 * HUMAN_LEN, "%s ago", human_age(now - then, age));
	else
		snprintf(out, 2 * HUMAN_LEN, "never");
	return (out);
}

static void
print_job_lines(struct table *t, const json_t *o)
{
	char when[HUMAN_LEN], success[2 * HUMAN_LEN];
	const json_t *job;
	size_t i;

	table_cell(t, JOB_W, PAINT_HEAD, "JOB");
	table_cell(t, TIME_W, PAINT_HEAD, "NEXT RUN");
	table_cell(t, SUCCESS_W, PAINT_HEAD, "LAST SUCCESS");
	table_last(t, PAINT_HEAD, "LAST RUN");
	json_array_foreach(json_object_get(o, "jobs"), i, job) {
		table_cell(t, JOB_W, PAINT_NONE, json_text(job, "name"));
		table_cell(t, TIME_W, PAINT_NONE, local_time(job, "next", when));
		table_cell(t, SUCCESS_W, json_is_true(json_object_get(job, "overdue")) ? PAINT_BAD : PAINT_NONE, success_text(job, o, success));
		print_last(t, json_object_get(job, "last"));
	}
}

/* "42% of 20 GB, 312 MB/s, 42 s" while there is such a thing; "capped" when it may not write as fast as it can. */
static const char *
progress_text(const json_t *run, char *out, size_t n)
{
	double done = json_value(run, "done"), total = json_value(run, "total");
	char all[HUMAN_LEN], rate[HUMAN_LEN], left[HUMAN_LEN];

	if (total <= 0) {
		snprintf(out, n, "%s", json_text(run, "phase"));
		return (out);
	}
	snprintf(out, n, "%.0f%% of %s, %s/s, %s%s", done >= total ? 100.0 : 100.0 * done / total, human_size((uint64_t)total, all),
	    human_size((uint64_t)json_value(run, "rate"), rate), human_duration(json_value(run, "left"), left),
	    json_value(run, "limit") > 0 ? ", capped" : "");
	return (out);
}

/* Of one that does not read: what it does instead, or what it waits for. */
static const char *
phase_text(const json_t *run, char *out, size_t n)
{
	char when[HUMAN_LEN];
	time_t t;

	if (strcmp(json_text(run, "state"), "waiting") != 0 || !json_time(run, "not_before", &t))
		return (json_text(run, "phase"));
	snprintf(out, n, "until %s", local_time(run, "not_before", when));
	return (out);
}

static void
print_run_lines(struct table *t, const json_t *runs)
{
	char id[HUMAN_LEN], text[160];
	const json_t *run;
	size_t i;

	if (json_array_size(runs) == 0)
		return;
	putchar('\n');
	table_cell(t, RUN_W, PAINT_HEAD, "RUN");
	table_cell(t, RUN_JOB_W, PAINT_HEAD, "JOB");
	table_cell(t, MACHINE_W, PAINT_HEAD, "MACHINE");
	table_cell(t, STATE_W, PAINT_HEAD, "STATE");
	table_last(t, PAINT_HEAD, "PROGRESS, TIME LEFT");
	json_array_foreach(runs, i, run) {
		const char *state = json_text(run, "state");

		snprintf(id, sizeof(id), "%.0f", json_value(run, "id"));
		table_cell(t, RUN_W, PAINT_NONE, id);
		table_cell(t, RUN_JOB_W, PAINT_NONE, json_text(run, "job"));
		table_cell(t, MACHINE_W, PAINT_NONE, json_text(run, "vm"));
		table_cell(t, STATE_W, paint_of_state(state), state);
		/* What cannot be stopped yet is said, rather than how far it has come. */
		table_last(t, PAINT_NONE, strcmp(state, "running") == 0 ? progress_text(run, text, sizeof(text)) : phase_text(run, text, sizeof(text)));
	}
}

static void
print_repositories(struct table *t, const json_t *repositories)
{
	char free_text[HUMAN_LEN], all[HUMAN_LEN], text[3 * HUMAN_LEN];
	const json_t *r;
	size_t i;

	putchar('\n');
	table_cell(t, JOB_W, PAINT_HEAD, "REPOSITORY");
	table_cell(t, 2 * TIME_W, PAINT_HEAD, "SPACE LEFT");
	table_last(t, PAINT_HEAD, "WHERE");
	json_array_foreach(repositories, i, r) {
		double left = json_value(r, "free"), total = json_value(r, "total");

		if (total <= 0 && left > 0)
			snprintf(text, sizeof(text), "%s", human_size((uint64_t)left, free_text));
		else if (total > 0)
			snprintf(text, sizeof(text), "%s of %s (%.0f%%)", human_size((uint64_t)left, free_text), human_size((uint64_t)total, all), 100 * left / total);
		else
			snprintf(text, sizeof(text), "not known");
		table_cell(t, JOB_W, PAINT_NONE, json_text(r, "name"));
		table_cell(t, 2 * TIME_W, json_is_true(json_object_get(r, "low")) ? PAINT_BAD : PAINT_NONE, text);
		table_last(t, PAINT_NONE, json_text(r, "url"));
	}
}

static void
print_status(const json_t *o)
{
	struct table t;

	table_init(&t);
	print_head(o);
	print_warnings(&t, o);
	putchar('\n');
	print_job_lines(&t, o);
	print_run_lines(&t, json_object_get(o, "runs"));
	print_repositories(&t, json_object_get(o, "repositories"));
	fflush(stdout);
}

static int
show(struct client *c, const struct options *o, size_t flags)
{
	struct err err = ERR_INIT;
	json_t *status = client_get(c, "/v1/status", &err);

	if (o->watch && isatty(STDOUT_FILENO) && !o->json)
		printf("\x1b[H\x1b[J");
	if (status == NULL)
		return (interrupted ? EXIT_DONE : ctl_error(&err));
	if (o->json)
		ctl_print_json(json_incref(status), flags);
	else
		print_status(status);
	json_decref(status);
	return (EXIT_DONE);
}

int
command_status(const struct options *o)
{
	struct err err = ERR_INIT;
	struct client *c = client_open(o->socket, &err);
	int rc;

	if (c == NULL)
		return (ctl_error(&err));
	rc = show(c, o, o->watch ? JSON_COMPACT : JSON_INDENT(2));
	/* A daemon that is away comes back: looking goes on, but not if there was none to begin with. */
	while (o->watch && rc == EXIT_DONE && !interrupted) {
		sleep(WATCH_S);
		if (!interrupted)
			show(c, o, JSON_COMPACT);
	}
	client_close(c);
	return (rc);
}

int
command_jobs(const struct options *o)
{
	struct err err = ERR_INIT;
	struct client *c = client_open(o->socket, &err);
	json_t *jobs = c != NULL ? client_get(c, "/v1/jobs", &err) : NULL, *job;
	char when[HUMAN_LEN];
	struct table t;
	size_t i;

	client_close(c);
	if (jobs == NULL)
		return (ctl_error(&err));
	if (o->json) {
		ctl_print_json(jobs, JSON_INDENT(2));
		return (EXIT_DONE);
	}
	table_init(&t);
	table_cell(&t, JOB_W, PAINT_HEAD, "JOB");
	table_cell(&t, REPOSITORY_W, PAINT_HEAD, "REPOSITORY");
	table_cell(&t, SCHEDULE_W, PAINT_HEAD, "SCHEDULE");
	table_last(&t, PAINT_HEAD, "NEXT RUN");
	json_array_foreach(jobs, i, job) {
		table_cell(&t, JOB_W, PAINT_NONE, json_text(job, "name"));
		table_cell(&t, REPOSITORY_W, PAINT_NONE, json_text(job, "repository"));
		table_cell(&t, SCHEDULE_W, PAINT_NONE, *json_text(job, "schedule") != '\0' ? json_text(job, "schedule") : "on request");
		table_last(&t, PAINT_NONE, local_time(job, "next", when));
	}
	json_decref(jobs);
	return (EXIT_DONE);
}
