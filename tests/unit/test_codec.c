/* Codecs: a frame comes back as it was, alone or with bytes after it; damaged and cut ones are refused; no byte goes beyond the buffer. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "archive/codec.h"

static const struct {
	uint32_t id;
	int	 level;
} all[] = { { 0, 0 }, { 1, 1 }, { 1, 9 }, { 2, 0 }, { 2, 1 }, { 3, 1 }, { 3, 3 } };

#define NALL	(sizeof(all) / sizeof(all[0]))

static uint32_t seed = 1;

static uint32_t
rnd(uint32_t n)
{
	seed = seed * 1664525u + 1013904223u;
	return ((seed >> 8) % n);
}

enum kind { ZEROES, TEXT, NOISE, MIXED };

static void
fill(uint8_t *p, size_t n, enum kind kind)
{
	static const char words[] = "extent hole quiesce checkpoint restore point retention scratch guest\n";

	for (size_t i = 0; i < n; i++)
		p[i] = kind == ZEROES ? 0 : kind == TEXT || (kind == MIXED && i / 4096 % 2) ? (uint8_t)words[(i + i / 997) % (sizeof(words) - 1)] :
		    (uint8_t)rnd(256);
}

/* A buffer of ${n} bytes that ends where the next page must not be touched. */
struct guarded {
	uint8_t	*map, *p;
	size_t	 len;
};

static struct guarded
guarded(size_t n)
{
	struct guarded g = { .len = (n + 8191) / 4096 * 4096 };

	g.map = mmap(NULL, g.len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(g.map != MAP_FAILED && mprotect(g.map + g.len - 4096, 4096, PROT_NONE) == 0);
	g.p = g.map + g.len - 4096 - n;
	return (g);
}

static void
unguard(struct guarded g)
{
	munmap(g.map, g.len);
}

struct coder {
	const struct codec	*c;
	void			*enc, *dec;
};

static struct coder
coder_new(size_t i)
{
	struct coder k = { .c = codec_by_id(all[i].id) };
	struct err err = ERR_INIT;

	assert_non_null(k.c);
	assert_non_null(k.enc = k.c->encoder_new(all[i].level, &err));
	assert_non_null(k.dec = k.c->decoder_new(&err));
	return (k);
}

static void
coder_free(struct coder *k)
{
	k->c->encoder_free(k->enc);
	k->c->decoder_free(k->dec);
}

/* Returns the frame's length. */
static size_t
encode(struct coder *k, const uint8_t *in, size_t n, uint8_t *out)
{
	struct err err = ERR_INIT;
	size_t len = 0;

	assert_int_equal(k->c->encode(k->enc, in, n, out, k->c->bound(n), &len, &err), 0);
	assert_true(len > 0 && len <= k->c->bound(n));
	return (len);
}

static int
decode(struct coder *k, const uint8_t *in, size_t n, size_t *used, uint8_t *out, size_t cap, size_t *len)
{
	struct err err = ERR_INIT;
	int rc = k->c->decode(k->dec, in, n, used, out, cap, len, &err);

	if (rc == -1)
		assert_true(err.text[0] != '\0');
	return (rc);
}

static void
round_trip(struct coder *k, size_t n, enum kind kind)
{
	uint8_t *raw = malloc(n), *frame = malloc(k->c->bound(n) + 100);
	struct guarded exact = guarded(n), in;
	size_t len, used = 0, got = 0;

	assert_true(raw != NULL && frame != NULL);
	fill(raw, n, kind);
	len = encode(k, raw, n, frame);
	assert_true(k->c->id == 0 || k->c->may_begin(frame, len));
	/* Room for exactly what it gives, and exactly its own bytes to read. */
	in = guarded(len);
	memcpy(in.p, frame, len);
	assert_int_equal(decode(k, in.p, len, &used, exact.p, n, &got), 0);
	assert_int_equal(used, len);
	assert_int_equal(got, n);
	assert_memory_equal(exact.p, raw, n);
	/* One byte less than it gives. */
	if (n > 1)
		assert_int_equal(decode(k, in.p, len, &used, exact.p + 1, n - 1, &got), -1);
	unguard(in);
	/* What follows is left alone: without compression nothing tells where a frame ends. */
	if (k->c->id != 0) {
		memset(frame + len, 0x42, 100);
		assert_int_equal(decode(k, frame, len + 100, &used, exact.p, n, &got), 0);
		assert_true(used == len && got == n);
		memcpy(frame + len, frame, 100 < len ? 100 : len);
		assert_int_equal(decode(k, frame, len + (100 < len ? 100 : len), &used, exact.p, n, &got), 0);
		assert_true(used == len && got == n && memcmp(exact.p, raw, n) == 0);
	}
	unguard(exact);
	free(raw);
	free(frame);
}

static void
frames_come_back(void **state)
{
	static const size_t sizes[] = { 1, 2, 3, 511, 512, 513, 4095, 11776, 65535, 65536, 65537, 131072 };
	struct coder k;

	(void)state;
	for (size_t i = 0; i < NALL; i++) {
		k = coder_new(i);
		for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++)
			for (enum kind kind = ZEROES; kind <= MIXED; kind++)
				if (sizes[s] <= k.c->raw_max(all[i].level))
					round_trip(&k, sizes[s], kind);
		coder_free(&k);
	}
}

static void
the_longest_frames_come_back(void **state)
{
	struct coder k;

	(void)state;
	for (size_t i = 0; i < NALL; i++) {
		k = coder_new(i);
		assert_true(k.c->raw_max(all[i].level) <= FRAME_RAW_MAX && k.c->raw_max(all[i].level) % WINDOW_SIZE == 0);
		round_trip(&k, k.c->raw_max(all[i].level), ZEROES);
		round_trip(&k, k.c->raw_max(all[i].level) - 1, MIXED);
		round_trip(&k, k.c->raw_max(all[i].level), NOISE);
		coder_free(&k);
	}
}

/* Every length up to a few hundred: a decoder's buffer is exactly as long as what comes. */
static void
every_short_length_comes_back(void **state)
{
	struct coder k;

	(void)state;
	for (size_t i = 0; i < NALL; i++) {
		k = coder_new(i);
		for (size_t n = 1; n <= (all[i].id == 1 || all[i].id == 2 ? 130u : 700u); n++)
			round_trip(&k, n, n % 3 == 0 ? NOISE : n % 3 == 1 ? TEXT : ZEROES);
		coder_free(&k);
	}
}

static void
cut_frames_are_refused(void **state)
{
	uint8_t raw[6000], frame[16384], out[6000];
	size_t len, used, got;
	struct coder k;

	(void)state;
	for (size_t i = 1; i < NALL; i++) {
		k = coder_new(i);
		fill(raw, sizeof(raw), MIXED);
		len = encode(&k, raw, sizeof(raw), frame);
		for (size_t n = 0; n < len; n += n < 40 || n + 40 > len ? 1 : 97)
			assert_int_equal(decode(&k, frame, n, &used, out, sizeof(out), &got), -1);
		/* A decoder that has failed goes on working. */
		assert_int_equal(decode(&k, frame, len, &used, out, sizeof(out), &got), 0);
		assert_true(got == sizeof(raw) && memcmp(out, raw, sizeof(raw)) == 0);
		coder_free(&k);
	}
}

/* A flipped bit is noticed, or does not matter (a bzip2 stream's level may be any that suffices). */
static void
changed_frames_are_refused_or_the_same(void **state)
{
	uint8_t raw[3000], frame[16384], out[3000];
	size_t len, used, got, noticed;
	struct coder k;

	(void)state;
	for (size_t i = 1; i < NALL; i++) {
		k = coder_new(i);
		fill(raw, sizeof(raw), MIXED);
		len = encode(&k, raw, sizeof(raw), frame);
		noticed = 0;
		for (size_t bit = 0; bit < 8 * len; bit += bit < 256 || bit + 256 > 8 * len ? 1 : 37) {
			frame[bit / 8] ^= (uint8_t)(1u << bit % 8);
			if (decode(&k, frame, len, &used, out, sizeof(out), &got) == -1)
				noticed++;
			else
				assert_true(got == sizeof(raw) && memcmp(out, raw, sizeof(raw)) == 0);
			frame[bit / 8] ^= (uint8_t)(1u << bit % 8);
		}
		assert_true(noticed > 500);
		coder_free(&k);
	}
}

static void
noise_is_no_frame(void **state)
{
	uint8_t in[2000], *out = malloc(FRAME_RAW_MAX);
	size_t used, got;
	struct coder k;

	(void)state;
	assert_non_null(out);
	for (size_t i = 1; i < NALL; i++) {
		k = coder_new(i);
		for (int round = 0; round < 50; round++) {
			fill(in, sizeof(in), round == 0 ? ZEROES : round == 1 ? TEXT : NOISE);
			assert_int_equal(decode(&k, in, sizeof(in), &used, out, FRAME_RAW_MAX, &got), -1);
			assert_false(k.c->may_begin(in, sizeof(in)));
		}
		assert_int_equal(decode(&k, in, 0, &used, out, FRAME_RAW_MAX, &got), -1);
		coder_free(&k);
	}
	free(out);
}

/* A small frame that gives far more than the buffer holds: it is stopped there. */
static void
a_bomb_stops_at_the_buffer(void **state)
{
	struct guarded out = guarded(65536);
	uint8_t *raw = calloc(1, FRAME_RAW_MAX), *frame;
	size_t n, len, used, got;
	struct coder k;

	(void)state;
	assert_non_null(raw);
	for (size_t i = 0; i < NALL; i++) {
		k = coder_new(i);
		n = k.c->raw_max(all[i].level);
		assert_non_null(frame = malloc(k.c->bound(n)));
		if (n > 65536) {
			len = encode(&k, raw, n, frame);
			assert_int_equal(decode(&k, frame, len, &used, out.p, 65536, &got), -1);
		}
		free(frame);
		coder_free(&k);
	}
	free(raw);
	unguard(out);
}

static void
codecs_are_found(void **state)
{
	static const struct {
		const char *file, *name;
	} files[] = { { "disks.tar", "none" }, { "disks.tar.bz2", "bzip2" }, { "disks.tar.xz", "xz" }, { "disks.tar.zst", "zstd" } };

	(void)state;
	for (uint32_t i = 0; i < 4; i++) {
		assert_non_null(codec_by_id(i));
		assert_int_equal(codec_by_id(i)->id, i);
		assert_string_equal(codec_by_id(i)->name, files[i].name);
		assert_ptr_equal(codec_by_suffix(files[i].file), codec_by_id(i));
	}
	assert_null(codec_by_id(4));
	assert_null(codec_by_id(UINT32_MAX));
	assert_null(codec_by_suffix("disks.tar.gz"));
	assert_null(codec_by_suffix(""));
	/* The table in FORMAT.md. */
	assert_int_equal(codec_bz2.raw_max(1), 65536);
	assert_int_equal(codec_bz2.raw_max(2), 3 * 65536);
	assert_int_equal(codec_bz2.raw_max(9), 13 * 65536);
	assert_int_equal(codec_none.raw_max(0), 4194304);
	assert_int_equal(codec_zstd.raw_max(19), 4194304);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_come_back),
		cmocka_unit_test(the_longest_frames_come_back),
		cmocka_unit_test(every_short_length_comes_back),
		cmocka_unit_test(cut_frames_are_refused),
		cmocka_unit_test(changed_frames_are_refused_or_the_same),
		cmocka_unit_test(noise_is_no_frame),
		cmocka_unit_test(a_bomb_stops_at_the_buffer),
		cmocka_unit_test(codecs_are_found),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
