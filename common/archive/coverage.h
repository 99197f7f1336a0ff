/* coverage.h - whether the blocks that an archive has of a source are all that a point needs of it: one that stands for another may have only some. */
#ifndef OVB_COVERAGE_H
#define OVB_COVERAGE_H

#include "archive/index_reader.h"

/* What it lacks. */
struct coverage_gap {
	uint32_t	disk;			/* of the point */
	uint64_t	offset;
};

/**
 * coverage_find_gap(ix, n, holder, source, gap, err):
 * Find what the views of ${ix} show of its source ${n} that is in none of the blocks that ${holder} has of its source ${source}.  Only the indexes are
 * looked at; ${holder} is NULL for one that has none.  Returns 1 and the first such place in *${gap}, 0 when there is none, or -1.
 */
int coverage_find_gap(const struct index_reader *ix, uint32_t n, const struct index_reader *holder, uint32_t source, struct coverage_gap *gap,
    struct err *err);

#endif
