/* bare_index.h - finds the index inside an archive that is all there is (FORMAT.md, "A bare archive"). */
#ifndef OVB_BARE_INDEX_H
#define OVB_BARE_INDEX_H

#include "archive/index_reader.h"
#include "store/store.h"

/**
 * bare_index(data, err):
 * Find the tail frame of the archive ${data}, and copy its member index.bin to a temporary file.  Returns that file to read, checked only for
 * its place and its head, or NULL; with ENOSPC when the folder for temporary files has no room for it.
 */
struct store_file *bare_index(struct store_file *data, struct err *err);

/** bare_codec(data, err): What the archive is compressed with, by its first bytes.  Fails: NULL, when it cannot be read. */
const struct codec *bare_codec(struct store_file *data, struct err *err);

/** bare_check(data, ix, err): Whether the index that was found is the one which the trailer of ${data} names.  Fails: -1. */
int bare_check(struct store_file *data, const struct index_reader *ix, struct err *err);

#endif
