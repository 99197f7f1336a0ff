/* damage.h - the list of what is damaged: a line each for people, JSON for programs. */
#ifndef OVB_DAMAGE_H
#define OVB_DAMAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/progress.h"

struct damage {
	bool		 json;
	struct progress	*progress;	/* its bar is cleared before a line is printed */
	unsigned long	 count;
	uint64_t	 bytes;		/* of disks */
};

void damage_init(struct damage *d, bool json, struct progress *progress);

/** damage_found(d, disk, offset, length, why): Print one damage, up to 100 of them.  Without a ${disk} it is not in a disk's data. */
void damage_found(struct damage *d, const char *disk, uint64_t offset, uint64_t length, const char *why);

/** damage_report(d, what): Say how many were found in ${what}, when any.  Returns the exit status: done, or failed. */
int damage_report(const struct damage *d, const char *what);

#endif
