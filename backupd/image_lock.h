/* image_lock.h - whether a QEMU holds an image for writing. */
#ifndef OVB_IMAGE_LOCK_H
#define OVB_IMAGE_LOCK_H

#include <stdbool.h>

/**
 * image_lock_held(fd):
 * Whether some process holds the image open as ${fd} for writing or resizing.  QEMU marks what it does with an image by locks on
 * its bytes 100 to 201, one byte for each permission (qemu, block/file-posix.c, RAW_LOCK_PERM_BASE).  Only looks: takes no
 * lock, so that a guest that is being started never finds its image locked.  A file system without locks says no.
 */
bool image_lock_held(int fd);

#endif
