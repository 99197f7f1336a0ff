/*
 * sftp_pool.h - the connections of a store on an SFTP server: as many as are used at once, up to SFTP_CONNS.
 *
 * Calling sequence:  pool_open -> (pool_take -> requests -> pool_give)* -> pool_close
 * Whoever has taken a connection has it alone, and they get one in the order in which they came: files' data may keep all of them busy.
 * When one is lost, by a deadline or a cut line, all further pool_take() fail with that reason: a run does not wait for each of its clean-up steps.
 *
 * Threads: any.
 */
#ifndef OVB_SFTP_POOL_H
#define OVB_SFTP_POOL_H

#include <pthread.h>

#include "ssh/ssh_session.h"

#define SFTP_CONNS	4

struct sftp_conn {
	struct ssh_session	*ss;		/* NULL: not connected */
	unsigned int		 gen;		/* of this place: handles of an earlier connection are not this one's */
	bool			 taken;
	LIBSSH2_SFTP_HANDLE	**unused;	/* handles to be closed when it is given back */
	size_t			 nunused;
};

struct sftp_pool {
	const struct ssh_target	*t;
	pthread_mutex_t		 lock;		/* guards what follows; a taken connection's session is its taker's */
	pthread_cond_t		 freed;
	struct sftp_conn	 conns[SFTP_CONNS];
	uint64_t		 came, went;	/* takers: how many there were, and how many have a connection, or none, by now */
	pthread_t		 connector;
	bool			 begun;		/* it is to be joined */
	bool			 connecting;	/* it is at work */
	int			 place;		/* for its connection, then */
	bool			 full;		/* a further connection was refused: no more are tried */
	struct err		 refused;	/* why, then */
	bool			 lost;
	struct err		 why;		/* then */
};

/** pool_open(p, t, err): Make the first connection to ${t}, which must outlive the pool.  Fails: -1; pool_close() is harmless then. */
int pool_open(struct sftp_pool *p, const struct ssh_target *t, struct err *err);

/** pool_close(p): End all connections.  None may be taken. */
void pool_close(struct sftp_pool *p);

/** pool_take(p, prefer, err): Take a connection, the one with the number ${prefer} (-1: any) if it is free, and begin a request on it.  Fails: -1. */
int pool_take(struct sftp_pool *p, int prefer, struct err *err);

/** pool_give(p, i): Give it back. */
void pool_give(struct sftp_pool *p, int i);

/** pool_drop(p, i, gen, h): Close the handle ${h} of connection ${i}, when it was its ${gen}th, as soon as nobody has that. */
void pool_drop(struct sftp_pool *p, int i, unsigned int gen, LIBSSH2_SFTP_HANDLE *h);

/** pool_spoil(p, i): Give it back as one that is good for nothing more; the store goes on with others. */
void pool_spoil(struct sftp_pool *p, int i);

#endif
