/* member_reader.h - small members: plain files at the head of an archive, such as domain.xml. */
#ifndef OVB_MEMBER_READER_H
#define OVB_MEMBER_READER_H

#include <stdint.h>

#include "archive/archive_reader.h"
#include "base/buf.h"

/**
 * member_read(ar, n, out, err):
 * Append the small member number ${n} to ${out}, once it has its digest.  Fails: -1, naming the member; ${out} is as before.
 */
int member_read(struct archive_reader *ar, uint64_t n, struct buf *out, struct err *err);

#endif
