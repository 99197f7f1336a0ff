/* A repository on an SFTP server: folders and names. */
#include "store/store_sftp.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/thread.h"
#include "store/sftp_send.h"

#define NAMES_MAX	((size_t)64 << 20)	/* bytes of the names in one folder */
#define TICK_S		30
#define ROOM_LEAST	((uint64_t)1 << 20)	/* with less free than this, "failure" is taken for a full disk */

static struct sftp_store *
sftp_of(struct store *st)
{
	return ((struct sftp_store *)st);
}

int
sftp_path(const struct sftp_store *s, const char *path, char out[SFTP_PATH_LEN], struct err *err)
{
	int n = strcmp(path, ".") == 0 ? snprintf(out, SFTP_PATH_LEN, "%s", s->base) : snprintf(out, SFTP_PATH_LEN, "%s/%s", s->base, path);

	return (n >= 0 && (size_t)n < SFTP_PATH_LEN ? 0 : err_set(err, ENAMETOOLONG, "%s/%.80s...", s->st.url, path));
}

int
sftp_lstat(struct ssh_session *ss, const char *full, LIBSSH2_SFTP_ATTRIBUTES *attrs, struct err *err)
{
	int r;

	memset(attrs, 0, sizeof(*attrs));
	SFTP_TRY(r, ss, err, libssh2_sftp_lstat(ss->sftp, full, attrs))
		;
	return (r == 0 ? 0 : -1);
}

LIBSSH2_SFTP_HANDLE *
sftp_open(struct ssh_session *ss, const char *full, unsigned long flags, struct err *err)
{
	LIBSSH2_SFTP_HANDLE *h;

	while ((h = libssh2_sftp_open_ex(ss->sftp, full, (unsigned int)strlen(full), flags, 0600, LIBSSH2_SFTP_OPENFILE)) == NULL &&
	    libssh2_session_last_errno(ss->ssh) == LIBSSH2_ERROR_EAGAIN && ssh_wait(ss, err) == 0)
		;
	if (h != NULL)
		ssh_handle_opened(ss, h);
	return (h);
}

int
sftp_fsync(struct sftp_store *s, struct ssh_session *ss, LIBSSH2_SFTP_HANDLE *h, struct err *err)
{
	unsigned long fx;
	int r;

	SFTP_TRY(r, ss, err, libssh2_sftp_fsync(h))
		;
	if (r == 0)
		return (0);
	/* A server that was told not to offer it denies it; an open file it would not deny otherwise. */
	fx = ss->dead || libssh2_session_last_errno(ss->ssh) != LIBSSH2_ERROR_SFTP_PROTOCOL ? LIBSSH2_FX_FAILURE : libssh2_sftp_last_error(ss->sftp);
	if (fx == LIBSSH2_FX_OP_UNSUPPORTED || fx == LIBSSH2_FX_PERMISSION_DENIED) {
		s->st.note = "the SFTP server cannot be told to make files durable (it lacks fsync@openssh.com): a power cut there, soon after, may have "
		    "taken them";
		return (0);
	}
	return (-1);
}

/* What a server that says only "failure" may mean. */
static int
guess(const struct sftp_store *s, struct ssh_session *ss, const char *made, struct err *err)
{
	LIBSSH2_SFTP_ATTRIBUTES attrs;
	LIBSSH2_SFTP_STATVFS fs;
	size_t n = strlen(s->base);
	int r;

	if (made != NULL && sftp_lstat(ss, made, &attrs, err) == 0)
		return (EEXIST);
	/* The store's own folder may be what is to be made. */
	if (made != NULL && strcmp(made, s->base) == 0)
		while (n > 1 && s->base[n - 1] != '/')
			n--;
	memset(&fs, 0, sizeof(fs));
	SFTP_TRY(r, ss, err, libssh2_sftp_statvfs(ss->sftp, s->base, n, &fs))
		;
	if (r != 0)
		return (EIO);
	if ((fs.f_flag & LIBSSH2_SFTP_ST_RDONLY) != 0)
		return (EROFS);
	if (fs.f_blocks != 0 && (fs.f_bavail * fs.f_frsize < ROOM_LEAST || (fs.f_files != 0 && fs.f_favail == 0)))
		return (ENOSPC);
	return (EIO);
}

static int
code_of(unsigned long fx)
{
	switch (fx) {
	case LIBSSH2_FX_NO_SUCH_FILE:
	case LIBSSH2_FX_NO_SUCH_PATH:
		return (ENOENT);
	case LIBSSH2_FX_PERMISSION_DENIED:
		return (EACCES);
	case LIBSSH2_FX_WRITE_PROTECT:
		return (EROFS);
	case LIBSSH2_FX_FILE_ALREADY_EXISTS:
		return (EEXIST);
	case LIBSSH2_FX_NO_SPACE_ON_FILESYSTEM:
		return (ENOSPC);
	case LIBSSH2_FX_QUOTA_EXCEEDED:
		return (EDQUOT);
	case LIBSSH2_FX_DIR_NOT_EMPTY:
		return (ENOTEMPTY);
	case LIBSSH2_FX_OP_UNSUPPORTED:
		return (ENOTSUP);
	default:
		return (0);
	}
}

int
sftp_failed_with(const struct sftp_store *s, struct ssh_session *ss, unsigned long fx, const char *path, const char *made, const char *doing,
    struct err *err)
{
	const char *slash = path[0] != '\0' ? "/" : "";
	int code = code_of(fx);

	if (code == 0)
		code = guess(s, ss, made, err);
	if (ss->dead)
		return (err_wrap(err, "%s %s%s%s", doing, s->st.url, slash, path));
	if (code == EIO)
		return (err_set(err, EIO, "%s %s%s%s (the server gives no reason, only SFTP's error %lu)", doing, s->st.url, slash, path, fx));
	return (err_set(err, code, "%s %s%s%s", doing, s->st.url, slash, path));
}

int
sftp_failed(const struct sftp_store *s, struct ssh_session *ss, const char *path, const char *made, const char *doing, struct err *err)
{
	const char *slash = path[0] != '\0' ? "/" : "";

	if (ssh_lost(ss, err))
		return (err_wrap(err, "%s %s%s%s", doing, s->st.url, slash, path));
	return (sftp_failed_with(s, ss, libssh2_sftp_last_error(ss->sftp), path, made, doing, err));
}

/* One request about a path, on any connection. */
typedef int request_fn(struct sftp_store *s, struct ssh_session *ss, const char *path, const char *full, void *arg, struct err *err);

static int
on_path(struct store *st, const char *path, request_fn *fn, void *arg, struct err *err)
{
	struct sftp_store *s = sftp_of(st);
	char full[SFTP_PATH_LEN];
	int i, rc;

	if (sftp_path(s, path, full, err) == -1 || (i = pool_take(&s->pool, -1, err)) == -1)
		return (-1);
	rc = fn(s, s->pool.conns[i].ss, path, full, arg, err);
	pool_give(&s->pool, i);
	return (rc);
}

static int
request_mkdir(struct sftp_store *s, struct ssh_session *ss, const char *path, const char *full, void *arg, struct err *err)
{
	int r;

	(void)arg;
	SFTP_TRY(r, ss, err, libssh2_sftp_mkdir(ss->sftp, full, 0700))
		;
	return (r == 0 ? 0 : sftp_failed(s, ss, path, full, "cannot make the folder", err));
}

static int
request_rmdir(struct sftp_store *s, struct ssh_session *ss, const char *path, const char *full, void *arg, struct err *err)
{
	int r;

	(void)arg;
	SFTP_TRY(r, ss, err, libssh2_sftp_rmdir_ex(ss->sftp, full, (unsigned int)strlen(full)))
		;
	if (r == 0 || sftp_failed(s, ss, path, full, "cannot remove the folder", err) == 0)
		return (0);
	/* "Failure", and it is still there: something is in it. */
	return (err->code == EEXIST ? err_set(err, ENOTEMPTY, "cannot remove the folder %s/%s", s->st.url, path) : -1);
}

static int
request_unlink(struct sftp_store *s, struct ssh_session *ss, const char *path, const char *full, void *arg, struct err *err)
{
	int r;

	(void)arg;
	SFTP_TRY(r, ss, err, libssh2_sftp_unlink(ss->sftp, full))
		;
	return (r == 0 ? 0 : sftp_failed(s, ss, path, NULL, "cannot remove", err));
}

/* OpenSSH's plain rename does not replace; for servers whose does, we look first: names that only one lock holder uses make that enough. */
static int
request_rename(struct sftp_store *s, struct ssh_session *ss, const char *path, const char *full, void *arg, struct err *err)
{
	char to[SFTP_PATH_LEN];
	LIBSSH2_SFTP_ATTRIBUTES attrs;
	struct err why = ERR_INIT;
	int r;

	if (sftp_path(s, arg, to, err) == -1)
		return (-1);
	if (sftp_lstat(ss, to, &attrs, err) == 0)
		return (err_set(err, EEXIST, "cannot rename %s/%s to %s", s->st.url, path, (const char *)arg));
	if (ss->dead || (sftp_failed(s, ss, path, NULL, "cannot rename", &why), why.code != ENOENT)) {
		*err = ss->dead ? ss->why : why;
		return (-1);
	}
	SFTP_TRY(r, ss, err, libssh2_sftp_rename_ex(ss->sftp, full, (unsigned int)strlen(full), to, (unsigned int)strlen(to), 0))
		;
	return (r == 0 ? 0 : sftp_failed(s, ss, path, to, "cannot rename", err));
}

static int
request_stat(struct sftp_store *s, struct ssh_session *ss, const char *path, const char *full, void *arg, struct err *err)
{
	struct store_stat *out = arg;
	LIBSSH2_SFTP_ATTRIBUTES a;

	if (sftp_lstat(ss, full, &a, err) == -1)
		return (sftp_failed(s, ss, path, NULL, "cannot look at", err));
	if ((a.flags & LIBSSH2_SFTP_ATTR_PERMISSIONS) == 0 || (a.flags & LIBSSH2_SFTP_ATTR_ACMODTIME) == 0)
		return (err_plain(err, ENOTSUP, "the server does not say what %s/%s is, or how old", s->st.url, path));
	*out = (struct store_stat){ .is_dir = LIBSSH2_SFTP_S_ISDIR(a.permissions), .size = a.filesize, .mtime = (int64_t)a.mtime };
	return (0);
}

/*
 * SFTP sets times only to what we say, and our clock is not the storage's: so the file's first byte is written again, which changes nothing in
 * it.  An empty file is cut to the length that it has.
 */
static int
request_touch(struct sftp_store *s, struct ssh_session *ss, const char *path, const char *full, void *arg, struct err *err)
{
	LIBSSH2_SFTP_ATTRIBUTES cut = { .flags = LIBSSH2_SFTP_ATTR_SIZE };
	LIBSSH2_SFTP_HANDLE *h = sftp_open(ss, full, LIBSSH2_FXF_READ | LIBSSH2_FXF_WRITE, err);
	ssize_t r;
	char c;

	(void)arg;
	if (h == NULL)
		return (sftp_failed(s, ss, path, NULL, "cannot renew", err));
	SFTP_TRY(r, ss, err, libssh2_sftp_read(h, &c, 1))
		;
	if (r == 1) {
		libssh2_sftp_seek64(h, 0);
		SFTP_TRY(r, ss, err, libssh2_sftp_write(h, &c, 1))
			;
		r = r == 1 ? 0 : -1;
	} else if (r == 0)
		SFTP_TRY(r, ss, err, libssh2_sftp_fsetstat(h, &cut))
			;
	if (r != 0)
		r = sftp_failed(s, ss, path, NULL, "cannot renew", err);
	ssh_handle_close(ss, h);
	return ((int)r);
}

static int
request_sync_dir(struct sftp_store *s, struct ssh_session *ss, const char *path, const char *full, void *arg, struct err *err)
{
	LIBSSH2_SFTP_HANDLE *h;
	int rc = 0;

	(void)arg;
	/* OpenSSH opens a folder as it opens a file; what does not, cannot be asked. */
	if ((h = sftp_open(ss, full, LIBSSH2_FXF_READ, err)) == NULL) {
		sftp_failed(s, ss, path, NULL, "cannot make durable the folder", err);
		if (ss->dead || (err->code != EIO && err->code != ENOTSUP))
			return (-1);
		s->st.note = "the SFTP server cannot be told to make folders durable: a power cut there, soon after, may have taken them";
		return (0);
	}
	if (sftp_fsync(s, ss, h, err) == -1)
		rc = sftp_failed(s, ss, path, NULL, "cannot make durable the folder", err);
	ssh_handle_close(ss, h);
	return (rc);
}

/* All names at once: whoever gets them makes requests of his own. */
static int
request_list(struct sftp_store *s, struct ssh_session *ss, const char *path, const char *full, void *arg, struct err *err)
{
	LIBSSH2_SFTP_ATTRIBUTES attrs;
	LIBSSH2_SFTP_HANDLE *h;
	struct buf *names = arg;
	char name[4096];
	int r, rc = 0;

	while ((h = libssh2_sftp_opendir(ss->sftp, full)) == NULL && libssh2_session_last_errno(ss->ssh) == LIBSSH2_ERROR_EAGAIN &&
	    ssh_wait(ss, err) == 0)
		;
	if (h == NULL)
		return (sftp_failed(s, ss, path, NULL, "cannot list", err));
	for (;;) {
		SFTP_TRY(r, ss, err, libssh2_sftp_readdir(h, name, sizeof(name) - 1, &attrs))
			;
		if (r == 0 || (size_t)r >= sizeof(name))
			break;
		name[r] = '\0';
		if (strlen(name) != (size_t)r)
			continue;	/* no file has a zero byte in its name */
		if (names->len > NAMES_MAX)
			rc = err_plain(err, E2BIG, "cannot list %s/%s: more names than any folder of a repository has", s->st.url, path);
		else
			rc = buf_add(names, name, strlen(name) + 1, err);
		if (rc == -1)
			break;
	}
	if (rc == 0 && r != 0)
		rc = sftp_failed(s, ss, path, NULL, "cannot list", err);
	ssh_handle_close(ss, h);
	return (rc);
}

static int
request_room(struct sftp_store *s, struct ssh_session *ss, const char *path, const char *full, void *arg, struct err *err)
{
	LIBSSH2_SFTP_STATVFS fs;
	uint64_t *room = arg;
	int r;

	memset(&fs, 0, sizeof(fs));
	SFTP_TRY(r, ss, err, libssh2_sftp_statvfs(ss->sftp, full, strlen(full), &fs))
		;
	*room = UINT64_MAX;
	if (r == 0 && fs.f_blocks != 0)
		*room = fs.f_bavail * fs.f_frsize;
	/* Not every server can tell. */
	return (r == 0 || !ssh_lost(ss, err) ? 0 : err_wrap(err, "cannot tell the free space of %s/%s", s->st.url, path));
}

static int
sftp_mkdir(struct store *st, const char *path, struct err *err)
{
	return (on_path(st, path, request_mkdir, NULL, err));
}

static int
sftp_rmdir(struct store *st, const char *path, struct err *err)
{
	return (on_path(st, path, request_rmdir, NULL, err));
}

static int
sftp_unlink(struct store *st, const char *path, struct err *err)
{
	return (on_path(st, path, request_unlink, NULL, err));
}

static int
sftp_rename(struct store *st, const char *from, const char *to, struct err *err)
{
	return (on_path(st, from, request_rename, (void *)(uintptr_t)to, err));
}

static int
sftp_stat(struct store *st, const char *path, struct store_stat *out, struct err *err)
{
	return (on_path(st, path, request_stat, out, err));
}

static int
sftp_touch(struct store *st, const char *path, struct err *err)
{
	return (on_path(st, path, request_touch, NULL, err));
}

static int
sftp_sync_dir(struct store *st, const char *path, struct err *err)
{
	return (on_path(st, path, request_sync_dir, NULL, err));
}

static int
sftp_room(struct store *st, uint64_t *bytes, struct err *err)
{
	return (on_path(st, ".", request_room, bytes, err));
}

static int
sftp_list(struct store *st, const char *path, int (*fn)(void *, const char *, struct err *), void *arg, struct err *err)
{
	struct buf names = BUF_INIT;
	int rc = on_path(st, path, request_list, &names, err);

	for (size_t at = 0; at < names.len && rc == 0; at += strlen(names.ptr + at) + 1)
		rc = fn(arg, names.ptr + at, err);
	buf_free(&names);
	return (rc);
}

/* Each idle connection makes a request now and then: servers end those that do not answer their own questions (ClientAliveInterval). */
static void
tick(struct sftp_store *s)
{
	LIBSSH2_SFTP_ATTRIBUTES attrs;
	struct err ignored = ERR_INIT;
	bool idle;
	int got;

	for (int i = 0; i < SFTP_CONNS; i++) {
		pthread_mutex_lock(&s->pool.lock);
		idle = s->pool.conns[i].ss != NULL && !s->pool.conns[i].taken && !s->pool.lost;
		pthread_mutex_unlock(&s->pool.lock);
		if (!idle || (got = pool_take(&s->pool, i, &ignored)) == -1)
			continue;
		if (sftp_lstat(s->pool.conns[got].ss, s->base, &attrs, &ignored) == -1)
			ssh_lost(s->pool.conns[got].ss, &ignored);
		pool_give(&s->pool, got);
	}
}

static void *
tick_main(void *arg)
{
	struct sftp_store *s = arg;
	struct timespec until;

	pthread_mutex_lock(&s->tick_lock);
	while (!s->tick_stop) {
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += TICK_S;
		if (pthread_cond_timedwait(&s->tick_wake, &s->tick_lock, &until) != ETIMEDOUT)
			continue;
		tick(s);
	}
	pthread_mutex_unlock(&s->tick_lock);
	return (NULL);
}

static void
sftp_store_close(struct store *st)
{
	struct sftp_store *s = sftp_of(st);

	if (s->ticking) {
		pthread_mutex_lock(&s->tick_lock);
		s->tick_stop = true;
		pthread_cond_signal(&s->tick_wake);
		pthread_mutex_unlock(&s->tick_lock);
		pthread_join(s->ticker, NULL);
	}
	pthread_mutex_destroy(&s->tick_lock);
	pthread_cond_destroy(&s->tick_wake);
	ahead_free(&s->ahead);
	pool_close(&s->pool);
	ssh_target_free(s->t);
	free(s->base);
	free(s->st.url);
	free(s);
}

const struct store_ops sftp_ops = {
	.close = sftp_store_close, .mkdir = sftp_mkdir, .rmdir = sftp_rmdir, .unlink = sftp_unlink, .rename = sftp_rename, .stat = sftp_stat,
	.touch = sftp_touch, .list = sftp_list, .sync_dir = sftp_sync_dir, .room = sftp_room, .create = sftp_file_create, .open = sftp_file_open,
	.append = sftp_file_append, .sync = sftp_file_sync, .read = sftp_file_read, .small_reads = sftp_file_small_reads,
	.file_close = sftp_file_close, .reopen = sftp_file_reopen, .sha256 = sftp_sha256,
};

/* Its last folder is made when it is not there; then its name is made durable. */
static int
make_base(struct sftp_store *s, struct ssh_session *ss, struct err *err)
{
	char *slash = strrchr(s->base, '/'), parent[SFTP_PATH_LEN];
	int r;

	SFTP_TRY(r, ss, err, libssh2_sftp_mkdir(ss->sftp, s->base, 0700))
		;
	if (r != 0) {
		sftp_failed(s, ss, "", s->base, "cannot make the folder", err);
		if (err->code == ENOENT)
			err_set(err, ENOENT, "cannot make the repository's folder %s (the folder that it is in must be there)", s->st.url);
		return (err->code == EEXIST ? 0 : -1);
	}
	snprintf(parent, sizeof(parent), "%.*s", (int)(slash - s->base), s->base);
	return (request_sync_dir(s, ss, "..", parent[0] != '\0' ? parent : "/", NULL, err));
}

static int
look_at_base(struct sftp_store *s, bool make, struct err *err)
{
	LIBSSH2_SFTP_ATTRIBUTES a;
	struct ssh_session *ss;
	int i = pool_take(&s->pool, 0, err), r, rc = -1;

	if (i == -1)
		return (-1);
	ss = s->pool.conns[i].ss;
	for (int try = 0; try < 2; try++) {
		memset(&a, 0, sizeof(a));
		SFTP_TRY(r, ss, err, libssh2_sftp_stat(ss->sftp, s->base, &a))
			;
		if (r == 0)
			rc = LIBSSH2_SFTP_S_ISDIR(a.permissions) ? 0 : err_set(err, ENOTDIR, "%s", s->st.url);
		else {
			sftp_failed(s, ss, "", NULL, "cannot open", err);
			if (try == 0 && make && err->code == ENOENT && make_base(s, ss, err) == 0)
				continue;
			if (!make && err->code == ENOENT)
				err_set(err, ENOENT, "cannot open the repository %s (is it mounted there, and written so?)", s->st.url);
		}
		break;
	}
	pool_give(&s->pool, i);
	return (rc);
}

static int
open_at(struct sftp_store *s, const char *url, const struct ssh_options *o, bool make, struct err *err)
{
	struct conf_url u;
	size_t n;

	if ((s->st.url = strdup(url)) == NULL)
		return (err_nomem(err));
	if (conf_url_parse(url, &u, err) == -1)
		return (-1);
	s->base = u.path;
	u.path = NULL;
	for (n = strlen(s->base); n > 1 && s->base[n - 1] == '/'; n--)
		s->base[n - 1] = s->st.url[strlen(s->st.url) - 1] = '\0';
	s->t = ssh_target_new(&u, o, err);
	conf_url_free(&u);
	if (s->t == NULL || pool_open(&s->pool, s->t, err) == -1)
		return (-1);
	if (look_at_base(s, make, err) == -1)
		return (-1);
	if (thread_start(&s->ticker, tick_main, s, err) == -1)
		return (err_wrap(err, "cannot keep the connection to %s alive", s->st.url));
	s->ticking = true;
	return (0);
}

struct store *
store_sftp_open(const char *url, const struct ssh_options *options, bool make, struct err *err)
{
	static const struct ssh_options as_ssh;
	struct sftp_store *s = calloc(1, sizeof(*s));
	pthread_condattr_t steady;

	if (s == NULL) {
		err_nomem(err);
		return (NULL);
	}
	s->st.ops = &sftp_ops;
	s->st.remote = true;
	s->st.unsettled = SEND_WINDOW;
	ahead_init(&s->ahead, sftp_fetch);
	pthread_mutex_init(&s->tick_lock, NULL);
	pthread_condattr_init(&steady);
	pthread_condattr_setclock(&steady, CLOCK_MONOTONIC);
	pthread_cond_init(&s->tick_wake, &steady);
	pthread_condattr_destroy(&steady);
	if (open_at(s, url, options != NULL ? options : &as_ssh, make, err) == 0)
		return (&s->st);
	sftp_store_close(&s->st);
	return (NULL);
}
