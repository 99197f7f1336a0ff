#include "ssh/ssh_session.h"

#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/io.h"
#include "ssh/ssh_ctr.h"

#define KEEP_FREE	(8 << 20)	/* bytes of free memory that an arena keeps */
#define KEEPALIVE_S	15u
#define ANSWER_MAX	((uint64_t)32 << 20)	/* bytes that may come while one request is under way: far more than any asks for, or lists */
#define EMPTY_MAX	10000u	/* reads in a row of what is not there, without our waiting for it */
#define LATE_MS		1000	/* that ssh_wait() is given to notice it first */
#define FREE_TRIES	1000u	/* of what nothing is left to wait for */

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void
init_library(void)
{
	/* libssh2 takes and frees each packet's memory: given back to the kernel each time, it costs a tenth of what receiving does. */
	mallopt(M_TRIM_THRESHOLD, KEEP_FREE);
	ssh_ctr_install();
	libssh2_init(0);
}

/* libssh2 reads and writes through these two, so that we know when bytes move, and what the server said first. */
static ssize_t
receive(libssh2_socket_t fd, void *p, size_t n, int flags, void **abstract)
{
	struct ssh_session *ss = *abstract;
	ssize_t r;
	size_t keep;

	(void)fd;	/* what libssh2 remembers may be somebody else's by now */
	/*
	 * Answers that nobody asked for are kept by libssh2, which does not come back to ssh_wait() as long as more of them come.  When a channel
	 * ends within an answer, libssh2 1.10 asks for the rest over and over.
	 */
	if (ss->came > ANSWER_MAX || ++ss->empty > EMPTY_MAX || ssh_now() >= ss->until + LATE_MS) {
		ss->ended = true;
		return (-ECONNABORTED);
	}
	while ((r = recv(ss->stream.fd, p, n, flags)) == -1 && errno == EINTR)
		;
	ss->ended |= r == 0 || (r == -1 && errno != EWOULDBLOCK);
	if (r == -1)
		return (errno == EWOULDBLOCK ? -EAGAIN : -errno);
	ss->empty = 0;
	if (r > 0)
		ss->moved = ssh_now();
	ss->came += (uint64_t)r;
	keep = (size_t)r < SSH_SEEN_MAX - ss->nseen ? (size_t)r : SSH_SEEN_MAX - ss->nseen;
	memcpy(ss->seen + ss->nseen, p, keep);
	ss->nseen += keep;
	return (r);
}

static ssize_t
transmit(libssh2_socket_t fd, const void *p, size_t n, int flags, void **abstract)
{
	struct ssh_session *ss = *abstract;
	ssize_t r;

	(void)fd;
	while ((r = send(ss->stream.fd, p, n, flags | MSG_NOSIGNAL)) == -1 && errno == EINTR)
		;
	if (r == -1)
		return (errno == EWOULDBLOCK ? -EAGAIN : -errno);
	ss->moved = ssh_now();
	return (r);
}

static void
set_time(struct ssh_session *ss, unsigned int seconds)
{
	ss->moved = ssh_now();
	ss->until = ss->moved + (int64_t)seconds * 1000;
	ss->limit_s = seconds;
	ss->came = 0;
	ss->empty = 0;
}

static int
die(struct ssh_session *ss, struct err *err)
{
	ss->dead = true;
	ss->why = *err;
	io_close(&ss->stream.fd);	/* so that what is left to be freed waits for nothing */
	return (-1);
}

int
ssh_begin(struct ssh_session *ss, struct err *err)
{
	if (ss->dead) {
		*err = ss->why;
		return (-1);
	}
	set_time(ss, ss->t->request_s);
	return (0);
}

int
ssh_begin_long(struct ssh_session *ss, unsigned int seconds, struct err *err)
{
	if (ssh_begin(ss, err) == -1)
		return (-1);
	set_time(ss, seconds);
	return (0);
}

static int
too_late(struct ssh_session *ss, int64_t now, struct err *err)
{
	if (now >= ss->until)
		err_plain(err, ETIMEDOUT, "%s did not finish a request within %u s", ss->t->label, ss->limit_s);
	else
		err_plain(err, ETIMEDOUT, "%s does not answer: nothing came from it, or went to it, for %u s", ss->t->label, ss->t->idle_s);
	return (die(ss, err));
}

/*
 * Only where nothing is half sent: libssh2 goes on with a packet only when it is given the same one again.  Before the login a server expects none.
 * That our question went into the socket is no sign of life; the answer is.
 */
static void
show_life(struct ssh_session *ss)
{
	struct pollfd pfd = { .fd = ss->stream.fd, .events = POLLOUT };
	int next, directions = libssh2_session_block_directions(ss->ssh);
	int64_t moved = ss->moved;

	if (libssh2_userauth_authenticated(ss->ssh) && (directions & LIBSSH2_SESSION_BLOCK_OUTBOUND) == 0 && poll(&pfd, 1, 0) == 1 &&
	    pfd.revents == POLLOUT)
		libssh2_keepalive_send(ss->ssh, &next);
	ss->moved = moved;
}

/* Its SFTP server may end, or crash, while its sshd lives on. */
static bool
sftp_ended(struct ssh_session *ss)
{
	return (ss->sftp != NULL && libssh2_channel_eof(libssh2_sftp_get_channel(ss->sftp)) == 1);
}

static int
too_early(struct ssh_session *ss, struct err *err)
{
	err_set(err, ECONNRESET, "the connection to %s was lost (its SFTP server has ended: see the log there)", ss->t->label);
	return (die(ss, err));
}

int
ssh_wait(struct ssh_session *ss, struct err *err)
{
	struct pollfd pfd = { .fd = ss->stream.fd };
	int directions = libssh2_session_block_directions(ss->ssh), r;
	int64_t now = ssh_now(), idle_end = ss->moved + (int64_t)ss->t->idle_s * 1000, left;

	if ((directions & LIBSSH2_SESSION_BLOCK_INBOUND) != 0 || directions == 0)
		pfd.events |= POLLIN;
	if ((directions & LIBSSH2_SESSION_BLOCK_OUTBOUND) != 0)
		pfd.events |= POLLOUT;
	if (ss->dead) {
		*err = ss->why;
		return (-1);
	}
	ss->empty = 0;
	if (now >= ss->until || now >= idle_end)
		return (too_late(ss, now, err));
	if (sftp_ended(ss))
		return (too_early(ss, err));
	left = (ss->until < idle_end ? ss->until : idle_end) - now;
	if (left > KEEPALIVE_S * 1000)
		left = KEEPALIVE_S * 1000;
	if ((r = poll(&pfd, 1, (int)left)) == -1 && errno != EINTR) {
		err_set(err, errno, "cannot wait for %s", ss->t->label);
		return (die(ss, err));
	}
	/* Its answer shows that the server lives, while its disk is slow. */
	if (r == 0)
		show_life(ss);
	return (0);
}

const char *
ssh_says(struct ssh_session *ss)
{
	char *text = NULL;

	libssh2_session_last_error(ss->ssh, &text, NULL, 0);
	return (text != NULL && text[0] != '\0' ? text : "no reason was given");
}

bool
ssh_lost(struct ssh_session *ss, struct err *err)
{
	char text[500], safe[300];
	int code = libssh2_session_last_errno(ss->ssh);

	if (ss->dead)
		return (true);
	if (code == LIBSSH2_ERROR_SFTP_PROTOCOL && libssh2_sftp_last_error(ss->sftp) != LIBSSH2_FX_OK)
		return (false);
	if (ssh_now() >= ss->until) {
		too_late(ss, ssh_now(), err);
		return (true);
	}
	if (sftp_ended(ss)) {
		too_early(ss, err);
		return (true);
	}
	if (ss->came > ANSWER_MAX || ss->empty > EMPTY_MAX) {
		err_set(err, 0, "%s sends more than it was asked for: that is no sound SFTP server", ss->t->label);
		die(ss, err);
		return (true);
	}
	snprintf(safe, sizeof(safe), "%s", ssh_stream_complaint(&ss->stream, text, sizeof(text)));
	err_set(err, code == LIBSSH2_ERROR_ALLOC ? ENOMEM : ECONNRESET, "the connection to %s was lost (%s%s%s)", ss->t->label, ssh_says(ss),
	    safe[0] != '\0' ? "; ssh: " : "", safe);
	die(ss, err);
	return (true);
}

bool
ssh_can_rsa(struct ssh_session *ss)
{
	const char **v = NULL;
	int n = libssh2_session_supported_algs(ss->ssh, LIBSSH2_METHOD_HOSTKEY, &v);
	bool found = false;

	for (int i = 0; i < n; i++)
		found |= strncmp(v[i], "rsa-sha2-", 9) == 0;
	if (n > 0)
		libssh2_free(ss->ssh, v);
	return (found);
}

static int
handshake(struct ssh_session *ss, struct err *err)
{
	int r;

	if ((ss->ssh = libssh2_session_init_ex(NULL, NULL, NULL, ss)) == NULL)
		return (err_nomem(err));
	libssh2_session_callback_set(ss->ssh, LIBSSH2_CALLBACK_RECV, (void *)receive);
	libssh2_session_callback_set(ss->ssh, LIBSSH2_CALLBACK_SEND, (void *)transmit);
	libssh2_session_set_blocking(ss->ssh, 0);
	if (ssh_algorithms_set(ss, err) == -1 || ssh_host_key_order(ss, err) == -1)
		return (-1);
	while ((r = libssh2_session_handshake(ss->ssh, ss->stream.fd)) == LIBSSH2_ERROR_EAGAIN)
		if (ssh_wait(ss, err) == -1)
			return (-1);
	if (r != 0)
		return (ssh_handshake_failed(ss, err));
	/* With an answer: it tells that the server lives. */
	libssh2_keepalive_config(ss->ssh, 1, KEEPALIVE_S);
	return (0);
}

static int
begin_sftp(struct ssh_session *ss, struct err *err)
{
	const char *why = NULL;

	while (why == NULL && (ss->sftp = libssh2_sftp_init(ss->ssh)) == NULL) {
		if (libssh2_session_last_errno(ss->ssh) != LIBSSH2_ERROR_EAGAIN)
			why = ssh_says(ss);
		else if (ssh_wait(ss, err) == -1)
			why = "it does not answer";
	}
	if (why == NULL)
		return (0);
	return (err_set(err, 0, "%s lets us in, but does not begin SFTP (%s): has its sshd_config a Subsystem sftp, or ForceCommand internal-sftp, and does "
	    "nothing there print a greeting?", ss->t->label, why));
}

struct ssh_session *
ssh_session_open(const struct ssh_target *t, struct err *err)
{
	struct ssh_session *ss = calloc(1, sizeof(*ss));

	pthread_once(&once, init_library);
	if (ss == NULL) {
		err_nomem(err);
		return (NULL);
	}
	ss->t = t;
	ss->stream = (struct ssh_stream)SSH_STREAM_INIT;
	set_time(ss, t->connect_s);
	if (ssh_connect(t, ss->until, &ss->stream, err) == 0 && handshake(ss, err) == 0 && ssh_host_key_check(ss, err) == 0 &&
	    ssh_log_in(ss, err) == 0 && begin_sftp(ss, err) == 0)
		return (ss);
	ss->dead = true;
	ssh_session_close(ss);
	return (NULL);
}

void
ssh_handle_opened(struct ssh_session *ss, LIBSSH2_SFTP_HANDLE *h)
{
	LIBSSH2_SFTP_HANDLE **v = realloc(ss->handles, (ss->nhandles + 1) * sizeof(*v));

	if (v == NULL)
		return;		/* it is closed by its user all the same */
	ss->handles = v;
	v[ss->nhandles++] = h;
}

void
ssh_handle_close(struct ssh_session *ss, LIBSSH2_SFTP_HANDLE *h)
{
	struct err ignored = ERR_INIT;

	for (size_t i = 0; i < ss->nhandles; i++)
		if (ss->handles[i] == h)
			ss->handles[i--] = ss->handles[--ss->nhandles];
	while (libssh2_sftp_close_handle(h) == LIBSSH2_ERROR_EAGAIN)
		if (ssh_wait(ss, &ignored) == -1) {
			libssh2_sftp_close_handle(h);	/* of a session that has just died: without a stream it is freed now */
			break;
		}
}

void
ssh_session_close(struct ssh_session *ss)
{
	struct err ignored = ERR_INIT;

	if (ss == NULL)
		return;
	/* A goodbye that cannot be sent at once is not worth waiting for: the stream's end says the same. */
	if (ss->ssh != NULL && !ss->dead) {
		set_time(ss, 2);
		while (libssh2_session_disconnect(ss->ssh, "done") == LIBSSH2_ERROR_EAGAIN && ssh_wait(ss, &ignored) == 0)
			;
	}
	ssh_disconnect(&ss->stream);
	/* Without a stream, freeing finds every read and write failed, and does not wait. */
	while (ss->nhandles > 0)
		libssh2_sftp_close_handle(ss->handles[--ss->nhandles]);
	free(ss->handles);
	for (unsigned int i = 0; i < FREE_TRIES && ss->sftp != NULL && libssh2_sftp_shutdown(ss->sftp) == LIBSSH2_ERROR_EAGAIN; i++)
		;
	for (unsigned int i = 0; i < FREE_TRIES && ss->ssh != NULL && libssh2_session_free(ss->ssh) == LIBSSH2_ERROR_EAGAIN; i++)
		;
	free(ss);
}
