#include "sftp_ahead.h"

#include <stdlib.h>
#include <string.h>

#define GAP	((uint64_t)1 << 20)	/* bytes that may be left out, and it is still in order: what is not needed, or another thread's */

void
ahead_init(struct sftp_ahead *a)
{
	memset(a, 0, sizeof(*a));
	pthread_mutex_init(&a->lock, NULL);
	pthread_cond_init(&a->filled, NULL);
}

void
ahead_free(struct sftp_ahead *a)
{
	for (int i = 0; i < AHEAD_PLACES; i++)
		free(a->places[i].buf);
	pthread_cond_destroy(&a->filled);
	pthread_mutex_destroy(&a->lock);
}

static struct ahead_place *
find(struct sftp_ahead *a, const void *file, uint64_t offset)
{
	for (int i = 0; i < AHEAD_PLACES; i++)
		if (a->places[i].file == file && offset >= a->places[i].offset && offset - a->places[i].offset < a->places[i].want)
			return (&a->places[i]);
	return (NULL);
}

/* The place that was used longest ago, or NULL when all are being filled, or there is no memory for one. */
static struct ahead_place *
oldest(struct sftp_ahead *a)
{
	struct ahead_place *old = NULL;

	for (int i = 0; i < AHEAD_PLACES; i++)
		if (!a->places[i].filling && (old == NULL || a->places[i].used < old->used))
			old = &a->places[i];
	if (old != NULL && old->buf == NULL && (old->buf = malloc(AHEAD_WINDOW)) == NULL)
		return (NULL);
	return (old);
}

/* How much to ask for at ${offset}, where ${n} bytes are wanted. */
static size_t
look_ahead(struct ahead_file *af, uint64_t size, size_t n, uint64_t offset)
{
	uint64_t want = n;

	if (offset < af->front || offset - af->front > GAP)
		return (n);
	if (af->run > want)
		want = af->run < AHEAD_WINDOW ? af->run : AHEAD_WINDOW;
	return (want < size - offset ? (size_t)want : (size_t)(size - offset));
}

static void
note_read(struct ahead_file *af, size_t n, uint64_t offset)
{
	if (offset + n + GAP < af->front || (offset > af->front && offset - af->front > GAP))
		af->run = 0;
	else
		af->run += n;
	/* Reading that begins anew somewhere before is in order from there. */
	if (af->run == 0 || offset + n > af->front)
		af->front = offset + n;
}

/* Fill a place, without the lock meanwhile. */
static int
fill(struct sftp_ahead *a, struct ahead_place *pl, void *file, ahead_fetch *fetch, size_t want, uint64_t offset, struct err *err)
{
	long got;

	pl->file = file;
	pl->offset = offset;
	pl->want = want;
	pl->filling = true;
	pthread_mutex_unlock(&a->lock);
	got = fetch(file, pl->buf, want, offset, err);
	pthread_mutex_lock(&a->lock);
	pl->filling = false;
	pl->n = got > 0 ? (size_t)got : 0;
	if (got <= 0)
		pl->file = NULL;
	pl->used = ++a->clock;
	pthread_cond_broadcast(&a->filled);
	return (got < 0 ? -1 : 0);
}

long
ahead_read(struct sftp_ahead *a, struct ahead_file *af, void *file, uint64_t size, ahead_fetch *fetch, void *p, size_t n, uint64_t offset,
    struct err *err)
{
	struct ahead_place *pl;
	size_t done = 0, part, want;
	long got = 0;

	if (offset >= size)
		return (0);
	n = n < size - offset ? n : (size_t)(size - offset);
	pthread_mutex_lock(&a->lock);
	while (done < n) {
		if ((pl = find(a, file, offset + done)) != NULL && pl->filling) {
			pthread_cond_wait(&a->filled, &a->lock);
			continue;
		}
		if (pl != NULL && offset + done - pl->offset < pl->n) {
			part = pl->n - (size_t)(offset + done - pl->offset);
			part = part < n - done ? part : n - done;
			memcpy((char *)p + done, pl->buf + (offset + done - pl->offset), part);
			pl->used = ++a->clock;
			done += part;
			continue;
		}
		/* A file that ends before its size is read as far as it goes. */
		if (pl == NULL && (want = look_ahead(af, size, n - done, offset + done)) > n - done && want <= AHEAD_WINDOW && (pl = oldest(a)) != NULL) {
			if ((got = fill(a, pl, file, fetch, want, offset + done, err)) == -1)
				break;
			if (pl->file == file && pl->offset == offset + done)
				continue;
		}
		pthread_mutex_unlock(&a->lock);
		got = fetch(file, (char *)p + done, n - done, offset + done, err);
		pthread_mutex_lock(&a->lock);
		if (got > 0)
			done += (size_t)got;
		break;
	}
	if (got >= 0)
		note_read(af, done, offset);
	pthread_mutex_unlock(&a->lock);
	return (got < 0 ? -1 : (long)done);
}

void
ahead_forget(struct sftp_ahead *a, const void *file)
{
	pthread_mutex_lock(&a->lock);
	for (int i = 0; i < AHEAD_PLACES; i++)
		if (a->places[i].file == file)
			a->places[i].file = NULL;
	pthread_mutex_unlock(&a->lock);
}
