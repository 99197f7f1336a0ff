/*
 * point_store.h - what was captured of one machine, written into one new restore point.
 *
 * Calling sequence:  point_store_begin -> point_store_member* -> point_store_disk* -> point_store_finish -> point_store_publish
 *                    -> point_store_end
 * A point that is ended without being published leaves no trace.  Threads: one at a time.
 */
#ifndef OVB_POINT_STORE_H
#define OVB_POINT_STORE_H

#include <stdatomic.h>

#include "base/progress.h"
#include "chain.h"
#include "config/conf.h"
#include "repository/repo.h"
#include "source.h"

/* What the backups of a run's machines share. */
struct backup_run {
	const struct conf_job		*job;
	struct repo			*repo;
	struct lock			*lock;
	struct progress			*progress;
	const atomic_int	*interrupted;	/* set by a signal: give up cleanly */
	const char			*state;		/* folder of what is kept between runs */
	bool				 json;
	bool				 full;		/* read and store everything */
	bool				 reread;	/* compare also what is known not to have changed */
};

/* What the manifest says that the archive does not. */
struct point_facts {
	const char	*consistency, *capture;
	const char	*uuid;		/* of the domain; NULL: not a domain */
	const char	*checkpoint;	/* of that moment, or of an earlier point's (inherited.h); NULL: none */
	int64_t		 freeze_ms;	/* how long the guest's file systems were frozen; -1: not at all */
};

struct point_result {
	struct point	 point;
	uint64_t	 size;		/* of the disks, bytes */
	uint64_t	 provisioned;	/* of them, allocated */
	uint64_t	 read;		/* bytes read */
	uint64_t	 stored;	/* of the archive */
	bool		 incremental;	/* it needs archives of other points, or is one of pieces */
	const char	*consistency;	/* that of its facts */
	double		 seconds;	/* since point_store_begin() */
};

struct point_store;

/**
 * point_store_chain(run, vm, uuid, c):
 * What a point of the machine ${vm} (a domain with that UUID, or NULL) can go on from: nothing, when the job or the run want all.  Never fails.
 */
void point_store_chain(const struct backup_run *run, const char *vm, const char *uuid, struct chain *c);

/**
 * point_store_begin(run, vm, chain, t, err):
 * A point of the machine ${vm} as it was at ${t}.  What has not changed is taken over from ${chain}, which must stay.  Fails: NULL.
 */
struct point_store *point_store_begin(const struct backup_run *run, const char *vm, const struct chain *chain, time_t t, struct err *err);

/** point_store_note(ps, fmt, ...): Add a sentence to the manifest's notes.  Never fails: one that has no room is left out. */
void point_store_note(struct point_store *ps, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/** point_store_member(ps, name, p, n, err): Store a small member; all come before the first disk.  Fails: -1. */
int point_store_member(struct point_store *ps, const char *name, const void *p, size_t n, struct err *err);

/** point_store_disk(ps, target, member, format, s, err): Read ${s}, or what of it has changed, into the archive.  Fails: -1. */
int point_store_disk(struct point_store *ps, const char *target, const char *member, const char *format, struct source *s, struct err *err);

/** point_store_finish(ps, err): End the archive and make it durable.  The sources are not needed any more.  Fails: -1. */
int point_store_finish(struct point_store *ps, struct err *err);

/** point_store_publish(ps, facts, result, err): Fails: -1. */
int point_store_publish(struct point_store *ps, const struct point_facts *facts, struct point_result *result, struct err *err);

void point_store_end(struct point_store *ps);

/** backup_stopped(run, err): Fails: -1 when the run was told to stop. */
int backup_stopped(const struct backup_run *run, struct err *err);

#endif
