/*
 * frame_reader.h - one data frame: decompressed, with its blocks, each of which is checked before it is believed.
 *
 * Calling sequence:  frame_reader_new -> (frame_reader_load | frame_reader_decode) -> frame_reader_copy, _block* -> frame_reader_free
 * Threads: one at a time for each reader.
 */
#ifndef OVB_FRAME_READER_H
#define OVB_FRAME_READER_H

#include <stdbool.h>

#include "archive/archive_reader.h"

struct frame_reader {
	const struct codec	*codec;		/* of dec; NULL: none yet */
	void			*dec;
	uint8_t			*in;		/* as it stands in the archive, where frame_reader_load() read it */
	size_t			 in_cap;
	uint8_t			*raw;
	struct index_block	*blocks;
	struct index_frame	 frame;
	const struct index_reader *ix;
};

/** frame_reader_new(err): Room for one frame of any archive.  Fails: NULL. */
struct frame_reader *frame_reader_new(struct err *err);
void frame_reader_free(struct frame_reader *fr);

/**
 * frame_reader_decode(fr, ar, source, f, in, err):
 * Decompress the frame ${f}, whose stored bytes are at ${in}, and load its blocks of ${source}.  Fails: -1.
 */
int frame_reader_decode(struct frame_reader *fr, struct archive_reader *ar, uint32_t source, const struct index_frame *f,
    const uint8_t *in, struct err *err);

/** frame_reader_load(fr, ar, source, f, err): The same, reading it from the archive. */
int frame_reader_load(struct frame_reader *fr, struct archive_reader *ar, uint32_t source, const struct index_frame *f, struct err *err);

/** frame_reader_load_meta(fr, ar, f, err): The same of a meta frame, which has no blocks: fr->raw holds its f->raw bytes.  Fails: -1. */
int frame_reader_load_meta(struct frame_reader *fr, struct archive_reader *ar, const struct index_frame *f, struct err *err);

/** frame_reader_block_is_good(fr, i, at): Whether the frame's block number ${i}, ${at} bytes into the frame, has its digest. */
bool frame_reader_block_is_good(const struct frame_reader *fr, uint32_t i, size_t at);

/**
 * frame_reader_copy(fr, block, offset, end, p, got, err):
 * Copy bytes of the disk from ${offset} to ${end} to ${p}, as far as the source's block number ${block} holds them: *${got} bytes.  Fails: -1, when
 * the block does not begin at ${offset} or before, or does not have its digest.
 */
int frame_reader_copy(struct frame_reader *fr, uint64_t block, uint64_t offset, uint64_t end, uint8_t *p, size_t *got, struct err *err);

#endif
