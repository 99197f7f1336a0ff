/* Small members: what is written is read again, whatever frames it spans; what may not be written is refused, what is damaged is told. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "archive/archive_writer.h"
#include "archive/member_reader.h"
#include "base/io.h"
#include "base/le.h"
#include "memory_feed.h"

#define MIB	((size_t)1 << 20)

static uint32_t seed = 1;

static uint32_t
rnd(uint32_t n)
{
	seed = seed * 1664525u + 1013904223u;
	return ((seed >> 8) % n);
}

/* An archive being written to memory. */
struct made {
	int			 fd;
	char			 path[64];
	struct index_info	 info;
	struct store_file	*out;
	struct archive_writer	*aw;
};

static void
begin(struct made *m, const struct codec *codec, int level)
{
	struct err err = ERR_INIT;

	memset(m, 0, sizeof(*m));
	m->info.codec = codec;
	m->info.level = level;
	m->info.time = 1795311000;
	for (size_t i = 0; i < SECRET_LEN; i++)
		m->info.secret[i] = (uint8_t)rnd(256);
	assert_int_not_equal(m->fd = memfd_create("archive", MFD_CLOEXEC), -1);
	snprintf(m->path, sizeof(m->path), "/proc/self/fd/%d", m->fd);
	assert_non_null(m->out = store_stream_wrap(m->fd, "memory", &err));
	assert_non_null(m->aw = archive_writer_new(&m->info, m->out, &err));
}

static int
read_letter(void *reader, void *p, size_t n, uint64_t offset, struct err *err)
{
	(void)offset;
	(void)err;
	memset(p, *(char *)reader, n);
	return (0);
}

/* A disk full of one letter. */
static void
add_disk(struct made *m, uint64_t size)
{
	char letter = 'd';
	struct archive_feed feed = memory_feed(&letter);
	struct archive_disk_written written;
	struct extents *ex;
	struct err err = ERR_INIT;

	feed.read = read_letter;
	assert_non_null(ex = extents_new(size, &err));
	assert_int_equal(extents_add(ex, 0, size, &err), 0);
	assert_int_equal(extents_end(ex, &err), 0);
	assert_int_equal(archive_writer_disk(m->aw, "vda", "vda.img", ex, 0, &feed, &written, &err), 0);
	extents_free(ex);
}

static void
finish(struct made *m)
{
	struct archive_written written;
	struct err err = ERR_INIT;

	assert_int_equal(archive_writer_finish(m->aw, NULL, &written, &err), 0);
	archive_writer_free(m->aw);
	store_file_close(m->out);
	m->aw = NULL;
	m->out = NULL;
}

static void
end(struct made *m)
{
	archive_writer_free(m->aw);
	store_file_close(m->out);
	close(m->fd);
}

/* The same bytes for a name each time. */
static void
fill(char *p, size_t n, uint32_t what)
{
	uint32_t kept = seed;

	seed = what;
	for (size_t i = 0; i < n; i++)
		p[i] = (char)(i % 64 < 48 ? 'a' + what % 26 : rnd(256));
	seed = kept;
}

/* Members of these lengths, the last one's name as long as may be, and a disk; all come back, and so does each alone. */
static void
check_lengths(const struct codec *codec, int level, const size_t *lengths, uint32_t count, bool disk)
{
	char *p = malloc(INDEX_MEMBER_MAX + 1), name[INDEX_NAME_LEN];
	struct archive_reader *ar;
	struct err err = ERR_INIT;
	struct buf out = BUF_INIT;
	struct index_member im;
	struct index_frame f;
	struct made m;

	assert_non_null(p);
	begin(&m, codec, level);
	for (uint32_t i = 0; i < count; i++) {
		fill(p, lengths[i], i + 1);
		snprintf(name, sizeof(name), i + 1 == count ? "%0255u" : "member %u", i);
		assert_int_equal(archive_writer_member(m.aw, name, p, lengths[i], &err), 0);
	}
	if (disk)
		add_disk(&m, 3 * 65536 + 17);
	finish(&m);
	assert_non_null(ar = archive_open_bare(m.path, &err));
	assert_null(ar->note);
	assert_int_equal(index_members(ar->ix), count);
	for (uint32_t i = count; i-- > 0;) {
		assert_int_equal(index_member(ar->ix, i, &im, &err), 0);
		assert_int_equal(index_member_find(ar->ix, im.name), i);
		assert_int_equal(im.length, lengths[i]);
		assert_int_equal(index_frames(ar->ix, im.frame, 1, &f, &err), 0);
		assert_true(f.source == NO_SOURCE && f.tar_offset <= im.tar_offset && im.tar_offset <= f.tar_offset + f.raw);
		fill(p, lengths[i], i + 1);
		buf_reset(&out);
		assert_int_equal(buf_add(&out, "before", 6, &err), 0);
		assert_int_equal(member_read(ar, i, &out, &err), 0);
		assert_int_equal(out.len, 6 + lengths[i]);
		assert_memory_equal(out.ptr, "before", 6);
		assert_int_equal(memcmp(out.ptr + 6, p, lengths[i]), 0);
		assert_int_equal(out.ptr[out.len], 0);
	}
	assert_int_equal(index_member(ar->ix, count, &im, &err), -1);
	assert_int_equal(member_read(ar, count, &out, &err), -1);
	assert_int_equal(index_member_find(ar->ix, "no such member"), UINT32_MAX);
	archive_close(ar);
	buf_free(&out);
	free(p);
	end(&m);
}

static void
members_of_all_lengths_come_back(void **state)
{
	static const size_t small[] = { 0, 1, 511, 512, 513, 0, 0, 600, 5 * MIB + 17, 100000, 0, 1 };
	static const size_t large[] = { INDEX_MEMBER_MAX, 3 };
	static const size_t edges[] = { 4 * MIB - 512, 0, 4 * MIB - 512, 4 * MIB - 1024, 512, 4 * MIB - 513, 4 * MIB, 0 };

	(void)state;
	check_lengths(&codec_none, 0, small, 12, true);
	check_lengths(&codec_bz2, 1, small, 12, true);
	check_lengths(&codec_xz, 0, small, 12, false);
	check_lengths(&codec_zstd, 1, small, 12, true);
	check_lengths(&codec_none, 0, edges, 8, true);
	check_lengths(&codec_zstd, 1, edges, 8, false);
	check_lengths(&codec_zstd, 1, large, 2, true);
	check_lengths(&codec_none, 0, NULL, 0, true);
}

static void
random_members_come_back(void **state)
{
	size_t lengths[20];
	uint32_t n;

	(void)state;
	for (int round = 0; round < 20; round++) {
		n = 1 + rnd(20);
		for (uint32_t i = 0; i < n; i++)
			lengths[i] = rnd(3) == 0 ? rnd(3 * MIB) : rnd(3) == 0 ? 512 * rnd(100) : rnd(2000);
		check_lengths(rnd(2) ? &codec_none : &codec_zstd, 1, lengths, n, rnd(2));
	}
}

static void
refused(struct made *m, const char *name, size_t n, const char *why)
{
	static const char nothing[1];
	struct err err = ERR_INIT;

	assert_int_equal(archive_writer_member(m->aw, name, nothing, n, &err), -1);
	if (strstr(err.text, why) == NULL)
		fail_msg("\"%s\" does not hold \"%s\"", err.text, why);
}

static void
what_may_not_be_written_is_refused(void **state)
{
	struct extents *ex;
	struct err err = ERR_INIT;
	struct archive_disk_written written;
	struct archive_reader *ar;
	struct made m;
	char name[300], *large = calloc(1, INDEX_MEMBER_MAX + 1);

	(void)state;
	assert_non_null(large);
	begin(&m, &codec_none, 0);
	memset(name, 'x', 256);
	name[256] = '\0';
	refused(&m, name, 0, "longer than 255 bytes");
	refused(&m, "", 0, "cannot be called");
	refused(&m, ".", 0, "cannot be called");
	refused(&m, "..", 0, "cannot be called");
	refused(&m, "a/b", 0, "cannot be called");
	refused(&m, "a\nb", 0, "cannot be called");
	refused(&m, "\xff", 0, "cannot be called");
	refused(&m, "index.bin", 0, "index.bin of the archive: File exists");
	assert_int_equal(archive_writer_member(m.aw, "large", large, INDEX_MEMBER_MAX + 1, &err), -1);
	assert_non_null(strstr(err.text, "member large has 67108865 bytes, at most 67108864 are possible"));
	for (uint32_t i = 0; i < INDEX_MEMBERS_MAX; i++) {
		snprintf(name, sizeof(name), "m%u", i);
		assert_int_equal(archive_writer_member(m.aw, name, name, strlen(name), &err), 0);
		refused(&m, name, 0, "File exists");
	}
	refused(&m, "one more", 0, "at most 1000 small members");
	/* A disk may not have such a name either. */
	assert_non_null(ex = extents_new(0, &err));
	assert_int_equal(extents_end(ex, &err), 0);
	assert_int_equal(archive_writer_disk(m.aw, "vda", "m17", ex, 0, &(struct archive_feed){ .arg = NULL }, &written, &err), -1);
	assert_non_null(strstr(err.text, "m17"));
	extents_free(ex);
	end(&m);

	begin(&m, &codec_none, 0);
	assert_int_equal(archive_writer_member(m.aw, "a", NULL, 0, &err), 0);
	refused(&m, "a", 0, "File exists");
	refused(&m, "..", 0, "cannot be called");
	add_disk(&m, 512);
	refused(&m, "b", 0, "before the disks");
	finish(&m);
	assert_non_null(ar = archive_open_bare(m.path, &err));
	assert_int_equal(index_members(ar->ix), 1);
	archive_close(ar);
	end(&m);
	free(large);
}

/* Each byte of three members, in an archive that is not compressed. */
static void
damaged_members_are_named(void **state)
{
	static const char *const names[] = { "one", "two", "three" };
	static const size_t lengths[] = { 700, 1, 5 * MIB };
	char *p = malloc(5 * MIB);
	struct err err = ERR_INIT;
	struct buf out = BUF_INIT;
	struct archive_reader *ar;
	struct index_member im;
	struct made m;
	uint8_t byte;

	(void)state;
	assert_non_null(p);
	begin(&m, &codec_none, 0);
	for (uint32_t i = 0; i < 3; i++) {
		fill(p, lengths[i], i);
		assert_int_equal(archive_writer_member(m.aw, names[i], p, lengths[i], &err), 0);
	}
	add_disk(&m, 65536);
	finish(&m);
	assert_non_null(ar = archive_open_bare(m.path, &err));
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(index_member(ar->ix, i, &im, &err), 0);
		for (size_t at = 0; at < lengths[i]; at += i == 2 ? 1 + rnd(MIB) : 1) {
			assert_int_equal(io_pread(m.fd, &byte, 1, im.tar_offset + at), 1);
			byte ^= (uint8_t)(1u << rnd(8));
			assert_int_equal(io_pwrite(m.fd, &byte, 1, im.tar_offset + at), 0);
			for (uint32_t j = 0; j < 3; j++) {
				buf_reset(&out);
				memset(&err, 0, sizeof(err));
				assert_int_equal(member_read(ar, j, &out, &err), j == i ? -1 : 0);
				assert_int_equal(out.len, j == i ? 0 : lengths[j]);
			}
			memset(&err, 0, sizeof(err));
			assert_int_equal(member_read(ar, i, &out, &err), -1);
			assert_int_equal(strncmp(err.text, "file ", 5), 0);
			assert_int_equal(strncmp(err.text + 5, names[i], strlen(names[i])), 0);
			assert_non_null(strstr(err.text, "digest"));
			fill(p, lengths[i], i);
			assert_int_equal(io_pwrite(m.fd, p + at, 1, im.tar_offset + at), 0);
		}
	}
	for (uint32_t j = 0; j < 3; j++)
		assert_int_equal(member_read(ar, j, &out, &err), 0);
	archive_close(ar);
	buf_free(&out);
	free(p);
	end(&m);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(members_of_all_lengths_come_back),
		cmocka_unit_test(random_members_come_back),
		cmocka_unit_test(what_may_not_be_written_is_refused),
		cmocka_unit_test(damaged_members_are_named),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
