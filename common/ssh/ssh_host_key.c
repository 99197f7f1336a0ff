/* Is it the right server? */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "ssh/ssh_known_hosts.h"
#include "ssh/ssh_session.h"

#define LIBRARY		"libssh2 " LIBSSH2_VERSION

/* The kinds of signature that a host's key of this type gives. */
static bool
kind_is_of(const char *kind, const char *type)
{
	return (strcmp(kind, type) == 0 || (strncmp(kind, "rsa-sha2-", 9) == 0 && strcmp(type, "ssh-rsa") == 0));
}

static bool
is_known(const struct known_found *k, const char *kind)
{
	for (size_t i = 0; i < k->ntypes; i++)
		if (kind_is_of(kind, k->types[i]))
			return (true);
	return (false);
}

unsigned int
ssh_host_key_rank(const char *kind)
{
	if (strcmp(kind, "ssh-rsa") == 0 || strcmp(kind, "ssh-dss") == 0 || strstr(kind, "-cert-") != NULL)
		return (0);
	return (strcmp(kind, "ssh-ed25519") == 0 ? 1 : strncmp(kind, "ecdsa-", 6) == 0 ? 2 : 3);
}

int
ssh_host_key_order(struct ssh_session *ss, struct err *err)
{
	const struct ssh_target *t = ss->t;
	struct known_found k;
	struct buf prefs = BUF_INIT;
	const char **v = NULL;
	int n, rc = -1;

	if (known_hosts_look(t->known_hosts, t->nknown_hosts, t->known_as, NULL, 0, &k, err) == -1)
		return (-1);
	if ((n = libssh2_session_supported_algs(ss->ssh, LIBSSH2_METHOD_HOSTKEY, &v)) <= 0)
		return (err_set(err, 0, LIBRARY " knows no kind of host key"));
	for (unsigned int pass = 0; pass < 6; pass++)
		for (int i = 0; i < n; i++)
			if (ssh_host_key_rank(v[i]) == pass % 3 + 1 && is_known(&k, v[i]) == (pass < 3) &&
			    buf_addf(&prefs, err, "%s%s", prefs.len > 0 ? "," : "", v[i]) == -1)
				goto out;
	rc = libssh2_session_method_pref(ss->ssh, LIBSSH2_METHOD_HOSTKEY, prefs.len > 0 ? prefs.ptr : "") != 0 ?
	    err_set(err, 0, LIBRARY " refuses the kinds of host key %s", prefs.len > 0 ? prefs.ptr : "") : 0;
out:
	libssh2_free(ss->ssh, v);
	buf_free(&prefs);
	return (rc);
}

static const char *
first_file(const struct ssh_target *t)
{
	return (t->nknown_hosts > 0 ? t->known_hosts[0] : "known_hosts");
}

static bool
known_by_rsa_only(const struct known_found *k)
{
	for (size_t i = 0; i < k->ntypes; i++)
		if (strcmp(k->types[i], "ssh-rsa") != 0)
			return (false);
	return (k->ntypes > 0);
}

static int
not_trusted(struct ssh_session *ss, const struct known_found *k, const char *type, const char *print, struct err *err)
{
	const struct ssh_target *t = ss->t;

	switch (k->verdict) {
	case KNOWN_REVOKED:
		return (err_set(err, 0, "%s shows a host key (%s %s) that %s line %u has revoked: do not trust it", t->label, type, print, k->file, k->line));
	case KNOWN_CHANGED:
		return (err_set(err, 0, "the host key of %s has changed: it shows %s %s, and %s line %u has another.  Somebody may be listening in, or the "
		    "server was set up anew: ask its administrator, and only then remove the old key: ssh-keygen -R '%s' -f %s", t->label, type, print,
		    k->file, k->line, t->known_as, k->file));
	case KNOWN_NO_TYPE:
		if (known_by_rsa_only(k) && !ssh_can_rsa(ss))
			return (err_set(err, 0, "%s line %u knows %s by an RSA key only, which " LIBRARY " cannot check: compare the key that it shows "
			    "(%s %s) with the server's, and add that Ed25519 or ECDSA key to the file", k->file, k->line, t->label, type, print));
		return (err_set(err, 0, "%s shows a host key of another type (%s %s) than the one that %s line %u has (%s): ask its administrator, and only "
		    "then add the new one", t->label, type, print, k->file, k->line, k->types[0]));
	default:
		return (err_set(err, 0, "the host key of %s is not known: it shows %s %s.  Compare that with the server's own (there: ssh-keygen -lf "
		    "/etc/ssh/ssh_host_%s_key.pub), and add it to %s: ssh-keyscan -p %d %s", t->label, type, print,
		    strstr(type, "ed25519") != NULL ? "ed25519" : "ecdsa", first_file(t), t->port, t->hostname));
	}
}

int
ssh_host_key_check(struct ssh_session *ss, struct err *err)
{
	const struct ssh_target *t = ss->t;
	char type[KNOWN_TYPE_LEN], print[64];
	struct known_found k;
	const uint8_t *key;
	size_t len = 0;
	int kind;

	if ((key = (const uint8_t *)libssh2_session_hostkey(ss->ssh, &len, &kind)) == NULL || len == 0)
		return (err_set(err, 0, "%s shows no host key", t->label));
	if (known_hosts_look(t->known_hosts, t->nknown_hosts, t->known_as, key, len, &k, err) == -1)
		return (-1);
	if (k.verdict == KNOWN_MATCH)
		return (0);
	if (k.verdict == KNOWN_NO_HOST && t->accept_new && t->nknown_hosts > 0)
		return (known_hosts_add(t->known_hosts[0], t->known_as, key, len, err));
	return (not_trusted(ss, &k, known_hosts_type(key, len, type), known_hosts_fingerprint(key, len, print), err));
}
