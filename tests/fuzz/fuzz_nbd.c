/*
 * An NBD server, as the source of a backup and as the target of a restore: whatever it says of its extents, a map is made that rises and stays within
 * the disk and has all that was said to be data, or to be dirty, and nothing else; or it is refused with a reason.
 * The input: flags, the alignment, the size (8 bytes), where to read or write (4 bytes), and the server's answers (nbd_server.h).
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "backupd/source.h"
#include "base/le.h"
#include "nbd_server.h"
#include "restore/target.h"

#define BITMAP	"qemu:dirty-bitmap:backup-vda"
#define HEAD	15u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_extents(const struct extents *ex, const struct served_map *map, bool all)
{
	bool *found = calloc(SERVED_SECTORS, sizeof(*found));
	struct spool_cursor *c = malloc(sizeof(*c));
	struct err err = ERR_INIT;
	uint64_t end = 0, n = 0, bytes = 0, sector;
	struct extent e;

	assert(found != NULL && c != NULL && ex->size == served.size);
	spool_cursor_init(c, ex->spool);
	while (extents_next(c, &e, &err) == 1) {
		assert(e.length > 0 && e.offset % SECTOR == 0 && (n == 0 || e.offset > end));
		assert(e.offset < ex->size && e.length <= ex->size - e.offset);
		end = e.offset + e.length;
		assert(end % SECTOR == 0 || end == ex->size);
		for (sector = e.offset / SECTOR; sector < SERVED_SECTORS && sector <= (end - 1) / SECTOR; sector++)
			found[sector] = true;
		n++;
		bytes += e.length;
	}
	assert(err.text[0] == '\0' && ex->count == n && ex->bytes == bytes && ex->data_end == end);
	if (all)
		assert(bytes == ex->size);
	else
		assert(map->end == ex->size && memcmp(found, map->data, SERVED_SECTORS) == 0);
	free(found);
	free(c);
}

/* What is read is what is there, wherever it is asked for. */
static void
check_reads(struct source *s, uint64_t offset, size_t n)
{
	struct err err = ERR_INIT;
	struct source_reader *r = source_reader_new(s, &err);
	uint8_t *p = malloc(n + 1);

	assert(p != NULL);
	if (r == NULL)
		assert(err.text[0] != '\0');
	else if (s->size > 0) {
		offset %= s->size;
		n = n < s->size - offset ? n : (size_t)(s->size - offset);
		if (source_read(r, p, n, offset, &err) == -1)
			assert(err.text[0] != '\0');
		else
			for (size_t i = 0; i < n; i++)
				assert(p[i] == served_byte(offset + i));
	}
	source_reader_free(r);
	free(p);
}

static void
check_source(bool with_bitmap, uint64_t offset, size_t n)
{
	struct err err = ERR_INIT;
	struct source *s = source_nbd_open("/nbd", "vda", with_bitmap ? BITMAP : NULL, "vda.img", &err);
	struct extents *ex;

	if (s == NULL) {
		assert(err.text[0] != '\0');
		return;
	}
	assert(s->size == served.size);
	if ((ex = source_extents(s, &err)) == NULL) {
		/* A server that tells all, be it more than was asked for, is understood. */
		assert(strstr(err.text, "vda.img") != NULL);
		assert(served.failed || (!served.no_base && served.base.end < s->size) || (with_bitmap && (served.no_bitmap || served.dirty.end < s->size)));
	} else {
		check_extents(ex, &served.base, served.no_base);
		assert((s->dirty != NULL) == (with_bitmap && s->size > 0));
		if (s->dirty != NULL)
			check_extents(s->dirty, &served.dirty, false);
	}
	extents_free(ex);
	check_reads(s, offset, n);
	source_close(s);
}

/* What was written is there, and the rest of the disk is zeroes, if it was said to be. */
static int
write_target(struct target *t, uint64_t disk, uint64_t offset, size_t n, struct err *err)
{
	uint8_t *p = malloc(n + 1);
	int rc;

	assert(p != NULL);
	for (size_t i = 0; i < n; i++)
		p[i] = i / 4096 % 2 ? 0 : served_byte(offset + i);
	rc = target_zero(t, 0, offset, err) == -1 || target_write(t, offset, p, n, err) == -1 || target_zero(t, offset + n, disk - offset - n, err) == -1 ?
	    -1 : target_commit(t, err);
	for (uint64_t i = 0; rc == 0 && i < disk; i++)
		assert(served.content[i] == (i < offset || i >= offset + n ? 0 : p[i - offset]));
	free(p);
	return (rc);
}

static void
check_target(bool force, uint64_t disk, uint64_t offset, size_t n)
{
	struct err err = ERR_INIT;
	struct target *t = target_open("nbd://server/vda", TARGET_RAW, disk, force, &err);
	bool data = false;

	if (t == NULL) {
		assert(err.text[0] != '\0');
		return;
	}
	for (uint64_t i = 0; i < SERVED_SECTORS && i < (disk + 511) / 512; i++)
		data = data || served.base.data[i];
	assert(force || t->zeroes || disk == 0);
	assert(!t->zeroes || (!served.no_base && !data && served.base.end >= disk));
	/* What it does not hold as zeroes is other bytes. */
	memset(served.content, t->zeroes ? 0 : 0xaa, sizeof(served.content));
	if (disk > 0 && disk <= SERVED_MAX) {
		offset %= disk;
		n = n < disk - offset ? n : (size_t)(disk - offset);
		if (write_target(t, disk, offset, n, &err) == -1)
			assert(err.text[0] != '\0');
	}
	target_close(t);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const int64_t odd[] = { -1, 0, 3, 1 << 20, INT64_MIN, INT64_MAX };
	uint64_t disk;
	uint32_t where;

	if (size < HEAD)
		return (0);
	memset(&served, 0, sizeof(served));
	served.input = data + HEAD;
	served.left = size - HEAD;
	served.bitmap = BITMAP;
	served.size = le64_get(data + 2) & INT64_MAX;
	served.alignment = data[1] < 20 ? (int64_t)1 << data[1] : odd[data[1] % 6];
	served.no_base = data[0] & 2;
	served.no_bitmap = served.read_only = data[0] & 4;
	served.second_dies = served.no_zero = data[0] & 8;
	served.second_differs = served.no_flush = data[0] & 16;
	where = le32_get(data + 10);
	/* A disk may be smaller than the export that it goes to. */
	disk = data[14] & 1 ? served.size : served.size / 2;
	if (data[0] & 1)
		check_target(data[0] & 32, disk, where, where >> 16);
	else
		check_source(data[0] & 32, where, data[0] & 64 ? where >> 10 : where >> 18);
	assert(served.handles == 0);
	return (0);
}
