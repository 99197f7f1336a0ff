/*
 * pagecache.h - leave the page cache as it was found.
 *
 * A night's backup must not push the guests' pages out of memory.  Pages that were resident before a read stay; those that the
 * read brought in are dropped.  What is written is sent to the disk in the background and dropped behind the writer.
 */
#ifndef OVB_PAGECACHE_H
#define OVB_PAGECACHE_H

#include <stddef.h>
#include <stdint.h>

#define PAGECACHE_RANGE	((size_t)8 << 20)	/* the longest range that is looked at in one go, bytes */

/* Which pages of a range were resident before it was read. */
struct pagecache_range {
	int		 fd;
	uint64_t	 offset;		/* a multiple of the page size */
	size_t		 pages;			/* 0: nothing is known, drop nothing */
	uint8_t		 resident[PAGECACHE_RANGE / 4096 + 1];
};

/**
 * pagecache_look(r, fd, offset, length):
 * Note which pages of the range are resident; ${length} is at most PAGECACHE_RANGE.  mincore(2) tells only the file's owner or
 * one who may write it; to others all pages look resident, and then none is dropped.
 */
void pagecache_look(struct pagecache_range *r, int fd, uint64_t offset, size_t length);

/** pagecache_restore(r): Drop the pages of the range that were not resident when pagecache_look() was called. */
void pagecache_restore(const struct pagecache_range *r);

/*
 * The same for a whole file that is read here and there in small pieces, over and over: what was not resident is dropped once, at the
 * end, instead of after each read.
 */
struct pagecache_map;

/** pagecache_map_new(fd, length): Note which pages of the file are resident.  NULL when that cannot be told. */
struct pagecache_map *pagecache_map_new(int fd, uint64_t length);

/** pagecache_map_end(map): Drop what was not resident, and free ${map}; harmless on NULL. */
void pagecache_map_end(struct pagecache_map *map);

/* Writes of one file, each range on its way to the disk before the next begins. */
struct pagecache_writer {
	int		 fd;
	uint64_t	 begun;		/* bytes up to here were handed to the disk */
	uint64_t	 dropped;	/* bytes up to here are on the disk and no longer resident */
};

#define PAGECACHE_WRITER_INIT(fd) { (fd), 0, 0 }

/**
 * pagecache_wrote(w, end):
 * The file was written up to ${end}, from its beginning on.  Starts writing back in pieces of 8 MiB, and waits for the piece
 * before the last to drop it, so that no more than two pieces are dirty or resident.  Errors are left to fsync, which finds them.
 */
void pagecache_wrote(struct pagecache_writer *w, uint64_t end);

/** pagecache_drop(fd): Drop all of a file that is on the disk (after fsync). */
void pagecache_drop(int fd);

#endif
