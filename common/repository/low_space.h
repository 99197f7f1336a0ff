/* low_space.h - when a repository has little space left: a share of its file system, or a size.  Pure.  Threads: any. */
#ifndef OVB_LOW_SPACE_H
#define OVB_LOW_SPACE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct low_space {
	unsigned int	percent;	/* of the whole; 0: bytes says it */
	uint64_t	bytes;		/* both 0: never */
};

#define LOW_SPACE_DEFAULT	"5%"

/** low_space_parse(text, out, err): "10%", from 0 to 90, or a size of a whole number and K, M, G, T (powers of 1024).  Fails: -1. */
int low_space_parse(const char *text, struct low_space *out, struct err *err);

/**
 * low_space_is(l, was, free, total):
 * Whether ${free} of ${total} bytes (0: not known) are too few.  Where they ${was}, it takes a tenth more than the limit to be enough again, so that what
 * changes a little around it is told once.
 */
bool low_space_is(const struct low_space *l, bool was, uint64_t free, uint64_t total);

#endif
