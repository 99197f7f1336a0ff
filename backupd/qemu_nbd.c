#include "qemu_nbd.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/document.h"
#include "base/tool.h"
#include "deadline.h"

#define STOP_SECONDS	10
#define SHARED		"--shared=8"	/* clients at a time */
#define HINT		"package qemu-utils"

extern char **environ;

struct qemu_nbd {
	pid_t	pid;
	char	socket[sizeof(((struct sockaddr_un *)0)->sun_path)];
	char	bitmap[300];		/* metadata context; empty: none */
};

/* Whether the image says that it has the bitmap, that it was closed properly, and that it notes every write. */
static bool
has_bitmap(const json_t *image, const char *name)
{
	const json_t *list = json_object_get(json_object_get(json_object_get(image, "format-specific"), "data"), "bitmaps"), *b, *flag;
	const char *text;
	bool in_use = false, automatic = false;
	size_t i, k;

	json_array_foreach(list, i, b) {
		if ((text = json_string_value(json_object_get(b, "name"))) == NULL || strcmp(text, name) != 0)
			continue;
		json_array_foreach(json_object_get(b, "flags"), k, flag) {
			text = json_string_value(flag);
			in_use = in_use || text == NULL || strcmp(text, "in-use") == 0;
			automatic = automatic || (text != NULL && strcmp(text, "auto") == 0);
		}
		return (automatic && !in_use);
	}
	return (false);
}

/* An image whose backing file would be probed, or what is none: -1. */
static int
look_at_backing(const char *path, const json_t *image, struct err *err)
{
	const char *name = json_string_value(json_object_get(image, "filename"));

	if (!json_is_object(image))
		return (err_set(err, 0, "qemu-img info of %s: it does not describe an image", path));
	if (json_object_get(image, "backing-filename") != NULL && !json_is_string(json_object_get(image, "backing-filename-format")))
		return (err_set(err, 0, "%s does not say which format its backing file has: tell it with qemu-img rebase -u -F FORMAT",
		    name != NULL ? name : path));
	return (0);
}

/*
 * QEMU finds the backing files by what the image says.  One that does not say its format would be probed, and a guest could have written it.
 * *${bitmap} becomes NULL when the image has none of that name that can be trusted.
 */
static int
look_at_image(const char *path, const char *format, const char **bitmap, struct err *err)
{
	const char *argv[] = { "qemu-img", "info", "--force-share", "--backing-chain", "--output=json", "-f", format, "--", path, NULL };
	struct buf out = BUF_INIT;
	json_t *chain = NULL, *image;
	json_error_t why;
	size_t i;
	int rc = -1;

	if (tool_run(argv, HINT, TOOL_SECONDS, &out, err) == -1)
		goto out;
	if ((chain = json_loadb(out.ptr, out.len, 0, &why)) == NULL || json_array_size(chain) == 0) {
		err_set(err, 0, "qemu-img info of %s: %s", path, chain == NULL ? why.text : "it describes no image");
		goto out;
	}
	rc = 0;
	json_array_foreach(chain, i, image)
		if (rc == 0)
			rc = look_at_backing(path, image, err);
	if (*bitmap != NULL && !has_bitmap(json_array_get(chain, 0), *bitmap))
		*bitmap = NULL;
out:
	json_decref(chain);
	buf_free(&out);
	return (rc);
}

static int
iscsi_options(const struct domain_disk *d, struct buf *o, struct err *err)
{
	const char *lun = d->name != NULL ? strrchr(d->name, '/') : NULL;
	char target[256];

	if (d->host == NULL || lun == NULL || (size_t)(lun - d->name) >= sizeof(target))
		return (err_set(err, 0, "disk %s: \"%s\" on iSCSI is not TARGET/LUN", d->target, d->name != NULL ? d->name : ""));
	snprintf(target, sizeof(target), "%.*s", (int)(lun - d->name), d->name);
	if (tool_image_option(o, ",file.driver=iscsi,file.transport=tcp,file.portal=", d->host, err) == -1 ||
	    tool_image_option(o, ":", d->port != NULL ? d->port : "3260", err) == -1 ||
	    tool_image_option(o, ",file.target=", target, err) == -1 || tool_image_option(o, ",file.lun=", lun + 1, err) == -1)
		return (-1);
	return (0);
}

static int
image_options(const struct domain_disk *d, const char *path, const char **bitmap, struct buf *o, struct err *err)
{
	bool block = strcmp(d->type, "block") == 0;

	if (tool_image_option(o, "force-share=on,read-only=on,driver=", d->format, err) == -1)
		return (-1);
	if (strcmp(d->format, "raw") == 0 || path != NULL || strcmp(d->type, "network") == 0)
		*bitmap = NULL;
	if (path == NULL && strcmp(d->type, "network") == 0) {
		if (strcmp(d->protocol, "iscsi") == 0)
			return (iscsi_options(d, o, err));
		return (err_set(err, 0, "disk %s is on %s, which is read only while the guest runs: start it, or exclude the disk", d->target, d->protocol));
	}
	if (path == NULL)
		path = d->source;
	if (strcmp(d->format, "raw") != 0 && look_at_image(path, d->format, bitmap, err) == -1)
		return (-1);
	return (tool_image_option(o, block ? ",file.driver=host_device,file.filename=" : ",file.driver=file,file.filename=", path, err));
}

static int
listen_on(struct qemu_nbd *q, const char *folder, const char *name, struct err *err)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd;

	if ((size_t)snprintf(un.sun_path, sizeof(un.sun_path), "%s/%s.sock", folder, name) >= sizeof(un.sun_path))
		return (err_set(err, ENAMETOOLONG, "%s/%s.sock as a socket", folder, name));
	if ((fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) == -1 || bind(fd, (struct sockaddr *)&un, sizeof(un)) == -1 || listen(fd, 16) == -1) {
		err_set(err, errno, "cannot listen on %s", un.sun_path);
		if (fd != -1)
			close(fd);
		return (-1);
	}
	memcpy(q->socket, un.sun_path, sizeof(q->socket));
	return (fd);
}

/* In the child, which shares memory with threads that hold locks: async-signal-safe calls only. */
static void
become(const char *const *argv, char **env, char *listen_pid, int fd, pid_t parent)
{
	unsigned long n = (unsigned long)getpid();
	char digits[24];
	size_t len = 0;

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(1);
	do {
		digits[len++] = (char)('0' + n % 10);
		n /= 10;
	} while (n > 0);
	for (size_t i = 0; i < len; i++)
		listen_pid[i] = digits[len - 1 - i];
	listen_pid[len] = '\0';
	if (fd == 3)
		fcntl(fd, F_SETFD, 0);
	else if (dup2(fd, 3) == -1)
		_exit(1);
	/* A signal of the terminal is for us: we end it when its image was read. */
	setpgid(0, 0);
	execvpe(argv[0], (char **)(uintptr_t)argv, env);
	_exit(127);
}

/* Socket activation (sd_listen_fds(3)): connections are taken from the first moment on, and nobody needs to wait for the server. */
static int
spawn(struct qemu_nbd *q, const char *options, const char *bitmap, int fd, struct err *err)
{
	const char *argv[] = { "qemu-nbd", "--persistent", SHARED, "--read-only", "--image-opts", options, bitmap != NULL ? "--bitmap" : NULL,
		bitmap, NULL };
	char listen_pid[48] = "LISTEN_PID=", listen_fds[] = "LISTEN_FDS=1";
	pid_t parent = getpid();
	char **env;
	size_t n = 0, used = 0;

	while (environ[n] != NULL)
		n++;
	if ((env = calloc(n + 3, sizeof(*env))) == NULL)
		return (err_nomem(err));
	for (size_t i = 0; i < n; i++)
		if (strncmp(environ[i], "LISTEN_", 7) != 0)
			env[used++] = environ[i];
	env[used++] = listen_pid;
	env[used] = listen_fds;
	if ((q->pid = fork()) == 0)
		become(argv, env, listen_pid + strlen("LISTEN_PID="), fd, parent);
	free(env);
	return (q->pid == -1 ? err_set(err, errno, "cannot start qemu-nbd (package qemu-utils)") : 0);
}

struct qemu_nbd *
qemu_nbd_start(const struct domain_disk *d, const char *path, const char *bitmap, const char *folder, struct err *err)
{
	struct qemu_nbd *q = calloc(1, sizeof(*q));
	struct buf options = BUF_INIT;
	int fd = -1, rc = -1;

	if (q == NULL) {
		err_nomem(err);
		return (NULL);
	}
	q->pid = -1;
	if (image_options(d, path, &bitmap, &options, err) == 0 && (fd = listen_on(q, folder, d->target, err)) != -1)
		rc = spawn(q, options.ptr, bitmap, fd, err);
	if (bitmap != NULL)
		snprintf(q->bitmap, sizeof(q->bitmap), "qemu:dirty-bitmap:%s", bitmap);
	if (fd != -1)
		close(fd);
	buf_free(&options);
	if (rc == 0)
		return (q);
	qemu_nbd_stop(q);
	return (NULL);
}

const char *
qemu_nbd_socket(const struct qemu_nbd *q)
{
	return (q->socket);
}

const char *
qemu_nbd_bitmap(const struct qemu_nbd *q)
{
	return (q->bitmap[0] != '\0' ? q->bitmap : NULL);
}

void
qemu_nbd_stop(struct qemu_nbd *q)
{
	if (q == NULL)
		return;
	if (q->pid > 0) {
		kill(q->pid, SIGTERM);
		for (int i = 0; i < STOP_SECONDS * 100 && waitpid(q->pid, NULL, WNOHANG) == 0; i++) {
			deadline_nap(10);
			if (i == STOP_SECONDS * 100 - 100)
				kill(q->pid, SIGKILL);
		}
	}
	if (q->socket[0] != '\0')
		unlink(q->socket);
	free(q);
}
