/*
 * images.h - the images that an images job names: which files its patterns match, and what the machines are called.
 */
#ifndef OVB_IMAGES_H
#define OVB_IMAGES_H

#include <stddef.h>

#include "base/err.h"

struct image_file {
	char	*path;
	char	*vm;		/* the file's name without its ending: machine and target */
	char	*member;	/* in the archive: the file's name */
};

struct image_files {
	struct image_file	*v;
	size_t			 n;
};

#define IMAGE_FILES_INIT	{ NULL, 0 }

/**
 * images_find(patterns, npatterns, out, err):
 * Expand shell patterns (glob(7)) to files, each once, in order of name; the caller frees ${out}.
 *
 * Fails: -1 when a pattern matches nothing, when two files would be one machine, or when a name cannot be stored (not UTF-8).
 */
int images_find(char *const *patterns, size_t npatterns, struct image_files *out, struct err *err);

void images_free(struct image_files *f);

#endif
