#include "run_result.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A line as a whole, or, where there is no room for it, not at all. */
static int
append(const char *path, const char *line)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600), code = 0;
	off_t before = fd != -1 ? lseek(fd, 0, SEEK_END) : -1;
	ssize_t n = (ssize_t)strlen(line);

	if (fd == -1)
		return (-1);
	errno = ENOSPC;		/* for a short write */
	if (write(fd, line, (size_t)n) != n || fdatasync(fd) == -1) {
		code = errno;
		if (ftruncate(fd, before) == -1)
			code = errno;
	}
	close(fd);
	errno = code;
	return (code == 0 ? 0 : -1);
}

void
run_result_event(const char *line)
{
	const char *path = getenv("OVB_RESULT_FILE");
	char *text;

	if (path == NULL || asprintf(&text, "%lld %s\n", (long long)time(NULL), line) == -1)
		return;
	/* The daemon hears of it all the same, if it lives. */
	(void)append(path, text);
	free(text);
}

void
run_result_end(int status, const char *why)
{
	const char *path = getenv("OVB_RESULT_FILE");
	char text[2048];

	if (path == NULL)
		return;
	snprintf(text, sizeof(text), "exit %d %.*s\n", status, (int)strcspn(why, "\n"), why);
	if (append(path, text) == -1)
		fprintf(stderr, "virt-backupd: warning: cannot write %s: %s\n", path, strerror(errno));
}
