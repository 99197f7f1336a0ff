/*
 * disk_reader.h - the bytes of a disk in order: where they are needed one after the other, as in an exported archive.
 *
 * Calling sequence:  disk_reader_new -> disk_reader_extents, disk_reader_read* -> disk_reader_free
 * The last frames of four archives are kept decompressed, because their blocks alternate.  extract.h is faster where the
 * order does not matter.
 * Threads: one for each disk_reader; several may read one set.
 */
#ifndef OVB_DISK_READER_H
#define OVB_DISK_READER_H

#include "archive/archive_reader.h"
#include "base/extent.h"

struct disk_reader;

/** disk_reader_new(set, disk, err): Read the disk number ${disk} of the set's first archive.  Fails: NULL. */
struct disk_reader *disk_reader_new(struct archive_set *set, uint32_t disk, struct err *err);
void disk_reader_free(struct disk_reader *dr);

/** disk_reader_extents(dr, err): What of the disk is data; the caller frees it.  Fails: NULL. */
struct extents *disk_reader_extents(struct disk_reader *dr, struct err *err);

/**
 * disk_reader_read(dr, p, n, offset, err):
 * Read ${n} bytes; holes are zeroes.  Every block's digest is checked.  Fails: -1, naming disk and offset.
 */
int disk_reader_read(struct disk_reader *dr, void *p, size_t n, uint64_t offset, struct err *err);

#endif
