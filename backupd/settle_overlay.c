#include "settle_overlay.h"

#include <errno.h>
#include <libvirt/virterror.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "deadline.h"
#include "domain_xml.h"
#include "guest.h"
#include "tool.h"

#define LIBVIRT_SECONDS	60		/* libvirtd may be starting again */
#define CALL_SECONDS	120		/* for one call into QEMU */
#define STALL_SECONDS	600		/* a commit that does not come forward for so long is begun again ... */
#define COMMITS_MAX	3		/* ... so often in all */
#define POLL_MS		200
#define QUIET_POLLS	(30000 / POLL_MS)	/* polls between two reports */
#define COMMIT_SECONDS	(24 * 3600)	/* for qemu-img */

/* How far a commit is. */
struct commit {
	unsigned int	 begun;		/* times */
	unsigned int	 polls;
	unsigned long long cur, end;	/* as the job said last */
	int64_t		 forward;	/* when it came forward last */
};

static int
begin_commit(virDomainPtr dom, const struct journal_overlay *o, struct commit *c, struct err *err)
{
	int rc;

	if (c->begun == COMMITS_MAX)
		return (err_set(err, 0, "disk %s: the commit of %s did not come forward, %u times", o->target, o->overlay, c->begun));
	c->begun++;
	c->cur = c->end = 0;
	c->forward = deadline_now();
	hypervisor_deadline(CALL_SECONDS, "begin the commit of an overlay");
	rc = virDomainBlockCommit(dom, o->target, NULL, NULL, 0, VIR_DOMAIN_BLOCK_COMMIT_SHALLOW | VIR_DOMAIN_BLOCK_COMMIT_ACTIVE);
	hypervisor_met();
	return (rc == -1 ? hypervisor_failed(err, "disk %s: the commit of %s could not be begun", o->target, o->overlay) : 0);
}

/* The job runs: see that it comes forward; pivot when it is ready.  A pivot that is refused is tried again with the next poll. */
static int
watch_commit(const struct settle *s, virDomainPtr dom, struct journal_overlay *o, bool ready, struct commit *c, struct err *err)
{
	virDomainBlockJobInfo info;
	char text[512];

	if (ready && !o->pivoting) {
		o->pivoting = true;
		if (journal_save(s->journal, err) == -1)
			return (-1);
	}
	hypervisor_deadline(CALL_SECONDS, "pivot a disk to its image");
	if (ready && virDomainBlockJobAbort(dom, o->target, VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT) == 0) {
		hypervisor_met();
		return (0);
	}
	hypervisor_met();
	if (virDomainGetBlockJobInfo(dom, o->target, &info, 0) == 1) {
		if (info.cur > c->cur || info.end - info.cur < c->end - c->cur)
			c->forward = deadline_now();
		c->cur = info.cur;
		c->end = info.end;
	}
	if (++c->polls % QUIET_POLLS == 0 && s->report != NULL) {
		snprintf(text, sizeof(text), "guest %s, disk %s: committing %s: %llu of %llu bytes", s->journal->name, o->target, o->overlay, c->cur,
		    c->end);
		s->report(s->arg, text);
	}
	if (deadline_now() - c->forward < STALL_SECONDS * 1000)
		return (0);
	virDomainBlockJobAbort(dom, o->target, 0);
	return (c->begun == COMMITS_MAX ? begin_commit(dom, o, c, err) : 0);
}

/* What the domain has for that disk. */
struct seen {
	bool	on_overlay, on_base;
	bool	has_job, ready;
};

static int
look(virDomainPtr dom, unsigned int flags, const struct journal_overlay *o, struct seen *seen, struct err *err)
{
	struct domain_desc d = DOMAIN_DESC_INIT;
	const struct domain_disk *disk;

	*seen = (struct seen){ false, false, false, false };
	if (guest_describe(dom, flags, &d, NULL, err) == -1)
		return (-1);
	if ((disk = domain_disk_find(&d, o->target)) != NULL && disk->source != NULL) {
		seen->on_overlay = strcmp(disk->source, o->overlay) == 0;
		seen->on_base = strcmp(disk->source, o->base) == 0;
		seen->has_job = disk->has_mirror;
		seen->ready = disk->mirror_ready;
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

/*
 * The domain, or its disk, is gone, so that nothing says which of the two files is newer.  Before the pivot was begun it is the overlay;
 * after that it may be the base, which an older overlay must not be written over.
 */
static int
commit_unknown(const struct journal_overlay *o, struct err *err)
{
	if (o->pivoting && access(o->overlay, F_OK) == 0)
		return (err_set(err, 0, "disk %s is no longer in the domain, so it cannot be told whether %s is newer than %s: commit it with qemu-img, or "
		    "remove it", o->target, o->overlay, o->base));
	return (commit_offline(o, err));
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

/* The last step: nothing may name it, then it goes. */
static int
remove_overlay(virDomainPtr dom, bool active, const struct journal_overlay *o, struct err *err)
{
	bool named = false;

	if (dom != NULL && active && is_named(dom, 0, o->overlay, &named, err) == -1)
		return (-1);
	if (named)
		return (err_set(err, 0, "%s is still used by the guest", o->overlay));
	if (dom != NULL && virDomainIsPersistent(dom) == 1) {
		if (is_named(dom, VIR_DOMAIN_XML_INACTIVE, o->overlay, &named, err) == -1 || (named && redefine(dom, o, err) == -1) ||
		    is_named(dom, VIR_DOMAIN_XML_INACTIVE, o->overlay, &named, err) == -1)
			return (-1);
		if (named)
			return (err_set(err, 0, "%s is still in the guest's persistent XML", o->overlay));
	}
	return (unlink(o->overlay) == -1 && errno != ENOENT ? err_set(err, errno, "cannot remove %s", o->overlay) : 0);
}

/* The guest does not run, or is not there (${dom} NULL). */
static int
step_inactive(virDomainPtr dom, const struct journal_overlay *o, struct err *err)
{
	struct seen seen = { false, false, false, false };
	int rc;

	if (dom != NULL && look(dom, VIR_DOMAIN_XML_INACTIVE, o, &seen, err) == -1)
		return (-1);
	if (seen.on_overlay)
		rc = commit_offline(o, err);
	else
		rc = seen.on_base ? 0 : commit_unknown(o, err);
	return (rc == 0 && remove_overlay(dom, false, o, err) == 0 ? 1 : -1);
}

static int
step_active(const struct settle *s, virDomainPtr dom, struct journal_overlay *o, struct commit *c, struct err *err)
{
	struct seen seen;

	if (look(dom, 0, o, &seen, err) == -1)
		return (-1);
	if (seen.has_job)
		return (watch_commit(s, dom, o, seen.ready, c, err));
	if (seen.on_overlay)
		return (begin_commit(dom, o, c, err));
	if (!seen.on_base && commit_unknown(o, err) == -1)
		return (-1);
	return (remove_overlay(dom, true, o, err) == 0 ? 1 : -1);
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
	return (r == 1 ? 0 : err_wrap(err, "guest %s still runs on %s", s->journal->name, o->overlay));
}
