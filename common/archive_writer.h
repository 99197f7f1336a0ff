/*
 * archive_writer.h - writes an archive: a tar stream, cut into frames that are digested and compressed on all cores.
 *
 * Calling sequence:
 *	archive_writer_new -> (disk_begin -> (reserve, fill)* -> disk_end)* -> finish -> archive_writer_free
 * Data flows one way: the caller's thread fills frames from the source, workers digest and compress them, one thread writes
 * them in order with their SHA-256 and notes them in the index.
 * Threads: one at a time.
 */
#ifndef OVB_ARCHIVE_WRITER_H
#define OVB_ARCHIVE_WRITER_H

#include <stddef.h>
#include <stdint.h>

#include "digest.h"
#include "err.h"
#include "extent.h"
#include "index.h"
#include "store.h"

struct archive_writer;

struct archive_written {
	uint64_t	size;				/* of the archive, bytes */
	uint64_t	raw;				/* of the tar stream */
	char		sha256[SHA256_HEX];		/* of the archive */
	char		index_sha256[SHA256_HEX];	/* of index.bin */
};

struct archive_disk_written {
	uint64_t	data;				/* bytes of the disk in the archive */
	uint64_t	zero;				/* of these, bytes of zero blocks */
};

/** archive_writer_new(info, out, err): Write to ${out}, which stays the caller's.  Fails: NULL. */
struct archive_writer *archive_writer_new(const struct index_info *info, struct store_file *out, struct err *err);

/**
 * archive_writer_disk_begin(aw, target, member, ex, mtime, err):
 * Begin the sparse member ${member} for the disk ${target}.  ${ex} is its map; the bytes of exactly these extents must follow.
 */
int archive_writer_disk_begin(struct archive_writer *aw, const char *target, const char *member, const struct extents *ex,
    int64_t mtime, struct err *err);

/**
 * archive_writer_reserve(aw, offset, want, got, err):
 * Room for the next bytes of the disk, from ${offset} on within one extent: *${got} of the ${want} bytes, at least one block.
 * The caller fills all of it before the next call.  Returns NULL on error.
 */
uint8_t *archive_writer_reserve(struct archive_writer *aw, uint64_t offset, uint64_t want, size_t *got, struct err *err);

/** archive_writer_disk_end(aw, written, err): The disk is complete; waits for its last frame. */
int archive_writer_disk_end(struct archive_writer *aw, struct archive_disk_written *written, struct err *err);

/** archive_writer_finish(aw, index, written, err): Write the index, to ${index} (unless NULL) and as the last member, and end the archive. */
int archive_writer_finish(struct archive_writer *aw, struct store_file *index, struct archive_written *written, struct err *err);

/** archive_writer_stored(aw): Bytes written to the archive so far.  Threads: any. */
uint64_t archive_writer_stored(struct archive_writer *aw);

/** archive_writer_free(aw): Stop, wherever it is; harmless on NULL. */
void archive_writer_free(struct archive_writer *aw);

#endif
