#include "config/secret_file.h"

#include <errno.h>
#include <unistd.h>

int
secret_file_check(const struct stat *st, const char *path, const char *what, struct err *err)
{
	mode_t open_to = st->st_mode & (st->st_uid == geteuid() ? S_IRWXG | S_IRWXO : S_IRWXO);

	if (open_to == 0)
		return (0);
	err_set(err, 0, "others may read %s in %s (mode %04o): chmod 600 it", what, path, (unsigned int)(st->st_mode & 07777));
	err->code = EACCES;
	return (-1);
}
