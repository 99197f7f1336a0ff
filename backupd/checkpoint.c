#include "checkpoint.h"

#include <errno.h>
#include <libvirt/virterror.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "domain_job.h"
#include "hypervisor.h"
#include "journal.h"
#include "xml_doc.h"

#define PREFIX		"openvirt-backup."
#define CALL_SECONDS	120		/* for one call into QEMU */

void
checkpoint_name(const char *job, const char *token, char out[CHECKPOINT_NAME_LEN])
{
	snprintf(out, CHECKPOINT_NAME_LEN, PREFIX "%s.%s", job, token);
}

/* A job's name may hold dots; a token has none. */
static bool
is_of_job(const char *name, const char *job)
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

int
checkpoint_get(virDomainPtr dom, const char *name, struct buf *xml, struct err *err)
{
	virDomainCheckpointPtr cp = virDomainCheckpointLookupByName(dom, name, 0);
	char *text;
	int rc;

	if (cp == NULL)
		return (virGetLastErrorCode() == VIR_ERR_NO_DOMAIN_CHECKPOINT ? 0 : hypervisor_failed(err, "cannot look for the checkpoint %s", name));
	text = virDomainCheckpointGetXMLDesc(cp, VIR_DOMAIN_CHECKPOINT_XML_NO_DOMAIN);
	virDomainCheckpointFree(cp);
	if (text == NULL)
		return (hypervisor_failed(err, "cannot get the XML of the checkpoint %s", name));
	rc = buf_add(xml, text, strlen(text), err);
	free(text);
	return (rc == -1 ? -1 : 1);
}

bool
checkpoint_has_disk(const char *xml, size_t len, const char *target)
{
	struct err ignored = ERR_INIT;
	xmlDocPtr doc = xml_doc_parse(xml, len, "domaincheckpoint", &ignored);
	xmlNodePtr disks;
	bool has = false;

	if (doc == NULL)
		return (false);
	disks = xml_first(xmlDocGetRootElement(doc), "disks");
	for (xmlNodePtr d = xml_first(disks, "disk"); d != NULL && !has; d = xml_next(d, "disk"))
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
		r = err_set(err, EBUSY, "the guest has a backup job: no checkpoint can be deleted before it ends");
	return (r);
}

static int
delete_one(virDomainCheckpointPtr cp, const char *name, struct err *err)
{
	int rc;

	hypervisor_deadline(CALL_SECONDS, "delete a checkpoint");
	rc = virDomainCheckpointDelete(cp, 0);
	if (rc == -1) {
		hypervisor_failed(err, "the checkpoint %s could not be deleted", name);
		/* Its bitmaps may be gone with a QEMU that was killed. */
		if (virGetLastErrorCode() != VIR_ERR_RPC && virGetLastErrorCode() != VIR_ERR_INVALID_CONN)
			rc = virDomainCheckpointDelete(cp, VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY);
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
	rc = is_possible(dom, err) == -1 ? err_wrap(err, "the checkpoint %s could not be deleted", name) : delete_one(cp, name, err);
	virDomainCheckpointFree(cp);
	return (rc);
}

int
checkpoint_delete_others(virDomainPtr dom, const char *job, const char *keep, struct err *err)
{
	virDomainCheckpointPtr *all = NULL;
	const char *name;
	int n, rc = 0;

	if ((n = virDomainListAllCheckpoints(dom, &all, 0)) == -1)
		return (hypervisor_failed(err, "cannot list the checkpoints of the domain"));
	if (n > 0)
		rc = is_possible(dom, err);
	for (int i = 0; i < n; i++) {
		name = virDomainCheckpointGetName(all[i]);
		if (name != NULL && is_of_job(name, job) && strcmp(name, keep) != 0 && rc == 0 && delete_one(all[i], name, err) == -1)
			rc = -1;
		virDomainCheckpointFree(all[i]);
	}
	free(all);
	return (rc);
}
