/* A sparse raw file. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io.h"
#include "pagecache.h"
#include "target.h"

#define FLUSH_EACH	((uint64_t)64 << 20)	/* written bytes after which writing back is begun, and old pages are dropped */

struct file {
	struct target	 t;
	char		*path, *partial;
	bool		 force;
	bool		 made;		/* the partial file is ours, and still there */
	int		 fd;
	_Atomic uint64_t written;	/* bytes, since writing back was begun last */
};

static const struct target_ops file_ops;

static struct file *
file_of(struct target *t)
{
	return ((struct file *)t);
}

static int
check_existing(const struct file *f, struct err *err)
{
	struct stat sb;

	if (lstat(f->path, &sb) == -1)
		return (errno == ENOENT ? 0 : err_set(err, errno, "cannot look at %s", f->path));
	if (S_ISBLK(sb.st_mode))
		return (err_set(err, 0, "%s is a block device: this version restores to files only", f->path));
	if (!S_ISREG(sb.st_mode))
		return (err_set(err, 0, "%s exists and is not a regular file: choose another name", f->path));
	if (!f->force)
		return (err_set(err, EEXIST, "%s: choose another name, or --force to replace it", f->path));
	return (0);
}

static int
open_partial(struct file *f, uint64_t size, struct err *err)
{
	if (check_existing(f, err) == -1)
		return (-1);
	if (f->force)
		unlink(f->partial);
	if ((f->fd = open(f->partial, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600)) == -1) {
		if (errno == EEXIST)
			return (err_set(err, EEXIST, "%s: left by an interrupted restore, or another one is under way: remove it, or use --force",
			    f->partial));
		return (err_set(err, errno, "cannot make %s", f->partial));
	}
	f->made = true;
	if (ftruncate(f->fd, (off_t)size) == -1)
		return (err_set(err, errno, "cannot make %s %llu bytes long", f->partial, (unsigned long long)size));
	return (0);
}

struct target *
target_file_open(const char *path, uint64_t size, bool force, struct err *err)
{
	struct file *f = calloc(1, sizeof(*f));

	if (f == NULL || (f->path = strdup(path)) == NULL || asprintf(&f->partial, "%s.partial", path) == -1) {
		if (f != NULL)
			free(f->path);
		free(f);
		err_nomem(err);
		return (NULL);
	}
	f->t.ops = &file_ops;
	f->force = force;
	f->fd = -1;
	if (open_partial(f, size, err) == -1) {
		target_close(&f->t);
		return (NULL);
	}
	return (&f->t);
}

static int
file_write(struct target *t, uint64_t offset, const void *p, size_t n, struct err *err)
{
	struct file *f = file_of(t);

	if (io_pwrite(f->fd, p, n, offset) == -1)
		return (err_set(err, errno, "cannot write %s at %llu", f->partial, (unsigned long long)offset));
	/* Many threads write here and there: what is dirty goes out, what is clean goes away, from time to time. */
	if (atomic_fetch_add(&f->written, n) + n >= FLUSH_EACH) {
		atomic_store(&f->written, 0);
		sync_file_range(f->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
		pagecache_drop(f->fd);
	}
	return (0);
}

static int
sync_folder(const struct file *f, struct err *err)
{
	char *copy = strdup(f->path);
	const char *dir;
	int fd, rc = 0;

	if (copy == NULL)
		return (err_nomem(err));
	dir = dirname(copy);
	if ((fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) == -1 || fsync(fd) == -1)
		rc = err_set(err, errno, "cannot make the folder %s durable", dir);
	io_close(&fd);
	free(copy);
	return (rc);
}

/* rename() would replace a file that came meanwhile; link() does not, but not every file system has it. */
static int
give_name(struct file *f, struct err *err)
{
	unsigned int flags = f->force ? 0 : RENAME_NOREPLACE;
	int r = renameat2(AT_FDCWD, f->partial, AT_FDCWD, f->path, flags);

	if (r == -1 && (errno == EINVAL || errno == ENOSYS)) {
		if (check_existing(f, err) == -1)
			return (-1);
		r = rename(f->partial, f->path);
	}
	if (r == -1)
		return (err_set(err, errno, "cannot rename %s to %s", f->partial, f->path));
	f->made = false;
	return (0);
}

static int
file_commit(struct target *t, struct err *err)
{
	struct file *f = file_of(t);

	if (fsync(f->fd) == -1)
		return (err_set(err, errno, "cannot make %s durable", f->partial));
	pagecache_drop(f->fd);
	if (give_name(f, err) == -1)
		return (-1);
	return (sync_folder(f, err));
}

static void
file_close(struct target *t)
{
	struct file *f = file_of(t);

	io_close(&f->fd);
	if (f->made)
		unlink(f->partial);
	free(f->path);
	free(f->partial);
	free(f);
}

static const struct target_ops file_ops = { .write = file_write, .commit = file_commit, .close = file_close };
