/*
 * target.h - where a restored disk goes.  Each kind is one file, target_*.c.
 *
 * Calling sequence:  target_file_open -> target_write* -> target_commit | (nothing) -> target_close
 * A target that is closed without a commit leaves no trace.
 */
#ifndef OVB_TARGET_H
#define OVB_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"

struct target;

struct target_ops {
	int	(*write)(struct target *, uint64_t offset, const void *p, size_t n, struct err *);
	int	(*commit)(struct target *, struct err *);
	void	(*close)(struct target *);
};

struct target {
	const struct target_ops	*ops;
};

/**
 * target_file_open(path, size, force, err):
 * A sparse raw file of ${size} bytes that reads as zeroes.  It is written as ${path}.partial and gets its name when it is complete.  An
 * existing file is refused unless ${force}.  Fails: NULL.
 */
struct target *target_file_open(const char *path, uint64_t size, bool force, struct err *err);

/**
 * target_write(t, offset, p, n, err):
 * Write; pieces of 4 KiB that are zero are left as holes.  No part is written twice.  Threads: any.  Fails: -1.
 */
int target_write(struct target *t, uint64_t offset, const void *p, size_t n, struct err *err);

/** target_commit(t, err): Make it durable and give it its name.  Fails: -1. */
int target_commit(struct target *t, struct err *err);

void target_close(struct target *t);

#endif
