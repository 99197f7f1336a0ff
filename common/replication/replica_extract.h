/*
 * replica_extract.h - what one archive's place was taken by, out of an archive at the source that stands for several (for replicate.h).
 *
 * One that stands for others is not copied to where one of these is (FORMAT.md, "Replicas").  Of those that are not there, each gets a small archive of its
 * own, which stands for it alone and holds all that is left of it at the source: no point there uses more.
 */
#ifndef OVB_REPLICA_EXTRACT_H
#define OVB_REPLICA_EXTRACT_H

#include "replication/replica_send.h"
#include "repository/catalog.h"
#include "repository/manifest.h"

struct replica_extract {
	struct manifest	 m;			/* of the archive at the source */
	archive_id	 id;			/* of the new one */
	uint64_t	 stored;		/* bytes of it */
	char		 here[NAMING_MAX];	/* its folder */
};

#define REPLICA_EXTRACT_INIT	{ .m = MANIFEST_INIT }

/**
 * replica_extract_size(from, p, id, size, err):
 * About how many bytes that will be, of the archive ${id} in that of the point ${p}.  Fails: -1; err->code as for replica_send_copy().
 */
int replica_extract_size(struct repo *from, const struct point *p, const archive_id id, uint64_t *size, struct err *err);

/**
 * replica_extract(ln, p, id, program, out, err):
 * Write and publish it, as the archive of a point that was pruned.  ${out} is ended by the caller, also on failure.  Fails: -1; err->code as for
 * replica_send_copy().
 */
int replica_extract(const struct replica_link *ln, const struct point *p, const archive_id id, const char *program, struct replica_extract *out,
    struct err *err);
void replica_extract_end(struct replica_extract *x);

#endif
