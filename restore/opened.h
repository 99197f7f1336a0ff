/*
 * opened.h - what a command works on: a repository, or one restore point of it, or a bare archive.
 *
 * Calling sequence:  open_repository | open_point -> ... -> opened_close
 */
#ifndef OVB_OPENED_H
#define OVB_OPENED_H

#include "archive/archive_reader.h"
#include "base/err.h"
#include "options.h"
#include "repository/repo.h"

struct opened {
	struct repo		*repo;		/* NULL for a bare archive */
	struct point		 point;
	struct manifest		 manifest;	/* empty for a bare archive */
	struct archive_set	*set;
};

#define OPENED_INIT	{ .repo = NULL }

/** open_repository(o, err): The repository that the options mean.  Fails: NULL. */
struct repo *open_repository(const struct options *o, struct err *err);

/**
 * open_point(o, spec, out, err):
 * The point ${spec}, with its index checked; with --archive, that archive, whatever ${spec} is.  What of it is lost but can be made good is
 * said on standard error.  Fails: -1.
 */
int open_point(const struct options *o, const char *spec, struct opened *out, struct err *err);

/** open_point_quietly(o, spec, out, err): The same, but what is lost stands in the note of the set's first archive only. */
int open_point_quietly(const struct options *o, const char *spec, struct opened *out, struct err *err);

/** open_manifest(o, spec, out, err): The same, but only its manifest. */
int open_manifest(const struct options *o, const char *spec, struct opened *out, struct err *err);

void opened_close(struct opened *op);

/** print_error(err): "virt-restore: ...", to standard error.  Returns EXIT_FAILED. */
int print_error(struct err *err);

#endif
