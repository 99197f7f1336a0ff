/*
 * inherited.h - a restore point that has no checkpoint of its own names that of an earlier point.
 *
 * What the checkpoint's bitmap tells is what has changed since that earlier point, not since the later one.  As long as the image only goes forward,
 * the one includes the other; not when somebody puts a copy of it, with its bitmaps, from between the two back in its place.  So the parts in which the
 * two points differ are compared as well: exact, whatever copy with that bitmap lies there.
 *
 * Calling sequence:  INHERITED_INIT -> inherited_open -> (inherited_tells | inherited_dirty)* -> inherited_close
 */
#ifndef OVB_INHERITED_H
#define OVB_INHERITED_H

#include "archive/archive_reader.h"
#include "base/extent.h"
#include "repository/repo.h"

struct inherited {
	bool			 is;		/* the point's checkpoint is an earlier one's */
	struct archive_reader	*origin;	/* of the point that it was made for; NULL: it is not to be had any more */
	struct manifest		 manifest;	/* of that point */
};

#define INHERITED_INIT	{ .manifest = MANIFEST_INIT }

/**
 * inherited_open(in, repo, points, n, m):
 * Find out about the checkpoint of the point number ${n} of ${points}, which are those of its machine in order of time, with the manifest ${m}.
 * Never fails: what cannot be read is not to be had.
 */
void inherited_open(struct inherited *in, struct repo *repo, const struct points *points, size_t n, const struct manifest *m);

/**
 * inherited_tells(in, target, source):
 * Whether the checkpoint's bitmap of the disk ${target} in the image ${source} can be of use: it is the point's own, or its origin has the disk, from there.
 */
bool inherited_tells(const struct inherited *in, const char *target, const char *source);

/**
 * inherited_dirty(in, target, point, disk, bitmap, err):
 * What may have changed since the point with the index ${point}, where the disk ${target} has the number ${disk}: what the bitmap of its checkpoint tells
 * and, if that is an earlier one's, what differs between the two.  The caller frees it.  Fails: NULL.
 */
struct extents *inherited_dirty(const struct inherited *in, const char *target, const struct index_reader *point, uint32_t disk,
    const struct extents *bitmap, struct err *err);

void inherited_close(struct inherited *in);

#endif
