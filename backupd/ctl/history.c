/* virt-backupctl history, log, schedule: what was, and what will be. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "client.h"
#include "options.h"
#include "table.h"

#define RUN_W		5u
#define JOB_W		14u
#define MACHINE_W	14u
#define TIME_W		16u
#define TOOK_W		9u

static void
print_record(struct table *t, const json_t *o)
{
	const char *state = json_text(o, "state"), *error = json_text(o, "error");
	char id[HUMAN_LEN], when[HUMAN_LEN], took[HUMAN_LEN], stored[HUMAN_LEN], text[128];

	snprintf(id, sizeof(id), "%.0f", json_value(o, "id"));
	if (json_is_number(json_object_get(o, "stored")))
		snprintf(text, sizeof(text), "%s, %s", state, human_size((uint64_t)json_value(o, "stored"), stored));
	else
		snprintf(text, sizeof(text), "%s", state);
	table_cell(t, RUN_W, PAINT_NONE, id);
	table_cell(t, JOB_W, PAINT_NONE, json_text(o, "job"));
	table_cell(t, MACHINE_W, PAINT_NONE, json_text(o, "vm"));
	table_cell(t, TIME_W, PAINT_NONE, local_time(o, "started", when));
	table_cell(t, TOOK_W, PAINT_NONE, json_is_number(json_object_get(o, "duration")) ? human_duration(json_value(o, "duration"), took) : "-");
	if (*error != '\0')
		table_result(t, state, error);
	else
		table_last(t, paint_of_state(state), text);
}

static void
print_history(const json_t *records)
{
	const json_t *o;
	struct table t;
	size_t i;

	table_init(&t);
	table_cell(&t, RUN_W, PAINT_HEAD, "RUN");
	table_cell(&t, JOB_W, PAINT_HEAD, "JOB");
	table_cell(&t, MACHINE_W, PAINT_HEAD, "MACHINE");
	table_cell(&t, TIME_W, PAINT_HEAD, "STARTED");
	table_cell(&t, TOOK_W, PAINT_HEAD, "TOOK");
	table_last(&t, PAINT_HEAD, "RESULT");
	json_array_foreach(records, i, o) {
		print_record(&t, o);
	}
}

static void
print_schedule(const json_t *times)
{
	char when[HUMAN_LEN];
	const json_t *o;
	struct table t;
	size_t i;

	table_init(&t);
	table_cell(&t, TIME_W, PAINT_HEAD, "NEXT RUN");
	table_cell(&t, 2 * JOB_W, PAINT_HEAD, "JOB");
	table_last(&t, PAINT_HEAD, "SCHEDULE");
	json_array_foreach(times, i, o) {
		table_cell(&t, TIME_W, PAINT_NONE, local_time(o, "time", when));
		table_cell(&t, 2 * JOB_W, PAINT_NONE, json_text(o, "job"));
		table_last(&t, PAINT_NONE, json_text(o, "schedule"));
	}
}

/* Ask for an array, and show it. */
static int
show(const struct options *o, struct client *c, const char *path, void (*print)(const json_t *), struct err *err)
{
	json_t *a = client_get(c, path, err);

	if (a == NULL)
		return (-1);
	if (o->json)
		ctl_print_json(json_incref(a), JSON_INDENT(2));
	else
		print(a);
	json_decref(a);
	return (0);
}

int
command_history(const struct options *o)
{
	struct err err = ERR_INIT;
	struct client *c = client_open(o->socket, &err);
	char *job = NULL, *path = NULL;
	int rc = -1;

	if (c == NULL || (o->job != NULL && (job = client_path(c, "&job=%s", o->job, &err)) == NULL))
		goto out;
	if (asprintf(&path, "/v1/history?limit=%u%s", o->limit, job != NULL ? job : "") == -1) {
		path = NULL;
		err_nomem(&err);
		goto out;
	}
	rc = show(o, c, path, print_history, &err);
out:
	free(path);
	free(job);
	client_close(c);
	return (rc == 0 ? EXIT_DONE : ctl_error(&err));
}

int
command_schedule(const struct options *o)
{
	struct err err = ERR_INIT;
	struct client *c = client_open(o->socket, &err);
	char path[64];
	int rc;

	snprintf(path, sizeof(path), "/v1/schedule?next=%u", o->next);
	rc = c == NULL ? -1 : show(o, c, path, print_schedule, &err);
	client_close(c);
	return (rc == 0 ? EXIT_DONE : ctl_error(&err));
}

int
command_log(const struct options *o)
{
	struct err err = ERR_INIT;
	struct client *c = client_open(o->socket, &err);
	struct buf b = BUF_INIT;
	char path[64];
	int rc;

	snprintf(path, sizeof(path), "/v1/runs/%lld/log", (long long)o->run);
	rc = c == NULL ? -1 : client_text(c, path, &b, &err);
	client_close(c);
	if (rc == 0 && o->json)
		ctl_print_json(json_pack("{s:I, s:s%}", "id", (json_int_t)o->run, "log", b.ptr, b.len), JSON_INDENT(2));
	else if (rc == 0 && isatty(STDOUT_FILENO))
		fputs(human_safe(b.ptr), stdout);
	else if (rc == 0)
		fwrite(b.ptr, 1, b.len, stdout);
	buf_free(&b);
	return (rc == 0 ? EXIT_DONE : ctl_error(&err));
}
