/* tool.h - running QEMU's own programs. */
#ifndef OVB_TOOL_H
#define OVB_TOOL_H

#include "base/buf.h"
#include "base/err.h"

#define TOOL_SECONDS	60		/* enough for a program that moves no data */

/**
 * tool_run(argv, hint, seconds, out, err):
 * Run a program, found in PATH, with nothing to read, and wait for it, ${seconds} at most.  What it writes to standard output, up to 16 MiB, is
 * appended to ${out}, unless that is NULL.  Fails: -1 with the first of what it wrote to standard error; when it is not installed, with ${hint}.
 */
int tool_run(const char *const *argv, const char *hint, unsigned int seconds, struct buf *out, struct err *err);

/** tool_image_option(out, options, path, err): Append "${options}${path}", with the path's commas doubled as QEMU's options want them. */
int tool_image_option(struct buf *out, const char *options, const char *path, struct err *err);

#endif
