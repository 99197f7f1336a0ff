/* secret.h - a password or a token in a file of its own, which nobody else may read. */
#ifndef OVB_SECRET_H
#define OVB_SECRET_H

#include <stddef.h>

#include "base/err.h"

#define SECRET_MAX	1024u	/* bytes, with the zero byte */

/**
 * secret_read(path, what, out, err):
 * The first line of ${path}, which holds ${what} ("the password").  The caller wipes ${out}.  Fails: -1 if it cannot be read, is empty or too long, or if
 * others than its owner may read or change it.   Blocks: on the disk.
 */
int secret_read(const char *path, const char *what, char out[SECRET_MAX], struct err *err);

#endif
