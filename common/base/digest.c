#include "base/digest.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

struct digest_stream {
	XXH3_state_t *state;
};

struct sha256 {
	EVP_MD_CTX *ctx;
};

static void
canonical(XXH128_hash_t h, uint8_t out[DIGEST_LEN])
{
	XXH128_canonical_t c;

	XXH128_canonicalFromHash(&c, h);
	memcpy(out, c.digest, DIGEST_LEN);
}

void
digest_block(const uint8_t secret[SECRET_LEN], const void *p, size_t n, uint8_t out[DIGEST_LEN])
{
	canonical(XXH3_128bits_withSecret(p, n, secret, SECRET_LEN), out);
}

void
digest_plain(const void *p, size_t n, uint8_t out[DIGEST_LEN])
{
	canonical(XXH3_128bits(p, n), out);
}

struct digest_stream *
digest_stream_new(struct err *err)
{
	struct digest_stream *ds = calloc(1, sizeof(*ds));

	if (ds == NULL || (ds->state = XXH3_createState()) == NULL) {
		free(ds);
		err_nomem(err);
		return (NULL);
	}
	digest_stream_begin(ds);
	return (ds);
}

void
digest_stream_begin(struct digest_stream *ds)
{
	XXH3_128bits_reset(ds->state);
}

void
digest_stream_begin_keyed(struct digest_stream *ds, const uint8_t secret[SECRET_LEN])
{
	XXH3_128bits_reset_withSecret(ds->state, secret, SECRET_LEN);
}

void
digest_stream_add(struct digest_stream *ds, const void *p, size_t n)
{
	XXH3_128bits_update(ds->state, p, n);
}

void
digest_stream_end(struct digest_stream *ds, uint8_t out[DIGEST_LEN])
{
	canonical(XXH3_128bits_digest(ds->state), out);
}

void
digest_stream_free(struct digest_stream *ds)
{
	if (ds == NULL)
		return;
	XXH3_freeState(ds->state);
	free(ds);
}

struct sha256 *
sha256_new(struct err *err)
{
	struct sha256 *s = calloc(1, sizeof(*s));

	if (s == NULL || (s->ctx = EVP_MD_CTX_new()) == NULL || EVP_DigestInit_ex(s->ctx, EVP_sha256(), NULL) != 1) {
		sha256_free(s);
		err_set(err, 0, "cannot start a SHA-256 digest (libcrypto)");
		return (NULL);
	}
	return (s);
}

int
sha256_add(struct sha256 *s, const void *p, size_t n, struct err *err)
{
	if (EVP_DigestUpdate(s->ctx, p, n) != 1)
		return (err_set(err, 0, "cannot compute a SHA-256 digest (libcrypto)"));
	return (0);
}

int
sha256_end(struct sha256 *s, char hex[SHA256_HEX], struct err *err)
{
	static const char digits[] = "0123456789abcdef";
	unsigned char md[EVP_MAX_MD_SIZE];
	unsigned int len, i;

	if (EVP_DigestFinal_ex(s->ctx, md, &len) != 1 || len != 32)
		return (err_set(err, 0, "cannot compute a SHA-256 digest (libcrypto)"));
	for (i = 0; i < len; i++) {
		hex[2 * i] = digits[md[i] >> 4];
		hex[2 * i + 1] = digits[md[i] & 15];
	}
	hex[64] = '\0';
	return (0);
}

void
sha256_free(struct sha256 *s)
{
	if (s == NULL)
		return;
	EVP_MD_CTX_free(s->ctx);
	free(s);
}

bool
bytes_are_zero(const void *p, size_t n)
{
	const uint8_t *b = p;

	/* The first bytes decide for nearly all data; then memcmp() of the string with itself, moved by 16, does the rest. */
	for (; n > 0 && ((uintptr_t)b % 16 != 0 || n < 32); b++, n--)
		if (*b != 0)
			return (false);
	if (n == 0)
		return (true);
	for (size_t i = 0; i < 16; i++)
		if (b[i] != 0)
			return (false);
	return (memcmp(b, b + 16, n - 16) == 0);
}
