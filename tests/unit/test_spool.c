/* Spools: what is added comes back, from memory and from the file, and the memory stays bounded. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/spool.h"

#define MEMORY	((size_t)1 << 20)	/* what a spool may hold back, bytes */

/* Record number ${i}, of ${n} bytes. */
static void
make(uint8_t *rec, size_t n, uint64_t i)
{
	uint64_t x = i * UINT64_C(0x9e3779b97f4a7c15) + 1;

	for (size_t at = 0; at < n; at++, x ^= x << 13, x ^= x >> 7, x ^= x << 17)
		rec[at] = (uint8_t)(x >> 24);
}

static struct spool *
filled(size_t record, uint64_t count)
{
	struct err err = ERR_INIT;
	struct spool *sp = spool_new(record, &err);
	uint8_t rec[512];

	assert_non_null(sp);
	for (uint64_t i = 0; i < count; i++) {
		make(rec, record, i);
		assert_int_equal(spool_add(sp, rec, &err), 0);
	}
	assert_int_equal(spool_count(sp), count);
	return (sp);
}

static void
check_read(struct spool *sp, size_t record, uint64_t first, size_t n)
{
	uint8_t *got = malloc(n * record + 1), want[512];
	struct err err = ERR_INIT;

	assert_non_null(got);
	got[n * record] = 0xa5;
	assert_int_equal(spool_read(sp, first, n, got, &err), 0);
	for (size_t i = 0; i < n; i++) {
		make(want, record, first + i);
		assert_memory_equal(got + i * record, want, record);
	}
	assert_int_equal(got[n * record], 0xa5);
	free(got);
}

static void
check_cursor(struct spool *sp, size_t record, uint64_t count)
{
	struct err err = ERR_INIT;
	struct spool_cursor c;
	const void *rec;
	uint8_t want[512];

	spool_cursor_init(&c, sp);
	for (uint64_t i = 0; i < count; i++) {
		assert_int_equal(spool_next(&c, &rec, &err), 1);
		make(want, record, i);
		assert_memory_equal(rec, want, record);
	}
	assert_int_equal(spool_next(&c, &rec, &err), 0);
	assert_int_equal(spool_next(&c, &rec, &err), 0);
}

static void
records_come_back(void **state)
{
	static const size_t sizes[] = { 1, 16, 24, 32, 40, 320, 500 };
	uint64_t full, counts[7];

	(void)state;
	for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
		full = MEMORY / sizes[s];
		/* Around the first spill, and beyond the second. */
		memcpy(counts, (uint64_t[]){ 0, 1, full - 1, full, full + 1, 2 * full + 1, 2 * full + full / 2 }, sizeof(counts));
		for (size_t i = 0; i < 7; i++) {
			struct spool *sp;

			if (sizes[s] == 1 && i != 4)
				continue;
			sp = filled(sizes[s], counts[i]);
			check_cursor(sp, sizes[s], counts[i]);
			check_read(sp, sizes[s], 0, 0);
			check_read(sp, sizes[s], counts[i], 0);
			if (counts[i] > 0) {
				check_read(sp, sizes[s], counts[i] - 1, 1);
				check_read(sp, sizes[s], 0, (size_t)(counts[i] < 1000 ? counts[i] : 1000));
			}
			/* Across the end of the file, where memory begins. */
			if (counts[i] > full)
				check_read(sp, sizes[s], full - 1, 2);
			if (counts[i] > 2 * full)
				check_read(sp, sizes[s], full / 2, (size_t)(counts[i] - full / 2));
			spool_free(sp);
		}
	}
}

static void
adding_goes_on_after_reading(void **state)
{
	struct spool *sp = filled(24, 100);
	struct err err = ERR_INIT;
	uint8_t rec[24];

	(void)state;
	check_cursor(sp, 24, 100);
	for (uint64_t i = 100; i < 100000; i++) {
		make(rec, 24, i);
		assert_int_equal(spool_add(sp, rec, &err), 0);
		if (i % 9973 == 0)
			check_read(sp, 24, i / 2, (size_t)(i - i / 2));
	}
	check_cursor(sp, 24, 100000);
	spool_free(sp);
}

static void
two_cursors_do_not_meet(void **state)
{
	struct spool *sp = filled(40, 60000);
	struct spool_cursor a, b;
	struct err err = ERR_INIT;
	const void *ra, *rb;
	uint8_t want[40];

	(void)state;
	spool_cursor_init(&a, sp);
	spool_cursor_init(&b, sp);
	for (uint64_t i = 0; i < 60000; i++) {
		assert_int_equal(spool_next(&a, &ra, &err), 1);
		if (i % 3 == 0) {
			assert_int_equal(spool_next(&b, &rb, &err), 1);
			make(want, 40, i / 3);
			assert_memory_equal(rb, want, 40);
		}
		make(want, 40, i);
		assert_memory_equal(ra, want, 40);
	}
	spool_free(sp);
}

static void
memory_is_bounded(void **state)
{
	struct mallinfo2 before = mallinfo2(), after;
	struct spool *sp = filled(32, 640000);	/* 20 MiB */

	(void)state;
	after = mallinfo2();
	assert_true(after.uordblks + after.hblkhd <= before.uordblks + before.hblkhd + 2 * MEMORY);
	check_read(sp, 32, 639000, 1000);
	spool_free(sp);
}

/* Without a place for its file, a spool works as long as memory is enough, and then says what to do. */
static void
a_missing_folder_is_told(void **state)
{
	struct err err = ERR_INIT;
	struct spool *sp;
	char *old = getenv("TMPDIR") != NULL ? strdup(getenv("TMPDIR")) : NULL;
	uint8_t rec[32] = { 0 };

	(void)state;
	setenv("TMPDIR", "/nowhere/at/all", 1);
	sp = filled(32, MEMORY / 32);
	assert_int_equal(spool_add(sp, rec, &err), -1);
	assert_non_null(strstr(err.text, "/nowhere/at/all"));
	assert_non_null(strstr(err.text, "TMPDIR"));
	spool_free(sp);
	if (old != NULL)
		setenv("TMPDIR", old, 1);
	else
		unsetenv("TMPDIR");
	free(old);
}

static void
a_full_disk_is_told(void **state)
{
	struct rlimit old, small;
	struct err err = ERR_INIT;
	struct spool *sp = filled(32, MEMORY / 32);
	uint8_t rec[32] = { 0 };
	int rc;

	(void)state;
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	small = old;
	small.rlim_cur = MEMORY / 2;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	rc = spool_add(sp, rec, &err);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(rc, -1);
	assert_non_null(strstr(err.text, "temporary file"));
	assert_non_null(strstr(err.text, "TMPDIR"));
	spool_free(sp);
	spool_free(NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(records_come_back),
		cmocka_unit_test(adding_goes_on_after_reading),
		cmocka_unit_test(two_cursors_do_not_meet),
		cmocka_unit_test(memory_is_bounded),
		cmocka_unit_test(a_missing_folder_is_told),
		cmocka_unit_test(a_full_disk_is_told),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
