/* memory_feed.h - a disk in memory, as the source of an archive. */
#ifndef OVB_MEMORY_FEED_H
#define OVB_MEMORY_FEED_H

#include <string.h>

#include "archive/archive_writer.h"

static void *
memory_reader_new(void *arg, struct err *err)
{
	(void)err;
	return (arg);
}

static void
memory_reader_free(void *reader)
{
	(void)reader;
}

static int
memory_read(void *reader, void *p, size_t n, uint64_t offset, struct err *err)
{
	(void)err;
	memcpy(p, (const uint8_t *)reader + offset, n);
	return (0);
}

/* A disk of the bytes at ${content}.  A test may put a read of its own in its place, whose reader is ${content}. */
static inline struct archive_feed
memory_feed(void *content)
{
	return ((struct archive_feed){ .arg = content, .reader_new = memory_reader_new, .reader_free = memory_reader_free, .read = memory_read });
}

#endif
