#include "settle.h"

#include <dirent.h>
#include <errno.h>
#include <libvirt/virterror.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "deadline.h"
#include "domain_job.h"
#include "freeze.h"
#include "guest.h"
#include "settle_overlay.h"

#define ABORT_SECONDS	60
#define CALL_SECONDS	120		/* for one call into QEMU */
#define POLL_MS		50
#define ASK_MS		1000		/* between two requests to end the job */
#define QUIET_MS	150		/* between two looks whether libvirt is still busy with a dead run's call */
#define QUIET_LOOKS	2
#define THAW_TRIES	3
#define THAW_SECONDS	5

/* Remove a folder of ours, and the files in it. */
static int
remove_folder(const char *path, struct err *err)
{
	char name[4096];
	struct dirent *e;
	DIR *d = opendir(path);

	if (d == NULL)
		return (errno == ENOENT ? 0 : err_set(err, errno, "cannot read the folder %s", path));
	/* cppcheck-suppress readdirCalled ; glibc's is safe for threads with a DIR each */
	while ((e = readdir(d)) != NULL)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
		    (size_t)snprintf(name, sizeof(name), "%s/%s", path, e->d_name) < sizeof(name))
			unlink(name);
	closedir(d);
	return (rmdir(path) == -1 && errno != ENOENT ? err_set(err, errno, "cannot remove the folder %s", path) : 0);
}

/* One look at the job, and, if ${ask}, one request to end it.  Returns 1 when there is none of ours, 0 when there is, -1 when that failed. */
static int
end_job_once(virDomainPtr dom, const char *token, bool ask, struct err *err)
{
	int r;

	hypervisor_deadline(CALL_SECONDS, "end the backup job");
	r = virDomainIsActive(dom) == 0 ? 0 : domain_job_is_backup_of(dom, token, err);
	if (r == 1 && ask && virDomainAbortJob(dom) == -1)
		r = hypervisor_failed(err, "the backup job could not be ended");
	hypervisor_met();
	return (r == -1 ? -1 : !r);
}

/*
 * Until it is certain that the job is gone.  One that libvirt may still be beginning is asked to end a second later: it then runs, or its beginning has
 * failed, which libvirt 9.0 must not be disturbed in.
 */
static int
end_job(const struct settle *s, struct err *err)
{
	const unsigned int first = s->answered ? 0 : ASK_MS / POLL_MS - 1;
	int64_t until = deadline_now() + ABORT_SECONDS * 1000;
	virDomainPtr dom;
	int r;

	err_plain(err, ETIMEDOUT, "the backup job could not be ended");
	for (unsigned int i = 0; deadline_left(until) > 0; i++) {
		if ((dom = hypervisor_domain(s->hv, s->journal->uuid, LIBVIRT_SECONDS, err)) == NULL)
			return (err->code == ENOENT ? 0 : -1);
		r = end_job_once(dom, s->journal->token, i % (ASK_MS / POLL_MS) == first, err);
		virDomainFree(dom);
		if (r == 1)
			return (0);
		deadline_nap(POLL_MS);
	}
	return (-1);
}

/*
 * A run that died in a call does not end the call: QEMU may be about to open an overlay or a scratch file, which nothing names yet, and libvirt 9.0
 * dies of a checkpoint's deletion while a backup job's beginning fails (both use QEMU's monitor).  So nothing is undone before libvirt is at rest.
 */
static int
await_calls(const struct settle *s, struct err *err)
{
	int64_t until = deadline_now() + ABORT_SECONDS * 1000;
	virDomainPtr dom;
	bool busy;

	for (int quiet = s->answered ? QUIET_LOOKS : 0; quiet < QUIET_LOOKS;) {
		if ((dom = hypervisor_domain(s->hv, s->journal->uuid, LIBVIRT_SECONDS, err)) == NULL)
			return (err->code == ENOENT ? 0 : -1);
		hypervisor_deadline(CALL_SECONDS, "tell whether the guest has a job");
		busy = virDomainIsActive(dom) != 0 && domain_job_is_being_made(dom);
		hypervisor_met();
		virDomainFree(dom);
		quiet = busy ? 0 : quiet + 1;
		if (busy && deadline_left(until) <= 0)
			return (err_plain(err, ETIMEDOUT, "libvirt is busy with what the run had asked it for"));
		if (quiet < QUIET_LOOKS)
			deadline_nap(QUIET_MS);
	}
	return (0);
}

int
settle_backup_job(const struct settle *s, struct err *err)
{
	struct journal *j = s->journal;

	/* As long as the job may be there, its files are in use. */
	if (((j->socket != NULL || j->scratch != NULL) && await_calls(s, err) == -1) || (j->socket != NULL && end_job(s, err) == -1) || (j->scratch != NULL && remove_folder(j->scratch, err) == -1) ||
	    (j->folder != NULL && remove_folder(j->folder, err) == -1))
		return (-1);
	free(j->socket);
	free(j->scratch);
	free(j->folder);
	j->socket = j->scratch = j->folder = NULL;
	return (0);
}

int
settle_overlays(const struct settle *s, struct err *err)
{
	struct journal *j = s->journal;
	struct err why = ERR_INIT;
	int rc = 0;

	if (j->noverlays > 0 && await_calls(s, err) == -1)
		return (-1);
	for (size_t i = j->noverlays; i-- > 0;) {
		if (settle_overlay(s, &j->overlays[i], rc == 0 ? err : &why) == 0)
			journal_drop_overlay(j, i);
		else
			rc = -1;
	}
	return (rc);
}

int
settle_freeze(const struct settle *s, struct err *err)
{
	struct journal *j = s->journal;
	struct err ignored = ERR_INIT;
	virDomainPtr dom;
	int n = -1;

	if (!j->frozen)
		return (0);
	for (int i = 0; i < THAW_TRIES && n == -1; i++) {
		if ((dom = hypervisor_domain(s->hv, j->uuid, THAW_SECONDS, err)) == NULL) {
			n = err->code == ENOENT ? 0 : -1;
			continue;
		}
		n = virDomainIsActive(dom) == 0 ? 0 : freeze_thaw_once(dom, THAW_SECONDS, err);
		virDomainFree(dom);
	}
	if (n >= 0) {
		j->frozen = false;
		return (0);
	}
	if (freeze_guard_leave(j->uri, j->uuid, j->name, &ignored) == -1)
		err_wrap(err, "%s", ignored.text);
	err_wrap(err, "guest %s may be frozen; a guard goes on trying to thaw it", j->name);
	return (-1);
}

int
settle_all(const struct settle *s, struct err *err)
{
	struct err why = ERR_INIT;
	int rc = 0;

	if (settle_freeze(s, err) == -1)
		rc = -1;
	if (settle_backup_job(s, rc == 0 ? err : &why) == -1)
		rc = -1;
	/* QEMU does not change bitmaps while a job runs. */
	if (settle_checkpoint(s, rc == 0 ? err : &why) == -1)
		rc = -1;
	if (settle_overlays(s, rc == 0 ? err : &why) == -1)
		rc = -1;
	return (rc);
}

/* One pass over the journals. */
struct leftovers {
	void	(*report)(void *arg, const char *text);
	void	*arg;
	int	 unsettled;
};

static void
tell(const struct leftovers *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void
tell(const struct leftovers *l, const char *fmt, ...)
{
	char text[sizeof(((struct err *)0)->text) + 512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	l->report(l->arg, text);
}

static void
settle_one(void *arg, const char *uuid)
{
	struct leftovers *l = arg;
	struct err err = ERR_INIT;
	struct journal *j = journal_resume(uuid, &err);
	struct settle s = { .journal = j, .report = l->report, .arg = l->arg };
	int rc = -1;

	if (j == NULL) {
		/* A run that is alive settles its own; one that just ended has. */
		if (err.code != EBUSY && err.code != ENOENT) {
			l->unsettled++;
			tell(l, "what an interrupted run did to guest %s cannot be settled: %s", uuid, err.text);
		}
		return;
	}
	if ((s.hv = hypervisor_open(j->uri, &err)) != NULL)
		rc = settle_all(&s, &err);
	if (rc == 0)
		tell(l, "guest %s: settled what an interrupted run had begun", j->name);
	else {
		l->unsettled++;
		if (s.hv != NULL)
			journal_save(j, &(struct err)ERR_INIT);
		tell(l, "guest %s: what an interrupted run had begun is not settled yet: %s", j->name, err.text);
	}
	hypervisor_close(s.hv);
	journal_end(j, rc == 0);
}

int
settle_leftovers(void (*report)(void *arg, const char *text), void *arg, struct err *err)
{
	struct leftovers l = { .report = report, .arg = arg };

	return (journal_each(settle_one, &l, err) == -1 ? -1 : l.unsettled);
}
