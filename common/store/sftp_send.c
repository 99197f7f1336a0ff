#include "store/sftp_send.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/thread.h"

struct piece {
	struct piece	*next;
	uint64_t	 offset;
	size_t		 n;		/* bytes */
	bool		 waits;		/* to be confirmed */
	char		*buf;		/* NULL until it is needed */
};

struct sftp_send {
	send_write	*fn;
	void		*file;
	struct piece	*filling;	/* the caller's alone */
	atomic_bool	 stop;
	pthread_mutex_t	 lock;		/* guards what follows, and the pieces in lists */
	pthread_cond_t	 changed;
	struct piece	 pieces[SEND_PIECES];
	struct piece	*unused, *queue, **last;	/* ${last}: where the queue ends */
	unsigned int	 nlanes, idle, busy;	/* idle lanes; pieces under way */
	pthread_t	 lanes[SEND_LANES];
	struct err	 failed;	/* the first failure, which is final */
};

struct sftp_send *
send_new(send_write *fn, void *file, struct err *err)
{
	struct sftp_send *s = calloc(1, sizeof(*s));

	if (s == NULL) {
		err_nomem(err);
		return (NULL);
	}
	s->fn = fn;
	s->file = file;
	s->last = &s->queue;
	for (unsigned int i = 0; i < SEND_PIECES; i++) {
		s->pieces[i].next = s->unused;
		s->unused = &s->pieces[i];
	}
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->changed, NULL);
	return (s);
}

/* With the lock, which is given up meanwhile: the queue's first piece. */
static void
write_first(struct sftp_send *s)
{
	struct piece *pc = s->queue;
	struct err err = ERR_INIT;
	int rc;

	if ((s->queue = pc->next) == NULL)
		s->last = &s->queue;
	s->busy++;
	pthread_mutex_unlock(&s->lock);
	rc = s->fn(s->file, pc->buf, pc->n, pc->offset, &s->stop, &err);
	pthread_mutex_lock(&s->lock);
	s->busy--;
	pc->waits = false;
	if (rc == -1 && s->failed.text[0] == '\0')
		s->failed = err;
	pc->next = s->unused;
	s->unused = pc;
	pthread_cond_broadcast(&s->changed);
}

static void *
lane_main(void *arg)
{
	struct sftp_send *s = arg;

	pthread_mutex_lock(&s->lock);
	while (!atomic_load(&s->stop)) {
		if (s->queue != NULL && s->failed.text[0] == '\0') {
			write_first(s);
			continue;
		}
		s->idle++;
		pthread_cond_wait(&s->changed, &s->lock);
		s->idle--;
	}
	pthread_mutex_unlock(&s->lock);
	return (NULL);
}

/* With the lock: the piece that was filled. */
static void
enqueue(struct sftp_send *s)
{
	s->filling->next = NULL;
	s->filling->waits = true;
	*s->last = s->filling;
	s->last = &s->filling->next;
	s->filling = NULL;
	pthread_cond_broadcast(&s->changed);
}

/* Without a thread more, it is only slower. */
static void
begin_lane(struct sftp_send *s)
{
	struct err ignored = ERR_INIT;

	if (s->idle == 0 && s->nlanes < SEND_LANES && thread_start(&s->lanes[s->nlanes], lane_main, s, &ignored) == 0)
		s->nlanes++;
}

/* Whether a piece at ${offset} would be too far from what is not confirmed. */
static bool
too_far(const struct sftp_send *s, uint64_t offset)
{
	for (const struct piece *pc = s->pieces; pc < s->pieces + SEND_PIECES; pc++)
		if (pc->waits && offset - pc->offset >= SEND_WINDOW)
			return (true);
	return (false);
}

/* With the lock: a piece to fill.  Fails: -1. */
static int
next_piece(struct sftp_send *s, uint64_t offset, struct err *err)
{
	struct piece *pc;

	while ((s->unused == NULL || too_far(s, offset)) && s->failed.text[0] == '\0') {
		if (s->nlanes == 0)
			write_first(s);
		else
			pthread_cond_wait(&s->changed, &s->lock);
	}
	if (s->failed.text[0] != '\0') {
		*err = s->failed;
		return (-1);
	}
	pc = s->unused;
	if (pc->buf == NULL && (pc->buf = malloc(SEND_PIECE)) == NULL)
		return (err_nomem(err));
	s->unused = pc->next;
	pc->n = 0;
	pc->offset = offset;
	s->filling = pc;
	return (0);
}

int
send_append(struct sftp_send *s, const char *p, size_t n, uint64_t offset, struct err *err)
{
	size_t part;
	int rc = 0;

	for (; n > 0; p += part, n -= part, offset += part) {
		if (s->filling == NULL) {
			pthread_mutex_lock(&s->lock);
			rc = next_piece(s, offset, err);
			pthread_mutex_unlock(&s->lock);
			if (rc == -1)
				return (-1);
		}
		part = SEND_PIECE - s->filling->n < n ? SEND_PIECE - s->filling->n : n;
		memcpy(s->filling->buf + s->filling->n, p, part);
		s->filling->n += part;
		if (s->filling->n < SEND_PIECE)
			continue;
		pthread_mutex_lock(&s->lock);
		enqueue(s);
		begin_lane(s);
		pthread_mutex_unlock(&s->lock);
	}
	return (0);
}

int
send_flush(struct sftp_send *s, struct err *err)
{
	int rc = 0;

	pthread_mutex_lock(&s->lock);
	if (s->filling != NULL)
		enqueue(s);
	while (s->failed.text[0] == '\0' && (s->queue != NULL || s->busy > 0)) {
		if (s->queue != NULL && s->nlanes == 0)
			write_first(s);
		else
			pthread_cond_wait(&s->changed, &s->lock);
	}
	if (s->failed.text[0] != '\0') {
		*err = s->failed;
		rc = -1;
	}
	pthread_mutex_unlock(&s->lock);
	return (rc);
}

void
send_free(struct sftp_send *s)
{
	if (s == NULL)
		return;
	pthread_mutex_lock(&s->lock);
	atomic_store(&s->stop, true);
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
	for (unsigned int i = 0; i < s->nlanes; i++)
		pthread_join(s->lanes[i], NULL);
	for (unsigned int i = 0; i < SEND_PIECES; i++)
		free(s->pieces[i].buf);
	pthread_cond_destroy(&s->changed);
	pthread_mutex_destroy(&s->lock);
	free(s);
}
