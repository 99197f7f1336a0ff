/*
 * tar_parse.h - what headers of a tar stream say (FORMAT.md, "Members of the tar stream"), for an archive that has lost its index.
 * Everything here is from outside: what is malformed is refused, or taken for a record of somebody else's.
 */
#ifndef OVB_TAR_PARSE_H
#define OVB_TAR_PARSE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/extent.h"

#define TAR_NAME_LEN	512u		/* of a piece: a member's name and the number */

/* The records of a pax header that matter here, for the member that follows it. */
struct tar_pax {
	bool		 sparse;		/* GNU.sparse.major */
	bool		 foreign;		/* OPENVIRT.source: a piece with another archive's blocks */
	char		 sparse_name[TAR_NAME_LEN], path[TAR_NAME_LEN];		/* empty: none */
	uint64_t	 realsize;		/* GNU.sparse.realsize; UINT64_MAX: none */
	struct buf	 extents;		/* OPENVIRT.extents; empty: none */
};

/** tar_pax_reset(x): No records; its memory is kept.  Free x->extents at the end. */
void tar_pax_reset(struct tar_pax *x);

/** tar_parse_pax(x, text, len, err): Fill ${x} with the records in ${text}, as far as they are sound.  Fails: -1, out of memory. */
int tar_parse_pax(struct tar_pax *x, const char *text, size_t len, struct err *err);

/** tar_parse_size(h, size): The size in the header ${h}, octal or in GNU's base-256.  Returns whether there is one. */
bool tar_parse_size(const uint8_t *h, uint64_t *size);

/** tar_parse_name(h, x, name): The member's name, by its header and the pax header ${x} before it.  Returns whether it is a plain one. */
bool tar_parse_name(const uint8_t *h, const struct tar_pax *x, char name[TAR_NAME_LEN]);

/** tar_parse_piece(name): Of the name of a delta's piece, the length of the member's name that it begins with; 0 of any other name. */
size_t tar_parse_piece(const char *name);

/**
 * tar_parse_extents(text, first, err):
 * The extents of a piece, "offset+length,...", as a map that ends where the last one does; *${first} is where the first one begins.  Fails: NULL.
 */
struct extents *tar_parse_extents(const char *text, uint64_t *first, struct err *err);

#endif
