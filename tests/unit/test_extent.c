/* Extent maps: whole sectors within the disk, joined, in order; held against a bitmap of sectors. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/extent.h"

#define SECTORS_MAX	96u

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

/* The map holds exactly these. */
static void
check_map(struct extents *ex, const struct extent *want, size_t n)
{
	struct spool_cursor c;
	struct err err = ERR_INIT;
	struct extent e;
	uint64_t bytes = 0;

	spool_cursor_init(&c, ex->spool);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(extents_next(&c, &e, &err), 1);
		assert_int_equal(e.offset, want[i].offset);
		assert_int_equal(e.length, want[i].length);
		bytes += want[i].length;
	}
	assert_int_equal(extents_next(&c, &e, &err), 0);
	assert_int_equal(ex->count, n);
	assert_int_equal(ex->bytes, bytes);
	assert_int_equal(ex->data_end, n > 0 ? want[n - 1].offset + want[n - 1].length : 0);
}

static void
check_case(uint64_t size, const struct extent *in, size_t nin, const struct extent *want, size_t nwant)
{
	struct extents *ex = map_of(size, in, nin);

	check_map(ex, want, nwant);
	extents_free(ex);
}

#define E(...)	(const struct extent[]){ __VA_ARGS__ }, sizeof((const struct extent[]){ __VA_ARGS__ }) / sizeof(struct extent)
#define NONE	NULL, 0

static void
ranges_become_sectors(void **state)
{
	(void)state;
	check_case(0, NONE, NONE);
	check_case(10000, NONE, NONE);
	check_case(10000, E({ 0, 1 }), E({ 0, 512 }));
	check_case(10000, E({ 511, 1 }), E({ 0, 512 }));
	check_case(10000, E({ 511, 2 }), E({ 0, 1024 }));
	check_case(10240, E({ 512, 512 }), E({ 512, 512 }));
	check_case(10240, E({ 1000, 5000 }), E({ 512, 5632 }));
	check_case(10240, E({ 100, 0 }), NONE);
	check_case(10240, E({ 10240, 0 }), NONE);
	check_case(10240, E({ 0, 10240 }), E({ 0, 10240 }));
}

/* Only what ends at the end of the disk may be odd, and it never goes beyond. */
static void
an_odd_end_stays_odd(void **state)
{
	(void)state;
	check_case(1, E({ 0, 1 }), E({ 0, 1 }));
	check_case(10000, E({ 9999, 1 }), E({ 9728, 272 }));
	check_case(10000, E({ 9728, 1 }), E({ 9728, 272 }));
	check_case(10000, E({ 9727, 1 }), E({ 9216, 512 }));
	check_case(10000, E({ 0, 10000 }), E({ 0, 10000 }));
	check_case(513, E({ 0, 1 }), E({ 0, 512 }));
	check_case(513, E({ 0, 513 }), E({ 0, 513 }));
	check_case(513, E({ 512, 1 }), E({ 512, 1 }));
	check_case(INT64_MAX, E({ INT64_MAX - 1, 1 }), E({ INT64_MAX - 511, 511 }));
}

static void
neighbours_are_joined(void **state)
{
	(void)state;
	check_case(10240, E({ 0, 512 }, { 512, 512 }), E({ 0, 1024 }));
	check_case(10240, E({ 0, 100 }, { 200, 100 }), E({ 0, 512 }));
	check_case(10240, E({ 0, 100 }, { 600, 100 }), E({ 0, 1024 }));
	check_case(10240, E({ 0, 512 }, { 1024, 512 }), E({ 0, 512 }, { 1024, 512 }));
	check_case(10240, E({ 0, 4096 }, { 100, 10 }, { 4000, 200 }), E({ 0, 4608 }));
	check_case(10240, E({ 1024, 1 }, { 1024, 1 }), E({ 1024, 512 }));
	check_case(10000, E({ 0, 9728 }, { 9999, 1 }), E({ 0, 10000 }));
}

static void
what_cannot_be_is_refused(void **state)
{
	static const struct extent bad[] = { { 0, 10001 }, { 10000, 1 }, { 10001, 1 }, { UINT64_MAX, 2 }, { 1, UINT64_MAX }, { 9999, 2 },
		{ UINT64_MAX - 511, 512 } };
	struct err err = ERR_INIT;
	struct extents *ex;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_non_null(ex = extents_new(10000, &err));
		assert_int_equal(extents_add(ex, bad[i].offset, bad[i].length, &err), -1);
		assert_non_null(strstr(err.text, "10000"));
		extents_free(ex);
	}
	assert_non_null(ex = extents_new(10000, &err));
	assert_int_equal(extents_add(ex, 4096, 512, &err), 0);
	assert_int_equal(extents_add(ex, 0, 512, &err), -1);
	assert_non_null(strstr(err.text, "order"));
	extents_free(ex);
	extents_free(NULL);
}

/* Random rising ranges, against a bitmap of the sectors that they touch. */
static void
random_maps_agree_with_a_bitmap(void **state)
{
	struct extent in[64], want[SECTORS_MAX];
	bool touched[SECTORS_MAX + 1];
	uint64_t size, at, length;
	size_t n, nwant;

	(void)state;
	for (int round = 0; round < 5000; round++) {
		size = 1 + rnd(SECTORS_MAX * SECTOR);
		if (rnd(2))
			size = (size + SECTOR - 1) / SECTOR * SECTOR;
		memset(touched, 0, sizeof(touched));
		for (n = 0, at = rnd(4) ? rnd(2000) : 0; n < 64 && at < size; n++) {
			length = rnd(3) == 0 ? rnd(5000) : rnd(700);
			if (length > size - at)
				length = size - at;
			in[n] = (struct extent){ at, length };
			for (uint64_t s = at / SECTOR; length > 0 && s <= (at + length - 1) / SECTOR; s++)
				touched[s] = true;
			/* The next may begin within this one, or right after it, or far off. */
			at += rnd(3) == 0 ? rnd((uint32_t)length + 1) : rnd(3) == 0 ? length : length + rnd(1500);
		}
		nwant = 0;
		for (uint64_t s = 0; s * SECTOR < size; s++) {
			uint64_t end = (s + 1) * SECTOR < size ? (s + 1) * SECTOR : size;

			if (!touched[s])
				continue;
			if (s > 0 && touched[s - 1])
				want[nwant - 1].length = end - want[nwant - 1].offset;
			else
				want[nwant++] = (struct extent){ s * SECTOR, end - s * SECTOR };
		}
		check_case(size, in, n, want, nwant);
	}
}

/* More than fit in memory. */
static void
long_maps_are_kept(void **state)
{
	struct err err = ERR_INIT;
	struct extents *ex = extents_new((uint64_t)1 << 40, &err);
	struct spool_cursor c;
	struct extent e;

	(void)state;
	assert_non_null(ex);
	for (uint64_t i = 0; i < 200000; i++)
		assert_int_equal(extents_add(ex, i * 4096 + 7, 600, &err), 0);
	assert_int_equal(extents_end(ex, &err), 0);
	assert_int_equal(ex->count, 200000);
	assert_int_equal(ex->bytes, 200000 * 1024);
	spool_cursor_init(&c, ex->spool);
	for (uint64_t i = 0; i < 200000; i++) {
		assert_int_equal(extents_next(&c, &e, &err), 1);
		assert_true(e.offset == i * 4096 && e.length == 1024);
	}
	assert_int_equal(extents_next(&c, &e, &err), 0);
	extents_free(ex);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ranges_become_sectors),
		cmocka_unit_test(an_odd_end_stays_odd),
		cmocka_unit_test(neighbours_are_joined),
		cmocka_unit_test(what_cannot_be_is_refused),
		cmocka_unit_test(random_maps_agree_with_a_bitmap),
		cmocka_unit_test(long_maps_are_kept),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
