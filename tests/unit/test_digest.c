/* Digests and the search for zeroes. */
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

#include "base/digest.h"

#define ROOM	8192u	/* bytes before the guard page */

/* ROOM zero bytes with a page after them that must not be touched. */
static uint8_t *
guarded(void)
{
	uint8_t *p = mmap(NULL, ROOM + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(p != MAP_FAILED);
	assert_int_equal(mprotect(p + ROOM, 4096, PROT_NONE), 0);
	return (p);
}

/* Every length at every alignment, with each byte set in turn, up against a page that may not be read, and against bytes that are not zero. */
static void
zeroes_are_told_from_data(void **state)
{
	uint8_t *page = guarded(), *end = page + ROOM, *p;
	uint8_t copy[512];

	(void)state;
	for (size_t n = 0; n <= 150; n++) {
		p = end - n;
		assert_true(bytes_are_zero(p, n));
		for (size_t i = 0; i < n; i++) {
			p[i] = (uint8_t)(1u << (i % 8));
			assert_false(bytes_are_zero(p, n));
			p[i] = 0;
		}
	}
	for (size_t align = 0; align < 64; align++)
		for (size_t n = 0; n <= 130; n++) {
			memset(copy, 0xff, sizeof(copy));
			memset(copy + 64 + align, 0, n);
			assert_true(bytes_are_zero(copy + 64 + align, n));
			if (n > 0) {
				copy[64 + align] = 0x80;
				assert_false(bytes_are_zero(copy + 64 + align, n));
				copy[64 + align] = 0;
				copy[64 + align + n - 1] = 1;
				assert_false(bytes_are_zero(copy + 64 + align, n));
				copy[64 + align + n / 2] |= 1;
				assert_false(bytes_are_zero(copy + 64 + align, n));
			}
		}
	munmap(page, ROOM + 4096);
}

static void
one_bit_in_a_block_is_seen(void **state)
{
	uint8_t *p = calloc(1, 65536 + 3);

	(void)state;
	assert_non_null(p);
	for (size_t align = 0; align < 3; align++) {
		assert_true(bytes_are_zero(p + align, 65536));
		for (size_t at = 0; at < 65536; at += at < 64 || at >= 65472 ? 1 : 61) {
			p[align + at] = 0x10;
			assert_false(bytes_are_zero(p + align, 65536));
			p[align + at] = 0;
		}
	}
	free(p);
}

static void
check_sha256(const char *text, size_t n, size_t piece, const char *want)
{
	struct err err = ERR_INIT;
	struct sha256 *s = sha256_new(&err);
	char hex[SHA256_HEX];

	assert_non_null(s);
	for (size_t at = 0; at < n; at += piece)
		assert_int_equal(sha256_add(s, text + at, n - at < piece ? n - at : piece, &err), 0);
	assert_int_equal(sha256_end(s, hex, &err), 0);
	assert_string_equal(hex, want);
	sha256_free(s);
}

/* FIPS 180-2, appendix B, and the empty string. */
static void
sha256_is_the_known_one(void **state)
{
	char *million = malloc(1000000);

	(void)state;
	assert_non_null(million);
	memset(million, 'a', 1000000);
	check_sha256("", 0, 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	check_sha256("abc", 3, 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	check_sha256("abc", 3, 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	check_sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, 7,
	    "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
	check_sha256(million, 1000000, 4099, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
	free(million);
	sha256_free(NULL);
}

static void
check_plain(const void *p, size_t n, const char *want)
{
	uint8_t digest[DIGEST_LEN];
	char hex[2 * DIGEST_LEN + 1];

	digest_plain(p, n, digest);
	for (size_t i = 0; i < DIGEST_LEN; i++)
		snprintf(hex + 2 * i, 3, "%02x", digest[i]);
	assert_string_equal(hex, want);
}

/* As "xxhsum -H2" prints them: the canonical, big-endian form. */
static void
xxh3_is_the_known_one(void **state)
{
	uint8_t zeroes[512] = { 0 };

	(void)state;
	check_plain("", 0, "99aa06d3014798d86001c324468d497f");
	check_plain("abc", 3, "06b05ab6733a618578af5f94892f3950");
	check_plain(zeroes, 512, "3258ca92e0a00944b2987a9d949e807c");
}

static void
pieces_give_the_digest_of_the_whole(void **state)
{
	uint8_t *p = malloc(100000), want[DIGEST_LEN], got[DIGEST_LEN];
	struct err err = ERR_INIT;
	struct digest_stream *ds = digest_stream_new(&err);
	uint32_t x = 7;

	(void)state;
	assert_true(p != NULL && ds != NULL);
	for (size_t i = 0; i < 100000; i++)
		p[i] = (uint8_t)((x = x * 1664525u + 1013904223u) >> 24);
	for (size_t n = 0; n < 100000; n = n * 3 / 2 + 1) {
		digest_stream_begin(ds);
		for (size_t at = 0, part; at < n; at += part) {
			part = 1 + (x = x * 1664525u + 1013904223u) % 1500;
			part = part < n - at ? part : n - at;
			digest_stream_add(ds, p + at, part);
		}
		digest_stream_end(ds, got);
		digest_plain(p, n, want);
		assert_memory_equal(got, want, DIGEST_LEN);
	}
	digest_stream_free(ds);
	digest_stream_free(NULL);
	free(p);
}

/* A block's digest depends on the secret, on each bit, and on the length, at all lengths that XXH3 treats in its own way. */
static void
block_digests_are_keyed(void **state)
{
	static const size_t lengths[] = { 1, 3, 4, 8, 9, 16, 17, 128, 129, 240, 241, 512, 1024, 4096, 65536 };
	uint8_t *p = calloc(1, 65537), secret[SECRET_LEN], other[SECRET_LEN], a[DIGEST_LEN], b[DIGEST_LEN];

	(void)state;
	assert_non_null(p);
	for (size_t i = 0; i < SECRET_LEN; i++) {
		secret[i] = (uint8_t)(i * 37 + 11);
		other[i] = (uint8_t)(i * 41 + 5);
	}
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		digest_block(secret, p, lengths[i], a);
		digest_block(secret, p, lengths[i], b);
		assert_memory_equal(a, b, DIGEST_LEN);
		digest_block(other, p, lengths[i], b);
		assert_memory_not_equal(a, b, DIGEST_LEN);
		digest_plain(p, lengths[i], b);
		assert_memory_not_equal(a, b, DIGEST_LEN);
		digest_block(secret, p, lengths[i] + 1, b);
		assert_memory_not_equal(a, b, DIGEST_LEN);
		p[lengths[i] - 1] = 1;
		digest_block(secret, p, lengths[i], b);
		assert_memory_not_equal(a, b, DIGEST_LEN);
		p[lengths[i] - 1] = 0;
	}
	free(p);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(zeroes_are_told_from_data),
		cmocka_unit_test(one_bit_in_a_block_is_seen),
		cmocka_unit_test(sha256_is_the_known_one),
		cmocka_unit_test(xxh3_is_the_known_one),
		cmocka_unit_test(pieces_give_the_digest_of_the_whole),
		cmocka_unit_test(block_digests_are_keyed),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
