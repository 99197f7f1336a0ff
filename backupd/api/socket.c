#include "socket.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "../state_dir.h"
#include "base/io.h"

#define BACKLOG		1024
#define TAKEN_MS	100		/* between two looks at a socket that somebody listens on */
#define TAKEN_LOOKS	20u
#define GROUP_BUFFER	65536u		/* bytes: of one entry of the group database */

int
api_group_find(const char *name, gid_t *out, struct err *err)
{
	char *memory = malloc(GROUP_BUFFER);
	struct group g, *found = NULL;
	int rc;

	if (memory == NULL)
		return (err_nomem(err));
	rc = getgrnam_r(name, &g, memory, GROUP_BUFFER, &found);
	if (found != NULL)
		*out = g.gr_gid;
	free(memory);
	if (found == NULL)
		return (err_set(err, rc, "there is no group \"%s\" for the API's socket: make it with groupadd, or configure another", name));
	return (0);
}

static int
unix_address(const char *path, struct sockaddr_un *sa, struct err *err)
{
	memset(sa, 0, sizeof(*sa));
	sa->sun_family = AF_UNIX;
	if (strlen(path) >= sizeof(sa->sun_path))
		return (err_set(err, 0, "%s: the path of a socket has %zu bytes at most", path, sizeof(sa->sun_path) - 1));
	memcpy(sa->sun_path, path, strlen(path) + 1);
	return (0);
}

/* Whether somebody listens at the path. */
static bool
is_answered(const struct sockaddr_un *sa)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool yes = fd != -1 && (connect(fd, (const struct sockaddr *)sa, sizeof(*sa)) == 0 || errno == EAGAIN);

	io_close(&fd);
	return (yes);
}

/* It gets its name when group and mode are set and it listens: nobody meets it half made, and a dead one is replaced. */
static int
publish_socket(struct api_socket *s, const char *temp, const char *path, struct err *err)
{
	struct sockaddr_un sa;
	struct stat st;

	if (unix_address(temp, &sa, err) == -1)
		return (-1);
	if (unlink(temp) == -1 && errno != ENOENT)
		return (err_set(err, errno, "cannot remove %s", temp));
	if (bind(s->fd, (const struct sockaddr *)&sa, sizeof(sa)) == -1)
		return (err_set(err, errno, "cannot make the socket %s", temp));
	if (chown(temp, (uid_t)-1, s->has_group ? s->group : (gid_t)-1) == -1 || chmod(temp, s->has_group ? 0660 : 0600) == -1 ||
	    listen(s->fd, BACKLOG) == -1 || lstat(temp, &st) == -1 || rename(temp, path) == -1) {
		err_set(err, errno, "cannot listen on %s", path);
		unlink(temp);
		return (-1);
	}
	s->own = true;
	s->dev = st.st_dev;
	s->ino = st.st_ino;
	return (0);
}

/* A daemon that was killed may have forked a moment before: the child has its socket until it runs another program. */
static bool
is_taken(const struct sockaddr_un *sa)
{
	const struct timespec pause = { .tv_nsec = TAKEN_MS * 1000000L };

	for (unsigned int looks = 0; looks < TAKEN_LOOKS; looks++) {
		if (!is_answered(sa))
			return (false);
		nanosleep(&pause, NULL);
	}
	return (true);
}

static int
make_socket(struct api_socket *s, const char *path, struct err *err)
{
	struct sockaddr_un sa;
	struct stat st;
	char *temp;
	int rc;

	if (unix_address(path, &sa, err) == -1)
		return (-1);
	if (lstat(path, &st) == 0 && !S_ISSOCK(st.st_mode))
		return (err_set(err, 0, "%s is there and no socket: remove it", path));
	if (is_taken(&sa))
		return (err_set(err, 0, "another daemon listens on %s", path));
	if (asprintf(&temp, "%s.%ld", path, (long)getpid()) == -1)
		return (err_nomem(err));
	if ((s->path = strdup(path)) == NULL)
		rc = err_nomem(err);
	else if ((s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) == -1)
		rc = err_set(err, errno, "cannot make the socket %s", path);
	else
		rc = publish_socket(s, temp, path, err);
	free(temp);
	return (rc);
}

/* The socket that systemd passes, whose file's group is the one to ask for: 1, 0 (there is none) or -1. */
static int
take_socket(struct api_socket *s, struct err *err)
{
	struct sockaddr_un sa = { .sun_family = AF_UNSPEC };
	socklen_t len = sizeof(sa);
	struct stat st;
	int n = sd_listen_fds(1);

	if (n <= 0)
		return (0);
	if (n > 1 || sd_is_socket_unix(SD_LISTEN_FDS_START, SOCK_STREAM, 1, NULL, 0) <= 0)
		return (err_set(err, 0, "systemd has to pass one listening unix stream socket for the API; it passed %d of some kind", n));
	s->fd = SD_LISTEN_FDS_START;
	if (fcntl(s->fd, F_SETFL, fcntl(s->fd, F_GETFL) | O_NONBLOCK) == -1)
		return (err_set(err, errno, "cannot use the socket that systemd passed"));
	if (getsockname(s->fd, (struct sockaddr *)&sa, &len) == 0 && sa.sun_path[0] == '/' && stat(sa.sun_path, &st) == 0) {
		if ((s->path = strdup(sa.sun_path)) == NULL)
			return (err_nomem(err));
		s->group = st.st_gid;
		s->has_group = st.st_gid != 0;
	}
	return (1);
}

/* The socket that systemd made is given to the group that the configuration names, so that it need not be named in the unit, too. */
static int
give_to_group(const struct api_socket *s, struct err *err)
{
	struct stat st;

	if (s->path == NULL || lstat(s->path, &st) == -1 || (st.st_gid == s->group && (st.st_mode & 0777) == 0660))
		return (0);
	if (!S_ISSOCK(st.st_mode) || chown(s->path, (uid_t)-1, s->group) == -1 || chmod(s->path, 0660) == -1)
		return (err_set(err, errno, "cannot give the socket %s to api_group: set SocketGroup= in virt-backupd.socket", s->path));
	return (0);
}

static int
make_default_socket(struct api_socket *s, struct err *err)
{
	char *path;
	int rc;

	if (asprintf(&path, "%s/%s", runtime_dir(), API_SOCKET) == -1)
		return (err_nomem(err));
	rc = make_folder(runtime_dir(), 0711, err) == -1 ? -1 : make_socket(s, path, err);
	free(path);
	return (rc);
}

int
api_socket_open(struct api_socket *s, const struct api_options *o, struct err *err)
{
	int rc = take_socket(s, err), passed = rc;

	if (rc != -1 && o->group != NULL) {
		rc = api_group_find(o->group, &s->group, err);
		s->has_group = true;
		if (rc != -1 && passed == 1)
			rc = give_to_group(s, err);
	}
	if (rc != -1 && passed == 0)
		rc = o->path != NULL ? make_socket(s, o->path, err) : make_default_socket(s, err);
	if (rc == -1)
		api_socket_close(s);
	return (rc == -1 ? -1 : 0);
}

void
api_socket_close(struct api_socket *s)
{
	struct stat st;

	io_close(&s->fd);
	if (s->own && lstat(s->path, &st) == 0 && st.st_dev == s->dev && st.st_ino == s->ino)
		unlink(s->path);
	s->own = false;
	free(s->path);
	s->path = NULL;
}
