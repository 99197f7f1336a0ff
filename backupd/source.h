/*
 * source.h - where the bytes of a disk come from.  Each kind is one file, source_*.c.
 *
 * Calling sequence:  source_*_open -> source_extents -> source_read* -> source_settled -> source_close
 * Threads: one at a time.
 */
#ifndef OVB_SOURCE_H
#define OVB_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "extent.h"

struct source;

struct source_ops {
	/** Add what may hold data to ${ex}, in order. */
	int	(*extents)(struct source *, struct extents *ex, struct err *);

	/** Read exactly ${n} bytes. */
	int	(*read)(struct source *, void *p, size_t n, uint64_t offset, struct err *);

	/** Fails when what was read may not be one state of the disk. */
	int	(*settled)(struct source *, struct err *);
	void	(*close)(struct source *);
};

struct source {
	const struct source_ops	*ops;
	char			*path;		/* as in the config */
	uint64_t		 size;		/* virtual, bytes */
	int64_t			 mtime;		/* seconds since 1970; 0 when it has none */
	uint64_t		 bytes_read;	/* all reads so far */
	bool			 scanned;	/* zeroes were found by reading: the storage could not tell holes */
	bool			 in_use;	/* somebody holds it for writing, and the job allows that */

	/* Called, where set, while the whole disk is read to find zeroes, with the bytes read so far; -1 stops. */
	int			(*tick)(void *arg, uint64_t done, struct err *);
	void			*tick_arg;
};

/**
 * source_image_open(path, allow_in_use, err):
 * An image file or a block device, raw.  One that a QEMU holds for writing is refused unless ${allow_in_use}.  Fails: NULL.
 */
struct source *source_image_open(const char *path, bool allow_in_use, struct err *err);

/** source_extents(s, err): The map of what must be read, to be freed by the caller.  Fails: NULL. */
struct extents *source_extents(struct source *s, struct err *err);

int source_read(struct source *s, void *p, size_t n, uint64_t offset, struct err *err);

/** source_settled(s, err): After the last read.  Fails: -1 when the disk changed since it was opened. */
int source_settled(struct source *s, struct err *err);

void source_close(struct source *s);

#endif
