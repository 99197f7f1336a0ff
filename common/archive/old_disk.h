/*
 * old_disk.h - a disk as an earlier restore point has it: which archive has which part, and the digests of its blocks.
 *
 * Asked for parts in rising order, so that indexes are read through once.  Threads: one at a time.
 */
#ifndef OVB_OLD_DISK_H
#define OVB_OLD_DISK_H

#include <stdbool.h>

#include "archive/archive_reader.h"

/* What was there. */
struct old_part {
	bool				 zero;		/* it read as zeroes */
	const struct index_source	*source;	/* else: the disk and the archive that have it; lives as long as the old_disk */
	const uint8_t			*secret;	/* NULL: no block is exactly this part; else ... */
	uint8_t				 digest[DIGEST_LEN];	/* ... its digest, keyed with the secret */
};

struct old_disk;

/** old_disk_new(set, disk, err): The disk number ${disk} of the set's first archive.  Fails: NULL. */
struct old_disk *old_disk_new(struct archive_set *set, uint32_t disk, struct err *err);
void old_disk_free(struct old_disk *od);

/**
 * old_disk_block(od, offset, length, part, err):
 * The block that is exactly this part of the disk, which lies within one window: part->secret is NULL when there is none, or its archive cannot
 * be had.  Fails: -1.
 */
int old_disk_block(struct old_disk *od, uint64_t offset, uint64_t length, struct old_part *part, struct err *err);

/**
 * old_disk_part(od, offset, end, length, part, had, err):
 * What was at ${offset}, and for how long, up to ${end}: *${length} bytes.  *${had} is false when it was a hole, or its archive cannot be had.
 */
int old_disk_part(struct old_disk *od, uint64_t offset, uint64_t end, uint64_t *length, struct old_part *part, bool *had, struct err *err);

#endif
