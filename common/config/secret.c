#include "config/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "config/secret_file.h"

int
secret_read(const char *path, const char *what, char out[SECRET_MAX], struct err *err)
{
	struct stat sb;
	ssize_t n = -1;
	size_t len;
	bool good;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	out[0] = '\0';
	if (fd == -1 || fstat(fd, &sb) == -1 || (n = io_pread(fd, out, SECRET_MAX - 1, 0)) == -1) {
		err_set(err, errno, "cannot read %s in %s", what, path);
		io_close(&fd);
		return (-1);
	}
	io_close(&fd);
	out[n] = '\0';
	len = strcspn(out, "\r\n");
	good = secret_file_check(&sb, path, what, err) == 0;
	if (good && len == 0)
		err_set(err, 0, "%s is not in %s: its first line is empty", what, path);
	else if (good && len == SECRET_MAX - 1)
		err_set(err, 0, "%s in %s is longer than %u bytes", what, path, SECRET_MAX - 2);
	else if (good) {
		OPENSSL_cleanse(out + len, SECRET_MAX - len);
		return (0);
	}
	OPENSSL_cleanse(out, SECRET_MAX);
	return (-1);
}
