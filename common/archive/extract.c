#include "archive/extract.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "archive/frame_reader.h"
#include "base/extent.h"
#include "base/pipeline.h"

#define WORKERS_MAX	32u
#define RANGES_MAX	(FRAME_RAW_MAX / SECTOR + 1)	/* of one frame, before it is read once more; a frame has no more blocks */
#define BATCH		128u		/* records of the index read at once */

/* Part of a disk that is wanted from one frame. */
struct range {
	uint64_t offset, length;
};

/* A frame to read, and what is wanted of it. */
struct task {
	struct archive_reader	*ar;
	uint32_t		 source;
	struct index_frame	 frame;
	uint64_t		 begin, end;	/* of the disk: from its first block to its last */
	struct range		*ranges;
	size_t			 nranges, ranges_cap;
};

/* A task on its way through the pipeline, with the frame as it was read. */
struct job {
	struct task	 task;
	const char	*disk;		/* for messages */
	uint8_t		*in;
	size_t		 in_cap;
};

/* A source of the point's index: where it was found, and the frame of it that is being gathered. */
struct origin {
	struct archive_reader	*ar;
	uint32_t		 source;	/* number in that archive */
	struct task		 pending;	/* nranges 0: none */
};

struct extract {
	const struct extract_ops	*ops;
	void				*arg;
	struct archive_set		*set;		/* NULL while only checking */
	const char			*disk;
	struct origin			*origins;	/* by source of the first archive's index */
	uint32_t			 norigins;
	struct pipeline			*pl;
	void				**jobs;
	size_t				 njobs;
	_Atomic uint64_t		 done;
	pthread_mutex_t			 damage_lock;	/* one call of ops->damage at a time */
};

static void
worker_free(void *p)
{
	frame_reader_free(p);
}

static void *
worker_new(void *ctx, struct err *err)
{
	(void)ctx;
	return (frame_reader_new(err));
}

static int
damage(struct extract *x, const char *disk, uint64_t offset, uint64_t length, const char *why, struct err *err)
{
	int rc;

	pthread_mutex_lock(&x->damage_lock);
	rc = x->ops->damage(x->arg, disk, offset, length, why, err);
	pthread_mutex_unlock(&x->damage_lock);
	return (rc);
}

/* The same of what a task wants. */
static int
damage_task(struct extract *x, const struct task *t, const char *disk, uint64_t offset, uint64_t length, const char *why, struct err *err)
{
	int rc;

	if (x->set != NULL || x->ops->bad_block == NULL)
		return (damage(x, disk, offset, length, why, err));
	pthread_mutex_lock(&x->damage_lock);
	rc = x->ops->bad_block(x->arg, t->source, offset, length, why, err);
	pthread_mutex_unlock(&x->damage_lock);
	return (rc);
}

/* All that is wanted of a frame is lost. */
static int
damage_all(struct extract *x, const struct task *t, const char *disk, const char *why, struct err *err)
{
	char text[sizeof(err->text) + 256];

	snprintf(text, sizeof(text), "%s: frame at %llu: %s", t->ar->name, (unsigned long long)t->frame.offset, why);
	for (size_t i = 0; i < t->nranges; i++)
		if (damage_task(x, t, disk, t->ranges[i].offset, t->ranges[i].length, text, err) == -1)
			return (-1);
	return (0);
}

static int
give(struct extract *x, uint64_t offset, const uint8_t *p, uint64_t n, struct err *err)
{
	return (n > 0 && x->ops->data != NULL ? x->ops->data(x->arg, offset, p, (size_t)n, err) : 0);
}

/* Where a walk through a frame's blocks stands: ranges rise, so that it goes on where the last range ended. */
struct walk {
	uint32_t	i;		/* block */
	size_t		at;		/* of that block in the frame */
};

/*
 * Check the blocks under one range and give it away, in runs as long as the blocks are good.  The bytes of a range are together in the frame,
 * because they are together on the disk.
 */
static int
give_range(struct extract *x, const struct frame_reader *fr, const struct job *j, const struct range *r, struct walk *k, struct err *err)
{
	const struct task *t = &j->task;
	const struct index_block *b;
	uint64_t at = r->offset, end = r->offset + r->length, run = r->offset, upto;
	const uint8_t *run_p = NULL;

	for (; k->i < t->frame.blocks && at < end; k->at += b->length, k->i++) {
		b = &fr->blocks[k->i];
		if (b->offset + b->length <= at)
			continue;
		if (b->offset > at) {
			/* An index that was made up of pieces promises more than there is: only what lies between them is lost. */
			upto = b->offset < end ? b->offset : end;
			if ((run_p != NULL && give(x, run, run_p, at - run, err) == -1) ||
			    damage_task(x, t, j->disk, at, upto - at, "no block of the archive holds this part", err) == -1)
				return (-1);
			run_p = NULL;
			if ((at = upto) == end)
				break;
		}
		upto = b->offset + b->length < end ? b->offset + b->length : end;
		if (frame_reader_block_is_good(fr, k->i, k->at)) {
			if (run_p == NULL) {
				run = at;
				run_p = fr->raw + k->at + (at - b->offset);
			}
		} else {
			if (run_p != NULL && give(x, run, run_p, at - run, err) == -1)
				return (-1);
			run_p = NULL;
			if (damage_task(x, t, j->disk, at, upto - at, "the block does not have the digest that was taken when it was stored", err) == -1)
				return (-1);
		}
		at = upto;
		/* The next range may begin in this block. */
		if (upto < b->offset + b->length)
			break;
	}
	if (run_p != NULL && give(x, run, run_p, at - run, err) == -1)
		return (-1);
	if (at < end)
		return (damage_task(x, t, j->disk, at, end - at, "no block of the archive holds this part", err));
	return (0);
}

static int
work(void *ctx, void *worker, void *job, struct err *err)
{
	struct extract *x = ctx;
	struct frame_reader *fr = worker;
	struct job *j = job;
	struct walk k = { 0, 0 };
	struct err why = ERR_INIT;
	uint64_t bytes = 0;

	for (size_t i = 0; i < j->task.nranges; i++)
		bytes += j->task.ranges[i].length;
	if (frame_reader_decode(fr, j->task.ar, j->task.source, &j->task.frame, j->in, &why) == -1) {
		if (damage_all(x, &j->task, j->disk, why.text, err) == -1)
			return (-1);
	} else
		for (size_t i = 0; i < j->task.nranges; i++)
			if (give_range(x, fr, j, &j->task.ranges[i], &k, err) == -1)
				return (-1);
	atomic_fetch_add(&x->done, bytes);
	return (0);
}

static const struct pipeline_ops pipeline_ops = { .worker_new = worker_new, .worker_free = worker_free, .work = work };

static void
extract_end(struct extract *x)
{
	struct job *j;

	pipeline_free(x->pl);
	for (size_t i = 0; i < x->njobs; i++) {
		j = x->jobs[i];
		free(j->task.ranges);
		free(j->in);
		free(j);
	}
	free(x->jobs);
	for (uint32_t i = 0; i < x->norigins; i++)
		free(x->origins[i].pending.ranges);
	free(x->origins);
	pthread_mutex_destroy(&x->damage_lock);
}

static int
extract_begin(struct extract *x, const struct extract_ops *ops, void *arg, struct err *err)
{
	unsigned int workers = pipeline_cores() < WORKERS_MAX ? pipeline_cores() : WORKERS_MAX;
	size_t n = 2 * (size_t)workers + 2;

	x->ops = ops;
	x->arg = arg;
	pthread_mutex_init(&x->damage_lock, NULL);
	if ((x->jobs = calloc(n, sizeof(*x->jobs))) == NULL)
		return (err_nomem(err));
	for (; x->njobs < n; x->njobs++)
		if ((x->jobs[x->njobs] = calloc(1, sizeof(struct job))) == NULL)
			return (err_nomem(err));
	return ((x->pl = pipeline_new(&pipeline_ops, x, x->jobs, x->njobs, 0, workers, err)) == NULL ? -1 : 0);
}

static int
reserve_input(struct job *j, size_t n, struct err *err)
{
	uint8_t *p;

	if (n <= j->in_cap)
		return (0);
	if ((p = realloc(j->in, n)) == NULL)
		return (err_nomem(err));
	j->in = p;
	j->in_cap = n;
	return (0);
}

/* Read the task's frame and send it on its way; the task is empty afterwards, and keeps the ranges' memory of the job before. */
static int
submit(struct extract *x, struct task *t, const char *disk, struct err *err)
{
	struct job *j = pipeline_get(x->pl);
	struct err why = ERR_INIT;
	struct task spare;
	int rc = 0;

	if (j == NULL)
		return (pipeline_wait(x->pl, err));
	if (reserve_input(j, t->frame.stored, err) == -1)
		return (-1);
	if (store_file_read(t->ar->data, j->in, t->frame.stored, t->frame.offset, &why) == -1) {
		rc = damage_all(x, t, disk, why.text, err);
		t->nranges = 0;
		return (rc);
	}
	spare = j->task;
	j->task = *t;
	j->disk = disk;
	t->ranges = spare.ranges;
	t->ranges_cap = spare.ranges_cap;
	t->nranges = 0;
	pipeline_submit(x->pl);
	return (x->ops->progress != NULL ? x->ops->progress(x->arg, atomic_load(&x->done), err) : 0);
}

static int
add_range(struct task *t, uint64_t offset, uint64_t length, struct err *err)
{
	struct range *last = t->nranges > 0 ? &t->ranges[t->nranges - 1] : NULL, *more;
	size_t cap;

	if (last != NULL && last->offset + last->length == offset) {
		last->length += length;
		return (0);
	}
	if (t->nranges == t->ranges_cap) {
		cap = t->ranges_cap == 0 ? 16 : t->ranges_cap * 2;
		if ((more = realloc(t->ranges, cap * sizeof(*more))) == NULL)
			return (err_nomem(err));
		t->ranges = more;
		t->ranges_cap = cap;
	}
	t->ranges[t->nranges++] = (struct range){ offset, length };
	return (0);
}

static int
finish_tasks(struct extract *x, struct err *err)
{
	for (uint32_t i = 0; i < x->norigins; i++)
		if (x->origins[i].pending.nranges > 0 && submit(x, &x->origins[i].pending, x->disk, err) == -1)
			return (-1);
	if (pipeline_wait(x->pl, err) == -1)
		return (-1);
	return (x->ops->progress != NULL ? x->ops->progress(x->arg, atomic_load(&x->done), err) : 0);
}

/* Begin the task for the frame that holds ${offset}.  When no block does, *${end} is where the next one begins, and nothing is begun. */
static int
begin_task(struct extract *x, struct origin *o, uint64_t offset, uint64_t *gap_end, struct err *err)
{
	struct task *t = &o->pending;
	struct index_block first, last;
	uint64_t block, frame;

	if (t->nranges > 0 && submit(x, t, x->disk, err) == -1)
		return (-1);
	t->begin = t->end = 0;
	*gap_end = UINT64_MAX;
	if (index_block_find(o->ar->ix, o->source, offset, &block, err) == -1)
		return (-1);
	if (block == index_block_count(o->ar->ix, o->source))
		return (0);
	if (index_frame_of(o->ar->ix, o->source, block, &frame, err) == -1 || index_frames(o->ar->ix, frame, 1, &t->frame, err) == -1 ||
	    index_blocks(o->ar->ix, o->source, t->frame.first_block, 1, &first, err) == -1 ||
	    index_blocks(o->ar->ix, o->source, t->frame.first_block + t->frame.blocks - 1, 1, &last, err) == -1)
		return (-1);
	t->ar = o->ar;
	t->source = o->source;
	*gap_end = first.offset;
	if (first.offset > offset)
		return (0);
	t->begin = first.offset;
	t->end = last.offset + last.length;
	return (0);
}

static int
take_record(struct extract *x, struct origin *o, const struct index_view *v, struct err *err)
{
	uint64_t at = v->offset, end = v->offset + v->length, upto;
	struct task *t = &o->pending;

	for (; at < end; at = upto) {
		if (at < t->begin || at >= t->end || t->nranges == RANGES_MAX) {
			if (begin_task(x, o, at, &upto, err) == -1)
				return (-1);
			if (t->end == 0) {
				upto = upto < end ? upto : end;
				if (damage(x, x->disk, at, upto - at, "no block of the archive holds this part", err) == -1)
					return (-1);
				continue;
			}
		}
		upto = t->end < end ? t->end : end;
		if (add_range(t, at, upto - at, err) == -1)
			return (-1);
	}
	return (0);
}

/* Where the blocks of a view's source are.  One that cannot be had damages the record, not the rest of the disk. */
static int
find_origin(struct extract *x, uint32_t n, struct origin **out, struct err *why)
{
	struct index_reader *ix = archive_set_first(x->set)->ix;
	struct origin *o = &x->origins[n];
	struct index_source s;

	*out = o;
	if (o->ar != NULL)
		return (0);
	if (index_source(ix, n, &s, why) == -1)
		return (-1);
	return ((o->ar = archive_set_find(x->set, &s, &o->source, why)) == NULL ? -1 : 0);
}

static int
take_view(struct extract *x, uint32_t disk, struct err *err)
{
	struct index_reader *ix = archive_set_first(x->set)->ix;
	uint64_t count = index_view_count(ix, disk);
	struct err why = ERR_INIT;
	struct index_view v[BATCH];
	struct origin *o;
	size_t n;

	for (uint64_t at = 0; at < count; at += n) {
		n = count - at < BATCH ? (size_t)(count - at) : BATCH;
		if (index_view(ix, disk, at, n, v, err) == -1)
			return (-1);
		for (size_t i = 0; i < n; i++) {
			if (v[i].kind != VIEW_DATA)
				continue;
			if (find_origin(x, v[i].source, &o, &why) == -1) {
				if (damage(x, x->disk, v[i].offset, v[i].length, why.text, err) == -1)
					return (-1);
			} else if (take_record(x, o, &v[i], err) == -1)
				return (-1);
		}
	}
	return (0);
}

int
extract_disk(struct archive_set *set, uint32_t disk, const struct extract_ops *ops, void *arg, struct err *err)
{
	struct index_reader *ix = archive_set_first(set)->ix;
	struct extract x = { .set = set, .disk = index_disk(ix, disk)->target };
	int rc = -1;

	if ((x.origins = calloc((size_t)index_sources(ix) + 1, sizeof(*x.origins))) == NULL) {
		err_nomem(err);
		return (-1);
	}
	x.norigins = index_sources(ix);
	if (extract_begin(&x, ops, arg, err) == 0 && take_view(&x, disk, err) == 0)
		rc = finish_tasks(&x, err);
	extract_end(&x);
	return (rc);
}

int
extract_size(const struct index_reader *ix, uint32_t disk, uint64_t *bytes, struct err *err)
{
	uint64_t count = index_view_count(ix, disk);
	struct index_view v[BATCH];
	size_t n;

	*bytes = 0;
	for (uint64_t at = 0; at < count; at += n) {
		n = count - at < BATCH ? (size_t)(count - at) : BATCH;
		if (index_view(ix, disk, at, n, v, err) == -1)
			return (-1);
		for (size_t i = 0; i < n; i++)
			*bytes += v[i].kind == VIEW_DATA ? v[i].length : 0;
	}
	return (0);
}

/* The name of the disk that a source is, for messages. */
static const char *
source_disk(const struct index_reader *ix, uint32_t source)
{
	struct err ignored = ERR_INIT;
	struct index_source s;

	if (index_source(ix, source, &s, &ignored) == -1 || s.disk >= index_disks(ix) ||
	    memcmp(s.archive, index_info(ix)->archive, ARCHIVE_ID_LEN) != 0)
		return ("of another archive");
	return (index_disk(ix, s.disk)->target);
}

/* Want every block of a frame. */
static int
want_all(struct task *t, struct archive_reader *ar, const struct index_frame *f, struct err *err)
{
	struct index_block b[BATCH];
	uint32_t n;

	t->ar = ar;
	t->source = f->source;
	t->frame = *f;
	t->nranges = 0;
	for (uint32_t at = 0; at < f->blocks; at += n) {
		n = f->blocks - at < BATCH ? f->blocks - at : BATCH;
		if (index_blocks(ar->ix, f->source, f->first_block + at, n, b, err) == -1)
			return (-1);
		for (uint32_t i = 0; i < n; i++)
			if (add_range(t, b[i].offset, b[i].length, err) == -1)
				return (-1);
	}
	return (0);
}

int
extract_check(struct archive_reader *ar, const struct extract_ops *ops, void *arg, struct err *err)
{
	struct extract x = { .set = NULL };
	struct task t = { .ar = NULL };
	struct index_frame f;
	uint64_t n = 0;
	int rc = -1;

	if (extract_begin(&x, ops, arg, err) == -1)
		goto out;
	for (uint64_t i = 0; i < index_frame_count(ar->ix); i++) {
		if (index_frames(ar->ix, i, 1, &f, err) == -1)
			goto out;
		if (f.source == NO_SOURCE || (ops->want != NULL && !ops->want(arg, n++)))
			continue;
		if (want_all(&t, ar, &f, err) == -1 || submit(&x, &t, source_disk(ar->ix, f.source), err) == -1)
			goto out;
	}
	rc = finish_tasks(&x, err);
out:
	free(t.ranges);
	extract_end(&x);
	return (rc);
}

int
extract_check_size(const struct archive_reader *ar, uint64_t *bytes, struct err *err)
{
	struct index_frame f;

	*bytes = 0;
	for (uint64_t i = 0; i < index_frame_count(ar->ix); i++) {
		if (index_frames(ar->ix, i, 1, &f, err) == -1)
			return (-1);
		if (f.source != NO_SOURCE)
			*bytes += f.raw;
	}
	return (0);
}
