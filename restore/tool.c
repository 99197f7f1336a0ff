#include "tool.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io.h"

#define DEADLINE_MS	60000
#define STDERR_MAX	500

extern char **environ;

static int
spawn(const char *const *argv, const int out[2], pid_t *pid)
{
	posix_spawn_file_actions_t fa;
	int r;

	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&fa, 1, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_adddup2(&fa, out[1], 2);
	r = posix_spawnp(pid, argv[0], &fa, NULL, (char **)(uintptr_t)argv, environ);
	posix_spawn_file_actions_destroy(&fa);
	return (r);
}

/* What it wrote, until it closes its standard error.  Returns -1 when that takes too long. */
static int
read_all(int fd, char *text, size_t n)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	char spare[256];
	size_t len = 0;
	ssize_t got;
	int r;

	for (;;) {
		if ((r = poll(&pfd, 1, DEADLINE_MS)) == 0)
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

int
tool_run(const char *const *argv, const char *hint, struct err *err)
{
	char text[STDERR_MAX] = "";
	int out[2], status = 0, r;
	pid_t pid;

	if (pipe2(out, O_CLOEXEC) == -1)
		return (err_set(err, errno, "cannot make a pipe"));
	r = spawn(argv, out, &pid);
	io_close(&out[1]);
	if (r != 0) {
		io_close(&out[0]);
		return (err_set(err, r, "cannot run %s (%s)", argv[0], hint));
	}
	r = read_all(out[0], text, sizeof(text));
	if (r == -1)
		kill(pid, SIGKILL);
	io_close(&out[0]);
	while (waitpid(pid, &status, 0) == -1 && errno == EINTR)
		;
	if (r == -1)
		return (err_set(err, ETIMEDOUT, "%s did not end", argv[0]));
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return (err_set(err, 0, "%s failed: %s", argv[0], text));
	return (0);
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
