/*
 * index_reader.h - reads an index (FORMAT.md, "Index").  Everything in it is checked before it is used.
 *
 * Calling sequence:  index_open -> any of the others -> index_close
 * Records stay in the file and are read when they are asked for, so that memory does not grow with the disk.
 * Threads: any number, all functions but index_open and index_close.
 */
#ifndef OVB_INDEX_READER_H
#define OVB_INDEX_READER_H

#include <stdint.h>

#include "archive/index.h"
#include "store/store.h"

struct index_reader;

/**
 * index_open(f, err):
 * Check the whole index in ${f}, which is taken over, and make it ready.  ${err} says what is wrong in it; the caller adds where it is.
 * Fails: NULL.
 */
struct index_reader *index_open(struct store_file *f, struct err *err);
void index_close(struct index_reader *ix);

const struct index_info *index_info(const struct index_reader *ix);

/** index_frame_max(ix): The most raw bytes that a data frame of this archive holds. */
uint32_t index_frame_max(const struct index_reader *ix);

/** index_file_digest(ix): The digest in its header: what a trailer must name. */
const uint8_t *index_file_digest(const struct index_reader *ix);
uint64_t index_length(const struct index_reader *ix);

uint32_t index_disks(const struct index_reader *ix);
const struct index_disk *index_disk(const struct index_reader *ix, uint32_t n);

/** index_disk_find(ix, target): The number of the disk with that target name or member name, or UINT32_MAX. */
uint32_t index_disk_find(const struct index_reader *ix, const char *target);

uint32_t index_sources(const struct index_reader *ix);
int index_source(const struct index_reader *ix, uint32_t n, struct index_source *out, struct err *err);

/** index_source_find(ix, s): The number of the source ${s} when this archive holds blocks of it, else UINT32_MAX. */
uint32_t index_source_find(const struct index_reader *ix, const struct index_source *s);

/** index_replaces(ix, id): Whether this archive stands for the archive ${id} (type 7). */
bool index_replaces(const struct index_reader *ix, const uint8_t id[ARCHIVE_ID_LEN]);

/** index_replaced(ix), index_replaced_id(ix, n, id, err): How many archives it stands for, and which.  The second fails: -1. */
uint64_t index_replaced(const struct index_reader *ix);
int index_replaced_id(const struct index_reader *ix, uint64_t n, uint8_t id[ARCHIVE_ID_LEN], struct err *err);

uint64_t index_view_count(const struct index_reader *ix, uint32_t disk);
int index_view(const struct index_reader *ix, uint32_t disk, uint64_t first, size_t n, struct index_view *out, struct err *err);

uint64_t index_frame_count(const struct index_reader *ix);
int index_frames(const struct index_reader *ix, uint64_t first, size_t n, struct index_frame *out, struct err *err);

uint64_t index_block_count(const struct index_reader *ix, uint32_t source);
int index_blocks(const struct index_reader *ix, uint32_t source, uint64_t first, size_t n, struct index_block *out, struct err *err);

/**
 * index_block_find(ix, source, offset, out, err):
 * *${out} is the number of the first block of ${source} that ends after ${offset}; the number of blocks when there is none.
 */
int index_block_find(const struct index_reader *ix, uint32_t source, uint64_t offset, uint64_t *out, struct err *err);

/** index_members(ix): How many small members it has, in the order of the tar stream. */
uint32_t index_members(const struct index_reader *ix);
int index_member(const struct index_reader *ix, uint64_t n, struct index_member *out, struct err *err);

/** index_member_find(ix, name): The number of the small member ${name}, or UINT32_MAX. */
uint32_t index_member_find(const struct index_reader *ix, const char *name);

/** index_frame_of(ix, source, block, out, err): The number of the frame that holds a block. */
int index_frame_of(const struct index_reader *ix, uint32_t source, uint64_t block, uint64_t *out, struct err *err);

#endif
