/*
 * sftp_ahead.h - what is read in order is asked for ahead, for all files of a store together, over several connections, while its reader goes on: each
 * answer takes a round trip, and deciphering it a core.
 *
 * It never asks for more than was read in order before, so that at most half of what comes is not wanted, and reading here and there costs nothing.
 *
 * Memory: AHEAD_PLACES * AHEAD_WINDOW bytes at most; libssh2 holds what is under way once more.
 * Threads: any.
 */
#ifndef OVB_SFTP_AHEAD_H
#define OVB_SFTP_AHEAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define AHEAD_PLACES	8
#define AHEAD_THREADS	3
#define AHEAD_WINDOW	((size_t)64 * 30000)	/* bytes of a place; libssh2 asks for 30,000 at a time */
#define AHEAD_MOST	(5 * AHEAD_WINDOW)	/* bytes ahead of a file's reader */

struct ahead_file;

/** Read ${n} bytes, or fewer only at the end of the file.  Fails: -1.  Threads: several at a time. */
typedef long ahead_fetch(void *file, void *p, size_t n, uint64_t offset, struct err *err);

enum ahead_state {
	AHEAD_EMPTY,
	AHEAD_ASKED,		/* for one of our threads */
	AHEAD_FILLING,
	AHEAD_FULL
};

struct sftp_ahead {
	ahead_fetch	*fetch;
	pthread_mutex_t	 lock;		/* guards all that follows, and each file's struct ahead_file */
	pthread_cond_t	 changed;
	uint64_t	 clock;
	bool		 stop;
	unsigned int	 nthreads, idle;
	pthread_t	 threads[AHEAD_THREADS];
	struct ahead_place {
		enum ahead_state	 state;
		void			*file;
		struct ahead_file	*af;
		uint64_t		 offset;
		size_t			 want, n, read;	/* bytes asked for; there; read, or passed over */
		uint64_t		 used;		/* when it was asked for, or read, by ->clock */
		char			*buf;		/* NULL until it is needed */
	}		 places[AHEAD_PLACES];
};

/* What is known of a file's reads. */
struct ahead_file {
	uint64_t	 size;		/* bytes; set by its owner */
	uint64_t	 front;		/* the highest end of any */
	uint64_t	 run;		/* bytes read in order up to there */
	bool		 failed;	/* what was asked for ahead: no more of that */
};

void ahead_init(struct sftp_ahead *a, ahead_fetch *fetch);

/** ahead_free(a): All files must be forgotten. */
void ahead_free(struct sftp_ahead *a);

/** ahead_read(a, af, file, p, n, offset, err): The same as ahead->fetch, with what is ahead.  Returns how many bytes were read, or -1. */
long ahead_read(struct sftp_ahead *a, struct ahead_file *af, void *file, void *p, size_t n, uint64_t offset, struct err *err);

/** ahead_forget(a, file): Before ${file} is closed.  Blocks: for what is under way of it. */
void ahead_forget(struct sftp_ahead *a, const void *file);

#endif
