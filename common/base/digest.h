/*
 * digest.h - digests of blocks (XXH3-128) and of files (SHA-256), and the search for zeroes.
 *
 * Block digests are keyed with the secret of their archive's index, so that no guest can prepare two blocks with one digest.
 * XXH3-128 digests are kept in the canonical form of XXH128_canonicalFromHash (xxhash.h).
 */
#ifndef OVB_DIGEST_H
#define OVB_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define DIGEST_LEN	16u
#define SECRET_LEN	192u
#define SHA256_HEX	65u	/* with the zero byte at the end */

/** digest_block(secret, p, n, out): The digest of the ${n} bytes at ${p}, keyed with ${secret}. */
void digest_block(const uint8_t secret[SECRET_LEN], const void *p, size_t n, uint8_t out[DIGEST_LEN]);

/** digest_plain(p, n, out): The digest without a secret: for structures, against damage. */
void digest_plain(const void *p, size_t n, uint8_t out[DIGEST_LEN]);

/* The same, of bytes that come piece by piece. */
struct digest_stream;
struct digest_stream *digest_stream_new(struct err *err);
void digest_stream_begin(struct digest_stream *ds);

/** digest_stream_begin_keyed(ds, secret): For what digest_block() gives; ${secret} must stay until the end. */
void digest_stream_begin_keyed(struct digest_stream *ds, const uint8_t secret[SECRET_LEN]);
void digest_stream_add(struct digest_stream *ds, const void *p, size_t n);
void digest_stream_end(struct digest_stream *ds, uint8_t out[DIGEST_LEN]);
void digest_stream_free(struct digest_stream *ds);

/* SHA-256 of bytes that come piece by piece.  Once ended, the text stays what it was. */
struct sha256;
struct sha256 *sha256_new(struct err *err);
int sha256_add(struct sha256 *s, const void *p, size_t n, struct err *err);
int sha256_end(struct sha256 *s, char hex[SHA256_HEX], struct err *err);
void sha256_free(struct sha256 *s);

/** bytes_are_zero(p, n): Whether all ${n} bytes at ${p} are zero. */
bool bytes_are_zero(const void *p, size_t n);

#endif
