/* A sparse raw file. */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/io.h"
#include "base/pagecache.h"
#include "partial.h"
#include "target.h"

#define FLUSH_EACH	((uint64_t)64 << 20)	/* written bytes after which writing back is begun, and old pages are dropped */

struct file {
	struct target	 t;
	struct partial	 partial;
	int		 fd;
	_Atomic uint64_t written;	/* bytes, since writing back was begun last */
};

static const struct target_ops file_ops;

static struct file *
file_of(struct target *t)
{
	return ((struct file *)t);
}

struct target *
target_file_open(const char *path, uint64_t size, bool force, struct err *err)
{
	struct file *f = calloc(1, sizeof(*f));

	if (f == NULL) {
		err_nomem(err);
		return (NULL);
	}
	f->t.ops = &file_ops;
	f->t.zeroes = true;
	f->fd = -1;
	if (partial_begin(&f->partial, path, force, err) == -1 || (f->fd = partial_create(&f->partial, err)) == -1)
		goto fail;
	f->t.left = f->partial.left;
	if (ftruncate(f->fd, (off_t)size) == 0)
		return (&f->t);
	err_set(err, errno, "cannot make %s %llu bytes long", f->partial.temporary, (unsigned long long)size);
fail:
	target_close(&f->t);
	return (NULL);
}

static int
file_write(struct target *t, uint64_t offset, const void *p, size_t n, struct err *err)
{
	struct file *f = file_of(t);

	if (io_pwrite(f->fd, p, n, offset) == -1)
		return (err_set(err, errno, "cannot write %s at %llu", f->partial.temporary, (unsigned long long)offset));
	/* Many threads write here and there: what is dirty goes out, what is clean goes away, from time to time. */
	if (atomic_fetch_add(&f->written, n) + n >= FLUSH_EACH) {
		atomic_store(&f->written, 0);
		sync_file_range(f->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
		pagecache_drop(f->fd);
	}
	return (0);
}

static int
file_flush(struct target *t, struct err *err)
{
	struct file *f = file_of(t);

	if (fsync(f->fd) == -1)
		return (err_set(err, errno, "cannot make %s durable", f->partial.temporary));
	pagecache_drop(f->fd);
	return (0);
}

static int
file_commit(struct target *t, struct err *err)
{
	struct file *f = file_of(t);

	return (partial_publish(&f->partial, f->fd, err));
}

static void
file_close(struct target *t)
{
	struct file *f = file_of(t);

	io_close(&f->fd);
	partial_end(&f->partial);
	free(f);
}

static const struct target_ops file_ops = { .write = file_write, .flush = file_flush, .commit = file_commit, .close = file_close };
