/* replica_send_private.h - what replica_send.c (a point is read, and sent) and replica_arrived.c (what there is of its archive at the far end) share. */
#ifndef OVB_REPLICA_SEND_PRIVATE_H
#define OVB_REPLICA_SEND_PRIVATE_H

#include "replication/replica_send.h"

#define CHUNK		((size_t)4 << 20)
#define PATH_LEN	(3 * NAMING_MAX)

struct replica_send {
	const struct replica_link	*ln;
	struct point			 p;
	bool				 as_pruned;
	struct replica_hint		 hint;
	struct buf			 text;			/* its manifest, byte by byte */
	struct manifest			 m;
	struct buf			 sums, theirs;		/* SHA256SUMS */
	struct point_writer		*pw;
	char				 part[PATH_LEN];	/* the archive, while it arrives; "": in the point's folder */
	uint64_t			 resumed;
	uint8_t				*buf;			/* CHUNK bytes */
};

/* replica_send.c */

/** replica_stopped(ln, err): 0, or -1 and EINTR when *ln->stop is set. */
int replica_stopped(const struct replica_link *ln, struct err *err);

/**
 * replica_read_source(s, in, n, at, err):
 * Read ${n} bytes of the point's file ${in} to s->buf.  Fails: -1; err->code is ETIMEDOUT or ECONNRESET when the source does not answer, else EBADMSG.
 */
int replica_read_source(struct replica_send *s, struct store_file *in, size_t n, uint64_t at, struct err *err);

/* replica_arrived.c */

/**
 * replica_has_arrived(s, in, path, size, hex, err):
 * Whether the first ${size} bytes of ${path} at the far end are those of ${in}, whose SHA-256 is ${hex}: 1, 0.  Without ${in} (NULL), all that is known is
 * its digest: then they are read back whole where the far end computes none.  Fails: -1.
 */
int replica_has_arrived(struct replica_send *s, struct store_file *in, const char *path, uint64_t size, const char *hex, struct err *err);

/**
 * replica_open_part(s, in, sha, err):
 * Open s->part, behind its s->resumed bytes that are known to be those of ${in}, and are in *${sha}, which may be made anew: what an earlier one left of it,
 * or a new one.  Fails: NULL.
 */
struct store_file *replica_open_part(struct replica_send *s, struct store_file *in, struct sha256 **sha, struct err *err);

/** replica_drop_part(s, err): Remove it.  Fails: -1. */
int replica_drop_part(struct replica_send *s, struct err *err);

#endif
