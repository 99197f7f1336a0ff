/* libmicrohttpd without threads, within the daemon's loop: requests come in, answers go out. */
#include "server.h"

#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

#define CONNECTIONS	600u
#define REQUEST_S	10u
#define IDLE_S		30u		/* a client that neither sends nor reads */
#define MEMORY		(12u * 1024)	/* bytes for each connection: its headers, and what is being sent */
#define CROWD		32u		/* clients at once */
#define SPARE_FDS	100u		/* what the daemon needs for other things */

int64_t
api_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return ((int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000);
}

int
api_fail(struct err *err, int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, ap);
	va_end(ap);
	err->code = code;
	return (-1);
}

/* A connection begins or ends. */
static void
on_connection(void *cls, struct MHD_Connection *conn, void **context, enum MHD_ConnectionNotificationCode what)
{
	const union MHD_ConnectionInfo *info;
	struct client *c = *context;
	struct api *a = cls;

	if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
		if (c != NULL) {
			TAILQ_REMOVE(&a->clients, c, entry);
			a->nclients--;
			a->answers -= c->answer;
			free(c);
		}
		*context = NULL;
		return;
	}
	if ((info = MHD_get_connection_info(conn, MHD_CONNECTION_INFO_CONNECTION_FD)) == NULL || (c = calloc(1, sizeof(*c))) == NULL)
		return;
	*c = (struct client){ .conn = conn, .fd = info->connect_fd, .since = api_now(), .allowed = a->request_ms };
	peer_identify(c->fd, &a->policy, &c->peer);
	TAILQ_INSERT_TAIL(&a->clients, c, entry);
	if (++a->nclients > a->most)
		a->most = a->nclients;
	*context = c;
}

/* The request line has come: the target as it was sent, which the library is about to take apart in its own way. */
static void *
on_target(void *cls, const char *target, struct MHD_Connection *conn)
{
	struct call *call = calloc(1, sizeof(*call));

	(void)cls;
	(void)conn;
	if (call != NULL)
		call->target = strdup(target);
	return (call);
}

static void
on_completed(void *cls, struct MHD_Connection *conn, void **con_cls, enum MHD_RequestTerminationCode why)
{
	struct call *call = *con_cls;

	(void)cls;
	(void)conn;
	(void)why;
	if (call == NULL)
		return;
	buf_free(&call->body);
	free(call->target);
	free(call);
	*con_cls = NULL;
}

static enum MHD_Result
on_request(void *cls, struct MHD_Connection *conn, const char *url, const char *method, const char *version, const char *data, size_t *len, void **con_cls)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(conn, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	struct client *c = info == NULL ? NULL : info->socket_context;
	struct call *call = *con_cls;
	struct err err;

	(void)url;
	(void)version;
	if (c == NULL || call == NULL)
		return (MHD_NO);
	if (!call->begun) {
		call->begun = true;
		return (MHD_YES);
	}
	if (*len == 0)
		return (route_answer(cls, c, call, method));
	if (call->body.len + *len > REQUEST_BODY)
		call->too_large = true;		/* the rest is read, and dropped: a client listens when it has sent all */
	else if (buf_add(&call->body, data, *len, &err) == -1)
		return (MHD_NO);
	*len = 0;
	return (MHD_YES);
}

/* The library takes %-signs out of paths and queries; ours are taken apart by request.c. */
static size_t
keep_encoded(void *cls, struct MHD_Connection *conn, char *s)
{
	(void)cls;
	(void)conn;
	return (strlen(s));
}

static unsigned int
connection_limit(unsigned int wanted)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) == -1 || rl.rlim_cur == RLIM_INFINITY || rl.rlim_cur >= wanted + SPARE_FDS)
		return (wanted);
	return (rl.rlim_cur > 2 * SPARE_FDS ? (unsigned int)rl.rlim_cur - SPARE_FDS : (unsigned int)rl.rlim_cur / 2);
}

static int
start_library(struct api *a, struct err *err)
{
	a->mhd = MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, on_request, a, MHD_OPTION_LISTEN_SOCKET, a->socket.fd,
	    MHD_OPTION_CONNECTION_LIMIT, a->connections, MHD_OPTION_CONNECTION_TIMEOUT, IDLE_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)MEMORY,
	    MHD_OPTION_NOTIFY_CONNECTION, on_connection, a, MHD_OPTION_NOTIFY_COMPLETED, on_completed, a, MHD_OPTION_URI_LOG_CALLBACK, on_target, a,
	    MHD_OPTION_UNESCAPE_CALLBACK, keep_encoded, a, MHD_OPTION_END);
	if (a->mhd == NULL)
		return (err_set(err, 0, "cannot start the API's HTTP server (libmicrohttpd %s)", MHD_get_version()));
	a->socket.fd = -1;	/* the library closes it */
	return (0);
}

struct api *
api_start(const struct api_options *o, const struct api_ops *ops, void *arg, struct err *err)
{
	struct api *a = calloc(1, sizeof(*a));

	if (a == NULL) {
		err_nomem(err);
		return (NULL);
	}
	*a = (struct api){ .ops = ops, .arg = arg, .socket = API_SOCKET_INIT, .request_ms = 1000 * (int64_t)(o->request_s != 0 ? o->request_s : REQUEST_S) };
	TAILQ_INIT(&a->clients);
	LIST_INIT(&a->streams);
	a->connections = connection_limit(o->connections != 0 ? o->connections : CONNECTIONS);
	if (api_socket_open(&a->socket, o, err) == -1 || start_library(a, err) == -1) {
		api_stop(a);
		return (NULL);
	}
	a->policy = (struct peer_policy){ a->socket.group, a->socket.has_group, o->group_acts };
	return (a);
}

void
api_group_acts(struct api *a, bool acts)
{
	a->policy.group_acts = acts;
}

int
api_fd(const struct api *a)
{
	const union MHD_DaemonInfo *info = MHD_get_daemon_info(a->mhd, MHD_DAEMON_INFO_EPOLL_FD);

	return (info->epoll_fd);
}

/* Milliseconds that a client has left.  When most places or much memory are taken, the slow ones get less time. */
static int64_t
time_left(const struct api *a, const struct client *c, int64_t now)
{
	bool scarce = a->nclients > a->connections / 4 * 3 || a->answers > ANSWERS_MAX / 2;
	int64_t allowed = scarce ? c->allowed / 5 : c->allowed;

	return (c->allowed == 0 ? INT64_MAX : c->since + allowed - now);
}

int
api_timeout(struct api *a)
{
	int64_t least = INT64_MAX, now = api_now(), left;
	MHD_UNSIGNED_LONG_LONG library;
	const struct client *c;
	int heartbeat = stream_timeout(a);

	if (MHD_get_timeout(a->mhd, &library) == MHD_YES)
		least = library > INT32_MAX ? INT32_MAX : (int64_t)library;
	if (heartbeat != -1 && heartbeat < least)
		least = heartbeat;
	for (c = TAILQ_FIRST(&a->clients); c != NULL; c = TAILQ_NEXT(c, entry)) {
		if ((left = time_left(a, c, now)) < least)
			least = left < 0 ? 0 : left;
	}
	return (least > INT32_MAX ? -1 : (int)least);
}

/* Its request may have come while we were busy: it is not the client who is late then. */
static bool
is_unread(const struct client *c)
{
	int bytes = 0;

	return (!c->asked && ioctl(c->fd, FIONREAD, &bytes) == 0 && bytes > 0);
}

/* The library has no deadline for a whole request, only for silence: it finds such a connection closed. */
static void
drop_late(struct api *a)
{
	int64_t now = api_now();
	struct client *c;

	for (c = TAILQ_FIRST(&a->clients); c != NULL; c = TAILQ_NEXT(c, entry)) {
		if (time_left(a, c, now) <= 0 && !is_unread(c)) {
			shutdown(c->fd, SHUT_RDWR);
			c->allowed = 0;
		}
	}
}

void
api_serve(struct api *a)
{
	unsigned int before;

	stream_heartbeat(a);
	/* What has come is read first: only then it can be told who is late. */
	MHD_run(a->mhd);
	drop_late(a);
	/* While all places are taken the library does not look whether somebody waits: when some became free, it has to be asked once more. */
	do {
		before = a->nclients;
		MHD_run(a->mhd);
	} while (before >= a->connections && a->nclients < before);
	/* After a crowd: the C library keeps what many answers took. */
	if (a->nclients == 0 && a->most > CROWD) {
		a->most = 0;
		malloc_trim(0);
	}
}

void
api_run_changed(struct api *a, int64_t run)
{
	if (a != NULL)
		stream_changed(a, run);
}

void
api_stop(struct api *a)
{
	if (a == NULL)
		return;
	if (a->mhd != NULL) {
		stream_end(a);		/* the library does not end while a connection is suspended */
		MHD_run(a->mhd);
		MHD_stop_daemon(a->mhd);
	}
	api_socket_close(&a->socket);
	free(a);
}
