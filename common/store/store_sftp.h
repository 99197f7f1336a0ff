/* store_sftp.h - what store_sftp.c (folders and names) and store_sftp_file.c (files' bytes) share. */
#ifndef OVB_STORE_SFTP_H
#define OVB_STORE_SFTP_H

#include <stdatomic.h>

#include "store/sftp_ahead.h"
#include "store/sftp_pool.h"
#include "store/store.h"

#define SFTP_PATH_LEN	4096u

struct sftp_store {
	struct store		 st;
	struct ssh_target	*t;
	char			*base;		/* the store's folder there */
	struct sftp_pool	 pool;
	struct sftp_ahead	 ahead;
	atomic_bool		 one_by_one;	/* the server gives less than it is asked for: reads are not asked for together */
	pthread_t		 ticker;	/* makes a request now and then, so that no idle connection is given up */
	bool			 ticking;	/* the thread was started */
	pthread_mutex_t		 tick_lock;	/* guards what is below */
	pthread_cond_t		 tick_wake;
	bool			 tick_stop;
	_Atomic bool		 no_shell;	/* the server runs no programs for us */
};

/* A libssh2 call that would block, until it does not, or the session is dead (then it still is LIBSSH2_ERROR_EAGAIN). */
#define SFTP_TRY(r, ss, err, call)	while (((r) = (call)) == LIBSSH2_ERROR_EAGAIN && ssh_wait((ss), (err)) == 0)

extern const struct store_ops sftp_ops;

/** sftp_path(s, path, out, err): The full path on the server.  Fails: -1, too long. */
int sftp_path(const struct sftp_store *s, const char *path, char out[SFTP_PATH_LEN], struct err *err);

/**
 * sftp_failed(s, ss, path, made, doing, err):
 * After a request that failed: set ${err} with an errno value.  Where the server says only "failure", it is asked: whether ${made} (a full path,
 * or NULL) exists already, whether the storage is full or read-only.  Returns -1.
 */
int sftp_failed(const struct sftp_store *s, struct ssh_session *ss, const char *path, const char *made, const char *doing, struct err *err);

/** sftp_failed_with(s, ss, fx, path, made, doing, err): The same, where the connection is not at fault and the server said ${fx} on any of them. */
int sftp_failed_with(const struct sftp_store *s, struct ssh_session *ss, unsigned long fx, const char *path, const char *made, const char *doing,
    struct err *err);

/** sftp_lstat(ss, full, attrs, err): Look at a path, links not followed.  0, or -1: libssh2 and ss tell why. */
int sftp_lstat(struct ssh_session *ss, const char *full, LIBSSH2_SFTP_ATTRIBUTES *attrs, struct err *err);

/** sftp_open(ss, full, flags, err): Open a file, to be closed by ssh_handle_close().  NULL: libssh2 and ss tell why. */
LIBSSH2_SFTP_HANDLE *sftp_open(struct ssh_session *ss, const char *full, unsigned long flags, struct err *err);

/** sftp_fsync(s, ss, h, err): Make durable, where the server can; else the store's note says that it cannot.  0, or -1: libssh2 and ss tell why. */
int sftp_fsync(struct sftp_store *s, struct ssh_session *ss, LIBSSH2_SFTP_HANDLE *h, struct err *err);

/* store_sftp_sum.c */
int sftp_sha256(struct store *st, const char *path, uint64_t n, char hex[SHA256_HEX], struct err *err);

/* store_sftp_file.c */
struct store_file *sftp_file_create(struct store *st, const char *path, struct err *err);
struct store_file *sftp_file_reopen(struct store *st, const char *path, uint64_t size, struct err *err);
struct store_file *sftp_file_open(struct store *st, const char *path, struct err *err);
int sftp_file_append(struct store_file *f, const void *p, size_t n, struct err *err);
int sftp_file_sync(struct store_file *f, struct err *err);
long sftp_file_read(struct store_file *f, void *p, size_t n, uint64_t offset, struct err *err);
void sftp_file_small_reads(struct store_file *f);
void sftp_file_close(struct store_file *f);

/** sftp_fetch(file, p, n, offset, err): Read a struct sftp_file; the store's ahead_fetch. */
long sftp_fetch(void *file, void *p, size_t n, uint64_t offset, struct err *err);

#endif
