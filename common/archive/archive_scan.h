/*
 * archive_scan.h - makes an index for an archive that has lost its own: goes through the frames from the beginning, as far as they are good.
 */
#ifndef OVB_ARCHIVE_SCAN_H
#define OVB_ARCHIVE_SCAN_H

#include "archive/index_reader.h"
#include "base/buf.h"
#include "repository/manifest.h"
#include "store/store.h"

/**
 * archive_scan(data, m, notes, err):
 * The small members and disks of the archive ${data}, as its tar headers, maps and pieces' extents say, and the blocks up to the first frame that is
 * damaged or cut off; what comes after it is in the views, but in no block.  Of a delta's disk, which has only pieces here, all is in the view, and only
 * this archive's own blocks are known; its size is that in the manifest ${m}, or, when ${m} is NULL or does not know it, where its last block ends.
 * The digests are those of the bytes as they were found: they prove nothing.  ${notes} gets what of it is not known, and where and why it
 * ended, if that was not the archive's end.
 *
 * Returns the index, to be closed by the caller, or NULL when neither a small member nor a disk's map could be read.
 */
struct index_reader *archive_scan(struct store_file *data, const struct manifest *m, struct buf *notes, struct err *err);

#endif
