#include "earlier.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"

int
earlier_write(const char *text, size_t len, struct err *err)
{
	int fd = memfd_create("earlier", MFD_CLOEXEC);

	if (fd != -1 && io_pwrite(fd, text, len, 0) == 0)
		return (fd);
	err_set(err, errno, "cannot hand a list of machines to a worker");
	io_close(&fd);
	return (-1);
}

int
earlier_read(struct earlier *e, struct err *err)
{
	const char *number = getenv(EARLIER_ENV);
	struct stat sb;
	int fd, rc = -1;

	*e = (struct earlier)EARLIER_INIT;
	if (number == NULL)
		return (0);
	fd = (int)strtol(number, NULL, 10);
	unsetenv(EARLIER_ENV);
	if (fstat(fd, &sb) == -1) {
		err_set(err, errno, "cannot read the list of machines that are done");
		fd = -1;
	} else if ((e->text = malloc((size_t)sb.st_size + 1)) == NULL)
		err_nomem(err);
	else if (io_pread(fd, e->text, (size_t)sb.st_size, 0) != (ssize_t)sb.st_size)
		err_set(err, errno, "cannot read the list of machines that are done");
	else {
		e->len = (size_t)sb.st_size;
		e->text[e->len] = '\0';
		rc = 0;
	}
	io_close(&fd);
	return (rc);
}

bool
earlier_has(const struct earlier *e, const char *vm)
{
	size_t n = strlen(vm);
	const char *at, *end;

	for (at = e->text; at != NULL && at < e->text + e->len; at = end + 1) {
		if ((end = strchr(at, '\n')) == NULL)
			end = e->text + e->len;
		if ((size_t)(end - at) == n && memcmp(at, vm, n) == 0)
			return (true);
	}
	return (false);
}

void
earlier_free(struct earlier *e)
{
	free(e->text);
	*e = (struct earlier)EARLIER_INIT;
}
