#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/human.h"

#define TMPDIR_MAX	4000u		/* bytes of its name */

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

void
io_keep_std(void)
{
	/* The lowest free one is given.  Each the wrong way round: what is written to a closed output must fail. */
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) == -1 && open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd)
			_exit(1);
}

static const char *
temp_folder(void)
{
	const char *dir = getenv("TMPDIR");

	return (dir == NULL || dir[0] != '/' || strlen(dir) > TMPDIR_MAX ? "/var/tmp" : dir);
}

int
io_tempfile(struct err *err)
{
	const char *dir = temp_folder();
	char path[TMPDIR_MAX + 32];
	int fd;

	fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd == -1 && (errno == EOPNOTSUPP || errno == EISDIR || errno == ENOENT)) {
		/* Not every file system has files without a name: make one and take its name away. */
		snprintf(path, sizeof(path), "%s/virt-backup.XXXXXX", dir);
		if ((fd = mkostemp(path, O_CLOEXEC)) != -1)
			unlink(path);
	}
	if (fd == -1)
		return (io_temp_failed(errno, "make", err));
	return (fd);
}

int
io_temp_room(int fd, uint64_t bytes, const char *what, struct err *err)
{
	char want[HUMAN_LEN], have[HUMAN_LEN];
	struct statvfs fs;
	uint64_t room;

	if (fstatvfs(fd, &fs) == -1)
		return (err_set(err, errno, "cannot look at the file system of %s", temp_folder()));
	room = (uint64_t)fs.f_bavail * fs.f_frsize;
	if (fs.f_blocks == 0 || bytes <= room)		/* a file system without blocks has no limit */
		return (0);
	return (err_plain(err, ENOSPC, "%s takes %s, and the folder for temporary files, %s, has %s free (set TMPDIR to a folder with room)", what,
	    human_size(bytes, want), temp_folder(), human_size(room, have)));
}

int
io_temp_failed(int code, const char *doing, struct err *err)
{
	return (err_set(err, code, "cannot %s a temporary file in %s (set TMPDIR to a folder with room)", doing, temp_folder()));
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
