/*
 * archive_writer.h - writes an archive: a tar stream, cut into frames that are digested and compressed on all cores.
 *
 * Calling sequence:
 *	archive_writer_new -> archive_writer_member* -> (archive_writer_disk | archive_writer_delta_*)* -> archive_writer_finish
 *	-> archive_writer_free
 * Data flows one way: the caller's thread cuts the disk's map into frames, readers fill them from the source, workers digest and compress
 * them, one thread writes them in order with their SHA-256 and notes them in the index.
 *
 * A frame that another archive of this codec has just as it is wanted here is copied: its compressed bytes are taken as they stand.  It is
 * decompressed all the same, because what is read is checked, and because digests are keyed with each archive's own secret and must be taken anew;
 * saved is what costs most, compressing it.
 * Threads: one at a time.
 */
#ifndef OVB_ARCHIVE_WRITER_H
#define OVB_ARCHIVE_WRITER_H

#include <stddef.h>
#include <stdint.h>

#include "archive/archive_reader.h"
#include "archive/index.h"
#include "base/digest.h"
#include "base/err.h"
#include "base/extent.h"
#include "store/store.h"

struct archive_writer;

struct archive_written {
	uint64_t	size;				/* of the archive, bytes */
	uint64_t	raw;				/* of the tar stream */
	uint64_t	copied;				/* of size, bytes of frames that were copied from other archives */
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
 * archive_writer_member(aw, name, p, n, err):
 * Store the ${n} bytes at ${p} as the small member ${name}.  All come before the first disk; a name is used once.  Fails: -1, nothing is written
 * then when the name is not allowed or taken, or it is more or longer than index.h's INDEX_MEMBERS_MAX and INDEX_MEMBER_MAX.
 */
int archive_writer_member(struct archive_writer *aw, const char *name, const void *p, size_t n, struct err *err);

/* A data frame of another archive with the same codec, to be copied. */
struct archive_copy {
	struct archive_reader	*ar;
	uint64_t		 number;		/* of the frame there */
	uint32_t		 source;		/* there */
	uint64_t		 offset, end;		/* in the disk: where its first block begins, and its last one ends */
};

/* Where the bytes of a disk come from. */
struct archive_feed {
	void	*arg;

	/**
	 * copies: A spool of struct archive_copy in rising order, or NULL.  Each must hold exactly the blocks that the writer would cut from the map
	 * between its first and its last (copy_plan.h sees to that); all else is read.
	 */
	struct spool	*copies;

	/** reader_new(arg, err): What one reading thread needs.  Threads: several at a time.  Fails: NULL. */
	void	*(*reader_new)(void *arg, struct err *err);
	void	 (*reader_free)(void *reader);

	/** read(reader, p, n, offset, err): Read exactly ${n} bytes of the disk.  Threads: one for each reader.  Fails: -1. */
	int	 (*read)(void *reader, void *p, size_t n, uint64_t offset, struct err *err);

	/** tick(arg, done, err): On the caller's thread, now and then: ${done} bytes were read so far.  Returns -1 to stop. */
	int	 (*tick)(void *arg, uint64_t done, struct err *err);
};

/**
 * archive_writer_disk(aw, target, member, ex, mtime, feed, written, err):
 * Store the disk ${target} as the sparse member ${member}: the bytes of exactly the extents ${ex}, from ${feed}, whose readers are gone when
 * this returns.  Fails: -1; then only archive_writer_free() may follow.
 */
int archive_writer_disk(struct archive_writer *aw, const char *target, const char *member, const struct extents *ex, int64_t mtime,
    const struct archive_feed *feed, struct archive_disk_written *written, struct err *err);

/*
 * A disk of which only the changed blocks are stored here; the rest of its view is other archives'.
 *
 * Calling sequence:  delta_begin -> (delta_block | delta_view)*, in rising order -> delta_end
 */

/** archive_writer_delta_begin(aw, target, member, size, err): Fails: -1. */
int archive_writer_delta_begin(struct archive_writer *aw, const char *target, const char *member, uint64_t size, struct err *err);

/** archive_writer_delta_block(aw, offset, p, n, err): Store ${n} bytes within one window of the disk, which become part of its view.  Fails: -1. */
int archive_writer_delta_block(struct archive_writer *aw, uint64_t offset, const void *p, uint32_t n, struct err *err);

/** archive_writer_delta_view(aw, v, err): A part of the disk that is zero, or in a source of another archive (archive_writer_source()).  Fails: -1. */
int archive_writer_delta_view(struct archive_writer *aw, const struct index_view *v, struct err *err);

/** archive_writer_source(aw, s, err): The number of the source ${s} in this archive's index.  Returns -1 on error. */
int64_t archive_writer_source(struct archive_writer *aw, const struct index_source *s, struct err *err);

/**
 * archive_writer_delta_source(aw, s, err):
 * The blocks that follow in this delta are those of the disk ${s} of an archive that this one replaces (archive_writer_replaces()): they belong to no
 * view here.  Each source is named once, after the disk's own blocks.  Fails: -1.
 */
int archive_writer_delta_source(struct archive_writer *aw, const struct index_source *s, struct err *err);

/** archive_writer_delta_copy(aw, c, err): Store all blocks of a frame by copying it, as the next ones of the source that was named last.  Fails: -1. */
int archive_writer_delta_copy(struct archive_writer *aw, const struct archive_copy *c, struct err *err);

/** archive_writer_replaces(aw, id, err): The archive ${id} is replaced by this one.  Fails: -1. */
int archive_writer_replaces(struct archive_writer *aw, const uint8_t id[ARCHIVE_ID_LEN], struct err *err);

/** archive_writer_delta_end(aw, written, err): Fails: -1. */
int archive_writer_delta_end(struct archive_writer *aw, struct archive_disk_written *written, struct err *err);

/** archive_writer_references(aw, fn, arg, err): index_writer_references(), of what was written so far. */
int archive_writer_references(struct archive_writer *aw, int (*fn)(void *arg, const uint8_t id[ARCHIVE_ID_LEN], struct err *err), void *arg,
    struct err *err);

/** archive_writer_finish(aw, index, written, err): Write the index, to ${index} (unless NULL) and as the last member, and end the archive. */
int archive_writer_finish(struct archive_writer *aw, struct store_file *index, struct archive_written *written, struct err *err);

/** archive_writer_stored(aw): Bytes written to the archive so far.  Threads: any. */
uint64_t archive_writer_stored(struct archive_writer *aw);

/** archive_writer_free(aw): Stop, wherever it is; harmless on NULL. */
void archive_writer_free(struct archive_writer *aw);

#endif
