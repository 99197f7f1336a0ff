#include "settle_overlay.h"

#include <errno.h>
#include <libvirt/virterror.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/tool.h"
#include "deadline.h"
#include "domain/domain_xml.h"
#include "guest.h"

#define LIBVIRT_SECONDS	60		/* libvirtd may be starting again */
#define CALL_SECONDS	120		/* for one call into QEMU */
#define STALL_SECONDS	600		/* a commit that does not come forward for so long is begun again ... */
#define COMMITS_MAX	3		/* ... so often in all */
#define POLL_MS		200
#define QUIET_POLLS	(30000 / POLL_MS)	/* polls between two reports */
#define COMMIT_SECONDS	(24 * 3600)	/* for qemu-img */

/* How far a commit is. */
struct commit {
	unsigned int	 begun, stalled;	/* times */
	unsigned int	 polls;
	unsigned long long cur, end;	/* as the job said last */
	int64_t		 forward;	/* when it came forward last */
	char		 refusal[256];	/* of what was asked last */
};

/* Put down that the base is written to from here on, first by our commit and then by the guest. */
static int
note(const struct settle *s, bool *field, bool value, struct err *err)
{
	if (*field == value)
		return (0);
	*field = value;
	return (journal_save(s->journal, err));
}

static int
begin_commit(const struct settle *s, virDomainPtr dom, struct journal_overlay *o, struct commit *c, struct err *err)
{
	int rc;

	if (c->begun == COMMITS_MAX)
		return (err_set(err, 0, "disk %s: the commit of %s failed, %u times%s: look at the guest's log, then run virt-backupd --reconcile",
		    o->target, o->overlay, c->begun, c->refusal));
	if (note(s, &o->committing, true, err) == -1)
		return (-1);
	c->begun++;
	c->cur = c->end = 0;
	c->forward = deadline_now();
	hypervisor_deadline(CALL_SECONDS, "begin the commit of an overlay");
	rc = virDomainBlockCommit(dom, o->target, NULL, NULL, 0, VIR_DOMAIN_BLOCK_COMMIT_SHALLOW | VIR_DOMAIN_BLOCK_COMMIT_ACTIVE);
	hypervisor_met();
	/* The next look may tell why. */
	if (rc == -1)
		snprintf(c->refusal, sizeof(c->refusal), ": %s", virGetLastErrorMessage());
	return (0);
}

/* One that is refused is tried again with the next poll.  Returns 1 when it is done, 0 when not, -1 when it must not be tried. */
static int
pivot(const struct settle *s, virDomainPtr dom, struct journal_overlay *o, struct commit *c, struct err *err)
{
	bool refused;
	int r;

	if (note(s, &o->pivoting, true, err) == -1)
		return (-1);
	hypervisor_deadline(CALL_SECONDS, "pivot a disk to its image");
	r = virDomainBlockJobAbort(dom, o->target, VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT);
	hypervisor_met();
	if (r == 0)
		return (1);
	refused = virGetLastErrorCode() == VIR_ERR_BLOCK_COPY_ACTIVE;
	snprintf(c->refusal, sizeof(c->refusal), ": %s", virGetLastErrorMessage());
	/* Only then is it certain that the guest does not write to the base. */
	return (refused ? note(s, &o->pivoting, false, err) : 0);
}

static void
see_progress(virDomainPtr dom, const struct journal_overlay *o, struct commit *c)
{
	virDomainBlockJobInfo info;

	hypervisor_deadline(CALL_SECONDS, "tell how far a commit is");
	if (virDomainGetBlockJobInfo(dom, o->target, &info, 0) == 1) {
		if (info.cur > c->cur || info.end - info.cur < c->end - c->cur)
			c->forward = deadline_now();
		c->cur = info.cur;
		c->end = info.end;
	}
	hypervisor_met();
}

/* It has not come forward for long: end it, so that it is begun again. */
static int
restart(virDomainPtr dom, const struct journal_overlay *o, struct commit *c, struct err *err)
{
	hypervisor_deadline(CALL_SECONDS, "end a commit");
	virDomainBlockJobAbort(dom, o->target, 0);
	hypervisor_met();
	c->forward = deadline_now();
	if (++c->stalled < COMMITS_MAX)
		return (0);
	return (err_set(err, 0, "disk %s: the commit of %s did not come forward for %d minutes, %u times%s.  The guest may write faster than its storage: "
	    "run virt-backupd --reconcile when it is quieter", o->target, o->overlay, STALL_SECONDS / 60, c->stalled, c->refusal));
}

/* The job runs: see that it comes forward; pivot when it is ready. */
static int
watch_commit(const struct settle *s, virDomainPtr dom, struct journal_overlay *o, bool ready, struct commit *c, struct err *err)
{
	char text[512];
	int r;

	if (ready && (r = pivot(s, dom, o, c, err)) != 0)
		return (r == 1 ? 0 : -1);
	see_progress(dom, o, c);
	if (++c->polls % QUIET_POLLS == 0 && s->report != NULL) {
		snprintf(text, sizeof(text), "guest %s, disk %s: committing %s: %llu of %llu bytes", s->journal->name, o->target, o->overlay, c->cur,
		    c->end);
		s->report(s->arg, text);
	}
	if (deadline_now() - c->forward < STALL_SECONDS * 1000)
		return (0);
	return (restart(dom, o, c, err));
}

/* What the domain has for that disk. */
struct seen {
	bool	on_overlay, on_base;
	bool	has_job, ready;
	bool	job_is_ours;
};

static int
look(virDomainPtr dom, unsigned int flags, const struct journal_overlay *o, struct seen *seen, struct err *err)
{
	struct domain_desc d = DOMAIN_DESC_INIT;
	const struct domain_disk *disk;

	*seen = (struct seen){ .on_overlay = false };
	if (guest_describe(dom, flags, &d, NULL, err) == -1)
		return (-1);
	if ((disk = domain_disk_find(&d, o->target)) != NULL && disk->source != NULL) {
		seen->on_overlay = strcmp(disk->source, o->overlay) == 0;
		seen->on_base = strcmp(disk->source, o->base) == 0;
		seen->has_job = disk->has_mirror;
		seen->ready = disk->mirror_ready;
		seen->job_is_ours = seen->on_overlay && disk->mirror_source != NULL && strcmp(disk->mirror_source, o->base) == 0;
	}
	domain_desc_free(&d);
	return (0);
}

/* The end of its name, which is only its own and the same in XML, where the rest of a path may be escaped. */
static const char *
overlay_mark(const char *overlay)
{
	const char *mark = NULL;

	for (const char *p = overlay; (p = strstr(p, OVERLAY_MARK)) != NULL; p++)
		mark = p;
	return (mark != NULL ? mark : overlay);
}

/* Whether anything in the XML, chains and jobs included, names the overlay. */
static int
is_named(virDomainPtr dom, unsigned int flags, const char *overlay, bool *named, struct err *err)
{
	char *xml = virDomainGetXMLDesc(dom, flags);

	if (xml == NULL)
		return (hypervisor_failed(err, "cannot get the XML of the domain"));
	*named = strstr(xml, overlay_mark(overlay)) != NULL;
	free(xml);
	return (0);
}

/* No guest runs on it: commit the overlay ourselves.  QEMU's locks keep us off when one does that we do not see. */
static int
commit_offline(const struct journal_overlay *o, struct err *err)
{
	const char *argv[] = { "qemu-img", "commit", "-q", "-f", "qcow2", "-d", "--", o->overlay, NULL };

	if (access(o->overlay, F_OK) == -1)
		return (errno == ENOENT ? 0 : err_set(err, errno, "cannot look at %s", o->overlay));
	return (tool_run(argv, "package qemu-utils", COMMIT_SECONDS, NULL, err));
}

static bool
are_equal(const struct journal_overlay *o)
{
	const char *argv[] = { "qemu-img", "compare", "-q", "-f", o->format, "-F", "qcow2", "--", o->base, o->overlay, NULL };

	return (tool_run(argv, "package qemu-utils", COMMIT_SECONDS, NULL, &(struct err)ERR_INIT) == 0);
}

/* Somebody wrote to the base, which was quiet below the overlay until our commit was begun. */
static bool
base_was_written(const struct journal_overlay *o)
{
	struct stat base, overlay;

	if (o->block || o->committing || stat(o->base, &base) == -1 || stat(o->overlay, &overlay) == -1)
		return (false);
	return (base.st_mtim.tv_sec > overlay.st_mtim.tv_sec ||
	    (base.st_mtim.tv_sec == overlay.st_mtim.tv_sec && base.st_mtim.tv_nsec > overlay.st_mtim.tv_nsec));
}

/*
 * The guest does not run, and what the domain says, if anything, does not tell which of the two files is newer: it is written after the pivot.
 * Before the pivot was begun it is the overlay; after that it may be the base, which an older overlay must not be written over.
 */
static int
commit_unknown(const struct journal_overlay *o, bool in_domain, struct err *err)
{
	if (access(o->overlay, F_OK) == -1 && errno == ENOENT)
		return (0);
	if (!o->pivoting && (in_domain || !base_was_written(o)))
		return (commit_offline(o, err));
	if (are_equal(o))
		return (0);
	return (err_set(err, 0, "disk %s: it cannot be told whether %s or %s, which is below it, is newer, and they differ.  If the first is, commit it "
	    "(qemu-img commit -f qcow2), else remove it; have the domain use the second (virsh edit); then run virt-backupd --reconcile", o->target,
	    o->overlay, o->base));
}

/* libvirt wrote the overlay into the persistent XML when it was made: put the base back. */
static int
redefine(virDomainPtr dom, const struct journal_overlay *o, struct err *err)
{
	char *xml = virDomainGetXMLDesc(dom, VIR_DOMAIN_XML_INACTIVE | VIR_DOMAIN_XML_SECURE);
	const struct domain_disk_place place = { .target = o->target, .path = o->base, .format = o->format, .block = o->block };
	const struct domain_change change = { .places = &place, .nplaces = 1 };
	struct buf out = BUF_INIT;
	virDomainPtr again;
	int rc = -1;

	if (xml == NULL)
		return (hypervisor_failed(err, "cannot get the XML of the domain"));
	if (domain_rewrite(xml, strlen(xml), &change, &out, err) == 0) {
		if ((again = virDomainDefineXML(virDomainGetConnect(dom), out.ptr)) == NULL)
			hypervisor_failed(err, "cannot define the domain with its image %s", o->base);
		else {
			virDomainFree(again);
			rc = 0;
		}
	}
	buf_free(&out);
	free(xml);
	return (rc);
}

/* What the domain is started with next does not name it. */
static int
unname(virDomainPtr dom, const struct journal_overlay *o, struct err *err)
{
	int persistent = virDomainIsPersistent(dom);
	bool named = false;

	if (persistent == -1)
		return (hypervisor_failed(err, "cannot tell whether the domain is persistent"));
	if (persistent == 0)
		return (0);
	if (is_named(dom, VIR_DOMAIN_XML_INACTIVE, o->overlay, &named, err) == -1 || (named && redefine(dom, o, err) == -1) ||
	    is_named(dom, VIR_DOMAIN_XML_INACTIVE, o->overlay, &named, err) == -1)
		return (-1);
	return (named ? err_set(err, 0, "%s is still in the guest's persistent XML", o->overlay) : 0);
}

/* The last step: nothing may name it, then it goes.  A guest that was off may have been started with it until a moment ago. */
static int
remove_overlay(virDomainPtr dom, const struct journal_overlay *o, struct err *err)
{
	bool named = false;

	if (dom != NULL && (unname(dom, o, err) == -1 || is_named(dom, 0, o->overlay, &named, err) == -1))
		return (-1);
	if (named)
		return (err_set(err, 0, "%s is still used by the guest", o->overlay));
	return (unlink(o->overlay) == -1 && errno != ENOENT ? err_set(err, errno, "cannot remove %s", o->overlay) : 0);
}

/* The guest does not run, or is not there (${dom} NULL). */
static int
step_inactive(virDomainPtr dom, const struct journal_overlay *o, struct err *err)
{
	struct seen seen = { .on_overlay = false };

	if (dom != NULL && look(dom, VIR_DOMAIN_XML_INACTIVE, o, &seen, err) == -1)
		return (-1);
	if (!seen.on_base && commit_unknown(o, seen.on_overlay, err) == -1)
		return (-1);
	return (remove_overlay(dom, o, err) == 0 ? 1 : -1);
}

/* Neither of the two is what the disk is now: it was detached, or somebody put something on top. */
static int
commit_detached(virDomainPtr dom, const struct journal_overlay *o, struct err *err)
{
	bool named = false;

	if (is_named(dom, 0, o->overlay, &named, err) == -1)
		return (-1);
	if (named)
		return (err_set(err, 0, "disk %s: somebody put another image on top of %s: commit that first (virsh blockcommit), then run virt-backupd "
		    "--reconcile", o->target, o->overlay));
	return (commit_unknown(o, false, err));
}

static int
step_active(const struct settle *s, virDomainPtr dom, struct journal_overlay *o, struct commit *c, struct err *err)
{
	struct seen seen;

	if (look(dom, 0, o, &seen, err) == -1)
		return (-1);
	if (seen.has_job && !seen.job_is_ours)
		return (err_set(err, 0, "disk %s has a block job of somebody else: wait for its end, or end it (virsh blockjob), then run virt-backupd "
		    "--reconcile", o->target));
	if (seen.has_job)
		return (watch_commit(s, dom, o, seen.ready, c, err));
	if (seen.on_overlay)
		return (begin_commit(s, dom, o, c, err));
	if (!seen.on_base && commit_detached(dom, o, err) == -1)
		return (-1);
	return (remove_overlay(dom, o, err) == 0 ? 1 : -1);
}

/* One look, and one step.  Returns 1 when the overlay is gone, 0 to look again, -1 on error. */
static int
step(const struct settle *s, struct journal_overlay *o, struct commit *c, struct err *err)
{
	virDomainPtr dom = hypervisor_domain(s->hv, s->journal->uuid, LIBVIRT_SECONDS, err);
	int active = dom != NULL ? virDomainIsActive(dom) : 0, rc;

	if (dom == NULL && err->code != ENOENT)
		return (-1);
	if (active == 1)
		rc = step_active(s, dom, o, c, err);
	else if (active == 0)
		rc = step_inactive(dom, o, err);
	else
		rc = hypervisor_failed(err, "cannot tell whether the guest runs");
	/* It may have ended or started, or libvirtd have gone, between two questions: then another look decides. */
	if (rc == -1 && dom != NULL && (virConnectIsAlive(s->hv->conn) != 1 || virDomainIsActive(dom) != active))
		rc = 0;
	if (dom != NULL)
		virDomainFree(dom);
	return (rc);
}

int
settle_overlay(const struct settle *s, struct journal_overlay *o, struct err *err)
{
	struct commit c = { .begun = 0, .forward = deadline_now() };
	int r;

	while ((r = step(s, o, &c, err)) == 0)
		deadline_nap(POLL_MS);
	return (r == 1 ? 0 : err_wrap(err, "guest %s: %s is not committed yet", s->journal->name, o->overlay));
}
