/* against_source.h - whether a restore point is what its disks' images hold now. */
#ifndef OVB_CTL_AGAINST_SOURCE_H
#define OVB_CTL_AGAINST_SOURCE_H

#include "options.h"
#include "repository/repo.h"

/**
 * against_source(o, r, p, same, err):
 * Compare each disk of the point ${p} with the image that it was made of, which nobody may be writing to; what the point holds is checked against its
 * digests as it is read.  Prints an outcome for each disk.  *${same} says whether all are alike.  Fails: -1.
 */
int against_source(const struct options *o, struct repo *r, const struct point *p, bool *same, struct err *err);

#endif
