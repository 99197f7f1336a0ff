/* A running guest by external snapshots: it goes on in overlays while its images are read, and the overlays are committed into them again. */
#include <libvirt/virterror.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "capture.h"
#include "domain/xml_doc.h"
#include "settle.h"
#include "settle_overlay.h"
#include "state_dir.h"

/* Beside its image; that of a block device among the scratch files. */
static int
overlay_path(struct capture *c, const struct domain_disk *d, char **out, struct err *err)
{
	const char *token = c->guest->journal->token;
	char *scratch;
	int r;

	if (strcmp(d->type, "file") == 0)
		r = asprintf(out, "%s" OVERLAY_MARK "%s-%s.qcow2", d->source, token, d->target);
	else {
		if ((scratch = capture_scratch(c->guest, err)) == NULL || make_folder(scratch, 0711, err) == -1) {
			free(scratch);
			return (-1);
		}
		r = asprintf(out, "%s/%s" OVERLAY_MARK "%s-%s.qcow2", scratch, c->guest->uuid, token, d->target);
		free(scratch);
	}
	if (r == -1) {
		*out = NULL;
		return (err_nomem(err));
	}
	return (0);
}

static int
plan(struct capture *c, const struct domain_disk *d, struct err *err)
{
	struct journal_overlay o = { .target = d->target, .base = d->source, .format = d->format, .block = strcmp(d->type, "block") == 0 };
	int rc;

	if (strcmp(d->type, "file") != 0 && !o.block)
		return (err_set(err, 0, "disk %s is neither a file nor a block device: capture = \"backup\" can read it", d->target));
	if (d->has_mirror)
		return (err_set(err, 0, "disk %s has a block job of somebody else: wait for its end", d->target));
	if (overlay_path(c, d, &o.overlay, err) == -1)
		return (-1);
	rc = journal_add_overlay(c->guest->journal, &o, err);
	free(o.overlay);
	return (rc);
}

/* Element by element as in formatsnapshot.html; libxml2 sees to the paths. */
static int
snapshot_xml(const struct guest *g, struct buf *out, struct err *err)
{
	static const char empty[] = "<domainsnapshot><disks/></domainsnapshot>";
	xmlDocPtr doc = xml_doc_parse(empty, sizeof(empty) - 1, "domainsnapshot", err);
	const struct journal *j = g->journal;
	xmlNodePtr disks, disk, part;
	size_t next = 0;
	int rc = -1;

	if (doc == NULL)
		return (-1);
	disks = xml_first(xmlDocGetRootElement(doc), "disks");
	for (size_t i = 0; i < g->desc.ndisks; i++) {
		bool chosen = next < j->noverlays && strcmp(g->desc.disks[i].target, j->overlays[next].target) == 0;

		if ((disk = xml_add(disks, NULL, "disk", err)) == NULL || xml_set_attribute(disk, "name", g->desc.disks[i].target, err) == -1 ||
		    xml_set_attribute(disk, "snapshot", chosen ? "external" : "no", err) == -1)
			goto out;
		if (!chosen)
			continue;
		if (xml_set_attribute(disk, "type", "file", err) == -1 || (part = xml_add(disk, NULL, "driver", err)) == NULL ||
		    xml_set_attribute(part, "type", "qcow2", err) == -1 || (part = xml_add(disk, NULL, "source", err)) == NULL ||
		    xml_set_attribute(part, "file", j->overlays[next++].overlay, err) == -1)
			goto out;
	}
	rc = xml_doc_write(doc, out, err);
out:
	xmlFreeDoc(doc);
	return (rc);
}

static int
take(void *arg, virDomainPtr dom, struct err *err)
{
	const char *xml = arg;
	virDomainSnapshotPtr snapshot = virDomainSnapshotCreateXML(dom, xml,
	    VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY | VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC | VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA);

	if (snapshot == NULL)
		return (hypervisor_failed(err, "the snapshot could not be made"));
	virDomainSnapshotFree(snapshot);
	return (0);
}

static int
begin(struct capture *c, struct err *err)
{
	struct guest *g = c->guest;
	struct buf xml = BUF_INIT;
	virDomainPtr dom;
	int rc = -1;

	for (size_t i = 0; i < g->ndisks; i++)
		if (plan(c, g->disks[i], err) == -1)
			return (-1);
	if ((dom = guest_domain(g, err)) == NULL)
		return (-1);
	if (snapshot_xml(g, &xml, err) == 0 && moment_prepare(&c->moment, g, dom, err) == 0 && journal_save(g->journal, err) == 0)
		rc = moment_take(&c->moment, g, dom, take, xml.ptr, err);
	virDomainFree(dom);
	buf_free(&xml);
	return (rc);
}

static struct source *
open_disk(struct capture *c, size_t i, struct err *err)
{
	return (capture_image(c, i, NULL, err));
}

static int
settled(struct capture *c, struct err *err)
{
	(void)c;
	(void)err;
	return (0);
}

static int
end(struct capture *c, struct err *err)
{
	const struct settle s = { .hv = c->guest->hv, .journal = c->guest->journal, .answered = c->moment.taken,
		.report = c->guest->report, .arg = c->guest->report_arg };
	struct err why = ERR_INIT;
	int rc;

	capture_stop_servers(c);
	rc = settle_overlays(&s, err);
	if (settle_backup_job(&s, rc == 0 ? err : &why) == -1)
		rc = -1;
	return (rc);
}

const struct capture_ops capture_snapshot = { .name = "snapshot", .begin = begin, .open = open_disk, .settled = settled, .end = end };
