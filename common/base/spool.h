/*
 * spool.h - a long list of records of one size, in memory while it is short and in a nameless file when it is not.
 *
 * Extent maps and indexes grow with the disk; a spool keeps the memory that they take fixed.
 *
 * Calling sequence:  spool_new -> spool_add* -> (spool_read | cursor)* -> spool_free
 * Threads: one at a time.
 */
#ifndef OVB_SPOOL_H
#define OVB_SPOOL_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct spool;

/** spool_new(record, err): Make an empty spool of records of ${record} bytes.  Fails: NULL, out of memory. */
struct spool *spool_new(size_t record, struct err *err);

/** spool_add(sp, rec, err): Append the record at ${rec}.  Fails: -1, when the temporary file cannot be made or written. */
int spool_add(struct spool *sp, const void *rec, struct err *err);

/** spool_count(sp): The number of records. */
uint64_t spool_count(const struct spool *sp);

/**
 * spool_read(sp, first, n, recs, err):
 * Copy ${n} records beginning with number ${first} to ${recs}; they must exist.  Fails: -1, when the temporary file cannot be
 * read.
 */
int spool_read(struct spool *sp, uint64_t first, size_t n, void *recs, struct err *err);

void spool_free(struct spool *sp);

/* Reads a spool from its beginning, many records at a time.  Adding to the spool meanwhile is not allowed. */
struct spool_cursor {
	struct spool	*sp;
	uint64_t	 next;		/* number of the next record to hand out */
	size_t		 have, at;	/* records in buf, and how many of them were handed out */
	uint8_t		 buf[16384];
};

void spool_cursor_init(struct spool_cursor *c, struct spool *sp);

/** spool_next(c, rec, err): Returns 1 and *${rec} points at the next record until the next call, 0 at the end, -1 on error. */
int spool_next(struct spool_cursor *c, const void **rec, struct err *err);

#endif
