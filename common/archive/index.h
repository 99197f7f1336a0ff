/*
 * index.h - the index of an archive (FORMAT.md, "Index"): its records, and how it is written.  index_reader.h reads it.
 *
 * Calling sequence:  index_writer_new -> add ... -> index_writer_emit -> index_writer_free
 * Records go to spools, so that memory does not grow with the disk.  Threads: one at a time.
 */
#ifndef OVB_INDEX_H
#define OVB_INDEX_H

#include <stdbool.h>
#include <stdint.h>

#include "archive/codec.h"
#include "base/digest.h"
#include "base/err.h"

#define ARCHIVE_ID_LEN		16u
#define INDEX_VERSION		1u
#define INDEX_HEADER_LEN	512u
#define INDEX_TRAILER_LEN	512u
#define INDEX_SECTION_LEN	64u
#define INDEX_NAME_LEN		256u		/* with the zero byte at the end */
#define INDEX_MEMBER		"index.bin"
#define INDEX_SECTIONS_MAX	65536u
#define INDEX_MEMBERS_MAX	1000u		/* small members of one archive */
#define INDEX_MEMBER_MAX	((uint64_t)64 << 20)	/* bytes of one: it is read into memory as a whole */

#define NO_SOURCE		UINT32_MAX	/* of a meta frame, and of zero records */
#define NO_OFFSET		UINT64_MAX

enum section_type {
	SECTION_DISKS = 1,
	SECTION_SOURCES = 2,
	SECTION_VIEW = 3,
	SECTION_FRAMES = 4,
	SECTION_BLOCKS = 5,
	SECTION_MEMBERS = 6,
	SECTION_REPLACES = 7,
	SECTION_OPTIONAL = 0x8000	/* from here on a reader may skip what it does not know */
};

/* Lengths of the records on disk, by section type. */
enum { DISK_RECORD = 640, SOURCE_RECORD = 24, VIEW_RECORD = 24, FRAME_RECORD = 40, BLOCK_RECORD = 32, MEMBER_RECORD = 320,
	REPLACES_RECORD = 16 };

struct index_disk {
	char		target[INDEX_NAME_LEN];
	char		member[INDEX_NAME_LEN];
	uint64_t	size;			/* virtual, bytes */
	uint64_t	data_offset;		/* in the tar stream, or NO_OFFSET */
	uint64_t	map_entries;
	uint64_t	header_offset;		/* in the tar stream, or NO_OFFSET */
};

struct index_source {
	uint8_t		archive[ARCHIVE_ID_LEN];
	uint32_t	disk;			/* its number in that archive */
};

enum view_kind { VIEW_DATA = 1, VIEW_ZERO = 2 };

struct index_view {
	uint64_t	offset, length;		/* in the disk */
	uint32_t	source;
	uint32_t	kind;			/* enum view_kind */
};

struct index_frame {
	uint64_t	offset;			/* in the archive */
	uint64_t	tar_offset;
	uint64_t	first_block;
	uint32_t	stored;			/* bytes in the archive */
	uint32_t	raw;			/* bytes in the tar stream */
	uint32_t	blocks;
	uint32_t	source;
};

#define BLOCK_ZERO	1u

struct index_block {
	uint64_t	offset;			/* in the disk */
	uint32_t	length;
	uint32_t	flags;
	uint8_t		digest[DIGEST_LEN];
};

/* A small member: a plain file at the head of the archive. */
struct index_member {
	char		name[INDEX_NAME_LEN];
	uint64_t	tar_offset;		/* of its data */
	uint64_t	length;
	uint8_t		digest[DIGEST_LEN];	/* of all of it, with the archive's secret */
	uint64_t	frame;			/* number of the frame with its first byte; of an empty one, with the end of its header */
};

struct index_info {
	uint8_t			archive[ARCHIVE_ID_LEN];
	int64_t			time;			/* of the capture */
	const struct codec	*codec;
	int			level;
	uint8_t			secret[SECRET_LEN];
};

/* Where the index's own member stands in its archive: the trailer tells, for archives that are found bare. */
struct index_place {
	uint64_t	offset;			/* of the frame that begins with its header */
	uint64_t	tar_offset;		/* of that header */
};

struct index_writer;

struct index_writer *index_writer_new(const struct index_info *info, struct err *err);
void index_writer_free(struct index_writer *iw);

/**
 * index_writer_member(iw, member, err):
 * Add a small member; its frame is found when the index is written.  All come before the first disk.  Fails: -1 when it is too long, one
 * too many, or its name is not allowed or taken.  May be called while another thread adds frames.
 */
int index_writer_member(struct index_writer *iw, const struct index_member *member, struct err *err);

/**
 * index_writer_disk(iw, disk, err):
 * Add a disk, and it as a source.  Returns its number, or -1, also when its member's name is taken.
 */
int index_writer_disk(struct index_writer *iw, const struct index_disk *disk, struct err *err);

/** index_writer_disk_source(iw, disk): The number of the disk as a source of this archive. */
uint32_t index_writer_disk_source(const struct index_writer *iw, uint32_t disk);

/** index_writer_disk_header(iw, disk, tar_offset): Where the disk's first header is, when that is known only later. */
void index_writer_disk_header(struct index_writer *iw, uint32_t disk, uint64_t tar_offset);

/** index_writer_source(iw, s, err): The number of the source ${s}, a disk of another archive; a new one the first time.  Returns -1 on error. */
int64_t index_writer_source(struct index_writer *iw, const struct index_source *s, struct err *err);

/**
 * index_writer_view(iw, disk, v, err):
 * Add the next part of a disk's view.  From the first call on (a length of 0 adds nothing) the disk's view is what is added here, and its blocks are
 * not added by themselves.  Fails: -1.
 */
int index_writer_view(struct index_writer *iw, uint32_t disk, const struct index_view *v, struct err *err);

/** index_writer_replaces(iw, id, err): The archive ${id} is replaced by this one; again does nothing.  Fails: -1. */
int index_writer_replaces(struct index_writer *iw, const uint8_t id[ARCHIVE_ID_LEN], struct err *err);

/** index_writer_references(iw, fn, arg, err): Call ${fn} for the id of each other archive that a view names.  Fails: -1, when ${fn} does. */
int index_writer_references(const struct index_writer *iw, int (*fn)(void *arg, const uint8_t id[ARCHIVE_ID_LEN], struct err *err), void *arg,
    struct err *err);

/**
 * index_writer_frame(iw, frame, blocks, err):
 * Add the next frame of the archive and its blocks; frame->first_block is set here, frame->source is a source's number.  Blocks of a disk of this
 * archive are added to its view, unless index_writer_view() was called for it.  Fails: -1.
 */
int index_writer_frame(struct index_writer *iw, struct index_frame *frame, const struct index_block *blocks, struct err *err);

/** index_writer_lost(iw, disk, offset, length, err): Note data of a disk, after all of its blocks, that no block holds.  Fails: -1. */
int index_writer_lost(struct index_writer *iw, uint32_t disk, uint64_t offset, uint64_t length, struct err *err);

/**
 * index_writer_partial(iw, disk, size):
 * Of a disk only some blocks are known: its view calls all of its ${size} bytes data of this archive, whether a block holds them or not.  To be called
 * before its first frame, and again whenever it turns out to be larger.
 */
void index_writer_partial(struct index_writer *iw, uint32_t disk, uint64_t size);

/** index_writer_length(iw): How long the index will be, bytes. */
uint64_t index_writer_length(const struct index_writer *iw);

/**
 * index_writer_emit(iw, place, emit, arg, err):
 * Give the whole index to ${emit} in pieces, the trailer in one piece of its own.  Fails: -1, also when ${emit} does.
 */
int index_writer_emit(struct index_writer *iw, const struct index_place *place,
    int (*emit)(void *arg, const void *p, size_t n, struct err *err), void *arg, struct err *err);

#endif
