/*
 * client.h - what the daemon answers: HTTP over its unix socket (../API.md), by libcurl.
 *
 * Calling sequence:  client_open -> client_get | client_post | client_text | client_follow ... -> client_close
 * Every failure is a text for the user: the daemon's own, or that none answers, and what to do.
 */
#ifndef OVB_CTL_CLIENT_H
#define OVB_CTL_CLIENT_H

#include <jansson.h>

#include "base/buf.h"
#include "base/err.h"

#define CLIENT_SOCKET	"/run/openvirt-backup/api.sock"

struct client;

/** client_open(path, err): For the daemon on the socket ${path} (NULL: CLIENT_SOCKET), which is not asked yet.  Fails: NULL. */
struct client *client_open(const char *path, struct err *err);
void client_close(struct client *c);

/** client_path(c, fmt, name, err): ${fmt} with ${name}, %-encoded, in the place of its one %s.  The caller frees it.  Fails: NULL. */
char *client_path(struct client *c, const char *fmt, const char *name, struct err *err);

/** client_get(c, path, err), client_post(c, path, body, err): The object or array that comes back; ${body} may be NULL.  Fails: NULL. */
json_t *client_get(struct client *c, const char *path, struct err *err);
json_t *client_post(struct client *c, const char *path, const json_t *body, struct err *err);

/** client_text(c, path, out, err): Append a text.  Fails: -1. */
int client_text(struct client *c, const char *path, struct buf *out, struct err *err);

/**
 * client_follow(c, path, on_object, arg, err):
 * Call ${on_object} for each line that comes, until it returns other than 0, the stream ends, or the user interrupts.
 * Returns what it returned last; fails: -1 and ${err} set, with code EINTR for an interruption and EPIPE when the connection broke.
 */
int client_follow(struct client *c, const char *path, int (*on_object)(void *arg, const json_t *o), void *arg, struct err *err);

#endif
