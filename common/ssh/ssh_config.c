#include "ssh/ssh_config.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/tool.h"

#define SSH_PORT	22

/* What is collected on the way to a target. */
struct reading {
	struct ssh_target	*t;
	struct passwd		 me;
	char			 me_text[4096];
	char			*alias;
};

static int
set(char **out, const char *v, struct err *err)
{
	char *copy = strdup(v);

	if (copy == NULL)
		return (err_nomem(err));
	free(*out);
	*out = copy;
	return (0);
}

static int
add_file(char **v, size_t *n, const char *path, struct err *err)
{
	if (*n == SSH_FILES_MAX)
		return (0);
	v[*n] = NULL;
	if (set(&v[*n], path, err) == -1)
		return (-1);
	++*n;
	return (0);
}

/* A token of ssh_config(5), or NULL for one that we do not know. */
static const char *
token(const struct reading *r, char c)
{
	switch (c) {
	case '%':
		return ("%");
	case 'd':
		return (r->me.pw_dir);
	case 'h':
		return (r->t->hostname);
	case 'r':
		return (r->t->user);
	case 'u':
		return (r->me.pw_name);
	default:
		return (NULL);
	}
}

/* `ssh -G` leaves "~" and the tokens of IdentityFile to us.  1; 0: not a file that we can name; -1: out of memory. */
static int
expand(const struct reading *r, const char *path, struct buf *out, struct err *err)
{
	const char *t;

	buf_reset(out);
	if (strcmp(path, "none") == 0)
		return (0);
	if (strncmp(path, "~/", 2) == 0 && (path++, buf_add(out, r->me.pw_dir, strlen(r->me.pw_dir), err) == -1))
		return (-1);
	for (; *path != '\0'; path++) {
		if (*path != '%') {
			if (buf_add(out, path, 1, err) == -1)
				return (-1);
			continue;
		}
		if ((t = token(r, *++path)) == NULL)
			return (0);
		if (buf_add(out, t, strlen(t), err) == -1)
			return (-1);
	}
	return (out->len > 0 && out->ptr[0] == '/');
}

static int
add_identity(struct reading *r, const char *path, struct err *err)
{
	struct buf full = BUF_INIT;
	int rc = expand(r, path, &full, err);

	if (rc == 1)
		rc = add_file(r->t->identities, &r->t->nidentities, full.ptr, err);
	buf_free(&full);
	return (rc);
}

/* Files that ssh -G lists in one line: a blank inside a name cannot be told from one between two. */
static int
add_known_hosts(struct reading *r, char *list, struct err *err)
{
	char *save = NULL;

	for (char *p = strtok_r(list, " ", &save); p != NULL; p = strtok_r(NULL, " ", &save))
		if (strcmp(p, "none") != 0 && add_file(r->t->known_hosts, &r->t->nknown_hosts, p, err) == -1)
			return (-1);
	return (0);
}

static int
agent_socket(struct reading *r, const char *v, struct err *err)
{
	const char *path = strcmp(v, "SSH_AUTH_SOCK") == 0 ? getenv("SSH_AUTH_SOCK") : v[0] == '$' ? getenv(v + 1) : v;
	struct buf full = BUF_INIT;
	int rc = 0;

	free(r->t->agent);
	r->t->agent = NULL;
	if (path != NULL && (rc = expand(r, path, &full, err)) == 1)
		rc = set(&r->t->agent, full.ptr, err);
	buf_free(&full);
	return (rc);
}

/* One line of ssh -G that matters here. */
static int
take(struct reading *r, const char *key, char *v, struct err *err)
{
	struct ssh_target *t = r->t;

	if (strcmp(key, "hostname") == 0)
		return (set(&t->hostname, v, err));
	if (strcmp(key, "user") == 0)
		return (set(&t->user, v, err));
	if (strcmp(key, "port") == 0 && atoi(v) > 0 && atoi(v) <= 65535)
		t->port = atoi(v);
	if (strcmp(key, "hostkeyalias") == 0)
		return (set(&r->alias, v, err));
	if (strcmp(key, "kexalgorithms") == 0)
		return (set(&t->kex, v, err));
	if (strcmp(key, "ciphers") == 0)
		return (set(&t->ciphers, v, err));
	if (strcmp(key, "macs") == 0)
		return (set(&t->macs, v, err));
	if (strcmp(key, "proxyjump") == 0 && strcmp(v, "none") != 0)
		return (set(&t->jump, v, err));
	if (strcmp(key, "proxycommand") == 0 && strcmp(v, "none") != 0)
		return (err_set(err, 0, "ssh_config(5) has \"ProxyCommand %.100s\" for this host, which is not supported: use ProxyJump", v));
	if (strcmp(key, "identitiesonly") == 0)
		t->only_identities = strcmp(v, "yes") == 0;
	if (strcmp(key, "identityagent") == 0)
		return (agent_socket(r, v, err));
	if (strcmp(key, "stricthostkeychecking") == 0)
		t->accept_new = strcmp(v, "accept-new") == 0 || strcmp(v, "no") == 0 || strcmp(v, "off") == 0 || strcmp(v, "false") == 0;
	if (strcmp(key, "userknownhostsfile") == 0)
		return (add_known_hosts(r, v, err));
	return (0);
}

/* Identities name the user and the host, so they come when both are known; the machine's own known_hosts come after the user's. */
static int
take_later(struct reading *r, const char *key, char *v, struct err *err)
{
	if (strcmp(key, "identityfile") == 0)
		return (add_identity(r, v, err));
	if (strcmp(key, "globalknownhostsfile") == 0)
		return (add_known_hosts(r, v, err));
	return (0);
}

static int
each_line(struct reading *r, const struct buf *text, int (*fn)(struct reading *, const char *, char *, struct err *), struct err *err)
{
	char *copy = strndup(text->len > 0 ? text->ptr : "", text->len), *save = NULL, *v;
	int rc = copy == NULL ? err_nomem(err) : 0;

	for (char *line = copy == NULL ? NULL : strtok_r(copy, "\n", &save); line != NULL && rc == 0; line = strtok_r(NULL, "\n", &save)) {
		if ((v = strchr(line, ' ')) == NULL)
			continue;
		*v++ = '\0';
		rc = fn(r, line, v, err);
	}
	free(copy);
	return (rc);
}

static int
ask_ssh(struct reading *r, const struct conf_url *u, struct err *err)
{
	const char *argv[16] = { "ssh", "-G", "-T" };
	struct buf text = BUF_INIT;
	char port[16];
	size_t n = 3;
	int rc;

	if (u->user != NULL) {
		argv[n++] = "-l";
		argv[n++] = u->user;
	}
	if (u->port != 0) {
		snprintf(port, sizeof(port), "%d", u->port);
		argv[n++] = "-p";
		argv[n++] = port;
	}
	argv[n++] = "--";
	argv[n] = u->host;
	rc = tool_run(argv, "package openssh-client", TOOL_SECONDS, &text, err);
	if (rc == 0)
		rc = each_line(r, &text, take, err) == -1 || each_line(r, &text, take_later, err) == -1 ? -1 : 0;
	else if (err->code == ENOENT)	/* no OpenSSH, so nobody has set it up otherwise */
		rc = each_line(r, &(struct buf){ .ptr = (char[]){ "userknownhostsfile ~/.ssh/known_hosts" }, .len = 37 }, take, err) == -1 ||
		    add_identity(r, "~/.ssh/id_ed25519", err) == -1 || add_identity(r, "~/.ssh/id_ecdsa", err) == -1 ? -1 : 0;
	buf_free(&text);
	return (rc);
}

/* What the repository's own configuration says goes before ssh's. */
static int
take_options(struct ssh_target *t, const struct ssh_options *o, struct err *err)
{
	if (o->identity != NULL) {
		while (t->nidentities > 0)
			free(t->identities[--t->nidentities]);
		t->only_identities = true;
		if (add_file(t->identities, &t->nidentities, o->identity, err) == -1)
			return (-1);
	}
	if (o->passphrase_file != NULL && set(&t->passphrase_file, o->passphrase_file, err) == -1)
		return (-1);
	if (o->known_hosts != NULL) {
		while (t->nknown_hosts > 0)
			free(t->known_hosts[--t->nknown_hosts]);
		if (add_file(t->known_hosts, &t->nknown_hosts, o->known_hosts, err) == -1)
			return (-1);
	}
	if (o->host_key != SSH_HOST_KEY_AS_SSH)
		t->accept_new = o->host_key == SSH_HOST_KEY_ACCEPT_NEW;
	t->connect_s = o->connect_timeout != 0 ? o->connect_timeout : SSH_CONNECT_S;
	t->idle_s = o->idle_timeout != 0 ? o->idle_timeout : SSH_IDLE_S;
	t->request_s = o->request_timeout != 0 ? o->request_timeout : SSH_REQUEST_S;
	return (0);
}

static int
fill(struct reading *r, const struct conf_url *u, const struct ssh_options *o, struct err *err)
{
	struct ssh_target *t = r->t;
	struct passwd *found = NULL;

	if (getpwuid_r(geteuid(), &r->me, r->me_text, sizeof(r->me_text), &found) != 0 || found == NULL)
		return (err_set(err, 0, "user %u has no entry in passwd(5): who logs in on %s?", (unsigned int)geteuid(), u->host));
	if (set(&t->hostname, u->host, err) == -1 || set(&t->user, u->user != NULL ? u->user : r->me.pw_name, err) == -1 ||
	    agent_socket(r, "SSH_AUTH_SOCK", err) == -1)
		return (-1);
	t->port = u->port != 0 ? u->port : SSH_PORT;
	if (ask_ssh(r, u, err) == -1 || take_options(t, o, err) == -1)
		return (-1);
	if (r->alias != NULL ? set(&t->known_as, r->alias, err) == -1 : t->port == SSH_PORT ? set(&t->known_as, t->hostname, err) == -1 :
	    asprintf(&t->known_as, "[%s]:%d", t->hostname, t->port) == -1) {
		t->known_as = NULL;
		return (err_nomem(err));
	}
	if (asprintf(&t->label, "%s@%s", t->user, u->host) == -1) {
		t->label = NULL;
		return (err_nomem(err));
	}
	return (0);
}

struct ssh_target *
ssh_target_new(const struct conf_url *u, const struct ssh_options *o, struct err *err)
{
	struct reading *r = calloc(1, sizeof(*r));
	struct ssh_target *t = NULL;

	if (r == NULL || (t = r->t = calloc(1, sizeof(*t))) == NULL)
		err_nomem(err);
	else if (fill(r, u, o, err) == -1) {
		ssh_target_free(t);
		t = NULL;
	}
	if (r != NULL)
		free(r->alias);
	free(r);
	return (t);
}

void
ssh_target_free(struct ssh_target *t)
{
	if (t == NULL)
		return;
	while (t->nidentities > 0)
		free(t->identities[--t->nidentities]);
	while (t->nknown_hosts > 0)
		free(t->known_hosts[--t->nknown_hosts]);
	free(t->user);
	free(t->hostname);
	free(t->label);
	free(t->known_as);
	free(t->kex);
	free(t->ciphers);
	free(t->macs);
	free(t->jump);
	free(t->agent);
	free(t->passphrase_file);
	free(t);
}
