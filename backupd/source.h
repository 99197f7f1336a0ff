/*
 * source.h - where the bytes of a disk come from.  Each kind is one file, source_*.c.
 *
 * Calling sequence:  source_*_open -> source_extents -> (source_feed, or source_reader_new -> source_read* -> source_reader_free)
 *                    -> source_settled -> source_close
 * Threads: one at a time, but for readers: any number, each of one thread.
 */
#ifndef OVB_SOURCE_H
#define OVB_SOURCE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "archive/archive_writer.h"
#include "base/err.h"
#include "base/extent.h"

struct source;

/* Each kind's readers begin with this. */
struct source_reader {
	struct source	*s;
};

struct source_ops {
	/** Add what may hold data to ${ex}, in order. */
	int	(*extents)(struct source *, struct extents *ex, struct err *);

	/** What one reading thread needs. */
	struct source_reader *(*reader_new)(struct source *, struct err *);
	void	(*reader_free)(struct source_reader *);

	/** Read exactly ${n} bytes. */
	int	(*read)(struct source_reader *, void *p, size_t n, uint64_t offset, struct err *);

	/** Fails when what was read may not be one state of the disk. */
	int	(*settled)(struct source *, struct err *);
	void	(*close)(struct source *);
};

struct source {
	const struct source_ops	*ops;
	char			*path;		/* as a person would name it */
	uint64_t		 size;		/* virtual, bytes */
	int64_t			 mtime;		/* seconds since 1970; 0 when it has none */
	_Atomic uint64_t	 bytes_read;	/* all reads so far */
	bool			 scanned;	/* zeroes were found by reading: the storage could not tell holes */
	bool			 in_use;	/* somebody holds it for writing, and the job allows that */
	char			*identity;	/* the same text means the same bytes, if its extents are the same too; NULL: cannot be told */
	struct extents		*dirty;		/* what may have changed since the job's checkpoint; NULL: cannot be told */
	char			*why_all;	/* why that cannot be told, though it should; NULL: it can, or nobody thought so */

	/* Called, where set, while the disk is read, with the bytes read so far; -1 stops. */
	int			(*tick)(void *arg, uint64_t done, struct err *);
	void			*tick_arg;
};

/**
 * source_image_open(path, allow_in_use, err):
 * An image file or a block device, raw.  One that a QEMU holds for writing is refused unless ${allow_in_use}.  Fails: NULL.
 */
struct source *source_image_open(const char *path, bool allow_in_use, struct err *err);

/**
 * source_nbd_open(socket, export, bitmap, path, err):
 * The export ${export} of the NBD server on the unix socket ${socket}; ${path} is what a person would call it.  With ${bitmap}, the name
 * of an NBD metadata context that QEMU has for a dirty bitmap, the source's extents come with what is dirty.  Readers have connections of their own, so
 * the server must take at least four.  Fails: NULL.
 */
struct source *source_nbd_open(const char *socket, const char *export, const char *bitmap, const char *path, struct err *err);

/** source_extents(s, err): The map of what must be read, to be freed by the caller.  Fails: NULL. */
struct extents *source_extents(struct source *s, struct err *err);

struct source_reader *source_reader_new(struct source *s, struct err *err);
void source_reader_free(struct source_reader *r);
int source_read(struct source_reader *r, void *p, size_t n, uint64_t offset, struct err *err);

/** source_feed(s): ${s} as what an archive is fed from. */
struct archive_feed source_feed(struct source *s);

/** source_settled(s, err): After the last read.  Fails: -1 when the disk changed since it was opened. */
int source_settled(struct source *s, struct err *err);

void source_close(struct source *s);

#endif
