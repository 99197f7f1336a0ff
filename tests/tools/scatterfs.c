/*
 * scatterfs: one huge image with very many small extents, which takes no room.
 *
 * A read-only FUSE file system with the one file "image.img", of which nothing is stored: where its extents are and what they hold are functions of
 * their number.  There is one extent of 8 KiB in each of --count equal parts of the image, at a place of its own, across a multiple of 64 KiB: as
 * blocks do not cross those, an index has two records for it.  Its bytes are never zero, and compress well.  With each generation a share of the
 * blocks of 4 KiB gets other bytes.
 */
#define FUSE_USE_VERSION 35

#include <errno.h>
#include <fuse_lowlevel.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCK		4096u
#define EXTENT		(2 * BLOCK)
#define WINDOW		65536u
#define READ_MAX	(1u << 20)
#define NAME		"image.img"
#define INODE		2u
#define CACHED		3600.0		/* seconds: nothing changes as long as it is mounted */

/* Set once by the command line. */
static struct {
	uint64_t size, count, part;	/* bytes, extents, bytes of the image for each of them */
	uint64_t generation, changed;	/* ... blocks in a million differ from the generation before */
} fs = { .size = UINT64_C(15) << 40, .count = 1 << 20, .changed = 1000 };

static uint8_t buffer[READ_MAX];	/* the loop has one thread */

/* splitmix64's finisher: every bit of ${v} counts. */
static uint64_t
mix(uint64_t v)
{
	v = (v ^ (v >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	v = (v ^ (v >> 27)) * UINT64_C(0x94d049bb133111eb);
	return (v ^ (v >> 31));
}

/* Of the extent ${n}, within its part: so there is a hole before the next. */
static uint64_t
begin_of(uint64_t n)
{
	return (n * fs.part + (1 + mix(n + 1) % (fs.part / WINDOW - 1)) * WINDOW - BLOCK);
}

/* The generation in which the block ${b} changed last: an extent ${n} has the blocks 2n and 2n + 1. */
static uint64_t
version_of(uint64_t b)
{
	uint64_t g = fs.generation;

	while (g > 0 && mix(mix(b + 1) + g) % 1000000 >= fs.changed)
		g--;
	return (g);
}

static void
fill_block(uint64_t b, uint8_t *p)
{
	uint64_t v = mix(mix(b + 1) ^ (version_of(b) << 32)) | 1;

	memset(p, (int)(1 + v % 255), BLOCK);
	memcpy(p, &v, sizeof(v));
}

/* ${p} gets what is at ${offset}, which is a multiple of a block's size, as is ${n}. */
static void
fill(uint8_t *p, size_t n, uint64_t offset)
{
	uint64_t end = offset + n, i = offset / fs.part, at;

	memset(p, 0, n);
	for (; i < fs.count && (at = begin_of(i)) < end; i++) {
		if (at >= offset)
			fill_block(2 * i, p + (at - offset));
		if (at + BLOCK >= offset && at + BLOCK < end)
			fill_block(2 * i + 1, p + (at + BLOCK - offset));
	}
}

static struct stat
attributes(fuse_ino_t ino)
{
	struct stat st = { .st_ino = ino, .st_nlink = 1, .st_blksize = BLOCK };

	st.st_mtime = st.st_ctime = (time_t)(1000000000 + fs.generation);
	st.st_mode = S_IFDIR | 0555;
	if (ino == INODE) {
		st.st_mode = S_IFREG | 0444;
		st.st_size = (off_t)fs.size;
		st.st_blocks = (blkcnt_t)(fs.count * (EXTENT / 512));
	}
	return (st);
}

static void
fs_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e = { .ino = INODE, .attr = attributes(INODE), .attr_timeout = CACHED, .entry_timeout = CACHED };

	if (parent != FUSE_ROOT_ID || strcmp(name, NAME) != 0)
		fuse_reply_err(req, ENOENT);
	else
		fuse_reply_entry(req, &e);
}

static void
fs_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st = attributes(ino);

	(void)fi;
	fuse_reply_attr(req, &st, CACHED);
}

static void
fs_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct stat st = attributes(INODE);
	char entry[256];
	size_t n = 0;

	(void)ino;
	(void)fi;
	if (off == 0)
		n = fuse_add_direntry(req, entry, sizeof(entry), NAME, &st, 1);
	fuse_reply_buf(req, entry, n <= size ? n : 0);
}

static void
fs_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	if (ino != INODE) {
		fuse_reply_err(req, EISDIR);
	} else if ((fi->flags & O_ACCMODE) != O_RDONLY) {
		fuse_reply_err(req, EROFS);
	} else {
		fi->direct_io = 1;	/* no read-ahead into holes */
		fuse_reply_open(req, fi);
	}
}

static void
fs_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	uint64_t at = (uint64_t)off, begin = at - at % BLOCK, end;

	(void)ino;
	(void)fi;
	if (at >= fs.size) {
		fuse_reply_buf(req, NULL, 0);
		return;
	}
	end = size < fs.size - at ? at + size : fs.size;
	if (end > begin + READ_MAX)
		end = begin + READ_MAX;
	fill(buffer, (size_t)((end - begin + BLOCK - 1) / BLOCK * BLOCK), begin);
	fuse_reply_buf(req, (const char *)buffer + (at - begin), (size_t)(end - at));
}

static void
fs_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
	uint64_t at = (uint64_t)off, i = at / fs.part, begin;

	(void)ino;
	(void)fi;
	if (at >= fs.size) {
		fuse_reply_err(req, ENXIO);
		return;
	}
	if (i < fs.count && at >= begin_of(i) + EXTENT)
		i++;
	begin = i < fs.count ? begin_of(i) : fs.size;
	if (whence == SEEK_HOLE)
		fuse_reply_lseek(req, (off_t)(at >= begin ? begin + EXTENT : at));
	else if (begin == fs.size)
		fuse_reply_err(req, ENXIO);
	else
		fuse_reply_lseek(req, (off_t)(at >= begin ? at : begin));
}

static const struct fuse_lowlevel_ops ops = {
	.lookup = fs_lookup, .getattr = fs_getattr, .readdir = fs_readdir, .open = fs_open, .read = fs_read, .lseek = fs_lseek,
};

static void
usage(FILE *out)
{
	fputs("usage: scatterfs [options] MOUNTPOINT\n"
	    "  -f, --foreground    stay in the foreground (else return once mounted)\n"
	    "  --size BYTES        of the image (15 TiB)\n"
	    "  --count EXTENTS     that it has (1048576)\n"
	    "  --generation N      which version of it is shown (0)\n"
	    "  --changed N         of a million blocks, so many differ from the generation before (1000)\n"
	    "SIGTERM unmounts and ends.\n", out);
}

static uint64_t
number(const char *s)
{
	uint64_t v;
	char *end;

	errno = 0;
	v = strtoull(s, &end, 10);
	if (errno != 0 || end == s || *end != '\0' || v > INT64_MAX) {
		fprintf(stderr, "scatterfs: %s: not a number\n", s);
		exit(2);
	}
	return (v);
}

static int
parse_options(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "foreground", no_argument, NULL, 'f' },
		{ "help", no_argument, NULL, 'h' },
		{ "size", required_argument, NULL, 's' },
		{ "count", required_argument, NULL, 'n' },
		{ "generation", required_argument, NULL, 'g' },
		{ "changed", required_argument, NULL, 'c' },
		{ NULL, 0, NULL, 0 }
	};
	int c, foreground = 0;

	while ((c = getopt_long(argc, argv, "fh", longs, NULL)) != -1) {
		if (c == 'f') {
			foreground = 1;
		} else if (c == 's') {
			fs.size = number(optarg);
		} else if (c == 'n') {
			fs.count = number(optarg);
		} else if (c == 'g') {
			fs.generation = number(optarg);
		} else if (c == 'c') {
			fs.changed = number(optarg);
		} else {
			usage(c == 'h' ? stdout : stderr);
			exit(c == 'h' ? 0 : 2);
		}
	}
	if (fs.count > 0)
		fs.part = fs.size / fs.count / WINDOW * WINDOW;
	if (argc - optind != 1 || fs.part < 2 * WINDOW) {
		usage(stderr);
		exit(2);
	}
	return (foreground);
}

static int
serve(struct fuse_args *args, const char *mountpoint, int foreground)
{
	struct fuse_session *se = fuse_session_new(args, &ops, sizeof(ops), NULL);
	int rc = 1;

	if (se == NULL)
		return (1);
	if (fuse_set_signal_handlers(se) == -1)
		goto destroy;
	if (fuse_session_mount(se, mountpoint) == -1)
		goto handlers;
	if (fuse_daemonize(foreground) == 0)
		rc = fuse_session_loop(se) < 0 ? 1 : 0;
	fuse_session_unmount(se);
handlers:
	fuse_remove_signal_handlers(se);
destroy:
	fuse_session_destroy(se);
	return (rc);
}

int
main(int argc, char **argv)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	char *mountpoint;
	int foreground, rc;

	foreground = parse_options(argc, argv);
	if (fuse_opt_add_arg(&args, "scatterfs") == -1 || fuse_opt_add_arg(&args, "-ofsname=scatterfs,subtype=scatterfs,ro") == -1)
		return (1);
	/* The loop runs in another current folder, and has to find this again to unmount it. */
	if ((mountpoint = realpath(argv[optind], NULL)) == NULL) {
		fprintf(stderr, "scatterfs: %s: %s\n", argv[optind], strerror(errno));
		return (2);
	}
	rc = serve(&args, mountpoint, foreground);
	free(mountpoint);
	fuse_opt_free_args(&args);
	return (rc);
}
