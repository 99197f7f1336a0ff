/* A block device. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/io.h"
#include "base/pagecache.h"
#include "target.h"

#define STEP	((uint64_t)1 << 30)	/* zeroed in one call, so that a signal is noticed between */

struct device {
	struct target	 t;
	char		*path, *left;
	int		 fd;
	uint64_t	 size;		/* of the disk, not of the device */
	uint32_t	 sector;	/* logical block: what the device can zero has its size */
};

static const struct target_ops device_ops;

static struct device *
device_of(struct target *t)
{
	return ((struct device *)t);
}

/*
 * Discard what must read as zero.  Punching a hole into a block device succeeds only where the device guarantees zeroes afterwards
 * (Linux, blkdev_fallocate(): BLKDEV_ZERO_NOFALLBACK).
 */
static int
discard(const struct device *d, uint64_t offset, uint64_t length)
{
	uint64_t step;

	for (; length > 0; offset += step, length -= step) {
		step = length < STEP ? length : STEP;
		if (fallocate(d->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)step) == -1)
			return (-1);
	}
	return (0);
}

int
target_device_unforced(const char *path, struct err *err)
{
	return (err_plain(err, EEXIST, "%s is a block device, whose content would be overwritten: use --force if that is meant", path));
}

static int
open_device(struct device *d, bool force, struct err *err)
{
	uint64_t room, whole;
	int sector;

	if (!force)
		return (target_device_unforced(d->path, err));
	/* O_EXCL: not while it is mounted, or part of something else. */
	if ((d->fd = open(d->path, O_RDWR | O_EXCL | O_CLOEXEC)) == -1)
		return (err_set(err, errno, "cannot open the block device %s%s", d->path, errno == EBUSY ? " (it is mounted, or used by another device)" : ""));
	if (ioctl(d->fd, BLKGETSIZE64, &room) == -1 || ioctl(d->fd, BLKSSZGET, &sector) == -1)
		return (err_set(err, errno, "cannot tell the size of %s", d->path));
	if (room < d->size)
		return (err_plain(err, ENOSPC, "%s has %llu bytes, the disk has %llu", d->path, (unsigned long long)room, (unsigned long long)d->size));
	d->sector = (uint32_t)sector;
	/* All at once where that is cheap, and then only the data is left to do. */
	whole = d->size - d->size % d->sector;
	d->t.zeroes = discard(d, 0, whole) == 0;
	if (d->t.zeroes && d->size > whole) {
		d->t.zeroes = false;
		if (target_zero(&d->t, whole, d->size - whole, err) == -1)
			return (-1);
		d->t.zeroes = true;
	}
	return (0);
}

struct target *
target_device_open(const char *path, uint64_t size, bool force, struct err *err)
{
	struct device *d = calloc(1, sizeof(*d));

	if (d == NULL || (d->path = strdup(path)) == NULL ||
	    asprintf(&d->left, "%s holds part of the disk, and part of what it held before", path) == -1) {
		if (d != NULL)
			free(d->path);
		free(d);
		err_nomem(err);
		return (NULL);
	}
	d->t.ops = &device_ops;
	d->t.left = d->left;
	d->t.keeps = true;
	d->fd = -1;
	d->size = size;
	if (open_device(d, force, err) == 0)
		return (&d->t);
	target_close(&d->t);
	return (NULL);
}

static int
device_write(struct target *t, uint64_t offset, const void *p, size_t n, struct err *err)
{
	struct device *d = device_of(t);

	if (io_pwrite(d->fd, p, n, offset) == -1)
		return (err_set(err, errno, "cannot write %s at %llu: %s", d->path, (unsigned long long)offset, d->left));
	return (0);
}

static int
device_zero(struct target *t, uint64_t offset, uint64_t length, struct err *err)
{
	static const uint8_t zeroes[65536];
	struct device *d = device_of(t);
	uint64_t n;

	if (offset % d->sector == 0 && length % d->sector == 0) {
		if (discard(d, offset, length) == 0 || fallocate(d->fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)length) == 0)
			return (0);
	}
	for (; length > 0; offset += n, length -= n) {
		n = length < sizeof(zeroes) ? length : sizeof(zeroes);
		if (device_write(t, offset, zeroes, (size_t)n, err) == -1)
			return (-1);
	}
	return (0);
}

static int
device_flush(struct target *t, struct err *err)
{
	struct device *d = device_of(t);

	if (fsync(d->fd) == -1)
		return (err_set(err, errno, "cannot make %s durable: %s", d->path, d->left));
	pagecache_drop(d->fd);
	return (0);
}

static void
device_close(struct target *t)
{
	struct device *d = device_of(t);

	io_close(&d->fd);
	free(d->path);
	free(d->left);
	free(d);
}

static const struct target_ops device_ops = {
	.write = device_write, .zero = device_zero, .flush = device_flush, .close = device_close,
};
