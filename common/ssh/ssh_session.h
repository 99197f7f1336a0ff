/*
 * ssh_session.h - a connection to an SFTP server, by libssh2, in which nothing waits without end.
 *
 * Calling sequence:  ssh_session_open -> (ssh_begin -> libssh2 call -> ssh_wait, as long as it would block)* -> ssh_session_close
 * Each request has two deadlines: bytes must come or go within the idle time, and it must end within the request's time.  After either, or when
 * the connection is lost, the session is dead: every further request fails at once, with the first one's text.
 *
 * The files behind this header:
 *   ssh_config.c       where and how to log in;  ssh_connect.c  the stream there
 *   ssh_session.c      the handshake, the deadlines
 *   ssh_algorithms.c   what both sides can do: key exchange, ciphers, MACs
 *   ssh_host_key.c     is it the right server;  ssh_known_hosts.c  the file that knows
 *   ssh_auth.c         who we are;  ssh_key.c  what a key's file is;  ssh_agent.c  keys that an agent holds
 *
 * Threads: one at a time for each session; different sessions are independent.
 */
#ifndef OVB_SSH_SESSION_H
#define OVB_SSH_SESSION_H

#include <libssh2.h>
#include <libssh2_sftp.h>

#include "ssh/ssh_config.h"
#include "ssh/ssh_connect.h"

#define SSH_SEEN_MAX	4096u

struct ssh_session {
	const struct ssh_target	*t;
	struct ssh_stream	 stream;
	LIBSSH2_SESSION		*ssh;
	LIBSSH2_SFTP		*sftp;
	int64_t			 until;		/* the request's end, by ssh_now() */
	int64_t			 moved;		/* when bytes came or went last */
	uint64_t		 came;		/* bytes, since the request began */
	unsigned int		 empty;		/* reads in vain, since then, or since anything came, or was waited for */
	unsigned int		 limit_s;	/* how long the request may take; for messages */
	bool			 ended;		/* the server has ended the stream, or it broke */
	bool			 dead;
	struct err		 why;		/* then */
	LIBSSH2_SFTP_HANDLE	**handles;	/* open ones: libssh2 does not free them with the session */
	size_t			 nhandles;
	uint8_t			 seen[SSH_SEEN_MAX];	/* the first bytes from the server: its list of algorithms is among them */
	size_t			 nseen;
};

/** ssh_session_open(t, err): Connect to ${t}, which must outlive the session, log in and begin SFTP, within ${t}'s connect_s.  Fails: NULL. */
struct ssh_session *ssh_session_open(const struct ssh_target *t, struct err *err);

/** ssh_session_close(ss): Harmless on NULL.  Says goodbye only where that need not be waited for. */
void ssh_session_close(struct ssh_session *ss);

/** ssh_begin(ss, err): Before each request: its time begins.  Fails: -1, the session is dead. */
int ssh_begin(struct ssh_session *ss, struct err *err);

/** ssh_begin_long(ss, seconds, err): The same for one that may take that long, and be silent meanwhile, as long as the server answers keepalives. */
int ssh_begin_long(struct ssh_session *ss, unsigned int seconds, struct err *err);

/** ssh_wait(ss, err): After a call that would block: wait until it may go on.  Fails: -1, a deadline has passed; the session is dead. */
int ssh_wait(struct ssh_session *ss, struct err *err);

/**
 * ssh_lost(ss, err):
 * After a libssh2 call that failed: whether the connection is at fault, and not what was asked for.  Then the session is dead and ${err} is set.
 */
bool ssh_lost(struct ssh_session *ss, struct err *err);

/** ssh_says(ss): libssh2's text for the last failure. */
const char *ssh_says(struct ssh_session *ss);

/** ssh_can_rsa(ss): Whether this libssh2 knows RSA with SHA-2 (1.10 does not), without which no current server takes RSA. */
bool ssh_can_rsa(struct ssh_session *ss);

/** ssh_handle_opened(ss, h): ${h}, just opened, is closed with the session, unless ssh_handle_close() does it before. */
void ssh_handle_opened(struct ssh_session *ss, LIBSSH2_SFTP_HANDLE *h);

/** ssh_handle_close(ss, h): Within a request; also of a session that is dead. */
void ssh_handle_close(struct ssh_session *ss, LIBSSH2_SFTP_HANDLE *h);

/* The steps of ssh_session_open. */

/** ssh_algorithms_set(ss, err): Before the handshake: ask for key exchange, cipher and MAC as ssh_config(5) has them.  Fails: -1, libssh2 has none of those. */
int ssh_algorithms_set(struct ssh_session *ss, struct err *err);

/** ssh_host_key_rank(kind): Which host keys are asked for first: 1, Ed25519; 2, ECDSA; 3, others; 0: never, it uses SHA-1, or is a certificate. */
unsigned int ssh_host_key_rank(const char *kind);

/** ssh_host_key_order(ss, err): Before the handshake: ask for the kinds of host key first by which known_hosts knows the host.  Fails: -1. */
int ssh_host_key_order(struct ssh_session *ss, struct err *err);

/** ssh_host_key_check(ss, err): After the handshake: is it the server that known_hosts knows?  Fails: -1. */
int ssh_host_key_check(struct ssh_session *ss, struct err *err);

/** ssh_handshake_failed(ss, err): Say why; exactly, when the server's first packet shows that there is no host key, cipher ... that both sides have.  Returns -1. */
int ssh_handshake_failed(struct ssh_session *ss, struct err *err);

/** ssh_log_in(ss, err): Fails: -1. */
int ssh_log_in(struct ssh_session *ss, struct err *err);

#endif
