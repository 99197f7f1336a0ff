/*
 * What the two sides must agree on before they trust each other: key exchange, host key, cipher, MAC (RFC 4253, section 7.1).
 * libssh2 has fewer of them than OpenSSH, so a server or an ssh_config(5) that was made strict may leave none: that is said by name.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "ssh/ssh_session.h"
#include "ssh/ssh_wire.h"

#define LIBRARY		"libssh2 " LIBSSH2_VERSION
#define KEXINIT		20u
#define COOKIE_END	18u	/* of padding's length, type and cookie */
#define OFFER_MAX	200	/* of a server's list, in a message */

enum { KEX, HOST_KEY, CIPHER, MAC, NKINDS };

/* In the order of KEXINIT, in which ciphers and MACs are there twice, once for each way: we ask for the same both ways. */
static const struct {
	const char	*directive;	/* in sshd_config(5), and ssh_config(5) */
	int		 out, in;	/* libssh2's methods */
} kinds[NKINDS] = {
	[KEX] = { "KexAlgorithms", LIBSSH2_METHOD_KEX, LIBSSH2_METHOD_KEX },
	[HOST_KEY] = { "HostKeyAlgorithms", LIBSSH2_METHOD_HOSTKEY, LIBSSH2_METHOD_HOSTKEY },
	[CIPHER] = { "Ciphers", LIBSSH2_METHOD_CRYPT_CS, LIBSSH2_METHOD_CRYPT_SC },
	[MAC] = { "MACs", LIBSSH2_METHOD_MAC_CS, LIBSSH2_METHOD_MAC_SC },
};

/* The next of names that are separated by commas. */
static bool
next_name(struct ssh_wire *list, struct ssh_wire *name)
{
	const uint8_t *comma;

	if (list->n == 0)
		return (false);
	comma = memchr(list->p, ',', list->n);
	*name = (struct ssh_wire){ list->p, comma != NULL ? (size_t)(comma - list->p) : list->n };
	list->p += name->n + (comma != NULL);
	list->n -= name->n + (comma != NULL);
	return (true);
}

static struct ssh_wire
text(const char *s)
{
	return ((struct ssh_wire){ (const uint8_t *)s, s != NULL ? strlen(s) : 0 });
}

static bool
is_in(struct ssh_wire list, struct ssh_wire name)
{
	struct ssh_wire one;

	while (next_name(&list, &one))
		if (one.n == name.n && memcmp(one.p, name.p, name.n) == 0)
			return (true);
	return (false);
}

static bool
have_one(struct ssh_wire list, struct ssh_wire other)
{
	struct ssh_wire one;

	while (next_name(&list, &one))
		if (is_in(other, one))
			return (true);
	return (false);
}

/* All of a kind that libssh2 has and we use, in its order. */
static int
libssh2_has(struct ssh_session *ss, int kind, struct buf *out, struct err *err)
{
	const char **v = NULL;
	int n = libssh2_session_supported_algs(ss->ssh, kinds[kind].out, &v), rc = 0;

	buf_reset(out);
	for (int i = 0; i < n && rc == 0; i++)
		if (kind != HOST_KEY || ssh_host_key_rank(v[i]) != 0)
			rc = buf_addf(out, err, "%s%s", out->len > 0 ? "," : "", v[i]);
	if (n > 0)
		libssh2_free(ss->ssh, v);
	return (rc);
}

static const char *
allowed(const struct ssh_target *t, int kind)
{
	return (kind == KEX ? t->kex : kind == CIPHER ? t->ciphers : kind == MAC ? t->macs : NULL);
}

/* Of those, the ones that ssh_config(5) allows, in its order. */
static int
usable(struct ssh_session *ss, int kind, struct buf *out, struct err *err)
{
	const char *list = allowed(ss->t, kind);
	struct ssh_wire all = text(list), name;
	struct buf has = BUF_INIT;
	int rc;

	if (list == NULL)
		return (libssh2_has(ss, kind, out, err));
	buf_reset(out);
	rc = libssh2_has(ss, kind, &has, err);
	while (rc == 0 && next_name(&all, &name))
		if (is_in((struct ssh_wire){ (uint8_t *)has.ptr, has.len }, name))
			rc = buf_addf(out, err, "%s%.*s", out->len > 0 ? "," : "", (int)name.n, (const char *)name.p);
	if (rc == 0 && out->len == 0)
		rc = err_set(err, 0, "ssh_config(5) allows %s %.*s for %s, of which " LIBRARY " has none: allow one of %s", kinds[kind].directive, OFFER_MAX,
		    list, ss->t->label, has.ptr);
	buf_free(&has);
	return (rc);
}

int
ssh_algorithms_set(struct ssh_session *ss, struct err *err)
{
	struct buf ours = BUF_INIT;
	int rc = 0;

	for (int kind = 0; kind < NKINDS && rc == 0; kind++) {
		if (allowed(ss->t, kind) == NULL)
			continue;
		if ((rc = usable(ss, kind, &ours, err)) == 0 && (libssh2_session_method_pref(ss->ssh, kinds[kind].out, ours.ptr) != 0 ||
		    libssh2_session_method_pref(ss->ssh, kinds[kind].in, ours.ptr) != 0))
			rc = err_set(err, 0, LIBRARY " refuses the %s %s (%s)", kinds[kind].directive, ours.ptr, ssh_says(ss));
	}
	buf_free(&ours);
	return (rc);
}

/* The server's first packet (RFC 4253, sections 4.2, 6 and 7.1), up to its lists. */
static bool
find_lists(const struct ssh_session *ss, struct ssh_wire *w)
{
	const uint8_t *p = ss->seen, *end = p + ss->nseen, *line = p;
	uint32_t n;

	/* Lines before the one that begins with "SSH-" are for people. */
	for (;; p++) {
		if (p == end)
			return (false);
		if (*p != '\n')
			continue;
		if (p - line >= 4 && memcmp(line, "SSH-", 4) == 0)
			break;
		line = p + 1;
	}
	*w = (struct ssh_wire){ p + 1, (size_t)(end - p - 1) };
	if (!ssh_wire_u32(w, &n) || w->n < COOKIE_END || w->p[1] != KEXINIT)
		return (false);
	w->p += COOKIE_END;
	w->n -= COOKIE_END;
	return (true);
}

/* Say of a kind that the two sides have none in common. */
static int
none_in_common(struct ssh_session *ss, int kind, struct ssh_wire theirs, const struct buf *ours, struct err *err)
{
	int n = theirs.n < OFFER_MAX ? (int)theirs.n : OFFER_MAX;
	const char *list = (const char *)theirs.p;

	if (kind == HOST_KEY)
		return (err_set(err, 0, "%s has only RSA or other host keys (%.*s) that " LIBRARY " cannot use: give it an Ed25519 or ECDSA host key "
		    "(as root there: ssh-keygen -A)", ss->t->label, n, list));
	return (err_set(err, 0, "%s offers only %s (%.*s) that cannot be used: " LIBRARY "%s has %s.  Allow one of them there, in sshd_config(5)",
	    ss->t->label, kinds[kind].directive, n, list, allowed(ss->t, kind) != NULL ? ", as ssh_config(5) allows," : "", ours->ptr));
}

/* -1 and ${err} when the server's lists tell why the two sides could not agree. */
static int
compare_lists(struct ssh_session *ss, struct err *err)
{
	struct buf ours = BUF_INIT;
	struct ssh_wire w, theirs;
	int rc = 0;

	if (!find_lists(ss, &w))
		return (0);
	for (int kind = 0; kind < NKINDS && rc == 0; kind++)
		for (int way = 0; way < (kinds[kind].in != kinds[kind].out ? 2 : 1) && rc == 0; way++) {
			if (!ssh_wire_string(&w, &theirs))
				goto out;
			if ((rc = usable(ss, kind, &ours, err)) == 0 && !have_one(theirs, (struct ssh_wire){ (uint8_t *)ours.ptr, ours.len }))
				rc = none_in_common(ss, kind, theirs, &ours, err);
		}
out:
	buf_free(&ours);
	return (rc);
}

int
ssh_handshake_failed(struct ssh_session *ss, struct err *err)
{
	const char *jump;
	char said[500];

	if (compare_lists(ss, err) == -1)
		return (-1);
	jump = ssh_stream_complaint(&ss->stream, said, sizeof(said));
	if (ss->t->jump != NULL)
		return (err_plain(err, ECONNREFUSED, "cannot reach %s through %s (%s)", ss->t->label, ss->t->jump, jump[0] != '\0' ? jump : ssh_says(ss)));
	return (err_plain(err, ECONNREFUSED, "%s port %d does not talk SSH with us (%s)", ss->t->hostname, ss->t->port, ssh_says(ss)));
}
