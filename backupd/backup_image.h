/* backup_image.h - one image becomes one restore point. */
#ifndef OVB_BACKUP_IMAGE_H
#define OVB_BACKUP_IMAGE_H

#include "images.h"
#include "point_store.h"

/**
 * backup_image(run, file, result, err):
 * Back up ${file} into a new restore point and publish it.  Fails: -1, and nothing of the point is left.
 */
int backup_image(const struct backup_run *run, const struct image_file *file, struct point_result *result, struct err *err);

#endif
