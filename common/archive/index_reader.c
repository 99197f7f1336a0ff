#include "archive/index_reader.h"

#include <stdlib.h>
#include <string.h>

#include "archive/index_check.h"
#include "base/le.h"

#define BATCH	256u		/* records read at once */

struct index_reader *
index_open(struct store_file *f, struct err *err)
{
	struct index_reader *ix = calloc(1, sizeof(*ix));

	if (ix == NULL) {
		store_file_close(f);
		err_nomem(err);
		return (NULL);
	}
	ix->f = f;
	store_small_reads(f);
	if (index_check(ix, err) == -1) {
		index_close(ix);
		return (NULL);
	}
	return (ix);
}

void
index_close(struct index_reader *ix)
{
	if (ix == NULL)
		return;
	store_file_close(ix->f);
	free(ix->disks);
	free(ix->members);
	free(ix->views);
	free(ix->blocks);
	free(ix->spans);
	free(ix);
}

const struct index_info *
index_info(const struct index_reader *ix)
{
	return (&ix->info);
}

uint32_t
index_frame_max(const struct index_reader *ix)
{
	return (ix->frame_max);
}

const uint8_t *
index_file_digest(const struct index_reader *ix)
{
	return (ix->digest);
}

uint64_t
index_length(const struct index_reader *ix)
{
	return (ix->f->size);
}

uint32_t
index_disks(const struct index_reader *ix)
{
	return (ix->ndisks);
}

const struct index_disk *
index_disk(const struct index_reader *ix, uint32_t n)
{
	return (&ix->disks[n]);
}

uint32_t
index_disk_find(const struct index_reader *ix, const char *target)
{
	for (uint32_t i = 0; i < ix->ndisks; i++)
		if (strcmp(ix->disks[i].target, target) == 0)
			return (i);
	for (uint32_t i = 0; i < ix->ndisks; i++)
		if (strcmp(ix->disks[i].member, target) == 0)
			return (i);
	return (UINT32_MAX);
}

uint32_t
index_sources(const struct index_reader *ix)
{
	return (ix->nsources);
}

/* Read ${n} encoded records of a section. */
static int
read_records(const struct index_reader *ix, const struct index_section *s, size_t record, uint64_t first, size_t n, uint8_t *buf,
    struct err *err)
{
	if (first > s->count || n > s->count - first)
		return (err_set(err, 0, "the index has no records %llu+%zu", (unsigned long long)first, n));
	return (store_file_read(ix->f, buf, n * record, s->offset + first * record, err));
}

int
index_source(const struct index_reader *ix, uint32_t n, struct index_source *out, struct err *err)
{
	uint8_t r[SOURCE_RECORD];

	if (read_records(ix, &ix->sources, SOURCE_RECORD, n, 1, r, err) == -1)
		return (-1);
	memcpy(out->archive, r, ARCHIVE_ID_LEN);
	out->disk = le32_get(r + 16);
	return (0);
}

uint32_t
index_source_find(const struct index_reader *ix, const struct index_source *want)
{
	struct err ignored = ERR_INIT;
	struct index_source s;

	for (uint32_t i = 0; i < ix->nsources; i++)
		if (ix->blocks[i].count > 0 && index_source(ix, i, &s, &ignored) == 0 && s.disk == want->disk &&
		    memcmp(s.archive, want->archive, ARCHIVE_ID_LEN) == 0)
			return (i);
	return (UINT32_MAX);
}

bool
index_replaces(const struct index_reader *ix, const uint8_t id[ARCHIVE_ID_LEN])
{
	struct err ignored = ERR_INIT;
	uint8_t r[REPLACES_RECORD];

	for (uint64_t i = 0; i < ix->replaces.count; i++)
		if (read_records(ix, &ix->replaces, REPLACES_RECORD, i, 1, r, &ignored) == 0 && memcmp(r, id, ARCHIVE_ID_LEN) == 0)
			return (true);
	return (false);
}

uint64_t
index_replaced(const struct index_reader *ix)
{
	return (ix->replaces.count);
}

int
index_replaced_id(const struct index_reader *ix, uint64_t n, uint8_t id[ARCHIVE_ID_LEN], struct err *err)
{
	return (read_records(ix, &ix->replaces, REPLACES_RECORD, n, 1, id, err));
}

uint32_t
index_members(const struct index_reader *ix)
{
	return (ix->nmembers);
}

int
index_member(const struct index_reader *ix, uint64_t n, struct index_member *out, struct err *err)
{
	if (n >= ix->nmembers)
		return (err_set(err, 0, "the index has no small member %llu", (unsigned long long)n));
	*out = ix->members[n];
	return (0);
}

uint32_t
index_member_find(const struct index_reader *ix, const char *name)
{
	for (uint32_t i = 0; i < ix->nmembers; i++)
		if (strcmp(ix->members[i].name, name) == 0)
			return (i);
	return (UINT32_MAX);
}

uint64_t
index_view_count(const struct index_reader *ix, uint32_t disk)
{
	return (ix->views[disk].count);
}

int
index_view(const struct index_reader *ix, uint32_t disk, uint64_t first, size_t n, struct index_view *out, struct err *err)
{
	uint8_t buf[BATCH * VIEW_RECORD];
	size_t part;

	for (; n > 0; n -= part, first += part) {
		part = n < BATCH ? n : BATCH;
		if (read_records(ix, &ix->views[disk], VIEW_RECORD, first, part, buf, err) == -1)
			return (-1);
		for (size_t i = 0; i < part; i++)
			index_decode_view(buf + i * VIEW_RECORD, out++);
	}
	return (0);
}

uint64_t
index_frame_count(const struct index_reader *ix)
{
	return (ix->frames.count);
}

int
index_frames(const struct index_reader *ix, uint64_t first, size_t n, struct index_frame *out, struct err *err)
{
	uint8_t buf[BATCH * FRAME_RECORD];
	size_t part;

	for (; n > 0; n -= part, first += part) {
		part = n < BATCH ? n : BATCH;
		if (read_records(ix, &ix->frames, FRAME_RECORD, first, part, buf, err) == -1)
			return (-1);
		for (size_t i = 0; i < part; i++)
			index_decode_frame(buf + i * FRAME_RECORD, out++);
	}
	return (0);
}

uint64_t
index_block_count(const struct index_reader *ix, uint32_t source)
{
	return (ix->blocks[source].count);
}

int
index_blocks(const struct index_reader *ix, uint32_t source, uint64_t first, size_t n, struct index_block *out, struct err *err)
{
	uint8_t buf[BATCH * BLOCK_RECORD];
	size_t part;

	for (; n > 0; n -= part, first += part) {
		part = n < BATCH ? n : BATCH;
		if (read_records(ix, &ix->blocks[source], BLOCK_RECORD, first, part, buf, err) == -1)
			return (-1);
		for (size_t i = 0; i < part; i++)
			index_decode_block(buf + i * BLOCK_RECORD, out++);
	}
	return (0);
}

int
index_block_find(const struct index_reader *ix, uint32_t source, uint64_t offset, uint64_t *out, struct err *err)
{
	uint64_t lo = 0, hi = ix->blocks[source].count, mid;
	struct index_block b;

	while (lo < hi) {
		mid = lo + (hi - lo) / 2;
		if (index_blocks(ix, source, mid, 1, &b, err) == -1)
			return (-1);
		if (b.offset + b.length <= offset)
			lo = mid + 1;
		else
			hi = mid;
	}
	*out = lo;
	return (0);
}

/* The frames of a source stand together, with only meta frames between them: those are stepped over, a few at most (index_check.c). */
int
index_frame_of(const struct index_reader *ix, uint32_t source, uint64_t block, uint64_t *out, struct err *err)
{
	uint64_t lo = ix->spans[source].first, hi = ix->spans[source].end, mid, at;
	struct index_frame f = { .source = NO_SOURCE };

	/* The frame is in [lo, hi), and lo is one of the source that does not begin after the block. */
	while (hi - lo > 1) {
		mid = lo + (hi - lo) / 2;
		for (at = mid; at < hi; at++) {
			if (index_frames(ix, at, 1, &f, err) == -1)
				return (-1);
			if (f.source == source)
				break;
		}
		if (at == hi || f.first_block > block)
			hi = mid;
		else
			lo = at;
	}
	*out = lo;
	return (0);
}
