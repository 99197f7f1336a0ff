/*
 * lock.h - locks of a repository (FORMAT.md, "Locks"): files that say who holds it, renewed every 30 s.
 *
 * Calling sequence:  lock_run | lock_alone -> ... lock_check before publishing -> lock_release
 * Runs that write different points hold it side by side; who removes or merges holds it alone.  Readers take none.
 * A thread of its own renews the lock until it is released.
 */
#ifndef OVB_LOCK_H
#define OVB_LOCK_H

#include <stdatomic.h>

#include "base/err.h"
#include "store/store.h"

#define LOCK_TOKEN_LEN	17u		/* 16 hexadecimal digits and a zero byte */
#define LOCKS_DIR	".locks"

struct lock;

/**
 * lock_run(st, program, wait_s, stop, err):
 * Hold the repository together with other runs.  While somebody holds it alone, tries again for ${wait_s} seconds, or until *${stop}
 * (unless NULL) is set by a signal.  ${program} stands in the
 * lock, for people.  Fails: NULL, saying who holds it.
 */
struct lock *lock_run(struct store *st, const char *program, unsigned int wait_s, const atomic_int *stop, struct err *err);

/** lock_alone(st, program, err): Hold the repository alone.  Fails: NULL; err->code is EBUSY when somebody else holds it. */
struct lock *lock_alone(struct store *st, const char *program, struct err *err);

/**
 * lock_alone_wait(st, program, wait_s, stop, err):
 * The same, but while somebody else holds the repository, tries again for ${wait_s} seconds, or until *${stop} (unless NULL) is set by a signal.
 */
struct lock *lock_alone_wait(struct store *st, const char *program, unsigned int wait_s, const atomic_int *stop, struct err *err);

/** lock_token(lk): 16 hexadecimal digits that name this lock. */
const char *lock_token(const struct lock *lk);

/** lock_check(lk, err): Fails: -1 when the lock is no longer ours: somebody broke it, or removed it (err->code is 0), or when that cannot be told. */
int lock_check(struct lock *lk, struct err *err);

/**
 * lock_is_held(lk, token, err):
 * As the holder of ${lk}: whether another run holds the lock that ${token} names, and lives.  Returns 1, 0, or -1.
 */
int lock_is_held(struct lock *lk, const char *token, struct err *err);

/** lock_end(lk, err): Give it up.  Fails: -1 when its file cannot be looked at or removed, and holds off others until it is old.  ${lk} is gone in any case. */
int lock_end(struct lock *lk, struct err *err);

/** lock_release(lk): The same, where nothing can be done about a failure; harmless on NULL. */
void lock_release(struct lock *lk);

/** lock_break_dead_runs(lk, err): As the holder of the repository alone: remove the locks of runs that are dead. */
int lock_break_dead_runs(struct lock *lk, struct err *err);

#endif
