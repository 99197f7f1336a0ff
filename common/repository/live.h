/*
 * live.h - which blocks of the archives of pruned points are still used by points that are kept.
 *
 * Calling sequence:  live_new -> live_add* -> live_mark -> live_* -> live_free
 * Memory is one bit for each block of those archives, and a few batches of records.
 */
#ifndef OVB_LIVE_H
#define OVB_LIVE_H

#include "archive/archive_reader.h"

struct live;

/* One archive. */
struct live_archive {
	struct point		 point;
	struct manifest		 m;
	struct archive_reader	*ar;
	uint8_t			**bits;		/* by source: bit n is block n; NULL for a source without blocks */
	uint64_t		*used;		/* by source: how many blocks are */
	uint64_t		 raw, stored;	/* bytes of its data frames, and of these in the archive */
	uint64_t		 dead;		/* of stored: not used */
};

/** live_new(r, err): Fails: NULL. */
struct live *live_new(struct repo *r, struct err *err);
void live_free(struct live *lv);

/**
 * live_add(lv, p, err):
 * Find out about the archive of the point ${p}.  Returns 1, 0 when there are enough of them already, or -1.
 */
int live_add(struct live *lv, const struct point *p, struct err *err);

/**
 * live_mark(lv, all, err):
 * Mark what the kept points among ${all}, which are all points of the repository, use.  Fails: -1, also when one of them cannot be read: it may use
 * anything.
 */
int live_mark(struct live *lv, const struct points *all, struct err *err);

/**
 * live_take(a, id, stored, err):
 * Mark instead all blocks that ${a} has of the archive ${id}; *${stored} is how many bytes their frames have in it.  Fails: -1.
 */
int live_take(struct live_archive *a, const uint8_t id[ARCHIVE_ID_LEN], uint64_t *stored, struct err *err);

/** live_drop(lv, i): Forget the archive number ${i}; the last one takes its number. */
void live_drop(struct live *lv, size_t i);

size_t live_count(const struct live *lv);
struct live_archive *live_archive(struct live *lv, size_t i);

/** live_bit(bits, n): Whether block ${n} is used. */
static inline bool
live_bit(const uint8_t *bits, uint64_t n)
{
	return ((bits[n / 8] >> (n % 8) & 1) != 0);
}

#endif
