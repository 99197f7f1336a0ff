/*
 * reseal.h - makes the digests of an index match again after a fuzzer has changed it, so that what is behind them is reached.
 * Used by the fuzz targets' own mutators only; the bytes that a target is given are read as they are.
 */
#ifndef OVB_FUZZ_RESEAL_H
#define OVB_FUZZ_RESEAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "archive/index.h"
#include "base/digest.h"
#include "base/le.h"

/* libFuzzer's own mutation; absent from the program that only replays the corpus. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max) __attribute__((weak));
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned int seed);

/* The sections whose place is within the index. */
static inline uint8_t *
reseal_section(uint8_t *p, size_t n, uint32_t i, size_t *len)
{
	uint8_t *r = p + INDEX_HEADER_LEN + (size_t)i * INDEX_SECTION_LEN;
	uint64_t at, length;

	if (i >= INDEX_SECTIONS_MAX || INDEX_HEADER_LEN + ((size_t)i + 1) * INDEX_SECTION_LEN > n)
		return (NULL);
	at = le64_get(r + 8);
	length = le64_get(r + 16);
	if (at > n || length > n - at)
		return (NULL);
	*len = (size_t)length;
	return (p + at);
}

static inline uint32_t
reseal_count(const uint8_t *p, size_t n)
{
	uint64_t room = n < INDEX_HEADER_LEN ? 0 : (n - INDEX_HEADER_LEN) / INDEX_SECTION_LEN;

	if (n < INDEX_HEADER_LEN)
		return (0);
	return (le32_get(p + 12) < room ? le32_get(p + 12) : (uint32_t)room);
}

/* The digest of ${n} bytes goes to ${out}, which may lie within them: not at once, then. */
static inline void
reseal_digest(const uint8_t *a, size_t alen, const uint8_t *b, size_t blen, uint8_t *out)
{
	uint8_t *all = malloc(alen + blen + 1), digest[DIGEST_LEN];

	if (all == NULL)
		return;
	memcpy(all, a, alen);
	if (blen > 0)
		memcpy(all + alen, b, blen);
	digest_plain(all, alen + blen, digest);
	memcpy(out, digest, DIGEST_LEN);
	free(all);
}

/** reseal_index(p, n): Set the digests of all sections and of the header. */
static inline void
reseal_index(uint8_t *p, size_t n)
{
	uint32_t count = reseal_count(p, n);
	uint8_t *s;
	size_t len;

	if (n < INDEX_HEADER_LEN)
		return;
	for (uint32_t i = 0; i < count; i++)
		if ((s = reseal_section(p, n, i, &len)) != NULL)
			reseal_digest(s, len, NULL, 0, p + INDEX_HEADER_LEN + (size_t)i * INDEX_SECTION_LEN + 32);
	reseal_digest(p, 496, p + INDEX_HEADER_LEN, (size_t)count * INDEX_SECTION_LEN, p + 496);
}

static inline uint32_t
reseal_random(uint32_t *state)
{
	*state = *state * 1664525u + 1013904223u;
	return (*state >> 8);
}

/* A number that is likely to matter in the place of ${v}: a little more or less, a limit, or ${other}. */
static inline uint64_t
reseal_other(uint64_t v, uint64_t other, uint32_t *state)
{
	static const uint64_t notable[] = { 0, 1, 2, 511, 512, 513, 65535, 65536, 65537, 4194304, 4194305, INT64_MAX, UINT64_MAX, UINT32_MAX,
		(uint64_t)1 << 63 };

	switch (reseal_random(state) % 4) {
	case 0:
		return (v + reseal_random(state) % 5 - 2);
	case 1:
		return (notable[reseal_random(state) % (sizeof(notable) / sizeof(notable[0]))]);
	case 2:
		return (other);
	default:
		return (v + ((uint64_t)(reseal_random(state) % 9) - 4) * 512);
	}
}

/** reseal_nudge(p, n, state): Change one number, of 4 or 8 bytes, of one record. */
static inline void
reseal_nudge(uint8_t *p, size_t n, uint32_t *state)
{
	uint32_t count = reseal_count(p, n);
	size_t len = 0, at, other;
	uint8_t *s;

	if (count == 0 || (s = reseal_section(p, n, reseal_random(state) % count, &len)) == NULL || len < 16)
		return;
	at = reseal_random(state) % (len / 8) * 8;
	other = reseal_random(state) % (len / 8) * 8;
	if (reseal_random(state) % 2) {
		at += reseal_random(state) % 2 * 4;
		le32_put(s + at, (uint32_t)reseal_other(le32_get(s + at), le32_get(s + other), state));
	} else
		le64_put(s + at, reseal_other(le64_get(s + at), le64_get(s + other), state));
}

#endif
