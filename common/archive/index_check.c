#include "archive/index_check.h"

#include <stdlib.h>
#include <string.h>

#include "archive/tar.h"
#include "base/extent.h"
#include "base/le.h"
#include "repository/naming.h"

#define DISKS_MAX	1024u
#define SOURCES_MAX	65536u
#define CHUNK		((size_t)64 << 10)
#define META_RUN_MAX	16u		/* index_frame_of() steps over so many */

static int
bad(struct err *err, const char *what)
{
	return (err_set(err, 0, "the index is damaged: %s", what));
}

void
index_decode_view(const uint8_t *r, struct index_view *v)
{
	v->offset = le64_get(r);
	v->length = le64_get(r + 8);
	v->source = le32_get(r + 16);
	v->kind = le32_get(r + 20);
}

void
index_decode_frame(const uint8_t *r, struct index_frame *f)
{
	f->offset = le64_get(r);
	f->tar_offset = le64_get(r + 8);
	f->first_block = le64_get(r + 16);
	f->stored = le32_get(r + 24);
	f->raw = le32_get(r + 28);
	f->blocks = le32_get(r + 32);
	f->source = le32_get(r + 36);
}

void
index_decode_block(const uint8_t *r, struct index_block *b)
{
	b->offset = le64_get(r);
	b->length = le32_get(r + 8);
	b->flags = le32_get(r + 12);
	memcpy(b->digest, r + 16, DIGEST_LEN);
}

/* Calls ${record} with each record of a section, in order, and checks the section's digest. */
static int
walk(struct index_reader *ix, const struct index_section *s, size_t record, int (*fn)(void *, const uint8_t *, struct err *), void *arg,
    struct err *err)
{
	size_t batch = CHUNK / record * record, n;
	struct digest_stream *ds = digest_stream_new(err);
	uint8_t *buf = malloc(CHUNK), digest[DIGEST_LEN];
	int rc = -1;

	if (ds == NULL || buf == NULL) {
		err_nomem(err);
		goto out;
	}
	for (uint64_t at = 0; at < s->length; at += n) {
		n = s->length - at < batch ? (size_t)(s->length - at) : batch;
		if (store_file_read(ix->f, buf, n, s->offset + at, err) == -1)
			goto out;
		digest_stream_add(ds, buf, n);
		for (size_t i = 0; fn != NULL && i < n; i += record)
			if (fn(arg, buf + i, err) == -1)
				goto out;
	}
	digest_stream_end(ds, digest);
	rc = memcmp(digest, s->digest, DIGEST_LEN) == 0 ? 0 : bad(err, "the digest of a section does not match");
out:
	free(buf);
	digest_stream_free(ds);
	return (rc);
}

static const size_t record_length[] = { 0, DISK_RECORD, SOURCE_RECORD, VIEW_RECORD, FRAME_RECORD, BLOCK_RECORD, MEMBER_RECORD,
	REPLACES_RECORD };

/* Where a section of this type and number is to be noted; NULL when there is no such place, or it is taken. */
static struct index_section *
section_place(struct index_reader *ix, uint32_t type, uint32_t number)
{
	struct index_section *s = NULL;

	if (type == SECTION_VIEW)
		s = number < ix->ndisks ? &ix->views[number] : NULL;
	else if (type == SECTION_BLOCKS)
		s = number < ix->nsources ? &ix->blocks[number] : NULL;
	else if (number == 0)
		s = type == SECTION_DISKS ? &ix->disk_section : type == SECTION_SOURCES ? &ix->sources : type == SECTION_FRAMES ? &ix->frames :
		    type == SECTION_MEMBERS ? &ix->member_section : type == SECTION_REPLACES ? &ix->replaces : NULL;
	return (s == NULL || s->given ? NULL : s);
}

/* One entry of the section table; ${end} is where the section before it ends. */
static int
check_entry(struct index_reader *ix, const uint8_t *r, bool lists, uint64_t *end, struct err *err)
{
	uint32_t type = le32_get(r), number = le32_get(r + 4);
	struct index_section s = { .offset = le64_get(r + 8), .length = le64_get(r + 16), .count = le64_get(r + 24), .given = true }, *place;

	memcpy(s.digest, r + 32, DIGEST_LEN);
	if (s.offset % 8 != 0 || s.offset < *end || s.offset - *end >= 8 || s.offset > ix->f->size - INDEX_TRAILER_LEN ||
	    s.length > ix->f->size - INDEX_TRAILER_LEN - s.offset)
		return (bad(err, "a section overlaps another, leaves a gap, or reaches beyond the index"));
	*end = s.offset + s.length;
	if (type >= SECTION_OPTIONAL)
		return (0);
	if (type == 0 || type >= sizeof(record_length) / sizeof(record_length[0]))
		return (err_set(err, 0, "the index has a section of type %u, which this program does not know: use a newer one", type));
	if (s.length / record_length[type] != s.count || s.length % record_length[type] != 0)
		return (bad(err, "a section's length is not that of its records"));
	/* Disks and sources first: their numbers make room for the others. */
	if (lists != (type != SECTION_VIEW && type != SECTION_BLOCKS))
		return (0);
	if ((place = section_place(ix, type, number)) == NULL)
		return (bad(err, "a section occurs twice, or belongs to no disk or source"));
	*place = s;
	return (0);
}

static int
read_table(struct index_reader *ix, const uint8_t *table, uint32_t n, bool lists, struct err *err)
{
	uint64_t end = INDEX_HEADER_LEN + (uint64_t)n * INDEX_SECTION_LEN;

	for (uint32_t i = 0; i < n; i++)
		if (check_entry(ix, table + (size_t)i * INDEX_SECTION_LEN, lists, &end, err) == -1)
			return (-1);
	return (ix->f->size - INDEX_TRAILER_LEN - end < 512 ? 0 : bad(err, "it is longer than its sections"));
}

static int
check_header(struct index_reader *ix, const uint8_t *h, struct err *err)
{
	if (memcmp(h, "OVBINDEX", 8) != 0)
		return (err_set(err, 0, "this is not an index: it does not begin with OVBINDEX"));
	if (le32_get(h + 8) != INDEX_VERSION)
		return (err_set(err, 0, "the index has version %u; this program knows version %u: use a newer one", le32_get(h + 8), INDEX_VERSION));
	if (le32_get(h + 12) > INDEX_SECTIONS_MAX)
		return (bad(err, "it has too many sections"));
	memcpy(ix->info.archive, h + 16, ARCHIVE_ID_LEN);
	ix->info.time = (int64_t)le64_get(h + 32);
	if ((ix->info.codec = codec_by_id(le32_get(h + 40))) == NULL)
		return (err_set(err, 0, "the index names codec %u, which this program does not know: use a newer one", le32_get(h + 40)));
	ix->info.level = (int)le32_get(h + 44);
	ix->frame_max = le32_get(h + 52);
	if (le32_get(h + 48) != WINDOW_SIZE || ix->frame_max == 0 || ix->frame_max > FRAME_RAW_MAX)
		return (bad(err, "its window or frame size is out of range"));
	if (le64_get(h + 56) != ix->f->size)
		return (bad(err, "its length is not what its header says"));
	memcpy(ix->info.secret, h + 72, SECRET_LEN);
	memcpy(ix->digest, h + 496, DIGEST_LEN);
	return (0);
}

static int
check_head_digest(const uint8_t *head, size_t table, struct err *err)
{
	struct digest_stream *ds = digest_stream_new(err);
	uint8_t digest[DIGEST_LEN];

	if (ds == NULL)
		return (-1);
	digest_stream_add(ds, head, 496);
	digest_stream_add(ds, head + INDEX_HEADER_LEN, table);
	digest_stream_end(ds, digest);
	digest_stream_free(ds);
	return (memcmp(digest, head + 496, DIGEST_LEN) == 0 ? 0 : bad(err, "the digest of its header does not match"));
}

static bool
name_is_good(const char *name)
{
	return (memchr(name, '\0', INDEX_NAME_LEN) != NULL && member_name_valid(name));
}

struct list {
	struct index_reader	*ix;
	uint32_t		 n;
};

static int
check_disk(void *arg, const uint8_t *r, struct err *err)
{
	struct list *l = arg;
	struct index_disk *d = &l->ix->disks[l->n];

	memcpy(d->target, r, INDEX_NAME_LEN);
	memcpy(d->member, r + 256, INDEX_NAME_LEN);
	d->size = le64_get(r + 512);
	d->data_offset = le64_get(r + 520);
	d->map_entries = le64_get(r + 528);
	d->header_offset = le64_get(r + 536);
	if (!name_is_good(d->target) || !name_is_good(d->member) || strcmp(d->member, INDEX_MEMBER) == 0)
		return (bad(err, "the name of a disk is not allowed"));
	for (uint32_t i = 0; i < l->n; i++)
		if (strcmp(l->ix->disks[i].target, d->target) == 0 || strcmp(l->ix->disks[i].member, d->member) == 0)
			return (bad(err, "two disks have one name"));
	if (d->size > INT64_MAX)
		return (bad(err, "the size of a disk is out of range"));
	l->n++;
	return (0);
}

struct view_check {
	const struct index_disk	*disk;
	uint32_t		 nsources;
	uint64_t		 end;
};

static int
check_view(void *arg, const uint8_t *r, struct err *err)
{
	struct view_check *c = arg;
	struct index_view v;

	index_decode_view(r, &v);
	if (v.length == 0 || v.offset < c->end || v.offset > c->disk->size || v.length > c->disk->size - v.offset)
		return (bad(err, "the view of a disk is out of order, or leaves the disk"));
	if (v.kind == VIEW_DATA ? v.source >= c->nsources : v.kind != VIEW_ZERO)
		return (bad(err, "the view of a disk names no source"));
	c->end = v.offset + v.length;
	return (0);
}

struct block_check {
	uint64_t	 size;		/* of the disk, where it is known: of this archive's own sources */
	uint64_t	 end;		/* of the block before */
};

static int
check_block(void *arg, const uint8_t *r, struct err *err)
{
	struct block_check *c = arg;
	struct index_block b;

	index_decode_block(r, &b);
	if (b.length == 0 || b.length > WINDOW_SIZE || b.offset > c->size || b.length > c->size - b.offset || b.offset < c->end ||
	    b.offset % SECTOR != 0 || b.offset / WINDOW_SIZE != (b.offset + b.length - 1) / WINDOW_SIZE || (b.flags & ~BLOCK_ZERO) != 0)
		return (bad(err, "the blocks of a source are out of order, or out of range"));
	/* An odd length is the disk's end; of another archive's disk, that is where its last block ends. */
	if (c->end % SECTOR != 0 || (b.length % SECTOR != 0 && c->size != INT64_MAX && b.offset + b.length != c->size))
		return (bad(err, "a block in the middle of a disk has an odd length"));
	c->end = b.offset + b.length;
	return (0);
}

static int
check_blocks(struct index_reader *ix, uint32_t source, struct err *err)
{
	struct block_check c = { .size = INT64_MAX };
	struct index_source s;

	if (index_source(ix, source, &s, err) == -1)
		return (-1);
	if (memcmp(s.archive, ix->info.archive, ARCHIVE_ID_LEN) == 0) {
		if (s.disk >= ix->ndisks)
			return (bad(err, "a source is a disk that it does not have"));
		c.size = ix->disks[s.disk].size;
	}
	return (walk(ix, &ix->blocks[source], BLOCK_RECORD, check_block, &c, err));
}

struct frame_check {
	struct index_reader	*ix;
	uint64_t		 n, offset, tar_offset;
	uint64_t		 head;		/* of the tar stream, before the first data frame */
	uint32_t		 last;		/* source of the last data frame */
	uint64_t		 metas;		/* meta frames since then */
};

static int
check_frame(void *arg, const uint8_t *r, struct err *err)
{
	struct frame_check *c = arg;
	struct index_span *s;
	struct index_frame f;

	index_decode_frame(r, &f);
	if (f.offset != c->offset || f.tar_offset != c->tar_offset || f.stored == 0 || f.raw == 0 || f.offset > INT64_MAX ||
	    f.tar_offset > INT64_MAX || f.raw > FRAME_RAW_MAX || f.stored > f.raw + f.raw / 8 + 65536)
		return (bad(err, "the frames leave a gap, overlap, or are out of range"));
	if (f.source == NO_SOURCE ? f.blocks != 0 : f.source >= c->ix->nsources || f.blocks == 0 || f.raw > c->ix->frame_max ||
	    f.blocks > f.raw)
		return (bad(err, "a frame names no source, or too many blocks"));
	if (f.source != NO_SOURCE) {
		s = &c->ix->spans[f.source];
		if (s->end == 0)
			s->first = c->n;
		else if (c->last != f.source)
			return (bad(err, "the frames of a source do not stand together"));
		else if (c->metas > META_RUN_MAX)
			return (bad(err, "too many meta frames stand between two frames of a source"));
		if (f.first_block != s->blocks)
			return (bad(err, "the frames of a source leave out blocks, or are out of order"));
		s->blocks += f.blocks;
		s->end = c->n + 1;
		c->last = f.source;
		c->metas = 0;
	} else
		c->metas++;
	c->n++;
	c->offset += f.stored;
	c->tar_offset += f.raw;
	if (c->last == NO_SOURCE)
		c->head = c->tar_offset;
	return (0);
}

struct member_check {
	struct index_reader	*ix;
	uint64_t		 end;		/* of the member before, with its padding */
	uint64_t		 limit;		/* where the first disk begins */
};

/* Frames are contiguous: what is before the first data frame is in meta frames. */
static int
check_member(void *arg, const uint8_t *r, struct err *err)
{
	struct member_check *c = arg;
	struct index_reader *ix = c->ix;
	struct index_member *m = &ix->members[ix->nmembers];
	struct index_frame f;
	uint64_t first;

	memcpy(m->name, r, INDEX_NAME_LEN);
	m->tar_offset = le64_get(r + 256);
	m->length = le64_get(r + 264);
	memcpy(m->digest, r + 272, DIGEST_LEN);
	m->frame = le64_get(r + 288);
	if (!name_is_good(m->name) || strcmp(m->name, INDEX_MEMBER) == 0)
		return (bad(err, "the name of a small member is not allowed"));
	if (index_member_find(ix, m->name) != UINT32_MAX)
		return (bad(err, "two small members have one name"));
	for (uint32_t i = 0; i < ix->ndisks; i++)
		if (strcmp(ix->disks[i].member, m->name) == 0)
			return (bad(err, "a small member has the name of a disk"));
	if (m->length > INDEX_MEMBER_MAX || m->tar_offset % TAR_BLOCK != 0 || m->tar_offset < c->end + TAR_BLOCK || m->tar_offset > c->limit ||
	    m->length + tar_padding(m->length) > c->limit - m->tar_offset)
		return (bad(err, "the small members are out of order, overlap, are too long, or do not stand before the disks"));
	first = m->tar_offset - (m->length == 0);
	if (m->frame >= ix->frames.count || index_frames(ix, m->frame, 1, &f, err) == -1 || first < f.tar_offset || first - f.tar_offset >= f.raw)
		return (bad(err, "a small member is not in the frame that is named"));
	c->end = m->tar_offset + m->length + tar_padding(m->length);
	ix->nmembers++;
	return (0);
}

static int
check_members(struct index_reader *ix, uint64_t head, struct err *err)
{
	struct member_check c = { .ix = ix, .limit = head };

	if (!ix->member_section.given)
		return (0);
	if (ix->member_section.count > INDEX_MEMBERS_MAX)
		return (bad(err, "it has too many small members"));
	for (uint32_t i = 0; i < ix->ndisks; i++)
		if (ix->disks[i].header_offset < c.limit)
			c.limit = ix->disks[i].header_offset;
	if ((ix->members = calloc(ix->member_section.count + 1, sizeof(*ix->members))) == NULL)
		return (err_nomem(err));
	return (walk(ix, &ix->member_section, MEMBER_RECORD, check_member, &c, err));
}

static int
check_lists(struct index_reader *ix, struct err *err)
{
	struct list l = { ix, 0 };

	if (!ix->disk_section.given || !ix->sources.given || !ix->frames.given || ix->disk_section.count > DISKS_MAX ||
	    ix->sources.count > SOURCES_MAX)
		return (bad(err, "it lacks disks, sources or frames, or has too many"));
	ix->nsources = (uint32_t)ix->sources.count;
	ix->disks = calloc(ix->disk_section.count + 1, sizeof(*ix->disks));
	ix->views = calloc(ix->disk_section.count + 1, sizeof(*ix->views));
	ix->blocks = calloc(ix->nsources + 1, sizeof(*ix->blocks));
	ix->spans = calloc(ix->nsources + 1, sizeof(*ix->spans));
	if (ix->disks == NULL || ix->views == NULL || ix->blocks == NULL || ix->spans == NULL)
		return (err_nomem(err));
	if (walk(ix, &ix->disk_section, DISK_RECORD, check_disk, &l, err) == -1)
		return (-1);
	ix->ndisks = l.n;
	return (walk(ix, &ix->sources, SOURCE_RECORD, NULL, NULL, err));
}

static int
check_records(struct index_reader *ix, struct err *err)
{
	struct frame_check fc = { .ix = ix, .last = NO_SOURCE };
	struct view_check vc = { .nsources = ix->nsources };

	for (uint32_t i = 0; i < ix->ndisks; i++) {
		vc.disk = &ix->disks[i];
		vc.end = 0;
		if (!ix->views[i].given)
			return (bad(err, "a disk has no view"));
		if (walk(ix, &ix->views[i], VIEW_RECORD, check_view, &vc, err) == -1)
			return (err_wrap(err, "disk %s", ix->disks[i].target));
	}
	if (walk(ix, &ix->frames, FRAME_RECORD, check_frame, &fc, err) == -1)
		return (-1);
	for (uint32_t i = 0; i < ix->nsources; i++) {
		if (ix->spans[i].blocks != ix->blocks[i].count)
			return (bad(err, "the frames do not hold all blocks of a source"));
		if (ix->blocks[i].given && check_blocks(ix, i, err) == -1)
			return (-1);
	}
	if (check_members(ix, fc.head, err) == -1)
		return (-1);
	return (ix->replaces.given ? walk(ix, &ix->replaces, REPLACES_RECORD, NULL, NULL, err) : 0);
}

/* The header, and the length of the table after it. */
static int
read_header(struct index_reader *ix, size_t *table, struct err *err)
{
	uint8_t header[INDEX_HEADER_LEN];

	if (ix->f->size < INDEX_HEADER_LEN + INDEX_TRAILER_LEN || ix->f->size % 512 != 0)
		return (bad(err, "it is cut off"));
	if (store_file_read(ix->f, header, sizeof(header), 0, err) == -1 || check_header(ix, header, err) == -1)
		return (-1);
	*table = (size_t)le32_get(header + 12) * INDEX_SECTION_LEN;
	if (*table > ix->f->size - INDEX_HEADER_LEN - INDEX_TRAILER_LEN)
		return (bad(err, "its section table is cut off"));
	return (0);
}

/* Header and table; what the table says of lists is noted.  The caller frees it. */
static uint8_t *
read_head(struct index_reader *ix, size_t table, struct err *err)
{
	uint8_t *head = malloc(INDEX_HEADER_LEN + table);

	if (head == NULL) {
		err_nomem(err);
		return (NULL);
	}
	if (store_file_read(ix->f, head, INDEX_HEADER_LEN + table, 0, err) == -1 || check_head_digest(head, table, err) == -1 ||
	    read_table(ix, head + INDEX_HEADER_LEN, (uint32_t)(table / INDEX_SECTION_LEN), true, err) == -1) {
		free(head);
		return (NULL);
	}
	return (head);
}

int
index_check_head(struct store_file *f, uint64_t have, const uint8_t digest[DIGEST_LEN], struct err *err)
{
	struct index_reader ix = { .f = f };
	uint8_t *head;
	size_t table = 0;

	if (have < INDEX_HEADER_LEN)
		return (0);
	if (read_header(&ix, &table, err) == -1)
		return (-1);
	if (memcmp(ix.digest, digest, DIGEST_LEN) != 0)
		return (bad(err, "it is not the one that the end of the archive names"));
	if (have < INDEX_HEADER_LEN + table)
		return (0);
	if ((head = read_head(&ix, table, err)) == NULL)
		return (-1);
	free(head);
	return (1);
}

int
index_check(struct index_reader *ix, struct err *err)
{
	uint8_t *head;
	size_t table = 0;
	int rc = -1;

	if (read_header(ix, &table, err) == -1 || (head = read_head(ix, table, err)) == NULL)
		return (-1);
	if (check_lists(ix, err) == 0 &&
	    read_table(ix, head + INDEX_HEADER_LEN, (uint32_t)(table / INDEX_SECTION_LEN), false, err) == 0)
		rc = check_records(ix, err);
	free(head);
	return (rc);
}
