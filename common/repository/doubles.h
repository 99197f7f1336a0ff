/*
 * doubles.h - which archives of pruned points have nothing of use that another one does not have too (for repack.c).
 *
 * That an archive says it stands for another one is not enough for that one to go: what came from another repository may hold less of it, or lie.
 */
#ifndef OVB_DOUBLES_H
#define OVB_DOUBLES_H

#include <stdatomic.h>

#include "repository/live.h"

/**
 * doubles_has_all(b, a, stop, err):
 * Whether ${b} has every block of ${a} that is used, byte for byte: 1, 0.  What cannot be read, or does not have its digest, is not the same.
 * Fails: -1, EINTR when *${stop} is set, or no memory.
 */
int doubles_has_all(struct live_archive *b, struct live_archive *a, const atomic_int *stop, struct err *err);

#endif
