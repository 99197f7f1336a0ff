/*
 * replicate.h - restore points of one repository are copied to another, those that it does not have yet.
 *
 * The source is only read, and locked by nobody: it may be read-only.  At the other end a run's lock is held.  A point that is listed there is whole: it gets
 * its name after all archives that it needs are there.  What is broken off goes on the next time, with what had arrived of a large archive too.
 */
#ifndef OVB_REPLICATE_H
#define OVB_REPLICATE_H

#include <stdatomic.h>

#include "repository/repo.h"

#define REPLICATE_PARALLEL_MAX	16u

/* One point that is there now. */
struct replicated {
	const char	*spec;			/* VM@TIME */
	const char	*vm, *machine;		/* the machine's name, and its domain's UUID, or name */
	const char	*here;			/* the point's folder */
	uint64_t	 stored, resumed;	/* bytes of its archive, and how many of them had arrived before */
	double		 seconds;
	bool		 as_pruned;		/* only its archive is wanted: others need it */
};

struct replicate {
	const char	*program;		/* for the lock */
	const char	*job;			/* which brings the points */
	const char	*of_job;		/* only points that this job made; NULL: all */
	const char	*vm;			/* only this machine's, by name; NULL: all */
	bool		 newer_only;		/* none that is older than the machine's newest that came before: where a "keep" lets go of old ones */
	bool		 no_future;		/* none of a time that is still to come by our clock */
	unsigned int	 parallel;		/* points under way at a time, each on connections of its own */
	unsigned int	 read_back;		/* per cent of an archive that is read back where the far end computes no SHA-256 */
	unsigned int	 wait_s;		/* for others who hold the repository */
	const atomic_int *stop;	/* NULL: never */

	/** open_from(arg, err), open_to(arg, err): Each thread's own.  Threads: several at once. */
	struct repo	*(*open_from)(void *arg, struct err *err);
	struct repo	*(*open_to)(void *arg, struct err *err);

	/* What follows is called by one thread at a time; any may be NULL but failed. */
	void		(*begin)(void *arg, size_t points, uint64_t bytes);
	void		(*tick)(void *arg, uint64_t done);
	void		(*sent)(void *arg, const struct replicated *p);
	void		(*failed)(void *arg, const char *spec, const char *vm, const struct err *why);
	void		(*say)(void *arg, const char *text);
	void		*arg;
};

struct replicate_stats {
	size_t		present;		/* points that were there before */
	size_t		older;			/* that newer_only left out */
	size_t		sent, archives;		/* points that came, and archives besides that they need */
	size_t		failed, vanished;
	uint64_t	bytes, resumed;		/* of archives */
	double		seconds;
	char		from[UUID_LEN];		/* id of the source; "": it has none */
};

/**
 * replicate_run(how, stats, err):
 * Do it.  A point that is damaged at the source, or refused, is told by how->failed and counted, and the others go on.  Fails: -1, when either end
 * cannot be used, or was lost; what came until then is there.
 */
int replicate_run(const struct replicate *how, struct replicate_stats *stats, struct err *err);

#endif
