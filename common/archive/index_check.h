/*
 * index_check.h - the inside of an index reader, and the check that every index passes before anything of it is believed.
 * Only index_reader.c and index_check.c include this.
 */
#ifndef OVB_INDEX_CHECK_H
#define OVB_INDEX_CHECK_H

#include <stdbool.h>
#include <stdint.h>

#include "archive/index_reader.h"

struct index_section {
	uint64_t	 offset, length, count;
	uint8_t		 digest[DIGEST_LEN];
	bool		 given;
};

/* Where the frames of a source stand among all frames: [first, end), with meta frames between. */
struct index_span {
	uint64_t	 first, end;
	uint64_t	 blocks;		/* seen so far, while checking */
};

struct index_reader {
	struct store_file	*f;
	struct index_info	 info;
	uint32_t		 frame_max;
	uint8_t			 digest[DIGEST_LEN];

	uint32_t		 ndisks, nsources, nmembers;
	struct index_disk	*disks;
	struct index_member	*members;
	struct index_section	 disk_section, sources, frames, member_section, replaces;
	struct index_section	*views;		/* by disk */
	struct index_section	*blocks;	/* by source */
	struct index_span	*spans;		/* by source */
};

/** index_check(ix, err): Read and check all of ix->f, and fill in the rest.  Fails: -1 with what is wrong. */
int index_check(struct index_reader *ix, struct err *err);

/**
 * index_check_head(f, have, digest, err):
 * Check header and section table of the index ${f}, of which only the first ${have} bytes are there yet, and that its header has the ${digest}
 * that its archive's trailer gives.  What is found good now has only the sections' content left to lie about.
 * Returns 1 when they are good, 0 when it takes more bytes to tell, -1 and ${err} when not.
 */
int index_check_head(struct store_file *f, uint64_t have, const uint8_t digest[DIGEST_LEN], struct err *err);

void index_decode_view(const uint8_t *r, struct index_view *out);
void index_decode_frame(const uint8_t *r, struct index_frame *out);
void index_decode_block(const uint8_t *r, struct index_block *out);

#endif
