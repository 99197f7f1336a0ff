/*
 * guest.h - one domain: what it is made of, and what of it is backed up.
 *
 * Calling sequence:  guest_open -> ... -> guest_close
 */
#ifndef OVB_GUEST_H
#define OVB_GUEST_H

#include <stdbool.h>

#include "domain/domain_xml.h"
#include "hypervisor.h"
#include "journal.h"
#include "point_store.h"

struct guest {
	const struct backup_run	*run;
	struct hypervisor	*hv;		/* not its own */
	char			*name, *uuid;
	bool			 active, paused, persistent;
	char			*live_xml;	/* NULL when it is shut off */
	char			*inactive_xml;	/* as it would be started again; of a transient domain the same as live */
	struct domain_desc	 desc;		/* of live_xml, or else of inactive_xml */
	const struct domain_disk **disks;	/* those that are backed up */
	size_t			 ndisks;
	char			*skipped;	/* a sentence for the notes: which disks are not, and why; NULL: none */
	char			*filesystems;	/* JSON: what the agent says; NULL: it says nothing */
	struct journal		*journal;
	void			(*report)(void *arg, const char *text);	/* what takes long is told; NULL: nobody asks */
	void			*report_arg;
};

/** guest_open(run, hv, uuid, err): Look at the domain, and choose its disks.  Fails: NULL. */
struct guest *guest_open(const struct backup_run *run, struct hypervisor *hv, const char *uuid, struct err *err);
void guest_close(struct guest *g);

/** guest_domain(g, err): Its handle, to be freed with virDomainFree(); reconnects when that is needed.  Fails: NULL. */
virDomainPtr guest_domain(struct guest *g, struct err *err);

/** guest_is_active(g, active, err): Whether it runs now. */
int guest_is_active(struct guest *g, bool *active, struct err *err);

/** guest_describe(dom, flags, d, xml, err): Describe the domain as it is now; *${xml} unless NULL is its XML, to be freed. */
int guest_describe(virDomainPtr dom, unsigned int flags, struct domain_desc *d, char **xml, struct err *err);

/** guest_store_members(g, ps, err): Store domain XML, NVRAM, TPM state and what the agent said.  Fails: -1. */
int guest_store_members(struct guest *g, struct point_store *ps, struct err *err);

#endif
