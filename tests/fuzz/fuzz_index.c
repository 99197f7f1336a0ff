/*
 * An index: any bytes are refused with a reason, or give an index whose records keep all of FORMAT.md's promises, and whose
 * searches agree with looking at every record.
 */
#include <assert.h>
#include <sys/mman.h>
#include <unistd.h>

#include "archive/index_reader.h"
#include "base/extent.h"
#include "base/io.h"
#include "reseal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_views(const struct index_reader *ix, uint32_t disk)
{
	uint64_t n = index_view_count(ix, disk), end = 0;
	struct err err = ERR_INIT;
	struct index_view v;

	for (uint64_t i = 0; i < n; i++) {
		assert(index_view(ix, disk, i, 1, &v, &err) == 0);
		assert(v.length > 0 && v.offset >= end && v.length <= index_disk(ix, disk)->size - v.offset);
		assert(v.kind == VIEW_ZERO || (v.kind == VIEW_DATA && v.source < index_sources(ix)));
		end = v.offset + v.length;
	}
	assert(index_view(ix, disk, n, 1, &v, &err) == -1);
}

static void
check_frames(const struct index_reader *ix)
{
	uint64_t n = index_frame_count(ix), offset = 0, tar_offset = 0;
	struct err err = ERR_INIT;
	struct index_frame f;

	for (uint64_t i = 0; i < n; i++) {
		assert(index_frames(ix, i, 1, &f, &err) == 0);
		assert(f.offset == offset && f.tar_offset == tar_offset && f.stored > 0 && f.raw > 0 && f.raw <= FRAME_RAW_MAX);
		if (f.source == NO_SOURCE)
			assert(f.blocks == 0);
		else
			assert(f.source < index_sources(ix) && f.raw <= index_frame_max(ix) && f.blocks > 0 &&
			    f.blocks <= index_block_count(ix, f.source) && f.first_block <= index_block_count(ix, f.source) - f.blocks);
		offset += f.stored;
		tar_offset += f.raw;
	}
	assert(index_frames(ix, n, 1, &f, &err) == -1);
}

static void
check_members(const struct index_reader *ix)
{
	uint32_t n = index_members(ix);
	struct err err = ERR_INIT;
	struct index_frame f;
	struct index_member m;
	uint64_t end = 0;

	assert(n <= INDEX_MEMBERS_MAX);
	for (uint32_t i = 0; i < n; i++) {
		assert(index_member(ix, i, &m, &err) == 0 && m.length <= INDEX_MEMBER_MAX && m.tar_offset >= end);
		assert(index_member_find(ix, m.name) == i && strchr(m.name, '/') == NULL && strcmp(m.name, INDEX_MEMBER) != 0);
		end = m.tar_offset + m.length;
		/* The frames from the named one on have all of it, and are meta frames. */
		for (uint64_t at = m.frame; at == m.frame || f.tar_offset + f.raw < end; at++) {
			assert(index_frames(ix, at, 1, &f, &err) == 0 && f.source == NO_SOURCE);
			assert(at > m.frame || m.length == 0 || (f.tar_offset <= m.tar_offset && m.tar_offset < f.tar_offset + f.raw));
		}
	}
	assert(index_member(ix, n, &m, &err) == -1);
}

static void
check_replaced(const struct index_reader *ix)
{
	uint8_t id[ARCHIVE_ID_LEN];
	struct err err = ERR_INIT;

	for (uint64_t i = 0; i < index_replaced(ix) && i < 16; i++)
		assert(index_replaced_id(ix, i, id, &err) == 0 && index_replaces(ix, id));
	assert(index_replaced_id(ix, index_replaced(ix), id, &err) == -1);
}

/* The number of the first block that ends after ${offset}, by looking at all. */
static uint64_t
naive_find(const struct index_block *b, uint64_t n, uint64_t offset)
{
	uint64_t i = 0;

	while (i < n && b[i].offset + b[i].length <= offset)
		i++;
	return (i);
}

static void
check_blocks(const struct index_reader *ix, uint32_t source)
{
	uint64_t n = index_block_count(ix, source), end = 0, at, frame;
	struct index_block *b = calloc(n + 1, sizeof(*b));
	struct err err = ERR_INIT;
	struct index_frame f;

	assert(b != NULL && index_blocks(ix, source, 0, (size_t)n, b, &err) == 0);
	assert(index_blocks(ix, source, n, 1, &b[n], &err) == -1);
	for (uint64_t i = 0; i < n; i++) {
		assert(b[i].length > 0 && b[i].length <= WINDOW_SIZE && b[i].offset % SECTOR == 0 && b[i].offset >= end);
		assert(b[i].offset / WINDOW_SIZE == (b[i].offset + b[i].length - 1) / WINDOW_SIZE && (b[i].flags & ~BLOCK_ZERO) == 0);
		end = b[i].offset + b[i].length;
		assert(index_frame_of(ix, source, i, &frame, &err) == 0 && frame < index_frame_count(ix));
		assert(index_frames(ix, frame, 1, &f, &err) == 0 && f.source == source);
		assert(f.first_block <= i && i - f.first_block < f.blocks);
		for (int d = -1; d <= 1; d++) {
			assert(index_block_find(ix, source, b[i].offset + (uint64_t)d, &at, &err) == 0);
			assert(at == naive_find(b, n, b[i].offset + (uint64_t)d));
			assert(index_block_find(ix, source, end + (uint64_t)d, &at, &err) == 0 && at == naive_find(b, n, end + (uint64_t)d));
		}
	}
	assert(index_block_find(ix, source, 0, &at, &err) == 0 && at == 0);
	assert(index_block_find(ix, source, UINT64_MAX, &at, &err) == 0 && at == n);
	free(b);
}

static void
check_sources(const struct index_reader *ix)
{
	struct err err = ERR_INIT;
	struct index_source s;
	uint32_t found;

	for (uint32_t i = 0; i < index_sources(ix); i++) {
		assert(index_source(ix, i, &s, &err) == 0);
		found = index_source_find(ix, &s);
		/* The same source twice: then the first one with blocks is meant. */
		assert(index_block_count(ix, i) == 0 || found <= i);
		check_blocks(ix, i);
		(void)index_replaces(ix, s.archive);
	}
	assert(index_source(ix, index_sources(ix), &s, &err) == -1);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int fd = memfd_create("index", MFD_CLOEXEC);
	struct err err = ERR_INIT;
	struct store_file *f;
	struct index_reader *ix;

	assert(fd != -1 && io_pwrite(fd, data, size, 0) == 0);
	assert((f = store_dir_wrap(fd, "index", &err)) != NULL);
	if ((ix = index_open(f, &err)) == NULL) {
		assert(err.text[0] != '\0');
		return (0);
	}
	assert(index_length(ix) == size && index_info(ix)->codec != NULL && index_frame_max(ix) <= FRAME_RAW_MAX);
	for (uint32_t i = 0; i < index_disks(ix); i++) {
		assert(index_disk_find(ix, index_disk(ix, i)->target) == i);
		assert(index_disk_find(ix, index_disk(ix, i)->member) != UINT32_MAX && strchr(index_disk(ix, i)->member, '/') == NULL);
		check_views(ix, i);
	}
	check_frames(ix);
	check_members(ix);
	check_sources(ix);
	check_replaced(ix);
	index_close(ix);
	return (0);
}

/* Change the bytes, sometimes a record with care, and make the digests match again. */
size_t
LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned int seed)
{
	uint32_t state = seed;

	if (LLVMFuzzerMutate == NULL)
		return (size);
	if (reseal_random(&state) % 4 == 0) {
		size = LLVMFuzzerMutate(data, size, max);
		size -= reseal_random(&state) % 8 != 0 ? size % 512 : 0;
		if (size >= INDEX_HEADER_LEN && reseal_random(&state) % 8 != 0)
			le64_put(data + 56, size);
	} else
		for (uint32_t n = 1 + reseal_random(&state) % 4; n > 0; n--)
			reseal_nudge(data, size, &state);
	if (reseal_random(&state) % 16 != 0)
		reseal_index(data, size);
	return (size);
}
