#include "checkpoint.h"

#include <errno.h>
#include <libvirt/virterror.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "domain/xml_doc.h"
#include "domain_job.h"
#include "hypervisor.h"
#include "journal.h"

#define PREFIX		"openvirt-backup."
#define CALL_SECONDS	120		/* for one call into QEMU */

void
checkpoint_name(const char *job, const char *token, char out[CHECKPOINT_NAME_LEN])
{
	snprintf(out, CHECKPOINT_NAME_LEN, PREFIX "%s.%s", job, token);
}

void
checkpoint_member(const char *name, char out[INDEX_NAME_LEN])
{
	snprintf(out, INDEX_NAME_LEN, "checkpoint-%s.xml", name);
}

/* A job's name may hold dots; a token has none. */
bool
checkpoint_is_of_job(const char *name, const char *job)
{
	size_t n = strlen(job);

	if (strncmp(name, PREFIX, strlen(PREFIX)) != 0)
		return (false);
	name += strlen(PREFIX);
	return (strncmp(name, job, n) == 0 && name[n] == '.' && strlen(name + n + 1) == JOURNAL_TOKEN_LEN - 1 &&
	    strspn(name + n + 1, "0123456789abcdef") == JOURNAL_TOKEN_LEN - 1);
}

bool
checkpoint_possible(const struct domain_disk *d)
{
	return (strcmp(d->format, "qcow2") == 0);
}

static int
get_xml(virDomainCheckpointPtr cp, const char *name, struct buf *xml, struct err *err)
{
	char *text = virDomainCheckpointGetXMLDesc(cp, VIR_DOMAIN_CHECKPOINT_XML_NO_DOMAIN);
	int rc;

	if (text == NULL)
		return (hypervisor_failed(err, "cannot get the XML of the checkpoint %s", name));
	rc = buf_add(xml, text, strlen(text), err);
	free(text);
	return (rc);
}

int
checkpoint_get(virDomainPtr dom, const char *name, struct buf *xml, struct err *err)
{
	virDomainCheckpointPtr cp = virDomainCheckpointLookupByName(dom, name, 0);
	int rc;

	if (cp == NULL)
		return (virGetLastErrorCode() == VIR_ERR_NO_DOMAIN_CHECKPOINT ? 0 : hypervisor_failed(err, "cannot look for the checkpoint %s", name));
	rc = get_xml(cp, name, xml, err);
	virDomainCheckpointFree(cp);
	return (rc == -1 ? -1 : 1);
}

static xmlNodePtr
first_disk(xmlDocPtr doc)
{
	return (xml_first(xml_first(xmlDocGetRootElement(doc), "disks"), "disk"));
}

/* For free(); NULL when it has none. */
static char *
name_of(xmlNodePtr disk)
{
	char *name = NULL;

	return (xml_attribute(disk, "name", &name, &(struct err)ERR_INIT) == -1 ? NULL : name);
}

bool
checkpoint_has_disk(const char *xml, size_t len, const char *target)
{
	struct err ignored = ERR_INIT;
	xmlDocPtr doc = xml_doc_parse(xml, len, "domaincheckpoint", &ignored);
	bool has = false;

	if (doc == NULL)
		return (false);
	for (xmlNodePtr d = first_disk(doc); d != NULL && !has; d = xml_next(d, "disk"))
		has = xml_attribute_is(d, "name", target) && xml_attribute_is(d, "checkpoint", "bitmap");
	xmlFreeDoc(doc);
	return (has);
}

/* libvirt 9.0 dies when a backup job cannot be begun and a checkpoint is deleted meanwhile; with a job that runs, it refuses. */
static int
is_possible(virDomainPtr dom, struct err *err)
{
	enum domain_job job;
	int r;

	hypervisor_deadline(CALL_SECONDS, "tell whether the guest has a job");
	r = domain_job_get(dom, &job, err);
	hypervisor_met();
	if (r == 0 && job == DOMAIN_JOB_BACKUP)
		r = err_plain(err, EBUSY, "the guest has a backup job: no checkpoint can be deleted before it ends");
	return (r);
}

/* libvirt's record of it only. */
static int
forget(virDomainCheckpointPtr cp, const char *name, struct err *err)
{
	return (virDomainCheckpointDelete(cp, VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY) == -1 ?
	    hypervisor_failed(err, "libvirt cannot forget the checkpoint %s", name) : 0);
}

/* A record of a checkpoint whose bitmaps may be there. */
static virDomainCheckpointPtr
define(virDomainPtr dom, const char *name, time_t t, const char *const *targets, size_t n, unsigned int flags, struct err *err)
{
	virDomainCheckpointPtr cp = NULL;
	struct buf xml = BUF_INIT;
	size_t i = 0;
	int rc;

	rc = buf_addf(&xml, err, "<domaincheckpoint><name>");
	if (rc == 0)
		rc = xml_escape(&xml, name, err);
	if (rc == 0)
		rc = buf_addf(&xml, err, "</name><creationTime>%lld</creationTime><disks>", (long long)t);
	for (; i < n && rc == 0; i++)
		if ((rc = buf_addf(&xml, err, "<disk checkpoint='bitmap' name='")) == 0 && (rc = xml_escape(&xml, targets[i], err)) == 0)
			rc = buf_addf(&xml, err, "'/>");
	if (rc == 0 && buf_addf(&xml, err, "</disks></domaincheckpoint>") == 0 &&
	    (cp = virDomainCheckpointCreateXML(dom, xml.ptr, VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE | flags)) == NULL)
		hypervisor_failed(err, "libvirt does not take the checkpoint %s back", name);
	buf_free(&xml);
	return (cp);
}

int
checkpoint_recover(virDomainPtr dom, const char *name, time_t t, const char *const *targets, size_t n, struct err *err)
{
	virDomainCheckpointPtr cp;

	if (n == 0)
		return (err_set(err, 0, "no disk has a bitmap of the checkpoint %s", name));
	hypervisor_deadline(CALL_SECONDS, "take a checkpoint back");
	cp = define(dom, name, t, targets, n, VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE_VALIDATE, err);
	hypervisor_met();
	if (cp == NULL)
		return (-1);
	virDomainCheckpointFree(cp);
	return (0);
}

/*
 * libvirt deletes all of a checkpoint or nothing, and only what it has a record of: so each disk's bitmap is recorded and deleted by itself.
 */
static int
purge(virDomainPtr dom, const char *name, const char *const *targets, size_t n, struct err *err)
{
	virDomainCheckpointPtr cp;
	int rc = 0;

	for (size_t i = 0; i < n && rc == 0; i++) {
		/* A disk that is no longer there has nothing to delete. */
		if ((cp = define(dom, name, 0, &targets[i], 1, 0, err)) == NULL)
			continue;
		if (virDomainCheckpointDelete(cp, 0) == -1)
			rc = forget(cp, name, err);
		virDomainCheckpointFree(cp);
	}
	return (rc);
}

int
checkpoint_purge(virDomainPtr dom, const char *name, const char *const *targets, size_t n, struct err *err)
{
	int rc = is_possible(dom, err);

	hypervisor_deadline(CALL_SECONDS, "delete the bitmaps of a checkpoint");
	if (rc == 0 && virDomainIsActive(dom) == 1)
		rc = purge(dom, name, targets, n, err);
	hypervisor_met();
	return (rc);
}

/* Some of its bitmaps are gone, with a QEMU that was killed or with an image that was replaced. */
static int
delete_rest(virDomainPtr dom, virDomainCheckpointPtr cp, const char *name, struct err *err)
{
	const char **targets = NULL;
	struct buf xml = BUF_INIT;
	xmlDocPtr doc = NULL;
	xmlNodePtr d;
	size_t n = 0;
	int rc = -1;

	if (get_xml(cp, name, &xml, err) == -1 || (doc = xml_doc_parse(xml.ptr, xml.len, "domaincheckpoint", err)) == NULL)
		goto out;
	for (d = first_disk(doc); d != NULL; d = xml_next(d, "disk"))
		n++;
	if ((targets = calloc(n + 1, sizeof(*targets))) == NULL) {
		err_nomem(err);
		goto out;
	}
	n = 0;
	for (d = first_disk(doc); d != NULL; d = xml_next(d, "disk"))
		if (xml_attribute_is(d, "checkpoint", "bitmap") && (targets[n] = name_of(d)) != NULL)
			n++;
	if ((rc = forget(cp, name, err)) == 0)
		rc = purge(dom, name, targets, n, err);
out:
	for (size_t i = 0; targets != NULL && i < n; i++)
		free((char *)(uintptr_t)targets[i]);
	free(targets);
	xmlFreeDoc(doc);
	buf_free(&xml);
	return (rc);
}

static int
delete_one(virDomainPtr dom, virDomainCheckpointPtr cp, const char *name, struct err *err)
{
	int rc, active;

	hypervisor_deadline(CALL_SECONDS, "delete a checkpoint");
	if ((rc = virDomainCheckpointDelete(cp, 0)) == -1) {
		hypervisor_failed(err, "the checkpoint %s could not be deleted", name);
		active = virDomainIsActive(dom);
		/* Of a guest that is shut off libvirt could only forget it, and nobody would know the bitmaps any longer. */
		if (active == 0)
			rc = 0;
		else if (active == 1)
			rc = delete_rest(dom, cp, name, err);
	}
	hypervisor_met();
	return (rc);
}

int
checkpoint_delete(virDomainPtr dom, const char *name, struct err *err)
{
	virDomainCheckpointPtr cp = virDomainCheckpointLookupByName(dom, name, 0);
	int rc;

	if (cp == NULL)
		return (virGetLastErrorCode() == VIR_ERR_NO_DOMAIN_CHECKPOINT ? 0 : hypervisor_failed(err, "cannot look for the checkpoint %s", name));
	rc = is_possible(dom, err) == -1 ? err_wrap(err, "the checkpoint %s could not be deleted", name) : delete_one(dom, cp, name, err);
	virDomainCheckpointFree(cp);
	return (rc);
}

/* Somebody else may have begun a job meanwhile, which is in nobody's way when there is nothing to delete. */
static int
delete_other(virDomainPtr dom, virDomainCheckpointPtr cp, const char *job, const char *keep, struct err *err)
{
	const char *name = virDomainCheckpointGetName(cp);

	if (name == NULL || !checkpoint_is_of_job(name, job) || strcmp(name, keep) == 0)
		return (0);
	return (is_possible(dom, err) == -1 ? err_wrap(err, "the checkpoint %s could not be deleted", name) : delete_one(dom, cp, name, err));
}

int
checkpoint_delete_others(virDomainPtr dom, const char *job, const char *keep, struct err *err)
{
	virDomainCheckpointPtr *all = NULL;
	int n, rc = 0;

	if ((n = virDomainListAllCheckpoints(dom, &all, 0)) == -1)
		return (hypervisor_failed(err, "cannot list the checkpoints of the domain"));
	for (int i = 0; i < n; i++) {
		if (rc == 0)
			rc = delete_other(dom, all[i], job, keep, err);
		virDomainCheckpointFree(all[i]);
	}
	free(all);
	return (rc);
}
