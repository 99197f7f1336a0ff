/*
 * An NBD export: any nbd:// or nbd+unix:// URI, and qcow2 files by way of a qemu-nbd of our own.
 *
 * libnbd's synchronous calls wait for ever; its asynchronous ones are waited for here with a deadline.
 */
#include <errno.h>
#include <fcntl.h>
#include <libnbd.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/io.h"
#include "base/tool.h"
#include "partial.h"
#include "steady.h"
#include "target.h"

#define DEADLINE_S	60		/* for any one answer */
#define POLL_MS		1000
#define ZERO_STEP	((uint64_t)1 << 30)

struct nbd {
	struct target	 t;
	char		*name, *left;
	uint64_t	 size;
	bool		 can_zero;
	pthread_mutex_t	 lock;		/* guards h */
	struct nbd_handle *h;
	struct partial	 partial;	/* of a qcow2 file */
	int		 fd;		/* of it, unused, until it gets its name: it must be the same one then */
};

static const struct target_ops nbd_ops, qcow2_ops;

static struct nbd *
nbd_of(struct target *t)
{
	return ((struct nbd *)t);
}

static int
failed(const struct nbd *n, const char *doing, struct err *err)
{
	int code = nbd_get_errno();

	return (err_set(err, 0, "cannot %s %s: %s%s%s", doing, n->name, nbd_get_error() != NULL ? nbd_get_error() : strerror(code),
	    n->left != NULL ? ": " : "", n->left != NULL ? n->left : ""));
}

/* One round of waiting.  Returns -1 when the deadline has passed, or the connection is dead. */
static int
wait_once(struct nbd *n, time_t until, const char *doing, struct err *err)
{
	if (nbd_poll(n->h, POLL_MS) == -1)
		return (failed(n, doing, err));
	if (steady_seconds() > until)
		return (err_plain(err, ETIMEDOUT, "cannot %s %s: no answer for %d s", doing, n->name, DEADLINE_S));
	return (0);
}

/* Wait for one command.  With the lock held. */
static int
complete(struct nbd *n, int64_t cookie, const char *doing, struct err *err)
{
	time_t until = steady_seconds() + DEADLINE_S;
	int r;

	if (cookie == -1)
		return (failed(n, doing, err));
	while ((r = nbd_aio_command_completed(n->h, (uint64_t)cookie)) == 0)
		if (wait_once(n, until, doing, err) == -1)
			return (-1);
	return (r == -1 ? failed(n, doing, err) : 0);
}

static int
wait_connected(struct nbd *n, int started, struct err *err)
{
	time_t until = steady_seconds() + DEADLINE_S;

	if (started == -1)
		return (failed(n, "connect to", err));
	while (!nbd_aio_is_ready(n->h)) {
		if (nbd_aio_is_dead(n->h) || nbd_aio_is_closed(n->h))
			return (failed(n, "connect to", err));
		if (wait_once(n, until, "connect to", err) == -1)
			return (-1);
	}
	return (0);
}

static struct nbd *
nbd_new(const struct target_ops *target_ops, const char *name, uint64_t size, struct err *err)
{
	struct nbd *n = calloc(1, sizeof(*n));

	if (n == NULL || (n->name = strdup(name)) == NULL) {
		free(n);
		err_nomem(err);
		return (NULL);
	}
	pthread_mutex_init(&n->lock, NULL);
	n->t.ops = target_ops;
	n->fd = -1;
	n->size = size;
	if ((n->h = nbd_create()) == NULL || nbd_add_meta_context(n->h, LIBNBD_CONTEXT_BASE_ALLOCATION) == -1 ||
	    nbd_set_uri_allow_local_file(n->h, false) == -1) {
		failed(n, "prepare for", err);
		target_close(&n->t);
		return (NULL);
	}
	return (n);
}

/* How far an export is known to be zero, from its beginning. */
struct zero_check {
	uint64_t	 end;
	bool		 data;		/* something in it is not known to be zero */
};

static int
on_extents(void *arg, const char *context, uint64_t offset, uint32_t *e, size_t n, int *error)
{
	struct zero_check *z = arg;

	(void)error;
	if (strcmp(context, LIBNBD_CONTEXT_BASE_ALLOCATION) != 0 || offset != z->end)
		return (0);
	for (size_t i = 0; i + 1 < n; i += 2) {
		z->end += e[i];
		z->data = z->data || (e[i + 1] & LIBNBD_STATE_ZERO) == 0;
	}
	return (0);
}

static int
is_all_zero(struct nbd *n, bool *zero, struct err *err)
{
	struct zero_check z = { 0, false };
	/* cppcheck-suppress legacyUninitvar ; it takes the initialiser for a use */
	nbd_extent_callback callback = { .callback = on_extents, .user_data = &z };
	uint64_t before, length;

	*zero = false;
	if (nbd_can_meta_context(n->h, LIBNBD_CONTEXT_BASE_ALLOCATION) != 1)
		return (0);
	while (z.end < n->size && !z.data) {
		before = z.end;
		length = n->size - z.end < ZERO_STEP ? n->size - z.end : ZERO_STEP;
		if (complete(n, nbd_aio_block_status(n->h, length, before, callback, NBD_NULL_COMPLETION, 0), "ask for the holes of", err) == -1)
			return (-1);
		if (z.end <= before)
			return (0);
	}
	*zero = !z.data;
	return (0);
}

static int
check_export(struct nbd *n, bool force, struct err *err)
{
	int64_t room = nbd_get_size(n->h);
	int r;

	if (room == -1)
		return (failed(n, "tell the size of", err));
	if ((uint64_t)room < n->size)
		return (err_plain(err, ENOSPC, "%s has %lld bytes, the disk has %llu", n->name, (long long)room, (unsigned long long)n->size));
	if ((r = nbd_is_read_only(n->h)) != 0)
		return (r == -1 ? failed(n, "ask about", err) : err_set(err, EROFS, "%s", n->name));
	n->can_zero = nbd_can_zero(n->h) == 1;
	if (is_all_zero(n, &n->t.zeroes, err) == -1)
		return (-1);
	if (!n->t.zeroes && !force)
		return (err_plain(err, EEXIST, "%s is not empty, or its server cannot tell: use --force to overwrite it", n->name));
	return (0);
}

struct target *
target_nbd_open(const char *uri, uint64_t size, bool force, struct err *err)
{
	struct nbd *n = nbd_new(&nbd_ops, uri, size, err);

	if (n == NULL)
		return (NULL);
	if (wait_connected(n, nbd_aio_connect_uri(n->h, uri), err) == -1 || check_export(n, force, err) == -1)
		goto fail;
	if (asprintf(&n->left, "%s holds part of the disk, and part of what it held before", uri) == -1) {
		n->left = NULL;
		err_nomem(err);
		goto fail;
	}
	n->t.left = n->left;
	n->t.keeps = true;
	return (&n->t);
fail:
	target_close(&n->t);
	return (NULL);
}

static int
nbd_write(struct target *t, uint64_t offset, const void *p, size_t len, struct err *err)
{
	struct nbd *n = nbd_of(t);
	int rc;

	pthread_mutex_lock(&n->lock);
	rc = complete(n, nbd_aio_pwrite(n->h, p, len, offset, NBD_NULL_COMPLETION, 0), "write to", err);
	pthread_mutex_unlock(&n->lock);
	return (rc);
}

static int
nbd_zero_range(struct target *t, uint64_t offset, uint64_t length, struct err *err)
{
	static const uint8_t zeroes[65536];
	struct nbd *n = nbd_of(t);
	uint64_t step;
	int rc = 0;

	for (; length > 0 && rc == 0; offset += step, length -= step) {
		if (!n->can_zero) {
			step = length < sizeof(zeroes) ? length : sizeof(zeroes);
			rc = nbd_write(t, offset, zeroes, (size_t)step, err);
			continue;
		}
		step = length < ZERO_STEP ? length : ZERO_STEP;
		pthread_mutex_lock(&n->lock);
		rc = complete(n, nbd_aio_zero(n->h, step, offset, NBD_NULL_COMPLETION, 0), "zero", err);
		pthread_mutex_unlock(&n->lock);
	}
	return (rc);
}

/* Everything on the server's disk, and a polite end: qemu-nbd then closes its image cleanly. */
static int
finish(struct nbd *n, struct err *err)
{
	time_t until = steady_seconds() + DEADLINE_S;

	if (nbd_can_flush(n->h) == 1 && complete(n, nbd_aio_flush(n->h, NBD_NULL_COMPLETION, 0), "flush", err) == -1)
		return (-1);
	if (nbd_aio_disconnect(n->h, 0) == -1)
		return (failed(n, "disconnect from", err));
	while (!nbd_aio_is_closed(n->h) && !nbd_aio_is_dead(n->h))
		if (wait_once(n, until, "disconnect from", err) == -1)
			return (-1);
	return (0);
}

static int
nbd_flush_target(struct target *t, struct err *err)
{
	return (finish(nbd_of(t), err));
}

static void
nbd_close_target(struct target *t)
{
	struct nbd *n = nbd_of(t);

	/* Of a server that was started for us, this also waits for its end (nbd_connect_systemd_socket_activation(3)). */
	nbd_close(n->h);
	io_close(&n->fd);
	partial_end(&n->partial);
	pthread_mutex_destroy(&n->lock);
	free(n->name);
	free(n->left);
	free(n);
}

static const struct target_ops nbd_ops = { .write = nbd_write, .zero = nbd_zero_range, .flush = nbd_flush_target, .close = nbd_close_target };

/*
 * Subclusters of 4 KiB (extended L2 entries, QEMU 5.2): a restored image then takes no more space than its source, however scattered its
 * data is; with whole clusters of 64 KiB, 100,000 extents of 4 KiB would take sixteen times as much.
 */
static int
create_qcow2(const struct nbd *n, const char *file, struct err *err)
{
	char size[32];
	const char *argv[] = { "qemu-img", "create", "-q", "-f", "qcow2", "-o", "extended_l2=on,cluster_size=128k", file, size, NULL };

	snprintf(size, sizeof(size), "%llu", (unsigned long long)n->size);
	return (tool_run(argv, "package qemu-utils", TOOL_SECONDS, NULL, err));
}

static int
open_qcow2(struct nbd *n, const char *path, bool force, struct err *err)
{
	const char *argv[] = { "qemu-nbd", "--image-opts", NULL, NULL };
	struct buf image = BUF_INIT, file = BUF_INIT;
	int rc = -1;

	if (partial_begin(&n->partial, path, force, err) == -1 || (n->fd = partial_create(&n->partial, err)) == -1)
		return (-1);
	n->t.left = n->partial.left;
	/* What begins with a folder is neither an option nor a protocol to it. */
	if (buf_addf(&file, err, "%s%s", n->partial.temporary[0] == '/' ? "" : "./", n->partial.temporary) == -1 ||
	    create_qcow2(n, file.ptr, err) == -1 || tool_image_option(&image, "driver=qcow2,discard=unmap,file.driver=file,file.filename=",
	    file.ptr, err) == -1)
		goto out;
	argv[2] = image.ptr;
	if (wait_connected(n, nbd_aio_connect_systemd_socket_activation(n->h, (char **)(uintptr_t)argv), err) == -1) {
		err_wrap(err, "qemu-nbd (package qemu-utils) did not start");
		goto out;
	}
	rc = check_export(n, true, err);
	n->t.zeroes = true;
out:
	buf_free(&image);
	buf_free(&file);
	return (rc);
}

struct target *
target_qcow2_open(const char *path, uint64_t size, bool force, struct err *err)
{
	struct nbd *n = nbd_new(&qcow2_ops, path, size, err);

	if (n == NULL)
		return (NULL);
	if (open_qcow2(n, path, force, err) == 0)
		return (&n->t);
	target_close(&n->t);
	return (NULL);
}

/* qemu-nbd must have closed the image before it gets its name. */
static int
qcow2_flush(struct target *t, struct err *err)
{
	struct nbd *n = nbd_of(t);

	if (finish(n, err) == -1)
		return (-1);
	nbd_close(n->h);
	n->h = NULL;
	return (0);
}

static int
qcow2_commit(struct target *t, struct err *err)
{
	struct nbd *n = nbd_of(t);

	return (partial_publish(&n->partial, n->fd, err));
}

static const struct target_ops qcow2_ops = { .write = nbd_write, .zero = nbd_zero_range, .flush = qcow2_flush, .commit = qcow2_commit, .close = nbd_close_target };
