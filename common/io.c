#include "io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

ssize_t
io_pread(int fd, void *p, size_t n, uint64_t offset)
{
	size_t got = 0;
	ssize_t r;

	while (got < n) {
		r = pread(fd, (char *)p + got, n - got, (off_t)(offset + got));
		if (r == -1 && errno == EINTR)
			continue;
		if (r == -1)
			return (-1);
		if (r == 0)
			break;
		got += (size_t)r;
	}
	return ((ssize_t)got);
}

int
io_pwrite(int fd, const void *p, size_t n, uint64_t offset)
{
	size_t put = 0;
	ssize_t r;

	while (put < n) {
		r = pwrite(fd, (const char *)p + put, n - put, (off_t)(offset + put));
		if (r == -1 && errno == EINTR)
			continue;
		if (r == -1)
			return (-1);
		put += (size_t)r;
	}
	return (0);
}

void
io_close(int *fd)
{
	if (*fd != -1)
		close(*fd);
	*fd = -1;
}

int
io_tempfile(struct err *err)
{
	const char *dir = getenv("TMPDIR");
	char path[4096];
	int fd;

	if (dir == NULL || dir[0] != '/' || strlen(dir) > sizeof(path) - 32)
		dir = "/var/tmp";
	fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd == -1 && (errno == EOPNOTSUPP || errno == EISDIR || errno == ENOENT)) {
		/* Not every file system has files without a name: make one and take its name away. */
		snprintf(path, sizeof(path), "%s/virt-backup.XXXXXX", dir);
		if ((fd = mkostemp(path, O_CLOEXEC)) != -1)
			unlink(path);
	}
	if (fd == -1)
		return (err_set(err, errno, "cannot make a temporary file in %s (set TMPDIR to another folder)", dir));
	return (fd);
}

int
io_random(void *p, size_t n, struct err *err)
{
	size_t got = 0;
	ssize_t r;

	while (got < n) {
		if ((r = getrandom((char *)p + got, n - got, 0)) == -1) {
			if (errno == EINTR)
				continue;
			return (err_set(err, errno, "cannot get random bytes from the kernel"));
		}
		got += (size_t)r;
	}
	return (0);
}
