/*
 * target.h - where a restored disk goes.  Each kind is one file, target_*.c.
 *
 * Calling sequence:  target_open -> (target_write | target_zero)* -> target_flush -> target_commit | (nothing) -> target_close
 * target_flush may be left out.  It is for those who complete several targets before the first one gets its name.
 */
#ifndef OVB_TARGET_H
#define OVB_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct target;

struct target_ops {
	/** Threads: any.  No part is written or zeroed twice. */
	int	(*write)(struct target *, uint64_t offset, const void *p, size_t n, struct err *);

	/** Make a range read as zeroes, without taking space where that can be had.  NULL where a new target reads as zeroes. */
	int	(*zero)(struct target *, uint64_t offset, uint64_t length, struct err *);
	int	(*flush)(struct target *, struct err *);	/* all durable, under whatever name */
	int	(*commit)(struct target *, struct err *);	/* after flush: the name.  NULL: it has none to get */
	void	(*close)(struct target *);
};

struct target {
	const struct target_ops	*ops;
	const char		*left;	/* what is left where when the program is ended at once; owned by the target, never changes */
	bool			 keeps;		/* closed without a commit, it keeps what was written: a device, an export */
	bool			 zeroes;	/* what is not written reads as zeroes: nothing needs to be zeroed */
	bool			 flushed;
};

enum target_format { TARGET_RAW, TARGET_QCOW2 };

/**
 * target_open(where, format, size, force, err):
 * A target of ${size} bytes: a URI nbd://... or nbd+unix://..., a block device, or a file, raw or qcow2.  A file is written as
 * ${where}.partial and gets its name when it is complete: closed without a commit it leaves no trace.  What exists is only overwritten with
 * ${force}; an NBD export without, when the server says that it is all zero.  Fails: NULL.
 */
struct target *target_open(const char *where, enum target_format format, uint64_t size, bool force, struct err *err);

/**
 * target_check(where, format, force, err):
 * Whether target_open() would refuse ${where} for what is there now: something that exists, without ${force}, or a format that it cannot have.
 * Fails: -1.
 */
int target_check(const char *where, enum target_format format, bool force, struct err *err);

/**
 * target_write(t, offset, p, n, err):
 * Write; pieces of 4 KiB that are zero are not written but zeroed.  Threads: any.  Fails: -1.
 */
int target_write(struct target *t, uint64_t offset, const void *p, size_t n, struct err *err);

/** target_zero(t, offset, length, err): This range reads as zeroes.  Threads: any.  Fails: -1. */
int target_zero(struct target *t, uint64_t offset, uint64_t length, struct err *err);

/** target_flush(t, err): It is complete: make it durable, but do not give it its name.  Fails: -1. */
int target_flush(struct target *t, struct err *err);

/** target_commit(t, err): Make it durable, and give it its name.  Fails: -1. */
int target_commit(struct target *t, struct err *err);

void target_close(struct target *t);

/* The kinds of targets. */
struct target *target_file_open(const char *path, uint64_t size, bool force, struct err *err);
struct target *target_device_open(const char *path, uint64_t size, bool force, struct err *err);
struct target *target_nbd_open(const char *uri, uint64_t size, bool force, struct err *err);
struct target *target_qcow2_open(const char *path, uint64_t size, bool force, struct err *err);

/** target_device_unforced(path, err): Say that a device needs --force.  Returns -1. */
int target_device_unforced(const char *path, struct err *err);

#endif
