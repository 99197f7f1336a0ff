#include "store/store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "store/throttle.h"

#define NAME_LONGEST	255
#define TREE_DEPTH	4

struct store *
store_open(const char *url, bool make, struct err *err)
{
	if (url[0] == '/')
		return (store_dir_open(url, make, err));
	if (strncmp(url, "sftp://", 7) == 0)
		return (store_sftp_open(url, NULL, make, err));
	if (strstr(url, "://") != NULL) {
		err_set(err, 0, "%s: a repository is a folder, or sftp://[user@]host[:port]/path", url);
		return (NULL);
	}
	return (store_dir_open(url, make, err));
}

void
store_close(struct store *st)
{
	if (st != NULL)
		st->ops->close(st);
}

void
store_throttle(struct store *st, struct throttle *t)
{
	st->throttle = t;
}

uint64_t
store_sent(struct store *st)
{
	return (st->remote ? __atomic_load_n(&st->appended, __ATOMIC_RELAXED) : 0);
}

int
store_mkdir(struct store *st, const char *path, struct err *err)
{
	return (st->ops->mkdir(st, path, err));
}

int
store_rmdir(struct store *st, const char *path, struct err *err)
{
	return (st->ops->rmdir(st, path, err));
}

int
store_unlink(struct store *st, const char *path, struct err *err)
{
	return (st->ops->unlink(st, path, err));
}

int
store_rename(struct store *st, const char *from, const char *to, struct err *err)
{
	return (st->ops->rename(st, from, to, err));
}

int
store_stat(struct store *st, const char *path, struct store_stat *out, struct err *err)
{
	return (st->ops->stat(st, path, out, err));
}

int
store_touch(struct store *st, const char *path, struct err *err)
{
	return (st->ops->touch(st, path, err));
}

struct filter {
	int	(*fn)(void *, const char *, struct err *);
	void	*arg;
};

static int
filter_name(void *arg, const char *name, struct err *err)
{
	struct filter *f = arg;

	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || name[0] == '\0' || strchr(name, '/') != NULL ||
	    strlen(name) > NAME_LONGEST)
		return (0);
	return (f->fn(f->arg, name, err));
}

int
store_list(struct store *st, const char *path, int (*fn)(void *, const char *, struct err *), void *arg, struct err *err)
{
	struct filter f = { fn, arg };

	return (st->ops->list(st, path, filter_name, &f, err));
}

int
store_sync_dir(struct store *st, const char *path, struct err *err)
{
	return (st->ops->sync_dir(st, path, err));
}

int
store_room(struct store *st, uint64_t *bytes, struct err *err)
{
	return (st->ops->room(st, bytes, err));
}

struct store_file *
store_create(struct store *st, const char *path, struct err *err)
{
	struct store_file *f = st->ops->create(st, path, err);

	if (f != NULL)
		f->st = st;
	return (f);
}

struct store_file *
store_file_open(struct store *st, const char *path, struct err *err)
{
	return (st->ops->open(st, path, err));
}

struct store_file *
store_reopen(struct store *st, const char *path, uint64_t size, struct err *err)
{
	struct store_file *f = st->ops->reopen(st, path, size, err);

	if (f != NULL)
		f->st = st;
	return (f);
}

int
store_sha256(struct store *st, const char *path, uint64_t n, char hex[SHA256_HEX], struct err *err)
{
	if (st->ops->sha256 == NULL)
		return (err_plain(err, ENOTSUP, "%s computes no SHA-256 itself", st->url));
	return (st->ops->sha256(st, path, n, hex, err));
}

int
store_append(struct store_file *f, const void *p, size_t n, struct err *err)
{
	struct throttle *t = f->st != NULL ? f->st->throttle : NULL;
	const char *at = p;
	size_t part;

	do {
		part = t != NULL && n > throttle_piece(t) ? throttle_piece(t) : n;
		if ((t != NULL && throttle_take(t, part, err) == -1) || f->ops->append(f, at, part, err) == -1)
			return (-1);
		f->size += part;
		if (f->st != NULL)
			__atomic_fetch_add(&f->st->appended, part, __ATOMIC_RELAXED);
		at += part;
		n -= part;
	} while (n > 0);
	return (0);
}

int
store_sync(struct store_file *f, struct err *err)
{
	return (f->ops->sync(f, err));
}

int
store_file_read(struct store_file *f, void *p, size_t n, uint64_t offset, struct err *err)
{
	long got = f->ops->read(f, p, n, offset, err);

	if (got == -1)
		return (-1);
	if ((size_t)got != n)
		return (err_set(err, 0, "the file ends at %llu, before %llu bytes at %llu", (unsigned long long)(offset + (uint64_t)got),
		    (unsigned long long)n, (unsigned long long)offset));
	return (0);
}

void
store_small_reads(struct store_file *f)
{
	f->ops->small_reads(f);
}

void
store_file_close(struct store_file *f)
{
	if (f != NULL)
		f->ops->file_close(f);
}

int
store_read_small(struct store *st, const char *path, size_t max, struct buf *out, struct err *err)
{
	struct store_file *f;
	int rc = -1;

	if ((f = store_file_open(st, path, err)) == NULL)
		return (-1);
	if (f->size > max) {
		err_set(err, 0, "%s/%s: %llu bytes, more than the %zu that such a file may have", st->url, path,
		    (unsigned long long)f->size, max);
		goto out;
	}
	if (buf_reserve(out, (size_t)f->size, err) == -1)
		goto out;
	if (store_file_read(f, out->ptr, (size_t)f->size, 0, err) == -1) {
		err_wrap(err, "%s/%s", st->url, path);
		goto out;
	}
	out->len = (size_t)f->size;
	out->ptr[out->len] = '\0';
	rc = 0;
out:
	store_file_close(f);
	return (rc);
}

int
store_write_small(struct store *st, const char *path, const struct buf *text, struct err *err)
{
	struct store_file *f = store_create(st, path, err);
	int rc;

	if (f == NULL)
		return (-1);
	rc = store_append(f, text->ptr, text->len, err) == -1 ? -1 : store_sync(f, err);
	store_file_close(f);
	return (rc);
}

/* A folder's names are collected first: removing while listing confuses some file systems. */
static int
collect_name(void *arg, const char *name, struct err *err)
{
	return (buf_add(arg, name, strlen(name) + 1, err));
}

static int
remove_tree(struct store *st, const char *path, int depth, struct err *err)
{
	struct buf names = BUF_INIT;
	struct store_stat sb;
	char child[4096];
	size_t at;
	int rc = -1;

	if (store_list(st, path, collect_name, &names, err) == -1)
		goto out;
	for (at = 0; at < names.len; at += strlen(names.ptr + at) + 1) {
		if ((size_t)snprintf(child, sizeof(child), "%s/%s", path, names.ptr + at) >= sizeof(child)) {
			err_set(err, ENAMETOOLONG, "%s/%s", st->url, path);
			goto out;
		}
		if (store_stat(st, child, &sb, err) == -1)
			goto out;
		if (sb.is_dir ? (depth == 0 ? err_plain(err, ENOTEMPTY, "%s/%s is deeper than any folder of a repository", st->url, child) :
		    remove_tree(st, child, depth - 1, err)) == -1 : store_unlink(st, child, err) == -1)
			goto out;
	}
	rc = store_rmdir(st, path, err);
out:
	buf_free(&names);
	return (rc);
}

int
store_remove_tree(struct store *st, const char *path, struct err *err)
{
	struct store_stat sb;

	if (store_stat(st, path, &sb, err) == -1)
		return (-1);
	/* What a link leads to is not in the repository. */
	if (!sb.is_dir)
		return (store_unlink(st, path, err));
	return (remove_tree(st, path, TREE_DEPTH, err));
}
