/* Plans of full copies: the map is the view's data and nothing else but zeroes, and what is copied is just what the writer would have cut. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "archive/copy_plan.h"
#include "memory_feed.h"
#include "repository/compact_archive.h"

#define SIZE		((uint64_t)6 << 20)
#define GENERATIONS	6
#define ROUNDS		12
#define PAGE		512u
#define PAGES		(SIZE / PAGE)

enum { HOLE, ZERO, DATA };	/* of a page */

static uint32_t seed = 7;

static uint32_t
rnd(uint32_t n)
{
	seed = seed * 1664525u + 1013904223u;
	return ((seed >> 8) % n);
}

/* The disk as it should be, and where each page of data was stored. */
static uint8_t kind[PAGES], content[SIZE], changed[PAGES];
static int generation[PAGES];

static void
fill(size_t first, size_t n, int what, int g)
{
	for (size_t i = first; i < first + n && i < PAGES; i++) {
		kind[i] = (uint8_t)what;
		generation[i] = g;
		changed[i] = what == DATA;
		memset(content + i * PAGE, what == DATA ? 1 + (int)rnd(255) : 0, PAGE);
	}
}

/* Some windows, and some ragged ends. */
static void
change(int g)
{
	size_t window = WINDOW_SIZE / PAGE, at;

	memset(changed, 0, sizeof(changed));
	for (uint32_t n = g == 0 ? 12 : 1 + rnd(3); n > 0; n--) {
		at = rnd((uint32_t)(PAGES / window)) * window;
		if (rnd(4) == 0)
			fill(at + rnd((uint32_t)window), 1 + rnd(200), DATA, g);
		else
			fill(at, window * (1 + rnd(g == 0 ? 20 : 3)), DATA, g);
		if (rnd(3) == 0)
			fill(rnd((uint32_t)(PAGES / window)) * window, window * (1 + rnd(2)), rnd(2) ? ZERO : HOLE, g);
	}
}

static void
write_full(struct archive_writer *aw)
{
	struct archive_feed feed = memory_feed(content);
	struct archive_disk_written w;
	struct err err = ERR_INIT;
	struct extents *ex = extents_new(SIZE, &err);

	for (size_t i = 0; i < PAGES; i++)
		if (kind[i] != HOLE)
			assert_int_equal(extents_add(ex, i * PAGE, PAGE, &err), 0);
	assert_int_equal(extents_end(ex, &err), 0);
	assert_int_equal(archive_writer_disk(aw, "vda", "vda.img", ex, 0, &feed, &w, &err), 0);
	extents_free(ex);
}

static void
write_delta(struct archive_writer *aw, int g, uint8_t ids[][ARCHIVE_ID_LEN])
{
	struct archive_disk_written w;
	struct err err = ERR_INIT;
	struct index_source s = { .disk = 0 };
	struct index_view v;
	size_t n;

	assert_int_equal(archive_writer_delta_begin(aw, "vda", "vda.img", SIZE, &err), 0);
	for (size_t i = 0; i < PAGES; i += n) {
		for (n = 1; i + n < PAGES && (i + n) % (WINDOW_SIZE / PAGE) != 0 && kind[i + n] == kind[i] && generation[i + n] == generation[i]; n++)
			;
		if (kind[i] == HOLE)
			continue;
		if (kind[i] == DATA && generation[i] == g) {
			assert_int_equal(archive_writer_delta_block(aw, i * PAGE, content + i * PAGE, (uint32_t)(n * PAGE), &err), 0);
			continue;
		}
		v = (struct index_view){ i * PAGE, n * PAGE, NO_SOURCE, VIEW_ZERO };
		if (kind[i] == DATA) {
			memcpy(s.archive, ids[generation[i]], ARCHIVE_ID_LEN);
			v.source = (uint32_t)archive_writer_source(aw, &s, &err);
			v.kind = VIEW_DATA;
		}
		assert_int_equal(archive_writer_delta_view(aw, &v, &err), 0);
	}
	assert_int_equal(archive_writer_delta_end(aw, &w, &err), 0);
}

static void
publish(struct repo *r, struct lock *lk, int g, uint8_t ids[][ARCHIVE_ID_LEN])
{
	struct compact_archive ca = COMPACT_ARCHIVE_INIT;
	struct err err = ERR_INIT;
	json_t *m;

	assert_int_equal(compact_archive_begin(&ca, r, lk, "vm", 1767225600 + g, &codec_zstd, 1, &err), 0);
	memcpy(ids[g], ca.info.archive, ARCHIVE_ID_LEN);
	if (g == 0)
		write_full(ca.aw);
	else
		write_delta(ca.aw, g, ids);
	m = json_pack("{s:i, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:[], s:[{s:s, s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:i}]}", "format", 1, "vm", "vm", "time",
	    "", "kind", g == 0 ? "full" : "incremental", "consistency", "offline", "capture", "image", "job", "j", "host", "h", "program", "p",
	    "notes", "disks", "target", "vda", "member", "vda.img", "source", "s", "format", "raw", "size", (int)SIZE, "provisioned", 0, "read", 0,
	    "data", 0, "zero", 0);
	assert_non_null(m);
	char when[RFC3339_LEN];
	time_rfc3339(1767225600 + g, when);
	json_object_set_new(m, "time", json_string(when));
	assert_int_equal(compact_archive_finish(&ca, &err), 0);
	if (compact_archive_publish(&ca, m, MANIFEST_NAME, NULL, &err) == -1)
		fail_msg("%s", err.text);
	json_decref(m);
	compact_archive_end(&ca);
}

static uint8_t in_map[PAGES];

/* The next block that the writer would cut from the map at or after ${at}. */
static bool
next_block(uint64_t *at, uint64_t *length)
{
	size_t i = *at / PAGE, n;

	while (i < PAGES && !in_map[i])
		i++;
	if (i == PAGES)
		return (false);
	for (n = 1; (i + n) % (WINDOW_SIZE / PAGE) != 0 && i + n < PAGES && in_map[i + n]; n++)
		;
	*at = i * PAGE;
	*length = n * PAGE;
	return (true);
}

/* Each copied frame holds the blocks that would be cut there, and of each block the bytes that the disk has. */
static void
check_copies(struct copy_plan *plan, uint64_t *copied)
{
	struct err err = ERR_INIT;
	struct archive_copy c;
	struct index_frame f;
	struct index_block b;
	uint64_t at = 0, length, done = 0;

	for (uint64_t n = 0; n < spool_count(plan->copies); n++) {
		assert_int_equal(spool_read(plan->copies, n, 1, &c, &err), 0);
		assert_int_equal(index_frames(c.ar->ix, c.number, 1, &f, &err), 0);
		assert_true(c.offset >= done);
		at = c.offset;
		for (uint32_t i = 0; i < f.blocks; i++, at += length) {
			uint8_t digest[DIGEST_LEN];

			assert_int_equal(index_blocks(c.ar->ix, c.source, f.first_block + i, 1, &b, &err), 0);
			assert_true(next_block(&at, &length));
			assert_int_equal(b.offset, at);
			assert_int_equal(b.length, length);
			digest_block(index_info(c.ar->ix)->secret, content + at, length, digest);
			assert_memory_equal(digest, b.digest, DIGEST_LEN);
		}
		assert_int_equal(c.end, at);
		/* Not cut off from the block before. */
		assert_true(c.offset % WINDOW_SIZE == 0 || !in_map[c.offset / PAGE - 1]);
		done = c.end;
		*copied += f.raw;
	}
}

static void
check_plan(struct repo *r, uint64_t *copied)
{
	struct points ps = POINTS_INIT;
	struct manifest m = MANIFEST_INIT;
	struct copy_plan plan = COPY_PLAN_INIT;
	struct err err = ERR_INIT;
	struct archive_set *set;
	struct spool_cursor cursor;
	struct extent e;

	assert_int_equal(repo_points(r, "vm", &ps, &err), 0);
	assert_int_equal(repo_manifest(r, &ps.v[ps.n - 1], &m, &err), 0);
	set = archive_set_new(r, archive_open_point(r, &ps.v[ps.n - 1], &m, &err), "vm", &err);
	assert_non_null(set);
	if (copy_plan_make(&plan, set, 0, &codec_zstd, 1, &err) == -1)
		fail_msg("%s", err.text);
	memset(in_map, 0, sizeof(in_map));
	spool_cursor_init(&cursor, plan.ex->spool);
	while (extents_next(&cursor, &e, &err) == 1)
		memset(in_map + e.offset / PAGE, 1, e.length / PAGE);
	for (size_t i = 0; i < PAGES; i++)
		assert_true(kind[i] == DATA ? in_map[i] : kind[i] == ZERO || !in_map[i]);
	check_copies(&plan, copied);
	copy_plan_free(&plan);
	archive_set_free(set);
	manifest_free(&m);
	points_free(&ps);
}

static void
test_plans(void **state)
{
	char folder[] = "/tmp/ovb-plan.XXXXXX", command[64];
	uint8_t ids[GENERATIONS][ARCHIVE_ID_LEN];
	uint64_t copied, later = 0;
	struct err err = ERR_INIT;
	struct repo *r;
	struct lock *lk;

	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(command, sizeof(command), "rm -rf %s", folder);
	for (int round = 0; round < ROUNDS; round++) {
		assert_non_null(r = repo_open(folder, true, &err));
		assert_non_null(lk = lock_run(r->st, "test", 0, NULL, &err));
		memset(kind, HOLE, sizeof(kind));
		memset(content, 0, sizeof(content));
		for (int g = 0; g < GENERATIONS; g++) {
			change(g);
			publish(r, lk, g, ids);
			copied = 0;
			check_plan(r, &copied);
			/* All of a full one: whatever in it is zero was allocated. */
			if (g == 0) {
				uint64_t at = 0, length, all = 0, data = 0;

				for (; next_block(&at, &length); at += length)
					all += length;
				for (size_t i = 0; i < PAGES; i++)
					data += kind[i] == DATA ? PAGE : 0;
				assert_true(data == 0 || copied == all);
			} else
				later += copied;
		}
		lock_release(lk);
		repo_close(r);
		assert_int_equal(system(command), 0);
	}
	assert_true(later > 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_plans) };

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
