/*
 * A file into a store, or out of it, as fast as the store goes: for comparisons with other programs, and for what a store does with a line that is cut.
 *
 *	store_copy [-i IDENTITY] [-k KNOWN_HOSTS] put URL NAME FILE	makes NAME, durable
 *	store_copy [-i IDENTITY] [-k KNOWN_HOSTS] get URL NAME FILE	FILE is made new, and durable
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "ssh/ssh_config.h"
#include "store/store.h"

#define PIECE ((size_t)1 << 20)

static int
put(struct store *st, const char *name, const char *path, char *piece, struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), rc = -1;
	struct store_file *f = NULL;
	ssize_t n;

	if (fd == -1)
		return (err_set(err, errno, "%s", path));
	if ((f = store_create(st, name, err)) == NULL)
		goto out;
	while ((n = read(fd, piece, PIECE)) > 0)
		if (store_append(f, piece, (size_t)n, err) == -1)
			goto out;
	rc = n == -1 ? err_set(err, errno, "%s", path) : store_sync(f, err);
out:
	store_file_close(f);
	close(fd);
	return (rc);
}

static int
get(struct store *st, const char *name, const char *path, char *piece, struct err *err)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600), rc = -1;
	struct store_file *f = NULL;
	uint64_t at;
	size_t n;

	if (fd == -1)
		return (err_set(err, errno, "%s", path));
	if ((f = store_file_open(st, name, err)) == NULL)
		goto out;
	for (at = 0; at < f->size; at += n) {
		n = f->size - at < PIECE ? (size_t)(f->size - at) : PIECE;
		if (store_file_read(f, piece, n, at, err) == -1)
			goto out;
		if (write(fd, piece, n) != (ssize_t)n) {
			err_set(err, errno, "%s", path);
			goto out;
		}
	}
	rc = fsync(fd) == -1 ? err_set(err, errno, "%s", path) : 0;
out:
	store_file_close(f);
	close(fd);
	return (rc);
}

int
main(int argc, char **argv)
{
	struct ssh_options o = { .host_key = SSH_HOST_KEY_STRICT };
	struct err err = ERR_INIT;
	struct store *st;
	char *piece;
	int c, rc = -1;

	while ((c = getopt(argc, argv, "i:k:")) != -1)
		*(c == 'i' ? &o.identity : &o.known_hosts) = optarg;
	argv += optind;
	if (argc - optind != 4 || (strcmp(argv[0], "put") != 0 && strcmp(argv[0], "get") != 0)) {
		fprintf(stderr, "usage: store_copy [-i IDENTITY] [-k KNOWN_HOSTS] put|get URL NAME FILE\n");
		return (2);
	}
	if ((piece = malloc(PIECE)) == NULL)
		return (1);
	if ((st = strncmp(argv[1], "sftp:", 5) == 0 ? store_sftp_open(argv[1], &o, true, &err) : store_open(argv[1], true, &err)) != NULL) {
		rc = strcmp(argv[0], "put") == 0 ? put(st, argv[2], argv[3], piece, &err) : get(st, argv[2], argv[3], piece, &err);
		store_close(st);
	}
	free(piece);
	if (rc == -1)
		fprintf(stderr, "store_copy: %s\n", err.text);
	return (rc == 0 ? 0 : 1);
}
