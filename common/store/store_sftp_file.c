/*
 * The bytes of files on an SFTP server.
 *
 * What is appended goes there in pieces over several connections (sftp_send.c): until store_sync(), any of them may be missing there.
 * What is read is asked for at once, in as many requests as it takes, and what is read in order ahead (sftp_ahead.c).  A file has a handle on each connection that it
 * was used on.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/sftp_send.h"
#include "store/store_sftp.h"

#define SMALL		((uint64_t)128 << 10)	/* up to here an append ends when it is confirmed: a failure is told at once */
#define VAIN_MAX	100u			/* writes in a row that confirm nothing, and need not wait */
#define PAGE		((size_t)32 << 10)	/* of a file that is read here and there, over and over */
#define PAGES		16
#define ONE_BY_ONE	((size_t)7500)		/* bytes; four times that is one request */

struct handle {
	LIBSSH2_SFTP_HANDLE	*h;
	unsigned int		 gen;		/* of the connection */
};

/* Pages of such a file: searching an index takes many reads of a few bytes, and each would take a round trip. */
struct pages {
	pthread_mutex_t	 lock;			/* guards the rest */
	uint64_t	 clock;
	struct {
		uint64_t	 number, used;	/* used: 0 while empty */
		size_t		 n;		/* bytes */
	}		 at[PAGES];
	char		 bytes[PAGES][PAGE];
};

struct sftp_file {
	struct store_file	 f;
	struct sftp_store	*s;
	char			*path;
	struct handle		 handles[SFTP_CONNS];	/* each guarded by having its connection */
	struct ahead_file	 ahead;
	struct pages		*pages;		/* NULL: it is read in order */

	/* Of a file that is written. */
	struct sftp_send	*send;
	struct err		 failed;	/* the first failure, which is final */
};

static struct sftp_file *
file_of(struct store_file *f)
{
	return ((struct sftp_file *)f);
}

static struct sftp_file *
file_new(struct store *st, const char *path, struct err *err)
{
	struct sftp_file *f = calloc(1, sizeof(*f));

	if (f == NULL || (f->path = strdup(path)) == NULL) {
		free(f);
		err_nomem(err);
		return (NULL);
	}
	f->f.ops = &sftp_ops;
	f->s = (struct sftp_store *)st;
	return (f);
}

static void
file_free(struct sftp_file *f)
{
	send_free(f->send);
	if (f->pages != NULL)
		pthread_mutex_destroy(&f->pages->lock);
	free(f->pages);
	free(f->path);
	free(f);
}

static int write_at(void *file, const char *p, size_t n, uint64_t offset, const atomic_bool *stop, struct err *err);

/* A file to write from ${size} on, made new when ${flags} say so. */
static struct store_file *
open_to_write(struct store *st, const char *path, unsigned long flags, uint64_t size, struct err *err)
{
	LIBSSH2_SFTP_ATTRIBUTES cut = { .flags = LIBSSH2_SFTP_ATTR_SIZE, .filesize = size };
	struct sftp_file *f = file_new(st, path, err);
	char full[SFTP_PATH_LEN];
	struct ssh_session *ss;
	struct handle *h = NULL;
	int i, r = 0;

	if (f == NULL)
		return (NULL);
	if ((f->send = send_new(write_at, f, err)) == NULL || sftp_path(f->s, path, full, err) == -1 || (i = pool_take(&f->s->pool, -1, err)) == -1) {
		file_free(f);
		return (NULL);
	}
	ss = f->s->pool.conns[i].ss;
	h = &f->handles[i];
	h->gen = f->s->pool.conns[i].gen;
	if ((h->h = sftp_open(ss, full, LIBSSH2_FXF_WRITE | flags, err)) == NULL)
		sftp_failed(f->s, ss, path, flags != 0 ? full : NULL, flags != 0 ? "cannot make" : "cannot open", err);
	else if (flags == 0)
		SFTP_TRY(r, ss, err, libssh2_sftp_fsetstat(h->h, &cut))
			;
	if (r != 0) {
		sftp_failed(f->s, ss, path, NULL, "cannot cut", err);
		ssh_handle_close(ss, h->h);
		h->h = NULL;
	}
	pool_give(&f->s->pool, i);
	if (h->h == NULL) {
		file_free(f);
		return (NULL);
	}
	f->f.size = size;
	return (&f->f);
}

struct store_file *
sftp_file_create(struct store *st, const char *path, struct err *err)
{
	return (open_to_write(st, path, LIBSSH2_FXF_CREAT | LIBSSH2_FXF_EXCL, 0, err));
}

struct store_file *
sftp_file_reopen(struct store *st, const char *path, uint64_t size, struct err *err)
{
	struct store_stat sb;

	if (store_stat(st, path, &sb, err) == -1)
		return (NULL);
	if (sb.is_dir || sb.size < size) {
		err_plain(err, EINVAL, "%s/%s is no file of %llu bytes or more", st->url, path, (unsigned long long)size);
		return (NULL);
	}
	return (open_to_write(st, path, 0, size, err));
}

/* Looked at first: opening a fifo would hold the server, and a link would leave the repository. */
static int
look_and_open(struct sftp_file *f, struct ssh_session *ss, const char *full, struct handle *h, struct err *err)
{
	LIBSSH2_SFTP_ATTRIBUTES a;

	if (sftp_lstat(ss, full, &a, err) == -1)
		return (sftp_failed(f->s, ss, f->path, NULL, "cannot open", err));
	if ((a.flags & LIBSSH2_SFTP_ATTR_SIZE) == 0 || (a.flags & LIBSSH2_SFTP_ATTR_PERMISSIONS) == 0)
		return (err_plain(err, ENOTSUP, "the server does not say what %s/%s is, or how large", f->s->st.url, f->path));
	if (!LIBSSH2_SFTP_S_ISREG(a.permissions))
		return (err_set(err, 0, "%s/%s is not a regular file", f->s->st.url, f->path));
	if ((h->h = sftp_open(ss, full, LIBSSH2_FXF_READ, err)) == NULL)
		return (sftp_failed(f->s, ss, f->path, NULL, "cannot open", err));
	f->f.size = f->ahead.size = a.filesize;
	return (0);
}

struct store_file *
sftp_file_open(struct store *st, const char *path, struct err *err)
{
	struct sftp_file *f = file_new(st, path, err);
	char full[SFTP_PATH_LEN];
	int i, rc;

	if (f == NULL)
		return (NULL);
	if (sftp_path(f->s, path, full, err) == -1 || (i = pool_take(&f->s->pool, -1, err)) == -1) {
		file_free(f);
		return (NULL);
	}
	f->handles[i].gen = f->s->pool.conns[i].gen;
	rc = look_and_open(f, f->s->pool.conns[i].ss, full, &f->handles[i], err);
	pool_give(&f->s->pool, i);
	if (rc == -1) {
		file_free(f);
		return (NULL);
	}
	return (&f->f);
}

/* The file's handle on connection ${i}, which is ours. */
static LIBSSH2_SFTP_HANDLE *
handle_on(struct sftp_file *f, int i, struct err *err)
{
	struct sftp_conn *c = &f->s->pool.conns[i];
	struct handle *h = &f->handles[i];
	char full[SFTP_PATH_LEN];

	if (h->h != NULL && h->gen == c->gen)
		return (h->h);
	h->gen = c->gen;
	h->h = NULL;
	if (sftp_path(f->s, f->path, full, err) == 0 &&
	    (h->h = sftp_open(c->ss, full, f->send != NULL ? LIBSSH2_FXF_WRITE : LIBSSH2_FXF_READ, err)) == NULL)
		sftp_failed(f->s, c->ss, f->path, NULL, "cannot open again", err);
	return (h->h);
}

/*
 * After a failure libssh2 has forgotten what it was in the middle of: the connection is of no more use.  Why it failed, another one is asked.
 */
static int
write_failed(struct sftp_file *f, int i, struct err *err)
{
	struct sftp_pool *pool = &f->s->pool;
	unsigned long fx;

	if (ssh_lost(pool->conns[i].ss, err)) {
		pool_give(pool, i);
		return (err_wrap(err, "cannot write %s/%s", f->s->st.url, f->path));
	}
	fx = libssh2_sftp_last_error(pool->conns[i].ss->sftp);
	pool_spoil(pool, i);
	if ((i = pool_take(pool, -1, err)) == -1)
		return (-1);
	sftp_failed_with(f->s, pool->conns[i].ss, fx, f->path, NULL, "cannot write", err);
	pool_give(pool, i);
	return (-1);
}

/* Each part that is confirmed gives the rest its time anew.  1 when all is, 0 when it was stopped before, -1: libssh2 and ss tell why. */
static int
write_all(struct ssh_session *ss, LIBSSH2_SFTP_HANDLE *h, const char *p, size_t n, const atomic_bool *stop, struct err *err)
{
	unsigned int vain = 0;
	ssize_t r;

	while (n > 0) {
		if (stop != NULL && atomic_load(stop))
			return (0);
		r = libssh2_sftp_write(h, p, n);
		if (r == LIBSSH2_ERROR_EAGAIN ? ssh_wait(ss, err) == -1 : r < 0 || (size_t)r > n || (r == 0 && ++vain > VAIN_MAX))
			return (-1);
		if (r <= 0)
			continue;
		vain = 0;
		p += r;
		n -= (size_t)r;
		ssh_begin(ss, err);
	}
	return (1);
}

static int
write_at(void *file, const char *p, size_t n, uint64_t offset, const atomic_bool *stop, struct err *err)
{
	struct sftp_file *f = file;
	struct sftp_pool *pool = &f->s->pool;
	LIBSSH2_SFTP_HANDLE *h;
	int i, r;

	if ((i = pool_take(pool, -1, err)) == -1)
		return (-1);
	if ((h = handle_on(f, i, err)) == NULL) {
		pool_give(pool, i);
		return (-1);
	}
	libssh2_sftp_seek64(h, offset);
	if ((r = write_all(pool->conns[i].ss, h, p, n, stop, err)) == 1) {
		pool_give(pool, i);
		return (0);
	}
	if (r == -1)
		return (write_failed(f, i, err));
	/* Nobody wants what is still under way: the connection goes with it. */
	pool_spoil(pool, i);
	return (err_plain(err, ECANCELED, "gave up writing %s/%s", f->s->st.url, f->path));
}

static int
append(struct sftp_file *f, const char *p, size_t n, struct err *err)
{
	if (f->f.size + n <= SMALL)
		return (write_at(f, p, n, f->f.size, NULL, err));
	return (send_append(f->send, p, n, f->f.size, err));
}

static int
sync_all(struct sftp_file *f, struct err *err)
{
	struct sftp_pool *pool = &f->s->pool;
	LIBSSH2_SFTP_HANDLE *h;
	int i, rc = 0;

	if (send_flush(f->send, err) == -1 || (i = pool_take(pool, -1, err)) == -1)
		return (-1);
	if ((h = handle_on(f, i, err)) == NULL)
		rc = -1;
	else if (sftp_fsync(f->s, pool->conns[i].ss, h, err) == -1)
		rc = sftp_failed(f->s, pool->conns[i].ss, f->path, NULL, "cannot make durable", err);
	pool_give(pool, i);
	return (rc);
}

/* The first failure is final. */
static int
note_failure(struct sftp_file *f, int rc, const struct err *err)
{
	if (rc == -1)
		f->failed = *err;
	return (rc);
}

static bool
has_failed(const struct sftp_file *f, struct err *err)
{
	if (f->failed.text[0] != '\0')
		*err = f->failed;
	return (f->failed.text[0] != '\0');
}

int
sftp_file_append(struct store_file *sf, const void *p, size_t n, struct err *err)
{
	struct sftp_file *f = file_of(sf);

	return (has_failed(f, err) ? -1 : note_failure(f, append(f, p, n, err), err));
}

int
sftp_file_sync(struct store_file *sf, struct err *err)
{
	struct sftp_file *f = file_of(sf);

	return (has_failed(f, err) ? -1 : note_failure(f, sync_all(f, err), err));
}

void
sftp_file_small_reads(struct store_file *sf)
{
	struct sftp_file *f = file_of(sf);

	/* Without memory for it, it is only slow. */
	if (f->pages == NULL && (f->pages = calloc(1, sizeof(*f->pages))) != NULL)
		pthread_mutex_init(&f->pages->lock, NULL);
}

/*
 * libssh2 asks for four times the bytes that it is told to read, for the reads to come.  Told to read a quarter of what is wanted, it asks for
 * just that, all at once; or for one request's worth, one after the other.
 */
static long
read_all(struct ssh_session *ss, LIBSSH2_SFTP_HANDLE *h, char *p, size_t n, bool one_by_one, struct err *err)
{
	size_t at = 0, step;
	ssize_t r;

	while (at < n) {
		step = (n - at + 3) / 4;
		if (one_by_one && step > ONE_BY_ONE)
			step = ONE_BY_ONE;
		SFTP_TRY(r, ss, err, libssh2_sftp_read(h, p + at, step))
			;
		if (r < 0 || (size_t)r > n - at)
			return (-1);
		if (r == 0)
			break;
		at += (size_t)r;
	}
	return ((long)at);
}

/*
 * Whether the server gave less than it was asked for, within the file.  Then reads that were under way together leave gaps: libssh2 notices, by
 * its text alone, or takes the end that the last of them met for the first one's.
 */
static bool
gave_less(const struct sftp_file *f, struct ssh_session *ss, size_t n, uint64_t offset, long got)
{
	if (got == -1)
		return (!ss->dead && strstr(ssh_says(ss), "Unexpected Offset") != NULL);
	return ((size_t)got < n && offset + (uint64_t)got < f->f.size);
}

/* Sets ${again} when the store now reads one by one, which may help. */
static long
fetch_once(struct sftp_file *f, void *p, size_t n, uint64_t offset, bool *again, struct err *err)
{
	struct sftp_pool *pool = &f->s->pool;
	bool one_by_one = atomic_load(&f->s->one_by_one);
	LIBSSH2_SFTP_HANDLE *h;
	unsigned long fx;
	long got = -1;
	int i;

	if ((i = pool_take(pool, -1, err)) == -1)
		return (-1);
	if ((h = handle_on(f, i, err)) == NULL) {
		pool_give(pool, i);
		return (-1);
	}
	libssh2_sftp_seek64(h, offset);
	got = read_all(pool->conns[i].ss, h, p, n, one_by_one, err);
	if (!one_by_one && gave_less(f, pool->conns[i].ss, n, offset, got)) {
		atomic_store(&f->s->one_by_one, true);
		*again = true;
		pool_spoil(pool, i);
		return (-1);
	}
	if (got >= 0) {
		pool_give(pool, i);
		return (got);
	}
	if (ssh_lost(pool->conns[i].ss, err)) {
		err_wrap(err, "cannot read %s/%s at %llu", f->s->st.url, f->path, (unsigned long long)offset);
		pool_give(pool, i);
		return (-1);
	}
	/* Answers to what was asked besides may still come. */
	fx = libssh2_sftp_last_error(pool->conns[i].ss->sftp);
	err_set(err, fx == LIBSSH2_FX_PERMISSION_DENIED ? EACCES : EIO, "cannot read %s/%s at %llu (%s)", f->s->st.url, f->path,
	    (unsigned long long)offset, ssh_says(pool->conns[i].ss));
	pool_spoil(pool, i);
	return (-1);
}

long
sftp_fetch(void *file, void *p, size_t n, uint64_t offset, struct err *err)
{
	bool again = false;
	long got = fetch_once(file, p, n, offset, &again, err);

	return (again ? fetch_once(file, p, n, offset, &again, err) : got);
}

/* The place of page ${number}, filled, or -1. */
static int
page(struct sftp_file *f, uint64_t number, struct err *err)
{
	struct pages *pg = f->pages;
	int old = 0;
	long got;

	for (int i = 0; i < PAGES; i++) {
		if (pg->at[i].used != 0 && pg->at[i].number == number) {
			pg->at[i].used = ++pg->clock;
			return (i);
		}
		if (pg->at[i].used < pg->at[old].used)
			old = i;
	}
	pg->at[old].used = 0;
	if ((got = sftp_fetch(f, pg->bytes[old], PAGE, number * PAGE, err)) == -1)
		return (-1);
	pg->at[old].number = number;
	pg->at[old].n = (size_t)got;
	pg->at[old].used = ++pg->clock;
	return (old);
}

static long
read_pages(struct sftp_file *f, char *p, size_t n, uint64_t offset, struct err *err)
{
	size_t done = 0, from, part;
	int i = 0;

	pthread_mutex_lock(&f->pages->lock);
	while (done < n && (i = page(f, (offset + done) / PAGE, err)) != -1) {
		from = (size_t)((offset + done) % PAGE);
		if (from >= f->pages->at[i].n)
			break;
		part = f->pages->at[i].n - from < n - done ? f->pages->at[i].n - from : n - done;
		memcpy(p + done, f->pages->bytes[i] + from, part);
		done += part;
	}
	pthread_mutex_unlock(&f->pages->lock);
	return (i == -1 ? -1 : (long)done);
}

long
sftp_file_read(struct store_file *sf, void *p, size_t n, uint64_t offset, struct err *err)
{
	struct sftp_file *f = file_of(sf);

	if (f->pages != NULL && n <= PAGE)
		return (read_pages(f, p, n, offset, err));
	return (ahead_read(&f->s->ahead, &f->ahead, f, p, n, offset, err));
}

void
sftp_file_close(struct store_file *sf)
{
	struct sftp_file *f = file_of(sf);

	ahead_forget(&f->s->ahead, f);
	send_free(f->send);
	f->send = NULL;
	for (int i = 0; i < SFTP_CONNS; i++)
		if (f->handles[i].h != NULL)
			pool_drop(&f->s->pool, i, f->handles[i].gen, f->handles[i].h);
	file_free(f);
}
