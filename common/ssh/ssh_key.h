/* ssh_key.h - what a private key's file says of itself without its passphrase. */
#ifndef OVB_SSH_KEY_H
#define OVB_SSH_KEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define SSH_KEY_MAX	16384u		/* bytes of a key's file */

struct ssh_key {
	char	 type[64];		/* "ssh-ed25519", "ssh-rsa" ...; "" when it cannot be told */
	bool	 encrypted;
	size_t	 len;			/* of the public key, 0 when the file does not show it */
	uint8_t	 blob[SSH_KEY_MAX];	/* the public key, as SSH sends it */
};

/**
 * ssh_key_look(path, out, err):
 * Look at the private key in ${path}.  Fails: -1; err->code is ENOENT when there is no such file,
 * EACCES also when others may read it.
 */
int ssh_key_look(const char *path, struct ssh_key *out, struct err *err);

#endif
