/*
 * throttle.h - no more than so many bytes a second, over all who share it, and as evenly as may be: an uplink that others use, too.
 *
 * Calling sequence:  throttle_new -> (throttle_take, of at most throttle_piece bytes, before they are sent)* -> throttle_free
 * Over any time t, no more than rate * (t + THROTTLE_BURST_MS) bytes and one piece pass.
 *
 * Threads: any; whoever comes first is served first.
 */
#ifndef OVB_THROTTLE_H
#define OVB_THROTTLE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define THROTTLE_BURST_MS	250	/* what was not used is saved up for so long */

struct throttle;

/** throttle_new(rate, stop, err): ${rate} bytes a second, at least 1.  Waiting ends when *${stop} (NULL: never) is not 0 any more.  Fails: NULL. */
struct throttle *throttle_new(uint64_t rate, const atomic_int *stop, struct err *err);

/** throttle_free(t): harmless on NULL. */
void throttle_free(struct throttle *t);

/** throttle_piece(t): Bytes to ask for at a time: what an eighth of a second allows. */
size_t throttle_piece(const struct throttle *t);

/** throttle_take(t, n, err): Wait until ${n} more bytes may be sent.  Fails: -1, EINTR: told to stop while it waited. */
int throttle_take(struct throttle *t, size_t n, struct err *err);

/**
 * throttle_reserve(t, n, now):
 * The same for a clock of one's own, in nanoseconds that never go back: returns how long to wait.  Pure but for ${t}.
 */
int64_t throttle_reserve(struct throttle *t, size_t n, int64_t now);

#endif
