/*
 * What an SFTP server may say: our store on a real libssh2 (linked statically), whose transport is replaced: SSH messages come from here, without a
 * connection or keys.  So the packets are taken apart by libssh2's own code, and what comes of them by ours.
 *
 * The first byte says what is done with the store; then records of what the server says:
 *   'A' length(2) type body     an answer to the oldest request that has none, with its id filled in
 *   'R' length(2) bytes         bytes of the SFTP stream as they are
 *   'W'                         nothing for now
 *   'E', 'C'                    the channel's end; its close
 * After the last one the connection is lost.
 */
#include <assert.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "store/store_sftp.h"

#define SERVICE_REQUEST		5
#define SERVICE_ACCEPT		6
#define USERAUTH_REQUEST	50
#define USERAUTH_SUCCESS	52
#define CHANNEL_OPEN		90
#define CHANNEL_CONFIRMATION	91
#define CHANNEL_DATA		94
#define CHANNEL_EOF		96
#define CHANNEL_CLOSE		97
#define CHANNEL_REQUEST		98
#define CHANNEL_SUCCESS		99
#define IDS			1024u
#define WAITS			20u
#define SESSIONS		64u	/* of one input: each spoilt connection is followed by another */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* libssh2's own, from its archive.  Later versions have one more argument, a number that does not matter here. */
int _libssh2_packet_add(LIBSSH2_SESSION *session, unsigned char *data, size_t n, int mac, uint32_t seq);
int __wrap__libssh2_transport_send(LIBSSH2_SESSION *session, const unsigned char *p, size_t n, const unsigned char *p2, size_t n2);
int __wrap__libssh2_transport_read(LIBSSH2_SESSION *session);
struct ssh_session *__wrap_ssh_session_open(const struct ssh_target *t, struct err *err);
struct ssh_target *__wrap_ssh_target_new(const struct conf_url *u, const struct ssh_options *o, struct err *err);

/* libssh2 1.10 frees neither an answer that it finds wrong, nor the handles that are open when their connection is given up: some hundred bytes. */
const char *__lsan_default_suppressions(void);
const char *
__lsan_default_suppressions(void)
{
	return ("leak:sftp_packet_read\nleak:_libssh2_calloc\nleak:_libssh2_packet_add");
}

/* The server's side of one session. */
struct peer {
	LIBSSH2_SESSION	*session;
	const struct ssh_session *ss;
	uint32_t	 channel;		/* the client's number of it */
	uint8_t		 say;			/* an answer of the channel's own that is due: its type, or 0 */
	uint8_t		 head[9];		/* of the request that comes: length, type, id */
	size_t		 nhead;
	uint64_t	 rest;			/* its bytes that are still to come */
	uint32_t	 ids[IDS], first, last;	/* requests without an answer */
	bool		 full;			/* libssh2 has something to look at */
	unsigned int	 waits;			/* in vain */
};

static struct peer peers[SESSIONS];
static size_t npeers;
static const uint8_t *input;
static size_t left;

static uint32_t
be32(const uint8_t *p)
{
	return ((uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3]);
}

static void
put32(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 24);
	p[1] = (uint8_t)(v >> 16);
	p[2] = (uint8_t)(v >> 8);
	p[3] = (uint8_t)v;
}

static struct peer *
peer_of(LIBSSH2_SESSION *session)
{
	for (size_t i = npeers; i > 0; i--)
		if (peers[i - 1].session == session)
			return (&peers[i - 1]);
	assert(!"a session of ours");
	return (NULL);
}

/* Bytes of the client's SFTP stream: only the ids of its requests matter. */
static void
hear(struct peer *pe, const uint8_t *p, size_t n)
{
	while (n > 0) {
		if (pe->rest > 0) {
			size_t part = pe->rest < n ? (size_t)pe->rest : n;

			pe->rest -= part;
			p += part;
			n -= part;
			continue;
		}
		pe->head[pe->nhead++] = *p++;
		n--;
		if (pe->nhead < sizeof(pe->head))
			continue;
		pe->nhead = 0;
		assert(be32(pe->head) >= 5);
		pe->rest = be32(pe->head) - 5;
		pe->ids[pe->last++ % IDS] = be32(pe->head + 5);
		pe->waits = 0;
	}
}

/* Its stream has been closed. */
static bool
is_dead(const struct peer *pe)
{
	return (pe->ss->dead || pe->ss->stream.fd == -1);
}

int
__wrap__libssh2_transport_send(LIBSSH2_SESSION *session, const unsigned char *p, size_t n, const unsigned char *p2, size_t n2)
{
	struct peer *pe = peer_of(session);

	if (is_dead(pe))
		return (LIBSSH2_ERROR_SOCKET_SEND);
	switch (p[0]) {
	case SERVICE_REQUEST:
		pe->say = SERVICE_ACCEPT;
		break;
	case USERAUTH_REQUEST:
		pe->say = USERAUTH_SUCCESS;
		break;
	case CHANNEL_OPEN:
		pe->channel = be32(p + 5 + be32(p + 1));
		pe->say = CHANNEL_CONFIRMATION;
		break;
	case CHANNEL_REQUEST:
		pe->say = CHANNEL_SUCCESS;
		break;
	case CHANNEL_CLOSE:
		pe->say = CHANNEL_CLOSE;
		break;
	case CHANNEL_DATA:
		hear(pe, p + 9, n - 9);
		hear(pe, p2, n2);
		break;
	default:
		break;
	}
	return (0);
}

/* Give libssh2 a message of ${type} with a number first, the channel's as a rule, and ${n} bytes. */
static int
say_with(struct peer *pe, uint8_t type, uint32_t number, const void *p, size_t n)
{
	uint8_t *m = malloc(5 + n);
	int r;

	assert(m != NULL);
	m[0] = type;
	put32(m + 1, number);
	if (n > 0)
		memcpy(m + 5, p, n);
	r = _libssh2_packet_add(pe->session, m, 5 + n, 0, 0);
	return (r < 0 ? r : type);
}

static int
say(struct peer *pe, uint8_t type, const void *p, size_t n)
{
	return (say_with(pe, type, pe->channel, p, n));
}

/* What comes before SFTP does, and after it; always honest. */
static int
say_own(struct peer *pe, uint8_t type)
{
	static const uint8_t opened[12] = { [4] = 0x7f, 0xff, 0xff, 0xff, [10] = 0x80 };	/* our number; a window; the largest packet */

	pe->say = 0;
	if (type == SERVICE_ACCEPT)
		return (say_with(pe, type, 12, "ssh-userauth", 12));
	return (say(pe, type, opened, type == CHANNEL_CONFIRMATION ? sizeof(opened) : 0));
}

static int
say_data(struct peer *pe, const uint8_t *p, size_t n)
{
	uint8_t *m = malloc(4 + n);
	int r;

	assert(m != NULL);
	put32(m, (uint32_t)n);
	memcpy(m + 4, p, n);
	r = say(pe, CHANNEL_DATA, m, 4 + n);
	free(m);
	return (r);
}

static int
say_answer(struct peer *pe, const uint8_t *p, size_t n)
{
	uint8_t m[9 + 65536];

	if (n == 0)
		return (say_data(pe, p, 0));
	put32(m, (uint32_t)n + 4);
	m[4] = p[0];
	put32(m + 5, pe->ids[pe->first++ % IDS]);
	if ((int32_t)(pe->last - pe->first) < 0)
		pe->last = pe->first;
	/* A version has no id. */
	memcpy(m + (p[0] == 2 ? 5 : 9), p + 1, n - 1);
	if (p[0] == 2)
		put32(m, (uint32_t)n);
	return (say_data(pe, m, p[0] == 2 ? n + 4 : n + 8));
}

int
__wrap__libssh2_transport_read(LIBSSH2_SESSION *session)
{
	struct peer *pe = peer_of(session);
	uint8_t op;
	size_t n;

	if (is_dead(pe))
		return (LIBSSH2_ERROR_SOCKET_RECV);
	if (pe->say != 0)
		return (say_own(pe, pe->say));
	/* libssh2 reads all that there is before it looks at any of it: so it is given little at a time, and answers when it has asked. */
	pe->full = !pe->full;
	if (!pe->full || ((left == 0 || (*input == 'A' && pe->first == pe->last)) && pe->waits++ < WAITS))
		return (LIBSSH2_ERROR_EAGAIN);
	if (left == 0)
		return (LIBSSH2_ERROR_SOCKET_RECV);
	pe->waits = 0;
	op = *input++;
	left--;
	if (op == 'W')
		return (LIBSSH2_ERROR_EAGAIN);
	if (op == 'E' || op == 'C')
		return (say(pe, op == 'E' ? CHANNEL_EOF : CHANNEL_CLOSE, NULL, 0));
	if ((op != 'A' && op != 'R') || left < 2) {
		left = 0;
		return (LIBSSH2_ERROR_SOCKET_RECV);
	}
	n = (size_t)input[0] << 8 | input[1];
	n = n < left - 2 ? n : left - 2;
	input += 2 + n;
	left -= 2 + n;
	return (op == 'A' ? say_answer(pe, input - n, n) : say_data(pe, input - n, n));
}

/* A session that is logged in. */
struct ssh_session *
__wrap_ssh_session_open(const struct ssh_target *t, struct err *err)
{
	struct ssh_session *ss = calloc(1, sizeof(*ss));

	if (npeers == SESSIONS) {
		err_set(err, 0, "enough of them");
		free(ss);
		return (NULL);
	}
	assert(ss != NULL);
	ss->t = t;
	/* Whoever waits for it goes on at once. */
	ss->stream = (struct ssh_stream){ open("/dev/null", O_RDWR | O_CLOEXEC), 0, -1 };
	ss->moved = ssh_now();
	ss->until = ss->moved + 240000;
	ss->ssh = libssh2_session_init_ex(NULL, NULL, NULL, ss);
	assert(ss->stream.fd != -1 && ss->ssh != NULL);
	memset(&peers[npeers], 0, sizeof(peers[npeers]));
	peers[npeers].ss = ss;
	peers[npeers++].session = ss->ssh;
	libssh2_session_set_blocking(ss->ssh, 0);
	libssh2_userauth_list(ss->ssh, "user", 4);
	assert(libssh2_userauth_authenticated(ss->ssh));
	while ((ss->sftp = libssh2_sftp_init(ss->ssh)) == NULL && libssh2_session_last_errno(ss->ssh) == LIBSSH2_ERROR_EAGAIN)
		;
	if (ss->sftp != NULL)
		return (ss);
	err_set(err, 0, "does not begin SFTP");
	ss->dead = true;
	ssh_session_close(ss);
	return (NULL);
}

struct ssh_target *
__wrap_ssh_target_new(const struct conf_url *u, const struct ssh_options *o, struct err *err)
{
	struct ssh_target *t = calloc(1, sizeof(*t));

	(void)o;
	(void)err;
	assert(t != NULL && (t->label = strdup(u->host)) != NULL);
	t->connect_s = t->idle_s = t->request_s = 240;
	return (t);
}

static int
one_name(void *arg, const char *name, struct err *err)
{
	size_t *count = arg;

	(void)err;
	assert(name[0] != '\0' && strlen(name) <= 255 && strchr(name, '/') == NULL && strcmp(name, ".") != 0 && strcmp(name, "..") != 0);
	++*count;
	return (0);
}

static int
read_file(struct store *st, bool here_and_there, struct err *err)
{
	struct store_file *f = store_file_open(st, "a/b", err);
	char *p = malloc(70000);
	int rc = 0;

	assert(p != NULL);
	if (f == NULL) {
		free(p);
		return (-1);
	}
	if (here_and_there)
		store_small_reads(f);
	for (uint64_t at = 0; at < f->size && at < 400000 && rc == 0; at += here_and_there ? 20011 : 70000) {
		size_t n = here_and_there ? 100 : 70000;

		rc = store_file_read(f, p, f->size - at < n ? (size_t)(f->size - at) : n, at, err);
	}
	store_file_close(f);
	free(p);
	return (rc);
}

static int
write_file(struct store *st, struct err *err)
{
	static const char bytes[300000];
	struct store_file *f = store_create(st, "a/b", err);
	int rc;

	if (f == NULL)
		return (-1);
	rc = store_append(f, bytes, sizeof(bytes), err) == -1 || store_append(f, bytes, 1000, err) == -1 ? -1 : store_sync(f, err);
	store_file_close(f);
	return (rc);
}

static int
change_names(struct store *st, struct err *err)
{
	if (store_mkdir(st, "a", err) == -1 || store_sync_dir(st, "a", err) == -1 || store_rename(st, "a", "b", err) == -1)
		return (-1);
	return (store_touch(st, "b", err) == -1 || store_unlink(st, "b", err) == -1 || store_rmdir(st, "b", err) == -1 ? -1 : 0);
}

/* What the repository's code does with a store, in short. */
static int
use(struct store *st, uint8_t what, struct err *err)
{
	struct buf small = BUF_INIT;
	struct store_stat sb;
	uint64_t room;
	size_t count = 0;
	int rc = 0;

	switch (what % 7) {
	case 0:
		return (store_list(st, ".", one_name, &count, err));
	case 1:
		return (read_file(st, false, err));
	case 2:
		return (read_file(st, true, err));
	case 3:
		rc = store_read_small(st, "repository.json", 4096, &small, err);
		assert(rc == -1 || (small.len <= 4096 && small.ptr[small.len] == '\0'));
		buf_free(&small);
		return (rc);
	case 4:
		return (write_file(st, err));
	case 5:
		return (change_names(st, err));
	default:
		return (store_room(st, &room, err) == -1 || store_stat(st, "a", &sb, err) == -1 ? -1 : store_remove_tree(st, "a", err));
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err err = ERR_INIT;
	struct store *st;

	if (size == 0)
		return (0);
	npeers = 0;
	input = data + 1;
	left = size - 1;
	if ((st = store_sftp_open("sftp://server/base", NULL, false, &err)) == NULL)
		assert(err.text[0] != '\0');
	else if (use(st, data[0], &err) == -1)
		assert(err.text[0] != '\0');
	store_close(st);
	return (0);
}
