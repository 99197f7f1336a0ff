#include "archive_writer.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "buf.h"
#include "frame_copy.h"
#include "pipeline.h"
#include "tar.h"

#define WORKERS_MAX	32u
#define JOBS_BYTES	((size_t)32 << 20)	/* small frames: as many as fit in this, so that no thread waits */
#define JOBS_MAX	32u
#define TICK_MS		100u		/* how often, at least, the caller hears how far it is */
#define READERS		2u			/* one waits for storage while the other's bytes arrive */

struct frame {
	uint8_t			*raw, *out;
	size_t			 raw_len, out_len;
	uint64_t		 tar_offset;
	uint32_t		 source;	/* NO_SOURCE: a meta frame */
	bool			 filled;	/* its bytes are there already */
	struct frame_copy	 copy;
	bool			 listed;	/* in the index: all but the index's own frames */
	uint32_t		 nblocks;
	struct index_block	*blocks;
};

struct archive_writer {
	struct index_info	 info;
	struct frame_limits	 max;
	void			**frames;	/* struct frame */
	size_t			 nframes;
	struct pipeline		*pl;

	/* The producer's. */
	struct frame		*cur;		/* being filled, or NULL */
	uint64_t		 tar_offset;	/* of the next byte to be put into a frame */
	uint32_t		 source;	/* disk whose data comes, or NO_SOURCE */
	bool			 listing;	/* further frames are listed in the index */

	/* The disk's, set and taken away while no frame is under way; each reading thread has its reader. */
	const struct archive_feed *feed;
	void			*readers[READERS];
	_Atomic uint64_t	 read;		/* bytes of the disk */

	/* The delta that is being written; staging is the frame of its next piece. */
	struct {
		struct frame		*staging;
		struct index_disk	 disk;
		uint32_t		 number, source;
		unsigned int		 pieces;
		uint64_t		 data;		/* bytes stored */
		bool			 foreign;	/* the blocks are a replaced archive's */
		char			 name[UUID_LEN + 16];	/* then: for OPENVIRT.source */
	} delta;

	/* The finisher's while frames are in the pipeline, else the producer's. */
	struct store_file	*out;
	struct sha256		*sha;
	struct archive_disk_written disk;
	uint64_t		 copied;	/* bytes of copied frames */
	pthread_mutex_t		 lock;		/* guards the index, to which a delta's view is added meanwhile */
	struct index_writer	*index;

	_Atomic uint64_t	 stored;
};

struct worker {
	const struct codec	*codec;
	void			*enc;
	struct frame_reader	*fr;		/* NULL until a frame is copied */
};

static void
worker_free(void *p)
{
	struct worker *w = p;

	w->codec->encoder_free(w->enc);
	frame_reader_free(w->fr);
	free(w);
}

static void *
worker_new(void *ctx, struct err *err)
{
	struct archive_writer *aw = ctx;
	struct worker *w = malloc(sizeof(*w));

	if (w == NULL) {
		err_nomem(err);
		return (NULL);
	}
	w->codec = aw->info.codec;
	w->fr = NULL;
	if ((w->enc = w->codec->encoder_new(aw->info.level, err)) == NULL) {
		free(w);
		return (NULL);
	}
	return (w);
}

/* The frame's bytes, in runs as long as its blocks adjoin. */
static int
fill(void *ctx, unsigned int reader, void *job, struct err *err)
{
	struct archive_writer *aw = ctx;
	struct frame *f = job;
	uint64_t offset, n;
	size_t at = 0;

	if (f->copy.from.ar != NULL) {
		f->out_len = f->copy.there.stored;
		atomic_fetch_add(&aw->read, f->raw_len);
		return (frame_copy_read(&f->copy, f->out, err));
	}
	if (f->source == NO_SOURCE || f->filled)
		return (0);
	if (aw->readers[reader] == NULL && (aw->readers[reader] = aw->feed->reader_new(aw->feed->arg, err)) == NULL)
		return (-1);
	for (uint32_t i = 0; i < f->nblocks; at += n) {
		offset = f->blocks[i].offset;
		for (n = 0; i < f->nblocks && f->blocks[i].offset == offset + n; i++)
			n += f->blocks[i].length;
		if (aw->feed->read(aw->readers[reader], f->raw + at, n, offset, err) == -1)
			return (-1);
		atomic_fetch_add(&aw->read, n);
	}
	return (0);
}

static int
work(void *ctx, void *worker, void *job, struct err *err)
{
	struct archive_writer *aw = ctx;
	struct worker *w = worker;
	struct frame *f = job;
	struct index_block *b;
	size_t at = 0;

	if (f->copy.from.ar != NULL)
		return (frame_copy_digest(&f->copy, f->out, aw->info.secret, &w->fr, f->blocks, err));
	for (uint32_t i = 0; i < f->nblocks; i++, at += b->length) {
		b = &f->blocks[i];
		b->flags = bytes_are_zero(f->raw + at, b->length) ? BLOCK_ZERO : 0;
		digest_block(aw->info.secret, f->raw + at, b->length, b->digest);
	}
	return (w->codec->encode(w->enc, f->raw, f->raw_len, f->out, aw->max.stored, &f->out_len, err));
}

static int
finish(void *ctx, void *job, struct err *err)
{
	struct archive_writer *aw = ctx;
	struct frame *f = job;
	struct index_frame rec = {
		.offset = aw->out->size, .tar_offset = f->tar_offset, .stored = (uint32_t)f->out_len, .raw = (uint32_t)f->raw_len,
		.blocks = f->nblocks, .source = f->source,
	};
	int rc;

	if (sha256_add(aw->sha, f->out, f->out_len, err) == -1 || store_append(aw->out, f->out, f->out_len, err) == -1)
		return (-1);
	atomic_store(&aw->stored, aw->out->size);
	if (f->copy.from.ar != NULL)
		aw->copied += f->out_len;
	for (uint32_t i = 0; i < f->nblocks; i++)
		if (f->blocks[i].flags & BLOCK_ZERO)
			aw->disk.zero += f->blocks[i].length;
	if (!f->listed)
		return (0);
	pthread_mutex_lock(&aw->lock);
	rc = index_writer_frame(aw->index, &rec, f->blocks, err);
	pthread_mutex_unlock(&aw->lock);
	return (rc);
}

static const struct pipeline_ops ops = { .fill = fill, .worker_new = worker_new, .worker_free = worker_free, .work = work, .finish = finish };

static void
frame_free(struct frame *f)
{
	if (f == NULL)
		return;
	free(f->raw);
	free(f->out);
	free(f->blocks);
	free(f);
}

static struct frame *
frame_new(const struct archive_writer *aw, struct err *err)
{
	struct frame *f = calloc(1, sizeof(*f));

	if (f == NULL || (f->raw = malloc(aw->max.raw)) == NULL || (f->out = malloc(aw->max.stored)) == NULL ||
	    (f->blocks = calloc(aw->max.blocks, sizeof(*f->blocks))) == NULL) {
		frame_free(f);
		err_nomem(err);
		return (NULL);
	}
	return (f);
}

static int
frames_new(struct archive_writer *aw, unsigned int workers, struct err *err)
{
	size_t n = JOBS_BYTES / (aw->max.raw + aw->max.stored);

	if (n > JOBS_MAX)
		n = JOBS_MAX;
	if (n < 2 * (size_t)workers + READERS)
		n = 2 * (size_t)workers + READERS;
	if ((aw->frames = calloc(n, sizeof(*aw->frames))) == NULL)
		return (err_nomem(err));
	for (aw->nframes = 0; aw->nframes < n; aw->nframes++)
		if ((aw->frames[aw->nframes] = frame_new(aw, err)) == NULL)
			return (-1);
	return (0);
}

struct archive_writer *
archive_writer_new(const struct index_info *info, struct store_file *out, struct err *err)
{
	struct archive_writer *aw = calloc(1, sizeof(*aw));
	unsigned int workers = pipeline_cores();

	if (aw == NULL) {
		err_nomem(err);
		return (NULL);
	}
	if (workers > WORKERS_MAX)
		workers = WORKERS_MAX;
	pthread_mutex_init(&aw->lock, NULL);
	aw->info = *info;
	aw->out = out;
	aw->source = NO_SOURCE;
	aw->listing = true;
	aw->max.codec = info->codec;
	aw->max.raw = info->codec->raw_max(info->level);
	aw->max.stored = info->codec->bound(aw->max.raw);
	aw->max.blocks = aw->max.raw / SECTOR;
	if (frames_new(aw, workers, err) == -1 || (aw->sha = sha256_new(err)) == NULL || (aw->index = index_writer_new(info, err)) == NULL ||
	    (aw->pl = pipeline_new(&ops, aw, aw->frames, aw->nframes, READERS, workers, err)) == NULL) {
		archive_writer_free(aw);
		return (NULL);
	}
	return (aw);
}

/* Send the frame that is being filled on its way. */
static void
flush(struct archive_writer *aw)
{
	if (aw->cur != NULL)
		pipeline_submit(aw->pl);
	aw->cur = NULL;
}

static bool
has_room(const struct archive_writer *aw, uint32_t source, size_t room)
{
	return (aw->cur != NULL && aw->cur->source == source && aw->cur->raw_len + room <= aw->max.raw);
}

/* Begin a frame for data of ${source}, or a meta frame; the one before is sent on its way.  Fails: NULL. */
static struct frame *
new_frame(struct archive_writer *aw, uint32_t source, struct err *err)
{
	struct frame *f;

	flush(aw);
	if ((f = pipeline_get(aw->pl)) == NULL) {
		pipeline_wait(aw->pl, err);
		return (NULL);
	}
	f->raw_len = 0;
	f->nblocks = 0;
	f->source = source;
	f->listed = aw->listing;
	f->filled = false;
	f->copy.from.ar = NULL;
	f->tar_offset = aw->tar_offset;
	aw->cur = f;
	return (f);
}

/* The same, unless one is being filled that has ${room} left. */
static int
want_frame(struct archive_writer *aw, uint32_t source, size_t room, struct err *err)
{
	return (has_room(aw, source, room) || new_frame(aw, source, err) != NULL ? 0 : -1);
}

static int
add_meta(void *arg, const void *p, size_t n, struct err *err)
{
	struct archive_writer *aw = arg;
	size_t part;

	for (size_t at = 0; at < n; at += part) {
		if (want_frame(aw, NO_SOURCE, 1, err) == -1)
			return (-1);
		part = aw->max.raw - aw->cur->raw_len;
		if (part > n - at)
			part = n - at;
		memcpy(aw->cur->raw + aw->cur->raw_len, (const uint8_t *)p + at, part);
		aw->cur->raw_len += part;
		aw->tar_offset += part;
	}
	return (0);
}

static int
add_zeroes(struct archive_writer *aw, size_t n, struct err *err)
{
	static const uint8_t zeroes[TAR_RECORD + 2 * TAR_BLOCK];

	return (add_meta(aw, zeroes, n, err));
}

/* A name came from a file or from libvirt: it must fit the index's field. */
static int
put_name(char field[INDEX_NAME_LEN], const char *name, struct err *err)
{
	size_t n = strlen(name);

	if (n >= INDEX_NAME_LEN)
		return (err_set(err, 0, "the name %.40s... is longer than %u bytes", name, INDEX_NAME_LEN - 1));
	memset(field, 0, INDEX_NAME_LEN);
	memcpy(field, name, n);
	return (0);
}

int
archive_writer_member(struct archive_writer *aw, const char *name, const void *p, size_t n, struct err *err)
{
	struct index_member m = { .length = n };
	struct buf header = BUF_INIT;
	int rc = -1;

	if (put_name(m.name, name, err) == -1 || tar_plain_header(&header, name, n, aw->info.time, err) == -1)
		goto out;
	m.tar_offset = aw->tar_offset + header.len;
	digest_block(aw->info.secret, p, n, m.digest);
	if (index_writer_member(aw->index, &m, err) == -1 || add_meta(aw, header.ptr, header.len, err) == -1 || add_meta(aw, p, n, err) == -1)
		goto out;
	rc = add_zeroes(aw, tar_padding(n), err);
out:
	buf_free(&header);
	return (rc);
}

/* The headers and the map of a disk, and its entry in the index. */
static int
disk_begin(struct archive_writer *aw, const char *target, const char *member, const struct extents *ex, int64_t mtime, struct err *err)
{
	struct index_disk d = { .size = ex->size, .header_offset = aw->tar_offset };
	struct buf header = BUF_INIT;
	uint64_t stored;
	int n, rc = -1;

	if (put_name(d.target, target, err) == -1 || put_name(d.member, member, err) == -1 ||
	    (stored = tar_sparse_stored(ex, err)) == UINT64_MAX || tar_sparse_header(&header, member, ex, mtime, err) == -1)
		goto out;
	d.data_offset = aw->tar_offset + header.len + (stored - ex->bytes);
	d.map_entries = tar_sparse_entries(ex);
	if (add_meta(aw, header.ptr, header.len, err) == -1 || tar_sparse_map(ex, add_meta, aw, err) == -1)
		goto out;
	/* The finisher notes frames in the index: none may be under way while a disk is added to it. */
	flush(aw);
	if (pipeline_wait(aw->pl, err) == -1 || (n = index_writer_disk(aw->index, &d, err)) == -1)
		goto out;
	aw->source = index_writer_disk_source(aw->index, (uint32_t)n);
	memset(&aw->disk, 0, sizeof(aw->disk));
	atomic_store(&aw->read, 0);
	rc = 0;
out:
	buf_free(&header);
	return (rc);
}

static int
tick(struct archive_writer *aw, struct err *err)
{
	return (aw->feed->tick != NULL ? aw->feed->tick(aw->feed->arg, atomic_load(&aw->read), err) : 0);
}

/* Wait for a frame, or for all of them, and meanwhile let the caller know.  Failures are left to whoever asks the pipeline next. */
static int
wait_ticking(struct archive_writer *aw, int (*wait)(struct pipeline *, unsigned int), struct err *err)
{
	do {
		if (tick(aw, err) == -1)
			return (-1);
	} while (wait(aw->pl, TICK_MS) == 0);
	return (0);
}

/* Cut one extent into blocks, and put them into frames. */
static int
add_extent(struct archive_writer *aw, const struct extent *e, struct err *err)
{
	struct index_block *b;
	struct frame *f;
	size_t len;

	for (uint64_t at = 0; at < e->length; at += len) {
		len = WINDOW_SIZE - (size_t)((e->offset + at) % WINDOW_SIZE);
		if (len > e->length - at)
			len = (size_t)(e->length - at);
		if (!has_room(aw, aw->source, len)) {
			flush(aw);
			if (wait_ticking(aw, pipeline_room, err) == -1)
				return (-1);
		}
		if (want_frame(aw, aw->source, len, err) == -1)
			return (-1);
		f = aw->cur;
		b = &f->blocks[f->nblocks++];
		b->offset = e->offset + at;
		b->length = (uint32_t)len;
		f->raw_len += len;
		aw->tar_offset += len;
	}
	return (0);
}

/* A frame of ${source} that is a copy of another archive's. */
static int
add_copy(struct archive_writer *aw, uint32_t source, const struct frame_copy *fc, struct err *err)
{
	struct frame *f;

	if ((f = new_frame(aw, source, err)) == NULL)
		return (-1);
	f->copy = *fc;
	f->raw_len = fc->there.raw;
	f->nblocks = fc->there.blocks;
	aw->tar_offset += fc->there.raw;
	flush(aw);
	return (0);
}

/* An extent: what frames to copy hold of it, and what is between them.  Such a frame may reach over several extents. */
static int
add_extent_copying(struct archive_writer *aw, const struct extent *e, struct frame_copies *cs, struct err *err)
{
	uint64_t end = e->offset + e->length, upto;
	struct frame_copy fc;

	for (uint64_t at = e->offset; at < end; at = upto) {
		if (!cs->have || at < cs->next.offset) {
			upto = cs->have && cs->next.offset < end ? cs->next.offset : end;
			if (add_extent(aw, &(struct extent){ at, upto - at }, err) == -1)
				return (-1);
			continue;
		}
		if (at == cs->next.offset && (wait_ticking(aw, pipeline_room, err) == -1 || frame_copy_find(&fc, &cs->next, &aw->max, err) == -1 ||
		    add_copy(aw, aw->source, &fc, err) == -1))
			return (-1);
		upto = cs->next.end < end ? cs->next.end : end;
		if (upto == cs->next.end && frame_copies_next(cs, err) == -1)
			return (-1);
	}
	return (0);
}

static int
disk_data(struct archive_writer *aw, const struct extents *ex, struct err *err)
{
	struct frame_copies cs;
	struct spool_cursor c;
	struct extent e;
	int more;

	if (frame_copies_begin(&cs, aw->feed->copies, err) == -1)
		return (-1);
	spool_cursor_init(&c, ex->spool);
	while ((more = extents_next(&c, &e, err)) == 1)
		if (add_extent_copying(aw, &e, &cs, err) == -1)
			return (-1);
	flush(aw);
	if (more == -1 || wait_ticking(aw, pipeline_idle, err) == -1)
		return (-1);
	return (pipeline_wait(aw->pl, err));
}

/* No frame may be under way. */
static void
readers_free(struct archive_writer *aw)
{
	for (unsigned int i = 0; i < READERS; i++) {
		if (aw->readers[i] != NULL)
			aw->feed->reader_free(aw->readers[i]);
		aw->readers[i] = NULL;
	}
	aw->feed = NULL;
}

int
archive_writer_disk(struct archive_writer *aw, const char *target, const char *member, const struct extents *ex, int64_t mtime,
    const struct archive_feed *feed, struct archive_disk_written *written, struct err *err)
{
	int rc = -1;

	if (disk_begin(aw, target, member, ex, mtime, err) == -1)
		return (-1);
	aw->feed = feed;
	if (disk_data(aw, ex, err) == -1) {
		/* Whatever failed: nothing may use the source any more. */
		pipeline_free(aw->pl);
		aw->pl = NULL;
		goto out;
	}
	*written = aw->disk;
	written->data = ex->bytes;
	aw->source = NO_SOURCE;
	rc = add_zeroes(aw, tar_padding(ex->bytes), err);
out:
	readers_free(aw);
	return (rc);
}

int
archive_writer_delta_begin(struct archive_writer *aw, const char *target, const char *member, uint64_t size, struct err *err)
{
	struct index_disk *d = &aw->delta.disk;
	int n;

	*d = (struct index_disk){ .size = size, .data_offset = NO_OFFSET, .header_offset = NO_OFFSET };
	if (put_name(d->target, target, err) == -1 || put_name(d->member, member, err) == -1 ||
	    (aw->delta.staging == NULL && (aw->delta.staging = frame_new(aw, err)) == NULL))
		return (-1);
	flush(aw);
	if (pipeline_wait(aw->pl, err) == -1 || (n = index_writer_disk(aw->index, d, err)) == -1 ||
	    index_writer_view(aw->index, (uint32_t)n, &(struct index_view){ .length = 0 }, err) == -1)
		return (-1);
	aw->delta.number = (uint32_t)n;
	aw->delta.source = index_writer_disk_source(aw->index, (uint32_t)n);
	aw->delta.pieces = 0;
	aw->delta.data = 0;
	aw->delta.foreign = false;
	aw->delta.staging->raw_len = 0;
	aw->delta.staging->nblocks = 0;
	return (0);
}

/* What a piece holds, for readers without an index: adjoining blocks joined. */
static int
piece_extents(const struct frame *f, struct buf *out, struct err *err)
{
	uint64_t begin, end;

	for (uint32_t i = 0; i < f->nblocks;) {
		begin = f->blocks[i].offset;
		for (end = begin; i < f->nblocks && f->blocks[i].offset == end; i++)
			end += f->blocks[i].length;
		if (buf_addf(out, err, "%s%llu+%llu", out->len > 0 ? "," : "", (unsigned long long)begin, (unsigned long long)(end - begin)) == -1)
			return (-1);
	}
	return (0);
}

/* The headers of the staged piece, in the meta frame before it. */
static int
add_piece_header(struct archive_writer *aw, struct err *err)
{
	struct buf extents = BUF_INIT, header = BUF_INIT;
	struct tar_piece piece = { .member = aw->delta.disk.member, .number = aw->delta.pieces + 1, .size = aw->delta.staging->raw_len,
		.mtime = aw->info.time };
	int rc = -1;

	if (piece_extents(aw->delta.staging, &extents, err) == -1)
		goto out;
	piece.extents = extents.ptr;
	piece.source = aw->delta.foreign ? aw->delta.name : NULL;
	if (aw->delta.pieces == 0) {
		pthread_mutex_lock(&aw->lock);
		index_writer_disk_header(aw->index, aw->delta.number, aw->tar_offset);
		pthread_mutex_unlock(&aw->lock);
	}
	if (tar_piece_header(&header, &piece, err) == 0)
		rc = add_meta(aw, header.ptr, header.len, err);
out:
	buf_free(&extents);
	buf_free(&header);
	return (rc);
}

static int
flush_piece(struct archive_writer *aw, struct err *err)
{
	struct frame *staged = aw->delta.staging, *f;
	size_t len = staged->raw_len;

	if (staged->nblocks == 0)
		return (0);
	if (add_piece_header(aw, err) == -1)
		return (-1);
	flush(aw);
	if (want_frame(aw, aw->delta.source, len, err) == -1)
		return (-1);
	f = aw->cur;
	memcpy(f->raw, staged->raw, len);
	memcpy(f->blocks, staged->blocks, staged->nblocks * sizeof(*f->blocks));
	f->raw_len = len;
	f->nblocks = staged->nblocks;
	f->filled = true;
	aw->tar_offset += len;
	aw->delta.data += len;
	aw->delta.pieces++;
	flush(aw);
	staged->nblocks = 0;
	staged->raw_len = 0;
	return (add_zeroes(aw, tar_padding(len), err));
}

int
archive_writer_delta_block(struct archive_writer *aw, uint64_t offset, const void *p, uint32_t n, struct err *err)
{
	struct frame *f = aw->delta.staging;
	struct index_view v = { offset, n, aw->delta.source, VIEW_DATA };

	if (f->raw_len + n > aw->max.raw && flush_piece(aw, err) == -1)
		return (-1);
	f->blocks[f->nblocks].offset = offset;
	f->blocks[f->nblocks++].length = n;
	memcpy(f->raw + f->raw_len, p, n);
	f->raw_len += n;
	return (aw->delta.foreign ? 0 : archive_writer_delta_view(aw, &v, err));
}

int
archive_writer_delta_source(struct archive_writer *aw, const struct index_source *s, struct err *err)
{
	char id[UUID_LEN];
	int64_t n;

	if (flush_piece(aw, err) == -1 || (n = archive_writer_source(aw, s, err)) == -1)
		return (-1);
	aw->delta.foreign = true;
	aw->delta.source = (uint32_t)n;
	uuid_text(s->archive, id);
	snprintf(aw->delta.name, sizeof(aw->delta.name), "%s/%u", id, s->disk);
	return (0);
}

int
archive_writer_delta_copy(struct archive_writer *aw, const struct archive_copy *c, struct err *err)
{
	struct frame *staged = aw->delta.staging;
	struct frame_copy fc;
	int rc = -1;

	if (flush_piece(aw, err) == -1 || frame_copy_find(&fc, c, &aw->max, err) == -1)
		return (-1);
	/* Only for the piece's header. */
	if (index_blocks(c->ar->ix, c->source, fc.there.first_block, fc.there.blocks, staged->blocks, err) == -1)
		return (-1);
	staged->nblocks = fc.there.blocks;
	staged->raw_len = fc.there.raw;
	if (add_piece_header(aw, err) == 0 && add_copy(aw, aw->delta.source, &fc, err) == 0 && add_zeroes(aw, tar_padding(fc.there.raw), err) == 0)
		rc = 0;
	staged->nblocks = 0;
	staged->raw_len = 0;
	aw->delta.data += fc.there.raw;
	aw->delta.pieces++;
	return (rc);
}

int
archive_writer_replaces(struct archive_writer *aw, const uint8_t id[ARCHIVE_ID_LEN], struct err *err)
{
	int rc;

	pthread_mutex_lock(&aw->lock);
	rc = index_writer_replaces(aw->index, id, err);
	pthread_mutex_unlock(&aw->lock);
	return (rc);
}

int
archive_writer_delta_view(struct archive_writer *aw, const struct index_view *v, struct err *err)
{
	int rc;

	pthread_mutex_lock(&aw->lock);
	rc = index_writer_view(aw->index, aw->delta.number, v, err);
	pthread_mutex_unlock(&aw->lock);
	return (rc);
}

int64_t
archive_writer_source(struct archive_writer *aw, const struct index_source *s, struct err *err)
{
	int64_t n;

	pthread_mutex_lock(&aw->lock);
	n = index_writer_source(aw->index, s, err);
	pthread_mutex_unlock(&aw->lock);
	return (n);
}

int
archive_writer_delta_end(struct archive_writer *aw, struct archive_disk_written *written, struct err *err)
{
	if (flush_piece(aw, err) == -1)
		return (-1);
	flush(aw);
	if (pipeline_wait(aw->pl, err) == -1)
		return (-1);
	*written = (struct archive_disk_written){ .data = aw->delta.data };
	return (0);
}

int
archive_writer_references(struct archive_writer *aw, int (*fn)(void *arg, const uint8_t id[ARCHIVE_ID_LEN], struct err *err), void *arg,
    struct err *err)
{
	return (index_writer_references(aw->index, fn, arg, err));
}

/* The index goes to its file and into the tar stream at once; its trailer begins the tail frame. */
struct index_sink {
	struct archive_writer	*aw;
	struct store_file	*file;
	struct sha256		*sha;
	uint64_t		 length, emitted;
};

static int
emit_index(void *arg, const void *p, size_t n, struct err *err)
{
	struct index_sink *s = arg;

	s->emitted += n;
	if (s->emitted == s->length)
		flush(s->aw);
	if (sha256_add(s->sha, p, n, err) == -1 || (s->file != NULL && store_append(s->file, p, n, err) == -1))
		return (-1);
	return (add_meta(s->aw, p, n, err));
}

/* The member index.bin, from a frame of its own on; everything before it is settled. */
static int
write_index(struct archive_writer *aw, struct store_file *file, struct sha256 *sha, struct err *err)
{
	struct index_sink sink = { .aw = aw, .file = file, .sha = sha };
	struct buf header = BUF_INIT;
	struct index_place place;
	int rc = -1;

	flush(aw);
	if (pipeline_wait(aw->pl, err) == -1)
		return (-1);
	aw->listing = false;
	sink.length = index_writer_length(aw->index);
	place = (struct index_place){ .offset = aw->out->size, .tar_offset = aw->tar_offset };
	if (tar_plain_header(&header, INDEX_MEMBER, sink.length, aw->info.time, err) == -1 ||
	    add_meta(aw, header.ptr, header.len, err) == -1 ||
	    index_writer_emit(aw->index, &place, emit_index, &sink, err) == -1)
		goto out;
	rc = 0;
out:
	buf_free(&header);
	return (rc);
}

int
archive_writer_finish(struct archive_writer *aw, struct store_file *index, struct archive_written *written, struct err *err)
{
	struct sha256 *sha = sha256_new(err);
	uint64_t end;
	int rc = -1;

	if (sha == NULL || write_index(aw, index, sha, err) == -1)
		goto out;
	end = aw->tar_offset + 2 * TAR_BLOCK;
	if (add_zeroes(aw, 2 * TAR_BLOCK + (size_t)((TAR_RECORD - end % TAR_RECORD) % TAR_RECORD), err) == -1)
		goto out;
	flush(aw);
	if (pipeline_wait(aw->pl, err) == -1)
		goto out;
	written->size = aw->out->size;
	written->raw = aw->tar_offset;
	written->copied = aw->copied;
	if (sha256_end(aw->sha, written->sha256, err) == -1 || sha256_end(sha, written->index_sha256, err) == -1)
		goto out;
	rc = 0;
out:
	sha256_free(sha);
	return (rc);
}

uint64_t
archive_writer_stored(struct archive_writer *aw)
{
	return (atomic_load(&aw->stored));
}

void
archive_writer_free(struct archive_writer *aw)
{
	if (aw == NULL)
		return;
	pipeline_free(aw->pl);
	frame_free(aw->delta.staging);
	for (size_t i = 0; i < aw->nframes; i++)
		frame_free(aw->frames[i]);
	free(aw->frames);
	index_writer_free(aw->index);
	sha256_free(aw->sha);
	pthread_mutex_destroy(&aw->lock);
	free(aw);
}
