/*
 * sftp_send.h - what is appended to a file goes to the server in pieces, several at a time, while its caller goes on.
 *
 * A server takes in only so much at a time from each connection, 2 MiB with OpenSSH, and answers a round trip later.  So each piece is a little
 * less than that, and each lane, a thread, sends one piece after the other over a connection of its own: ciphers run on several cores.  Lanes are
 * begun as pieces find none idle, so a slow writer has one.  All before the last SEND_WINDOW bytes of the file is there, whatever happens.
 *
 * Calling sequence:  send_new -> (send_append* -> send_flush)* -> send_free
 * Memory: SEND_PIECES * SEND_PIECE bytes at most; libssh2 holds the pieces that are under way once more.
 * Threads: one at a time for each struct sftp_send.
 */
#ifndef OVB_SFTP_SEND_H
#define OVB_SFTP_SEND_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define SEND_PIECE	((size_t)64 * 30000)	/* libssh2 packs 30,000 bytes into a request */
#define SEND_LANES	3u
#define SEND_PIECES	(SEND_LANES + 2)	/* one is filled, one waits */
#define SEND_WINDOW	(SEND_PIECES * SEND_PIECE)	/* all that is not confirmed lies within so many bytes */

struct sftp_send;

/**
 * Write ${n} bytes at ${offset} of ${file}, and see them confirmed.  Gives up soon after ${stop} is set.  Fails: -1.
 * Threads: several at a time.
 */
typedef int send_write(void *file, const char *p, size_t n, uint64_t offset, const atomic_bool *stop, struct err *err);

/** send_new(fn, file, err): Fails: NULL. */
struct sftp_send *send_new(send_write *fn, void *file, struct err *err);

/** send_append(s, p, n, offset, err): Take over ${n} bytes; each call's begin where the last one's ended.  Fails: -1, at the first failure of any piece. */
int send_append(struct sftp_send *s, const char *p, size_t n, uint64_t offset, struct err *err);

/** send_flush(s, err): Wait until all is confirmed.  Fails: -1, also after any failure before. */
int send_flush(struct sftp_send *s, struct err *err);

/** send_free(s): What is not confirmed is given up.  Harmless on NULL. */
void send_free(struct sftp_send *s);

#endif
