/*
 * tar.h - the headers of the members of an archive's tar stream (FORMAT.md, "Members of the tar stream").
 *
 * Sparse members' headers and maps: GNU tar's manual, "Storing Sparse Files" (pax format, version 1.0).  Plain ones are made here too: libarchive
 * writes a pax size record above 8 GiB, and wants the data through it.  It reads them.
 */
#ifndef OVB_TAR_H
#define OVB_TAR_H

#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/extent.h"

#define TAR_BLOCK	512u
#define TAR_RECORD	10240u		/* a tar stream's length is a multiple of this */

/**
 * tar_sparse_stored(ex, err):
 * The stored size of a sparse member with the map of ${ex}: map, padded, and data, not padded.  Bytes, or UINT64_MAX on error.
 */
uint64_t tar_sparse_stored(const struct extents *ex, struct err *err);

/** tar_sparse_entries(ex): How many entries its map has, the closing (size, 0) included. */
uint64_t tar_sparse_entries(const struct extents *ex);

/**
 * tar_sparse_header(out, name, ex, mtime, err):
 * Append the headers of the sparse member ${name}; what follows them is tar_sparse_map().  Fails: -1.
 */
int tar_sparse_header(struct buf *out, const char *name, const struct extents *ex, int64_t mtime, struct err *err);

/**
 * tar_sparse_map(ex, emit, arg, err):
 * Give the map, padded, to ${emit} in pieces: it may be long.  Fails: -1, also when ${emit} does.
 */
int tar_sparse_map(const struct extents *ex, int (*emit)(void *arg, const void *p, size_t n, struct err *err), void *arg,
    struct err *err);

/** tar_plain_header(out, name, size, mtime, err): Append the headers of a plain member: a pax header only where ${name} needs one.  Fails: -1. */
int tar_plain_header(struct buf *out, const char *name, uint64_t size, int64_t mtime, struct err *err);

/* One piece of a delta. */
struct tar_piece {
	const char		*member;	/* of the disk */
	unsigned int		 number;	/* from 1 */
	uint64_t		 size;		/* bytes */
	int64_t			 mtime;
	const char		*extents;	/* "offset+length,..." */
	const char		*source;	/* "<archive id>/<disk>" of a replaced archive's blocks; NULL: this disk's own */
};

/** tar_piece_header(out, piece, err): Append the headers of a piece.  Fails: -1. */
int tar_piece_header(struct buf *out, const struct tar_piece *piece, struct err *err);

/** tar_padding(length): How many zero bytes follow ${length} bytes of a member's data. */
static inline uint32_t
tar_padding(uint64_t length)
{
	return ((uint32_t)((TAR_BLOCK - length % TAR_BLOCK) % TAR_BLOCK));
}

#endif
