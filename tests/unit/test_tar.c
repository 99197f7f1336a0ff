/* The headers and maps of the tar stream, byte by byte and as libarchive reads them. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <archive.h>
#include <archive_entry.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "archive/tar.h"
#include "repository/naming.h"

#define GIB	((uint64_t)1 << 30)

static uint32_t seed = 1;

static uint32_t
rnd(uint32_t n)
{
	seed = seed * 1664525u + 1013904223u;
	return ((seed >> 8) % n);
}

static struct extents *
map_of(uint64_t size, const struct extent *v, size_t n)
{
	struct err err = ERR_INIT;
	struct extents *ex = extents_new(size, &err);

	assert_non_null(ex);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(extents_add(ex, v[i].offset, v[i].length, &err), 0);
	assert_int_equal(extents_end(ex, &err), 0);
	return (ex);
}

static int
append(void *arg, const void *p, size_t n, struct err *err)
{
	return (buf_add(arg, p, n, err));
}

static void
check_sum(const uint8_t *h)
{
	unsigned int sum = 0, said;

	for (size_t i = 0; i < 512; i++)
		sum += i >= 148 && i < 156 ? ' ' : h[i];
	assert_int_equal(sscanf((const char *)h + 148, "%6o", &said), 1);
	assert_int_equal(said, sum);
	assert_int_equal(h[154], 0);
	assert_memory_equal(h + 257, "ustar\00000", 8);
}

/* A size field, in octal or base-256. */
static uint64_t
size_field(const uint8_t *h)
{
	uint64_t v = 0;
	char digits[13] = "";

	if (h[124] != 0x80) {
		memcpy(digits, h + 124, 12);
		assert_int_equal(strspn(digits, "01234567"), 11);
		return (strtoull(digits, NULL, 8));
	}
	for (size_t i = 125; i < 136; i++)
		v = v << 8 | h[i];
	return (v);
}

/*
 * Check a sparse member's headers: a pax header whose records' lengths are right, and a ustar header of the size ${stored}.  Returns the length.
 */
static size_t
check_headers(const struct buf *b, const char *name, uint64_t realsize, uint64_t stored)
{
	static const char *const keys[] = { "GNU.sparse.major", "GNU.sparse.minor", "GNU.sparse.name", "GNU.sparse.realsize" };
	const uint8_t *h = (const uint8_t *)b->ptr, *u;
	char size[32], field[101] = "";
	const char *values[] = { "1", "0", name, size }, *p, *end;
	size_t n, paxlen, i;
	int digits;

	assert_true(b->len >= 1536 && b->len % 512 == 0);
	check_sum(h);
	assert_int_equal(h[156], 'x');
	paxlen = (size_t)size_field(h);
	snprintf(size, sizeof(size), "%llu", (unsigned long long)realsize);
	p = b->ptr + 512;
	end = p + paxlen;
	for (i = 0; p < end; p += n, i++) {
		assert_true(i < 4);
		assert_int_equal(sscanf(p, "%zu%n", &n, &digits), 1);
		assert_true(n <= (size_t)(end - p) && p[digits] == ' ' && p[n - 1] == '\n');
		assert_int_equal(n, (size_t)digits + 3 + strlen(keys[i]) + strlen(values[i]));
		assert_memory_equal(p + digits + 1, keys[i], strlen(keys[i]));
		assert_int_equal(p[digits + 1 + strlen(keys[i])], '=');
		assert_memory_equal(p + digits + 2 + strlen(keys[i]), values[i], strlen(values[i]));
	}
	assert_true(i == 4 && p == end);
	for (; (size_t)(p - b->ptr) % 512 != 0; p++)
		assert_int_equal(*p, 0);
	u = (const uint8_t *)p;
	check_sum(u);
	assert_int_equal(u[156], '0');
	assert_int_equal(size_field(u), stored);
	/* Python's tarfile cuts what has a pax size record; octal as long as it fits is for everyone else. */
	assert_int_equal(u[124] == 0x80, stored > 077777777777u);
	memcpy(field, u, 100);
	assert_memory_equal(field, "GNUSparseFile.0/", 16);
	assert_true(utf8_valid(field));
	assert_memory_equal(field + 16, name, strlen(field + 16));
	return ((size_t)(p + 512 - b->ptr));
}

/* All sizes around the one where octal ends, and beyond what 32 bits and a double hold. */
static void
sizes_above_8_gib_are_base_256(void **state)
{
	static const uint64_t data[] = { 512, 8 * GIB - 1024, 8 * GIB - 513, 8 * GIB - 512, 8 * GIB, 9 * GIB, 1024 * GIB, 15 * 1024 * GIB,
		((uint64_t)1 << 53) + 512, ((uint64_t)1 << 62) };
	struct err err = ERR_INIT;
	struct archive *a;
	struct archive_entry *e;
	struct extents *ex;
	struct buf out;

	(void)state;
	for (size_t i = 0; i < sizeof(data) / sizeof(data[0]); i++) {
		out = (struct buf)BUF_INIT;
		/* All of the disk is data: its map takes one block. */
		ex = map_of(data[i], &(struct extent){ 0, data[i] }, 1);
		assert_int_equal(tar_sparse_stored(ex, &err), 512 + data[i]);
		assert_int_equal(tar_sparse_header(&out, "vda.img", ex, 1234567890, &err), 0);
		assert_int_equal(check_headers(&out, "vda.img", data[i], 512 + data[i]), out.len);
		assert_int_equal(tar_sparse_map(ex, append, &out, &err), 0);
		a = archive_read_new();
		assert_int_equal(archive_read_support_format_tar(a), ARCHIVE_OK);
		assert_int_equal(archive_read_open_memory(a, out.ptr, out.len), ARCHIVE_OK);
		assert_int_equal(archive_read_next_header(a, &e), ARCHIVE_OK);
		assert_string_equal(archive_entry_pathname(e), "vda.img");
		assert_true((uint64_t)archive_entry_size(e) == data[i]);
		assert_int_equal(archive_entry_mtime(e), 1234567890);
		assert_int_equal(archive_entry_perm(e), 0600);
		archive_read_free(a);
		extents_free(ex);
		buf_free(&out);
	}
}

/* A record's length counts its own digits: 99 becomes 101, never 100. */
static void
pax_lengths_are_right_for_every_name(void **state)
{
	struct extents *ex = map_of(4096, NULL, 0);
	struct err err = ERR_INIT;
	struct buf out = BUF_INIT;
	char name[256];

	(void)state;
	for (size_t n = 1; n <= 255; n++) {
		buf_reset(&out);
		memset(name, 'n', n);
		name[n] = '\0';
		assert_int_equal(tar_sparse_header(&out, name, ex, 0, &err), 0);
		assert_int_equal(check_headers(&out, name, 4096, 512), out.len);
		/* Characters of several bytes are not cut apart, wherever the field ends. */
		buf_reset(&out);
		for (size_t i = n % 3; i + 3 <= n; i += 3)
			memcpy(name + i, "\xe2\x82\xac", 3);
		assert_int_equal(tar_sparse_header(&out, name, ex, 0, &err), 0);
		assert_int_equal(check_headers(&out, name, 4096, 512), out.len);
	}
	extents_free(ex);
	buf_free(&out);
}

/* Read the map's text back, and compare. */
static void
check_map(const struct extents *ex, const struct extent *want, size_t nwant)
{
	struct buf out = BUF_INIT;
	struct err err = ERR_INIT;
	unsigned long long v;
	uint64_t stored;
	char *p, *end;

	assert_int_equal(tar_sparse_map(ex, append, &out, &err), 0);
	assert_int_equal(out.len % 512, 0);
	assert_int_not_equal(stored = tar_sparse_stored(ex, &err), UINT64_MAX);
	assert_int_equal(stored, out.len + ex->bytes);
	assert_int_equal(tar_sparse_entries(ex), nwant);
	p = out.ptr;
	v = strtoull(p, &end, 10);
	assert_true(v == nwant && *end == '\n');
	for (size_t i = 0; i < 2 * nwant; i++) {
		p = end + 1;
		v = strtoull(p, &end, 10);
		assert_true(end > p && *end == '\n');
		assert_int_equal(v, i % 2 == 0 ? want[i / 2].offset : want[i / 2].length);
	}
	/* Padded with less than a block of zeroes. */
	assert_true((size_t)(out.ptr + out.len - (end + 1)) < 512);
	for (p = end + 1; p < out.ptr + out.len; p++)
		assert_int_equal(*p, 0);
	buf_free(&out);
}

static void
check_one(uint64_t size, const struct extent *in, size_t nin, const struct extent *want, size_t nwant)
{
	struct extents *ex = map_of(size, in, nin);

	check_map(ex, want, nwant);
	extents_free(ex);
}

#define E(...)	(const struct extent[]){ __VA_ARGS__ }, sizeof((const struct extent[]){ __VA_ARGS__ }) / sizeof(struct extent)

/* A map whose last part is a hole, or that is empty, ends with (size, 0); another one does not. */
static void
maps_are_closed(void **state)
{
	(void)state;
	check_one(0, NULL, 0, E({ 0, 0 }));
	check_one(1, NULL, 0, E({ 1, 0 }));
	check_one(1000000, NULL, 0, E({ 1000000, 0 }));
	check_one(4096, E({ 0, 4096 }), E({ 0, 4096 }));
	check_one(4097, E({ 0, 4096 }), E({ 0, 4096 }, { 4097, 0 }));
	check_one(4097, E({ 0, 4097 }), E({ 0, 4097 }));
	check_one(10000, E({ 9999, 1 }), E({ 9728, 272 }));
	check_one(10000, E({ 512, 512 }, { 9999, 1 }), E({ 512, 512 }, { 9728, 272 }));
	check_one(10000, E({ 512, 512 }), E({ 512, 512 }, { 10000, 0 }));
	check_one(INT64_MAX, E({ 0, 512 }), E({ 0, 512 }, { INT64_MAX, 0 }));
}

/* The text of a map that fills its blocks exactly, or by one byte more or less. */
static void
maps_of_every_length_are_padded(void **state)
{
	struct extent *v = calloc(300, sizeof(*v));
	size_t lengths[3] = { 0, 0, 0 };
	struct extents *ex;
	struct err err = ERR_INIT;
	struct buf out = BUF_INIT;

	(void)state;
	assert_non_null(v);
	for (size_t n = 1; n < 299; n++)
		for (uint64_t first = 512; first <= 1048576 * 512; first *= 8) {
			for (size_t i = 0; i < n; i++)
				v[i] = (struct extent){ first + i * 1024, 512 };
			v[n] = (struct extent){ 2000000000, 0 };
			ex = map_of(2000000000, v, n);
			check_map(ex, v, n + 1);
			buf_reset(&out);
			assert_int_equal(tar_sparse_map(ex, append, &out, &err), 0);
			lengths[out.ptr[out.len - 1] != 0 ? 0 : out.ptr[out.len - 2] != 0 ? 1 : 2]++;
			extents_free(ex);
		}
	/* The cases were met. */
	assert_true(lengths[0] > 0 && lengths[1] > 0 && lengths[2] > 0);
	buf_free(&out);
	free(v);
}

struct pieces {
	uint64_t bytes;
	size_t	 longest, fail_after;
};

static int
count_piece(void *arg, const void *p, size_t n, struct err *err)
{
	struct pieces *c = arg;

	assert_non_null(p);
	if (c->fail_after > 0 && c->bytes >= c->fail_after)
		return (err_set(err, 0, "no more"));
	c->bytes += n;
	c->longest = n > c->longest ? n : c->longest;
	return (0);
}

/* A long map comes in pieces, and stops when it is told to. */
static void
long_maps_come_in_pieces(void **state)
{
	struct err err = ERR_INIT;
	struct extents *ex = extents_new((uint64_t)1 << 40, &err);
	struct pieces c = { 0, 0, 0 };

	(void)state;
	assert_non_null(ex);
	for (uint64_t i = 0; i < 200000; i++)
		assert_int_equal(extents_add(ex, i * 65536, 512, &err), 0);
	assert_int_equal(extents_end(ex, &err), 0);
	assert_int_equal(tar_sparse_entries(ex), 200001);
	assert_int_equal(tar_sparse_map(ex, count_piece, &c, &err), 0);
	assert_int_equal(tar_sparse_stored(ex, &err), c.bytes + 200000 * 512);
	assert_true(c.bytes > 2000000 && c.longest < 100000);
	c = (struct pieces){ 0, 0, 300000 };
	assert_int_equal(tar_sparse_map(ex, count_piece, &c, &err), -1);
	assert_string_equal(err.text, "no more");
	assert_true(c.bytes < 500000);
	extents_free(ex);
}

/* The whole member, read by libarchive: the bytes of the disk, at their places. */
static void
check_libarchive(uint64_t size, const struct extent *v, size_t n)
{
	struct extents *ex = map_of(size, v, n);
	uint8_t *disk = calloc(1, size + 1), *got = calloc(1, size + 1);
	struct buf out = BUF_INIT;
	struct err err = ERR_INIT;
	struct spool_cursor c;
	struct archive *a = archive_read_new();
	struct archive_entry *entry;
	struct extent e;
	const void *p;
	la_int64_t at;
	size_t len;
	int r;

	assert_true(disk != NULL && got != NULL && a != NULL);
	assert_int_equal(tar_sparse_header(&out, "d\xc3\xafsk.img", ex, 0, &err), 0);
	assert_int_equal(tar_sparse_map(ex, append, &out, &err), 0);
	spool_cursor_init(&c, ex->spool);
	while (extents_next(&c, &e, &err) == 1) {
		for (uint64_t i = 0; i < e.length; i++)
			disk[e.offset + i] = (uint8_t)(1 + rnd(255));
		assert_int_equal(buf_add(&out, disk + e.offset, e.length, &err), 0);
	}
	assert_int_equal(buf_add(&out, (char[512]){ 0 }, tar_padding(ex->bytes), &err), 0);
	/* A second member: the first one's size must be right for it to be found. */
	assert_int_equal(tar_plain_header(&out, "index.bin", 3, 0, &err), 0);
	assert_int_equal(buf_add(&out, "abc", 3, &err), 0);
	assert_int_equal(buf_add(&out, (char[1536]){ 0 }, 509 + 1024, &err), 0);
	assert_int_equal(archive_read_support_format_tar(a), ARCHIVE_OK);
	assert_int_equal(archive_read_open_memory(a, out.ptr, out.len), ARCHIVE_OK);
	assert_int_equal(archive_read_next_header(a, &entry), ARCHIVE_OK);
	assert_string_equal(archive_entry_pathname(entry), "d\xc3\xafsk.img");
	assert_true((uint64_t)archive_entry_size(entry) == size);
	while ((r = archive_read_data_block(a, &p, &len, &at)) == ARCHIVE_OK) {
		assert_true(at >= 0 && (uint64_t)at <= size && len <= size - (uint64_t)at);
		memcpy(got + at, p, len);
	}
	assert_int_equal(r, ARCHIVE_EOF);
	assert_memory_equal(got, disk, size + 1);
	assert_int_equal(archive_read_next_header(a, &entry), ARCHIVE_OK);
	assert_string_equal(archive_entry_pathname(entry), "index.bin");
	assert_int_equal(archive_entry_size(entry), 3);
	assert_int_equal(archive_read_next_header(a, &entry), ARCHIVE_EOF);
	archive_read_free(a);
	extents_free(ex);
	buf_free(&out);
	free(disk);
	free(got);
}

static void
libarchive_reads_the_disk(void **state)
{
	struct extent v[40];
	uint64_t size, at;
	size_t n;

	(void)state;
	check_libarchive(0, NULL, 0);
	check_libarchive(1, NULL, 0);
	check_libarchive(1, E({ 0, 1 }));
	check_libarchive(10000, NULL, 0);
	for (int round = 0; round < 300; round++) {
		size = 1 + rnd(60000);
		for (n = 0, at = rnd(3) * 700; n < 40 && at < size; n++) {
			v[n] = (struct extent){ at, 1 + rnd(3000) };
			if (v[n].length > size - at || rnd(20) == 0)
				v[n].length = size - at;
			at += v[n].length + rnd(4000);
		}
		check_libarchive(size, v, n);
	}
}

static void
plain_headers_are_appended(void **state)
{
	static const uint64_t sizes[] = { 0, 1, 512, 8 * GIB - 1, 8 * GIB, 64 * GIB };
	struct buf out = BUF_INIT;
	struct err err = ERR_INIT;
	struct archive *a;
	struct archive_entry *e;

	(void)state;
	/* The member's data is not this function's: it must take no memory, whatever its size (an index may have gigabytes). */
	assert_int_equal(tar_plain_header(&out, "index.bin", 64 << 20, 0, &err), 0);
	assert_true(out.cap < 1 << 20);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		buf_reset(&out);
		assert_int_equal(buf_add(&out, "before", 6, &err), 0);
		assert_int_equal(tar_plain_header(&out, "index.bin", sizes[i], 1234567890, &err), 0);
		assert_memory_equal(out.ptr, "before", 6);
		assert_int_equal((out.len - 6) % 512, 0);
		/* FORMAT.md: the index has no pax header, however long it is; Python's tarfile would cut it short with one. */
		assert_int_equal(out.len, 6 + 512);
		a = archive_read_new();
		assert_int_equal(archive_read_support_format_tar(a), ARCHIVE_OK);
		assert_int_equal(archive_read_open_memory(a, out.ptr + 6, out.len - 6), ARCHIVE_OK);
		assert_int_equal(archive_read_next_header(a, &e), ARCHIVE_OK);
		assert_string_equal(archive_entry_pathname(e), "index.bin");
		assert_true((uint64_t)archive_entry_size(e) == sizes[i]);
		assert_int_equal(archive_entry_perm(e), 0600);
		assert_int_equal(archive_entry_filetype(e), AE_IFREG);
		assert_int_equal(archive_entry_mtime(e), 1234567890);
		archive_read_free(a);
	}
	buf_free(&out);
}

/* A name that does not fit its field is in a pax record as well; the field then holds whole characters. */
static void
long_plain_names_have_a_pax_record(void **state)
{
	static const size_t lengths[] = { 1, 99, 100, 101, 127, 255 };
	struct buf out = BUF_INIT;
	struct err err = ERR_INIT;
	struct archive *a;
	struct archive_entry *e;
	char name[256];

	(void)state;
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		for (int utf8 = 0; utf8 <= 1; utf8++) {
			memset(name, 'x', lengths[i]);
			name[lengths[i]] = '\0';
			for (size_t at = 1; utf8 && at + 2 <= lengths[i]; at += 2)
				memcpy(name + at, "\xc3\xaf", 2);
			buf_reset(&out);
			assert_int_equal(tar_plain_header(&out, name, 5, 7, &err), 0);
			assert_int_equal(out.len, lengths[i] <= 100 ? 512 : 3 * 512);
			check_sum((const uint8_t *)out.ptr + out.len - 512);
			assert_int_equal(buf_add(&out, (char[2048]){ "hello" }, 2048, &err), 0);
			a = archive_read_new();
			assert_int_equal(archive_read_support_format_tar(a), ARCHIVE_OK);
			assert_int_equal(archive_read_open_memory(a, out.ptr, out.len), ARCHIVE_OK);
			assert_int_equal(archive_read_next_header(a, &e), ARCHIVE_OK);
			assert_string_equal(archive_entry_pathname(e), name);
			assert_int_equal(archive_entry_size(e), 5);
			archive_read_free(a);
		}
	}
	buf_free(&out);
}

/* A time before 1970 or far away must not spoil the header. */
static void
odd_times_make_sound_headers(void **state)
{
	static const int64_t times[] = { -1, INT64_MIN, 0, INT64_MAX, 077777777777, 0100000000000 };
	struct extents *ex = map_of(4096, NULL, 0);
	struct err err = ERR_INIT;
	struct buf out = BUF_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		buf_reset(&out);
		assert_int_equal(tar_sparse_header(&out, "vda.img", ex, times[i], &err), 0);
		assert_int_equal(check_headers(&out, "vda.img", 4096, 512), out.len);
		assert_int_equal(strspn(out.ptr + 136, "01234567"), 11);
	}
	for (uint64_t n = 0; n < 2000; n++)
		assert_true(tar_padding(n) < 512 && (n + tar_padding(n)) % 512 == 0);
	extents_free(ex);
	buf_free(&out);
}

static int
utf8_locale(void **state)
{
	(void)state;
	return (setlocale(LC_CTYPE, "C.UTF-8") == NULL);	/* libarchive gives names in the locale's encoding */
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_above_8_gib_are_base_256),
		cmocka_unit_test(pax_lengths_are_right_for_every_name),
		cmocka_unit_test(maps_are_closed),
		cmocka_unit_test(maps_of_every_length_are_padded),
		cmocka_unit_test(long_maps_come_in_pieces),
		cmocka_unit_test(libarchive_reads_the_disk),
		cmocka_unit_test(plain_headers_are_appended),
		cmocka_unit_test(long_plain_names_have_a_pax_record),
		cmocka_unit_test(odd_times_make_sound_headers),
	};

	return (cmocka_run_group_tests(tests, utf8_locale, NULL));
}
