/* Where two points differ by their indexes: held against looking at every sector. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "archive/index_diff.h"
#include "base/buf.h"
#include "base/io.h"

#define SECTORS	4000u
#define IDS	3u		/* archives with DISKS disks each: SOURCES in all */
#define DISKS	2u
#define SOURCES	(IDS * DISKS)

enum { HOLE, ZERO, DATA };	/* DATA + n: of the source n */

static uint32_t seed = 1;

static uint32_t
rnd(uint32_t n)
{
	seed = seed * 1664525u + 1013904223u;
	return ((seed >> 8) % n);
}

static int
collect(void *arg, const void *p, size_t n, struct err *err)
{
	return (buf_add(arg, p, n, err));
}

static struct index_reader *
reader_of(const struct buf *b)
{
	int fd = memfd_create("index", MFD_CLOEXEC);
	struct err err = ERR_INIT;
	struct store_file *f;
	struct index_reader *ix;

	assert_true(fd != -1 && io_pwrite(fd, b->ptr, b->len, 0) == 0);
	assert_non_null(f = store_dir_wrap(fd, "index", &err));
	if ((ix = index_open(f, &err)) == NULL)
		fail_msg("%s", err.text);
	return (ix);
}

/* The sources of each index have numbers of their own, as they come up in an order of its own. */
static void
add_sources(struct index_writer *iw, int64_t numbers[SOURCES])
{
	struct err err = ERR_INIT;

	for (uint32_t i = 0, n = rnd(SOURCES); i < SOURCES; i++, n = (n + 1) % SOURCES) {
		struct index_source s = { .disk = n % DISKS };

		memset(s.archive, (int)(1 + n / DISKS), sizeof(s.archive));
		assert_int_not_equal(numbers[n] = index_writer_source(iw, &s, &err), -1);
	}
}

/* An index of a second disk (the first one is in nobody's way) with what ${v} has for each of ${n} sectors. */
static struct index_reader *
index_of(const uint8_t *v, size_t n, int id)
{
	struct index_info info = { .codec = &codec_none, .time = 1 };
	struct index_disk other = { .target = "vdb", .member = "vdb.img", .size = 512, .data_offset = NO_OFFSET, .header_offset = NO_OFFSET };
	struct index_disk disk = { .target = "vda", .member = "vda.img", .size = n * 512, .data_offset = NO_OFFSET, .header_offset = NO_OFFSET };
	struct buf bytes = BUF_INIT;
	struct err err = ERR_INIT;
	struct index_writer *iw;
	struct index_reader *ix;
	int64_t numbers[SOURCES];
	size_t end;

	memset(info.archive, id, sizeof(info.archive));
	assert_non_null(iw = index_writer_new(&info, &err));
	assert_int_equal(index_writer_disk(iw, &other, &err), 0);
	assert_int_equal(index_writer_disk(iw, &disk, &err), 1);
	assert_int_equal(index_writer_view(iw, 0, &(struct index_view){ 0, 0, NO_SOURCE, VIEW_ZERO }, &err), 0);
	assert_int_equal(index_writer_view(iw, 1, &(struct index_view){ 0, 0, NO_SOURCE, VIEW_ZERO }, &err), 0);
	add_sources(iw, numbers);
	for (size_t i = 0; i < n; i = end) {
		struct index_view view = { i * 512, 0, NO_SOURCE, VIEW_ZERO };

		for (end = i + 1; end < n && v[end] == v[i]; end++)
			;
		view.length = (end - i) * 512;
		if (v[i] >= DATA) {
			view.kind = VIEW_DATA;
			view.source = (uint32_t)numbers[v[i] - DATA];
		}
		if (v[i] != HOLE)
			assert_int_equal(index_writer_view(iw, 1, &view, &err), 0);
	}
	assert_int_equal(index_writer_emit(iw, &(struct index_place){ 0, 0 }, collect, &bytes, &err), 0);
	index_writer_free(iw);
	ix = reader_of(&bytes);
	buf_free(&bytes);
	return (ix);
}

/* Runs of random length, of a few sectors or of many. */
static void
random_disk(uint8_t *v, uint32_t longest)
{
	uint8_t what = 0;
	uint32_t left = 0;

	for (size_t i = 0; i < SECTORS; i++, left--) {
		if (left == 0) {
			what = (uint8_t)rnd(DATA + SOURCES);
			left = 1 + rnd(longest);
		}
		v[i] = what;
	}
}

/* Some of it is another one. */
static void
change(uint8_t *v, uint32_t times)
{
	for (uint32_t k = 0; k < times; k++) {
		uint32_t at = rnd(SECTORS), n = 1 + rnd(20);

		memset(v + at, (int)rnd(DATA + SOURCES), n < SECTORS - at ? n : SECTORS - at);
	}
}

static void
check(const uint8_t *a, size_t na, const uint8_t *b, size_t nb, size_t n)
{
	struct index_reader *x = index_of(a, na, 100), *y = index_of(b, nb, 101);
	struct err err = ERR_INIT;
	struct extents *ex = extents_new(n * 512, &err);
	uint8_t got[SECTORS] = { 0 };
	struct spool_cursor c;
	struct extent e;

	assert_non_null(ex);
	assert_int_equal(index_diff(x, 1, y, 1, ex, &err), 0);
	assert_int_equal(extents_end(ex, &err), 0);
	spool_cursor_init(&c, ex->spool);
	while (extents_next(&c, &e, &err) == 1)
		memset(got + e.offset / 512, 1, e.length / 512);
	for (size_t i = 0; i < n; i++)
		if (got[i] != ((i < na ? a[i] : HOLE) != (i < nb ? b[i] : HOLE)))
			fail_msg("sector %zu: %u and %u, said to differ: %u", i, i < na ? a[i] : 99, i < nb ? b[i] : 99, got[i]);
	extents_free(ex);
	index_close(x);
	index_close(y);
}

static void
sector_by_sector(void **state)
{
	uint8_t a[SECTORS], b[SECTORS];

	(void)state;
	for (uint32_t round = 0; round < 200; round++) {
		random_disk(a, 1 + rnd(60));
		memcpy(b, a, sizeof(b));
		change(b, rnd(100));
		check(a, SECTORS, b, SECTORS, SECTORS);
		/* One that has grown or shrunk, or does later. */
		check(a, 1 + rnd(SECTORS), b, 1 + rnd(SECTORS), 1 + rnd(SECTORS));
	}
}

static void
the_same_and_nothing(void **state)
{
	uint8_t a[SECTORS], none[SECTORS] = { 0 };

	(void)state;
	random_disk(a, 5);
	check(a, SECTORS, a, SECTORS, SECTORS);
	check(a, SECTORS, none, SECTORS, SECTORS);
	check(none, SECTORS, a, SECTORS, SECTORS);
	check(none, SECTORS, none, SECTORS, SECTORS);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sector_by_sector),
		cmocka_unit_test(the_same_and_nothing),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
