#include "backup_domain.h"

#include <errno.h>
#include <libvirt/virterror.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "archive/index.h"
#include "capture.h"
#include "settle.h"
#include "target_room.h"

#define CALL_SECONDS	120		/* for calls into QEMU */
#define STARTS_OVER	2u		/* a guest that is started or stopped meanwhile is begun again so often */

/* Whether QEMU and libvirt of this host can do it: 1, 0, or -1. */
static int
can_backup(struct guest *g, struct err *err)
{
	char *caps = NULL;
	virDomainPtr dom;
	bool lost = true;
	int can;

	/* A connection that is lost says nothing about that: the next one does. */
	for (int i = 0; i < 2 && caps == NULL && lost; i++) {
		if ((dom = guest_domain(g, err)) == NULL)
			return (-1);
		caps = virConnectGetDomainCapabilities(virDomainGetConnect(dom), g->desc.emulator, NULL, NULL, NULL, 0);
		lost = caps == NULL && virGetLastErrorCode() != VIR_ERR_NO_SUPPORT;
		if (lost)
			hypervisor_failed(err, "cannot tell what libvirt can do");
		virDomainFree(dom);
	}
	can = caps != NULL && strstr(caps, "<backup supported='yes'/>") != NULL;
	free(caps);
	return (lost ? -1 : can);
}

static const struct capture_ops *
choose_method(struct guest *g, struct err *err)
{
	int can;

	switch (g->run->job->capture) {
	case CONF_CAPTURE_OFFLINE:
		if (!g->active)
			return (&capture_offline);
		err_set(err, 0, "the guest runs, and the job has capture = \"offline\": shut it off, or let the job choose (\"auto\")");
		return (NULL);
	case CONF_CAPTURE_SNAPSHOT:
		return (g->active ? &capture_snapshot : &capture_offline);
	case CONF_CAPTURE_BACKUP:
		return (g->active ? &capture_backup : &capture_offline);
	case CONF_CAPTURE_AUTO:
	default:
		if (!g->active)
			return (&capture_offline);
		can = can_backup(g, err);
		return (can == -1 ? NULL : can ? &capture_backup : &capture_snapshot);
	}
}

/* What the disks have allocated; 0 for one of which libvirt cannot tell. */
static uint64_t
allocated(struct guest *g)
{
	struct err ignored = ERR_INIT;
	virDomainPtr dom = guest_domain(g, &ignored);
	virDomainBlockInfo info;
	uint64_t sum = 0;

	hypervisor_deadline(CALL_SECONDS, "tell the size of a guest's disks");
	for (size_t i = 0; dom != NULL && i < g->ndisks; i++)
		if (virDomainGetBlockInfo(dom, g->disks[i]->target, &info, 0) == 0)
			sum += info.allocation;
	hypervisor_met();
	if (dom != NULL)
		virDomainFree(dom);
	return (sum);
}

static int
store_disks(struct capture *c, struct point_store *ps, struct err *err)
{
	char member[INDEX_NAME_LEN];
	const struct domain_disk *d;
	struct source *s;
	int rc = 0;

	for (size_t i = 0; i < c->guest->ndisks && rc == 0; i++) {
		d = c->guest->disks[i];
		if ((size_t)snprintf(member, sizeof(member), "%s.img", d->target) >= sizeof(member))
			return (err_set(err, 0, "the name of disk %.40s... is too long", d->target));
		if (backup_stopped(c->guest->run, err) == -1 || (s = c->ops->open(c, i, err)) == NULL)
			return (-1);
		if (s->why_all != NULL)
			point_store_note(ps, "%s: everything allocated was read, because no bitmap tells what changed: %s", d->target, s->why_all);
		rc = point_store_disk(ps, d->target, member, d->format, s, err);
		if (rc == 0)
			rc = source_settled(s, err);
		source_close(s);
	}
	return (rc);
}

/* As libvirt has it, for one that loses it. */
static int
store_checkpoint(struct guest *g, struct point_store *ps, const char *name, struct err *err)
{
	char member[INDEX_NAME_LEN];
	virDomainPtr dom = guest_domain(g, err);
	struct buf xml = BUF_INIT;
	int rc;

	if (dom == NULL)
		return (-1);
	checkpoint_member(name, member);
	rc = checkpoint_get(dom, name, &xml, err);
	if (rc == 1)
		rc = point_store_member(ps, member, xml.ptr, xml.len, err);
	buf_free(&xml);
	virDomainFree(dom);
	return (rc == -1 ? -1 : 0);
}

static int
store(struct capture *c, struct point_store *ps, struct err *err)
{
	struct guest *g = c->guest;

	if (g->skipped != NULL)
		point_store_note(ps, "%s", g->skipped);
	if (g->active && c->moment.why[0] != '\0')
		point_store_note(ps, "not quiesced: %s", c->moment.why);
	if (c->why_none[0] != '\0')
		point_store_note(ps, "no checkpoint was made, so that the next run may have to read more: %s", c->why_none);
	if (c->checkpoint[0] != '\0' && store_checkpoint(g, ps, c->checkpoint, err) == -1)
		return (-1);
	if (guest_store_members(g, ps, err) == -1 || store_disks(c, ps, err) == -1)
		return (-1);
	return (point_store_finish(ps, err));
}

/* Read it all, and leave the guest as it was.  What failed first is what is told. */
static int
capture_and_store(struct capture *c, struct point_store **ps, struct domain_result *result, struct err *err)
{
	struct err why = ERR_INIT;
	int rc;

	rc = c->ops->begin(c, err);
	/* The guest needs no guard any longer, unless it could not be thawed. */
	moment_end(&c->moment, c->guest);
	if (rc == 0 && (*ps = point_store_begin(c->guest->run, c->guest->name, c->chain, c->moment.time, err)) == NULL)
		rc = -1;
	if (rc == 0)
		rc = store(c, *ps, err);
	/* A source that failed may not know why. */
	c->failed = rc == -1;
	if (c->ops->settled(c, &why) == -1) {
		*err = why;
		rc = -1;
	}
	if (c->ops->end(c, &why) == -1) {
		snprintf(result->unsettled, sizeof(result->unsettled), "%.*s", (int)sizeof(result->unsettled) - 1, why.text);
		journal_save(c->guest->journal, &(struct err)ERR_INIT);
	}
	return (rc);
}

static int
publish(struct capture *c, struct point_store *ps, struct domain_result *result, struct err *err)
{
	const struct moment *m = &c->moment;
	struct point_facts facts = { .uuid = c->guest->uuid, .capture = c->ops->name, .freeze_ms = m->why[0] == '\0' ? m->freeze_ms : -1 };

	/* Without one of its own, the earlier point's will do, with what differs between the two (inherited.h). */
	facts.checkpoint = c->checkpoint[0] != '\0' ? c->checkpoint : c->chain->set != NULL ? c->chain->manifest.checkpoint : NULL;
	facts.consistency = !c->guest->active ? "offline" : m->why[0] == '\0' ? "quiesced" : "crash-consistent";
	result->capture = facts.capture;
	result->freeze_ms = facts.freeze_ms;
	result->own_ms = m->own_ms;
	snprintf(result->why, sizeof(result->why), "%s", m->why);
	return (point_store_publish(ps, &facts, &result->point, err));
}

/* The point is there, and names the new one. */
static int
replace_checkpoint(const struct capture *c, struct err *err)
{
	struct guest *g = c->guest;
	const char *job = g->run->job->name, *before = c->chain->manifest.checkpoint, **targets;
	virDomainPtr dom;
	size_t n;
	int rc;

	free(g->journal->checkpoint);
	free(g->journal->repository);
	g->journal->checkpoint = g->journal->repository = NULL;
	if (journal_save(g->journal, err) == -1 || (dom = guest_domain(g, err)) == NULL)
		return (-1);
	rc = checkpoint_delete_others(dom, job, c->checkpoint, err);
	/* Bitmaps that nobody would ever delete: an unsound one keeps a disk from being resized. */
	if (rc == 0 && c->lost && checkpoint_is_of_job(before, job)) {
		if ((targets = capture_targets(c, &n, err)) == NULL)
			rc = -1;
		else
			rc = checkpoint_purge(dom, before, targets, n, err);
		free(targets);
	}
	virDomainFree(dom);
	return (rc);
}

/* The chain advances after publication only: then the new checkpoint stays and the job's older ones go, else it is the other way round. */
static void
advance_checkpoint(struct capture *c, bool published, struct domain_result *result)
{
	const struct settle s = { .hv = c->guest->hv, .journal = c->guest->journal };
	struct err why = ERR_INIT;
	int rc;

	if (published && c->checkpoint[0] != '\0')
		rc = replace_checkpoint(c, &why);
	else
		rc = settle_checkpoint(&s, &why);
	if (rc == -1 && result->unsettled[0] == '\0')
		snprintf(result->unsettled, sizeof(result->unsettled), "%s", why.text);
}

static int
back_up(struct guest *g, struct domain_result *result, struct err *err)
{
	struct chain chain = CHAIN_INIT;
	struct capture c = { .guest = g, .moment = MOMENT_INIT, .chain = &chain };
	struct point_store *ps = NULL;
	bool settled;
	int rc = -1;

	if ((c.ops = choose_method(g, err)) == NULL || target_room(g->run, g->name, allocated(g), err) == -1)
		return (-1);
	if ((g->journal = journal_begin(g->hv->uri, g->name, g->uuid, err)) == NULL)
		return (-1);
	point_store_chain(g->run, g->name, g->uuid, &chain);
	if (capture_and_store(&c, &ps, result, err) == 0)
		rc = publish(&c, ps, result, err);
	point_store_end(ps);
	advance_checkpoint(&c, rc == 0, result);
	chain_close(&chain);
	settled = result->unsettled[0] == '\0' && !g->journal->frozen;
	if (g->journal->frozen)
		snprintf(result->unsettled, sizeof(result->unsettled), "the guest may be frozen: a guard goes on trying to thaw it");
	journal_end(g->journal, settled);
	g->journal = NULL;
	return (rc);
}

/* A run that died left something undone for this guest: that comes first. */
static int
settle_before(const char *uuid, void (*report)(void *arg, const char *text), void *arg, struct err *err)
{
	struct err why = ERR_INIT;
	struct journal *j = journal_resume(uuid, &why);
	struct settle s = { .journal = j, .report = report, .arg = arg };
	int rc = -1;

	if (j == NULL && why.code == ENOENT)
		return (0);
	if (j == NULL) {
		*err = why;
		return (-1);
	}
	if ((s.hv = hypervisor_open(j->uri, err)) != NULL)
		rc = settle_all(&s, err);
	hypervisor_close(s.hv);
	journal_end(j, rc == 0);
	return (rc == -1 ? err_wrap(err, "what an earlier run had begun is not settled yet") : 0);
}

int
backup_domain(const struct backup_run *run, struct hypervisor *hv, const char *uuid, struct domain_result *result,
    void (*report)(void *arg, const char *text), void *arg, struct err *err)
{
	struct guest *g;
	bool was_active;
	int rc = -1;

	memset(result, 0, sizeof(*result));
	if (settle_before(uuid, report, arg, err) == -1)
		return (-1);
	for (unsigned int i = 0; i <= STARTS_OVER && rc == -1; i++) {
		if ((g = guest_open(run, hv, uuid, err)) == NULL)
			return (-1);
		g->report = report;
		g->report_arg = arg;
		was_active = g->active;
		rc = back_up(g, result, err);
		/* Read while it was shut off, and started meanwhile: what was read is of no use, and the running guest can be backed up. */
		if (rc == -1 && !was_active && !*run->interrupted && run->job->capture != CONF_CAPTURE_OFFLINE && result->unsettled[0] == '\0' &&
		    guest_is_active(g, &g->active, &(struct err)ERR_INIT) == 0 && g->active)
			report(arg, "the guest was started while its disks were read: starting over with the running guest");
		else
			i = STARTS_OVER;
		guest_close(g);
	}
	return (rc);
}
