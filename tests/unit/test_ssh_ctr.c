/* AES-128-CTR with key stream ahead, against OpenSSL's own: the same bytes, however they are cut. */
#include <openssl/evp.h>
#include <openssl/provider.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ssh/ssh_ctr.h"

#define LENGTH 40000

static const unsigned char key[16] = "0123456789abcdef", low[16] = { 0x01 };
static const unsigned char high[16] = { 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 250 };	/* wraps around */

static const char *
provider_of(const EVP_CIPHER_CTX *ctx)
{
	return (OSSL_PROVIDER_get0_name(EVP_CIPHER_get0_provider(EVP_CIPHER_CTX_get0_cipher(ctx))));
}

static EVP_CIPHER_CTX *
ours(const unsigned char *iv, int encrypt)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();

	/* As libssh2 does it. */
	assert_int_equal(EVP_CipherInit(ctx, EVP_aes_128_ctr(), key, iv, encrypt), 1);
	assert_string_equal(provider_of(ctx), "openvirt-backup");
	assert_int_equal(EVP_CIPHER_CTX_get_block_size(ctx), 1);
	assert_int_equal(EVP_CIPHER_CTX_get_key_length(ctx), 16);
	assert_int_equal(EVP_CIPHER_CTX_get_iv_length(ctx), 16);
	return (ctx);
}

static void
expect(const unsigned char *iv, const unsigned char *in, unsigned char *out)
{
	EVP_CIPHER *own = EVP_CIPHER_fetch(NULL, "AES-128-CTR", "provider=default");
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	int n = 0;

	assert_int_equal(EVP_EncryptInit_ex2(ctx, own, key, iv, NULL), 1);
	assert_string_equal(provider_of(ctx), "default");
	assert_int_equal(EVP_EncryptUpdate(ctx, out, &n, in, LENGTH), 1);
	assert_int_equal(n, LENGTH);
	EVP_CIPHER_CTX_free(ctx);
	EVP_CIPHER_free(own);
}

static void
check(const unsigned char *iv, const size_t *pieces, size_t npieces, int encrypt)
{
	static unsigned char in[LENGTH], wanted[LENGTH], got[LENGTH];
	EVP_CIPHER_CTX *ctx = ours(iv, encrypt), *copy;
	size_t at = 0, n;

	for (size_t i = 0; i < LENGTH; i++)
		in[i] = (unsigned char)(i * 7 + i / 251);
	expect(iv, in, wanted);
	for (size_t i = 0; at < LENGTH; i++, at += n) {
		n = pieces[i % npieces] < LENGTH - at ? pieces[i % npieces] : LENGTH - at;
		assert_int_equal(EVP_Cipher(ctx, got + at, in + at, (unsigned int)n), n);
		if (i == 3) {	/* a copy goes on where it was made */
			copy = EVP_CIPHER_CTX_new();
			assert_int_equal(EVP_CIPHER_CTX_copy(copy, ctx), 1);
			EVP_CIPHER_CTX_free(ctx);
			ctx = copy;
		}
	}
	assert_memory_equal(got, wanted, LENGTH);
	/* Begun anew with another counter only, nothing is left of what was ahead. */
	assert_int_equal(EVP_CipherInit(ctx, NULL, NULL, iv, encrypt), 1);
	assert_int_equal(EVP_Cipher(ctx, got, in, 100), 100);
	assert_memory_equal(got, wanted, 100);
	EVP_CIPHER_CTX_free(ctx);
}

static void
test_same(void **state)
{
	static const size_t blocks[] = { 16 }, odd[] = { 1, 16, 5, 4096, 31, 4097, 15, 9000 }, all[] = { LENGTH };

	(void)state;
	for (int encrypt = 0; encrypt < 2; encrypt++) {
		check(low, blocks, 1, encrypt);
		check(high, blocks, 1, encrypt);
		check(low, odd, 8, encrypt);
		check(high, odd, 8, encrypt);
		check(low, all, 1, encrypt);
	}
}

static void
test_others(void **state)
{
	EVP_CIPHER *c = EVP_CIPHER_fetch(NULL, "AES-256-CTR", NULL);

	(void)state;
	assert_non_null(c);
	assert_string_equal(OSSL_PROVIDER_get0_name(EVP_CIPHER_get0_provider(c)), "default");
	EVP_CIPHER_free(c);
	c = EVP_CIPHER_fetch(NULL, "AES-128-CTR", "provider=default");
	assert_non_null(c);
	EVP_CIPHER_free(c);
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_same), cmocka_unit_test(test_others) };

	ssh_ctr_install();
	return (cmocka_run_group_tests_name("ssh_ctr", tests, NULL, NULL));
}
