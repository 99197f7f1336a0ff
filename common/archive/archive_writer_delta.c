/* A disk of which only the changed blocks are stored: pieces, each with its headers, and the disk's view (FORMAT.md, "Members of the tar stream, in order"). */
#include <stdio.h>
#include <string.h>

#include "archive/archive_writer_private.h"
#include "archive/tar.h"
#include "base/buf.h"

int
archive_writer_delta_begin(struct archive_writer *aw, const char *target, const char *member, uint64_t size, struct err *err)
{
	struct index_disk *d = &aw->delta.disk;
	int n;

	*d = (struct index_disk){ .size = size, .data_offset = NO_OFFSET, .header_offset = NO_OFFSET };
	if (aw_put_name(d->target, target, err) == -1 || aw_put_name(d->member, member, err) == -1 ||
	    (aw->delta.staging == NULL && (aw->delta.staging = aw_frame_new(aw, err)) == NULL))
		return (-1);
	aw_flush(aw);
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
		rc = aw_meta(aw, header.ptr, header.len, err);
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
	aw_flush(aw);
	if (aw_want_frame(aw, aw->delta.source, len, err) == -1)
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
	aw_flush(aw);
	staged->nblocks = 0;
	staged->raw_len = 0;
	return (aw_zeroes(aw, tar_padding(len), err));
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
	if (add_piece_header(aw, err) == 0 && aw_copy(aw, aw->delta.source, &fc, err) == 0 && aw_zeroes(aw, tar_padding(fc.there.raw), err) == 0)
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
	aw_flush(aw);
	if (pipeline_wait(aw->pl, err) == -1)
		return (-1);
	*written = (struct archive_disk_written){ .data = aw->delta.data };
	return (0);
}
