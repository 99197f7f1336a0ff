/*
 * chain.h - the earlier restore point that a new one takes over from what has not changed.
 *
 * Calling sequence:  CHAIN_INIT -> chain_open -> ... -> chain_close
 */
#ifndef OVB_CHAIN_H
#define OVB_CHAIN_H

#include "archive/archive_reader.h"
#include "inherited.h"
#include "repository/repo.h"

struct chain {
	struct archive_set	*set;		/* NULL: there is nothing to go on from */
	struct point		 point;
	struct manifest		 manifest;
	struct inherited	 inherited;	/* the checkpoint that the manifest names, when it is an earlier point's */
	char			 why[1024];	/* there should be, but it cannot be used; empty otherwise */
};

#define CHAIN_INIT	{ .manifest = MANIFEST_INIT, .inherited = INHERITED_INIT }

/**
 * chain_open(c, repo, job, vm, uuid):
 * The latest restore point of the machine ${vm}, of the job ${job} when there is one; of a domain, with that UUID: another machine of the same name
 * has a chain of its own.
 * What cannot be read is not gone on from, and c->why says so.
 */
void chain_open(struct chain *c, struct repo *repo, const char *job, const char *vm, const char *uuid);

/** chain_disk(c, target, number): The disk ${target} of that point and its number in the index, or NULL. */
const struct manifest_disk *chain_disk(const struct chain *c, const char *target, uint32_t *number);

void chain_close(struct chain *c);

#endif
