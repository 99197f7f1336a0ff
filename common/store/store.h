/*
 * store.h - the storage that holds a repository: a tree of folders and files.  Each kind is an ops struct: store_dir.c, store_sftp.c.
 *
 * Paths are relative to the store and made of names that were checked before.  Nothing is ever written over: files are made
 * new, appended to once, made durable, and given their final place by a rename that never replaces.
 *
 * Errors: -1 or NULL with the object's full name in the text, and err->code an errno value: ENOENT and EEXIST are told apart.
 * Threads: a store is used by one thread at a time, but for store_file_read(), store_list(), store_stat(), and what a lock's renewal uses,
 *          store_read_small() and store_touch(), which any number may call.
 */
#ifndef OVB_STORE_H
#define OVB_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/err.h"

struct store;
struct store_file;
struct throttle;

struct store_stat {
	bool		is_dir;
	uint64_t	size;		/* bytes */
	int64_t		mtime;		/* seconds since 1970, by the storage's clock */
	uint64_t	inode;		/* 0 where the storage has none */
};

struct store_ops {
	void		(*close)(struct store *);
	int		(*mkdir)(struct store *, const char *path, struct err *);
	int		(*rmdir)(struct store *, const char *path, struct err *);
	int		(*unlink)(struct store *, const char *path, struct err *);
	int		(*rename)(struct store *, const char *from, const char *to, struct err *);
	int		(*stat)(struct store *, const char *path, struct store_stat *, struct err *);
	int		(*touch)(struct store *, const char *path, struct err *);
	int		(*list)(struct store *, const char *path, int (*fn)(void *, const char *, struct err *), void *, struct err *);
	int		(*sync_dir)(struct store *, const char *path, struct err *);
	int		(*room)(struct store *, uint64_t *bytes, struct err *);
	struct store_file *(*create)(struct store *, const char *path, struct err *);
	struct store_file *(*open)(struct store *, const char *path, struct err *);
	struct store_file *(*reopen)(struct store *, const char *path, uint64_t size, struct err *);
	int		(*sha256)(struct store *, const char *path, uint64_t n, char hex[SHA256_HEX], struct err *);

	int		(*append)(struct store_file *, const void *p, size_t n, struct err *);
	int		(*sync)(struct store_file *, struct err *);
	long		(*read)(struct store_file *, void *p, size_t n, uint64_t offset, struct err *);
	void		(*small_reads)(struct store_file *);
	void		(*file_close)(struct store_file *);
};

struct store {
	const struct store_ops	*ops;
	char			*url;		/* as a person would write it */
	bool			 remote;	/* its bytes come and go over a network */
	uint64_t		 unsettled;	/* bytes: of a file that was not synced, so many before its end may not be there yet */
	const char		*note;		/* what a restore point in it should say of the storage, or NULL; not to be freed */
	struct throttle		*throttle;	/* the caller's: what is appended waits for it; NULL: for nothing */
	uint64_t		 appended;	/* bytes, over all files; atomic */
};

struct store_file {
	const struct store_ops	*ops;
	uint64_t		 size;		/* bytes */
	struct store		*st;		/* of a file that is written in one */
};

/** store_open(url, make, err): Open the store at ${url}, a folder or sftp://, making its last folder when ${make}.  Fails: NULL. */
struct store *store_open(const char *url, bool make, struct err *err);
void store_close(struct store *st);

/**
 * store_throttle(st, t):
 * From now on what is appended waits for ${t}, which others may share, and which must outlive ${st}: when it is told to stop, an append that waits fails,
 * with EINTR.  Before the first file is made.
 */
void store_throttle(struct store *st, struct throttle *t);

/** store_sent(st): Bytes of files that have gone to ${st} over a network so far; 0 of one on this host.  Threads: any. */
uint64_t store_sent(struct store *st);

/** store_mkdir(st, path, err): Make a folder.  EEXIST when something has that name. */
int store_mkdir(struct store *st, const char *path, struct err *err);

/** store_rmdir(st, path, err), store_unlink(st, path, err): Remove an empty folder, or a file. */
int store_rmdir(struct store *st, const char *path, struct err *err);
int store_unlink(struct store *st, const char *path, struct err *err);

/** store_rename(st, from, to, err): Never replaces: EEXIST when ${to} exists. */
int store_rename(struct store *st, const char *from, const char *to, struct err *err);

int store_stat(struct store *st, const char *path, struct store_stat *out, struct err *err);

/** store_touch(st, path, err): Set the file's time to the storage's clock. */
int store_touch(struct store *st, const char *path, struct err *err);

/**
 * store_list(st, path, fn, arg, err):
 * Call ${fn} with each name in the folder, in no order, without "." and "..".  A name that holds a slash or is longer than 255 bytes
 * is passed over: no store may make us leave the folder.  Fails: -1, also when ${fn} does.
 */
int store_list(struct store *st, const char *path, int (*fn)(void *arg, const char *name, struct err *err), void *arg, struct err *err);

/** store_sync_dir(st, path, err): Make the names in a folder durable. */
int store_sync_dir(struct store *st, const char *path, struct err *err);

/** store_room(st, bytes, err): How many bytes are free; UINT64_MAX where the storage cannot tell, or has no limit.  Fails: -1. */
int store_room(struct store *st, uint64_t *bytes, struct err *err);

/** store_create(st, path, err): Make a new file to append to.  EEXIST when something has that name. */
struct store_file *store_create(struct store *st, const char *path, struct err *err);

/** store_file_open(st, path, err): Open a file to read. */
struct store_file *store_file_open(struct store *st, const char *path, struct err *err);

/**
 * store_reopen(st, path, size, err):
 * Open a file, which nobody else writes, to go on appending after its first ${size} bytes; what is beyond them is cut off.  Only of a file that is not
 * published.  Fails: NULL.
 */
struct store_file *store_reopen(struct store *st, const char *path, uint64_t size, struct err *err);

/**
 * store_sha256(st, path, n, hex, err):
 * Have the storage itself compute the SHA-256 of the first ${n} bytes of a file, so that they need not come back.  Fails: -1; err->code is ENOTSUP where
 * it cannot (a folder: whoever reads it is as near).  Blocks: as long as reading them there takes.
 */
int store_sha256(struct store *st, const char *path, uint64_t n, char hex[SHA256_HEX], struct err *err);

int store_append(struct store_file *f, const void *p, size_t n, struct err *err);

/** store_sync(f, err): Make the file's bytes durable.  A failure is final: what was written may be lost, whatever a second try says. */
int store_sync(struct store_file *f, struct err *err);

/**
 * store_file_read(f, p, n, offset, err):
 * Read exactly ${n} bytes.  Fails: -1, also when the file ends before (err->code 0 then).
 */
int store_file_read(struct store_file *f, void *p, size_t n, uint64_t offset, struct err *err);

/** store_small_reads(f): Before reading ${f} here and there in small pieces, over and over: an index. */
void store_small_reads(struct store_file *f);

/** store_file_close(f): Without store_sync() before, what was appended may be lost.  Harmless on NULL. */
void store_file_close(struct store_file *f);

/** store_read_small(st, path, max, out, err): The whole of a file of at most ${max} bytes, which the caller frees with buf_free(). */
struct buf;
int store_read_small(struct store *st, const char *path, size_t max, struct buf *out, struct err *err);

/** store_write_small(st, path, text, err): Make a new file, durable, with all of ${text}.  Its name is not durable yet.  Fails: -1. */
int store_write_small(struct store *st, const char *path, const struct buf *text, struct err *err);

/** store_remove_tree(st, path, err): Remove a folder and all in it, folders to a depth of four; a link or a file by itself. */
int store_remove_tree(struct store *st, const char *path, struct err *err);

/* The kinds of storage. */
struct store *store_dir_open(const char *path, bool make, struct err *err);

/**
 * store_sftp_open(url, options, make, err):
 * A folder on an SFTP server, by the URL sftp://[user@]host[:port]/path.  ${options}, which may be NULL, is needed only during the call.  Each request has
 * its deadlines; after one has passed, or when the connection is lost, every further call fails at once with that reason.  Several connections are
 * made when several threads call, and while a file is written.
 */
struct ssh_options;
struct store *store_sftp_open(const char *url, const struct ssh_options *options, bool make, struct err *err);

/** store_dir_open_file(path, err), store_dir_wrap(fd, name, err): A file outside any store, or an open descriptor (taken over), to read. */
struct store_file *store_dir_open_file(const char *path, struct err *err);
struct store_file *store_dir_wrap(int fd, const char *name, struct err *err);

/** store_stream_wrap(fd, name, err): Append to an open descriptor, which stays the caller's: a pipe, or a file of its own.  It cannot be read. */
struct store_file *store_stream_wrap(int fd, const char *name, struct err *err);

#endif
