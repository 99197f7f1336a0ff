/*
 * index_diff.h - where a disk in one restore point may be another one than in another point, by their indexes alone.
 */
#ifndef OVB_INDEX_DIFF_H
#define OVB_INDEX_DIFF_H

#include "archive/index_reader.h"
#include "base/extent.h"

/**
 * index_diff(a, disk_a, b, disk_b, ex, err):
 * Add to ${ex}, which is empty, the parts of the disk number ${disk_a} of the index ${a} that the disk number ${disk_b} of ${b} does not have from the very
 * same archive and disk, up to the size of ${ex}.  Elsewhere both have the same bytes; within these parts they may.  The caller ends ${ex}.
 * Fails: -1.
 */
int index_diff(const struct index_reader *a, uint32_t disk_a, const struct index_reader *b, uint32_t disk_b, struct extents *ex, struct err *err);

#endif
