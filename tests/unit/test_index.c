/* Indexes: what is written is read again, searches agree with looking at every record, and no changed byte is overlooked. */
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

#include "archive/index_reader.h"
#include "base/buf.h"
#include "base/extent.h"
#include "base/io.h"
#include "base/le.h"

#define DISKS	4
#define MEMBERS	9

static uint32_t seed = 1;

static uint32_t
rnd(uint32_t n)
{
	seed = seed * 1664525u + 1013904223u;
	return ((seed >> 8) % n);
}

/* What was put in. */
struct model {
	struct index_info	 info;
	uint32_t		 ndisks;
	struct index_disk	 disks[DISKS];
	struct index_block	*blocks[DISKS];
	size_t			 nblocks[DISKS];
	struct index_frame	*frames;
	size_t			 nframes;
	uint32_t		 nmembers;
	struct index_member	 members[MEMBERS];
	struct index_place	 place;
	struct buf		 bytes;		/* the index */
	size_t			 last_piece;
};

static int
collect(void *arg, const void *p, size_t n, struct err *err)
{
	struct model *m = arg;

	m->last_piece = n;
	return (buf_add(&m->bytes, p, n, err));
}

static void
add_frame(struct model *m, struct index_writer *iw, uint32_t source, const struct index_block *b, uint32_t n)
{
	const struct index_frame *last = m->nframes > 0 ? &m->frames[m->nframes - 1] : NULL;
	struct index_frame f = { .source = source, .blocks = n, .stored = 1 + rnd(60000) };
	struct err err = ERR_INIT;

	for (uint32_t i = 0; i < n; i++)
		f.raw += b[i].length;
	if (n == 0)
		f.raw = 512 * (1 + rnd(100));
	f.stored = f.stored > f.raw ? f.raw : f.stored;
	f.offset = last != NULL ? last->offset + last->stored : 0;
	f.tar_offset = last != NULL ? last->tar_offset + last->raw : 0;
	assert_int_equal(index_writer_frame(iw, &f, b, &err), 0);
	m->frames = realloc(m->frames, (m->nframes + 1) * sizeof(*m->frames));
	assert_non_null(m->frames);
	m->frames[m->nframes++] = f;
}

/* Rising blocks of a disk of ${size} bytes: at most ${max} of them, a third of them zero. */
static void
make_blocks(struct model *m, uint32_t disk, uint64_t size, size_t max)
{
	struct index_block *b = calloc(max + 1, sizeof(*b));
	uint64_t at = rnd(3) * SECTOR, end;
	size_t n = 0;

	assert_non_null(b);
	while (at < size && n < max) {
		end = (at / WINDOW_SIZE + 1) * WINDOW_SIZE;
		if (rnd(3) == 0)
			end = at + SECTOR * (1 + rnd((uint32_t)((end - at) / SECTOR)));
		end = end < size ? end : size;
		b[n].offset = at;
		b[n].length = (uint32_t)(end - at);
		b[n].flags = rnd(3) == 0 ? BLOCK_ZERO : 0;
		for (size_t i = 0; i < DIGEST_LEN; i++)
			b[n].digest[i] = (uint8_t)rnd(256);
		n++;
		at = rnd(2) ? end : end + SECTOR * rnd(400);
	}
	m->blocks[disk] = b;
	m->nblocks[disk] = n;
}

static uint64_t
frames_end(const struct model *m)
{
	return (m->nframes == 0 ? 0 : m->frames[m->nframes - 1].tar_offset + m->frames[m->nframes - 1].raw);
}

/* Small members, and then frames that hold them all. */
static void
make_members(struct model *m, struct index_writer *iw)
{
	uint64_t at = 0;
	struct err err = ERR_INIT;

	m->nmembers = rnd(3) == 0 ? 0 : 1 + rnd(MEMBERS);
	for (uint32_t i = 0; i < m->nmembers; i++) {
		struct index_member *im = &m->members[i];

		snprintf(im->name, sizeof(im->name), i == 5 ? "%0255d" : "small %d", (int)i);
		im->tar_offset = at + (rnd(4) == 0 ? 3 * 512 : 512);
		im->length = rnd(3) == 0 ? 0 : rnd(3) == 0 ? 512 * rnd(300) : rnd(100000);
		at = im->tar_offset + (im->length + 511) / 512 * 512;
		for (size_t j = 0; j < DIGEST_LEN; j++)
			im->digest[j] = (uint8_t)rnd(256);
		assert_int_equal(index_writer_member(iw, im, &err), 0);
	}
	while (frames_end(m) < at)
		add_frame(m, iw, NO_SOURCE, NULL, 0);
	for (uint32_t i = 0; i < m->nmembers; i++) {
		struct index_member *im = &m->members[i];
		uint64_t first = im->length > 0 ? im->tar_offset : im->tar_offset - 1;

		while (m->frames[im->frame].tar_offset + m->frames[im->frame].raw <= first)
			im->frame++;
	}
}

static void
model_write(struct model *m, size_t max_blocks)
{
	const struct codec *codecs[] = { &codec_none, &codec_bz2, &codec_zstd };
	struct err err = ERR_INIT;
	struct index_writer *iw;
	uint32_t n;

	memset(m, 0, sizeof(*m));
	m->info.codec = codecs[rnd(3)];
	m->info.level = m->info.codec == &codec_none ? 0 : 1 + (int)rnd(9);
	m->info.time = 1795311000 + rnd(1000);
	for (size_t i = 0; i < ARCHIVE_ID_LEN; i++)
		m->info.archive[i] = (uint8_t)rnd(256);
	for (size_t i = 0; i < SECRET_LEN; i++)
		m->info.secret[i] = (uint8_t)rnd(256);
	assert_non_null(iw = index_writer_new(&m->info, &err));
	make_members(m, iw);
	m->ndisks = max_blocks == 0 ? 0 : 1 + rnd(DISKS);
	for (uint32_t d = 0; d < m->ndisks; d++) {
		struct index_disk *disk = &m->disks[d];
		size_t most = m->info.codec->raw_max(m->info.level) / WINDOW_SIZE;

		snprintf(disk->target, sizeof(disk->target), d == 3 ? "%0255d" : "vd%d", (int)d);
		snprintf(disk->member, sizeof(disk->member), d == 2 ? "%0251d.img" : "member %d.img", (int)d);
		disk->size = d == 1 ? 0 : 1 + (uint64_t)rnd(1 << 20) * rnd(4096);
		disk->data_offset = rnd(2) ? NO_OFFSET : rnd(1000000);
		disk->header_offset = rnd(2) ? NO_OFFSET : frames_end(m) + rnd(1000000);
		disk->map_entries = rnd(1000);
		make_blocks(m, d, disk->size, max_blocks);
		assert_int_equal(index_writer_disk(iw, disk, &err), d);
		/* Meta frames stand anywhere, even within a disk: tar headers of a delta's pieces. */
		add_frame(m, iw, NO_SOURCE, NULL, 0);
		for (size_t at = 0; at < m->nblocks[d]; at += n) {
			n = 1 + rnd((uint32_t)most);
			n = n < m->nblocks[d] - at ? n : (uint32_t)(m->nblocks[d] - at);
			add_frame(m, iw, d, m->blocks[d] + at, n);
			for (uint32_t i = rnd(4); i == 0 || i == 1; i += 2)
				add_frame(m, iw, NO_SOURCE, NULL, 0);
		}
	}
	m->place = (struct index_place){ .offset = rnd(1000000), .tar_offset = 512 * (uint64_t)rnd(1000000) };
	assert_int_equal(index_writer_emit(iw, &m->place, collect, m, &err), 0);
	assert_int_equal(index_writer_length(iw), m->bytes.len);
	assert_int_equal(m->last_piece, INDEX_TRAILER_LEN);
	index_writer_free(iw);
}

static void
model_free(struct model *m)
{
	for (uint32_t d = 0; d < m->ndisks; d++)
		free(m->blocks[d]);
	free(m->frames);
	buf_free(&m->bytes);
}

static struct index_reader *
reader_of(const void *p, size_t n, struct err *err)
{
	int fd = memfd_create("index", MFD_CLOEXEC);
	struct store_file *f;

	assert_true(fd != -1 && io_pwrite(fd, p, n, 0) == 0);
	assert_non_null(f = store_dir_wrap(fd, "index", err));
	return (index_open(f, err));
}

static void
check_trailer(const struct model *m, const struct index_reader *ix)
{
	const uint8_t *t = (const uint8_t *)m->bytes.ptr + m->bytes.len - INDEX_TRAILER_LEN;
	uint8_t digest[DIGEST_LEN];

	assert_memory_equal(t, "OVBTRAIL", 8);
	assert_int_equal(le32_get(t + 8), 1);
	assert_int_equal(le32_get(t + 12), m->info.codec->id);
	assert_memory_equal(t + 16, m->info.archive, ARCHIVE_ID_LEN);
	assert_int_equal(le64_get(t + 32), m->bytes.len);
	assert_int_equal(le64_get(t + 40), m->place.offset);
	assert_int_equal(le64_get(t + 48), m->place.tar_offset);
	assert_memory_equal(t + 56, index_file_digest(ix), DIGEST_LEN);
	digest_plain(t, 496, digest);
	assert_memory_equal(t + 496, digest, DIGEST_LEN);
}

/* The view says of each byte of each block what the block is, and nothing more; neighbours of one kind are joined. */
static void
check_view(const struct model *m, const struct index_reader *ix, uint32_t d)
{
	uint64_t count = index_view_count(ix, d), n = 0, end;
	struct index_view *v = calloc(count + 1, sizeof(*v));
	struct err err = ERR_INIT;

	assert_non_null(v);
	assert_int_equal(index_view(ix, d, 0, (size_t)count, v, &err), 0);
	for (size_t i = 0; i < m->nblocks[d]; n++) {
		const struct index_block *b = &m->blocks[d][i];

		assert_true(n < count);
		assert_int_equal(v[n].offset, b->offset);
		assert_int_equal(v[n].kind, b->flags & BLOCK_ZERO ? VIEW_ZERO : VIEW_DATA);
		assert_int_equal(v[n].source, b->flags & BLOCK_ZERO ? NO_SOURCE : d);
		end = b->offset;
		for (; i < m->nblocks[d] && m->blocks[d][i].offset == end && m->blocks[d][i].flags == b->flags; i++)
			end += m->blocks[d][i].length;
		assert_int_equal(v[n].length, end - v[n].offset);
	}
	assert_int_equal(n, count);
	free(v);
}

/* The block that ends first after ${offset}, by looking at all of them. */
static uint64_t
naive_find(const struct model *m, uint32_t d, uint64_t offset)
{
	uint64_t i = 0;

	while (i < m->nblocks[d] && m->blocks[d][i].offset + m->blocks[d][i].length <= offset)
		i++;
	return (i);
}

static uint64_t
naive_frame(const struct model *m, uint32_t d, uint64_t block)
{
	size_t i = 0;

	while (m->frames[i].source != d || m->frames[i].first_block > block || block - m->frames[i].first_block >= m->frames[i].blocks)
		i++;
	return (i);
}

static void
check_find(const struct model *m, const struct index_reader *ix, uint32_t d, uint64_t offset)
{
	struct err err = ERR_INIT;
	uint64_t at;

	assert_int_equal(index_block_find(ix, d, offset, &at, &err), 0);
	assert_int_equal(at, naive_find(m, d, offset));
}

static void
check_disk(const struct model *m, const struct index_reader *ix, uint32_t d, size_t step)
{
	const struct index_disk *a = &m->disks[d], *b = index_disk(ix, d);
	struct index_block *blocks = calloc(m->nblocks[d] + 1, sizeof(*blocks));
	struct index_source s;
	struct err err = ERR_INIT;
	uint64_t frame;

	assert_non_null(blocks);
	assert_string_equal(a->target, b->target);
	assert_string_equal(a->member, b->member);
	assert_true(a->size == b->size && a->data_offset == b->data_offset && a->map_entries == b->map_entries && a->header_offset == b->header_offset);
	assert_int_equal(index_disk_find(ix, a->target), d);
	assert_int_equal(index_disk_find(ix, a->member), d);
	assert_int_equal(index_source(ix, d, &s, &err), 0);
	assert_true(s.disk == d && memcmp(s.archive, m->info.archive, ARCHIVE_ID_LEN) == 0);
	assert_int_equal(index_source_find(ix, &s), m->nblocks[d] > 0 ? d : UINT32_MAX);
	s.archive[0] ^= 1;
	assert_int_equal(index_source_find(ix, &s), UINT32_MAX);
	check_view(m, ix, d);

	assert_int_equal(index_block_count(ix, d), m->nblocks[d]);
	assert_int_equal(index_blocks(ix, d, 0, m->nblocks[d], blocks, &err), 0);
	assert_int_equal(index_blocks(ix, d, m->nblocks[d], 1, blocks, &err), -1);
	assert_int_equal(index_blocks(ix, d, UINT64_MAX, 2, blocks, &err), -1);
	for (size_t i = 0; i < m->nblocks[d]; i += step) {
		const struct index_block *w = &m->blocks[d][i];

		assert_true(w->offset == blocks[i].offset && w->length == blocks[i].length && w->flags == blocks[i].flags);
		assert_memory_equal(w->digest, blocks[i].digest, DIGEST_LEN);
		check_find(m, ix, d, w->offset);
		check_find(m, ix, d, w->offset + w->length - 1);
		check_find(m, ix, d, w->offset + w->length);
		check_find(m, ix, d, w->offset + rnd(200000));
		assert_int_equal(index_frame_of(ix, d, i, &frame, &err), 0);
		assert_int_equal(frame, naive_frame(m, d, i));
	}
	check_find(m, ix, d, 0);
	check_find(m, ix, d, UINT64_MAX);
	free(blocks);
}

static void
check_model(const struct model *m, size_t step)
{
	struct err err = ERR_INIT;
	struct index_reader *ix = reader_of(m->bytes.ptr, m->bytes.len, &err);
	struct index_member im;
	struct index_frame f;

	assert_non_null(ix);
	assert_int_equal(m->bytes.len % 512, 0);
	assert_int_equal(index_length(ix), m->bytes.len);
	assert_memory_equal(index_info(ix)->archive, m->info.archive, ARCHIVE_ID_LEN);
	assert_memory_equal(index_info(ix)->secret, m->info.secret, SECRET_LEN);
	assert_int_equal(index_info(ix)->time, m->info.time);
	assert_ptr_equal(index_info(ix)->codec, m->info.codec);
	assert_int_equal(index_info(ix)->level, m->info.level);
	assert_int_equal(index_frame_max(ix), m->info.codec->raw_max(m->info.level));
	check_trailer(m, ix);
	assert_int_equal(index_frame_count(ix), m->nframes);
	for (size_t i = 0; i < m->nframes; i += step) {
		assert_int_equal(index_frames(ix, i, 1, &f, &err), 0);
		assert_memory_equal(&f, &m->frames[i], sizeof(f));
	}
	assert_int_equal(index_frames(ix, m->nframes, 1, &f, &err), -1);
	assert_int_equal(index_disks(ix), m->ndisks);
	assert_int_equal(index_sources(ix), m->ndisks);
	for (uint32_t d = 0; d < m->ndisks; d++)
		check_disk(m, ix, d, step);
	assert_int_equal(index_members(ix), m->nmembers);
	for (uint32_t i = 0; i < m->nmembers; i++) {
		assert_int_equal(index_member(ix, i, &im, &err), 0);
		assert_int_equal(index_member_find(ix, m->members[i].name), i);
		assert_string_equal(im.name, m->members[i].name);
		assert_memory_equal(im.digest, m->members[i].digest, DIGEST_LEN);
		assert_true(im.tar_offset == m->members[i].tar_offset && im.length == m->members[i].length && im.frame == m->members[i].frame);
	}
	assert_int_equal(index_member(ix, m->nmembers, &im, &err), -1);
	assert_int_equal(index_member_find(ix, "no such file"), UINT32_MAX);
	assert_int_equal(index_disk_find(ix, "no such disk"), UINT32_MAX);
	assert_false(index_replaces(ix, m->info.archive));
	index_close(ix);
	index_close(NULL);
}

static void
what_is_written_is_read(void **state)
{
	struct model m;

	(void)state;
	for (int round = 0; round < 120; round++) {
		model_write(&m, round % 3 == 0 ? (size_t)round / 3 : 1 + rnd(300));
		check_model(&m, 1);
		model_free(&m);
	}
}

/* Records beyond what a spool keeps in memory. */
static void
long_indexes_are_read(void **state)
{
	struct index_disk d = { .target = "vda", .member = "vda.img", .size = (uint64_t)1 << 42, .data_offset = NO_OFFSET,
		.header_offset = NO_OFFSET };
	struct model m = { .ndisks = 1, .disks = { d } };
	struct err err = ERR_INIT;
	struct index_writer *iw;
	struct index_block *b = calloc(120000, sizeof(*b));

	(void)state;
	assert_non_null(b);
	m.info.codec = &codec_zstd;
	assert_non_null(iw = index_writer_new(&m.info, &err));
	assert_int_equal(index_writer_disk(iw, &d, &err), 0);
	for (size_t i = 0; i < 120000; i++)
		b[i] = (struct index_block){ .offset = i * 2 * WINDOW_SIZE + (i % 7) * SECTOR, .length = SECTOR * (1 + (uint32_t)i % 100) };
	m.blocks[0] = b;
	m.nblocks[0] = 120000;
	for (size_t i = 0; i < 120000; i += 3) {
		add_frame(&m, iw, 0, b + i, 3);
		if (i % 5 == 0)
			add_frame(&m, iw, NO_SOURCE, NULL, 0);
	}
	assert_int_equal(index_writer_emit(iw, &m.place, collect, &m, &err), 0);
	index_writer_free(iw);
	check_model(&m, 1009);
	model_free(&m);
}

/* All up to the end of the last section is under a digest. */
static void
every_changed_byte_is_noticed(void **state)
{
	struct err err = ERR_INIT;
	struct model m;
	uint8_t *p, *r, bit;
	size_t end;

	(void)state;
	for (;;) {
		model_write(&m, 6);
		if (m.nblocks[0] >= 3)
			break;
		model_free(&m);
	}
	p = (uint8_t *)m.bytes.ptr;
	r = p + INDEX_HEADER_LEN + (le32_get(p + 12) - 1) * INDEX_SECTION_LEN;
	end = (size_t)(le64_get(r + 8) + le64_get(r + 16));
	assert_true(end > 1500 && end <= m.bytes.len - INDEX_TRAILER_LEN);
	for (size_t i = 0; i < end; i++) {
		bit = (uint8_t)(1u << rnd(8));
		p[i] ^= bit;
		memset(&err, 0, sizeof(err));
		assert_null(reader_of(p, m.bytes.len, &err));
		assert_non_null(strstr(err.text, "index"));
		p[i] ^= bit;
	}
	model_free(&m);
}

static void
cut_and_longer_indexes_are_refused(void **state)
{
	struct err err = ERR_INIT;
	struct index_reader *ix;
	struct model m;

	(void)state;
	model_write(&m, 20);
	for (size_t n = 0; n < m.bytes.len; n += n % 512 == 0 ? 1 : 511)
		assert_null(reader_of(m.bytes.ptr, n, &err));
	assert_non_null(ix = reader_of(m.bytes.ptr, m.bytes.len, &err));
	index_close(ix);
	assert_int_equal(buf_add(&m.bytes, (char[512]){ 0 }, 512, &err), 0);
	assert_null(reader_of(m.bytes.ptr, m.bytes.len, &err));
	assert_null(reader_of(m.bytes.ptr, m.bytes.len - 511, &err));
	model_free(&m);
}

static int
refuse(void *arg, const void *p, size_t n, struct err *err)
{
	(void)p;
	(void)n;
	return (--*(int *)arg < 0 ? err_set(err, 0, "no more") : 0);
}

static void
errors_of_emit_are_told(void **state)
{
	struct index_disk d = { .target = "vda", .member = "vda.img", .size = 65536 };
	struct index_block b = { .length = 512 };
	struct index_frame f = { .stored = 1, .raw = 512, .blocks = 1 };
	struct index_info info = { .codec = &codec_none };
	struct index_place place = { 0, 0 };
	struct err err;
	struct index_writer *iw;
	int pieces, rc = -1;

	(void)state;
	for (pieces = 0; rc == -1; pieces++) {
		int left = pieces;

		memset(&err, 0, sizeof(err));
		assert_non_null(iw = index_writer_new(&info, &err));
		assert_int_equal(index_writer_disk(iw, &d, &err), 0);
		assert_int_equal(index_writer_frame(iw, &f, &b, &err), 0);
		rc = index_writer_emit(iw, &place, refuse, &left, &err);
		assert_string_equal(err.text, rc == -1 ? "no more" : "");
		index_writer_free(iw);
	}
	assert_true(pieces > 3);
}

static void
more_disks_than_there_may_be_are_refused(void **state)
{
	struct index_info info = { .codec = &codec_none };
	struct index_disk d = { .member = "m", .size = 1 };
	struct err err = ERR_INIT;
	struct index_writer *iw = index_writer_new(&info, &err);
	struct model m = { .ndisks = 0 };
	struct index_reader *ix;

	(void)state;
	assert_non_null(iw);
	for (int i = 0; i < 1024; i++) {
		snprintf(d.target, sizeof(d.target), "t%d", i);
		snprintf(d.member, sizeof(d.member), "m%d", i);
		assert_int_equal(index_writer_disk(iw, &d, &err), i);
	}
	assert_int_equal(index_writer_disk(iw, &d, &err), -1);
	assert_non_null(strstr(err.text, "1024"));
	assert_int_equal(index_writer_emit(iw, &m.place, collect, &m, &err), 0);
	assert_non_null(ix = reader_of(m.bytes.ptr, m.bytes.len, &err));
	assert_int_equal(index_disks(ix), 1024);
	index_close(ix);
	buf_free(&m.bytes);
	index_writer_free(iw);
	index_writer_free(NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_written_is_read),
		cmocka_unit_test(long_indexes_are_read),
		cmocka_unit_test(every_changed_byte_is_noticed),
		cmocka_unit_test(cut_and_longer_indexes_are_refused),
		cmocka_unit_test(errors_of_emit_are_told),
		cmocka_unit_test(more_disks_than_there_may_be_are_refused),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
