#include "state_dir.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* systemd gives a list with colons when several are configured; ours is the first. */
static const char *
first_of(const char *variable, const char *otherwise)
{
	const char *v = getenv(variable);

	return (v != NULL && v[0] == '/' && strchr(v, ':') == NULL ? v : otherwise);
}

const char *
state_dir(void)
{
	return (first_of("STATE_DIRECTORY", "/var/lib/openvirt-backup"));
}

const char *
runtime_dir(void)
{
	return (first_of("RUNTIME_DIRECTORY", "/run/openvirt-backup"));
}

static int
make_one(const char *path, mode_t mode, struct err *err)
{
	if (mkdir(path, mode) == -1)
		return (errno == EEXIST ? 0 : err_set(err, errno, "cannot make the folder %s", path));
	/* Whatever the umask is. */
	return (chmod(path, mode) == -1 ? err_set(err, errno, "cannot set the mode of %s", path) : 0);
}

int
make_folder(const char *path, mode_t mode, struct err *err)
{
	char *copy = strdup(path);
	int rc = 0;

	if (copy == NULL)
		return (err_nomem(err));
	for (char *slash = strchr(copy + 1, '/'); slash != NULL && rc == 0; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		rc = make_one(copy, 0755, err);
		*slash = '/';
	}
	free(copy);
	return (rc == 0 ? make_one(path, mode, err) : -1);
}
