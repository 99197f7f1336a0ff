/* A repository in a folder of this host's file systems. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/io.h"
#include "base/pagecache.h"
#include "store/store.h"

#define MAP_SIZE	((uint64_t)4 << 30)	/* a map of longer files would be too large: a byte for each page */

struct dir {
	struct store	 st;
	int		 fd;		/* the folder */
};

struct file {
	struct store_file	 f;
	int			 fd;
	char			*name;		/* for messages */
	struct pagecache_writer	 cache;
	struct pagecache_map	*map;		/* where small reads are expected: drops what they brought in at the end */
};

static const struct store_ops dir_ops;

static struct dir *
dir_of(struct store *st)
{
	return ((struct dir *)st);
}

static struct file *
file_of(struct store_file *f)
{
	return ((struct file *)f);
}

static int
failed(struct store *st, const char *path, const char *doing, struct err *err)
{
	return (err_set(err, errno, "%s %s/%s", doing, st->url, path));
}

/* A file in the place of a folder, as a repair of the file system may leave one, has none in it: to SFTP servers, too, that is the same as none. */
static int
failed_inside(struct store *st, const char *path, const char *doing, struct err *err)
{
	if (errno == ENOTDIR)
		errno = ENOENT;
	return (failed(st, path, doing, err));
}

/* A folder that was just made must not be gone, with all in it, after a power cut. */
static int
sync_parent(const char *path, struct err *err)
{
	char *copy = strdup(path);
	int fd, rc = 0;

	if (copy == NULL)
		return (err_nomem(err));
	if ((fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) == -1 || fsync(fd) == -1)
		rc = err_set(err, errno, "cannot make the folder that holds %s durable", path);
	io_close(&fd);
	free(copy);
	return (rc);
}

struct store *
store_dir_open(const char *path, bool make, struct err *err)
{
	struct dir *d = calloc(1, sizeof(*d));

	if (d == NULL || (d->st.url = strdup(path)) == NULL) {
		free(d);
		err_nomem(err);
		return (NULL);
	}
	d->st.ops = &dir_ops;
	if (make && mkdir(path, 0700) == 0) {
		if (sync_parent(path, err) == -1)
			goto fail;
	} else if (make && errno != EEXIST) {
		err_set(err, errno, "cannot make the repository's folder %s%s", path, errno == ENOENT ? " (the folder that it is in must be there)" : "");
		goto fail;
	}
	if ((d->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) == -1) {
		err_set(err, errno, "cannot open the repository %s%s", path, errno == ENOENT ? " (is it mounted, and written so?)" : "");
		goto fail;
	}
	return (&d->st);
fail:
	free(d->st.url);
	free(d);
	return (NULL);
}

static void
dir_close(struct store *st)
{
	struct dir *d = dir_of(st);

	io_close(&d->fd);
	free(d->st.url);
	free(d);
}

static int
dir_mkdir(struct store *st, const char *path, struct err *err)
{
	if (mkdirat(dir_of(st)->fd, path, 0700) == -1)
		return (failed(st, path, "cannot make the folder", err));
	return (0);
}

static int
dir_rmdir(struct store *st, const char *path, struct err *err)
{
	if (unlinkat(dir_of(st)->fd, path, AT_REMOVEDIR) == -1)
		return (failed(st, path, "cannot remove the folder", err));
	return (0);
}

static int
dir_unlink(struct store *st, const char *path, struct err *err)
{
	if (unlinkat(dir_of(st)->fd, path, 0) == -1)
		return (failed(st, path, "cannot remove", err));
	return (0);
}

static int
dir_rename(struct store *st, const char *from, const char *to, struct err *err)
{
	int fd = dir_of(st)->fd;
	struct stat sb;

	if (renameat2(fd, from, fd, to, RENAME_NOREPLACE) == 0)
		return (0);
	if (errno == EINVAL || errno == ENOSYS) {
		/* A file system without the flag (NFS): look first.  Names that only one lock holder uses make that enough. */
		if (fstatat(fd, to, &sb, AT_SYMLINK_NOFOLLOW) == 0)
			errno = EEXIST;
		else if (errno == ENOENT && renameat(fd, from, fd, to) == 0)
			return (0);
	}
	return (err_set(err, errno, "cannot rename %s/%s to %s", st->url, from, to));
}

static int
dir_stat(struct store *st, const char *path, struct store_stat *out, struct err *err)
{
	struct stat sb;

	if (fstatat(dir_of(st)->fd, path, &sb, AT_SYMLINK_NOFOLLOW) == -1)
		return (failed_inside(st, path, "cannot look at", err));
	out->is_dir = S_ISDIR(sb.st_mode);
	out->size = (uint64_t)sb.st_size;
	out->mtime = sb.st_mtim.tv_sec;
	out->inode = sb.st_ino;
	return (0);
}

static int
dir_touch(struct store *st, const char *path, struct err *err)
{
	if (utimensat(dir_of(st)->fd, path, NULL, AT_SYMLINK_NOFOLLOW) == -1)
		return (failed(st, path, "cannot renew", err));
	return (0);
}

static int
dir_list(struct store *st, const char *path, int (*fn)(void *, const char *, struct err *), void *arg, struct err *err)
{
	struct dirent *de;
	int fd, rc = 0;
	DIR *d;

	/* A machine's folder may be elsewhere, by a link; what is deeper, and perhaps about to be removed, may not. */
	if ((fd = openat(dir_of(st)->fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | (strchr(path, '/') != NULL ? O_NOFOLLOW : 0))) == -1 ||
	    (d = fdopendir(fd)) == NULL) {
		failed(st, path, "cannot list", err);
		io_close(&fd);
		return (-1);
	}
	/* cppcheck-suppress readdirCalled ; glibc's is safe for threads with a DIR each */
	while (rc == 0 && (errno = 0, de = readdir(d)) != NULL)
		rc = fn(arg, de->d_name, err);
	if (rc == 0 && errno != 0)
		rc = failed(st, path, "cannot list", err);
	closedir(d);
	return (rc);
}

static int
dir_sync_dir(struct store *st, const char *path, struct err *err)
{
	int fd, rc = 0;

	if ((fd = openat(dir_of(st)->fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) == -1 || fsync(fd) == -1)
		rc = failed(st, path, "cannot make durable the folder", err);
	io_close(&fd);
	return (rc);
}

static int
dir_room(struct store *st, uint64_t *bytes, struct err *err)
{
	struct statvfs fs;

	if (statvfs(st->url, &fs) == -1)
		return (err_set(err, errno, "cannot tell the free space of %s", st->url));
	*bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
	return (0);
}

static struct store_file *
file_new(int fd, const char *name, struct err *err)
{
	struct file *f = calloc(1, sizeof(*f));
	struct stat sb;

	if (f == NULL || (f->name = strdup(name)) == NULL) {
		err_nomem(err);
		goto fail;
	}
	if (fstat(fd, &sb) == -1) {
		err_set(err, errno, "cannot look at %s", name);
		goto fail;
	}
	if (!S_ISREG(sb.st_mode)) {
		err_set(err, 0, "%s is not a regular file", name);
		goto fail;
	}
	/* No read-ahead beyond what is asked for: nobody would drop those pages. */
	posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
	f->f.ops = &dir_ops;
	f->f.size = (uint64_t)sb.st_size;
	f->fd = fd;
	f->cache = (struct pagecache_writer)PAGECACHE_WRITER_INIT(fd);
	return (&f->f);
fail:
	close(fd);
	if (f != NULL)
		free(f->name);
	free(f);
	return (NULL);
}

static struct store_file *
file_open(struct store *st, const char *path, int flags, const char *doing, struct err *err)
{
	char name[8192];
	int fd;

	/* O_NONBLOCK: a fifo in a repository must not hold us. */
	if ((fd = openat(dir_of(st)->fd, path, flags | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600)) == -1) {
		if ((flags & O_CREAT) == 0)
			failed_inside(st, path, doing, err);
		else
			failed(st, path, doing, err);
		return (NULL);
	}
	snprintf(name, sizeof(name), "%s/%s", st->url, path);
	return (file_new(fd, name, err));
}

static struct store_file *
dir_create(struct store *st, const char *path, struct err *err)
{
	return (file_open(st, path, O_WRONLY | O_CREAT | O_EXCL, "cannot make", err));
}

static struct store_file *
dir_open(struct store *st, const char *path, struct err *err)
{
	return (file_open(st, path, O_RDONLY, "cannot open", err));
}

static struct store_file *
dir_reopen(struct store *st, const char *path, uint64_t size, struct err *err)
{
	struct store_file *sf = file_open(st, path, O_WRONLY, "cannot open", err);

	if (sf == NULL)
		return (NULL);
	if (sf->size < size || ftruncate(file_of(sf)->fd, (off_t)size) == -1) {
		err_set(err, sf->size < size ? EINVAL : errno, "cannot cut %s to %llu bytes", file_of(sf)->name, (unsigned long long)size);
		store_file_close(sf);
		return (NULL);
	}
	sf->size = size;
	return (sf);
}

struct store_file *
store_dir_open_file(const char *path, struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd == -1) {
		err_set(err, errno, "cannot open %s", path);
		return (NULL);
	}
	return (file_new(fd, path, err));
}

struct store_file *
store_dir_wrap(int fd, const char *name, struct err *err)
{
	return (file_new(fd, name, err));
}

static int
file_append(struct store_file *sf, const void *p, size_t n, struct err *err)
{
	struct file *f = file_of(sf);

	if (io_pwrite(f->fd, p, n, sf->size) == -1)
		return (err_set(err, errno, "cannot write %s%s", f->name, errno == ENOSPC ? " (make room there)" : ""));
	pagecache_wrote(&f->cache, sf->size + n);
	return (0);
}

static int
file_sync(struct store_file *sf, struct err *err)
{
	struct file *f = file_of(sf);

	if (fsync(f->fd) == -1)
		return (err_set(err, errno, "cannot make %s durable", f->name));
	pagecache_drop(f->fd);
	return (0);
}

static void
file_small_reads(struct store_file *sf)
{
	struct file *f = file_of(sf);

	if (f->map == NULL && sf->size <= MAP_SIZE)
		f->map = pagecache_map_new(f->fd, sf->size);
}

static ssize_t
read_once(struct file *f, void *p, size_t n, uint64_t offset)
{
	struct pagecache_range *seen;
	ssize_t got;

	if (f->map != NULL || (seen = malloc(sizeof(*seen))) == NULL)
		return (io_pread(f->fd, p, n, offset));
	pagecache_look(seen, f->fd, offset, n);
	got = io_pread(f->fd, p, n, offset);
	pagecache_restore(seen);
	free(seen);
	return (got);
}

static long
file_read(struct store_file *sf, void *p, size_t n, uint64_t offset, struct err *err)
{
	struct file *f = file_of(sf);
	size_t at, part;
	ssize_t got = 0;

	for (at = 0; at < n; at += (size_t)got) {
		part = n - at < PAGECACHE_RANGE ? n - at : PAGECACHE_RANGE;
		got = read_once(f, (char *)p + at, part, offset + at);
		if (got == -1) {
			err_set(err, errno, "cannot read %s at %llu", f->name, (unsigned long long)(offset + at));
			return (-1);
		}
		if (got == 0)
			break;
	}
	return ((long)at);
}

static void
file_close(struct store_file *sf)
{
	struct file *f = file_of(sf);

	pagecache_map_end(f->map);
	close(f->fd);
	free(f->name);
	free(f);
}

static const struct store_ops dir_ops = {
	.close = dir_close, .mkdir = dir_mkdir, .rmdir = dir_rmdir, .unlink = dir_unlink, .rename = dir_rename, .stat = dir_stat,
	.touch = dir_touch, .list = dir_list, .sync_dir = dir_sync_dir, .room = dir_room, .create = dir_create, .open = dir_open, .reopen = dir_reopen,
	.append = file_append, .sync = file_sync, .read = file_read, .small_reads = file_small_reads, .file_close = file_close,
};
