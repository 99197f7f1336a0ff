/* A run without a daemon tells people itself. */
#include <stdio.h>
#include <sys/statvfs.h>
#include <time.h>

#include "../run_outcome.h"
#include "base/human.h"
#include "notice.h"
#include "notify.h"

static void
on_result(void *arg, const char *channel, const char *error)
{
	(void)arg;
	if (error != NULL)
		fprintf(stderr, "virt-backupd: warning: not notified by %s: %s\n", channel, error);
}

/* Takes ${notice}, which is about ${what}. */
static void
tell(const struct conf *c, const char *what, json_t *notice)
{
	if (notice == NULL)
		fprintf(stderr, "virt-backupd: warning: nobody is notified of %s: out of memory\n", what);
	else
		notify_send(&c->notify, notice, on_result, NULL);
	json_decref(notice);
}

void
notify_once_begins(const struct conf *c, const struct conf_job *job)
{
	struct notice_run r = { .event = CONF_EVENT_START, .job = job->name, .repository = job->repository->name, .attempt = 1, .state = "running",
		.started = time(NULL), .finished = NOTICE_NO_TIME };

	if (notify_wants(&c->notify, CONF_EVENT_START))
		tell(c, job->name, notice_run(&r));
}

static void
look_at_space(const struct conf *c, const struct conf_repository *r, const struct run_outcome *o)
{
	uint64_t left = o->room, total = 0;
	char have[HUMAN_LEN];
	struct statvfs v;

	if (r->at.kind == CONF_URL_LOCAL && statvfs(r->at.path, &v) == 0) {
		left = (uint64_t)v.f_bavail * v.f_frsize;
		total = (uint64_t)v.f_blocks * v.f_frsize;
	}
	if (!low_space_is(&r->low, false, left, total))
		return;
	fprintf(stderr, "virt-backupd: warning: repository %s has only %s left (low_space = \"%s\"): make room, or keep fewer points\n", r->name,
	    human_size(left, have), r->low_space);
	if (notify_wants(&c->notify, CONF_EVENT_LOW_SPACE))
		tell(c, r->name, notice_low_space(r, left, total));
}

void
notify_once_ended(const struct conf *c, const struct conf_job *job, int rc, const struct run_outcome *o, int64_t started)
{
	struct notice_run r = { .event = rc == 0 ? CONF_EVENT_SUCCESS : CONF_EVENT_FAILURE, .job = job->name, .repository = job->repository->name, .attempt = 1,
		.state = rc == 0 ? "succeeded" : "failed", .error = rc == 0 ? NULL : o->error, .started = started, .finished = time(NULL),
		.succeeded = o->succeeded, .failed = o->failed, .lines = o->lines.ptr };

	look_at_space(c, job->repository, o);
	if (notify_wants(&c->notify, r.event))
		tell(c, job->name, notice_run(&r));
}
