/* ssh_known_hosts.h - whether a host's key is the one it had before: files in the format of sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT". */
#ifndef OVB_SSH_KNOWN_HOSTS_H
#define OVB_SSH_KNOWN_HOSTS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define KNOWN_TYPE_LEN	64u
#define KNOWN_TYPES_MAX	8u

enum known_verdict {
	KNOWN_MATCH,
	KNOWN_NO_HOST,		/* no file has the host */
	KNOWN_NO_TYPE,		/* it is known, but by keys of other types */
	KNOWN_CHANGED,		/* its key of this type is another one */
	KNOWN_REVOKED
};

struct known_found {
	enum known_verdict	 verdict;
	char			 types[KNOWN_TYPES_MAX][KNOWN_TYPE_LEN];	/* of the keys by which the host is known */
	size_t			 ntypes;
	const char		*file;		/* of the line that decided, or NULL */
	unsigned int		 line;
};

/**
 * known_hosts_look(files, n, host, key, len, out, err):
 * Look for ${host} ("host", or "[host]:port") in ${n} files, of which any may be missing.  ${key} is its key as SSH sends it (${len} bytes), or
 * NULL to learn ->types only.  Lines of certificate authorities are passed over.  Fails: -1, a file cannot be read.
 */
int known_hosts_look(char *const *files, size_t n, const char *host, const uint8_t *key, size_t len, struct known_found *out, struct err *err);

/** known_hosts_add(file, host, key, len, err): Append a line, durable.  Fails: -1. */
int known_hosts_add(const char *file, const char *host, const uint8_t *key, size_t len, struct err *err);

/** known_hosts_fingerprint(key, len, out): "SHA256:...", as ssh-keygen -l shows it; ${out} has 64 bytes. */
const char *known_hosts_fingerprint(const uint8_t *key, size_t len, char out[64]);

/** known_hosts_type(key, len, out): The type that a key begins with, "" when it has none. */
const char *known_hosts_type(const uint8_t *key, size_t len, char out[KNOWN_TYPE_LEN]);

#endif
