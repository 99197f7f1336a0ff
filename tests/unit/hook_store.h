/*
 * hook_store.h - a store in a folder that counts its calls, and does something else, or fails, at the one that the test names:
 * so every place where two programs can meet is a number, and a test can go through all of them.
 *
 * Calling sequence:  hook_open -> (set at, act | fail_at, fail_code) -> use .st -> hook_close
 * Calls to open files (append, sync, read) are the folder's own and are not counted, nor are those of other threads than the one that opened it, which come
 * when they like.
 */
#ifndef OVB_HOOK_STORE_H
#define OVB_HOOK_STORE_H

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "store/store.h"

struct hook_store {
	struct store	 st;
	struct store	*real;
	pthread_t	 owner;		/* whose calls are counted */
	unsigned int	 calls;		/* how many there were */
	unsigned int	 at;		/* the call before which act() is done; 0: none */
	void		(*act)(void *arg);
	void		*arg;
	unsigned int	 fail_at;	/* the call that fails; 0: none */
	int		 fail_code;	/* errno value */
	const char	*fail_op;	/* instead of fail_at: each call with this name */
	char		 failed[32];	/* the name of the call that did */
	struct buf	 log;		/* "op path\n" for each call */
};

/* Whether the call goes on; else -1. */
static int
hook_call(struct store *st, const char *op, const char *path, struct err *err)
{
	struct hook_store *h = (struct hook_store *)st;

	if (!pthread_equal(pthread_self(), h->owner))
		return (0);
	h->calls++;
	if (buf_addf(&h->log, err, "%s %s\n", op, path) == -1)
		abort();
	if (h->calls == h->at)
		h->act(h->arg);
	if (h->calls != h->fail_at && (h->fail_op == NULL || strcmp(op, h->fail_op) != 0))
		return (0);
	snprintf(h->failed, sizeof(h->failed), "%s", op);
	return (err_set(err, h->fail_code, "%s %s was made to fail", op, path));
}

#define HOOK_REAL(st)	(((struct hook_store *)(st))->real)
#define HOOK_PATH(op)							\
static int								\
hook_##op(struct store *st, const char *path, struct err *err)		\
{									\
	return (hook_call(st, #op, path, err) == -1 ? -1 : store_##op(HOOK_REAL(st), path, err));	\
}
HOOK_PATH(mkdir)
HOOK_PATH(rmdir)
HOOK_PATH(unlink)
HOOK_PATH(touch)
HOOK_PATH(sync_dir)

static int
hook_rename(struct store *st, const char *from, const char *to, struct err *err)
{
	return (hook_call(st, "rename", from, err) == -1 ? -1 : store_rename(HOOK_REAL(st), from, to, err));
}

static int
hook_stat(struct store *st, const char *path, struct store_stat *out, struct err *err)
{
	return (hook_call(st, "stat", path, err) == -1 ? -1 : store_stat(HOOK_REAL(st), path, out, err));
}

static int
hook_list(struct store *st, const char *path, int (*fn)(void *, const char *, struct err *), void *arg, struct err *err)
{
	return (hook_call(st, "list", path, err) == -1 ? -1 : store_list(HOOK_REAL(st), path, fn, arg, err));
}

static int
hook_room(struct store *st, uint64_t *bytes, struct err *err)
{
	return (hook_call(st, "room", ".", err) == -1 ? -1 : store_room(HOOK_REAL(st), bytes, err));
}

static struct store_file *
hook_create(struct store *st, const char *path, struct err *err)
{
	return (hook_call(st, "create", path, err) == -1 ? NULL : store_create(HOOK_REAL(st), path, err));
}

static struct store_file *
hook_file_open(struct store *st, const char *path, struct err *err)
{
	return (hook_call(st, "open", path, err) == -1 ? NULL : store_file_open(HOOK_REAL(st), path, err));
}

static void
hook_store_close(struct store *st)
{
	struct hook_store *h = (struct hook_store *)st;

	store_close(h->real);
	buf_free(&h->log);
	free(h);
}

static const struct store_ops hook_ops = {
	.close = hook_store_close, .mkdir = hook_mkdir, .rmdir = hook_rmdir, .unlink = hook_unlink, .rename = hook_rename, .stat = hook_stat,
	.touch = hook_touch, .list = hook_list, .sync_dir = hook_sync_dir, .room = hook_room, .create = hook_create, .open = hook_file_open,
};

/* The store in ${path}, which is made when it is missing; store_close() frees it. */
static inline struct hook_store *
hook_open(const char *path)
{
	struct hook_store *h = calloc(1, sizeof(*h));
	struct err err = ERR_INIT;

	if (h == NULL || (h->real = store_open(path, true, &err)) == NULL)
		abort();
	h->owner = pthread_self();
	h->st.ops = &hook_ops;
	h->st.url = h->real->url;
	return (h);
}

/* Files and folders of a test. */

static int
remove_one(const char *path, const struct stat *sb, int flag, struct FTW *ftw)
{
	(void)sb;
	(void)flag;
	(void)ftw;
	return (remove(path));
}

static inline void
remove_all(const char *path)
{
	nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static inline void
write_text(const char *path, const char *text)
{
	FILE *f = fopen(path, "we");

	if (f == NULL || fputs(text, f) == EOF || fclose(f) == EOF)
		abort();
}

static inline char *
read_text(const char *path, char *out, size_t n)
{
	FILE *f = fopen(path, "re");
	size_t got = f != NULL ? fread(out, 1, n - 1, f) : 0;

	out[got] = '\0';
	if (f != NULL)
		fclose(f);
	return (out);
}

static inline bool
exists(const char *path)
{
	struct stat sb;

	return (lstat(path, &sb) == 0);
}

/* Make a file's time ${seconds} ago. */
static inline void
make_old(const char *path, long seconds)
{
	struct timespec t[2];

	clock_gettime(CLOCK_REALTIME, &t[0]);
	t[0].tv_sec -= seconds;
	t[1] = t[0];
	if (utimensat(AT_FDCWD, path, t, 0) == -1)
		abort();
}

static inline long
age_of(const char *path)
{
	struct stat sb;

	return (stat(path, &sb) == -1 ? -1 : (long)(time(NULL) - sb.st_mtim.tv_sec));
}

#endif
