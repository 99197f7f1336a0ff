/*
 * archive_writer_private.h - an archive that is being written, from within: what archive_writer.c (frames, members, whole disks, the index) and
 * archive_writer_delta.c (disks of which only the changed blocks are stored) share.
 */
#ifndef OVB_ARCHIVE_WRITER_PRIVATE_H
#define OVB_ARCHIVE_WRITER_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "archive/archive_writer.h"
#include "archive/frame_copy.h"
#include "base/pipeline.h"

#define READERS		2u			/* one waits for storage while the other's bytes arrive */

struct frame {
	uint8_t			*raw, *out;
	size_t			 raw_len, out_len;
	uint64_t		 tar_offset;
	uint32_t		 source;	/* NO_SOURCE: a meta frame */
	bool			 filled;	/* its bytes are there already */
	struct frame_copy	 copy;
	bool			 listed;	/* in the index: all but the index's own frames */
	uint32_t		 nblocks;
	struct index_block	*blocks;
};

struct archive_writer {
	struct index_info	 info;
	struct frame_limits	 max;
	void			**frames;	/* struct frame */
	size_t			 nframes;
	struct pipeline		*pl;

	/* The producer's. */
	struct frame		*cur;		/* being filled, or NULL */
	uint64_t		 tar_offset;	/* of the next byte to be put into a frame */
	uint32_t		 source;	/* disk whose data comes, or NO_SOURCE */
	bool			 listing;	/* further frames are listed in the index */

	/* The disk's, set and taken away while no frame is under way; each reading thread has its reader. */
	const struct archive_feed *feed;
	void			*readers[READERS];
	_Atomic uint64_t	 read;		/* bytes of the disk */

	/* The delta that is being written; staging is the frame of its next piece. */
	struct {
		struct frame		*staging;
		struct index_disk	 disk;
		uint32_t		 number, source;
		unsigned int		 pieces;
		uint64_t		 data;		/* bytes stored */
		bool			 foreign;	/* the blocks are a replaced archive's */
		char			 name[UUID_LEN + 16];	/* then: for OPENVIRT.source */
	} delta;

	/* The finisher's while frames are in the pipeline, else the producer's. */
	struct store_file	*out;
	struct sha256		*sha;
	struct archive_disk_written disk;
	uint64_t		 copied;	/* bytes of copied frames */
	pthread_mutex_t		 lock;		/* guards the index, to which a delta's view is added meanwhile */
	struct index_writer	*index;

	_Atomic uint64_t	 stored;
};

/** aw_frame_new(aw, err): Room for one frame of this archive, to be kept in ${aw}, which frees it.  Fails: NULL. */
struct frame *aw_frame_new(const struct archive_writer *aw, struct err *err);

/** aw_want_frame(aw, source, room, err): Make aw->cur a frame for data of ${source} (NO_SOURCE: a meta frame) with ${room} bytes left.  Fails: -1. */
int aw_want_frame(struct archive_writer *aw, uint32_t source, size_t room, struct err *err);

/** aw_flush(aw): Send the frame that is being filled, if any, on its way. */
void aw_flush(struct archive_writer *aw);

/** aw_copy(aw, source, fc, err): A frame of ${source} that is a copy of another archive's.  Fails: -1. */
int aw_copy(struct archive_writer *aw, uint32_t source, const struct frame_copy *fc, struct err *err);

/**
 * aw_meta(aw, p, n, err), aw_zeroes(aw, n, err):
 * Add ${n} bytes that are no disk's data to the tar stream; of zeroes at most TAR_RECORD + 2 * TAR_BLOCK.  Fails: -1.
 */
int aw_meta(void *arg, const void *p, size_t n, struct err *err);
int aw_zeroes(struct archive_writer *aw, size_t n, struct err *err);

/** aw_put_name(field, name, err): A name came from a file or from libvirt: it must fit the index's field.  Fails: -1. */
int aw_put_name(char field[INDEX_NAME_LEN], const char *name, struct err *err);

#endif
