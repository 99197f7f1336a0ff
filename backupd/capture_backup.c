/* A running guest through QEMU's own backup job in pull mode (virDomainBackupBegin): its disks as they were are exported over NBD. */
#include <libvirt/virterror.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "capture.h"
#include "domain/xml_doc.h"
#include "scratch_watch.h"
#include "settle.h"
#include "state_dir.h"

#define SOCKET_NAME	"nbd"

/* The place of a disk among those that are backed up. */
static size_t
disk_number(const struct guest *g, const char *target)
{
	size_t i = 0;

	while (i < g->ndisks && strcmp(g->disks[i]->target, target) != 0)
		i++;
	return (i);
}

/* Element by element as in formatbackup.html; ${since} is a checkpoint, or NULL: then no bitmap is asked for. */
static int
job_xml(const struct capture *c, const char *since, struct buf *b, struct err *err)
{
	const struct guest *g = c->guest;
	const struct journal *j = g->journal;
	const char *target;
	size_t n;

	if (buf_addf(b, err, "<domainbackup mode='pull'><server transport='unix' socket='") == -1 || xml_escape(b, j->socket, err) == -1 ||
	    buf_addf(b, err, "'/><disks>") == -1)
		return (-1);
	for (size_t i = 0; i < g->desc.ndisks; i++) {
		target = g->desc.disks[i].target;
		if (g->desc.disks[i].source == NULL)
			continue;
		if (buf_addf(b, err, "<disk name='") == -1 || xml_escape(b, target, err) == -1)
			return (-1);
		if ((n = disk_number(g, target)) == g->ndisks) {
			if (buf_addf(b, err, "' backup='no'/>") == -1)
				return (-1);
			continue;
		}
		if (buf_addf(b, err, "' backup='yes' type='file'") == -1)
			return (-1);
		if (since != NULL && c->since[n] && (buf_addf(b, err, " backupmode='incremental' incremental='") == -1 ||
		    xml_escape(b, since, err) == -1 || buf_addf(b, err, "'") == -1))
			return (-1);
		if (since != NULL && !c->since[n] && buf_addf(b, err, " backupmode='full'") == -1)
			return (-1);
		if (buf_addf(b, err, " exportname='") == -1 || xml_escape(b, target, err) == -1 ||
		    buf_addf(b, err, "'><driver type='qcow2'/><scratch file='") == -1 || xml_escape(b, j->scratch, err) == -1 ||
		    buf_addf(b, err, "/") == -1 || xml_escape(b, target, err) == -1 || buf_addf(b, err, "'/></disk>") == -1)
			return (-1);
	}
	return (buf_addf(b, err, "</disks></domainbackup>"));
}

/* Of the disks that can have one. */
static int
checkpoint_xml(const struct capture *c, struct buf *b, struct err *err)
{
	const struct guest *g = c->guest;
	const char *target;
	size_t n;

	if (buf_addf(b, err, "<domaincheckpoint><name>") == -1 || xml_escape(b, c->checkpoint, err) == -1 || buf_addf(b, err, "</name><disks>") == -1)
		return (-1);
	for (size_t i = 0; i < g->desc.ndisks; i++) {
		target = g->desc.disks[i].target;
		if (g->desc.disks[i].source == NULL)
			continue;
		n = disk_number(g, target);
		if (buf_addf(b, err, "<disk name='") == -1 || xml_escape(b, target, err) == -1 ||
		    buf_addf(b, err, "' checkpoint='%s'/>", n < g->ndisks && checkpoint_possible(g->disks[n]) ? "bitmap" : "no") == -1)
			return (-1);
	}
	return (buf_addf(b, err, "</disks></domaincheckpoint>"));
}

/* What is begun: with the bitmap since the last checkpoint, or else without, or at last without a new checkpoint either. */
struct attempt {
	struct capture	*c;
	struct buf	 since, full, checkpoint;	/* empty: not to be tried */
};

/*
 * libvirt says of which disk it has found no sound bitmap ("missing or broken bitmap 'NAME' for disk 'vdb'"): that one is read, and the others not.
 * Returns whether there are others.
 */
static bool
leave_out(struct attempt *a, const char *said)
{
	const struct guest *g = a->c->guest;
	struct err ignored = ERR_INIT;
	bool found = false, any = false;
	char quoted[300];

	for (size_t i = 0; i < g->ndisks; i++) {
		snprintf(quoted, sizeof(quoted), "'%s'", g->disks[i]->target);
		if (a->c->since[i] && strstr(said, quoted) != NULL) {
			a->c->since[i] = false;
			found = true;
		}
		any = any || a->c->since[i];
	}
	a->since.len = 0;
	return (found && any && job_xml(a->c, a->c->chain->manifest.checkpoint, &a->since, &ignored) == 0);
}

/* With the bitmaps that are sound.  Returns whether it has begun. */
static bool
take_since(struct attempt *a, virDomainPtr dom, const char *checkpoint)
{
	struct capture *c = a->c;

	do {
		if (virDomainBackupBegin(dom, a->since.ptr, checkpoint, 0) == 0)
			return (true);
		snprintf(c->why_read, sizeof(c->why_read), "%s", virGetLastErrorMessage());
	} while (virGetLastErrorCode() == VIR_ERR_CHECKPOINT_INCONSISTENT && leave_out(a, c->why_read));
	free(c->since);
	c->since = NULL;
	return (false);
}

/* What AppArmor and SELinux refuse, and what folders' modes do, looks the same from here. */
static int
not_begun(const struct capture *c, struct err *err)
{
	size_t n;

	hypervisor_failed(err, "the backup job could not be begun");
	if (strstr(err->text, "Permission denied") == NULL)
		return (-1);
	n = strlen(err->text);
	snprintf(err->text + n, sizeof(err->text) - n, "; QEMU has to be let at %s and %s: see Permissions in virt-backupd(8), also for AppArmor",
	    c->guest->journal->folder, c->guest->journal->scratch);
	return (-1);
}

static int
take(void *arg, virDomainPtr dom, struct err *err)
{
	struct attempt *a = arg;
	struct capture *c = a->c;
	const char *checkpoint = a->checkpoint.len > 0 ? a->checkpoint.ptr : NULL;

	if (a->since.len > 0 && take_since(a, dom, checkpoint))
		return (0);
	if (checkpoint != NULL) {
		if (virDomainBackupBegin(dom, a->full.ptr, checkpoint, 0) == 0)
			return (0);
		snprintf(c->why_none, sizeof(c->why_none), "%s", virGetLastErrorMessage());
		c->checkpoint[0] = '\0';
	}
	return (virDomainBackupBegin(dom, a->full.ptr, NULL, 0) == -1 ? not_begun(c, err) : 0);
}

/* It has no record of the checkpoint, as after "virsh undefine", though the images may have its bitmaps.  Returns whether it has it again. */
static int
recover(const struct capture *c, virDomainPtr dom, const char *since, struct buf *xml, struct err *err)
{
	struct err why = ERR_INIT;
	const char **targets;
	size_t n;
	int r = 0;

	if (!checkpoint_is_of_job(since, c->guest->run->job->name))
		return (0);
	if ((targets = capture_targets(c, &n, err)) == NULL)
		return (-1);
	if (checkpoint_recover(dom, since, c->chain->manifest.time, targets, n, &why) == 0)
		r = checkpoint_get(dom, since, xml, err);
	free(targets);
	return (r);
}

/* For which disks the chain's checkpoint, if libvirt still has it, tells what changed. */
static int
plan_since(struct capture *c, virDomainPtr dom, bool *any, struct err *err)
{
	const struct guest *g = c->guest;
	const char *since = c->chain->set != NULL ? c->chain->manifest.checkpoint : NULL;
	struct buf xml = BUF_INIT;
	int r = 0;

	*any = false;
	if (since == NULL)
		return (0);
	if ((c->since = calloc(g->ndisks, sizeof(*c->since))) == NULL)
		return (err_nomem(err));
	if ((r = checkpoint_get(dom, since, &xml, err)) == 0)
		r = recover(c, dom, since, &xml, err);
	if (r == 1) {
		for (size_t i = 0; i < g->ndisks; i++) {
			c->since[i] = capture_trusts(c, i) && checkpoint_has_disk(xml.ptr, xml.len, g->disks[i]->target);
			*any = *any || c->since[i];
		}
	} else if (r == 0) {
		c->lost = true;
		snprintf(c->why_read, sizeof(c->why_read), "libvirt has lost the checkpoint %s", since);
	}
	buf_free(&xml);
	return (r == -1 ? -1 : 0);
}

/* The checkpoint to be made, in the journal before it is. */
static int
plan_checkpoint(struct capture *c, struct err *err)
{
	const struct guest *g = c->guest;
	bool possible = false;

	for (size_t i = 0; i < g->ndisks; i++)
		possible = possible || checkpoint_possible(g->disks[i]);
	if (!possible || !g->run->job->incremental || !g->persistent)
		return (0);
	checkpoint_name(g->run->job->name, g->journal->token, c->checkpoint);
	g->journal->checkpoint = strdup(c->checkpoint);
	g->journal->repository = strdup(g->run->repo->st->url);
	return (g->journal->checkpoint == NULL || g->journal->repository == NULL ? err_nomem(err) : 0);
}

static int
begin_job(struct capture *c, virDomainPtr dom, struct err *err)
{
	struct guest *g = c->guest;
	struct attempt a = { .c = c, .since = BUF_INIT, .full = BUF_INIT, .checkpoint = BUF_INIT };
	bool any = false;
	int rc = -1;

	if (plan_since(c, dom, &any, err) == -1 || plan_checkpoint(c, err) == -1 ||
	    (any && job_xml(c, c->chain->manifest.checkpoint, &a.since, err) == -1) || job_xml(c, NULL, &a.full, err) == -1 ||
	    (c->checkpoint[0] != '\0' && checkpoint_xml(c, &a.checkpoint, err) == -1))
		goto out;
	if (journal_save(g->journal, err) == 0 && moment_prepare(&c->moment, g, dom, err) == 0)
		rc = moment_take(&c->moment, g, dom, take, &a, err);
	if (rc == 0 && (c->watch = scratch_watch_start(c, g->journal->scratch, g->run->job->scratch_max, err)) == NULL)
		rc = -1;
out:
	buf_free(&a.since);
	buf_free(&a.full);
	buf_free(&a.checkpoint);
	return (rc);
}

static int
begin(struct capture *c, struct err *err)
{
	struct guest *g = c->guest;
	struct journal *j = g->journal;
	char *scratch = capture_scratch(g, err);
	virDomainPtr dom = NULL;
	int rc = -1;

	if (scratch == NULL || (dom = guest_domain(g, err)) == NULL || capture_folder(c, runtime_dir(), &j->folder, err) == -1 ||
	    capture_folder(c, scratch, &j->scratch, err) == -1 || scratch_room(j->scratch, g->run->job->scratch_max, err) == -1)
		goto out;
	if (asprintf(&j->socket, "%s/" SOCKET_NAME, j->folder) == -1) {
		j->socket = NULL;
		err_nomem(err);
		goto out;
	}
	rc = begin_job(c, dom, err);
out:
	if (dom != NULL)
		virDomainFree(dom);
	free(scratch);
	return (rc);
}

static struct source *
open_disk(struct capture *c, size_t i, struct err *err)
{
	const struct domain_disk *d = c->guest->disks[i];
	bool told = c->since != NULL && c->since[i];
	struct source *s;
	char context[300];

	snprintf(context, sizeof(context), "qemu:dirty-bitmap:backup-%s", d->target);
	s = source_nbd_open(c->guest->journal->socket, d->target, told ? context : NULL, d->source, err);
	if (!told)
		capture_explain(c, i, s);
	return (s);
}

static int
settled(struct capture *c, struct err *err)
{
	return (c->watch == NULL ? 0 : scratch_watch_why(c->watch, c->failed, err));
}

static int
end(struct capture *c, struct err *err)
{
	const struct settle s = { .hv = c->guest->hv, .journal = c->guest->journal, .answered = c->moment.taken };

	scratch_watch_stop(c->watch);
	c->watch = NULL;
	free(c->since);
	c->since = NULL;
	return (settle_backup_job(&s, err));
}

const struct capture_ops capture_backup = { .name = "backup", .begin = begin, .open = open_disk, .settled = settled, .end = end };
