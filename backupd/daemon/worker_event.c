#include "worker_event.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/human.h"

static const char *
string_of(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return (s != NULL ? s : "");
}

/* A count; a negative one is none. */
static int64_t
count_of(const json_t *o, const char *key)
{
	json_int_t n = json_integer_value(json_object_get(o, key));

	return (n > 0 ? n : 0);
}

static void
machine_begins(struct worker *w, const json_t *o, int64_t now)
{
	snprintf(w->vm, sizeof(w->vm), "%s", string_of(o, "vm"));
	snprintf(w->phase, sizeof(w->phase), "preparing");
	w->vm_started = now;
	w->done = w->total = w->rate = 0;
	w->left = 0;
	w->machines = count_of(o, "machines");
}

static void
progress(struct worker *w, const json_t *o)
{
	if (w->at == WORKER_RUNS)
		snprintf(w->phase, sizeof(w->phase), "reading");
	w->done = count_of(o, "done");
	w->total = count_of(o, "total");
	w->rate = count_of(o, "rate");
	w->limit = count_of(o, "limit");
	w->left = json_number_value(json_object_get(o, "left"));
	if (!isfinite(w->left) || w->left < 0)
		w->left = 0;
}

static void
machine_done(struct worker *w, const json_t *o, struct machine *m, char *text, size_t n)
{
	char stored[HUMAN_LEN], took[HUMAN_LEN], more[512] = "";

	m->state = RUN_SUCCEEDED;
	m->read = count_of(o, "read");
	m->stored = count_of(o, "stored");
	if (json_object_get(o, "freeze_ms") != NULL)
		m->frozen_ms = count_of(o, "freeze_ms");
	snprintf(m->point, sizeof(m->point), "%s", string_of(o, "point"));
	snprintf(m->kind, sizeof(m->kind), "%s", string_of(o, "kind"));
	snprintf(m->consistency, sizeof(m->consistency), "%s", string_of(o, "consistency"));
	w->succeeded++;
	if (string_of(o, "not_quiesced")[0] != '\0')
		snprintf(more, sizeof(more), "; not quiesced: %s", string_of(o, "not_quiesced"));
	snprintf(text, n, "%s@%s: %s, %s%s%s stored, %s%s", m->vm, m->point, m->kind, m->consistency, m->consistency[0] != '\0' ? ", " : "",
	    human_size((uint64_t)m->stored, stored), human_duration(json_number_value(json_object_get(o, "seconds")), took), more);
}

static enum worker_event_kind
machine_ended(struct worker *w, const json_t *o, bool good, int64_t now, struct machine *m, char *text, size_t n)
{
	*m = (struct machine){ .run = w->run, .started = w->vm_started, .finished = now, .frozen_ms = -1 };
	snprintf(m->vm, sizeof(m->vm), "%s", string_of(o, "vm"));
	m->sent = count_of(o, "sent");
	if (good)
		machine_done(w, o, m, text, n);
	else {
		m->state = RUN_FAILED;
		snprintf(m->error, sizeof(m->error), "%s", string_of(o, "error"));
		snprintf(text, n, "%s: failed: %s", m->vm, m->error);
		if (w->failed++ == 0)
			snprintf(w->failure, sizeof(w->failure), "%.300s: %.700s", m->vm, m->error);
	}
	w->vm_started = m->finished;
	return (m->vm[0] != '\0' ? WORKER_EVENT_MACHINE : WORKER_EVENT_NONE);
}

static enum worker_event_kind
pruned(const json_t *o, char *text, size_t n)
{
	char size[HUMAN_LEN];
	int64_t points = count_of(o, "points");

	if (points == 0 && count_of(o, "folders") == 0)
		return (WORKER_EVENT_NONE);
	snprintf(text, n, "pruned %" PRId64 " point%s, %s freed", points, points == 1 ? "" : "s", human_size((uint64_t)count_of(o, "freed"), size));
	return (WORKER_EVENT_TEXT);
}

static enum worker_event_kind
consolidated(const json_t *o, char *text, size_t n)
{
	char size[HUMAN_LEN];

	snprintf(text, n, "%s: now a full archive of %s", string_of(o, "point"), human_size((uint64_t)count_of(o, "written"), size));
	return (WORKER_EVENT_TEXT);
}

static enum worker_event_kind
replicated(const struct worker *w, const json_t *o, struct machine *m, char *text, size_t n)
{
	char size[HUMAN_LEN], took[HUMAN_LEN];

	snprintf(text, n, "%s@%s to %s: %s, %s", string_of(o, "vm"), string_of(o, "point"), string_of(o, "to"),
	    human_size((uint64_t)count_of(o, "stored"), size), human_duration(json_number_value(json_object_get(o, "seconds")), took));
	*m = (struct machine){ .run = w->run, .sent = count_of(o, "sent") };
	snprintf(m->vm, sizeof(m->vm), "%s", string_of(o, "vm"));
	return (WORKER_EVENT_SENT);
}

/* One point, or all of it, failed; or it is done. */
static enum worker_event_kind
replication(struct worker *w, const json_t *o, char *text, size_t n)
{
	const char *error = string_of(o, "error"), *to = string_of(o, "to");
	char size[HUMAN_LEN];

	if (error[0] == '\0') {
		snprintf(text, n, "replication to %s: %" PRId64 " point%s copied, %" PRId64 " there before, %s", to, count_of(o, "sent"),
		    count_of(o, "sent") == 1 ? "" : "s", count_of(o, "present"), human_size((uint64_t)count_of(o, "bytes"), size));
		return (WORKER_EVENT_TEXT);
	}
	snprintf(text, n, "replication to %s: failed: %s%s%s", to, string_of(o, "point"), string_of(o, "point")[0] != '\0' ? ": " : "", error);
	if (w->failure[0] == '\0')
		snprintf(w->failure, sizeof(w->failure), "%.999s", text);
	return (WORKER_EVENT_TEXT);
}

static enum worker_event_kind
earlier(const json_t *o, char *text, size_t n)
{
	int64_t machines = count_of(o, "machines");

	snprintf(text, n, "left out: %" PRId64 " machine%s that an earlier attempt has backed up", machines, machines == 1 ? "" : "s");
	return (WORKER_EVENT_TEXT);
}

enum worker_event_kind
worker_event(struct worker *w, const char *line, int64_t now, struct machine *m, char *text, size_t n)
{
	json_t *o = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
	enum worker_event_kind kind = WORKER_EVENT_NONE;
	const char *event = string_of(o, "event");

	if (strcmp(event, "begin") == 0) {
		machine_begins(w, o, now);
		kind = WORKER_EVENT_PROGRESS;
	} else if (strcmp(event, "progress") == 0) {
		progress(w, o);
		kind = WORKER_EVENT_PROGRESS;
	} else if (strcmp(event, "done") == 0 || strcmp(event, "failed") == 0)
		kind = machine_ended(w, o, event[0] == 'd', now, m, text, n);
	else if (strcmp(event, "replicated") == 0)
		kind = replicated(w, o, m, text, n);
	else if (strcmp(event, "replication") == 0)
		kind = replication(w, o, text, n);
	else if (strcmp(event, "consolidated") == 0)
		kind = consolidated(o, text, n);
	else if (strcmp(event, "pruned") == 0)
		kind = pruned(o, text, n);
	else if (strcmp(event, "earlier") == 0)
		kind = earlier(o, text, n);
	else if (strcmp(event, "hook") == 0) {
		if (w->at == WORKER_RUNS)
			snprintf(w->phase, sizeof(w->phase), "hook %.20s", string_of(o, "hook"));
		kind = WORKER_EVENT_PROGRESS;
	} else if (strcmp(event, "room") == 0) {
		w->room = (uint64_t)count_of(o, "free");
		kind = WORKER_EVENT_ROOM;
	}
	json_decref(o);
	return (kind);
}
