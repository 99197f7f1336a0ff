/* ssh_connect.h - a stream to an SSH server: over TCP, or through other hosts (ProxyJump). */
#ifndef OVB_SSH_CONNECT_H
#define OVB_SSH_CONNECT_H

#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "ssh/ssh_config.h"

struct ssh_stream {
	int	fd;		/* does not block; -1: none */
	pid_t	jump;		/* the ssh that leads through other hosts; 0: none */
	int	complaints;	/* the file of its standard error, or -1 */
};

#define SSH_STREAM_INIT	{ -1, 0, -1 }

/** ssh_now(): Milliseconds of a clock that only goes on. */
int64_t ssh_now(void);

/**
 * ssh_connect(t, until, out, err):
 * Connect to ${t}, until ssh_now() is ${until} at most.  With ProxyJump, whether that works shows when one reads.  Fails: -1.
 */
int ssh_connect(const struct ssh_target *t, int64_t until, struct ssh_stream *out, struct err *err);

/** ssh_stream_complaint(s, text, n): What the ssh that leads through other hosts has said last, in one line; "" for nothing. */
const char *ssh_stream_complaint(const struct ssh_stream *s, char *text, size_t n);

/** ssh_disconnect(s): End it, and that ssh. */
void ssh_disconnect(struct ssh_stream *s);

#endif
