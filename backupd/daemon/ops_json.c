#include "ops_json.h"

#include <time.h>

#include "repository/naming.h"

json_t *
ops_time(int64_t t)
{
	char text[64];
	time_t when = (time_t)t;
	struct tm tm;

	if (t == RUN_NO_TIME || gmtime_r(&when, &tm) == NULL || strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		return (json_null());
	return (json_string(text));
}

json_t *
ops_text(const char *text)
{
	json_t *s = text != NULL && text[0] != '\0' ? json_string(text) : NULL;

	/* A cut one may end within a character. */
	return (s != NULL ? s : json_null());
}

static json_t *
duration(int64_t from, int64_t to)
{
	return (from == RUN_NO_TIME || to == RUN_NO_TIME ? json_null() : json_integer(to > from ? to - from : 0));
}

/* The point as virt-restore lists it; a replica's job has none. */
static json_t *
point_of(const struct machine *m)
{
	char text[2 * NAMING_MAX];
	unsigned int suffix;
	time_t t;

	return (point_name_parse(m->point, &t, &suffix) ? ops_text(point_spec_format(m->vm, t, suffix, text)) : json_null());
}

json_t *
ops_record(const struct run *r, const struct machine *m)
{
	if (m == NULL)
		return (json_pack("{s:I, s:s, s:n, s:s, s:o, s:o, s:o, s:n, s:n, s:n, s:i, s:i, s:i, s:n, s:o}", "id", (json_int_t)r->id, "job", r->job, "vm",
		    "state", run_state_name(r->state), "started", ops_time(r->started), "finished", ops_time(r->finished), "duration",
		    duration(r->started, r->finished), "point", "kind", "consistency", "read", 0, "stored", 0, "sent", 0, "frozen", "error",
		    ops_text(r->message)));
	return (json_pack("{s:I, s:s, s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:I, s:I, s:o, s:o}", "id", (json_int_t)r->id, "job", r->job, "vm",
	    ops_text(m->vm), "state", run_state_name(m->state), "started", ops_time(m->started), "finished", ops_time(m->finished), "duration",
	    duration(m->started, m->finished), "point", point_of(m), "kind", ops_text(m->kind), "consistency", ops_text(m->consistency), "read",
	    (json_int_t)m->read, "stored", (json_int_t)m->stored, "sent", (json_int_t)m->sent, "frozen", m->frozen_ms >= 0 ? json_real((double)m->frozen_ms / 1000) : json_null(),
	    "error", ops_text(m->error)));
}

/* The queue's words, and those for what only shows while it lasts. */
static const char *
state_word(const struct run *r, const struct worker *w, int64_t now)
{
	if (r->state == RUN_RUNNING && w != NULL && w->at != WORKER_RUNS)
		return ("cancelling");
	if (r->state == RUN_QUEUED && r->not_before > now)
		return ("waiting");
	return (run_state_name(r->state));
}

static json_t *
number(const struct worker *w, int64_t n)
{
	return (w != NULL ? json_integer(n) : json_null());
}

json_t *
ops_run(const struct run *r, const struct worker *w, int64_t now)
{
	json_t *o = json_pack("{s:I, s:s, s:o, s:b, s:s, s:i, s:s, s:o, s:o, s:o, s:o}", "id", (json_int_t)r->id, "job", r->job, "domain",
	    ops_text(r->domain), "full", r->full, "trigger", run_reason_name(r->reason), "attempt", r->attempt, "state", state_word(r, w, now), "queued",
	    ops_time(r->queued), "started", ops_time(r->started), "finished", ops_time(r->finished), "error", ops_text(r->message));
	json_t *far = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:{s:o, s:I, s:I}, s:o, s:o}", "vm", ops_text(w != NULL ? w->vm : NULL), "phase",
	    ops_text(w != NULL ? w->phase : NULL), "done", number(w, w != NULL ? w->done : 0), "total", number(w, w != NULL ? w->total : 0), "rate",
	    number(w, w != NULL ? w->rate : 0), "left", w != NULL ? json_real(w->left) : json_null(), "limit", w != NULL && w->limit > 0 ? json_integer(w->limit) : json_null(), "machines", "total",
	    w != NULL && w->machines >= 0 ? json_integer(w->machines) : r->finished != RUN_NO_TIME ? json_integer(r->succeeded + r->failed) : json_null(),
	    "succeeded", (json_int_t)r->succeeded, "failed", (json_int_t)r->failed, "due", ops_time(r->due), "not_before", ops_time(r->not_before));

	if (o == NULL || far == NULL || json_object_update_missing(o, far) == -1) {
		json_decref(o);
		o = NULL;
	}
	json_decref(far);
	return (o);
}

json_t *
ops_last(const struct run *r)
{
	return (json_pack("{s:I, s:s, s:o, s:o, s:o, s:o}", "id", (json_int_t)r->id, "state", run_state_name(r->state), "started", ops_time(r->started),
	    "finished", ops_time(r->finished), "duration", duration(r->started, r->finished), "error", ops_text(r->message)));
}
