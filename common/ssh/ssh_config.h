/*
 * ssh_config.h - where and how to log in: what a repository's configuration says, and for the rest what the user's own ssh would do.
 */
#ifndef OVB_SSH_CONFIG_H
#define OVB_SSH_CONFIG_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "config/conf.h"

#define SSH_FILES_MAX	16u

enum ssh_host_key {
	SSH_HOST_KEY_AS_SSH,		/* StrictHostKeyChecking of ssh_config(5) */
	SSH_HOST_KEY_STRICT,
	SSH_HOST_KEY_ACCEPT_NEW		/* the key of a host that has none in known_hosts is added there */
};

/* What a repository's configuration says; all 0 and NULL: as ssh would do it, and the deadlines below. */
struct ssh_options {
	const char		*identity, *passphrase_file, *known_hosts;
	enum ssh_host_key	 host_key;
	unsigned int		 connect_timeout, idle_timeout, request_timeout;	/* seconds */
};

#define SSH_CONNECT_S	30u		/* until the server has let us in */
#define SSH_IDLE_S	60u		/* without a byte from it, or to it, while we wait */
#define SSH_REQUEST_S	240u		/* for one request; less than a lock takes to be given up for dead */

struct ssh_target {
	char		*user, *hostname;
	int		 port;
	char		*label;			/* "user@host", for messages */
	char		*known_as;		/* in known_hosts: "host", or "[host]:port" */
	char		*kex, *ciphers, *macs;	/* what ssh_config(5) allows, separated by commas; NULL: not known */
	char		*jump;			/* ProxyJump: "[user@]host[:port][,...]"; NULL: none */
	char		*agent;			/* its socket; NULL: none */
	char		*identities[SSH_FILES_MAX];
	size_t		 nidentities;
	bool		 only_identities;	/* the agent's other keys are not tried */
	char		*passphrase_file;	/* of the identity; NULL: not given */
	char		*known_hosts[SSH_FILES_MAX];	/* the first is the one that is added to */
	size_t		 nknown_hosts;
	bool		 accept_new;
	unsigned int	 connect_s, idle_s, request_s;
};

/**
 * ssh_target_new(u, o, err):
 * How to reach the server of the URL ${u}.  Asks `ssh -G` what ssh_config(5) has for the host; where OpenSSH's client is not installed, its
 * defaults are taken.  Fails: NULL.
 * Blocks: for that program, a minute at most.
 */
struct ssh_target *ssh_target_new(const struct conf_url *u, const struct ssh_options *o, struct err *err);

/** ssh_target_free(t): Harmless on NULL. */
void ssh_target_free(struct ssh_target *t);

#endif
