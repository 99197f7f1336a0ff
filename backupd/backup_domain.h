/* backup_domain.h - one domain, with all its disks, becomes one restore point. */
#ifndef OVB_BACKUP_DOMAIN_H
#define OVB_BACKUP_DOMAIN_H

#include "hypervisor.h"
#include "point_store.h"

struct domain_result {
	struct point_result	 point;
	const char		*capture;	/* the method */
	int64_t			 freeze_ms;	/* -1: not frozen */
	int64_t			 own_ms;	/* of these, what we took */
	char			 why[512];	/* it is not quiesced, though the guest ran; empty otherwise */
	char			 unsettled[1024];	/* what could not be undone yet; empty: all was */
};

/**
 * backup_domain(run, hv, uuid, result, report, arg, err):
 * Back up the domain into a new restore point and publish it; the guest is left as it was, whatever happens.  What takes long is told through
 * ${report}.  Fails: -1, and nothing of the point is left.
 */
int backup_domain(const struct backup_run *run, struct hypervisor *hv, const char *uuid, struct domain_result *result,
    void (*report)(void *arg, const char *text), void *arg, struct err *err);

#endif
