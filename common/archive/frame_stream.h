/*
 * frame_stream.h - decompresses an archive's frames one after the other, without an index.
 *
 * Calling sequence:  frame_stream_new -> frame_stream_next* -> frame_stream_free
 * Threads: one at a time.
 */
#ifndef OVB_FRAME_STREAM_H
#define OVB_FRAME_STREAM_H

#include <stddef.h>
#include <stdint.h>

#include "archive/codec.h"
#include "base/err.h"
#include "store/store.h"

struct frame_stream;

/** frame_stream_new(f, codec, offset, err): Begin with the frame at ${offset} of ${f}, which stays the caller's.  Fails: NULL. */
struct frame_stream *frame_stream_new(struct store_file *f, const struct codec *codec, uint64_t offset, struct err *err);

/**
 * frame_stream_next(fs, raw, len, err):
 * *${raw} points at the bytes of the next frame until the next call.  Returns 1, 0 at the end of the file, -1 on error.
 */
int frame_stream_next(struct frame_stream *fs, const uint8_t **raw, size_t *len, struct err *err);

/** frame_stream_offset(fs): Where the next frame begins. */
uint64_t frame_stream_offset(const struct frame_stream *fs);

/** frame_stream_limit(fs, n): Without compression nothing marks a frame: take the next ${n} bytes for one.  ${n} is at most FRAME_RAW_MAX. */
void frame_stream_limit(struct frame_stream *fs, size_t n);

void frame_stream_free(struct frame_stream *fs);

#endif
