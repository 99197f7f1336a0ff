/*
 * The bytes of files on an SFTP server.
 *
 * What is appended is kept until the server has confirmed it, and up to WINDOW bytes of it are on the way at once.  libssh2 may then be in the
 * middle of a request, so the connection stays taken until all is confirmed: by store_sync(), or after a while by the store's own thread.
 * What is read is asked for at once, in as many requests as it takes, and what is read in order ahead (sftp_ahead.c).  A file has a handle on each connection that it
 * was used on.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store_sftp.h"

#define WINDOW		((size_t)262 * 30000)	/* bytes; libssh2 packs 30,000 into a request */
#define WINDOW_FIRST	((size_t)256 << 10)
#define SMALL		((uint64_t)128 << 10)	/* up to here an append ends when it is confirmed: a failure is told at once */
#define QUIET_MS	5000			/* then nobody writes just now */
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
	bool			 writing;
	struct ahead_file	 ahead;
	struct pages		*pages;		/* NULL: it is read in order */

	/* Of a file that is written. */
	struct sftp_file	*next;		/* guarded by the store's tick_lock */
	pthread_mutex_t		 lock;		/* guards what follows */
	int			 conn;		/* the one that was used last */
	bool			 has;		/* it is ours */
	char			*buf;		/* what is not confirmed: ${len} bytes from ${start} */
	size_t			 start, len, cap;
	uint64_t		 confirmed;	/* bytes */
	int64_t			 last;		/* when something was appended last */
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
	pthread_mutex_init(&f->lock, NULL);
	return (f);
}

static void
file_free(struct sftp_file *f)
{
	pthread_mutex_destroy(&f->lock);
	if (f->pages != NULL)
		pthread_mutex_destroy(&f->pages->lock);
	free(f->pages);
	free(f->buf);
	free(f->path);
	free(f);
}

/* A file to write from ${size} on, made new when ${flags} say so. */
static struct store_file *
open_to_write(struct store *st, const char *path, unsigned long flags, uint64_t size, struct err *err)
{
	LIBSSH2_SFTP_ATTRIBUTES cut = { .flags = LIBSSH2_SFTP_ATTR_SIZE, .filesize = size };
	struct sftp_file *f = file_new(st, path, err);
	char full[SFTP_PATH_LEN];
	struct ssh_session *ss;
	struct handle *h;
	int r = 0;

	if (f == NULL)
		return (NULL);
	if (sftp_path(f->s, path, full, err) == -1 || (f->conn = pool_take(&f->s->pool, -1, err)) == -1) {
		file_free(f);
		return (NULL);
	}
	ss = f->s->pool.conns[f->conn].ss;
	h = &f->handles[f->conn];
	h->gen = f->s->pool.conns[f->conn].gen;
	if ((h->h = sftp_open(ss, full, LIBSSH2_FXF_WRITE | flags, err)) == NULL)
		sftp_failed(f->s, ss, path, flags != 0 ? full : NULL, flags != 0 ? "cannot make" : "cannot open", err);
	else if (flags == 0)
		SFTP_TRY(r, ss, err, libssh2_sftp_fsetstat(h->h, &cut))
			;
	if (r != 0) {
		sftp_failed(f->s, ss, path, NULL, "cannot cut", err);
		sftp_close(ss, h->h);
		h->h = NULL;
	}
	pool_give(&f->s->pool, f->conn);
	if (h->h == NULL) {
		file_free(f);
		return (NULL);
	}
	f->f.size = f->confirmed = size;
	f->writing = true;
	pthread_mutex_lock(&f->s->tick_lock);
	f->next = f->s->writing;
	f->s->writing = f;
	pthread_mutex_unlock(&f->s->tick_lock);
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
	f->f.size = a.filesize;
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
	    (h->h = sftp_open(c->ss, full, f->writing ? LIBSSH2_FXF_WRITE : LIBSSH2_FXF_READ, err)) == NULL)
		sftp_failed(f->s, c->ss, f->path, NULL, "cannot open again", err);
	return (h->h);
}

/* Have the connection, and a handle on it that stands where the next byte goes. */
static int
begin_writing(struct sftp_file *f, struct err *err)
{
	LIBSSH2_SFTP_HANDLE *h;

	if (f->failed.text[0] != '\0') {
		*err = f->failed;
		return (-1);
	}
	if (f->has)
		return (ssh_begin(f->s->pool.conns[f->conn].ss, err));
	if ((f->conn = pool_take(&f->s->pool, f->conn, err)) == -1) {
		f->conn = 0;
		return (-1);
	}
	if ((h = handle_on(f, f->conn, err)) == NULL) {
		pool_give(&f->s->pool, f->conn);
		return (-1);
	}
	libssh2_sftp_seek64(h, f->confirmed);
	f->has = true;
	return (0);
}

/* Give the connection back, or keep it while data are under way. */
static void
end_writing(struct sftp_file *f)
{
	if (!f->has)
		return;
	if (f->len > 0 && !f->s->pool.conns[f->conn].ss->dead) {
		pool_keep(&f->s->pool, f->conn);
		return;
	}
	pool_give(&f->s->pool, f->conn);
	f->has = false;
}

/*
 * After a failure libssh2 has forgotten what it was in the middle of: the connection is of no more use.  Why it failed, another one is asked.
 */
static int
write_failed(struct sftp_file *f, struct err *err)
{
	struct ssh_session *ss = f->s->pool.conns[f->conn].ss;
	unsigned long fx;
	int i;

	if (ssh_lost(ss, err)) {
		err_wrap(err, "cannot write %s/%s", f->s->st.url, f->path);
		f->failed = *err;
		return (-1);
	}
	fx = libssh2_sftp_last_error(ss->sftp);
	pool_spoil(&f->s->pool, f->conn);
	f->has = false;
	if ((i = pool_take(&f->s->pool, -1, err)) != -1) {
		sftp_failed_with(f->s, f->s->pool.conns[i].ss, fx, f->path, NULL, "cannot write", err);
		pool_give(&f->s->pool, i);
	}
	f->failed = *err;
	return (-1);
}

/* Send, and see what is confirmed, until at most ${most} bytes are not. */
static int
pump(struct sftp_file *f, size_t most, struct err *err)
{
	struct ssh_session *ss = f->s->pool.conns[f->conn].ss;
	LIBSSH2_SFTP_HANDLE *h = f->handles[f->conn].h;
	ssize_t r;

	while (f->len > most) {
		if ((r = libssh2_sftp_write(h, f->buf + f->start, f->len)) == LIBSSH2_ERROR_EAGAIN) {
			if (ssh_wait(ss, err) == 0)
				continue;
			r = -1;
		}
		if (r <= 0 || (size_t)r > f->len)
			return (write_failed(f, err));
		f->start += (size_t)r;
		f->len -= (size_t)r;
		f->confirmed += (uint64_t)r;
	}
	if (f->len == 0)
		f->start = 0;
	return (0);
}

/* Send what can be sent without waiting. */
static int
push(struct sftp_file *f, struct err *err)
{
	LIBSSH2_SFTP_HANDLE *h = f->handles[f->conn].h;
	ssize_t r = 0;

	while (f->len > 0 && (r = libssh2_sftp_write(h, f->buf + f->start, f->len)) > 0 && (size_t)r <= f->len) {
		f->start += (size_t)r;
		f->len -= (size_t)r;
		f->confirmed += (uint64_t)r;
	}
	return (f->len == 0 || r == LIBSSH2_ERROR_EAGAIN ? 0 : write_failed(f, err));
}

/* Room for more at the end; as much as fits is copied.  Returns how much, 0 when the window is full, or -1. */
static ssize_t
copy_in(struct sftp_file *f, const char *p, size_t n, struct err *err)
{
	size_t cap = f->cap > 0 ? f->cap : WINDOW_FIRST;
	char *v;

	while (cap < WINDOW && cap < f->len + n)
		cap = cap * 2 < WINDOW ? cap * 2 : WINDOW;
	if (cap != f->cap) {
		if ((v = realloc(f->buf, cap)) == NULL)
			return (err_nomem(err));
		f->buf = v;
		f->cap = cap;
	}
	if (n > f->cap - f->len)
		n = f->cap - f->len;
	if (f->start + f->len + n > f->cap) {
		memmove(f->buf, f->buf + f->start, f->len);
		f->start = 0;
	}
	memcpy(f->buf + f->start + f->len, p, n);
	f->len += n;
	return ((ssize_t)n);
}

static int
append(struct sftp_file *f, const char *p, size_t n, struct err *err)
{
	bool small = f->f.size + n <= SMALL;
	ssize_t got;

	for (; n > 0; p += got, n -= (size_t)got) {
		if ((got = copy_in(f, p, n, err)) == -1 || (got == 0 && pump(f, f->cap - f->cap / 8, err) == -1))
			return (-1);
	}
	return (small ? pump(f, 0, err) : push(f, err));
}

int
sftp_file_append(struct store_file *sf, const void *p, size_t n, struct err *err)
{
	struct sftp_file *f = file_of(sf);
	int rc;

	pthread_mutex_lock(&f->lock);
	f->last = ssh_now();
	if ((rc = begin_writing(f, err)) == 0) {
		rc = append(f, p, n, err);
		end_writing(f);
	}
	pthread_mutex_unlock(&f->lock);
	return (rc);
}

int
sftp_file_sync(struct store_file *sf, struct err *err)
{
	struct sftp_file *f = file_of(sf);
	struct ssh_session *ss;
	int rc;

	pthread_mutex_lock(&f->lock);
	if ((rc = begin_writing(f, err)) == 0) {
		ss = f->s->pool.conns[f->conn].ss;
		if ((rc = pump(f, 0, err)) == 0 && (rc = ssh_begin(ss, err)) == 0 && sftp_fsync(f->s, ss, f->handles[f->conn].h, err) == -1) {
			rc = sftp_failed(f->s, ss, f->path, NULL, "cannot make durable", err);
			f->failed = *err;
		}
		end_writing(f);
	}
	pthread_mutex_unlock(&f->lock);
	return (rc);
}

struct sftp_file *
sftp_file_tick(struct sftp_file *f)
{
	struct err ignored = ERR_INIT;

	if (pthread_mutex_trylock(&f->lock) == 0) {
		/* A failure is kept in ->failed for whoever appends next. */
		if (f->has && f->len > 0 && ssh_now() - f->last > QUIET_MS && begin_writing(f, &ignored) == 0) {
			pump(f, 0, &ignored);
			end_writing(f);
		}
		pthread_mutex_unlock(&f->lock);
	}
	return (f->next);
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

static long
fetch(void *file, void *p, size_t n, uint64_t offset, struct err *err)
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
	if ((got = fetch(f, pg->bytes[old], PAGE, number * PAGE, err)) == -1)
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
	return (ahead_read(&f->s->ahead, &f->ahead, f, sf->size, fetch, p, n, offset, err));
}

static void
leave_list(struct sftp_file *f)
{
	struct sftp_file **at;

	pthread_mutex_lock(&f->s->tick_lock);
	for (at = &f->s->writing; *at != NULL && *at != f; at = &(*at)->next)
		;
	if (*at == f)
		*at = f->next;
	pthread_mutex_unlock(&f->s->tick_lock);
}

void
sftp_file_close(struct store_file *sf)
{
	struct sftp_file *f = file_of(sf);

	ahead_forget(&f->s->ahead, f);
	if (f->writing)
		leave_list(f);
	/* Nobody wants what is still under way: then the connection goes with it. */
	if (f->has)
		pool_spoil(&f->s->pool, f->conn);
	for (int i = 0; i < SFTP_CONNS; i++)
		if (f->handles[i].h != NULL)
			pool_drop(&f->s->pool, i, f->handles[i].gen, f->handles[i].h);
	file_free(f);
}
