/* server.h - what server.c, route.c and stream.c share. */
#ifndef OVB_API_SERVER_H
#define OVB_API_SERVER_H

#include <microhttpd.h>
#include <sys/queue.h>

#include "../api.h"
#include "peer.h"
#include "request.h"
#include "socket.h"

#define STREAMS_MAX	64u
#define API_JSON	(JSON_COMPACT | JSON_REAL_PRECISION(12))	/* 0.194 is not 0.19400000000000001 */

struct stream;

/* Bytes of answers that are not read yet: above that, what may be long is refused; above twice that, all that is more than a few words. */
#define ANSWERS_MAX	(32u << 20)

/* A connection, from accept to close. */
struct client {
	TAILQ_ENTRY(client)	 entry;
	struct MHD_Connection	*conn;
	struct peer		 peer;
	int			 fd;		/* the library's */
	int64_t			 since;		/* ms: connected, or answered */
	int64_t			 allowed;	/* ms from then on; 0: any time */
	bool			 asked;		/* its request is complete */
	size_t			 answer;	/* bytes that wait for it to read them */
};

/* A request on it. */
struct call {
	char		*target;	/* as it was sent */
	struct buf	 body;
	bool		 begun, too_large;
};

struct api {
	struct MHD_Daemon		*mhd;
	const struct api_ops		*ops;
	void				*arg;
	struct api_socket		 socket;
	struct peer_policy		 policy;
	unsigned int			 connections, nclients, most;	/* ${most}: since memory was last given back */
	size_t				 answers;	/* bytes, of all clients */
	int64_t				 request_ms;
	TAILQ_HEAD(clients, client)	 clients;
	LIST_HEAD(streams, stream)	 streams;
	unsigned int			 nstreams;
	int64_t				 heartbeat;	/* ms: when streams were last woken */
};

/** api_now(): Milliseconds of the monotonic clock. */
int64_t api_now(void);

/** route_answer(a, c, call, method): Carry out a request that is complete, and queue its answer. */
enum MHD_Result route_answer(struct api *a, struct client *c, struct call *call, const char *method);

/** stream_response(a, c, run): A response that follows ${run}, which must be there.  Fails: NULL, too many or no memory. */
struct MHD_Response *stream_response(struct api *a, struct client *c, int64_t run);

/** stream_changed(a, run): Wake who follows ${run}. */
void stream_changed(struct api *a, int64_t run);

/** stream_heartbeat(a): Wake everybody now and then, as only a write shows that somebody is gone. */
void stream_heartbeat(struct api *a);

/** stream_timeout(a): Milliseconds until then; -1: nobody. */
int stream_timeout(const struct api *a);

/** stream_end(a): All streams end at their next turn. */
void stream_end(struct api *a);

#endif
