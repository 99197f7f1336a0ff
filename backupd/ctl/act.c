/* virt-backupctl run, cancel, pause, resume: what the daemon is to do. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/human.h"
#include "base/progress.h"
#include "client.h"
#include "options.h"
#include "table.h"

#define AWAY_S		30u		/* a daemon that is restarted comes back within */

/* Waiting for a run. */
struct wait {
	const struct options	*o;
	struct progress		 progress;
	char			 label[300];	/* what the bar stands for */
	json_t			*last;		/* the state it ended with */
	bool			 heard;		/* something, since the connection was made */
};

static void
show_progress(struct wait *w, const json_t *o)
{
	uint64_t done = (uint64_t)json_value(o, "done"), total = (uint64_t)json_value(o, "total");
	char label[sizeof(w->label)];

	snprintf(label, sizeof(label), "%s%s%s", json_text(o, "job"), *json_text(o, "vm") != '\0' ? ": " : "", json_text(o, "vm"));
	if (strcmp(label, w->label) != 0 || total != w->progress.total) {
		memcpy(w->label, label, sizeof(label));
		progress_begin(&w->progress, label, total);
	}
	w->progress.limit = (uint64_t)json_value(o, "limit");
	if (total > 0)
		progress_update(&w->progress, done);
}

/* Returns 1 when the run has ended. */
static int
on_state(void *arg, const json_t *o)
{
	struct wait *w = arg;

	w->heard = true;
	if (w->o->json)
		ctl_print_json(json_deep_copy(o), JSON_COMPACT);
	if (json_is_null(json_object_get(o, "finished"))) {
		if (!w->o->json)
			show_progress(w, o);
		return (0);
	}
	w->last = json_deep_copy(o);
	return (1);
}

/* Follow the run, over restarts of the daemon. */
static int
follow(struct wait *w, struct client *c, int64_t run, struct err *err)
{
	unsigned int away = 0;
	char path[64];
	int rc;

	snprintf(path, sizeof(path), "/v1/runs/%lld?follow=true", (long long)run);
	while (away <= AWAY_S && !interrupted) {
		w->heard = false;
		if ((rc = client_follow(c, path, on_state, w, err)) == 1)
			return (w->last == NULL ? err_nomem(err) : 0);
		if (rc == -1 && err->code != EPIPE)
			return (-1);
		if (rc == 0)
			err_set(err, 0, "the daemon says no more of run %lld", (long long)run);
		away = w->heard ? 0 : away + 1;
		sleep(1);
	}
	return (-1);
}

static int
tell_end(const struct wait *w, int64_t run)
{
	const char *state = json_text(w->last, "state"), *error = json_text(w->last, "error");
	bool good = strcmp(state, "succeeded") == 0;
	struct err err;

	if (good && !w->o->json)
		printf("run %lld of %s: succeeded\n", (long long)run, w->o->args[0]);
	if (good)
		return (EXIT_DONE);
	err_set(&err, 0, "run %lld of %s: %s%s%s; virt-backupctl log %lld says more", (long long)run, w->o->args[0], state, *error != '\0' ? ": " : "", error,
	    (long long)run);
	return (ctl_error(&err));
}

static int
wait_for(const struct options *o, struct client *c, int64_t run)
{
	struct err err = ERR_INIT;
	struct wait w = { .o = o };
	int rc;

	progress_init(&w.progress, false, stderr, stdout);
	rc = follow(&w, c, run, &err);
	progress_end(&w.progress);
	if (rc == -1 && interrupted)
		err_set(&err, 0, "run %lld goes on without being waited for; virt-backupctl cancel %lld ends it", (long long)run, (long long)run);
	rc = rc == -1 ? ctl_error(&err) : tell_end(&w, run);
	json_decref(w.last);
	return (rc);
}

/* Queue the run.  Returns its id, or -1. */
static int64_t
request_run(const struct options *o, struct client *c, struct err *err)
{
	/* A name that is no UTF-8 makes no body: it must not become a run of all machines. */
	json_t *body = json_pack("{s:s*, s:b}", "domain", o->domain, "full", (int)o->full), *answer = NULL;
	char *path = client_path(c, "/v1/jobs/%s/run", o->args[0], err);
	int64_t id = -1;

	if (body == NULL)
		err_set(err, 0, "the domain's name is no UTF-8");
	else if (path != NULL && (answer = client_post(c, path, body, err)) != NULL) {
		if (json_is_integer(json_object_get(answer, "id")))
			id = json_integer_value(json_object_get(answer, "id"));
		else
			err_set(err, 0, "the daemon did not say which run it is");
	}
	json_decref(answer);
	json_decref(body);
	free(path);
	return (id);
}

int
command_run(const struct options *o)
{
	struct err err = ERR_INIT;
	struct client *c = client_open(o->socket, &err);
	int64_t id = c == NULL ? -1 : request_run(o, c, &err);
	int rc = EXIT_DONE;

	if (id == -1)
		rc = ctl_error(&err);
	else if (o->wait)
		rc = wait_for(o, c, id);
	else if (o->json)
		ctl_print_json(json_pack("{s:I}", "id", (json_int_t)id), JSON_COMPACT);
	else
		printf("run %lld of %s is queued; virt-backupctl status shows it, virt-backupctl log %lld what it says\n", (long long)id, o->args[0], (long long)id);
	client_close(c);
	return (rc);
}

/* Ask for something, and show the answer as JSON, or the text. */
static int
post(const struct options *o, const char *path, const char *text)
{
	struct err err = ERR_INIT;
	struct client *c = client_open(o->socket, &err);
	json_t *answer = c == NULL ? NULL : client_post(c, path, NULL, &err);

	client_close(c);
	if (answer == NULL)
		return (ctl_error(&err));
	if (o->json)
		ctl_print_json(json_incref(answer), JSON_INDENT(2));
	else
		puts(text);
	json_decref(answer);
	return (EXIT_DONE);
}

int
command_cancel(const struct options *o)
{
	char path[64], text[128];

	snprintf(path, sizeof(path), "/v1/runs/%lld/cancel", (long long)o->run);
	snprintf(text, sizeof(text), "run %lld is being cancelled; virt-backupctl status shows when it has ended", (long long)o->run);
	return (post(o, path, text));
}

int
command_pause(const struct options *o)
{
	return (post(o, "/v1/pause", "paused: scheduled runs are not started; what runs goes on"));
}

int
command_resume(const struct options *o)
{
	return (post(o, "/v1/resume", "resumed: scheduled runs are started again"));
}
