/*
 * A bare archive: any bytes are refused with a reason, or every byte that its disks' views promise is either given, within the disk and
 * once, or told as damaged.
 */
#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "archive/archive_reader.h"
#include "archive/extract.h"
#include "archive/member_reader.h"
#include "archive/tar.h"
#include "base/io.h"
#include "reseal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct sink {
	uint64_t		size;		/* of the disk */
	_Atomic uint64_t	given, lost;	/* bytes */
};

static int
on_data(void *arg, uint64_t offset, const void *p, size_t n, struct err *err)
{
	struct sink *s = arg;
	static _Atomic unsigned int sum;

	(void)err;
	assert(n > 0 && offset < s->size && n <= s->size - offset);
	/* Touch both ends: a sanitizer sees what is beyond. */
	atomic_fetch_add(&sum, ((const uint8_t *)p)[0] + ((const uint8_t *)p)[n - 1]);
	atomic_fetch_add(&s->given, n);
	return (0);
}

static int
on_damage(void *arg, const char *disk, uint64_t offset, uint64_t length, const char *why, struct err *err)
{
	struct sink *s = arg;

	(void)err;
	assert(disk != NULL && disk[0] != '\0' && why != NULL && why[0] != '\0' && length > 0);
	assert(s->size == UINT64_MAX || (offset < s->size && length <= s->size - offset));
	atomic_fetch_add(&s->lost, length);
	return (0);
}

static void
check_disk(struct archive_set *set, uint32_t disk)
{
	static const struct extract_ops ops = { .data = on_data, .damage = on_damage };
	const struct index_reader *ix = archive_set_first(set)->ix;
	struct sink s = { .size = index_disk(ix, disk)->size };
	struct err err = ERR_INIT;
	uint64_t bytes;

	assert(extract_size(ix, disk, &bytes, &err) == 0 && bytes <= s.size);
	assert(extract_disk(set, disk, &ops, &s, &err) == 0);
	assert(s.given + s.lost == bytes);
}

/* What is read of it has its digest, and what is not has a reason with the member's name. */
static void
check_member(struct archive_reader *ar, uint32_t n)
{
	uint8_t digest[DIGEST_LEN];
	struct err err = ERR_INIT;
	struct buf out = BUF_INIT;
	struct index_member m;

	assert(index_member(ar->ix, n, &m, &err) == 0 && m.length <= INDEX_MEMBER_MAX);
	if (member_read(ar, n, &out, &err) == 0) {
		digest_block(index_info(ar->ix)->secret, out.ptr, out.len, digest);
		assert(out.len == m.length && memcmp(digest, m.digest, DIGEST_LEN) == 0);
	} else
		assert(out.len == 0 && strstr(err.text, m.name) != NULL);
	buf_free(&out);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct extract_ops ops = { .damage = on_damage };
	int fd = memfd_create("archive", MFD_CLOEXEC);
	struct sink s = { .size = UINT64_MAX };
	struct err err = ERR_INIT;
	struct archive_reader *ar;
	struct archive_set *set;
	char path[64];

	setenv("TMPDIR", "/dev/shm", 0);
	assert(fd != -1 && io_pwrite(fd, data, size, 0) == 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if ((ar = archive_open_bare(path, &err)) == NULL) {
		assert(err.text[0] != '\0');
		close(fd);
		return (0);
	}
	assert(extract_check(ar, &ops, &s, &err) == 0);
	for (uint32_t i = 0; i < index_members(ar->ix) && i < 4; i++)
		check_member(ar, i);
	assert((set = archive_set_new(NULL, ar, "", &err)) != NULL);
	for (uint32_t i = 0; i < index_disks(ar->ix) && i < 4; i++)
		check_disk(set, i);
	archive_set_free(set);
	close(fd);
	return (0);
}

/* ---- The mutator, for archives without compression: they begin with a tar header. ---- */

/* The trailer, looking from the end; NULL when there is none with a sound place of the index. */
static uint8_t *
find_trailer(uint8_t *data, size_t size)
{
	for (size_t at = size - size % TAR_BLOCK; at >= TAR_BLOCK; at -= TAR_BLOCK)
		if (memcmp(data + at - TAR_BLOCK, "OVBTRAIL", 8) == 0)
			return (data + at - TAR_BLOCK);
	return (NULL);
}

static uint8_t *
find_section(uint8_t *index, size_t n, uint32_t type, uint32_t number, size_t *len)
{
	const uint8_t *r;

	for (uint32_t i = 0; i < reseal_count(index, n); i++) {
		r = index + INDEX_HEADER_LEN + (size_t)i * INDEX_SECTION_LEN;
		if (le32_get(r) == type && le32_get(r + 4) == number)
			return (reseal_section(index, n, i, len));
	}
	return (NULL);
}

/* Give the blocks of one frame the digests of what is in it. */
static void
reseal_frame(uint8_t *data, size_t size, uint8_t *index, size_t n, const uint8_t *frame)
{
	uint64_t at = le64_get(frame), first = le64_get(frame + 16);
	size_t len = 0;
	uint8_t *blocks = find_section(index, n, SECTION_BLOCKS, le32_get(frame + 36), &len), *b;
	uint32_t length;

	for (uint32_t i = 0; blocks != NULL && i < le32_get(frame + 32) && first < len / BLOCK_RECORD && i < len / BLOCK_RECORD - first; i++) {
		b = blocks + (first + i) * BLOCK_RECORD;
		length = le32_get(b + 8);
		if (at > size || length > size - at)
			return;
		digest_block(index + 72, data + at, length, b + 16);
		le32_put(b + 12, bytes_are_zero(data + at, length) ? BLOCK_ZERO : 0);
		at += length;
	}
}

static void
reseal_archive(uint8_t *data, size_t size, uint8_t *trailer, uint8_t *index, size_t n, bool blocks)
{
	size_t len = 0;
	uint8_t *frames = find_section(index, n, SECTION_FRAMES, 0, &len);

	for (size_t i = 0; blocks && frames != NULL && i + FRAME_RECORD <= len; i += FRAME_RECORD)
		reseal_frame(data, size, index, n, frames + i);
	reseal_index(index, n);
	memcpy(trailer + 56, index + 496, DIGEST_LEN);
	memcpy(trailer + 16, index + 16, ARCHIVE_ID_LEN);
	digest_plain(trailer, 496, trailer + 496);
}

size_t
LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned int seed)
{
	uint8_t *trailer, *index = NULL;
	uint32_t state = seed;
	uint64_t at, length;

	if (LLVMFuzzerMutate == NULL)
		return (size);
	if ((trailer = find_trailer(data, size)) != NULL) {
		at = le64_get(trailer + 40);
		length = le64_get(trailer + 32);
		if (at <= size && length <= size && length >= INDEX_HEADER_LEN && at + TAR_BLOCK + length <= size)
			index = data + at + TAR_BLOCK;
	}
	if (index == NULL || reseal_random(&state) % 8 == 0)
		return (LLVMFuzzerMutate(data, size, max));
	for (uint32_t i = 1 + reseal_random(&state) % 4; i > 0; i--)
		reseal_nudge(index, (size_t)length, &state);
	if (reseal_random(&state) % 8 == 0)
		data[reseal_random(&state) % size] ^= (uint8_t)(1u << reseal_random(&state) % 8);
	if (reseal_random(&state) % 16 != 0)
		reseal_archive(data, size, trailer, index, (size_t)length, reseal_random(&state) % 4 != 0);
	return (size);
}
