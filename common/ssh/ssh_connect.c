#include "ssh/ssh_connect.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/io.h"

#define KEEPALIVE_S	15		/* no firewall forgets a connection so soon */

extern char **environ;

int64_t
ssh_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ((int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000);
}

/* A lookup of a name, with what the resolver writes to while it is under way. */
struct lookup {
	struct gaicb	 cb;
	struct addrinfo	 hints;
	char		*host, port[8];
};

/* getaddrinfo() has no deadline of its own. */
static int
look_up(const struct ssh_target *t, int64_t until, struct addrinfo **out, struct err *err)
{
	struct lookup *l = calloc(1, sizeof(*l));
	struct gaicb *list[1];
	int64_t left;
	int r;

	if (l == NULL || (l->host = strdup(t->hostname)) == NULL) {
		free(l);
		return (err_nomem(err));
	}
	snprintf(l->port, sizeof(l->port), "%d", t->port);
	/* An address needs no resolver, nor the thread that waits for it. */
	l->hints = (struct addrinfo){ .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST };
	if (getaddrinfo(l->host, l->port, &l->hints, out) == 0) {
		free(l->host);
		free(l);
		return (0);
	}
	l->hints.ai_flags = 0;
	l->cb = (struct gaicb){ .ar_name = l->host, .ar_service = l->port, .ar_request = &l->hints };
	list[0] = &l->cb;
	if ((r = getaddrinfo_a(GAI_NOWAIT, list, 1, NULL)) == 0) {
		while ((r = gai_error(&l->cb)) == EAI_INPROGRESS && (left = until - ssh_now()) > 0)
			gai_suspend((const struct gaicb *const *)list, 1, &(struct timespec){ .tv_sec = left / 1000, .tv_nsec = left % 1000 * 1000000 });
		/* It may have come to an end in between. */
		if (r == EAI_INPROGRESS && gai_cancel(&l->cb) != EAI_CANCELED && (r = gai_error(&l->cb)) == EAI_INPROGRESS)
			return (err_plain(err, ETIMEDOUT, "no address of %s was found in time", t->hostname));	/* ${l} is the resolver's for good */
	}
	*out = l->cb.ar_result;
	free(l->host);
	free(l);
	if (r == EAI_INPROGRESS)
		return (err_plain(err, ETIMEDOUT, "no address of %s was found in time", t->hostname));
	return (r == 0 ? 0 : err_set(err, 0, "the host %s was not found (%s): is the url right, and does name resolution work here?", t->hostname,
	    gai_strerror(r)));
}

static int
connect_one(const struct addrinfo *ai, int64_t until)
{
	int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1, code = 0, r;
	struct pollfd pfd = { .fd = fd, .events = POLLOUT };
	socklen_t n = sizeof(code);
	int64_t left;

	if (fd == -1)
		return (-1);
	if (connect(fd, ai->ai_addr, ai->ai_addrlen) == -1) {
		if (errno != EINPROGRESS)
			goto fail;
		do {
			left = until - ssh_now();
			r = left > 0 ? poll(&pfd, 1, left > INT_MAX ? INT_MAX : (int)left) : 0;
		} while (r == -1 && errno == EINTR);
		if (r == 0)
			errno = ETIMEDOUT;
		else if (r == 1 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &n) == 0)
			errno = code;
		if (errno != 0)
			goto fail;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &(int){ KEEPALIVE_S }, sizeof(int));
	return (fd);
fail:
	code = errno;
	close(fd);
	errno = code;
	return (-1);
}

/* What to look at when a host cannot be reached. */
static const char *
advice(int code)
{
	switch (code) {
	case ECONNREFUSED:
		return ("is sshd running there, and is this its port?");
	case ECONNRESET:
	case EPIPE:
		return ("see the log of its sshd");
	case EACCES:
	case EPERM:
		return ("a firewall on this machine forbids it");
	default:
		return ("is the host up, is the url right, and does a firewall let us through?");
	}
}

static int
connect_tcp(const struct ssh_target *t, int64_t until, struct ssh_stream *out, struct err *err)
{
	struct addrinfo *list = NULL;
	char reason[128];
	int code;

	if (look_up(t, until, &list, err) == -1)
		return (-1);
	errno = EHOSTUNREACH;
	for (const struct addrinfo *ai = list; ai != NULL && out->fd == -1; ai = ai->ai_next) {
		errno = 0;
		out->fd = connect_one(ai, until);
	}
	if (out->fd == -1) {
		code = errno;
		err_set(err, 0, "cannot connect to %s port %d (%s): %s", t->hostname, t->port, strerror_r(code, reason, sizeof(reason)), advice(code));
		err->code = code;
	}
	freeaddrinfo(list);
	return (out->fd == -1 ? -1 : 0);
}

/* ssh -W, with all but the last host of the list given by -J, as ssh does it itself. */
static int
spawn_jump(const struct ssh_target *t, int end, int complaints, pid_t *pid)
{
	const char *last = strrchr(t->jump, ',');
	char *before = last != NULL ? strndup(t->jump, (size_t)(last - t->jump)) : NULL, *to = NULL, *through = NULL;
	const char *argv[16] = { "ssh", "-T", "-oBatchMode=yes", "-oControlPath=none", "-oServerAliveInterval=15" };
	posix_spawn_file_actions_t fa;
	size_t n = 5;
	int r = ENOMEM;

	last = last != NULL ? last + 1 : t->jump;
	if ((last != t->jump && before == NULL) || asprintf(&to, "[%s]:%d", t->hostname, t->port) == -1)
		to = NULL;
	else if (asprintf(&through, "%s%s", strncmp(last, "ssh://", 6) == 0 ? "" : "ssh://", last) == -1)
		through = NULL;
	else {
		if (before != NULL) {
			argv[n++] = "-J";
			argv[n++] = before;
		}
		argv[n++] = "-W";
		argv[n++] = to;
		argv[n++] = "--";
		argv[n] = through;
		posix_spawn_file_actions_init(&fa);
		posix_spawn_file_actions_adddup2(&fa, end, 0);
		posix_spawn_file_actions_adddup2(&fa, end, 1);
		posix_spawn_file_actions_adddup2(&fa, complaints, 2);
		r = posix_spawnp(pid, argv[0], &fa, NULL, (char **)(uintptr_t)argv, environ);
		posix_spawn_file_actions_destroy(&fa);
	}
	free(before);
	free(to);
	free(through);
	return (r);
}

static int
connect_jump(const struct ssh_target *t, struct ssh_stream *out, struct err *err)
{
	int pair[2], r;

	if ((out->complaints = io_tempfile(err)) == -1)
		return (-1);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == -1)
		return (err_set(err, errno, "cannot make a socket pair to reach %s by ProxyJump %s", t->hostname, t->jump));
	r = spawn_jump(t, pair[1], out->complaints, &out->jump);
	io_close(&pair[1]);
	out->fd = pair[0];
	if (r != 0) {
		out->jump = 0;
		return (err_set(err, r, "cannot run ssh for ProxyJump %s (package openssh-client)", t->jump));
	}
	return (fcntl(out->fd, F_SETFL, O_NONBLOCK) == -1 ? err_set(err, errno, "cannot make a socket pair to reach %s by ProxyJump %s", t->hostname, t->jump) : 0);
}

int
ssh_connect(const struct ssh_target *t, int64_t until, struct ssh_stream *out, struct err *err)
{
	if ((t->jump != NULL ? connect_jump(t, out, err) : connect_tcp(t, until, out, err)) == 0)
		return (0);
	ssh_disconnect(out);
	return (-1);
}

const char *
ssh_stream_complaint(const struct ssh_stream *s, char *text, size_t n)
{
	ssize_t got = s->complaints == -1 ? 0 : io_pread(s->complaints, text, n - 1, 0);
	char *line;

	text[got > 0 ? got : 0] = '\0';
	while (text[0] != '\0' && strchr("\r\n", text[strlen(text) - 1]) != NULL)
		text[strlen(text) - 1] = '\0';
	line = strrchr(text, '\n');
	return (line != NULL ? line + 1 : text);
}

void
ssh_disconnect(struct ssh_stream *s)
{
	io_close(&s->fd);
	if (s->jump != 0) {
		kill(s->jump, SIGKILL);
		while (waitpid(s->jump, NULL, 0) == -1 && errno == EINTR)
			;
		s->jump = 0;
	}
	io_close(&s->complaints);
}
