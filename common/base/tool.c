#include "base/tool.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/io.h"

#define STDERR_MAX	500
#define STDOUT_MAX	((size_t)16 << 20)

extern char **environ;

static int
spawn(const char *const *argv, int out, int errors, pid_t *pid)
{
	posix_spawn_file_actions_t fa;
	int r;

	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
	if (out == -1)
		posix_spawn_file_actions_addopen(&fa, 1, "/dev/null", O_WRONLY, 0);
	else
		posix_spawn_file_actions_adddup2(&fa, out, 1);
	posix_spawn_file_actions_adddup2(&fa, errors, 2);
	r = posix_spawnp(pid, argv[0], &fa, NULL, (char **)(uintptr_t)argv, environ);
	posix_spawn_file_actions_destroy(&fa);
	return (r);
}

static long
milliseconds_left(const struct timespec *until)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return ((long)(until->tv_sec - now.tv_sec) * 1000 + (until->tv_nsec - now.tv_nsec) / 1000000);
}

/* What it wrote, until it closes its standard error.  Returns -1 when that takes too long. */
static int
read_all(int fd, unsigned int seconds, char *text, size_t n)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	struct timespec until;
	char spare[256];
	size_t len = 0;
	ssize_t got;
	long left;
	int r;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += (time_t)seconds;
	for (;;) {
		if ((left = milliseconds_left(&until)) <= 0 || (r = poll(&pfd, 1, left > INT_MAX ? INT_MAX : (int)left)) == 0)
			return (-1);
		if (r == -1 && errno == EINTR)
			continue;
		got = len < n - 1 ? read(fd, text + len, n - 1 - len) : read(fd, spare, sizeof(spare));
		if (got <= 0)
			break;
		if (len < n - 1)
			len += (size_t)got;
	}
	text[len] = '\0';
	while (len > 0 && text[len - 1] == '\n')
		text[--len] = '\0';
	return (0);
}

/* Run it with its standard output on ${file}, or nowhere with -1. */
static int
run(const char *const *argv, const char *hint, unsigned int seconds, int file, struct err *err)
{
	char text[STDERR_MAX] = "";
	int errors[2], status = 0, r;
	pid_t pid;

	if (pipe2(errors, O_CLOEXEC) == -1)
		return (err_set(err, errno, "cannot make a pipe to %s", argv[0]));
	r = spawn(argv, file, errors[1], &pid);
	io_close(&errors[1]);
	if (r != 0) {
		io_close(&errors[0]);
		return (err_set(err, r, "cannot run %s (%s)", argv[0], hint));
	}
	r = read_all(errors[0], seconds, text, sizeof(text));
	if (r == -1)
		kill(pid, SIGKILL);
	io_close(&errors[0]);
	while (waitpid(pid, &status, 0) == -1 && errno == EINTR)
		;
	if (r == -1)
		return (err_plain(err, ETIMEDOUT, "%s did not end within %u s", argv[0], seconds));
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return (err_set(err, 0, "%s failed: %s", argv[0], text));
	return (0);
}

int
tool_run(const char *const *argv, const char *hint, unsigned int seconds, struct buf *out, struct err *err)
{
	struct stat sb;
	int fd, rc = -1;

	if (out == NULL)
		return (run(argv, hint, seconds, -1, err));
	if ((fd = io_tempfile(err)) == -1)
		return (-1);
	if (run(argv, hint, seconds, fd, err) == -1)
		goto out;
	if (fstat(fd, &sb) == -1 || (uint64_t)sb.st_size > STDOUT_MAX) {
		err_set(err, 0, "%s wrote more than is sensible", argv[0]);
		goto out;
	}
	if (buf_reserve(out, (size_t)sb.st_size, err) == -1)
		goto out;
	if (io_pread(fd, out->ptr + out->len, (size_t)sb.st_size, 0) != sb.st_size) {
		err_set(err, errno, "cannot read what %s wrote", argv[0]);
		goto out;
	}
	out->len += (size_t)sb.st_size;
	out->ptr[out->len] = '\0';
	rc = 0;
out:
	io_close(&fd);
	return (rc);
}

int
tool_image_option(struct buf *out, const char *options, const char *path, struct err *err)
{
	if (buf_add(out, options, strlen(options), err) == -1)
		return (-1);
	for (; *path != '\0'; path++)
		if (buf_add(out, path, 1, err) == -1 || (*path == ',' && buf_add(out, ",", 1, err) == -1))
			return (-1);
	return (0);
}
