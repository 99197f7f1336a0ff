#include "image_lock.h"

#include <fcntl.h>
#include <unistd.h>

/* QEMU's BLK_PERM_WRITE, _WRITE_UNCHANGED and _RESIZE are bits 1 to 3; a reader (bit 0) does no harm. */
#define PERM_BASE	100
#define FIRST_BIT	1
#define NUMBER_BITS	3

bool
image_lock_held(int fd)
{
	struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = PERM_BASE + FIRST_BIT, .l_len = NUMBER_BITS };

	return (fcntl(fd, F_OFD_GETLK, &fl) == 0 && fl.l_type != F_UNLCK);
}
