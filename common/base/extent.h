/*
 * extent.h - which parts of a disk hold data, in rising order.
 *
 * Calling sequence:  extents_new -> extents_add* -> extents_end -> extents_cursor / extents_next ... -> extents_free
 * Threads: one at a time.
 */
#ifndef OVB_EXTENT_H
#define OVB_EXTENT_H

#include <stdint.h>

#include "base/err.h"
#include "base/spool.h"

#define SECTOR	512u

struct extent {
	uint64_t offset;
	uint64_t length;
};

struct extents {
	uint64_t	 size;		/* of the disk */
	uint64_t	 count;		/* extents, once ended */
	uint64_t	 bytes;		/* their sum, once ended */
	uint64_t	 data_end;	/* where the last one ends, once ended; 0 without any */
	struct extent	 last;		/* not yet in the spool: the next may touch it */
	struct spool	*spool;
};

/** extents_new(size, err): Make an empty map of a disk of ${size} bytes.  Fails: NULL. */
struct extents *extents_new(uint64_t size, struct err *err);

/**
 * extents_add(ex, offset, length, err):
 * Add a range that is not before the last one.  It is widened to whole sectors of 512 bytes within the disk, as tar's maps
 * need them, and joined with the last one when they touch.  A length of 0 is ignored.
 *
 * Fails: -1; ${ex} is then of no use but to be freed.
 */
int extents_add(struct extents *ex, uint64_t offset, uint64_t length, struct err *err);

/** extents_end(ex, err): No more extents will come.  Fails: -1. */
int extents_end(struct extents *ex, struct err *err);

void extents_free(struct extents *ex);

/** extents_next(c, e, err): With a cursor on ex->spool: 1 and *${e} filled, 0 at the end, -1 on error. */
int extents_next(struct spool_cursor *c, struct extent *e, struct err *err);

#endif
