/*
 * writer: what the test guest does to its disks while it is backed up.  The same program checks afterwards, in the guest or on files taken from its image.
 *
 *   writer run DIR            write numbered files without pause: each carries its own checksum and is made durable with its folder; then its number is
 *                             appended to DIR/log, which is made durable too
 *   writer synced DIR         the last number in DIR/log
 *   writer check DIR [N]      check all files; each up to N must be there.  Prints "files F bad B missing M", exit status 0 when B and M are 0
 *   writer mark A B           write a rising number to the block devices A and B in turn, each write durable before the next one begins
 *   writer marks A B          print both numbers
 *   writer fill FILE BYTES [RATE]
 *                             write random bytes over FILE (or a block device) again and again, at full speed or RATE bytes a second
 * An error of a write ends the program with status 1 and a line on standard error.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MAX_WORDS	2048		/* of content: 16 KiB */
#define PER_FOLDER	500
#define SECTOR		4096
#define CHUNK		(1 << 20)
#define MAGIC		"ovbwrite"

struct file {
	char magic[8];
	uint64_t number;
	uint64_t words;
	uint64_t sum;
	uint64_t content[MAX_WORDS];
};
#define HEADER	offsetof(struct file, content)

static uint64_t seed;

static void
die(const char *what)
{

	fprintf(stderr, "writer: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t
next_random(void)
{

	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (seed);
}

static uint64_t
sum_of(const struct file *f)
{
	uint64_t i, sum = 0xcbf29ce484222325u ^ f->number ^ (f->words << 32);

	for (i = 0; i < f->words; i++)
		sum = (sum ^ f->content[i]) * 0x100000001b3u;
	return (sum);
}

static void
write_all(int fd, const void *data, size_t size, const char *path)
{
	const char *p = data;
	ssize_t n;

	while (size > 0) {
		if ((n = write(fd, p, size)) <= 0)
			die(path);
		p += n;
		size -= (size_t)n;
	}
}

static void
sync_folder(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY);

	if (fd == -1 || fsync(fd) == -1)
		die(path);
	close(fd);
}

static void
name_of(char *out, size_t size, const char *dir, uint64_t number)
{

	snprintf(out, size, "%s/%05" PRIu64 "/%08" PRIu64, dir, number / PER_FOLDER, number);
}

static uint64_t
synced(const char *dir)
{
	char path[4096], line[64];
	uint64_t number = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/log", dir);
	if ((f = fopen(path, "r")) == NULL)
		return (0);
	while (fgets(line, sizeof(line), f) != NULL)
		if (strchr(line, '\n') != NULL)		/* the last line may be half there */
			number = strtoull(line, NULL, 10);
	fclose(f);
	return (number);
}

static void
write_file(const char *dir, uint64_t number)
{
	static struct file f;
	char path[4096], folder[4096];
	uint64_t i;
	int fd;

	memcpy(f.magic, MAGIC, sizeof(f.magic));
	f.number = number;
	f.words = next_random() % MAX_WORDS + 1;
	for (i = 0; i < f.words; i++)
		f.content[i] = next_random();
	f.sum = sum_of(&f);
	name_of(path, sizeof(path), dir, number);
	snprintf(folder, sizeof(folder), "%s/%05" PRIu64, dir, number / PER_FOLDER);
	if (mkdir(folder, 0755) == 0)
		sync_folder(dir);
	else if (errno != EEXIST)
		die(folder);
	if ((fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644)) == -1)
		die(path);
	write_all(fd, &f, HEADER + f.words * sizeof(f.content[0]), path);
	if (fsync(fd) == -1)
		die(path);
	close(fd);
	sync_folder(folder);
}

static _Noreturn void
run(const char *dir)
{
	char path[4096];
	uint64_t number;
	int log;

	mkdir(dir, 0755);
	snprintf(path, sizeof(path), "%s/log", dir);
	number = synced(dir);
	if ((log = open(path, O_WRONLY | O_CREAT | O_APPEND, 0644)) == -1)
		die(path);
	for (;;) {
		write_file(dir, ++number);
		dprintf(log, "%" PRIu64 "\n", number);
		if (fdatasync(log) == -1)
			die(path);
	}
}

/* 1 good, 0 missing, -1 bad. */
static int
look_at(const char *dir, uint64_t number)
{
	static struct file f;
	char path[4096];
	ssize_t n;
	int fd;

	name_of(path, sizeof(path), dir, number);
	if ((fd = open(path, O_RDONLY)) == -1)
		return (errno == ENOENT ? 0 : -1);
	n = read(fd, &f, sizeof(f));
	close(fd);
	if (n < (ssize_t)HEADER || memcmp(f.magic, MAGIC, sizeof(f.magic)) != 0 || f.number != number || f.words > MAX_WORDS ||
	    (size_t)n != HEADER + f.words * sizeof(f.content[0]) || f.sum != sum_of(&f))
		return (-1);
	return (1);
}

static int
check(const char *dir, uint64_t wanted)
{
	uint64_t number, last = synced(dir), files = 0, bad = 0, missing = 0;
	int found;

	if (last < wanted)
		last = wanted;
	for (number = 1; number <= last; number++) {
		found = look_at(dir, number);
		files += found == 1;
		bad += found == -1;
		missing += found == 0;
		if (found != 1 && bad + missing < 10)
			fprintf(stderr, "writer: %s: file %" PRIu64 " is %s\n", dir, number, found == 0 ? "missing" : "bad");
	}
	printf("files %" PRIu64 " bad %" PRIu64 " missing %" PRIu64 "\n", files, bad, missing);
	return (bad + missing != 0);
}

static _Noreturn void
mark(char **devices)
{
	uint64_t *sector, number;
	int fds[2], i;

	if ((sector = aligned_alloc(SECTOR, SECTOR)) == NULL)
		die("memory");
	memset(sector, 0, SECTOR);
	for (i = 0; i < 2; i++)
		if ((fds[i] = open(devices[i], O_WRONLY | O_DIRECT | O_SYNC)) == -1)
			die(devices[i]);
	for (number = 1;; number++) {
		sector[0] = number;
		for (i = 0; i < 2; i++)
			if (pwrite(fds[i], sector, SECTOR, 0) != SECTOR)
				die(devices[i]);
	}
}

static int
marks(char **devices)
{
	uint64_t number;
	int fd, i;

	for (i = 0; i < 2; i++) {
		if ((fd = open(devices[i], O_RDONLY)) == -1 || read(fd, &number, sizeof(number)) != sizeof(number))
			die(devices[i]);
		printf("%" PRIu64 "%s", number, i == 0 ? " " : "\n");
		close(fd);
	}
	return (0);
}

static _Noreturn void
fill(const char *path, uint64_t size, uint64_t rate)
{
	static uint64_t chunk[CHUNK / sizeof(uint64_t)];
	uint64_t at;
	size_t i;
	int fd;

	if ((fd = open(path, O_WRONLY | O_CREAT, 0644)) == -1)
		die(path);
	for (;;) {
		for (at = 0; at + CHUNK <= size; at += CHUNK) {
			for (i = 0; i < CHUNK / sizeof(uint64_t); i += 64)	/* enough that no two blocks are alike */
				chunk[i] = next_random();
			if (pwrite(fd, chunk, CHUNK, (off_t)at) != CHUNK)
				die(path);
			if (at % (4 * CHUNK) == 0 && fdatasync(fd) == -1)
				die(path);
			if (rate != 0)
				usleep((useconds_t)(1e6 * CHUNK / (double)rate));
		}
		if (fdatasync(fd) == -1)
			die(path);
	}
}

int
main(int argc, char **argv)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	seed = (uint64_t)now.tv_nsec * 0x9e3779b97f4a7c15u + (uint64_t)now.tv_sec + 1;
	if (argc == 3 && strcmp(argv[1], "run") == 0)
		run(argv[2]);
	if (argc == 3 && strcmp(argv[1], "synced") == 0)
		return (printf("%" PRIu64 "\n", synced(argv[2])) < 0);
	if (argc >= 3 && strcmp(argv[1], "check") == 0)
		return (check(argv[2], argc > 3 ? strtoull(argv[3], NULL, 10) : 0));
	if (argc == 4 && strcmp(argv[1], "mark") == 0)
		mark(argv + 2);
	if (argc == 4 && strcmp(argv[1], "marks") == 0)
		return (marks(argv + 2));
	if (argc >= 4 && strcmp(argv[1], "fill") == 0)
		fill(argv[2], strtoull(argv[3], NULL, 10), argc > 4 ? strtoull(argv[4], NULL, 10) : 0);
	fprintf(stderr, "usage: see the head of writer.c\n");
	return (2);
}
