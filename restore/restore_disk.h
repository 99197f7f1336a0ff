/*
 * restore_disk.h - one disk of a restore point, written to a target.
 *
 * Calling sequence:  restore_disk_open -> restore_disk_fill -> target_commit(r->target) -> restore_disk_close
 */
#ifndef OVB_RESTORE_DISK_H
#define OVB_RESTORE_DISK_H

#include "base/progress.h"
#include "damage.h"
#include "opened.h"
#include "target.h"

struct restore_disk {
	struct progress	*progress;
	struct damage	*damage;	/* NULL: what cannot be had ends it; else it is noted here, and reads as zeroes */
	struct opened	*op;
	uint32_t	 disk;		/* its number in the index */
	struct target	*target;
	uint64_t	 size, bytes;	/* of the disk, and of its data */
};

/** restore_disk_open(r, op, disk, where, format, force, err): Open the target, as target_open() does.  Fails: -1. */
int restore_disk_open(struct restore_disk *r, struct opened *op, uint32_t disk, const char *where, enum target_format format, bool force,
    struct err *err);

/** restore_disk_fill(r, label, err): Write all of the disk; ${label} is shown with the progress.  Fails: -1, also when interrupted. */
int restore_disk_fill(struct restore_disk *r, const char *label, struct err *err);

/** restore_disk_close(r): Closes the target; harmless when there is none. */
void restore_disk_close(struct restore_disk *r);

#endif
