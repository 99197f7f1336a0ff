#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int
read_text(const char *path, char *out, size_t n)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got;

	if (fd == -1)
		return (-1);
	got = read(fd, out, n - 1);
	close(fd);
	if (got <= 0)
		return (-1);
	out[got] = '\0';
	return (0);
}

void
process_name(pid_t pid, char *out, size_t n)
{
	char path[64], stat[1024], boot[64], *p;

	out[0] = '\0';
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (read_text(path, stat, sizeof(stat)) == -1 || read_text("/proc/sys/kernel/random/boot_id", boot, sizeof(boot)) == -1)
		return;
	boot[strcspn(boot, "\n")] = '\0';
	/* proc(5): the 22nd field.  The second one, in brackets, may have anything in it. */
	if ((p = strrchr(stat, ')')) == NULL)
		return;
	for (int field = 2; field < 22 && p != NULL; field++)
		p = strchr(p + 1, ' ');
	if (p != NULL)
		snprintf(out, n, "%d:%llu:%s", (int)pid, strtoull(p, NULL, 10), boot);
}

int
process_pidfd(pid_t pid)
{
	return ((int)syscall(SYS_pidfd_open, pid, 0));
}

int
process_open(const char *name, pid_t *pid)
{
	char now[96];
	int fd;

	*pid = (pid_t)strtol(name, NULL, 10);
	if (*pid <= 0 || (fd = process_pidfd(*pid)) == -1)
		return (-1);
	/* It was not replaced before it was opened. */
	process_name(*pid, now, sizeof(now));
	if (strcmp(now, name) == 0)
		return (fd);
	close(fd);
	return (-1);
}
