/*
 * io.h - whole reads and writes on file descriptors, and small helpers for numbers.
 */
#ifndef OVB_IO_H
#define OVB_IO_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

/**
 * io_pread(fd, p, n, offset):
 * Read up to ${n} bytes, going on after short reads and signals.  Returns the number read, less than ${n} only at the end of
 * the file, or -1 with errno set.
 */
ssize_t io_pread(int fd, void *p, size_t n, uint64_t offset);

/** io_pwrite(fd, p, n, offset): Write all ${n} bytes.  Returns 0, or -1 with errno set. */
int io_pwrite(int fd, const void *p, size_t n, uint64_t offset);

/** io_close(fd): Close *${fd} unless it is -1, and set it to -1.  For descriptors whose close() cannot lose data. */
void io_close(int *fd);

/**
 * io_keep_std(void):
 * Open /dev/null where standard input, output or error is closed, so that using it still fails, and no file of ours becomes it and takes what is
 * printed.  To be called first of all.
 */
void io_keep_std(void);

/**
 * io_tempfile(err):
 * Open a file without a name in $TMPDIR, or /var/tmp without it: for what is too large for memory and is gone with the
 * process.  Returns the descriptor, or -1.
 */
int io_tempfile(struct err *err);

/**
 * io_temp_room(fd, bytes, what, err):
 * Whether the file system of the temporary file ${fd} has room for ${bytes}.  Fails: -1 with ENOSPC, saying how much ${what} takes, how much there
 * is, and to set TMPDIR.
 */
int io_temp_room(int fd, uint64_t bytes, const char *what, struct err *err);

/**
 * io_temp_failed(code, doing, err):
 * Set ${err} to the errno value ${code} and "cannot ${doing} a temporary file", with its folder and what to do.  Returns -1.
 */
int io_temp_failed(int code, const char *doing, struct err *err);

/** io_random(p, n, err): Fill ${p} with random bytes from the kernel.  Fails: -1. */
int io_random(void *p, size_t n, struct err *err);

#endif
