#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "archive/index.h"
#include "base/le.h"
#include "base/spool.h"
#include "repository/naming.h"

#define DISKS_MAX	1024u

#define SOURCES_MAX	65536u

struct disk {
	struct index_disk	 info;
	uint32_t		 source;
	struct spool		*view;
	struct index_view	 last;		/* not yet in the spool: the next may go on from it */
	bool			 partial;	/* last is all there is */
	bool			 told;		/* its view is told by index_writer_view() */
};

struct source {
	struct index_source	 is;
	struct disk		*own;		/* NULL: a disk of another archive */
	struct spool		*blocks;	/* NULL: this archive has none of it */
	bool			 viewed;	/* a view names it */
};

struct index_writer {
	struct index_info	 info;
	struct spool		*frames;
	struct disk		*disks;
	uint32_t		 ndisks;
	struct source		*sources;
	uint32_t		 nsources, sources_cap;
	uint8_t			(*replaces)[ARCHIVE_ID_LEN];
	uint32_t		 nreplaces;
	struct index_member	*members;
	uint32_t		 nmembers;
};

/* A section about to be written: its records come from a spool, or from memory. */
struct section {
	uint32_t	 type, number;
	uint64_t	 offset, length, count;
	uint8_t		 digest[DIGEST_LEN];
	struct spool	*spool;
	const uint8_t	*mem;
};

struct index_writer *
index_writer_new(const struct index_info *info, struct err *err)
{
	struct index_writer *iw = calloc(1, sizeof(*iw));

	if (iw == NULL || (iw->disks = calloc(DISKS_MAX, sizeof(*iw->disks))) == NULL ||
	    (iw->members = calloc(INDEX_MEMBERS_MAX, sizeof(*iw->members))) == NULL) {
		index_writer_free(iw);
		err_nomem(err);
		return (NULL);
	}
	iw->info = *info;
	if ((iw->frames = spool_new(FRAME_RECORD, err)) == NULL) {
		index_writer_free(iw);
		return (NULL);
	}
	return (iw);
}

void
index_writer_free(struct index_writer *iw)
{
	if (iw == NULL)
		return;
	for (uint32_t i = 0; i < iw->ndisks; i++)
		spool_free(iw->disks[i].view);
	for (uint32_t i = 0; i < iw->nsources; i++)
		spool_free(iw->sources[i].blocks);
	free(iw->sources);
	free(iw->replaces);
	spool_free(iw->frames);
	free(iw->members);
	free(iw->disks);
	free(iw);
}

static bool
name_is_taken(const struct index_writer *iw, const char *name)
{
	for (uint32_t i = 0; i < iw->nmembers; i++)
		if (strcmp(iw->members[i].name, name) == 0)
			return (true);
	for (uint32_t i = 0; i < iw->ndisks; i++)
		if (strcmp(iw->disks[i].info.member, name) == 0)
			return (true);
	return (strcmp(name, INDEX_MEMBER) == 0);
}

int
index_writer_member(struct index_writer *iw, const struct index_member *m, struct err *err)
{
	if (!member_name_valid(m->name))
		return (err_set(err, 0, "a member of an archive cannot be called \"%.60s\"", m->name));
	if (name_is_taken(iw, m->name))
		return (err_set(err, EEXIST, "member %.60s of the archive", m->name));
	if (m->length > INDEX_MEMBER_MAX)
		return (err_set(err, EFBIG, "member %.60s has %llu bytes, at most %llu are possible", m->name, (unsigned long long)m->length,
		    (unsigned long long)INDEX_MEMBER_MAX));
	if (iw->nmembers == INDEX_MEMBERS_MAX)
		return (err_set(err, 0, "member %.60s: an archive has at most %u small members", m->name, INDEX_MEMBERS_MAX));
	if (iw->ndisks > 0)
		return (err_set(err, 0, "member %.60s: small members stand before the disks", m->name));
	iw->members[iw->nmembers++] = *m;
	return (0);
}

/* Returns its number, or -1. */
static int64_t
add_source(struct index_writer *iw, const struct index_source *is, struct disk *own, struct err *err)
{
	uint32_t cap = iw->sources_cap == 0 ? 16 : 2 * iw->sources_cap;
	struct source *v;

	if (iw->nsources == SOURCES_MAX)
		return (err_set(err, 0, "the disks refer to more than %u others: consolidate a restore point", SOURCES_MAX));
	if (iw->nsources == iw->sources_cap) {
		if ((v = realloc(iw->sources, cap * sizeof(*v))) == NULL)
			return (err_nomem(err));
		iw->sources = v;
		iw->sources_cap = cap;
	}
	iw->sources[iw->nsources] = (struct source){ .is = *is, .own = own };
	if (own != NULL && (iw->sources[iw->nsources].blocks = spool_new(BLOCK_RECORD, err)) == NULL)
		return (-1);
	return (iw->nsources++);
}

int
index_writer_disk(struct index_writer *iw, const struct index_disk *disk, struct err *err)
{
	struct disk *d = &iw->disks[iw->ndisks];
	struct index_source is = { .disk = iw->ndisks };
	int64_t source;

	if (iw->ndisks == DISKS_MAX)
		return (err_set(err, 0, "more than %u disks in one machine", DISKS_MAX));
	if (name_is_taken(iw, disk->member))
		return (err_set(err, EEXIST, "member %.60s of the archive", disk->member));
	d->info = *disk;
	memcpy(is.archive, iw->info.archive, ARCHIVE_ID_LEN);
	if ((d->view = spool_new(VIEW_RECORD, err)) == NULL || (source = add_source(iw, &is, d, err)) == -1) {
		spool_free(d->view);
		memset(d, 0, sizeof(*d));
		return (-1);
	}
	d->source = (uint32_t)source;
	return ((int)iw->ndisks++);
}

uint32_t
index_writer_disk_source(const struct index_writer *iw, uint32_t disk)
{
	return (iw->disks[disk].source);
}

void
index_writer_disk_header(struct index_writer *iw, uint32_t disk, uint64_t tar_offset)
{
	iw->disks[disk].info.header_offset = tar_offset;
}

int64_t
index_writer_source(struct index_writer *iw, const struct index_source *is, struct err *err)
{
	for (uint32_t i = 0; i < iw->nsources; i++)
		if (iw->sources[i].is.disk == is->disk && memcmp(iw->sources[i].is.archive, is->archive, ARCHIVE_ID_LEN) == 0)
			return (i);
	return (add_source(iw, is, NULL, err));
}

int
index_writer_replaces(struct index_writer *iw, const uint8_t id[ARCHIVE_ID_LEN], struct err *err)
{
	uint8_t (*v)[ARCHIVE_ID_LEN];

	for (uint32_t i = 0; i < iw->nreplaces; i++)
		if (memcmp(iw->replaces[i], id, ARCHIVE_ID_LEN) == 0)
			return (0);
	if ((v = realloc(iw->replaces, ((size_t)iw->nreplaces + 1) * sizeof(*v))) == NULL)
		return (err_nomem(err));
	iw->replaces = v;
	memcpy(v[iw->nreplaces++], id, ARCHIVE_ID_LEN);
	return (0);
}

int
index_writer_references(const struct index_writer *iw, int (*fn)(void *arg, const uint8_t id[ARCHIVE_ID_LEN], struct err *err), void *arg,
    struct err *err)
{
	const struct source *s;
	uint32_t k;

	for (uint32_t i = 0; i < iw->nsources; i++) {
		s = &iw->sources[i];
		if (s->own != NULL || !s->viewed || s->blocks != NULL)
			continue;
		/* Several disks may be in one archive. */
		for (k = 0; k < i; k++)
			if (iw->sources[k].viewed && iw->sources[k].blocks == NULL && memcmp(iw->sources[k].is.archive, s->is.archive, ARCHIVE_ID_LEN) == 0)
				break;
		if (k == i && fn(arg, s->is.archive, err) == -1)
			return (-1);
	}
	return (0);
}

static int
push_view(struct disk *d, struct err *err)
{
	uint8_t r[VIEW_RECORD];

	if (d->last.length == 0)
		return (0);
	le64_put(r, d->last.offset);
	le64_put(r + 8, d->last.length);
	le32_put(r + 16, d->last.source);
	le32_put(r + 20, d->last.kind);
	d->last.length = 0;
	return (spool_add(d->view, r, err));
}

void
index_writer_partial(struct index_writer *iw, uint32_t disk, uint64_t size)
{
	struct disk *d = &iw->disks[disk];

	d->partial = true;
	d->info.size = size;
	d->last = (struct index_view){ 0, size, d->source, VIEW_DATA };
}

/* Joined with the record before it where it goes on from it. */
static int
join_view(struct disk *d, const struct index_view *v, struct err *err)
{
	if (d->last.length > 0 && d->last.offset + d->last.length == v->offset && d->last.kind == v->kind && d->last.source == v->source) {
		d->last.length += v->length;
		return (0);
	}
	if (push_view(d, err) == -1)
		return (-1);
	d->last = *v;
	return (0);
}

static int
add_view(struct disk *d, const struct index_block *b, struct err *err)
{
	bool zero = (b->flags & BLOCK_ZERO) != 0;
	struct index_view v = { b->offset, b->length, zero ? NO_SOURCE : d->source, zero ? VIEW_ZERO : VIEW_DATA };

	return (d->partial || d->told ? 0 : join_view(d, &v, err));
}

int
index_writer_view(struct index_writer *iw, uint32_t disk, const struct index_view *v, struct err *err)
{
	struct disk *d = &iw->disks[disk];

	d->told = true;
	if (v->length == 0)
		return (0);
	if (v->kind == VIEW_DATA)
		iw->sources[v->source].viewed = true;
	return (join_view(d, v, err));
}

int
index_writer_lost(struct index_writer *iw, uint32_t disk, uint64_t offset, uint64_t length, struct err *err)
{
	struct disk *d = &iw->disks[disk];

	if (push_view(d, err) == -1)
		return (-1);
	d->last = (struct index_view){ offset, length, d->source, VIEW_DATA };
	return (0);
}

static int
add_block(struct source *s, const struct index_block *b, struct err *err)
{
	uint8_t r[BLOCK_RECORD];

	if (s->blocks == NULL && (s->blocks = spool_new(BLOCK_RECORD, err)) == NULL)
		return (-1);
	le64_put(r, b->offset);
	le32_put(r + 8, b->length);
	le32_put(r + 12, b->flags);
	memcpy(r + 16, b->digest, DIGEST_LEN);
	return (spool_add(s->blocks, r, err));
}

int
index_writer_frame(struct index_writer *iw, struct index_frame *f, const struct index_block *blocks, struct err *err)
{
	struct source *s = f->source == NO_SOURCE ? NULL : &iw->sources[f->source];
	uint8_t r[FRAME_RECORD];

	f->first_block = s != NULL && s->blocks != NULL ? spool_count(s->blocks) : 0;
	le64_put(r, f->offset);
	le64_put(r + 8, f->tar_offset);
	le64_put(r + 16, f->first_block);
	le32_put(r + 24, f->stored);
	le32_put(r + 28, f->raw);
	le32_put(r + 32, f->blocks);
	le32_put(r + 36, f->source);
	for (uint32_t i = 0; s != NULL && i < f->blocks; i++)
		if (add_block(s, &blocks[i], err) == -1 || (s->own != NULL && add_view(s->own, &blocks[i], err) == -1))
			return (-1);
	return (spool_add(iw->frames, r, err));
}

static void
encode_disk(const struct index_disk *d, uint8_t r[DISK_RECORD])
{
	memset(r, 0, DISK_RECORD);
	memcpy(r, d->target, strnlen(d->target, INDEX_NAME_LEN - 1));
	memcpy(r + 256, d->member, strnlen(d->member, INDEX_NAME_LEN - 1));
	le64_put(r + 512, d->size);
	le64_put(r + 520, d->data_offset);
	le64_put(r + 528, d->map_entries);
	le64_put(r + 536, d->header_offset);
}

static uint32_t
section_count(const struct index_writer *iw)
{
	uint32_t n = 3 + iw->ndisks + (iw->nmembers > 0) + (iw->nreplaces > 0);

	for (uint32_t i = 0; i < iw->nsources; i++)
		n += iw->sources[i].blocks != NULL;
	return (n);
}

/* The views' last records, which are still open, are counted too. */
static uint64_t
view_count(const struct disk *d)
{
	return (spool_count(d->view) + (d->last.length > 0));
}

static uint64_t
round_up(uint64_t n, uint64_t to)
{
	return ((n + to - 1) / to * to);
}

uint64_t
index_writer_length(const struct index_writer *iw)
{
	uint64_t at = INDEX_HEADER_LEN + (uint64_t)section_count(iw) * INDEX_SECTION_LEN;

	/* Sections begin at multiples of 8, and all records are multiples of 8. */
	at += (uint64_t)iw->ndisks * DISK_RECORD + (uint64_t)iw->nsources * SOURCE_RECORD + (uint64_t)iw->nmembers * MEMBER_RECORD +
	    (uint64_t)iw->nreplaces * REPLACES_RECORD + spool_count(iw->frames) * FRAME_RECORD;
	for (uint32_t i = 0; i < iw->ndisks; i++)
		at += view_count(&iw->disks[i]) * VIEW_RECORD;
	for (uint32_t i = 0; i < iw->nsources; i++)
		at += iw->sources[i].blocks != NULL ? spool_count(iw->sources[i].blocks) * BLOCK_RECORD : 0;
	return (round_up(at, 512) + INDEX_TRAILER_LEN);
}

static void
encode_section(const struct section *s, uint8_t r[INDEX_SECTION_LEN])
{
	memset(r, 0, INDEX_SECTION_LEN);
	le32_put(r, s->type);
	le32_put(r + 4, s->number);
	le64_put(r + 8, s->offset);
	le64_put(r + 16, s->length);
	le64_put(r + 24, s->count);
	memcpy(r + 32, s->digest, DIGEST_LEN);
}

/* Give a section's bytes to emit, or only to its digest when emit is NULL. */
static int
walk_section(struct section *s, struct digest_stream *ds, int (*emit)(void *, const void *, size_t, struct err *), void *arg,
    struct err *err)
{
	size_t record, batch, n;
	uint8_t *buf;
	int rc = -1;

	if (s->spool == NULL) {
		digest_stream_add(ds, s->mem, (size_t)s->length);
		return (emit != NULL && s->length > 0 ? emit(arg, s->mem, (size_t)s->length, err) : 0);
	}
	if (s->count == 0)
		return (0);
	record = (size_t)(s->length / s->count);
	batch = 65536 / record;
	if ((buf = malloc(batch * record)) == NULL)
		return (err_nomem(err));
	for (uint64_t at = 0; at < s->count; at += n) {
		n = s->count - at < batch ? (size_t)(s->count - at) : batch;
		if (spool_read(s->spool, at, n, buf, err) == -1)
			goto out;
		digest_stream_add(ds, buf, n * record);
		if (emit != NULL && emit(arg, buf, n * record, err) == -1)
			goto out;
	}
	rc = 0;
out:
	free(buf);
	return (rc);
}

static void
add_section(struct section *s, uint32_t *n, uint64_t *at, struct section what)
{
	what.offset = *at;
	*at += what.length;
	s[(*n)++] = what;
}

/* Both rise: the members, and the frames, are gone through once. */
static int
encode_members(struct index_writer *iw, uint8_t *r, struct err *err)
{
	struct spool_cursor *c = malloc(sizeof(*c));
	uint64_t frame = 0, end = 0, at;
	const struct index_member *m;
	const void *f;
	int got = 1;

	if (c == NULL)
		return (err_nomem(err));
	spool_cursor_init(c, iw->frames);
	for (uint32_t i = 0; i < iw->nmembers && got == 1; i++, r += MEMBER_RECORD) {
		m = &iw->members[i];
		at = m->tar_offset - (m->length == 0);
		while (end <= at && (got = spool_next(c, &f, err)) == 1) {
			end = le64_get((const uint8_t *)f + 8) + le32_get((const uint8_t *)f + 28);
			frame++;
		}
		memset(r, 0, MEMBER_RECORD);
		memcpy(r, m->name, strnlen(m->name, INDEX_NAME_LEN - 1));
		le64_put(r + 256, m->tar_offset);
		le64_put(r + 264, m->length);
		memcpy(r + 272, m->digest, DIGEST_LEN);
		le64_put(r + 288, frame - 1);
	}
	free(c);
	return (got == 1 ? 0 : got == -1 ? -1 : err_set(err, 0, "a small member is in no frame"));
}

/* The records that are kept in memory, one kind after the other. */
struct small {
	uint8_t	*disks, *sources, *members, *replaces;
	uint8_t	*all;
};

static int
encode_small(struct index_writer *iw, struct small *m, struct err *err)
{
	size_t disks = (size_t)iw->ndisks * DISK_RECORD, sources = (size_t)iw->nsources * SOURCE_RECORD,
	    members = (size_t)iw->nmembers * MEMBER_RECORD, replaces = (size_t)iw->nreplaces * REPLACES_RECORD;
	uint8_t *r;

	if ((m->all = calloc(1, disks + sources + members + replaces + 1)) == NULL)
		return (err_nomem(err));
	m->disks = m->all;
	m->sources = m->disks + disks;
	m->members = m->sources + sources;
	m->replaces = m->members + members;
	for (uint32_t i = 0; i < iw->ndisks; i++) {
		if (push_view(&iw->disks[i], err) == -1)
			return (-1);
		encode_disk(&iw->disks[i].info, m->disks + (size_t)i * DISK_RECORD);
	}
	for (uint32_t i = 0; i < iw->nsources; i++) {
		r = m->sources + (size_t)i * SOURCE_RECORD;
		memcpy(r, iw->sources[i].is.archive, ARCHIVE_ID_LEN);
		le32_put(r + 16, iw->sources[i].is.disk);
	}
	if (replaces > 0)
		memcpy(m->replaces, iw->replaces, replaces);
	return (iw->nmembers > 0 ? encode_members(iw, m->members, err) : 0);
}

static struct section
in_memory(uint32_t type, uint32_t count, size_t record, const uint8_t *mem)
{
	return ((struct section){ .type = type, .count = count, .length = (uint64_t)count * record, .mem = mem });
}

static struct section
spooled(uint32_t type, uint32_t number, size_t record, struct spool *sp)
{
	return ((struct section){ .type = type, .number = number, .count = spool_count(sp), .length = spool_count(sp) * record, .spool = sp });
}

/* Lay out all sections. */
static void
plan(struct index_writer *iw, struct section *s, const struct small *m)
{
	uint64_t at = INDEX_HEADER_LEN + (uint64_t)section_count(iw) * INDEX_SECTION_LEN;
	uint32_t i, n = 0;

	add_section(s, &n, &at, in_memory(SECTION_DISKS, iw->ndisks, DISK_RECORD, m->disks));
	add_section(s, &n, &at, in_memory(SECTION_SOURCES, iw->nsources, SOURCE_RECORD, m->sources));
	for (i = 0; i < iw->ndisks; i++)
		add_section(s, &n, &at, spooled(SECTION_VIEW, i, VIEW_RECORD, iw->disks[i].view));
	add_section(s, &n, &at, spooled(SECTION_FRAMES, 0, FRAME_RECORD, iw->frames));
	for (i = 0; i < iw->nsources; i++)
		if (iw->sources[i].blocks != NULL)
			add_section(s, &n, &at, spooled(SECTION_BLOCKS, i, BLOCK_RECORD, iw->sources[i].blocks));
	if (iw->nmembers > 0)
		add_section(s, &n, &at, in_memory(SECTION_MEMBERS, iw->nmembers, MEMBER_RECORD, m->members));
	if (iw->nreplaces > 0)
		add_section(s, &n, &at, in_memory(SECTION_REPLACES, iw->nreplaces, REPLACES_RECORD, m->replaces));
}

/* Header and section table, digest included. */
static void
encode_head(struct index_writer *iw, const struct section *s, uint32_t n, uint64_t length, uint8_t *head, struct digest_stream *ds)
{
	const struct index_info *in = &iw->info;
	size_t table = (size_t)n * INDEX_SECTION_LEN;

	memset(head, 0, INDEX_HEADER_LEN);
	memcpy(head, "OVBINDEX", 8);
	le32_put(head + 8, INDEX_VERSION);
	le32_put(head + 12, n);
	memcpy(head + 16, in->archive, ARCHIVE_ID_LEN);
	le64_put(head + 32, (uint64_t)in->time);
	le32_put(head + 40, in->codec->id);
	le32_put(head + 44, (uint32_t)in->level);
	le32_put(head + 48, WINDOW_SIZE);
	le32_put(head + 52, (uint32_t)in->codec->raw_max(in->level));
	le64_put(head + 56, length);
	memcpy(head + 72, in->secret, SECRET_LEN);
	for (uint32_t i = 0; i < n; i++)
		encode_section(&s[i], head + INDEX_HEADER_LEN + (size_t)i * INDEX_SECTION_LEN);
	digest_stream_begin(ds);
	digest_stream_add(ds, head, 496);
	digest_stream_add(ds, head + INDEX_HEADER_LEN, table);
	digest_stream_end(ds, head + 496);
}

static void
encode_trailer(const struct index_writer *iw, const struct index_place *place, uint64_t length, const uint8_t *head,
    uint8_t t[INDEX_TRAILER_LEN])
{
	memset(t, 0, INDEX_TRAILER_LEN);
	memcpy(t, "OVBTRAIL", 8);
	le32_put(t + 8, INDEX_VERSION);
	le32_put(t + 12, iw->info.codec->id);
	memcpy(t + 16, iw->info.archive, ARCHIVE_ID_LEN);
	le64_put(t + 32, length);
	le64_put(t + 40, place->offset);
	le64_put(t + 48, place->tar_offset);
	memcpy(t + 56, head + 496, DIGEST_LEN);
	digest_plain(t, 496, t + 496);
}

int
index_writer_emit(struct index_writer *iw, const struct index_place *place, int (*emit)(void *, const void *, size_t, struct err *),
    void *arg, struct err *err)
{
	uint32_t n = section_count(iw), i;
	size_t headlen = INDEX_HEADER_LEN + (size_t)n * INDEX_SECTION_LEN;
	uint8_t *head = malloc(headlen);
	struct small small = { .all = NULL };
	struct section *s = calloc(n, sizeof(*s));
	struct digest_stream *ds = digest_stream_new(err);
	uint8_t trailer[INDEX_TRAILER_LEN] = { 0 };
	uint64_t length, end;
	int rc = -1;

	if (head == NULL || s == NULL || ds == NULL) {
		err_nomem(err);
		goto out;
	}
	length = index_writer_length(iw);
	if (encode_small(iw, &small, err) == -1)
		goto out;
	plan(iw, s, &small);
	for (i = 0; i < n; i++) {
		digest_stream_begin(ds);
		if (walk_section(&s[i], ds, NULL, NULL, err) == -1)
			goto out;
		digest_stream_end(ds, s[i].digest);
	}
	encode_head(iw, s, n, length, head, ds);
	if (emit(arg, head, headlen, err) == -1)
		goto out;
	for (i = 0; i < n; i++)
		if (walk_section(&s[i], ds, emit, arg, err) == -1)
			goto out;
	end = s[n - 1].offset + s[n - 1].length;
	if (length - INDEX_TRAILER_LEN > end && emit(arg, trailer, (size_t)(length - INDEX_TRAILER_LEN - end), err) == -1)
		goto out;
	encode_trailer(iw, place, length, head, trailer);
	rc = emit(arg, trailer, INDEX_TRAILER_LEN, err);
out:
	digest_stream_free(ds);
	free(s);
	free(small.all);
	free(head);
	return (rc);
}
