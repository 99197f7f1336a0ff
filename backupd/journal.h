/*
 * journal.h - what was done to a guest, written down durably before it is done, so that whatever dies, somebody can undo it.
 *
 * Calling sequence:  journal_begin | journal_resume -> change the fields -> journal_save -> do it ... -> journal_end
 * One file for each guest, <state>/journal/<UUID>.json; beside it a lock, <UUID>.lock, which its owner holds and the kernel takes away when
 * the owner dies (flock(2)).
 * Threads: one at a time.
 */
#ifndef OVB_JOURNAL_H
#define OVB_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "config/conf.h"

#define JOURNAL_TOKEN_LEN	9u

struct journal_overlay {
	char	*target;		/* of the disk */
	char	*base, *overlay;	/* files; the base may be a block device */
	char	*format;		/* of the base */
	bool	 block;			/* the base is one */
	bool	 committing;		/* we write to the base */
	bool	 pivoting;		/* the guest may write to the base again: the overlay may be older */
};

struct journal {
	char			*uri, *name, *uuid;
	char			 token[JOURNAL_TOKEN_LEN];	/* in the names of all that a run makes for the guest */
	bool			 frozen;	/* the guest may be frozen, by us */
	char			*folder;	/* of sockets; NULL: none was made */
	char			*socket;	/* of our backup job; NULL: there is none */
	char			*scratch;	/* folder of its scratch files; NULL: none */
	char			*checkpoint;	/* made for a point that may not be published; NULL: none */
	char			*repository;	/* where that point is to be: its URL; NULL: nowhere */
	struct journal_overlay	*overlays;
	size_t			 noverlays;

	char			*path, *fresh_path, *lock_path;
	int			 lock_fd;
};

/**
 * journal_begin(uri, name, uuid, err):
 * Be the only one who works on that guest.  Fails: NULL; err->code is EBUSY when somebody else is, EEXIST when what an earlier run did is not
 * settled.
 */
struct journal *journal_begin(const char *uri, const char *name, const char *uuid, struct err *err);

/** journal_resume(uuid, err): Take over what a run that is dead left.  Fails: NULL; EBUSY when the run is alive, ENOENT when there is none. */
struct journal *journal_resume(const char *uuid, struct err *err);

/** journal_each(fn, arg, err): Call ${fn} for the UUID of each journal there is. */
int journal_each(void (*fn)(void *arg, const char *uuid), void *arg, struct err *err);

/** journal_add_overlay(j, o, err): Add a copy of ${o}, in memory only. */
int journal_add_overlay(struct journal *j, const struct journal_overlay *o, struct err *err);

/** journal_drop_overlay(j, i): Take out number ${i}, in memory only. */
void journal_drop_overlay(struct journal *j, size_t i);

/** journal_save(j, err): Make what it says durable.  Fails: -1; then what was to be done must not be done. */
int journal_save(struct journal *j, struct err *err);

/** journal_end(j, settled): Let go of the guest; with ${settled}, nothing is left to be undone, and the file goes.  Harmless on NULL. */
void journal_end(struct journal *j, bool settled);

#endif
