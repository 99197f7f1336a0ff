/*
 * extract.h - the bytes of a disk, out of the archives that hold them; and the check of an archive's blocks.
 *
 * Each frame is read and decompressed once, on all cores, and every block's digest is checked before a byte of it is given
 * away.  Memory is that of a few frames, whatever the disk's size.
 */
#ifndef OVB_EXTRACT_H
#define OVB_EXTRACT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "archive/archive_reader.h"
#include "base/err.h"

struct extract_ops {
	/** data(arg, offset, p, n, err): Bytes of the disk, in no order.  Threads: any.  Fails: -1 ends it all.  NULL: only check. */
	int	(*data)(void *arg, uint64_t offset, const void *p, size_t n, struct err *err);

	/**
	 * damage(arg, disk, offset, length, why, err):
	 * This part of the disk ${disk} (its target name) cannot be had; ${why} says why.  Called by one thread at a time.  Returns 0 to
	 * go on, or -1 with ${err} set to end.
	 */
	int	(*damage)(void *arg, const char *disk, uint64_t offset, uint64_t length, const char *why, struct err *err);

	/**
	 * bad_block(arg, source, offset, length, why, err):
	 * Of extract_check(), in the place of damage(), unless NULL: the same of the archive's source number ${source}.
	 */
	int	(*bad_block)(void *arg, uint32_t source, uint64_t offset, uint64_t length, const char *why, struct err *err);

	/** want(arg, n): Of extract_check(): whether to check the data frame number ${n}, from 0.  NULL: all. */
	bool	(*want)(void *arg, uint64_t n);

	/** progress(arg, done, err): ${done} bytes of the disk are through.  Called by the caller's thread.  Fails: -1 ends it all. */
	int	(*progress)(void *arg, uint64_t done, struct err *err);
};

/**
 * extract_disk(set, disk, ops, arg, err):
 * Give all bytes of the disk number ${disk} of the set's first archive that may be other than zero to ops->data.  What is not given
 * reads as zero.  Fails: -1.
 */
int extract_disk(struct archive_set *set, uint32_t disk, const struct extract_ops *ops, void *arg, struct err *err);

/** extract_size(ix, disk, bytes, err): *${bytes} is how many bytes extract_disk() will go through.  Fails: -1. */
int extract_size(const struct index_reader *ix, uint32_t disk, uint64_t *bytes, struct err *err);

/** extract_check(ar, ops, arg, err): Check every block that the archive ${ar} holds, in the frames that are wanted; ops->data is not used.  Fails: -1. */
int extract_check(struct archive_reader *ar, const struct extract_ops *ops, void *arg, struct err *err);

/** extract_check_size(ar, bytes, err): *${bytes} is how many bytes extract_check() will go through.  Fails: -1. */
int extract_check_size(const struct archive_reader *ar, uint64_t *bytes, struct err *err);

#endif
