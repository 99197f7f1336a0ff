/* The SHA-256 of a file on an SFTP server, computed there, by sha256sum(1). */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "ssh/ssh_exec.h"
#include "store/store_sftp.h"

#define COMMAND_LEN	(SFTP_PATH_LEN * 4 + 128)
#define SLOWEST		((uint64_t)8 << 20)	/* bytes a second that any server can hash */
#define LEAST_S		60u

/* For a POSIX shell: nothing is special between single quotes but these themselves. */
static void
quote(const char *path, char *out, size_t n)
{
	size_t len = 0;

	out[len++] = '\'';
	for (; *path != '\0' && len + 6 < n; path++) {
		if (*path == '\'') {
			memcpy(out + len, "'\\''", 4);
			len += 4;
		} else
			out[len++] = *path;
	}
	out[len++] = '\'';
	out[len] = '\0';
}

static bool
is_digest(const char *text)
{
	return (strspn(text, "0123456789abcdef") == SHA256_HEX - 1 && text[SHA256_HEX - 1] == ' ');
}

int
sftp_sha256(struct store *st, const char *path, uint64_t n, char hex[SHA256_HEX], struct err *err)
{
	struct sftp_store *s = (struct sftp_store *)st;
	char full[SFTP_PATH_LEN], quoted[SFTP_PATH_LEN * 4], command[COMMAND_LEN], out[512] = "";
	uint64_t seconds = LEAST_S + n / SLOWEST;
	struct ssh_session *ss;
	int i, status;

	if (s->no_shell)
		return (err_plain(err, ENOTSUP, "%s runs no commands for us", st->url));
	if (sftp_path(s, path, full, err) == -1 || (i = pool_take(&s->pool, -1, err)) == -1)
		return (-1);
	quote(full, quoted, sizeof(quoted));
	snprintf(command, sizeof(command), "head -c %llu < %s | sha256sum", (unsigned long long)n, quoted);
	ss = s->pool.conns[i].ss;
	status = ssh_exec(ss, command, seconds < 86400 ? (unsigned int)seconds : 86400u, out, sizeof(out), err);
	if (ss->dead)
		err_wrap(err, "cannot compute the SHA-256 of %s/%s", st->url, path);
	pool_give(&s->pool, i);
	if (status == -1 && err->code != ENOTSUP)
		return (-1);
	if (status != 0 || !is_digest(out)) {
		/* A forced command, a restricted shell, no sha256sum: it will not be otherwise the next time. */
		s->no_shell = true;
		return (err_plain(err, ENOTSUP, "%s runs no sha256sum for us", st->url));
	}
	memcpy(hex, out, SHA256_HEX - 1);
	hex[SHA256_HEX - 1] = '\0';
	return (0);
}
