/*
 * full_copy.h - all of a restore point, out of whatever archives hold it, into one archive that needs nothing else: what export and consolidate do.
 */
#ifndef OVB_FULL_COPY_H
#define OVB_FULL_COPY_H

#include "archive/archive_writer.h"

struct full_copy {
	struct archive_set	*set;		/* of the point's archive */
	void			*arg;

	/** begin(arg, target, bytes, err): A disk begins, of which ${bytes} will be gone through.  Returns -1 to stop. */
	int			(*begin)(void *arg, const char *target, uint64_t bytes, struct err *err);

	/** tick(arg, done, err): Now and then, on the caller's thread: ${done} bytes of the disk were read.  Returns -1 to stop. */
	int			(*tick)(void *arg, uint64_t done, struct err *err);
};

/**
 * full_copy(fc, aw, info, written, err):
 * Write the point's small members and disks to ${aw}, which was made with ${info}; frames of the same codec are copied where that is possible.  Every
 * digest is checked.  ${written} has an entry for each disk, or is NULL.  Fails: -1.
 */
int full_copy(const struct full_copy *fc, struct archive_writer *aw, const struct index_info *info, struct archive_disk_written *written,
    struct err *err);

/** full_copy_percent(w): How much of an archive was copied, percent of its size. */
unsigned int full_copy_percent(const struct archive_written *w);

#endif
