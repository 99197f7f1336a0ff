/* The rate limit: by a clock of its own what it lets through, and at the store's files what that costs and counts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/store.h"
#include "store/throttle.h"

#define SECOND	INT64_C(1000000000)
#define MIB	(1 << 20)

static atomic_int stop;

/* A sender that does what it is told to: never ahead of the rate, and never more behind it than the pieces' own length. */
static void
test_rate(void **state)
{
	static const uint64_t rates[] = { 1, 1000, 65536, 3 * MIB, UINT64_C(50) * MIB, UINT64_C(5) << 30 };

	(void)state;
	for (size_t i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
		struct err err = ERR_INIT;
		struct throttle *t = throttle_new(rates[i], NULL, &err);
		int64_t begun = 12345 * SECOND, now = begun, wait;
		double rate = (double)rates[i], sent = 0, burst = rate * THROTTLE_BURST_MS / 1000;
		size_t piece;

		assert_non_null(t);
		piece = throttle_piece(t);
		for (int k = 0; k < 10000; k++) {
			wait = throttle_reserve(t, piece, now);
			assert_true(wait >= 0);
			now += wait;
			sent += (double)piece;
			assert_true(sent <= rate * ((double)(now - begun) / 1e9) + burst + (double)piece + 1);
		}
		assert_true(sent >= rate * ((double)(now - begun) / 1e9) * 0.999 - (double)piece);
		/* A long rest is no credit for more than the burst. */
		now += 3600 * SECOND;
		begun = now;
		sent = 0;
		for (int k = 0; k < 1000; k++) {
			now += throttle_reserve(t, piece, now);
			sent += (double)piece;
			assert_true(sent <= rate * ((double)(now - begun) / 1e9) + burst + (double)piece + 1);
		}
		throttle_free(t);
	}
	throttle_free(NULL);
}

/* Two who share it get the rate together, not each. */
static void
test_shared(void **state)
{
	struct err err = ERR_INIT;
	struct throttle *t = throttle_new(1000, NULL, &err);
	int64_t now[2] = { 0, 0 };
	double sent = 0;

	(void)state;
	assert_non_null(t);
	for (int k = 0; k < 2000; k++) {
		int who = now[0] <= now[1] ? 0 : 1;

		now[who] += throttle_reserve(t, 125, now[who]);
		sent += 125;
	}
	assert_true(sent <= 1000 * ((double)now[0] / 1e9) + 1000 * THROTTLE_BURST_MS / 1000.0 + 250);
	throttle_free(t);
}

static double
seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return ((double)t.tv_sec + (double)t.tv_nsec / 1e9);
}

static void
test_store(void **state)
{
	char folder[] = "/tmp/ovb-throttle.XXXXXX", path[128];
	static char bytes[MIB];
	struct err err = ERR_INIT;
	struct store *st;
	struct store_file *f;
	struct throttle *t;
	double begun;

	(void)state;
	assert_non_null(mkdtemp(folder));
	assert_non_null(st = store_open(folder, false, &err));
	assert_non_null(t = throttle_new(2 * MIB, &stop, &err));
	store_throttle(st, t);
	assert_non_null(f = store_create(st, "a", &err));
	begun = seconds();
	memset(bytes, 'x', sizeof(bytes));
	for (int i = 0; i < 2; i++)
		assert_int_equal(store_append(f, bytes, sizeof(bytes), &err), 0);
	/* At least: how much longer, a busy machine decides. */
	assert_true(seconds() - begun >= 1.0 - (THROTTLE_BURST_MS + 125) / 1000.0 - 0.01);
	assert_int_equal(f->size, 2 * MIB);
	assert_int_equal(st->appended, 2 * MIB);
	/* It does not go over a network. */
	assert_int_equal(store_sent(st), 0);
	assert_int_equal(store_append(f, bytes, 0, &err), 0);
	/* Who waits is told to stop: at once, and not after the minutes that it would take. */
	stop = 1;
	for (int i = 0; i < 100 && store_append(f, bytes, sizeof(bytes), &err) == 0; i++)
		;
	assert_int_equal(err.code, EINTR);
	assert_true(f->size < 4 * MIB);
	stop = 0;
	store_file_close(f);
	store_close(st);
	throttle_free(t);
	snprintf(path, sizeof(path), "%s/a", folder);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(folder), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_rate), cmocka_unit_test(test_shared), cmocka_unit_test(test_store) };

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
