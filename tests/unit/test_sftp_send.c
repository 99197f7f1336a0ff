/* What is appended is sent in pieces on several threads: all of it, at its place, also when the server is slow or fails. */
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

#include "store/sftp_send.h"

#define LENGTH	(20 * SEND_PIECE + 12345)

/* A file on a server that may fail. */
struct far {
	char		*bytes;
	uint64_t	 fail_at;	/* the write that holds this byte fails; UINT64_MAX: none does */
	bool		 hangs;		/* until it is told to stop */
	bool		 slow_first;	/* the first piece takes long */
	uint64_t	 end;		/* the highest end of any write that came before the first piece was done */
	pthread_mutex_t	 lock;
	unsigned int	 now, most, writes;	/* writes under way; at a time; in all */
};

static int
far_write(void *file, const char *p, size_t n, uint64_t offset, const atomic_bool *stop, struct err *err)
{
	struct far *f = file;
	bool slow;

	pthread_mutex_lock(&f->lock);
	slow = f->slow_first && offset == 0;
	f->writes++;
	if (++f->now > f->most)
		f->most = f->now;
	pthread_mutex_unlock(&f->lock);
	assert_true(offset + n <= LENGTH);
	nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
	while (f->hangs && !atomic_load(stop))
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	if (slow)
		nanosleep(&(struct timespec){ .tv_nsec = 300000000 }, NULL);
	memcpy(f->bytes + offset, p, n);
	pthread_mutex_lock(&f->lock);
	f->now--;
	if (offset == 0)
		f->slow_first = false;
	else if (f->slow_first && offset + n > f->end)
		f->end = offset + n;
	pthread_mutex_unlock(&f->lock);
	if (f->hangs || (f->fail_at >= offset && f->fail_at < offset + n))
		return (err_set(err, ENOSPC, "write at %llu", (unsigned long long)offset));
	return (0);
}

static char *text;

static struct far
far_new(void)
{
	struct far f = { .bytes = calloc(1, LENGTH), .fail_at = UINT64_MAX, .lock = PTHREAD_MUTEX_INITIALIZER };

	assert_non_null(f.bytes);
	return (f);
}

static void
test_all(void **state)
{
	static const size_t steps[] = { 1 << 20, 3 * SEND_PIECE, 777777 };
	struct err err = ERR_INIT;
	struct sftp_send *s;
	size_t n;

	(void)state;
	for (unsigned int i = 0; i < 3; i++) {
		struct far f = far_new();

		assert_non_null(s = send_new(far_write, &f, &err));
		for (size_t at = 0; at < LENGTH; at += n) {
			n = LENGTH - at < steps[i] ? LENGTH - at : steps[i];
			assert_int_equal(send_append(s, text + at, n, at, &err), 0);
		}
		assert_int_equal(send_flush(s, &err), 0);
		assert_memory_equal(f.bytes, text, LENGTH);
		assert_true(f.most >= 2 && f.most <= SEND_LANES);
		assert_int_equal(f.writes, 21);
		assert_int_equal(send_flush(s, &err), 0);
		send_free(s);
		assert_int_equal(f.now, 0);
		free(f.bytes);
	}
}

/* What is less than a piece is sent by the flush, on the caller's thread; then it goes on. */
static void
test_flushes(void **state)
{
	struct far f = far_new();
	struct err err = ERR_INIT;
	struct sftp_send *s = send_new(far_write, &f, &err);

	(void)state;
	assert_int_equal(send_append(s, text, 1000, 0, &err), 0);
	assert_int_equal(f.writes, 0);
	assert_int_equal(send_flush(s, &err), 0);
	assert_int_equal(f.writes, 1);
	assert_int_equal(send_append(s, text + 1000, 500, 1000, &err), 0);
	assert_int_equal(send_flush(s, &err), 0);
	assert_memory_equal(f.bytes, text, 1500);
	assert_int_equal(f.bytes[1500], 0);
	send_free(s);
	free(f.bytes);
}

static void
test_fails(void **state)
{
	struct far f = far_new();
	struct err err = ERR_INIT;
	struct sftp_send *s = send_new(far_write, &f, &err);
	size_t at = 0;

	(void)state;
	f.fail_at = 5 * SEND_PIECE + 7;
	while (at < LENGTH - SEND_PIECE && send_append(s, text + at, SEND_PIECE, at, &err) == 0)
		at += SEND_PIECE;
	assert_true(at < LENGTH - SEND_PIECE);	/* told long before the end */
	assert_int_equal(err.code, ENOSPC);
	err = (struct err)ERR_INIT;
	assert_int_equal(send_flush(s, &err), -1);
	assert_string_equal(err.text, "write at 9600000: No space left on device");
	send_free(s);
	assert_int_equal(f.now, 0);
	free(f.bytes);
}

/* However slow one lane is, all that is not there lies within the window. */
static void
test_window(void **state)
{
	struct far f = far_new();
	struct err err = ERR_INIT;
	struct sftp_send *s = send_new(far_write, &f, &err);

	(void)state;
	f.slow_first = true;
	assert_int_equal(send_append(s, text, LENGTH, 0, &err), 0);
	assert_int_equal(send_flush(s, &err), 0);
	assert_true(f.end > SEND_PIECE && f.end <= SEND_WINDOW);
	assert_memory_equal(f.bytes, text, LENGTH);
	send_free(s);
	free(f.bytes);
}

static void
test_stops(void **state)
{
	struct far f = far_new();
	struct err err = ERR_INIT;
	struct sftp_send *s = send_new(far_write, &f, &err);

	(void)state;
	f.hangs = true;
	assert_int_equal(send_append(s, text, 3 * SEND_PIECE + 5, 0, &err), 0);
	send_free(s);
	assert_int_equal(f.now, 0);
	assert_true(f.writes <= 3);
	free(f.bytes);
	send_free(NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_all), cmocka_unit_test(test_flushes), cmocka_unit_test(test_fails),
	    cmocka_unit_test(test_window), cmocka_unit_test(test_stops) };
	int rc;

	if ((text = malloc(LENGTH)) == NULL)
		return (1);
	for (size_t i = 0; i < LENGTH; i++)
		text[i] = (char)(i % 251 + i / 65536);
	rc = cmocka_run_group_tests_name("sftp_send", tests, NULL, NULL);
	free(text);
	return (rc);
}
