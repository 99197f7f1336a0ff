/*
 * compact_archive.h - an archive that is written from others' (for compact.h): begin, fill ->aw, end.
 *
 * Calling sequence:  compact_archive_begin -> archive_writer_* on ->aw -> compact_archive_publish -> compact_archive_end
 */
#ifndef OVB_COMPACT_ARCHIVE_H
#define OVB_COMPACT_ARCHIVE_H

#include <jansson.h>

#include "archive/archive_writer.h"
#include "repository/compact.h"

struct compact_archive {
	struct index_info	 info;
	struct point_writer	*pw;
	struct archive_writer	*aw;
	struct store_file	*data, *index;
	char			 file[32];	/* its name */
	struct archive_written	 written;
};

#define COMPACT_ARCHIVE_INIT	{ .pw = NULL }

/** compact_archive_begin(ca, r, lk, vm, t, codec, level, err): An archive of the machine ${vm} and the time ${t}.  Fails: -1. */
int compact_archive_begin(struct compact_archive *ca, struct repo *r, struct lock *lk, const char *vm, time_t t, const struct codec *codec,
    int level, struct err *err);

/** compact_archive_finish(ca, err): Everything was added: end the archive and make it durable.  Fails: -1. */
int compact_archive_finish(struct compact_archive *ca, struct err *err);

/**
 * compact_archive_publish(ca, m, file, name, err):
 * Publish it with the manifest ${m}, of which what concerns the archive is set here (it is changed), as the file ${file}; ${name} as for
 * point_publish_text().  Fails: -1.
 */
int compact_archive_publish(struct compact_archive *ca, json_t *m, const char *file, const char *name, struct err *err);
void compact_archive_end(struct compact_archive *ca);

#endif
