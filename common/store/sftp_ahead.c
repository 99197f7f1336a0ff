#include "store/sftp_ahead.h"

#include <stdlib.h>
#include <string.h>

#include "base/thread.h"

#define GAP	((uint64_t)1 << 20)	/* bytes that may be left out, and it is still in order: what is not needed, or another thread's */
#define STALE	4096u			/* reads later, nobody will want it any more */

void
ahead_init(struct sftp_ahead *a, ahead_fetch *fetch)
{
	memset(a, 0, sizeof(*a));
	a->fetch = fetch;
	pthread_mutex_init(&a->lock, NULL);
	pthread_cond_init(&a->changed, NULL);
}

void
ahead_free(struct sftp_ahead *a)
{
	pthread_mutex_lock(&a->lock);
	a->stop = true;
	pthread_cond_broadcast(&a->changed);
	pthread_mutex_unlock(&a->lock);
	for (unsigned int i = 0; i < a->nthreads; i++)
		pthread_join(a->threads[i], NULL);
	for (int i = 0; i < AHEAD_PLACES; i++)
		free(a->places[i].buf);
	pthread_cond_destroy(&a->changed);
	pthread_mutex_destroy(&a->lock);
}

static struct ahead_place *
find(struct sftp_ahead *a, const void *file, uint64_t offset)
{
	struct ahead_place *pl;

	for (pl = a->places; pl < a->places + AHEAD_PLACES; pl++)
		if (pl->state != AHEAD_EMPTY && pl->file == file && offset >= pl->offset && offset - pl->offset < pl->want)
			return (pl);
	return (NULL);
}

/* The place that was asked for first, of those that nobody fills yet. */
static struct ahead_place *
first_asked(struct sftp_ahead *a)
{
	struct ahead_place *pl, *first = NULL;

	for (pl = a->places; pl < a->places + AHEAD_PLACES; pl++)
		if (pl->state == AHEAD_ASKED && (first == NULL || pl->used < first->used))
			first = pl;
	return (first);
}

/* With the lock, which is given up meanwhile. */
static void
fill(struct sftp_ahead *a, struct ahead_place *pl)
{
	struct err ignored = ERR_INIT;	/* whoever wants it reads it himself then */
	long got;

	pl->state = AHEAD_FILLING;
	pthread_mutex_unlock(&a->lock);
	got = a->fetch(pl->file, pl->buf, pl->want, pl->offset, &ignored);
	pthread_mutex_lock(&a->lock);
	pl->state = got > 0 ? AHEAD_FULL : AHEAD_EMPTY;
	pl->n = got > 0 ? (size_t)got : 0;
	pl->af->failed |= got <= 0;
	pthread_cond_broadcast(&a->changed);
}

static void *
fill_main(void *arg)
{
	struct sftp_ahead *a = arg;
	struct ahead_place *pl;

	pthread_mutex_lock(&a->lock);
	while (!a->stop) {
		if ((pl = first_asked(a)) != NULL) {
			fill(a, pl);
			continue;
		}
		a->idle++;
		pthread_cond_wait(&a->changed, &a->lock);
		a->idle--;
	}
	pthread_mutex_unlock(&a->lock);
	return (NULL);
}

/* A thread for what is asked for.  Without any, nothing is. */
static bool
have_thread(struct sftp_ahead *a)
{
	struct err ignored = ERR_INIT;

	if (a->idle == 0 && a->nthreads < AHEAD_THREADS && thread_start(&a->threads[a->nthreads], fill_main, a, &ignored) == 0)
		a->nthreads++;
	return (a->nthreads > 0);
}

static bool
is_done_with(const struct sftp_ahead *a, const struct ahead_place *pl)
{
	return (pl->state == AHEAD_EMPTY || (pl->state == AHEAD_FULL && (pl->read >= pl->n || a->clock - pl->used > STALE ||
	    pl->offset + pl->want + GAP < pl->af->front)));
}

/* The place that was used longest ago of those that nobody wants, or NULL. */
static struct ahead_place *
unwanted(struct sftp_ahead *a)
{
	struct ahead_place *pl, *old = NULL;

	for (pl = a->places; pl < a->places + AHEAD_PLACES; pl++)
		if (is_done_with(a, pl) && (old == NULL || pl->used < old->used))
			old = pl;
	if (old != NULL && old->buf == NULL && (old->buf = malloc(AHEAD_WINDOW)) == NULL)
		return (NULL);
	return (old);
}

/* Ask for what comes after ${at}, as far as it is not yet. */
static void
look_ahead(struct sftp_ahead *a, struct ahead_file *af, void *file, uint64_t at)
{
	uint64_t most = af->run < AHEAD_MOST ? af->run : AHEAD_MOST, next = at, want;
	struct ahead_place *pl;

	while (next < af->size && !af->failed) {
		if ((pl = find(a, file, next)) != NULL) {
			next = pl->offset + pl->want;
			continue;
		}
		want = most < AHEAD_WINDOW ? most : AHEAD_WINDOW;
		want = want < af->size - next ? want : af->size - next;
		if (want == 0 || next + want > at + most || !have_thread(a) || (pl = unwanted(a)) == NULL)
			break;
		*pl = (struct ahead_place){ .state = AHEAD_ASKED, .file = file, .af = af, .offset = next, .want = (size_t)want, .used = ++a->clock,
		    .buf = pl->buf };
		pthread_cond_broadcast(&a->changed);
	}
}

static bool
is_in_order(const struct ahead_file *af, uint64_t offset)
{
	return (offset >= af->front && offset - af->front <= GAP);
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

/* What is there, or comes, of ${n} bytes at ${offset}; 0 when nobody has asked for it. */
static size_t
copy_out(struct sftp_ahead *a, const void *file, char *p, size_t n, uint64_t offset)
{
	struct ahead_place *pl;
	size_t at, part;

	while ((pl = find(a, file, offset)) != NULL && pl->state != AHEAD_FULL)
		pthread_cond_wait(&a->changed, &a->lock);
	if (pl == NULL || (at = (size_t)(offset - pl->offset)) >= pl->n)
		return (0);
	part = pl->n - at < n ? pl->n - at : n;
	memcpy(p, pl->buf + at, part);
	if (at + part > pl->read)
		pl->read = at + part;
	pl->used = ++a->clock;
	return (part);
}

long
ahead_read(struct sftp_ahead *a, struct ahead_file *af, void *file, void *p, size_t n, uint64_t offset, struct err *err)
{
	size_t done = 0, part;
	long got = 0;

	if (offset >= af->size)
		return (0);
	n = n < af->size - offset ? n : (size_t)(af->size - offset);
	pthread_mutex_lock(&a->lock);
	if (is_in_order(af, offset))
		look_ahead(a, af, file, offset + (find(a, file, offset) == NULL ? n : 0));
	while (done < n && (part = copy_out(a, file, (char *)p + done, n - done, offset + done)) > 0)
		done += part;
	if (done < n) {
		pthread_mutex_unlock(&a->lock);
		got = a->fetch(file, (char *)p + done, n - done, offset + done, err);
		pthread_mutex_lock(&a->lock);
		done += got > 0 ? (size_t)got : 0;
	}
	if (got >= 0)
		note_read(af, done, offset);
	pthread_mutex_unlock(&a->lock);
	return (got < 0 ? -1 : (long)done);
}

static struct ahead_place *
filling(struct sftp_ahead *a, const void *file)
{
	for (struct ahead_place *pl = a->places; pl < a->places + AHEAD_PLACES; pl++)
		if (pl->state == AHEAD_FILLING && pl->file == file)
			return (pl);
	return (NULL);
}

void
ahead_forget(struct sftp_ahead *a, const void *file)
{
	struct ahead_place *pl;

	pthread_mutex_lock(&a->lock);
	for (pl = a->places; pl < a->places + AHEAD_PLACES; pl++)
		if (pl->state != AHEAD_FILLING && pl->file == file)
			pl->state = AHEAD_EMPTY;
	while ((pl = filling(a, file)) != NULL) {
		while (pl->state == AHEAD_FILLING)
			pthread_cond_wait(&a->changed, &a->lock);
		pl->state = AHEAD_EMPTY;
	}
	pthread_mutex_unlock(&a->lock);
}
