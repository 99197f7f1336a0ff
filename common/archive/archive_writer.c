#include <stdlib.h>
#include <string.h>

#include "archive/archive_writer_private.h"
#include "archive/tar.h"
#include "base/buf.h"

#define WORKERS_MAX	32u
#define JOBS_BYTES	((size_t)32 << 20)	/* small frames: as many as fit in this, so that no thread waits */
#define JOBS_MAX	32u
#define TICK_MS		100u		/* how often, at least, the caller hears how far it is */

/* What the pipeline's threads do with a frame: readers fill it, workers digest and compress it, the finisher stores and lists it. */

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

struct frame *
aw_frame_new(const struct archive_writer *aw, struct err *err)
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
		if ((aw->frames[aw->nframes] = aw_frame_new(aw, err)) == NULL)
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

/* The producer: the tar stream, put into one frame after the other. */

void
aw_flush(struct archive_writer *aw)
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

	aw_flush(aw);
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

int
aw_want_frame(struct archive_writer *aw, uint32_t source, size_t room, struct err *err)
{
	return (has_room(aw, source, room) || new_frame(aw, source, err) != NULL ? 0 : -1);
}

int
aw_meta(void *arg, const void *p, size_t n, struct err *err)
{
	struct archive_writer *aw = arg;
	size_t part;

	for (size_t at = 0; at < n; at += part) {
		if (aw_want_frame(aw, NO_SOURCE, 1, err) == -1)
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

int
aw_zeroes(struct archive_writer *aw, size_t n, struct err *err)
{
	static const uint8_t zeroes[TAR_RECORD + 2 * TAR_BLOCK];

	return (aw_meta(aw, zeroes, n, err));
}

int
aw_put_name(char field[INDEX_NAME_LEN], const char *name, struct err *err)
{
	size_t n = strlen(name);

	if (n >= INDEX_NAME_LEN)
		return (err_set(err, 0, "the name %.40s... is longer than %u bytes", name, INDEX_NAME_LEN - 1));
	memset(field, 0, INDEX_NAME_LEN);
	memcpy(field, name, n);
	return (0);
}

/* Members: small ones, and disks of which all data is here. */

int
archive_writer_member(struct archive_writer *aw, const char *name, const void *p, size_t n, struct err *err)
{
	struct index_member m = { .length = n };
	struct buf header = BUF_INIT;
	int rc = -1;

	if (aw_put_name(m.name, name, err) == -1 || tar_plain_header(&header, name, n, aw->info.time, err) == -1)
		goto out;
	m.tar_offset = aw->tar_offset + header.len;
	digest_block(aw->info.secret, p, n, m.digest);
	if (index_writer_member(aw->index, &m, err) == -1 || aw_meta(aw, header.ptr, header.len, err) == -1 || aw_meta(aw, p, n, err) == -1)
		goto out;
	rc = aw_zeroes(aw, tar_padding(n), err);
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

	if (aw_put_name(d.target, target, err) == -1 || aw_put_name(d.member, member, err) == -1 ||
	    (stored = tar_sparse_stored(ex, err)) == UINT64_MAX || tar_sparse_header(&header, member, ex, mtime, err) == -1)
		goto out;
	d.data_offset = aw->tar_offset + header.len + (stored - ex->bytes);
	d.map_entries = tar_sparse_entries(ex);
	if (aw_meta(aw, header.ptr, header.len, err) == -1 || tar_sparse_map(ex, aw_meta, aw, err) == -1)
		goto out;
	/* The finisher notes frames in the index: none may be under way while a disk is added to it. */
	aw_flush(aw);
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
			aw_flush(aw);
			if (wait_ticking(aw, pipeline_room, err) == -1)
				return (-1);
		}
		if (aw_want_frame(aw, aw->source, len, err) == -1)
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

int
aw_copy(struct archive_writer *aw, uint32_t source, const struct frame_copy *fc, struct err *err)
{
	struct frame *f;

	if ((f = new_frame(aw, source, err)) == NULL)
		return (-1);
	f->copy = *fc;
	f->raw_len = fc->there.raw;
	f->nblocks = fc->there.blocks;
	aw->tar_offset += fc->there.raw;
	aw_flush(aw);
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
		    aw_copy(aw, aw->source, &fc, err) == -1))
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
	aw_flush(aw);
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
	rc = aw_zeroes(aw, tar_padding(ex->bytes), err);
out:
	readers_free(aw);
	return (rc);
}

/* The end: the index, and what is known then. */

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
		aw_flush(s->aw);
	if (sha256_add(s->sha, p, n, err) == -1 || (s->file != NULL && store_append(s->file, p, n, err) == -1))
		return (-1);
	return (aw_meta(s->aw, p, n, err));
}

/* The member index.bin, from a frame of its own on; everything before it is settled. */
static int
write_index(struct archive_writer *aw, struct store_file *file, struct sha256 *sha, struct err *err)
{
	struct index_sink sink = { .aw = aw, .file = file, .sha = sha };
	struct buf header = BUF_INIT;
	struct index_place place;
	int rc = -1;

	aw_flush(aw);
	if (pipeline_wait(aw->pl, err) == -1)
		return (-1);
	aw->listing = false;
	sink.length = index_writer_length(aw->index);
	place = (struct index_place){ .offset = aw->out->size, .tar_offset = aw->tar_offset };
	if (tar_plain_header(&header, INDEX_MEMBER, sink.length, aw->info.time, err) == -1 ||
	    aw_meta(aw, header.ptr, header.len, err) == -1 ||
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
	if (aw_zeroes(aw, 2 * TAR_BLOCK + (size_t)((TAR_RECORD - end % TAR_RECORD) % TAR_RECORD), err) == -1)
		goto out;
	aw_flush(aw);
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
