#include "alarms.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/human.h"
#include "calendar/span.h"
#include "daemon_private.h"
#include "notifier.h"
#include "notify/notice.h"
#include "notify/notify.h"
#include "space.h"

#define LOOK_S		60
#define DAY		86400
#define OVERDUE		"overdue"	/* marks in the database: when it was told last ... */
#define SINCE		"since"		/* ... since when the job is watched ... */
#define LOW		"low"		/* ... and since when there is little space */

struct alarms {
	struct daemon		*d;
	struct alarms_space	*spaces;	/* of the configuration's repositories, in their order */
	size_t			 nspaces;
	struct space		*space;		/* asks for them */
	int64_t			 looked;
	bool			 soon;
};

static void
set_mark(struct daemon *d, const char *kind, const char *name, int64_t value)
{
	struct err err = ERR_INIT;

	if (db_set_mark(d->db, kind, name, value, &err) == -1)
		daemon_say(true, "%s", err.text);
}

/* ---- jobs whose last success is old ---- */

static int64_t
last_success(struct daemon *d, const struct conf_job *job)
{
	int64_t last = db_last_success(d->db, job->name, NULL), since = db_mark(d->db, SINCE, job->name);

	/* One that is new has its time. */
	return (last == RUN_NO_TIME ? since : last);
}

bool
alarms_overdue(struct daemon *d, const struct conf_job *job, int64_t now)
{
	struct err err = ERR_INIT;
	struct span span;
	int64_t last;

	if (job->alert_after == NULL || span_parse(job->alert_after, &span, &err) == -1 || (last = last_success(d, job)) == RUN_NO_TIME)
		return (false);
	return (last < (int64_t)span_before((time_t)now, &span));
}

static void
describe_overdue(struct daemon *d, const struct conf_job *job, int64_t now, char *out, size_t n)
{
	int64_t last = db_last_success(d->db, job->name, NULL);
	char age[HUMAN_LEN];

	if (last == RUN_NO_TIME)
		snprintf(out, n, "it has never succeeded (alert_after = \"%s\")", job->alert_after);
	else
		snprintf(out, n, "no success for %s (alert_after = \"%s\")", human_age((time_t)(now - last), age), job->alert_after);
}

static void
tell_overdue(struct daemon *d, const struct conf_job *job, int64_t now)
{
	struct err err = ERR_INIT;
	char text[256];
	struct run r;
	bool failed = db_last(d->db, job->name, &r, &err) == 1 && r.state != RUN_SUCCEEDED;

	describe_overdue(d, job, now, text, sizeof(text));
	daemon_say(true, "job %s: %s%s%s", job->name, text, failed ? "; its last run: " : "", failed ? r.message : "");
	if (notify_wants(&d->conf->notify, CONF_EVENT_OVERDUE))
		notifier_tell(d->notifier, notice_overdue(job, db_last_success(d->db, job->name, NULL), failed ? r.message : NULL), job->name, 0);
}

/* Once, then daily. */
static void
look_at_job(struct daemon *d, const struct conf_job *job, int64_t now)
{
	int64_t told = db_mark(d->db, OVERDUE, job->name);

	if (job->alert_after != NULL && db_mark(d->db, SINCE, job->name) == RUN_NO_TIME)
		set_mark(d, SINCE, job->name, now);
	if (!alarms_overdue(d, job, now)) {
		if (told != RUN_NO_TIME)
			set_mark(d, OVERDUE, job->name, RUN_NO_TIME);
		return;
	}
	/* Ahead of the clock: it was set back. */
	if (told != RUN_NO_TIME && now - told < DAY && told <= now + DAY)
		return;
	set_mark(d, OVERDUE, job->name, now);
	tell_overdue(d, job, now);
}

/* ---- repositories with little space ---- */

static void
describe_low(const struct conf_repository *r, const struct alarms_space *s, char *out, size_t n)
{
	char have[HUMAN_LEN], all[HUMAN_LEN];

	snprintf(out, n, "only %s%s%s left (low_space = \"%s\")", human_size(s->free, have), s->total > 0 ? " of " : "",
	    s->total > 0 ? human_size(s->total, all) : "", r->low_space);
}

/* What is low is told when it gets so. */
static void
take_space(struct alarms *a, size_t i, uint64_t left, uint64_t total)
{
	const struct conf_repository *r = &a->d->conf->repositories[i];
	struct alarms_space *s = &a->spaces[i];
	bool was = s->low;
	char text[256], have[HUMAN_LEN];

	*s = (struct alarms_space){ true, low_space_is(&r->low, was, left, total), left, total };
	if (s->low == was)
		return;
	set_mark(a->d, LOW, r->name, s->low ? daemon_now() : RUN_NO_TIME);
	if (!s->low) {
		daemon_say(false, "repository %s: there is room again: %s", r->name, human_size(left, have));
		return;
	}
	describe_low(r, s, text, sizeof(text));
	daemon_say(true, "repository %s (%s): %s: make room, or keep fewer points, before backups fail", r->name, r->url, text);
	if (notify_wants(&a->d->conf->notify, CONF_EVENT_LOW_SPACE))
		notifier_tell(a->d->notifier, notice_low_space(r, left, total), NULL, 0);
}

static void
on_space(void *arg, size_t i, bool known, uint64_t left, uint64_t total)
{
	struct alarms *a = arg;

	if (known)
		take_space(a, i, left, total);
	else
		a->spaces[i].known = false;
}

static void
on_silence(void *arg, size_t i)
{
	struct alarms *a = arg;
	const struct conf_repository *r = &a->d->conf->repositories[i];

	a->spaces[i].known = false;
	daemon_say(true, "repository %s: the file system of %s does not answer; its space is not watched until it does", r->name, r->url);
}

void
alarms_room(struct alarms *a, const char *job, uint64_t left)
{
	const struct conf_job *j = a != NULL ? conf_find_job(a->d->conf, job) : NULL;

	if (j != NULL && a->spaces != NULL)
		take_space(a, (size_t)(j->repository - a->d->conf->repositories), left, 0);
}

struct alarms_space
alarms_space(const struct alarms *a, const struct conf_repository *r)
{
	size_t i = a != NULL ? (size_t)(r - a->d->conf->repositories) : 0;

	return (a != NULL && i < a->nspaces ? a->spaces[i] : (struct alarms_space){ .known = false });
}

/* ---- */

struct alarms *
alarms_new(struct daemon *d, struct err *err)
{
	struct alarms *a = calloc(1, sizeof(*a));

	if (a == NULL || (a->space = space_new(d->ev, on_space, on_silence, a)) == NULL) {
		err_nomem(err);
		free(a);
		return (NULL);
	}
	a->d = d;
	return (a);
}

void
alarms_free(struct alarms *a)
{
	if (a == NULL)
		return;
	space_free(a->space);
	free(a->spaces);
	free(a);
}

void
alarms_configure(struct alarms *a)
{
	struct err err = ERR_INIT;
	const struct conf *c;
	size_t n;

	if (a == NULL || (c = a->d->conf) == NULL)
		return;
	/* What is asked for just now is of the old one. */
	space_stop(a->space);
	free(a->spaces);
	n = (a->spaces = calloc(c->nrepositories, sizeof(*a->spaces))) != NULL ? c->nrepositories : 0;
	a->nspaces = n;
	for (size_t i = 0; i < n; i++)
		a->spaces[i].low = db_mark(a->d->db, LOW, c->repositories[i].name) != RUN_NO_TIME;
	if (db_forget_marks(a->d->db, c, &err) == -1)
		daemon_say(true, "%s", err.text);
	a->soon = true;
}

void
alarms_soon(struct alarms *a)
{
	if (a != NULL)
		a->soon = true;
}

int64_t
alarms_tick(struct alarms *a, int64_t now)
{
	if (a == NULL)
		return (SCHEDULE_NEVER);
	if (!a->soon && now >= a->looked && now < a->looked + LOOK_S)
		return (a->looked + LOOK_S);
	a->soon = false;
	a->looked = now;
	for (size_t i = 0; i < a->d->conf->njobs; i++)
		look_at_job(a->d, &a->d->conf->jobs[i], now);
	if (a->spaces != NULL)
		space_ask(a->space, a->d->conf);
	return (now + LOOK_S);
}

static void
add_warning(json_t *out, const char *what, const char *name, const char *text)
{
	char line[512];

	snprintf(line, sizeof(line), "%s %s: %s", what, name, text);
	json_array_append_new(out, json_string(line));
}

void
alarms_warnings(struct alarms *a, json_t *out)
{
	int64_t now = daemon_now();
	char text[256];

	if (a == NULL)
		return;
	for (size_t i = 0; i < a->d->conf->njobs; i++)
		if (alarms_overdue(a->d, &a->d->conf->jobs[i], now)) {
			describe_overdue(a->d, &a->d->conf->jobs[i], now, text, sizeof(text));
			add_warning(out, "job", a->d->conf->jobs[i].name, text);
		}
	for (size_t i = 0; i < a->nspaces; i++)
		if (a->spaces[i].low && a->spaces[i].known) {
			describe_low(&a->d->conf->repositories[i], &a->spaces[i], text, sizeof(text));
			add_warning(out, "repository", a->d->conf->repositories[i].name, text);
		}
}
