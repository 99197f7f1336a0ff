/*
 * pack.h - blocks out of the archives of pruned points in one new archive that stands for those (FORMAT.md, "Repacking"): pieces of disks of the same names.
 *
 * Calling sequence:  pack_begin -> pack_add* -> pack_write -> pack_replaces* -> compact_archive_finish on ->ca -> pack_publish -> pack_end
 * What was not published leaves nothing.  Threads: one at a time.
 */
#ifndef OVB_PACK_H
#define OVB_PACK_H

#include "repository/compact_archive.h"
#include "repository/live.h"

struct pack {
	struct live_archive		**old;		/* what was added, the caller's */
	size_t				 n;
	struct index_disk		*disks;		/* of the new archive */
	json_t				*rows;		/* theirs in the manifest */
	json_t				*replaces;	/* ids, in the manifest */
	uint32_t			 ndisks;
	struct lot			*lots;
	size_t				 nlots;
	struct frame_reader		*fr;
	const struct compact_how	*how;
	struct compact_archive		 ca;		/* the new archive */
	uint64_t			 done;		/* bytes of frames */
};

/** pack_begin(pk, err): Fails: -1; pack_end() may follow. */
int pack_begin(struct pack *pk, struct err *err);

/**
 * pack_add(pk, a, err):
 * What a->bits mark shall be in it.  Returns 1; 0 when it cannot go with what was added before: another codec, other names for the same disks, or, which only
 * a crash can make, blocks of the same source; or -1.
 */
int pack_add(struct pack *pk, struct live_archive *a, struct err *err);

/** pack_write(pk, r, lk, how, err): Write to ${r} what was added, at least one.  Every digest is checked.  how->tick is told the raw bytes.  Fails: -1. */
int pack_write(struct pack *pk, struct repo *r, struct lock *lk, const struct compact_how *how, struct err *err);

/** pack_replaces(pk, id, err): It stands for the archive ${id}.  Fails: -1. */
int pack_replaces(struct pack *pk, const uint8_t id[ARCHIVE_ID_LEN], struct err *err);

/** pack_publish(pk, note, err): As the archive of a point that was pruned; its manifest has ${note}.  Fails: -1. */
int pack_publish(struct pack *pk, const char *note, struct err *err);
void pack_end(struct pack *pk);

#endif
