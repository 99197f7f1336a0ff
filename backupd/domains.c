#include "domains.h"

#include <stdlib.h>
#include <string.h>

#include "machine.h"
#include "repository/naming.h"

static int
compare(const void *a, const void *b)
{
	return (strcmp(((const struct domain_name *)a)->name, ((const struct domain_name *)b)->name));
}

static int
add(virDomainPtr dom, const struct conf_job *job, struct domain_names *out, struct err *err)
{
	const char *name = virDomainGetName(dom);
	struct domain_name *d = &out->v[out->n];

	if (name == NULL || !machine_possible(job, name))
		return (0);
	if (!utf8_valid(name))
		return (err_set(err, 0, "job %s: the name of a domain is not UTF-8, or holds control characters: rename it (virsh domrename)", job->name));
	if (virDomainGetUUIDString(dom, d->uuid) == -1)
		return (hypervisor_failed(err, "cannot get the UUID of domain %s", name));
	if ((d->name = strdup(name)) == NULL)
		return (err_nomem(err));
	out->n++;
	return (0);
}

int
domains_find(struct hypervisor *hv, const struct conf_job *job, struct domain_names *out, struct err *err)
{
	virDomainPtr *all = NULL;
	int n, rc = 0;

	if ((n = virConnectListAllDomains(hv->conn, &all, 0)) == -1)
		return (hypervisor_failed(err, "cannot list the domains of %s", hv->uri));
	if ((out->v = calloc((size_t)n + 1, sizeof(*out->v))) == NULL) {
		err_nomem(err);
		rc = -1;
	}
	for (int i = 0; i < n; i++) {
		if (rc == 0)
			rc = add(all[i], job, out, err);
		virDomainFree(all[i]);
	}
	free(all);
	if (rc == 0 && out->n == 0)
		rc = err_set(err, 0, "%s has no domain that matches the job's \"domains\": look at virsh list --all", hv->uri);
	if (rc == 0)
		qsort(out->v, out->n, sizeof(*out->v), compare);
	return (rc);
}

void
domains_free(struct domain_names *d)
{
	for (size_t i = 0; i < d->n; i++)
		free(d->v[i].name);
	free(d->v);
	*d = (struct domain_names)DOMAIN_NAMES_INIT;
}
