/* A raw image file or a block device. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <time.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/io.h"
#include "base/pagecache.h"
#include "image_lock.h"
#include "source.h"

#define SCAN_CHUNK	((size_t)1 << 20)	/* read at once when looking for zeroes */
#define SETTLE_S	2			/* seconds after which a file's time tells of another write */
#define SCAN_GRAIN	4096u			/* zeroes are found in pieces of this size: a page, and most file systems' block */

struct image {
	struct source		 s;
	int			 fd;
	struct stat		 opened;	/* as it was when opened */
};

struct image_reader {
	struct source_reader	 r;
	struct pagecache_range	 seen;
};

static const struct source_ops image_ops;

static struct image *
image_of(struct source *s)
{
	return ((struct image *)s);
}

static int
device_size(int fd, const struct stat *sb, uint64_t *size)
{
	if (S_ISBLK(sb->st_mode))
		return (ioctl(fd, BLKGETSIZE64, size));
	*size = (uint64_t)sb->st_size;
	return (0);
}

static int
open_image(struct image *im, const char *path, bool allow_in_use, struct err *err)
{
	/* Looked at before it is opened: a socket cannot be, and a device of another kind may do something. */
	if (stat(path, &im->opened) == -1)
		return (err_set(err, errno, "cannot look at the image %s", path));
	if (!S_ISREG(im->opened.st_mode) && !S_ISBLK(im->opened.st_mode))
		return (err_set(err, 0, "%s is neither a regular file nor a block device", path));
	if ((im->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)) == -1)
		return (err_set(err, errno, "cannot open the image %s", path));
	if (fstat(im->fd, &im->opened) == -1)
		return (err_set(err, errno, "cannot look at the image %s", path));
	if (!S_ISREG(im->opened.st_mode) && !S_ISBLK(im->opened.st_mode))
		return (err_set(err, 0, "%s is neither a regular file nor a block device", path));
	if (device_size(im->fd, &im->opened, &im->s.size) == -1)
		return (err_set(err, errno, "cannot tell the size of %s", path));
	im->s.in_use = image_lock_held(im->fd);
	if (im->s.in_use && !allow_in_use)
		return (err_plain(err, EBUSY, "%s is held for writing by a QEMU: shut its guest down, back it up as a domain, or set "
		    "in_use = \"allow\" for an inconsistent copy", path));
	/* Reads are as large as they should be: what the kernel reads ahead, nobody would drop. */
	posix_fadvise(im->fd, 0, 0, POSIX_FADV_RANDOM);
	im->s.mtime = S_ISREG(im->opened.st_mode) ? im->opened.st_mtim.tv_sec : 0;
	return (0);
}

static bool
is_settled(const struct image *im)
{
	return (S_ISREG(im->opened.st_mode) && !im->s.in_use && im->opened.st_mtim.tv_sec + SETTLE_S < time(NULL));
}

/*
 * A file that was written in the last moments may be written once more without its time telling: file systems' clocks tick in milliseconds
 * only.  And whoever has mapped it (mmap(2)) may write again to what is not yet on the disk: once it is, the next write sets the file's time.
 */
static int
identify(struct image *im, struct err *err)
{
	const struct stat *sb = &im->opened;

	if (!is_settled(im) ||
	    sync_file_range(im->fd, 0, 0, SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER) == -1)
		return (0);
	if (fstat(im->fd, &im->opened) == -1)
		return (err_set(err, errno, "cannot look at the image %s", im->s.path));
	if (!is_settled(im))
		return (0);
	if (asprintf(&im->s.identity, "%llx:%llx:%llu:%lld.%09ld:%lld.%09ld", (unsigned long long)sb->st_dev, (unsigned long long)sb->st_ino,
	    (unsigned long long)sb->st_size, (long long)sb->st_mtim.tv_sec, sb->st_mtim.tv_nsec, (long long)sb->st_ctim.tv_sec,
	    sb->st_ctim.tv_nsec) == -1) {
		im->s.identity = NULL;
		return (err_nomem(err));
	}
	return (0);
}

struct source *
source_image_open(const char *path, bool allow_in_use, struct err *err)
{
	struct image *im = calloc(1, sizeof(*im));

	if (im == NULL || (im->s.path = strdup(path)) == NULL) {
		free(im);
		err_nomem(err);
		return (NULL);
	}
	im->s.ops = &image_ops;
	im->fd = -1;
	if (open_image(im, path, allow_in_use, err) == -1 || identify(im, err) == -1) {
		source_close(&im->s);
		return (NULL);
	}
	return (&im->s);
}

static struct source_reader *
image_reader_new(struct source *s, struct err *err)
{
	struct image_reader *r = calloc(1, sizeof(*r));

	(void)s;
	if (r == NULL) {
		err_nomem(err);
		return (NULL);
	}
	return (&r->r);
}

static void
image_reader_free(struct source_reader *r)
{
	free(r);
}

static int
image_read(struct source_reader *reader, void *p, size_t n, uint64_t offset, struct err *err)
{
	struct image_reader *r = (struct image_reader *)reader;
	const struct image *im = image_of(reader->s);
	ssize_t got;
	size_t part;

	for (size_t at = 0; at < n; at += part) {
		part = n - at < PAGECACHE_RANGE ? n - at : PAGECACHE_RANGE;
		pagecache_look(&r->seen, im->fd, offset + at, part);
		got = io_pread(im->fd, (char *)p + at, part, offset + at);
		pagecache_restore(&r->seen);
		if (got == -1)
			return (err_set(err, errno, "cannot read %s at offset %llu", im->s.path, (unsigned long long)(offset + at)));
		if ((size_t)got != part)
			return (err_set(err, 0, "%s ends at %llu, but had %llu bytes when it was opened: it was made shorter while it was read",
			    im->s.path, (unsigned long long)(offset + at + (size_t)got), (unsigned long long)im->s.size));
	}
	return (0);
}

/*
 * Whether the storage knows holes.  A file system that does not says that all of the file is data (lseek(2)); so does one that
 * does, of a file without holes.  Fewer blocks than bytes tell them apart, but for file systems that compress.
 */
static bool
can_tell_holes(const struct image *im)
{
	bool all_blocks = (uint64_t)im->opened.st_blocks * 512 >= im->s.size;
	struct statfs fs;

	if (S_ISBLK(im->opened.st_mode) || fstatfs(im->fd, &fs) == -1)
		return (false);
	switch ((unsigned long)fs.f_type) {
	case BTRFS_SUPER_MAGIC:
	case 0x2fc12fc1:		/* ZFS */
	case 0xca451a4e:		/* bcachefs */
		return (true);
	case EXT4_SUPER_MAGIC:
	case XFS_SUPER_MAGIC:
	case TMPFS_MAGIC:
	case F2FS_SUPER_MAGIC:
	case OCFS2_SUPER_MAGIC:
	case 0x01161970:		/* GFS2 */
		return (all_blocks);
	default:
		return (false);
	}
}

/* Read all, and take the pieces that are not zero. */
static int
scan(struct source *s, struct extents *ex, struct err *err)
{
	struct source_reader *r = source_reader_new(s, err);
	uint8_t *buf = malloc(SCAN_CHUNK);
	size_t n, piece;
	int rc = -1;

	if (buf == NULL)
		err_nomem(err);
	if (buf == NULL || r == NULL)
		goto out;
	s->scanned = true;
	for (uint64_t at = 0; at < s->size; at += n) {
		n = s->size - at < SCAN_CHUNK ? (size_t)(s->size - at) : SCAN_CHUNK;
		if (source_read(r, buf, n, at, err) == -1 || (s->tick != NULL && s->tick(s->tick_arg, at + n, err) == -1))
			goto out;
		for (size_t i = 0; i < n; i += piece) {
			piece = n - i < SCAN_GRAIN ? n - i : SCAN_GRAIN;
			if (!bytes_are_zero(buf + i, piece) && extents_add(ex, at + i, piece, err) == -1)
				goto out;
		}
	}
	rc = 0;
out:
	free(buf);
	source_reader_free(r);
	return (rc);
}

/* From ${at} on: 1 and the next extent, 0 when there is none, -1 with errno. */
static int
next_data(int fd, uint64_t at, uint64_t size, uint64_t *begin, uint64_t *end)
{
	off_t data, hole;

	if (at >= size || (data = lseek(fd, (off_t)at, SEEK_DATA)) == -1)
		return (at >= size || errno == ENXIO ? 0 : -1);
	if ((hole = lseek(fd, data, SEEK_HOLE)) == -1)
		return (errno == ENXIO ? 0 : -1);
	*begin = (uint64_t)data;
	*end = (uint64_t)hole < size ? (uint64_t)hole : size;
	return (*begin < size && *end > *begin ? 1 : 0);
}

static int
image_extents(struct source *s, struct extents *ex, struct err *err)
{
	struct image *im = image_of(s);
	uint64_t begin, end = 0;
	int r;

	if (s->size == 0)
		return (0);
	r = next_data(im->fd, 0, s->size, &begin, &end);
	if (r == -1 || (r == 1 && begin == 0 && end == s->size && !can_tell_holes(im)))
		return (scan(s, ex, err));
	while (r == 1) {
		if (extents_add(ex, begin, end - begin, err) == -1)
			return (-1);
		r = next_data(im->fd, end, s->size, &begin, &end);
	}
	if (r == -1)
		return (err_set(err, errno, "cannot tell the holes of %s after offset %llu", s->path, (unsigned long long)end));
	return (0);
}

static int
image_settled(struct source *s, struct err *err)
{
	struct image *im = image_of(s);
	uint64_t size;
	struct stat now;

	if (fstat(im->fd, &now) == -1 || device_size(im->fd, &now, &size) == -1)
		return (err_set(err, errno, "cannot look at %s again", s->path));
	if (s->in_use)
		return (0);
	if (size != s->size)
		return (err_set(err, 0, "%s changed from %llu to %llu bytes while it was read: stop what uses it and run the job again", s->path,
		    (unsigned long long)s->size, (unsigned long long)size));
	if (image_lock_held(im->fd))
		return (err_plain(err, EBUSY, "%s was taken by a QEMU while it was read: shut its guest down and run the job again", s->path));
	if (S_ISREG(now.st_mode) && (now.st_mtim.tv_sec != im->opened.st_mtim.tv_sec || now.st_mtim.tv_nsec != im->opened.st_mtim.tv_nsec))
		return (err_set(err, 0, "%s was written while it was read: stop what uses it and run the job again", s->path));
	return (0);
}

static void
image_close(struct source *s)
{
	struct image *im = image_of(s);

	io_close(&im->fd);
	free(s->path);
	free(im);
}

static const struct source_ops image_ops = {
	.extents = image_extents, .reader_new = image_reader_new, .reader_free = image_reader_free, .read = image_read, .settled = image_settled, .close = image_close,
};
