/*
 * buf.h - a string of bytes that grows.
 *
 * Calling sequence:  BUF_INIT -> buf_add | buf_addf | buf_reserve ... -> buf_free
 * The bytes are always followed by a zero byte that is not counted, so that ptr is a C string once anything was added.
 */
#ifndef OVB_BUF_H
#define OVB_BUF_H

#include <stddef.h>

#include "base/err.h"

struct buf {
	char	*ptr;		/* NULL while empty and never used */
	size_t	 len;		/* bytes in use */
	size_t	 cap;		/* bytes allocated */
};

#define BUF_INIT	{ NULL, 0, 0 }

/** buf_reserve(b, more, err): Make room for ${more} further bytes and a zero byte.  Fails: -1, out of memory. */
int buf_reserve(struct buf *b, size_t more, struct err *err);

/** buf_add(b, p, n, err): Append ${n} bytes.  Fails: -1, out of memory; ${b} is as before. */
int buf_add(struct buf *b, const void *p, size_t n, struct err *err);

/** buf_addf(b, err, fmt, ...): Append formatted text.  Fails: -1, out of memory; ${b} is as before. */
int buf_addf(struct buf *b, struct err *err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/** buf_reset(b): Empty ${b}, keep its memory. */
void buf_reset(struct buf *b);

/** buf_free(b): Free what ${b} owns and make it empty; harmless on an empty one. */
void buf_free(struct buf *b);

#endif
