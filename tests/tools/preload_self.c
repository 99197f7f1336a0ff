/*
 * preload_self: a program under valgrind starts itself again (for LD_PRELOAD).
 *
 * What it starts by /proc/self/exe would be valgrind's own program; it is told where its own lies, as readlink(2), which valgrind answers for it, says.
 * What it starts runs by itself, without valgrind.
 *
 * Threads: any; execv() is for a child between fork() and exec, and allocates nothing.
 */
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <spawn.h>
#include <string.h>
#include <unistd.h>

static const char *
itself(const char *path, char out[PATH_MAX])
{
	ssize_t n;

	if (strcmp(path, "/proc/self/exe") != 0 || (n = readlink(path, out, PATH_MAX - 1)) == -1)
		return (path);
	out[n] = '\0';
	return (out);
}

int
posix_spawn(pid_t *restrict pid, const char *restrict path, const posix_spawn_file_actions_t *restrict fa, const posix_spawnattr_t *restrict attr,
    char *const argv[restrict], char *const envp[restrict])
{
	int (*real)(pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *, char *const[], char *const[]);
	char buf[PATH_MAX];

	*(void **)&real = dlsym(RTLD_NEXT, "posix_spawn");
	return (real == NULL ? ENOSYS : real(pid, itself(path, buf), fa, attr, argv, envp));
}

int
execv(const char *path, char *const argv[])
{
	char buf[PATH_MAX];

	return (execve(itself(path, buf), argv, environ));
}
