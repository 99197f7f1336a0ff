/*
 * What SSH's own files and programs say, where we read it ourselves.  The first byte says what the rest is:
 *   'K'  a known_hosts file, asked for a host whose key comes first, after a byte for its length
 *   'G'  what ssh -G says
 *   'P'  a private key's file
 *   'A'  what an ssh-agent answers, first to the question for its keys, then to that for a signature
 *   'S'  the first bytes from a server whose handshake failed
 * Each is refused with a reason, or what is made of it is within its bounds and, where it goes on, the same again.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/tool.h"
#include "ssh/ssh_agent.h"
#include "ssh/ssh_key.h"
#include "ssh/ssh_known_hosts.h"
#include "ssh/ssh_session.h"

#define HOST	"[vault.example.net]:2222"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int __wrap_tool_run(const char *const *argv, const char *hint, unsigned int seconds, struct buf *out, struct err *err);
int __wrap_connect(int fd, const struct sockaddr *sa, socklen_t n);
ssize_t __wrap_send(int fd, const void *p, size_t n, int flags);
ssize_t __wrap_recv(int fd, void *p, size_t n, int flags);

static const uint8_t *input;
static size_t left;

/* ---- what would reach other programs ---- */

int
__wrap_tool_run(const char *const *argv, const char *hint, unsigned int seconds, struct buf *out, struct err *err)
{
	assert(strcmp(argv[0], "ssh") == 0 && hint != NULL && seconds > 0);
	return (buf_add(out, input, left, err));
}

int
__wrap_connect(int fd, const struct sockaddr *sa, socklen_t n)
{
	assert(fd != -1 && sa->sa_family == AF_UNIX && n > 0);
	return (0);
}

ssize_t
__wrap_send(int fd, const void *p, size_t n, int flags)
{
	assert(fd != -1 && p != NULL && flags == MSG_NOSIGNAL);
	return ((ssize_t)n);
}

ssize_t
__wrap_recv(int fd, void *p, size_t n, int flags)
{
	assert(fd != -1 && flags == 0 && n > 0);
	n = n < left ? n : left;
	/* In two pieces. */
	n = n > 1 ? n / 2 : n;
	memcpy(p, input, n);
	input += n;
	left -= n;
	return ((ssize_t)n);
}

/* ---- each of them ---- */

/* A file of these bytes, in memory, that only its owner may read. */
static int
file_of(const uint8_t *p, size_t n, char path[64])
{
	int fd = memfd_create("file", MFD_CLOEXEC);

	assert(fd != -1 && fchmod(fd, 0600) == 0 && write(fd, p, n) == (ssize_t)n);
	snprintf(path, 64, "/proc/self/fd/%d", fd);
	return (fd);
}

static void
check_found(const struct known_found *k)
{
	assert(k->verdict <= KNOWN_REVOKED && k->ntypes <= KNOWN_TYPES_MAX);
	assert((k->verdict == KNOWN_NO_HOST) == (k->file == NULL) && (k->file == NULL) == (k->line == 0));
	for (size_t i = 0; i < k->ntypes; i++)
		assert(memchr(k->types[i], '\0', KNOWN_TYPE_LEN) != NULL && k->types[i][0] != '\0');
}

/* A key that is added is found again, unless the file speaks against it, or has a line that was not ended. */
static void
check_known_hosts(void)
{
	size_t len = left > 0 && input[0] < left - 1 ? input[0] : 0;
	const uint8_t *key = input + 1;
	struct known_found k, types;
	struct err err = ERR_INIT;
	char path[64], print[64], type[KNOWN_TYPE_LEN], *files[] = { path };
	bool ends;
	int fd;

	if (len == 0)
		return;
	ends = left == len + 1 || input[left - 1] == '\n';
	fd = file_of(input + 1 + len, left - 1 - len, path);
	assert(known_hosts_look(files, 1, HOST, NULL, 0, &types, &err) == 0 && types.verdict == KNOWN_NO_HOST);
	assert(known_hosts_look(files, 1, HOST, key, len, &k, &err) == 0);
	check_found(&k);
	assert(k.ntypes == types.ntypes && memcmp(k.types, types.types, sizeof(k.types)) == 0);
	assert(strncmp(known_hosts_fingerprint(key, len, print), "SHA256:", 7) == 0 && strlen(print) == 50);
	assert(strlen(known_hosts_type(key, len, type)) < KNOWN_TYPE_LEN);
	if (k.verdict == KNOWN_NO_HOST && ends && type[0] != '\0' && strpbrk(type, " \t\r\n") == NULL) {
		assert(known_hosts_add(path, HOST, key, len, &err) == 0 && known_hosts_look(files, 1, HOST, key, len, &k, &err) == 0);
		assert(k.verdict == KNOWN_MATCH);
	}
	close(fd);
}

static void
check_config(void)
{
	const struct conf_url u = { .host = (char[]){ "vault" }, .user = (char[]){ "backup" } };
	const struct ssh_options o = { .request_timeout = 5 };
	struct err err = ERR_INIT;
	struct ssh_target *t = ssh_target_new(&u, &o, &err);

	if (t == NULL) {
		assert(err.text[0] != '\0');
		return;
	}
	assert(t->user != NULL && t->hostname != NULL && t->known_as != NULL && t->port >= 1 && t->port <= 65535);
	assert(t->nidentities <= SSH_FILES_MAX && t->nknown_hosts <= SSH_FILES_MAX && t->request_s == 5 && t->connect_s == SSH_CONNECT_S);
	for (size_t i = 0; i < t->nidentities; i++)
		assert(t->identities[i][0] == '/');
	for (size_t i = 0; i < t->nknown_hosts; i++)
		assert(t->known_hosts[i][0] != '\0' && strchr(t->known_hosts[i], '\n') == NULL);
	assert(t->agent == NULL || t->agent[0] == '/');
	ssh_target_free(t);
}

static void
check_key(void)
{
	struct ssh_key *k = malloc(sizeof(*k));
	struct err err = ERR_INIT;
	char path[64];
	int fd = file_of(input, left, path);

	assert(k != NULL);
	if (ssh_key_look(path, k, &err) == -1)
		assert(strstr(err.text, path) != NULL);
	else
		assert(k->len <= SSH_KEY_MAX && memchr(k->type, '\0', sizeof(k->type)) != NULL);
	close(fd);
	free(k);
}

static int
sign_with(void *arg, const uint8_t *blob, size_t len, struct err *err)
{
	static const uint8_t data[] = "session";
	uint8_t *sig = NULL, sum = 0;
	size_t n = 0;

	for (size_t i = 0; i < len; i++)
		sum ^= blob[i];
	if (ssh_agent_sign(arg, blob, len, data, sizeof(data), &sig, &n, err) == -1) {
		assert(sig == NULL);
		return (-1);
	}
	for (size_t i = 0; i < n; i++)
		sum ^= sig[i];
	assert(n > 0 && (sum == 0 || sum != 0));
	free(sig);
	return (0);
}

static void
check_agent(void)
{
	struct err err = ERR_INIT;
	struct ssh_agent *a = ssh_agent_open("/run/agent", 5, &err);

	assert(a != NULL);
	if (ssh_agent_keys(a, sign_with, a, &err) == -1)
		assert(strstr(err.text, "/run/agent") != NULL);
	ssh_agent_close(a);
}

static void
check_seen(void)
{
	struct ssh_target t = { .label = (char[]){ "backup@vault" }, .hostname = (char[]){ "vault" }, .port = 22 };
	struct ssh_session *ss = calloc(1, sizeof(*ss));
	struct err err = ERR_INIT;

	assert(ss != NULL && (ss->ssh = libssh2_session_init()) != NULL);
	ss->t = &t;
	ss->stream = (struct ssh_stream){ -1, 0, -1 };
	ss->nseen = left < SSH_SEEN_MAX ? left : SSH_SEEN_MAX;
	if (ss->nseen > 0)
		memcpy(ss->seen, input, ss->nseen);
	assert(ssh_handshake_failed(ss, &err) == -1 && strstr(err.text, "vault") != NULL);
	libssh2_session_free(ss->ssh);
	free(ss);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return (0);
	input = data + 1;
	left = size - 1;
	switch (data[0]) {
	case 'K':
		check_known_hosts();
		break;
	case 'G':
		check_config();
		break;
	case 'P':
		check_key();
		break;
	case 'A':
		check_agent();
		break;
	case 'S':
		check_seen();
		break;
	default:
		break;
	}
	return (0);
}
