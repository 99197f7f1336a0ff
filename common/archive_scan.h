/*
 * archive_scan.h - makes an index for an archive that has lost its own: goes through the frames from the beginning, as far as they are good.
 */
#ifndef OVB_ARCHIVE_SCAN_H
#define OVB_ARCHIVE_SCAN_H

#include "buf.h"
#include "index_reader.h"
#include "store.h"

/**
 * archive_scan(data, why, err):
 * The disks of the full archive ${data}, as its tar headers and maps say, and the blocks up to the first frame that is damaged or cut off; what
 * comes after it is in the views, but in no block.  The digests are those of the bytes as they were found: they prove nothing.  ${why}
 * gets where and why it ended, if that was not the archive's end.
 *
 * Returns the index, to be closed by the caller, or NULL when not even one disk's map could be read.
 */
struct index_reader *archive_scan(struct store_file *data, struct buf *why, struct err *err);

#endif
