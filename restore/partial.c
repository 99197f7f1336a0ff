#include "partial.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/pagecache.h"
#include "repository/manifest.h"
#include "repository/repo.h"

/* A point's archive that is overwritten is lost, with all points that need it: that is never meant, --force or not. */
static int
check_outside(const char *path, struct err *err)
{
	static const char *const marks[] = { MANIFEST_NAME, PRUNED_NAME };
	const char *name = strrchr(path, '/');
	int n = name != NULL ? (int)(name - path) + 1 : 0;
	char file[PATH_MAX];

	snprintf(file, sizeof(file), "%.*s../../%s", n, path, REPOSITORY_NAME);
	if (access(file, F_OK) == -1)
		return (0);
	for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++) {
		snprintf(file, sizeof(file), "%.*s%s", n, path, marks[i]);
		if (access(file, F_OK) == 0)
			return (err_set(err, 0, "%s would lie in a restore point of a repository: choose another place", path));
	}
	return (0);
}

int
partial_check(const char *path, bool force, struct err *err)
{
	struct stat sb;

	if (check_outside(path, err) == -1)
		return (-1);
	if (lstat(path, &sb) == -1)
		return (errno == ENOENT ? 0 : err_set(err, errno, "cannot look at %s", path));
	if (!S_ISREG(sb.st_mode))
		return (err_set(err, 0, "%s exists and is not a regular file: choose another name", path));
	if (!force)
		return (err_plain(err, EEXIST, "%s exists: choose another name, or --force to replace it", path));
	return (0);
}

int
partial_begin(struct partial *p, const char *path, bool force, struct err *err)
{
	*p = (struct partial)PARTIAL_INIT;
	p->force = force;
	if (path[0] == '\0')
		return (err_set(err, 0, "\"%s\" is no name for a file: say where to write to", path));
	if ((p->path = strdup(path)) == NULL || asprintf(&p->temporary, "%s.partial", path) == -1) {
		p->temporary = NULL;
		return (err_nomem(err));
	}
	if (asprintf(&p->left, "%s is left unfinished, and may be removed", p->temporary) == -1) {
		p->left = NULL;
		return (err_nomem(err));
	}
	return (partial_check(path, force, err));
}

int
partial_create(struct partial *p, struct err *err)
{
	struct stat sb;
	int fd;

	if (p->force)
		unlink(p->temporary);
	if ((fd = open(p->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600)) == -1) {
		if (errno == EEXIST)
			return (err_plain(err, EEXIST, "%s: left by an interrupted restore, or another one is under way: remove it, or use --force",
			    p->temporary));
		return (err_set(err, errno, "cannot make %s%s", p->temporary, errno == ENOENT ? " (the folder that it is in must be there)" : ""));
	}
	if (fstat(fd, &sb) == -1) {
		err_set(err, errno, "cannot look at %s", p->temporary);
		unlink(p->temporary);
		io_close(&fd);
		return (-1);
	}
	p->made = true;
	p->dev = sb.st_dev;
	p->ino = sb.st_ino;
	return (fd);
}

/* Another restore to the same file, with --force, takes away what it finds, and makes its own. */
static bool
is_ours(const struct partial *p)
{
	struct stat sb;

	return (p->made && lstat(p->temporary, &sb) == 0 && sb.st_dev == p->dev && sb.st_ino == p->ino);
}

static int
sync_folder(const struct partial *p, struct err *err)
{
	char *copy = strdup(p->path);
	const char *dir;
	int fd, rc = 0;

	if (copy == NULL)
		return (err_nomem(err));
	dir = dirname(copy);
	if ((fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) == -1 || fsync(fd) == -1)
		rc = err_set(err, errno, "cannot make the folder %s durable", dir);
	io_close(&fd);
	free(copy);
	return (rc);
}

/* A plain rename() would replace a file that came meanwhile. */
static int
give_name(struct partial *p, struct err *err)
{
	int r;

	if (!is_ours(p))
		return (err_set(err, 0, "%s was taken away: another restore to %s, with --force, is under way", p->temporary, p->path));
	r = renameat2(AT_FDCWD, p->temporary, AT_FDCWD, p->path, p->force ? 0 : RENAME_NOREPLACE);
	if (r == -1 && (errno == EINVAL || errno == ENOSYS)) {
		if (partial_check(p->path, p->force, err) == -1)
			return (-1);
		r = rename(p->temporary, p->path);
	}
	if (r == -1)
		return (err_set(err, errno, "cannot rename %s to %s", p->temporary, p->path));
	p->made = false;
	return (0);
}

int
partial_publish(struct partial *p, int fd, struct err *err)
{
	if (fsync(fd) == -1)
		return (err_set(err, errno, "cannot make %s durable", p->temporary));
	pagecache_drop(fd);
	if (give_name(p, err) == -1)
		return (-1);
	return (sync_folder(p, err));
}

void
partial_end(struct partial *p)
{
	if (is_ours(p))
		unlink(p->temporary);
	free(p->path);
	free(p->temporary);
	free(p->left);
	*p = (struct partial)PARTIAL_INIT;
}
