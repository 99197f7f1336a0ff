/* A disk behind an NBD server on a unix socket: QEMU's export of a running guest's disk, or qemu-nbd's of an image (nbd proto.md). */
#include <errno.h>
#include <libnbd.h>
#include <stdlib.h>
#include <string.h>

#include "deadline.h"
#include "source.h"

#define DEADLINE_S	60		/* for any one answer */
#define POLL_MS		1000
#define PIECE		((size_t)512 << 10)	/* bytes asked for at once ... */
#define IN_FLIGHT	8u		/* ... and how many pieces, on each reader's connection */
#define STATE_DIRTY	1u		/* in a context qemu:dirty-bitmap:NAME (QEMU, docs/interop/nbd.txt) */
#define STATUS_STEP	((uint64_t)1 << 30)

struct nbd_source {
	struct source		 s;
	char			*socket, *export, *bitmap;	/* bitmap: NULL, or a metadata context */
	struct nbd_handle	*h;		/* for size and extents */
	uint64_t		 alignment;	/* what requests must be multiples of */
};

struct nbd_reader {
	struct source_reader	 r;
	struct nbd_handle	*h;
};

static const struct source_ops nbd_ops;

static struct nbd_source *
nbd_of(struct source *s)
{
	return ((struct nbd_source *)s);
}

static int
failed(const struct nbd_source *n, const char *doing, struct err *err)
{
	const char *why = nbd_get_error();

	return (err_set(err, 0, "cannot %s %s through %s: %s", doing, n->s.path, n->socket, why != NULL ? why : strerror(nbd_get_errno())));
}

/* One round of waiting.  Returns -1 when the deadline has passed, or the connection is dead. */
static int
wait_once(const struct nbd_source *n, struct nbd_handle *h, int64_t until, const char *doing, struct err *err)
{
	if (nbd_poll(h, POLL_MS) == -1)
		return (failed(n, doing, err));
	if (deadline_left(until) == 0)
		return (err_plain(err, ETIMEDOUT, "cannot %s %s through %s: no answer for %d s", doing, n->s.path, n->socket, DEADLINE_S));
	return (0);
}

static int
complete(const struct nbd_source *n, struct nbd_handle *h, int64_t cookie, const char *doing, struct err *err)
{
	int64_t until = deadline_now() + DEADLINE_S * 1000;
	int r;

	if (cookie == -1)
		return (failed(n, doing, err));
	while ((r = nbd_aio_command_completed(h, (uint64_t)cookie)) == 0)
		if (wait_once(n, h, until, doing, err) == -1)
			return (-1);
	return (r == -1 ? failed(n, doing, err) : 0);
}

static struct nbd_handle *
connect_to(const struct nbd_source *n, const char *context, struct err *err)
{
	int64_t until = deadline_now() + DEADLINE_S * 1000;
	struct nbd_handle *h = nbd_create();

	if (h == NULL || nbd_set_export_name(h, n->export) == -1 ||
	    (context != NULL && nbd_add_meta_context(h, context) == -1) || nbd_aio_connect_unix(h, n->socket) == -1)
		goto fail;
	while (!nbd_aio_is_ready(h)) {
		if (nbd_aio_is_dead(h) || nbd_aio_is_closed(h))
			goto fail;
		if (wait_once(n, h, until, "connect to", err) == -1) {
			nbd_close(h);
			return (NULL);
		}
	}
	return (h);
fail:
	failed(n, "connect to", err);
	nbd_close(h);
	return (NULL);
}

static int
look(struct nbd_source *n, struct err *err)
{
	int64_t size, alignment;

	if ((n->h = connect_to(n, LIBNBD_CONTEXT_BASE_ALLOCATION, err)) == NULL)
		return (-1);
	if ((size = nbd_get_size(n->h)) == -1 || (alignment = nbd_get_block_size(n->h, LIBNBD_SIZE_MINIMUM)) == -1)
		return (failed(n, "tell the size of", err));
	n->s.size = (uint64_t)size;
	n->alignment = alignment > 0 ? (uint64_t)alignment : 1;
	if ((n->alignment & (n->alignment - 1)) != 0 || n->alignment > PIECE)
		return (err_set(err, 0, "%s through %s: the server wants requests of %lld bytes", n->s.path, n->socket, (long long)alignment));
	return (0);
}

struct source *
source_nbd_open(const char *socket, const char *export, const char *bitmap, const char *path, struct err *err)
{
	struct nbd_source *n = calloc(1, sizeof(*n));

	if (n == NULL || (n->s.path = strdup(path)) == NULL || (n->socket = strdup(socket)) == NULL || (n->export = strdup(export)) == NULL) {
		if (n != NULL) {
			free(n->s.path);
			free(n->socket);
		}
		free(n);
		err_nomem(err);
		return (NULL);
	}
	n->s.ops = &nbd_ops;
	if (bitmap != NULL && (n->bitmap = strdup(bitmap)) == NULL) {
		err_nomem(err);
		source_close(&n->s);
		return (NULL);
	}
	if (look(n, err) == -1) {
		source_close(&n->s);
		return (NULL);
	}
	return (&n->s);
}

/* Extents as the server tells them, from where the last one ended. */
struct walk {
	const char	*context;
	bool		 bitmap;	/* a flag means dirty, not zero */
	uint64_t	 end, size;
	struct extents	*ex;
	struct err	*err;
	bool		 failed;
};

static int
on_extents(void *arg, const char *context, uint64_t offset, uint32_t *e, size_t n, int *error)
{
	struct walk *w = arg;
	uint64_t length;

	(void)error;
	if (strcmp(context, w->context) != 0 || offset != w->end)
		return (0);
	for (size_t i = 0; i + 1 < n && w->end < w->size && !w->failed; i += 2) {
		length = e[i] < w->size - w->end ? e[i] : w->size - w->end;
		/* What reads as zeroes is not stored, allocated or not. */
		if (((e[i + 1] & (w->bitmap ? STATE_DIRTY : LIBNBD_STATE_ZERO)) != 0) == w->bitmap && extents_add(w->ex, w->end, length, w->err) == -1)
			w->failed = true;
		w->end += length;
	}
	return (0);
}

static int
walk_extents(struct nbd_source *n, struct nbd_handle *h, struct walk *w, struct err *err)
{
	/* cppcheck-suppress legacyUninitvar ; it takes the initialiser for a use */
	nbd_extent_callback callback = { .callback = on_extents, .user_data = w };
	struct source *s = &n->s;
	uint64_t before, length;

	while (w->end < s->size) {
		before = w->end;
		length = s->size - w->end < STATUS_STEP ? s->size - w->end : STATUS_STEP;
		if (complete(n, h, nbd_aio_block_status(h, length, before, callback, NBD_NULL_COMPLETION, 0), "ask for the extents of", err) == -1)
			return (-1);
		if (w->failed)
			return (-1);
		if (w->end <= before)
			return (err_set(err, 0, "%s through %s: the server does not tell what is at offset %llu", s->path, n->socket,
			    (unsigned long long)before));
		if (s->tick != NULL && s->tick(s->tick_arg, 0, err) == -1)
			return (-1);
	}
	return (0);
}

/* What the bitmap has as dirty. */
static int
find_dirty(struct nbd_source *n, struct err *err)
{
	struct walk w = { .context = n->bitmap, .bitmap = true, .size = n->s.size, .err = err };
	struct nbd_handle *h = connect_to(n, n->bitmap, err);
	int rc = -1;

	if (h == NULL)
		return (-1);
	if (nbd_can_meta_context(h, n->bitmap) != 1)
		err_set(err, 0, "%s through %s: there is no bitmap %s", n->s.path, n->socket, n->bitmap);
	else if ((w.ex = n->s.dirty = extents_new(n->s.size, err)) != NULL && walk_extents(n, h, &w, err) == 0)
		rc = extents_end(n->s.dirty, err);
	nbd_close(h);
	return (rc);
}

static int
nbd_extents(struct source *s, struct extents *ex, struct err *err)
{
	struct nbd_source *n = nbd_of(s);
	struct walk w = { .context = LIBNBD_CONTEXT_BASE_ALLOCATION, .size = s->size, .ex = ex, .err = err };

	if (s->size == 0)
		return (0);
	if (n->bitmap != NULL && find_dirty(n, err) == -1)
		return (-1);
	if (nbd_can_meta_context(n->h, LIBNBD_CONTEXT_BASE_ALLOCATION) != 1)
		return (extents_add(ex, 0, s->size, err));
	return (walk_extents(n, n->h, &w, err));
}

static struct source_reader *
nbd_reader_new(struct source *s, struct err *err)
{
	struct nbd_reader *r = calloc(1, sizeof(*r));

	if (r == NULL) {
		err_nomem(err);
		return (NULL);
	}
	if ((r->h = connect_to(nbd_of(s), NULL, err)) == NULL) {
		free(r);
		return (NULL);
	}
	if ((uint64_t)nbd_get_size(r->h) != s->size) {
		err_set(err, 0, "%s through %s: its size changed while it was read", s->path, nbd_of(s)->socket);
		nbd_close(r->h);
		free(r);
		return (NULL);
	}
	return (&r->r);
}

static void
nbd_reader_free(struct source_reader *reader)
{
	struct nbd_reader *r = (struct nbd_reader *)reader;

	nbd_close(r->h);
	free(r);
}

/* ${offset} and ${n} as the server takes them. */
static int
read_aligned(struct nbd_reader *r, uint8_t *p, size_t n, uint64_t offset, struct err *err)
{
	const struct nbd_source *src = nbd_of(r->r.s);
	int64_t cookies[IN_FLIGHT];
	size_t asked = 0, given = 0, done = 0, len;
	int rc = 0;

	/* After a failure answers may still come, but libnbd takes them only when it is called, and for this connection it no longer is. */
	while (rc == 0 && (asked < n || done < given)) {
		for (; rc == 0 && asked < n && given - done < IN_FLIGHT; asked += len) {
			len = n - asked < PIECE ? n - asked : PIECE;
			cookies[given % IN_FLIGHT] = nbd_aio_pread(r->h, p + asked, len, offset + asked, NBD_NULL_COMPLETION, 0);
			if (cookies[given % IN_FLIGHT] == -1)
				rc = failed(src, "read", err);
			else
				given++;
		}
		if (rc == 0)
			rc = complete(src, r->h, cookies[done++ % IN_FLIGHT], "read", err);
	}
	return (rc);
}

static int
nbd_read(struct source_reader *reader, void *p, size_t n, uint64_t offset, struct err *err)
{
	struct nbd_reader *r = (struct nbd_reader *)reader;
	uint64_t a = nbd_of(reader->s)->alignment, begin = offset & ~(a - 1), end = (offset + n + a - 1) & ~(a - 1);
	uint8_t *wide;
	int rc;

	if (begin == offset && end == offset + n)
		return (read_aligned(r, p, n, offset, err));
	if ((wide = malloc((size_t)(end - begin))) == NULL)
		return (err_nomem(err));
	if ((rc = read_aligned(r, wide, (size_t)(end - begin), begin, err)) == 0)
		memcpy(p, wide + (offset - begin), n);
	free(wide);
	return (rc);
}

/* What a server exports does not change; whoever started it knows whether it was right. */
static int
nbd_settled(struct source *s, struct err *err)
{
	(void)s;
	(void)err;
	return (0);
}

static void
nbd_close_source(struct source *s)
{
	struct nbd_source *n = nbd_of(s);

	nbd_close(n->h);
	free(n->socket);
	free(n->export);
	free(n->bitmap);
	free(s->path);
	free(n);
}

static const struct source_ops nbd_ops = {
	.extents = nbd_extents, .reader_new = nbd_reader_new, .reader_free = nbd_reader_free, .read = nbd_read, .settled = nbd_settled,
	.close = nbd_close_source,
};
