/*
 * hypervisor.h - defining and starting a restored machine through libvirt.
 *
 * Each call is made in a process of its own with a deadline: a libvirt that hangs or crashes takes nothing with it.
 */
#ifndef OVB_HYPERVISOR_H
#define OVB_HYPERVISOR_H

#include <stdbool.h>

#include "base/err.h"

#define HYPERVISOR_DEFAULT	"qemu:///system"

struct hypervisor_domain {
	const char	*uri;
	const char	*name, *uuid;
	const char	*xml;		/* for hypervisor_define() */
	bool		 force;		/* a domain of that name or UUID may be replaced, when it is shut off */
	bool		 start;
};

enum hypervisor_answer {
	HYPERVISOR_DONE,
	HYPERVISOR_REFUSED,	/* a domain of that name or UUID is in the way, or libvirt does not want it */
	HYPERVISOR_ABSENT,	/* there is no libvirt, or no connection */
	HYPERVISOR_NOT_STARTED,	/* defined, but it did not start */
};

/** hypervisor_check(d, err): Whether the domain could be defined.  ${err} is set unless it is HYPERVISOR_DONE.  Blocks: 60 s at most. */
enum hypervisor_answer hypervisor_check(const struct hypervisor_domain *d, struct err *err);

/**
 * hypervisor_define(d, err):
 * Check again, define it, and start it if that is asked for.  A domain of its name is undefined before, and defined again if this fails; libvirt's
 * checkpoints of the domain that it replaces go, since their bitmaps are not in the restored disks.  Blocks: 180 s at most.
 */
enum hypervisor_answer hypervisor_define(const struct hypervisor_domain *d, struct err *err);

#endif
