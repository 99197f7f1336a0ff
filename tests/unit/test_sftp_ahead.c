/* What is read in order is asked for ahead, several pieces at a time; what is read here and there is not. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "store/sftp_ahead.h"

#define LENGTH	(20 * AHEAD_WINDOW + 12345)
#define MIB	((size_t)1 << 20)

/* A file on a server. */
struct far {
	uint64_t	 fail_at;	/* what holds this byte cannot be read; UINT64_MAX: all can */
	uint64_t	 end;		/* bytes that there are */
	pthread_mutex_t	 lock;
	unsigned int	 now, most;	/* reads under way; at a time */
	uint64_t	 bytes;		/* read */
};

static char *text;

static long
far_fetch(void *file, void *p, size_t n, uint64_t offset, struct err *err)
{
	struct far *f = file;

	pthread_mutex_lock(&f->lock);
	if (++f->now > f->most)
		f->most = f->now;
	pthread_mutex_unlock(&f->lock);
	nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
	n = offset >= f->end ? 0 : f->end - offset < n ? (size_t)(f->end - offset) : n;
	memcpy(p, text + offset, n);
	pthread_mutex_lock(&f->lock);
	f->bytes += n;
	f->now--;
	pthread_mutex_unlock(&f->lock);
	if (f->fail_at >= offset && f->fail_at < offset + n)
		return (err_set(err, EIO, "read at %llu", (unsigned long long)offset));
	return ((long)n);
}

struct fixture {
	struct sftp_ahead	a;
	struct ahead_file	af;
	struct far		far;
	char			*got;
	struct err		err;
};

static int
set_up(void **state)
{
	struct fixture *x = calloc(1, sizeof(*x));

	if (x == NULL || (x->got = malloc(LENGTH)) == NULL)
		return (-1);
	ahead_init(&x->a, far_fetch);
	x->af.size = LENGTH;
	x->far = (struct far){ .fail_at = UINT64_MAX, .end = LENGTH, .lock = PTHREAD_MUTEX_INITIALIZER };
	*state = x;
	return (0);
}

static int
tear_down(void **state)
{
	struct fixture *x = *state;

	ahead_forget(&x->a, &x->far);
	ahead_free(&x->a);
	free(x->got);
	free(x);
	return (0);
}

static long
read_at(struct fixture *x, size_t n, uint64_t offset)
{
	return (ahead_read(&x->a, &x->af, &x->far, x->got + offset, n, offset, &x->err));
}

static void
test_in_order(void **state)
{
	static const size_t steps[] = { MIB, 3 * AHEAD_WINDOW, 65536, 777777 };
	struct fixture *x = *state;
	uint64_t at;
	long n;

	for (unsigned int i = 0; i < 4; i++) {
		memset(x->got, 0, LENGTH);
		x->far.bytes = 0;
		x->far.most = 0;
		for (at = 0; at < LENGTH; at += (uint64_t)n)
			assert_int_equal(n = read_at(x, steps[i], at), steps[i] < LENGTH - at ? steps[i] : LENGTH - at);
		assert_memory_equal(x->got, text, LENGTH);
		assert_true(x->far.most >= 2 && x->far.most <= AHEAD_THREADS + 1);
		assert_int_equal(x->far.bytes, LENGTH);		/* nothing twice */
		assert_int_equal(read_at(x, 1, LENGTH - 1), 1);
		assert_int_equal(ahead_read(&x->a, &x->af, &x->far, x->got, 10, LENGTH, &x->err), 0);
		ahead_forget(&x->a, &x->far);
		x->af = (struct ahead_file){ .size = LENGTH };
	}
}

static void
test_here_and_there(void **state)
{
	struct fixture *x = *state;
	uint64_t at = 7 * MIB, sum = 0;

	for (unsigned int i = 0; i < 50; i++) {
		at = (at + 11 * MIB + 4096) % (LENGTH - MIB);
		assert_int_equal(read_at(x, 5000, at), 5000);
		assert_memory_equal(x->got + at, text + at, 5000);
		sum += 5000;
	}
	assert_int_equal(x->far.bytes, sum);
	assert_int_equal(x->a.nthreads, 0);
}

static void
test_fails(void **state)
{
	struct fixture *x = *state;
	uint64_t at;

	x->far.fail_at = 8 * MIB + 100;
	for (at = 0; at < 8 * MIB; at += MIB)
		assert_int_equal(read_at(x, MIB, at), MIB);
	assert_int_equal(read_at(x, MIB, at), -1);
	assert_int_equal(x->err.code, EIO);
	assert_string_equal(x->err.text, "read at 8388608: Input/output error");
	/* The rest can be read, but is not asked for any more. */
	for (at += MIB; at < 16 * MIB; at += MIB)
		assert_int_equal(read_at(x, MIB, at), MIB);
	assert_memory_equal(x->got + 9 * MIB, text + 9 * MIB, 7 * MIB);
	assert_memory_equal(x->got, text, 8 * MIB);
}

/* A file that is shorter than it was said to be. */
static void
test_short(void **state)
{
	struct fixture *x = *state;
	uint64_t at;

	x->far.end = 10 * MIB + 77;
	for (at = 0; at < 10 * MIB; at += MIB)
		assert_int_equal(read_at(x, MIB, at), MIB);
	assert_int_equal(read_at(x, MIB, at), 77);
	assert_int_equal(read_at(x, MIB, at + MIB), 0);
	assert_memory_equal(x->got, text, x->far.end);
}

struct reader {
	struct fixture	*x;
	uint64_t	 first;
};

/* Every fourth piece. */
static void *
reader_main(void *arg)
{
	struct reader *r = arg;
	struct err err = ERR_INIT;

	for (uint64_t at = r->first * 200000; at + 200000 <= LENGTH; at += 4 * 200000)
		if (ahead_read(&r->x->a, &r->x->af, &r->x->far, r->x->got + at, 200000, at, &err) != 200000)
			return (r);
	return (NULL);
}

static void
test_together(void **state)
{
	struct fixture *x = *state;
	struct reader readers[4];
	pthread_t threads[4];
	void *bad;

	for (unsigned int i = 0; i < 4; i++) {
		readers[i] = (struct reader){ x, i };
		assert_int_equal(pthread_create(&threads[i], NULL, reader_main, &readers[i]), 0);
	}
	for (unsigned int i = 0; i < 4; i++) {
		assert_int_equal(pthread_join(threads[i], &bad), 0);
		assert_null(bad);
	}
	assert_memory_equal(x->got, text, LENGTH / 200000 * 200000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_in_order, set_up, tear_down), cmocka_unit_test_setup_teardown(test_here_and_there, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_fails, set_up, tear_down), cmocka_unit_test_setup_teardown(test_short, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_together, set_up, tear_down),
	};
	int rc;

	if ((text = malloc(LENGTH)) == NULL)
		return (1);
	for (size_t i = 0; i < LENGTH; i++)
		text[i] = (char)(i % 251 + i / 65536);
	rc = cmocka_run_group_tests_name("sftp_ahead", tests, NULL, NULL);
	free(text);
	return (rc);
}
