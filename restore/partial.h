/*
 * partial.h - a file that is written under the name PATH.partial, and becomes PATH when it is complete.
 *
 * Calling sequence:  partial_begin -> make and fill partial->temporary -> partial_publish | (nothing) -> partial_end
 */
#ifndef OVB_PARTIAL_H
#define OVB_PARTIAL_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"

struct partial {
	char	*path, *temporary;
	char	*left;		/* a sentence: what is left where, should the program be ended at once */
	bool	 force;
	bool	 made;		/* the temporary file is ours, and still there ... */
	dev_t	 dev;		/* ... if it is this one */
	ino_t	 ino;
};

#define PARTIAL_INIT	{ .path = NULL }

/** partial_check(path, force, err): Fails: -1 when ${path} exists (unless ${force}), is no regular file, or lies in a restore point. */
int partial_check(const char *path, bool force, struct err *err);

/** partial_begin(p, path, force, err): Fails: -1 as partial_check() does. */
int partial_begin(struct partial *p, const char *path, bool force, struct err *err);

/** partial_create(p, err): Make the temporary file.  Returns its descriptor, to read and write, or -1. */
int partial_create(struct partial *p, struct err *err);

/** partial_publish(p, fd, err): fsync ${fd}, rename, fsync the folder.  Fails: -1, also when another restore with --force has taken the temporary file's place. */
int partial_publish(struct partial *p, int fd, struct err *err);

/** partial_end(p): Remove what was not published; harmless on an empty one. */
void partial_end(struct partial *p);

#endif
