/*
 * earlier.h - the machines of a job that earlier attempts of a run have backed up already: a retry leaves them out.  The daemon hands them to its worker
 * in a file without a name, one on a line, whose descriptor stands in the environment.
 */
#ifndef OVB_EARLIER_H
#define OVB_EARLIER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define EARLIER_ENV	"OVB_EARLIER"

struct earlier {
	char	*text;
	size_t	 len;
};

#define EARLIER_INIT	{ NULL, 0 }

/** earlier_write(text, len, err): Such a file; the descriptor is the caller's to close.  Fails: -1. */
int earlier_write(const char *text, size_t len, struct err *err);

/** earlier_read(e, err): What the environment names, or nothing; children will not see it.  Fails: -1. */
int earlier_read(struct earlier *e, struct err *err);

/** earlier_has(e, vm): Whether the machine ${vm} is among them. */
bool earlier_has(const struct earlier *e, const char *vm);

void earlier_free(struct earlier *e);

#endif
