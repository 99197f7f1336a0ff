/* A running guest through QEMU's own backup job in pull mode (virDomainBackupBegin): its disks as they were are exported over NBD. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "capture.h"
#include "scratch_watch.h"
#include "settle.h"
#include "state_dir.h"

#define SOCKET_NAME	"nbd"

/* Text in XML. */
static int
add_escaped(struct buf *b, const char *text, struct err *err)
{
	for (; *text != '\0'; text++) {
		const char *as = *text == '&' ? "&amp;" : *text == '<' ? "&lt;" : *text == '>' ? "&gt;" : *text == '\'' ? "&apos;" : *text == '"' ? "&quot;" : NULL;

		if (buf_add(b, as != NULL ? as : text, as != NULL ? strlen(as) : 1, err) == -1)
			return (-1);
	}
	return (0);
}

static bool
is_chosen(const struct guest *g, const char *target)
{
	for (size_t i = 0; i < g->ndisks; i++)
		if (strcmp(g->disks[i]->target, target) == 0)
			return (true);
	return (false);
}

/* Element by element as in formatbackup.html. */
static int
job_xml(const struct guest *g, struct buf *b, struct err *err)
{
	const struct journal *j = g->journal;
	const char *target;

	if (buf_addf(b, err, "<domainbackup mode='pull'><server transport='unix' socket='") == -1 || add_escaped(b, j->socket, err) == -1 ||
	    buf_addf(b, err, "'/><disks>") == -1)
		return (-1);
	for (size_t i = 0; i < g->desc.ndisks; i++) {
		target = g->desc.disks[i].target;
		if (g->desc.disks[i].source == NULL)
			continue;
		if (buf_addf(b, err, "<disk name='") == -1 || add_escaped(b, target, err) == -1)
			return (-1);
		if (!is_chosen(g, target)) {
			if (buf_addf(b, err, "' backup='no'/>") == -1)
				return (-1);
			continue;
		}
		if (buf_addf(b, err, "' backup='yes' type='file' exportname='") == -1 || add_escaped(b, target, err) == -1 ||
		    buf_addf(b, err, "'><driver type='qcow2'/><scratch file='") == -1 || add_escaped(b, j->scratch, err) == -1 ||
		    buf_addf(b, err, "/") == -1 || add_escaped(b, target, err) == -1 || buf_addf(b, err, "'/></disk>") == -1)
			return (-1);
	}
	return (buf_addf(b, err, "</disks></domainbackup>"));
}

static int
take(void *arg, virDomainPtr dom, struct err *err)
{
	const char *xml = arg;

	return (virDomainBackupBegin(dom, xml, NULL, 0) == -1 ? hypervisor_failed(err, "the backup job could not be begun") : 0);
}

static int
begin_job(struct capture *c, virDomainPtr dom, struct err *err)
{
	struct guest *g = c->guest;
	struct buf xml = BUF_INIT;
	bool taken = false;
	int rc = -1;

	if (job_xml(g, &xml, err) == 0)
		rc = moment_take(&c->moment, g, dom, take, xml.ptr, &taken, err);
	buf_free(&xml);
	if (rc == 0 && (c->watch = scratch_watch_start(c, g->journal->scratch, g->run->job->scratch_max, err)) == NULL)
		rc = -1;
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
	if (journal_save(j, err) == 0 && moment_prepare(&c->moment, g, dom, err) == 0)
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

	return (source_nbd_open(c->guest->journal->socket, d->target, d->source, err));
}

static int
settled(struct capture *c, struct err *err)
{
	return (c->watch == NULL ? 0 : scratch_watch_why(c->watch, c->failed, err));
}

static int
end(struct capture *c, struct err *err)
{
	const struct settle s = { .hv = c->guest->hv, .journal = c->guest->journal };

	scratch_watch_stop(c->watch);
	c->watch = NULL;
	return (settle_backup_job(&s, err));
}

const struct capture_ops capture_backup = { .name = "backup", .begin = begin, .open = open_disk, .settled = settled, .end = end };
