/* backup_image.h - one image becomes one restore point. */
#ifndef OVB_BACKUP_IMAGE_H
#define OVB_BACKUP_IMAGE_H

#include <signal.h>

#include "conf.h"
#include "images.h"
#include "progress.h"
#include "repo.h"

struct image_backup {
	const struct conf_job		*job;
	const struct image_file		*file;
	struct repo			*repo;
	struct lock			*lock;
	struct progress			*progress;
	const volatile sig_atomic_t	*interrupted;	/* set by a signal: give up cleanly */
};

struct image_backup_result {
	struct point	 point;
	uint64_t	 size;		/* of the disk, bytes */
	uint64_t	 provisioned;	/* of it, allocated */
	uint64_t	 read;		/* bytes read */
	uint64_t	 stored;	/* of the archive */
	double		 seconds;
};

/**
 * backup_image(b, result, err):
 * Back up b->file into a new restore point and publish it.  Fails: -1, and nothing of the point is left.
 */
int backup_image(const struct image_backup *b, struct image_backup_result *result, struct err *err);

#endif
