#include "ssh/ssh_exec.h"

#include <errno.h>
#include <string.h>

/* A libssh2 call that would block, until it does not, or the session is dead. */
#define TRY(r, call)	while (((r) = (call)) == LIBSSH2_ERROR_EAGAIN && ssh_wait(ss, err) == 0)

static LIBSSH2_CHANNEL *
open_channel(struct ssh_session *ss, struct err *err)
{
	LIBSSH2_CHANNEL *ch;

	while ((ch = libssh2_channel_open_session(ss->ssh)) == NULL && libssh2_session_last_errno(ss->ssh) == LIBSSH2_ERROR_EAGAIN &&
	    ssh_wait(ss, err) == 0)
		;
	return (ch);
}

/* What it writes, and that it has ended; what does not fit, and what it complains of, is read and forgotten. */
static int
read_out(struct ssh_session *ss, LIBSSH2_CHANNEL *ch, char *out, size_t n, struct err *err)
{
	size_t len = 0;
	char rest[512] = "";
	ssize_t r;

	do {
		TRY(r, libssh2_channel_read(ch, len < n - 1 ? out + len : rest, len < n - 1 ? n - 1 - len : sizeof(rest)))
			;
		if (r > 0 && len < n - 1)
			len += (size_t)r;
	} while (r > 0);
	out[len] = '\0';
	return (r == 0 ? 0 : -1);
}

static int
wait_for_end(struct ssh_session *ss, LIBSSH2_CHANNEL *ch, struct err *err)
{
	int r;

	TRY(r, libssh2_channel_close(ch))
		;
	if (r == 0)
		TRY(r, libssh2_channel_wait_closed(ch))
			;
	return (r == 0 ? 0 : -1);
}

/* A server that only does SFTP refuses the channel, or what is asked for in it. */
static bool
was_refused(struct ssh_session *ss)
{
	int code = libssh2_session_last_errno(ss->ssh);

	return (!ss->dead && (code == LIBSSH2_ERROR_CHANNEL_FAILURE || code == LIBSSH2_ERROR_CHANNEL_REQUEST_DENIED));
}

int
ssh_exec(struct ssh_session *ss, const char *command, unsigned int seconds, char *out, size_t n, struct err *err)
{
	LIBSSH2_CHANNEL *ch;
	int r = -1, status = -1;
	bool refused = false;

	if (ssh_begin_long(ss, seconds, err) == -1)
		return (-1);
	if ((ch = open_channel(ss, err)) != NULL) {
		TRY(r, libssh2_channel_exec(ch, command))
			;
		if (r == 0 && read_out(ss, ch, out, n, err) == 0 && wait_for_end(ss, ch, err) == 0)
			status = libssh2_channel_get_exit_status(ch);
		refused = status == -1 && was_refused(ss);
		TRY(r, libssh2_channel_free(ch))
			;
		if (r == LIBSSH2_ERROR_EAGAIN)
			libssh2_channel_free(ch);
	}
	else
		refused = was_refused(ss);
	if (refused)
		err_plain(err, ENOTSUP, "%s runs no commands for us", ss->t->label);
	else if (status == -1)
		ssh_lost(ss, err);
	return (status);
}
