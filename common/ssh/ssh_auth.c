/* Who we are: keys in files and in the agent. */
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "config/secret_file.h"
#include "ssh/ssh_agent.h"
#include "ssh/ssh_key.h"
#include "ssh/ssh_known_hosts.h"
#include "ssh/ssh_session.h"

#define LIBRARY		"libssh2 " LIBSSH2_VERSION
#define PASSPHRASE_MAX	1024u
#define AGENT_S		30u		/* somebody may have to touch a key */
#define SILENT_MS	30000	/* an answer has just come, or will not come */
#define AGENT_KEYS_MAX	10u		/* a server hangs up after a few */

struct login {
	struct ssh_session	*ss;
	struct ssh_agent	*agent;
	const struct ssh_key	*only;		/* the one key that is wanted from the agent, or NULL */
	unsigned int		 keys, tried, rsa;	/* of the agent */
	const uint8_t		*blob;		/* the one that is being tried */
	size_t			 len;
	struct err		 sign;		/* why the agent did not sign */
};

enum outcome { LOGIN_ERROR = -1, LOGIN_NO, LOGIN_YES };

static enum outcome
outcome(struct login *l, int r, struct err *err)
{
	if (r == 0)
		return (LOGIN_YES);
	/* libssh2 gives up by itself after a minute, and calls that a refusal, too (its userauth.c). */
	if (!l->ss->ended && ssh_now() - l->ss->moved >= SILENT_MS) {
		err_plain(err, ETIMEDOUT, "%s does not answer: it said nothing for a minute, while we were logging in", l->ss->t->label);
		return (LOGIN_ERROR);
	}
	/* What the server says of a key is no loss of the connection. */
	if (!l->ss->ended && (r == LIBSSH2_ERROR_AUTHENTICATION_FAILED || r == LIBSSH2_ERROR_PUBLICKEY_UNVERIFIED))
		return (LOGIN_NO);
	err_set(err, 0, "%s ended the login (%s): too many keys were tried, or it does not let this user in", l->ss->t->label, ssh_says(l->ss));
	return (LOGIN_ERROR);
}

static bool
unusable(struct ssh_session *ss, const char *type)
{
	return ((strcmp(type, "ssh-rsa") == 0 && !ssh_can_rsa(ss)) || strcmp(type, "ssh-dss") == 0 || strncmp(type, "sk-", 3) == 0);
}

static int
cannot_use(const char *what, const char *type, struct err *err)
{
	return (err_set(err, 0, "%s is %s key, which " LIBRARY " cannot use with today's servers: take an Ed25519 or ECDSA key (ssh-keygen -t ed25519)",
	    what, strcmp(type, "ssh-rsa") == 0 ? "an RSA" : strcmp(type, "ssh-dss") == 0 ? "a DSA" : "a hardware"));
}

/* The first line of the passphrase's file, which must be nobody else's. */
static int
read_passphrase(const char *path, char out[PASSPHRASE_MAX], struct err *err)
{
	struct stat sb;
	ssize_t n;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd == -1 || fstat(fd, &sb) == -1 || (n = io_pread(fd, out, PASSPHRASE_MAX - 1, 0)) == -1) {
		err_set(err, errno, "cannot read the passphrase in %s", path);
		io_close(&fd);
		return (-1);
	}
	io_close(&fd);
	out[n] = '\0';
	out[strcspn(out, "\r\n")] = '\0';
	if (secret_file_check(&sb, path, "the passphrase", err) == -1) {
		OPENSSL_cleanse(out, PASSPHRASE_MAX);
		return (-1);
	}
	return (0);
}

static enum outcome
try_file(struct login *l, const char *path, const struct ssh_key *key, struct err *err)
{
	struct ssh_session *ss = l->ss;
	char passphrase[PASSPHRASE_MAX] = "";
	const char *user = ss->t->user;
	enum outcome o;
	int r;

	if (key->encrypted && read_passphrase(ss->t->passphrase_file, passphrase, err) == -1)
		return (LOGIN_ERROR);
	while ((r = libssh2_userauth_publickey_fromfile_ex(ss->ssh, user, (unsigned int)strlen(user), NULL, path, passphrase)) ==
	    LIBSSH2_ERROR_EAGAIN && ssh_wait(ss, err) == 0)
		;
	OPENSSL_cleanse(passphrase, sizeof(passphrase));
	if (r == LIBSSH2_ERROR_EAGAIN)
		return (LOGIN_ERROR);
	if (r == LIBSSH2_ERROR_FILE || r == LIBSSH2_ERROR_METHOD_NONE || r == LIBSSH2_ERROR_INVAL) {
		if (key->encrypted)
			err_set(err, 0, "the passphrase in %s is wrong for the key %s", ss->t->passphrase_file, path);
		else
			err_set(err, 0, LIBRARY " cannot read the key %s (%s): take an Ed25519 or ECDSA key (ssh-keygen -t ed25519)", path, ssh_says(ss));
		return (LOGIN_ERROR);
	}
	o = outcome(l, r, err);
	return (o);
}

static int
sign(LIBSSH2_SESSION *ssh, unsigned char **sig, size_t *len, const unsigned char *data, size_t n, void **abstract)
{
	struct login *l = *abstract;

	(void)ssh;
	return (ssh_agent_sign(l->agent, l->blob, l->len, data, n, sig, len, &l->sign));
}

static int
try_agent_key(void *arg, const uint8_t *blob, size_t len, struct err *err)
{
	struct login *l = arg;
	const char *user = l->ss->t->user;
	char type[KNOWN_TYPE_LEN];
	void *self = l;
	int r;

	l->keys++;
	if (l->only != NULL && (len != l->only->len || memcmp(blob, l->only->blob, len) != 0))
		return (LOGIN_NO);
	if (unusable(l->ss, known_hosts_type(blob, len, type))) {
		l->rsa++;
		return (LOGIN_NO);
	}
	if (strstr(type, "-cert-") != NULL || l->tried == AGENT_KEYS_MAX)
		return (LOGIN_NO);
	l->tried++;
	l->blob = blob;
	l->len = len;
	while ((r = libssh2_userauth_publickey(l->ss->ssh, user, blob, len, sign, &self)) == LIBSSH2_ERROR_EAGAIN)
		if (ssh_wait(l->ss, err) == -1)
			return (LOGIN_ERROR);
	if (r != 0 && l->sign.text[0] != '\0') {
		*err = l->sign;
		return (LOGIN_ERROR);
	}
	return (outcome(l, r, err));
}

/* Ask the agent for ${only}, or for all that it has. */
static enum outcome
try_agent(struct login *l, const struct ssh_key *only, struct err *err)
{
	enum outcome o;

	l->only = only;
	l->keys = l->tried = l->rsa = 0;
	if ((l->agent = ssh_agent_open(l->ss->t->agent, AGENT_S, err)) == NULL)
		return (LOGIN_ERROR);
	o = (enum outcome)ssh_agent_keys(l->agent, try_agent_key, l, err);
	ssh_agent_close(l->agent);
	l->agent = NULL;
	return (o);
}

static int
agent_refused(const struct login *l, const char *path, struct err *err)
{
	const char *agent = l->ss->t->agent, *label = l->ss->t->label;

	if (path != NULL && l->tried == 0)
		return (err_set(err, 0, "the key %s has a passphrase, and ssh-agent at %s does not hold it: add it (ssh-add %s), or give passphrase_file", path,
		    agent, path));
	if (l->tried > 0)
		return (err_set(err, 0, "%s accepts none of the %u key%s that ssh-agent at %s holds: add the right one (ssh-add), or add its public key to "
		    "the server's authorized_keys", label, l->keys, l->keys == 1 ? "" : "s", agent));
	if (l->rsa > 0)
		return (cannot_use("what ssh-agent holds", "ssh-rsa", err));
	return (err_set(err, 0, "no key to log in on %s with: ssh-agent at %s holds none", label, agent));
}

/* One identity: from the agent when only that can use it, else from its file. */
static enum outcome
try_identity(struct login *l, const char *path, struct ssh_key *key, struct err *err)
{
	const struct ssh_target *t = l->ss->t;
	enum outcome o;

	if (ssh_key_look(path, key, err) == -1)
		return (LOGIN_ERROR);
	if (unusable(l->ss, key->type)) {
		cannot_use(path, key->type, err);
		return (LOGIN_ERROR);
	}
	if (!key->encrypted || t->passphrase_file != NULL) {
		if ((o = try_file(l, path, key, err)) == LOGIN_NO)
			err_plain(err, EACCES, "%s does not accept the key %s: is its public key in the authorized_keys of that user there?", t->label, path);
		return (o);
	}
	if (t->agent == NULL) {
		err_set(err, 0, "the key %s has a passphrase: give passphrase_file, or add the key to an ssh-agent (ssh-add) whose SSH_AUTH_SOCK we get", path);
		return (LOGIN_ERROR);
	}
	if ((o = try_agent(l, key->len > 0 ? key : NULL, err)) == LOGIN_NO)
		agent_refused(l, path, err);
	return (o);
}

/* Whether the server offers to check keys; LOGIN_YES when it lets anyone in. */
static enum outcome
ask_methods(struct ssh_session *ss, struct err *err)
{
	const char *user = ss->t->user;
	char *methods;

	while ((methods = libssh2_userauth_list(ss->ssh, user, (unsigned int)strlen(user))) == NULL) {
		if (libssh2_userauth_authenticated(ss->ssh))
			return (LOGIN_YES);
		if (libssh2_session_last_errno(ss->ssh) != LIBSSH2_ERROR_EAGAIN) {
			err_plain(err, ECONNRESET, "%s ended the login (%s)", ss->t->label, ssh_says(ss));
			return (LOGIN_ERROR);
		}
		if (ssh_wait(ss, err) == -1)
			return (LOGIN_ERROR);
	}
	if (strstr(methods, "publickey") != NULL)
		return (LOGIN_NO);
	err_plain(err, EACCES, "%s does not let anyone in by a key (it offers: %s): see PubkeyAuthentication in its sshd_config", ss->t->label, methods);
	return (LOGIN_ERROR);
}

int
ssh_log_in(struct ssh_session *ss, struct err *err)
{
	const struct ssh_target *t = ss->t;
	struct login l = { .ss = ss, .sign = ERR_INIT };
	struct err why = ERR_INIT;
	struct ssh_key *key;
	enum outcome o = ask_methods(ss, err);

	if (o != LOGIN_NO)
		return (o == LOGIN_YES ? 0 : -1);
	if ((key = malloc(sizeof(*key))) == NULL)
		return (err_nomem(err));
	err_set(err, 0, "no key to log in on %s with: give identity, or add a key to ssh-agent", t->label);
	if (!t->only_identities && t->agent != NULL) {
		if ((o = try_agent(&l, NULL, &why)) == LOGIN_NO)
			agent_refused(&l, NULL, &why);
		*err = why;
	}
	/* The last reason is told, but for files that are not there: those are only OpenSSH's usual names. */
	for (size_t i = 0; i < t->nidentities && o != LOGIN_YES && ss->stream.fd != -1; i++) {
		if (ssh_now() >= ss->until)
			break;
		o = try_identity(&l, t->identities[i], key, &why);
		if (o != LOGIN_YES && (why.code != ENOENT || t->only_identities))
			*err = why;
	}
	free(key);
	return (o == LOGIN_YES ? 0 : -1);
}
