/*
 * delta_writer.h - stores what of a disk has changed since an earlier restore point, and takes the rest from there.
 *
 * A part that may have changed is read and, where the earlier point has a block at the very same place, compared by that block's digest.  What
 * cannot have changed is not read.  Zeroes are never stored.
 */
#ifndef OVB_DELTA_WRITER_H
#define OVB_DELTA_WRITER_H

#include "archive/archive_reader.h"
#include "archive/archive_writer.h"
#include "base/extent.h"

/* The disk as it was: of the first archive of a set. */
struct delta_base {
	struct archive_set	*set;
	uint32_t		 disk;
};

struct delta_written {
	uint64_t	read;		/* bytes of the source */
	uint64_t	stored;		/* of them, in this archive */
	uint64_t	zero;		/* bytes of data extents that read as zeroes */
	uint64_t	lost;		/* bytes that were stored again because the earlier point's are not to be had */
};

/**
 * delta_write(aw, target, member, base, ex, dirty, feed, written, err):
 * Add the disk ${target} to the archive ${aw}.  ${ex} is what of it is data now, ${dirty} what may have changed since ${base} was made (NULL:
 * anything).  A part of ${base} whose archive is lost is read and stored again.  Fails: -1; then only archive_writer_free() may follow.
 */
int delta_write(struct archive_writer *aw, const char *target, const char *member, const struct delta_base *base, const struct extents *ex,
    const struct extents *dirty, const struct archive_feed *feed, struct delta_written *written, struct err *err);

#endif
