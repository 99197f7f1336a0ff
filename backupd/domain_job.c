#include "domain_job.h"

#include <libvirt/virterror.h>
#include <stdlib.h>
#include <string.h>

#include "hypervisor.h"

static enum domain_job
job_of(int operation)
{
	switch (operation) {
	case VIR_DOMAIN_JOB_OPERATION_BACKUP:
		return (DOMAIN_JOB_BACKUP);
	case VIR_DOMAIN_JOB_OPERATION_SNAPSHOT:
		return (DOMAIN_JOB_SNAPSHOT);
	default:
		return (DOMAIN_JOB_OTHER);
	}
}

int
domain_job_get(virDomainPtr dom, enum domain_job *job, struct err *err)
{
	virTypedParameterPtr params = NULL;
	int type = VIR_DOMAIN_JOB_NONE, n = 0, operation = VIR_DOMAIN_JOB_OPERATION_UNKNOWN;

	*job = DOMAIN_JOB_NONE;
	if (virDomainGetJobStats(dom, &type, &params, &n, 0) == -1) {
		if (virGetLastErrorCode() == VIR_ERR_OPERATION_INVALID)		/* it is shut off */
			return (0);
		return (hypervisor_failed(err, "cannot tell which job the domain has"));
	}
	if (type != VIR_DOMAIN_JOB_NONE) {
		virTypedParamsGetInt(params, n, VIR_DOMAIN_JOB_OPERATION, &operation);
		*job = job_of(operation);
	}
	virTypedParamsFree(params, n);
	return (0);
}

/* The XML of its backup job, or NULL: then *${none} says that there is none. */
static char *
backup_xml(virDomainPtr dom, bool *none, struct err *err)
{
	char *xml = virDomainBackupGetXMLDesc(dom, 0);

	*none = false;
	if (xml != NULL)
		return (xml);
	switch (virGetLastErrorCode()) {
	case VIR_ERR_NO_DOMAIN_BACKUP:
	case VIR_ERR_NO_DOMAIN:
	case VIR_ERR_NO_SUPPORT:
	case VIR_ERR_OPERATION_INVALID:		/* it is shut off */
		*none = true;
		break;
	default:
		hypervisor_failed(err, "cannot tell whether the guest has a backup job");
	}
	return (NULL);
}

int
domain_job_is_backup_of(virDomainPtr dom, const char *token, struct err *err)
{
	bool none;
	char *xml = backup_xml(dom, &none, err);
	int ours;

	if (xml == NULL)
		return (none ? 0 : -1);
	ours = strstr(xml, token) != NULL;
	free(xml);
	return (ours);
}

bool
domain_job_is_being_made(virDomainPtr dom)
{
	struct err ignored = ERR_INIT;
	enum domain_job job;
	bool none;

	if (domain_job_get(dom, &job, &ignored) == -1 || job == DOMAIN_JOB_SNAPSHOT)
		return (true);
	if (job != DOMAIN_JOB_BACKUP)
		return (false);
	free(backup_xml(dom, &none, &ignored));
	return (none);
}
