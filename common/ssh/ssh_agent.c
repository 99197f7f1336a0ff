#include "ssh/ssh_agent.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/io.h"
#include "ssh/ssh_wire.h"

#define ASK_KEYS	11
#define GOT_KEYS	12
#define ASK_SIGNATURE	13
#define GOT_SIGNATURE	14
#define KEYS_MAX	1000u

struct ssh_agent {
	int	 fd;
	uint8_t	*reply;			/* AGENT_REPLY_MAX bytes */
	char	 path[108];
};

struct ssh_agent *
ssh_agent_open(const char *path, unsigned int seconds, struct err *err)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct timeval tv = { .tv_sec = (time_t)seconds };
	struct ssh_agent *a = calloc(1, sizeof(*a));

	if (a == NULL || (a->reply = malloc(AGENT_REPLY_MAX)) == NULL) {
		free(a);
		err_nomem(err);
		return (NULL);
	}
	a->fd = -1;
	if (strlen(path) >= sizeof(sa.sun_path)) {
		err_set(err, ENAMETOOLONG, "ssh-agent's socket %s", path);
		goto fail;
	}
	strcpy(sa.sun_path, path);	/* NOLINT(clang-analyzer-security.insecureAPI.strcpy): measured above */
	strcpy(a->path, path);		/* NOLINT(clang-analyzer-security.insecureAPI.strcpy): likewise */
	if ((a->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) == -1 ||
	    setsockopt(a->fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)) == -1 || setsockopt(a->fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)) == -1 ||
	    connect(a->fd, (struct sockaddr *)&sa, sizeof(sa)) == -1) {
		err_set(err, errno, "cannot reach ssh-agent at %s", path);
		goto fail;
	}
	return (a);
fail:
	ssh_agent_close(a);
	return (NULL);
}

static int
receive(struct ssh_agent *a, uint8_t *p, size_t n, struct err *err)
{
	ssize_t r;

	for (; n > 0; p += r, n -= (size_t)r) {
		if ((r = recv(a->fd, p, n, 0)) > 0)
			continue;
		if (r == -1 && errno == EINTR)
			r = 0;
		else
			return (err_set(err, r == 0 ? ECONNRESET : errno == EAGAIN ? ETIMEDOUT : errno, "ssh-agent at %s does not answer", a->path));
	}
	return (0);
}

/* Send a message, whose first four bytes are kept for its length, and get the answer's type and body. */
static int
ask(struct ssh_agent *a, struct buf *message, uint8_t want, struct ssh_wire *out, struct err *err)
{
	uint8_t head[4];
	struct ssh_wire w = { head, sizeof(head) };
	uint32_t n = 0;
	ssize_t r;

	ssh_wire_put_u32((uint8_t *)message->ptr, (uint32_t)(message->len - 4));
	for (size_t at = 0; at < message->len; at += (size_t)r) {
		if ((r = send(a->fd, message->ptr + at, message->len - at, MSG_NOSIGNAL)) == -1 && errno == EINTR)
			r = 0;
		if (r == -1)
			return (err_set(err, errno == EAGAIN ? ETIMEDOUT : errno, "ssh-agent at %s does not answer", a->path));
	}
	if (receive(a, head, sizeof(head), err) == -1)
		return (-1);
	if (!ssh_wire_u32(&w, &n) || n < 1 || n > AGENT_REPLY_MAX)
		return (err_set(err, 0, "ssh-agent at %s answers with %u bytes", a->path, (unsigned int)n));
	if (receive(a, a->reply, n, err) == -1)
		return (-1);
	if (a->reply[0] != want)
		return (err_set(err, 0, "ssh-agent at %s refuses: is it locked?", a->path));
	*out = (struct ssh_wire){ a->reply + 1, n - 1 };
	return (0);
}

static int
put(struct buf *b, uint8_t type, struct err *err)
{
	uint8_t head[5] = { 0, 0, 0, 0, type };

	return (buf_add(b, head, sizeof(head), err));
}

static int
put_string(struct buf *b, const uint8_t *p, size_t n, struct err *err)
{
	uint8_t len[4];

	ssh_wire_put_u32(len, (uint32_t)n);
	return (buf_add(b, len, sizeof(len), err) == -1 ? -1 : buf_add(b, p, n, err));
}

int
ssh_agent_keys(struct ssh_agent *a, int (*fn)(void *, const uint8_t *, size_t, struct err *), void *arg, struct err *err)
{
	struct buf message = BUF_INIT, copy = BUF_INIT;
	struct ssh_wire w = { NULL, 0 }, blob, comment;
	uint32_t n = 0;
	int rc = -1;

	if (put(&message, ASK_KEYS, err) == -1 || ask(a, &message, GOT_KEYS, &w, err) == -1)
		goto out;
	/* ${fn} may sign, which needs the place of the reply. */
	if (buf_add(&copy, w.p, w.n, err) == -1)
		goto out;
	w = (struct ssh_wire){ (const uint8_t *)copy.ptr, copy.len };
	rc = ssh_wire_u32(&w, &n) ? 0 : err_set(err, 0, "ssh-agent at %s answers with a list that is cut off", a->path);
	for (uint32_t i = 0; i < n && i < KEYS_MAX && rc == 0; i++) {
		if (!ssh_wire_string(&w, &blob) || !ssh_wire_string(&w, &comment))
			rc = err_set(err, 0, "ssh-agent at %s answers with a list that is cut off", a->path);
		else
			rc = fn(arg, blob.p, blob.n, err);
	}
out:
	buf_free(&message);
	buf_free(&copy);
	return (rc);
}

int
ssh_agent_sign(struct ssh_agent *a, const uint8_t *blob, size_t len, const uint8_t *data, size_t n, uint8_t **sig, size_t *siglen,
    struct err *err)
{
	static const uint8_t no_flags[4];
	struct buf message = BUF_INIT;
	struct ssh_wire w = { NULL, 0 }, whole, kind, bytes;
	int rc = -1;

	if (put(&message, ASK_SIGNATURE, err) == -1 || put_string(&message, blob, len, err) == -1 || put_string(&message, data, n, err) == -1 ||
	    buf_add(&message, no_flags, sizeof(no_flags), err) == -1 || ask(a, &message, GOT_SIGNATURE, &w, err) == -1)
		goto out;
	if (!ssh_wire_string(&w, &whole) || !ssh_wire_string(&whole, &kind) || !ssh_wire_string(&whole, &bytes) || bytes.n == 0) {
		err_set(err, 0, "ssh-agent at %s answers with a signature that is cut off", a->path);
		goto out;
	}
	if ((*sig = malloc(bytes.n)) == NULL) {
		err_nomem(err);
		goto out;
	}
	memcpy(*sig, bytes.p, bytes.n);
	*siglen = bytes.n;
	rc = 0;
out:
	buf_free(&message);
	return (rc);
}

void
ssh_agent_close(struct ssh_agent *a)
{
	if (a == NULL)
		return;
	io_close(&a->fd);
	free(a->reply);
	free(a);
}
