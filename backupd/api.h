/*
 * api.h - the daemon's HTTP/JSON interface on a unix socket, and what the daemon has to offer to it.  API.md says what clients see.
 *
 * Calling sequence:  api_start -> (poll api_fd for reading, at most api_timeout long -> api_serve)* -> api_stop
 *                    api_run_changed whenever a run's state or progress has changed; cheap, may be called from within an operation
 *
 * Threads: none of its own: every operation is called from within api_serve(), and must return at once, as all clients wait for it.
 *
 * The files behind this header, in api/:
 *   server.c     libmicrohttpd within the daemon's loop: requests come in, answers go out
 *   route.c      which operation a request means, and what it answers
 *   request.c    paths, queries and bodies as values; pure
 *   peer.c       who is connected, what they may do
 *   stream.c     a run's state, line by line as it changes
 *   socket.c     the listening socket, our own or systemd's
 *   metrics.c    the status in Prometheus' text format; pure
 */
#ifndef OVB_API_H
#define OVB_API_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define API_SOCKET	"api.sock"	/* in the runtime folder */
#define API_LIMIT_MAX	10000u		/* of "limit" and "next" */
#define API_LIMIT	100u		/* the default of "limit" */
#define API_NEXT	10u		/* the default of "next" */
#define API_LOG_MAX	(8u << 20)	/* bytes: of a longer log the end is served */

/*
 * What the daemon does for its clients.  Each returns a new reference to what API.md, "Objects", describes; NULL means out of memory (503), but of
 * run_state that there is no such run (404).  Times are RFC 3339 in UTC, sizes in bytes, durations in seconds.
 *
 * One that can fail returns -1 and sets ${err}: the text goes to the client as it is, and the code says which HTTP status goes with it:
 * ENOENT 404 (no such job, run or domain), EINVAL 400, EBUSY, EEXIST and EALREADY 409 (not in its present state), EAGAIN, ENOMEM and ENOSPC 503,
 * anything else 500.  api_fail() sets a code without strerror()'s text.
 */
struct api_ops {
	json_t	*(*status)(void *arg);
	json_t	*(*jobs)(void *arg);
	/* ${job} NULL: of all.  The newest first, ${limit} (1 to API_LIMIT_MAX) at most. */
	json_t	*(*history)(void *arg, const char *job, unsigned int limit);
	/* Queue a run of ${job}, or of its machine ${domain} alone (NULL: of all).  What happens to it is seen in its state. */
	int	 (*run)(void *arg, const char *job, const char *domain, bool full, int64_t *run_id, struct err *err);
	/* Of a queued or running one; returns at once, the run ends when it can. */
	int	 (*cancel)(void *arg, int64_t run, struct err *err);
	/* The next ${next} (1 to API_LIMIT_MAX) times over all jobs, in order. */
	json_t	*(*schedule)(void *arg, unsigned int next);
	/* Scheduled runs are not started until resume; both may be repeated. */
	int	 (*pause)(void *arg, struct err *err);
	int	 (*resume)(void *arg, struct err *err);
	/* Append the run's log (UTF-8 lines) to ${out}: its last API_LOG_MAX bytes.  No log yet: nothing. */
	int	 (*log)(void *arg, int64_t run, struct buf *out, struct err *err);
	/* A run that is queued, running, or in the history.  A run ends once: when "finished" is set, nothing of it changes any more. */
	json_t	*(*run_state)(void *arg, int64_t run);
	/* Try who is notified, as if of ${job} (NULL: of any).  Returns at once; what comes of it is asked for by its number. */
	int	 (*notify_test)(void *arg, const char *job, int64_t *id, struct err *err);
	/* NULL: there is no such test (404). */
	json_t	*(*notify_result)(void *arg, int64_t id);
};

struct api_options {
	const char	*path;		/* of the socket; NULL: API_SOCKET in the runtime folder.  Not used when systemd passes one */
	const char	*group;		/* whose members may connect and read; NULL: nobody's */
	bool		 group_acts;	/* they may also run, cancel, pause and resume */
	unsigned int	 connections;	/* at most so many at once; 0: 600 */
	unsigned int	 request_s;	/* seconds within which a request must be complete; 0: 10 */
};

#define API_OPTIONS_INIT	{ NULL, NULL, false, 0, 0 }

struct api;

/**
 * api_start(o, ops, arg, err):
 * Listen, on the socket that systemd passes (sd_listen_fds(3)) or on one of our own: mode 0660, of ${o}'s group.  A socket that nobody listens on is
 * replaced.  ${ops} must stay; ${arg} is handed to its operations.
 *
 * Fails: NULL; somebody else listens there, no such group, or what the system says.
 */
struct api *api_start(const struct api_options *o, const struct api_ops *ops, void *arg, struct err *err);

/** api_fd(a): A descriptor for poll(2) or epoll(7), readable when api_serve() has something to do.  It stays ${a}'s. */
int api_fd(const struct api *a);

/** api_timeout(a): Milliseconds after which api_serve() must be called even if api_fd() is quiet; -1: none (nobody is connected). */
int api_timeout(struct api *a);

/** api_serve(a): Do what can be done without waiting: accept, read, call operations, answer, and drop who takes too long. */
void api_serve(struct api *a);

/** api_run_changed(a, run): Who follows this run gets its state, at the next api_serve().  ${a} may be NULL. */
void api_run_changed(struct api *a, int64_t run);

/** api_group_acts(a, acts): Whether members of the socket's group may also act, from now on. */
void api_group_acts(struct api *a, bool acts);

/** api_stop(a): Close all connections, remove the socket if it is our own.  NULL is harmless. */
void api_stop(struct api *a);

/** api_fail(err, code, fmt, ...): err_set() with a ${code} that only chooses the HTTP status.  Returns -1. */
int api_fail(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
