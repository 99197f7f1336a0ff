/*
 * ssh_agent.h - keys that an ssh-agent holds (draft-miller-ssh-agent).  libssh2's own calls wait for an agent without end; these do not.
 *
 * Calling sequence:  ssh_agent_open -> ssh_agent_keys -> ssh_agent_sign* -> ssh_agent_close
 */
#ifndef OVB_SSH_AGENT_H
#define OVB_SSH_AGENT_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define AGENT_REPLY_MAX	((size_t)256 << 10)

struct ssh_agent;

/** ssh_agent_open(path, seconds, err): Connect to the agent at the socket ${path}; each answer may take ${seconds}.  Fails: NULL. */
struct ssh_agent *ssh_agent_open(const char *path, unsigned int seconds, struct err *err);

/** ssh_agent_keys(a, fn, arg, err): Call ${fn} with the public part of each key, until it returns something else than 0, which is returned.  Fails: -1. */
int ssh_agent_keys(struct ssh_agent *a, int (*fn)(void *arg, const uint8_t *blob, size_t len, struct err *err), void *arg, struct err *err);

/**
 * ssh_agent_sign(a, blob, len, data, n, sig, siglen, err):
 * Have ${data} signed by the key ${blob}.  *${sig}, malloc'ed, is the signature alone, without the name of its kind.  Fails: -1.
 */
int ssh_agent_sign(struct ssh_agent *a, const uint8_t *blob, size_t len, const uint8_t *data, size_t n, uint8_t **sig, size_t *siglen,
    struct err *err);

/** ssh_agent_close(a): Harmless on NULL. */
void ssh_agent_close(struct ssh_agent *a);

#endif
