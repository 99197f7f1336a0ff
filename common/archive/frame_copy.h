/*
 * frame_copy.h - data frames of other archives that an archive takes over as they stand (for archive_writer.c).
 *
 * Calling sequence:  frame_copies_begin -> (frame_copy_find -> frame_copy_read -> frame_copy_digest | frame_copies_next)*
 * Threads: one at a time for each of them; what they are read from is shared.
 */
#ifndef OVB_FRAME_COPY_H
#define OVB_FRAME_COPY_H

#include <stdbool.h>

#include "archive/archive_writer.h"
#include "archive/frame_reader.h"
#include "base/spool.h"

/* What an archive's frames may hold. */
struct frame_limits {
	const struct codec	*codec;
	size_t			 raw, stored;	/* bytes */
	size_t			 blocks;
};

struct frame_copy {
	struct archive_copy	 from;		/* from.ar is NULL: the frame is a new one */
	struct index_frame	 there;
};

/** frame_copy_find(fc, from, max, err): Make ${fc} the frame ${from}.  Fails: -1, also when an archive of ${max} cannot have it. */
int frame_copy_find(struct frame_copy *fc, const struct archive_copy *from, const struct frame_limits *max, struct err *err);

/** frame_copy_read(fc, p, err): Read its fc->there.stored bytes to ${p}.  Fails: -1. */
int frame_copy_read(const struct frame_copy *fc, uint8_t *p, struct err *err);

/**
 * frame_copy_digest(fc, p, secret, fr, blocks, err):
 * Check the frame, whose stored bytes are at ${p}, as any reader would, and make ${blocks} its blocks with digests keyed with ${secret}.  *${fr} is made
 * when it is NULL, and stays the caller's.  Fails: -1.
 */
int frame_copy_digest(const struct frame_copy *fc, const uint8_t *p, const uint8_t secret[SECRET_LEN], struct frame_reader **fr, struct index_block *blocks,
    struct err *err);

/* The frames of a disk that are to be copied, one after the other. */
struct frame_copies {
	struct spool_cursor	 c;
	struct archive_copy	 next;		/* when ->have */
	bool			 have;
};

/** frame_copies_begin(cs, sp, err): At the first of ${sp}, a spool of struct archive_copy; none when it is NULL.  Fails: -1. */
int frame_copies_begin(struct frame_copies *cs, struct spool *sp, struct err *err);
int frame_copies_next(struct frame_copies *cs, struct err *err);

#endif
