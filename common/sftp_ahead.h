/*
 * sftp_ahead.h - what is read in order is asked for ahead, for all files of a store together: each answer takes a round trip.
 *
 * It never asks for more than was read in order before, so that at most half of what comes is not wanted, and reading here and there costs nothing.
 *
 * Threads: any.
 */
#ifndef OVB_SFTP_AHEAD_H
#define OVB_SFTP_AHEAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"

#define AHEAD_PLACES	3
#define AHEAD_WINDOW	((size_t)8 << 20)	/* bytes of a place */

struct sftp_ahead {
	pthread_mutex_t	 lock;		/* guards all that follows, and each file's struct ahead_file */
	pthread_cond_t	 filled;
	uint64_t	 clock;
	struct ahead_place {
		const void	*file;		/* NULL: empty */
		uint64_t	 offset;
		size_t		 want, n;	/* bytes asked for; there */
		bool		 filling;
		uint64_t	 used;		/* when it was, by ->clock */
		char		*buf;		/* NULL until it is needed */
	}		 places[AHEAD_PLACES];
};

/* What is known of a file's reads. */
struct ahead_file {
	uint64_t	 front;		/* the highest end of any */
	uint64_t	 run;		/* bytes read in order up to there */
};

/** Read ${n} bytes, or fewer only at the end of the file.  Fails: -1. */
typedef long ahead_fetch(void *file, void *p, size_t n, uint64_t offset, struct err *err);

void ahead_init(struct sftp_ahead *a);
void ahead_free(struct sftp_ahead *a);

/**
 * ahead_read(a, af, file, size, fetch, p, n, offset, err):
 * ${fetch} with what is ahead.  ${file} has ${size} bytes.  Returns how many were read, or -1.
 */
long ahead_read(struct sftp_ahead *a, struct ahead_file *af, void *file, uint64_t size, ahead_fetch *fetch, void *p, size_t n, uint64_t offset,
    struct err *err);

/** ahead_forget(a, file): Before ${file} is closed. */
void ahead_forget(struct sftp_ahead *a, const void *file);

#endif
