/* domains.h - which domains a job means. */
#ifndef OVB_DOMAINS_H
#define OVB_DOMAINS_H

#include "config/conf.h"
#include "hypervisor.h"
#include "repository/manifest.h"

struct domain_name {
	char	*name;
	char	 uuid[UUID_LEN];
};

struct domain_names {
	struct domain_name	*v;
	size_t			 n;
};

#define DOMAIN_NAMES_INIT	{ NULL, 0 }

/**
 * domains_find(hv, job, out, err):
 * The domains, running or not, that match the job's patterns and none of its exclusions, by name; the caller frees ${out}.  Fails: -1, also when
 * there is none.
 */
int domains_find(struct hypervisor *hv, const struct conf_job *job, struct domain_names *out, struct err *err);
void domains_free(struct domain_names *d);

#endif
