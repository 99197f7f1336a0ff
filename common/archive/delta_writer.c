#include "archive/delta_writer.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "archive/frame_reader.h"
#include "archive/old_disk.h"
#include "base/pipeline.h"

#define CHUNK		((size_t)1 << 20)	/* bytes of the disk in one job */
#define ITEMS_MAX	512u			/* parts in one job */
#define READERS		2u
#define WORKERS_MAX	32u
#define TICK_MS		100u

enum item_kind {
	ITEM_KEEP,		/* not read: as it was */
	ITEM_READ,		/* to be read */
	ITEM_SAME, ITEM_ZERO, ITEM_CHANGED	/* what reading it showed */
};

/* A part of the disk, in order. */
struct item {
	uint64_t	 offset, length;
	enum item_kind	 kind;
	struct old_part	 old;
};

struct job {
	struct item	*items;
	size_t		 nitems;
	uint8_t		*data;		/* of the items that are read, one after the other */
	size_t		 len;
};

struct delta {
	struct archive_writer	*aw;
	const struct archive_feed *feed;
	struct old_disk		*old;
	void			**jobs;
	size_t			 njobs;
	struct pipeline		*pl;
	void			*readers[READERS];
	struct job		*cur;		/* the planner's, or NULL */
	_Atomic uint64_t	 read;
	struct delta_written	 written;	/* the finisher's, but for read and lost */
};

static int
fill(void *ctx, unsigned int reader, void *arg, struct err *err)
{
	struct delta *d = ctx;
	const struct job *j = arg;
	uint64_t begin, end;
	size_t at = 0;

	if (j->len > 0 && d->readers[reader] == NULL && (d->readers[reader] = d->feed->reader_new(d->feed->arg, err)) == NULL)
		return (-1);
	for (size_t i = 0; i < j->nitems; at += (size_t)(end - begin)) {
		begin = end = j->items[i].offset;
		if (j->items[i].kind != ITEM_READ) {
			i++;
			continue;
		}
		for (; i < j->nitems && j->items[i].kind == ITEM_READ && j->items[i].offset == end; i++)
			end += j->items[i].length;
		if (d->feed->read(d->readers[reader], j->data + at, (size_t)(end - begin), begin, err) == -1)
			return (-1);
		atomic_fetch_add(&d->read, end - begin);
	}
	return (0);
}

static void *
worker_new(void *ctx, struct err *err)
{
	(void)err;
	return (ctx);
}

static void
worker_free(void *worker)
{
	(void)worker;
}

static int
work(void *ctx, void *worker, void *arg, struct err *err)
{
	uint8_t digest[DIGEST_LEN];
	struct job *j = arg;
	const uint8_t *p = j->data;
	struct item *i;

	(void)ctx;
	(void)worker;
	(void)err;
	for (size_t n = 0; n < j->nitems; n++) {
		i = &j->items[n];
		if (i->kind != ITEM_READ)
			continue;
		i->kind = ITEM_CHANGED;
		if (bytes_are_zero(p, (size_t)i->length))
			i->kind = ITEM_ZERO;
		else if (i->old.secret != NULL) {
			digest_block(i->old.secret, p, (size_t)i->length, digest);
			if (memcmp(digest, i->old.digest, DIGEST_LEN) == 0)
				i->kind = ITEM_SAME;
		}
		p += i->length;
	}
	return (0);
}

static int
add_old(struct delta *d, const struct item *i, struct err *err)
{
	struct index_view v = { i->offset, i->length, NO_SOURCE, VIEW_ZERO };
	int64_t source;

	if (!i->old.zero) {
		if ((source = archive_writer_source(d->aw, i->old.source, err)) == -1)
			return (-1);
		v.source = (uint32_t)source;
		v.kind = VIEW_DATA;
	}
	return (archive_writer_delta_view(d->aw, &v, err));
}

static int
finish(void *ctx, void *arg, struct err *err)
{
	struct delta *d = ctx;
	struct job *j = arg;
	const uint8_t *p = j->data;
	const struct item *i;
	int rc = 0;

	for (size_t n = 0; n < j->nitems && rc == 0; n++) {
		i = &j->items[n];
		switch (i->kind) {
		case ITEM_KEEP:
		case ITEM_SAME:
			rc = add_old(d, i, err);
			break;
		case ITEM_ZERO:
			d->written.zero += i->length;
			rc = archive_writer_delta_view(d->aw, &(struct index_view){ i->offset, i->length, NO_SOURCE, VIEW_ZERO }, err);
			break;
		case ITEM_CHANGED:
		case ITEM_READ:
		default:
			d->written.stored += i->length;
			rc = archive_writer_delta_block(d->aw, i->offset, p, (uint32_t)i->length, err);
		}
		if (i->kind != ITEM_KEEP)
			p += i->length;
	}
	return (rc);
}

static const struct pipeline_ops ops = { .fill = fill, .worker_new = worker_new, .worker_free = worker_free, .work = work, .finish = finish };

static int
tick(struct delta *d, struct err *err)
{
	return (d->feed->tick != NULL ? d->feed->tick(d->feed->arg, atomic_load(&d->read), err) : 0);
}

/* Failures of the pipeline are left to whoever asks it next. */
static int
wait_ticking(struct delta *d, int (*wait)(struct pipeline *, unsigned int), struct err *err)
{
	do {
		if (tick(d, err) == -1)
			return (-1);
	} while (wait(d->pl, TICK_MS) == 0);
	return (0);
}

static void
flush(struct delta *d)
{
	if (d->cur != NULL)
		pipeline_submit(d->pl);
	d->cur = NULL;
}

static int
add_item(struct delta *d, const struct item *i, struct err *err)
{
	size_t room = i->kind == ITEM_READ ? (size_t)i->length : 0;
	struct job *j = d->cur;

	if (j != NULL && (j->nitems == ITEMS_MAX || j->len + room > CHUNK)) {
		flush(d);
		j = NULL;
	}
	if (j == NULL) {
		if (wait_ticking(d, pipeline_room, err) == -1)
			return (-1);
		if ((j = pipeline_get(d->pl)) == NULL) {
			pipeline_wait(d->pl, err);
			return (-1);
		}
		j->nitems = 0;
		j->len = 0;
		d->cur = j;
	}
	j->items[j->nitems++] = *i;
	j->len += room;
	return (0);
}

/* A part that is to be read, cut into windows. */
static int
plan_read(struct delta *d, uint64_t at, uint64_t end, struct err *err)
{
	struct item i = { .kind = ITEM_READ };

	for (; at < end; at += i.length) {
		i.offset = at;
		i.length = WINDOW_SIZE - at % WINDOW_SIZE;
		if (i.length > end - at)
			i.length = end - at;
		if (old_disk_block(d->old, at, i.length, &i.old, err) == -1 || add_item(d, &i, err) == -1)
			return (-1);
	}
	return (0);
}

/* A part that cannot have changed: as it was, where that is to be had. */
static int
plan_keep(struct delta *d, uint64_t at, uint64_t end, struct err *err)
{
	struct item i = { .kind = ITEM_KEEP };
	bool had;

	for (; at < end; at += i.length) {
		i.offset = at;
		if (old_disk_part(d->old, at, end, &i.length, &i.old, &had, err) == -1)
			return (-1);
		if (!had)
			d->written.lost += i.length;
		if ((had ? add_item(d, &i, err) : plan_read(d, at, at + i.length, err)) == -1)
			return (-1);
	}
	return (0);
}

/* Where the walk through what may have changed stands. */
struct dirt {
	const struct extents	*ex;		/* NULL: anything may have */
	struct spool_cursor	 c;
	struct extent		 e;		/* the one at or after the place; length 0: none is left */
};

static int
dirt_next(struct dirt *t, struct err *err)
{
	int more = extents_next(&t->c, &t->e, err);

	if (more == 0)
		t->e = (struct extent){ UINT64_MAX, 0 };
	return (more == -1 ? -1 : 0);
}

static int
plan_extent(struct delta *d, const struct extent *e, struct dirt *t, struct err *err)
{
	uint64_t at, end = e->offset + e->length, upto;

	if (t->ex == NULL)
		return (plan_read(d, e->offset, end, err));
	for (at = e->offset; at < end; at = upto) {
		while (t->e.length > 0 && t->e.offset + t->e.length <= at)
			if (dirt_next(t, err) == -1)
				return (-1);
		if (t->e.offset > at) {
			upto = t->e.offset < end ? t->e.offset : end;
			if (plan_keep(d, at, upto, err) == -1)
				return (-1);
		} else {
			upto = t->e.offset + t->e.length < end ? t->e.offset + t->e.length : end;
			if (plan_read(d, at, upto, err) == -1)
				return (-1);
		}
	}
	return (0);
}

static int
plan(struct delta *d, const struct extents *ex, const struct extents *dirty, struct err *err)
{
	struct dirt *t = calloc(1, sizeof(*t));
	struct spool_cursor c;
	struct extent e;
	int more = -1;

	if (t == NULL)
		return (err_nomem(err));
	t->ex = dirty;
	if (dirty != NULL) {
		spool_cursor_init(&t->c, dirty->spool);
		if (dirt_next(t, err) == -1)
			goto out;
	}
	spool_cursor_init(&c, ex->spool);
	while ((more = extents_next(&c, &e, err)) == 1)
		if (plan_extent(d, &e, t, err) == -1) {
			more = -1;
			break;
		}
	flush(d);
	if (more == 0 && (wait_ticking(d, pipeline_idle, err) == -1 || pipeline_wait(d->pl, err) == -1))
		more = -1;
out:
	free(t);
	return (more);
}

static int
jobs_new(struct delta *d, size_t n, struct err *err)
{
	struct job *j;

	if ((d->jobs = calloc(n, sizeof(*d->jobs))) == NULL)
		return (err_nomem(err));
	for (; d->njobs < n; d->njobs++) {
		if ((d->jobs[d->njobs] = j = calloc(1, sizeof(*j))) == NULL)
			return (err_nomem(err));
		j->items = calloc(ITEMS_MAX, sizeof(*j->items));
		j->data = malloc(CHUNK);
		if (j->items == NULL || j->data == NULL) {
			d->njobs++;
			return (err_nomem(err));
		}
	}
	return (0);
}

static void
delta_end(struct delta *d)
{
	struct job *j;

	pipeline_free(d->pl);
	for (unsigned int i = 0; i < READERS; i++)
		if (d->readers[i] != NULL)
			d->feed->reader_free(d->readers[i]);
	for (size_t i = 0; i < d->njobs; i++) {
		j = d->jobs[i];
		free(j->items);
		free(j->data);
		free(j);
	}
	free(d->jobs);
	old_disk_free(d->old);
}

int
delta_write(struct archive_writer *aw, const char *target, const char *member, const struct delta_base *base, const struct extents *ex,
    const struct extents *dirty, const struct archive_feed *feed, struct delta_written *written, struct err *err)
{
	unsigned int workers = pipeline_cores();
	struct delta d = { .aw = aw, .feed = feed };
	struct archive_disk_written w;
	int rc = -1;

	if (workers > WORKERS_MAX)
		workers = WORKERS_MAX;
	if (archive_writer_delta_begin(aw, target, member, ex->size, err) == -1 || jobs_new(&d, 2 * (size_t)workers + READERS, err) == -1 ||
	    (d.old = old_disk_new(base->set, base->disk, err)) == NULL ||
	    (d.pl = pipeline_new(&ops, &d, d.jobs, d.njobs, READERS, workers, err)) == NULL)
		goto out;
	if (plan(&d, ex, dirty, err) == 0 && archive_writer_delta_end(aw, &w, err) == 0) {
		d.written.read = atomic_load(&d.read);
		*written = d.written;
		rc = 0;
	}
out:
	delta_end(&d);
	return (rc);
}
