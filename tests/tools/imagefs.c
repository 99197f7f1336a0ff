/*
 * imagefs: a folder seen through storage that behaves badly.
 *
 * A FUSE pass-through of one folder which can lose its holes, fail at chosen places, fill up, be slow, and cut or lengthen
 * a file while it is being read.  Programs under test need no special build, and the faults are exact, because reads and
 * writes come here just as the program issued them: unless --cached is given, any option that counts or looks at reads and
 * writes bypasses the page cache (direct I/O).  Private mappings work all the same; shared ones need --cached.
 *
 * Faults concern every file below the mount point, or those whose last name matches --match.  SIGUSR1 heals all faults.
 */
#define FUSE_USE_VERSION 31

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <fuse.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define EIO_MAX	16

/* How many bytes were read from one underlying file, over all of its opens. */
struct seen {
	dev_t dev;
	ino_t ino;
	off_t nread;
	int resized;
	struct seen *next;
};

struct range {
	off_t start;
	off_t len;
};

/* Set once by the command line, but for what the counters say. */
static struct {
	int root;		/* the source folder */
	int log;		/* -1: none */
	int no_holes;
	int cached;
	int slow_ms;
	struct range eio[EIO_MAX];
	int neio;
	off_t eio_write;	/* -1: never */
	off_t space;		/* bytes that may still be written; -1: no limit */
	off_t resize_after;	/* -1: never */
	off_t resize_to;
	const char *match;
	struct seen *seen;
} fs = { .root = -1, .log = -1, .eio_write = -1, .space = -1, .resize_after = -1 };

static volatile sig_atomic_t healed;

static const char *
rel(const char *path)
{

	return (path[1] != '\0' ? path + 1 : ".");
}

static int
result(int rc)
{

	return (rc == -1 ? -errno : 0);
}

static int
fd_of(const struct fuse_file_info *fi)
{

	return ((int)fi->fh);
}

/* Whether faults concern this file, now. */
static int
faulty(const char *path)
{

	return (!healed && (fs.match == NULL || fnmatch(fs.match, strrchr(path, '/') + 1, 0) == 0));
}

static void
log_io(const char *what, const char *path, off_t off, size_t asked, ssize_t rc)
{

	if (fs.log == -1)
		return;
	if (rc >= 0)
		dprintf(fs.log, "%s %s %jd %zd\n", what, rel(path), (intmax_t)off, rc);
	else
		dprintf(fs.log, "%s %s %jd %zu error %zd\n", what, rel(path), (intmax_t)off, asked, -rc);
}

/* Attributes and the tree. */

static int
fs_getattr(const char *path, struct stat *st, struct fuse_file_info *fi)
{

	if (fi != NULL)
		return (result(fstat(fd_of(fi), st)));
	return (result(fstatat(fs.root, rel(path), st, AT_SYMLINK_NOFOLLOW)));
}

static int
fs_readlink(const char *path, char *buf, size_t size)
{
	ssize_t n;

	if ((n = readlinkat(fs.root, rel(path), buf, size - 1)) == -1)
		return (-errno);
	buf[n] = '\0';
	return (0);
}

static int
fs_readdir(const char *path, void *buf, fuse_fill_dir_t fill, off_t off, struct fuse_file_info *fi,
    enum fuse_readdir_flags flags)
{
	struct dirent *de;
	struct stat st;
	DIR *dir;
	int fd;

	(void)off;
	(void)fi;
	(void)flags;
	if ((fd = openat(fs.root, rel(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) == -1)
		return (-errno);
	if ((dir = fdopendir(fd)) == NULL) {
		close(fd);
		return (-ENOMEM);
	}
	while ((de = readdir(dir)) != NULL) {
		memset(&st, 0, sizeof(st));
		st.st_ino = de->d_ino;
		st.st_mode = DTTOIF(de->d_type);
		if (fill(buf, de->d_name, &st, 0, 0) != 0)
			break;
	}
	closedir(dir);
	return (0);
}

static int
fs_mkdir(const char *path, mode_t mode)
{

	return (result(mkdirat(fs.root, rel(path), mode)));
}

static int
fs_rmdir(const char *path)
{

	return (result(unlinkat(fs.root, rel(path), AT_REMOVEDIR)));
}

static int
fs_unlink(const char *path)
{

	return (result(unlinkat(fs.root, rel(path), 0)));
}

static int
fs_rename(const char *from, const char *to, unsigned int flags)
{

	return (result(renameat2(fs.root, rel(from), fs.root, rel(to), flags)));
}

static int
fs_link(const char *from, const char *to)
{

	return (result(linkat(fs.root, rel(from), fs.root, rel(to), 0)));
}

static int
fs_chmod(const char *path, mode_t mode, struct fuse_file_info *fi)
{

	if (fi != NULL)
		return (result(fchmod(fd_of(fi), mode)));
	return (result(fchmodat(fs.root, rel(path), mode, 0)));
}

static int
fs_chown(const char *path, uid_t uid, gid_t gid, struct fuse_file_info *fi)
{

	(void)fi;
	return (result(fchownat(fs.root, rel(path), uid, gid, AT_SYMLINK_NOFOLLOW)));
}

static int
fs_utimens(const char *path, const struct timespec tv[2], struct fuse_file_info *fi)
{

	if (fi != NULL)
		return (result(futimens(fd_of(fi), tv)));
	return (result(utimensat(fs.root, rel(path), tv, AT_SYMLINK_NOFOLLOW)));
}

static int
fs_truncate(const char *path, off_t size, struct fuse_file_info *fi)
{
	int fd, rc;

	if (fi != NULL)
		return (result(ftruncate(fd_of(fi), size)));
	if ((fd = openat(fs.root, rel(path), O_WRONLY | O_CLOEXEC)) == -1)
		return (-errno);
	rc = result(ftruncate(fd, size));
	close(fd);
	return (rc);
}

static int
fs_statfs(const char *path, struct statvfs *sv)
{
	fsblkcnt_t left;

	(void)path;
	if (fstatvfs(fs.root, sv) == -1)
		return (-errno);
	if (fs.space != -1 && !healed) {
		left = (fsblkcnt_t)fs.space / sv->f_frsize;
		sv->f_bavail = left < sv->f_bavail ? left : sv->f_bavail;
		sv->f_bfree = left < sv->f_bfree ? left : sv->f_bfree;
	}
	return (0);
}

static int
fs_fsyncdir(const char *path, int datasync, struct fuse_file_info *fi)
{
	int fd, rc;

	(void)datasync;
	(void)fi;
	if ((fd = openat(fs.root, rel(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) == -1)
		return (-errno);
	rc = result(fsync(fd));
	close(fd);
	return (rc);
}

/* Open files. */

static struct seen *
seen_find(int fd)
{
	struct stat st;
	struct seen *s;

	if (fstat(fd, &st) == -1)
		return (NULL);
	for (s = fs.seen; s != NULL; s = s->next)
		if (s->dev == st.st_dev && s->ino == st.st_ino)
			return (s);
	if ((s = calloc(1, sizeof(*s))) == NULL)
		return (NULL);
	s->dev = st.st_dev;
	s->ino = st.st_ino;
	s->next = fs.seen;
	fs.seen = s;
	return (s);
}

/* An inode number that is used again stands for another file. */
static void
seen_forget(int fd)
{
	struct seen *s;

	if (fs.resize_after != -1 && (s = seen_find(fd)) != NULL)
		s->nread = s->resized = 0;
}

/* Whether reads and writes must come here exactly as they were issued. */
static int
exact(void)
{

	return (!fs.cached && (fs.neio > 0 || fs.eio_write != -1 || fs.space != -1 || fs.resize_after != -1 || fs.log != -1 ||
	    fs.slow_ms > 0));
}

static int
open_common(const char *path, mode_t mode, int fresh, struct fuse_file_info *fi)
{
	int fd, flags;

	/* The kernel has worked out the offset of an append, and FUSE's buffers are not aligned for O_DIRECT. */
	flags = (fi->flags & ~(O_APPEND | O_DIRECT)) | O_CLOEXEC | (fresh ? O_CREAT : 0);
	if ((fd = openat(fs.root, rel(path), flags, mode)) == -1)
		return (-errno);
	if (fresh)
		seen_forget(fd);
	fi->fh = (uint64_t)fd;
	fi->direct_io = exact() ? 1 : 0;
	return (0);
}

static int
fs_open(const char *path, struct fuse_file_info *fi)
{

	return (open_common(path, 0, 0, fi));
}

static int
fs_create(const char *path, mode_t mode, struct fuse_file_info *fi)
{

	return (open_common(path, mode, 1, fi));
}

static int
fs_release(const char *path, struct fuse_file_info *fi)
{

	(void)path;
	close(fd_of(fi));
	return (0);
}

static int
touches_eio(off_t off, size_t size)
{
	int i;

	for (i = 0; i < fs.neio; i++)
		if (off < fs.eio[i].start + fs.eio[i].len && off + (off_t)size > fs.eio[i].start)
			return (1);
	return (0);
}

/* The data of the read that reaches the mark is still whole: only what follows sees the new size. */
static void
count_read(const char *path, int readfd, ssize_t n)
{
	struct seen *s;
	int fd;

	if (fs.resize_after == -1 || (s = seen_find(readfd)) == NULL)
		return;
	s->nread += n;
	if (s->resized || s->nread < fs.resize_after)
		return;
	s->resized = 1;
	if ((fd = openat(fs.root, rel(path), O_WRONLY | O_CLOEXEC)) == -1)
		return;
	if (ftruncate(fd, fs.resize_to) == 0 && fs.log != -1)
		dprintf(fs.log, "resize %s %jd\n", rel(path), (intmax_t)fs.resize_to);
	close(fd);
}

static int
fs_read(const char *path, char *buf, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct timespec ts = { fs.slow_ms / 1000, fs.slow_ms % 1000 * 1000000L };
	int bad = faulty(path);
	ssize_t n;

	if (bad && fs.slow_ms > 0)
		nanosleep(&ts, NULL);
	if (bad && touches_eio(off, size))
		n = -EIO;
	else if ((n = pread(fd_of(fi), buf, size, off)) == -1)
		n = -errno;
	log_io("read", path, off, size, n);
	if (n > 0 && bad)
		count_read(path, fd_of(fi), n);
	return ((int)n);
}

static int
fs_write(const char *path, const char *buf, size_t size, off_t off, struct fuse_file_info *fi)
{
	int bad = faulty(path);
	size_t len = size;
	ssize_t n;

	/* Like a real full disk: what fits is written, and the next write fails. */
	if (bad && fs.space != -1 && (off_t)len > fs.space)
		len = (size_t)fs.space;
	if (bad && fs.eio_write != -1 && off + (off_t)size > fs.eio_write)
		n = -EIO;
	else if (size > 0 && len == 0)
		n = -ENOSPC;
	else if ((n = pwrite(fd_of(fi), buf, len, off)) == -1)
		n = -errno;
	if (n > 0 && bad && fs.space != -1)
		fs.space -= n;
	log_io("write", path, off, size, n);
	return ((int)n);
}

static int
fs_fallocate(const char *path, int mode, off_t off, off_t len, struct fuse_file_info *fi)
{

	if (fs.no_holes && mode != 0)
		return (-EOPNOTSUPP);
	if (mode == 0 && faulty(path) && fs.space != -1 && len > fs.space)
		return (-ENOSPC);
	return (result(fallocate(fd_of(fi), mode, off, len)));
}

static off_t
fs_lseek(const char *path, off_t off, int whence, struct fuse_file_info *fi)
{
	off_t pos;

	(void)path;
	/* At this answer the kernel stops asking and takes the whole file for data, as it does for NFSv3. */
	if (fs.no_holes)
		return (-ENOSYS);
	if ((pos = lseek(fd_of(fi), off, whence)) == -1)
		return (-errno);
	return (pos);
}

static int
fs_fsync(const char *path, int datasync, struct fuse_file_info *fi)
{

	(void)path;
	return (result(datasync ? fdatasync(fd_of(fi)) : fsync(fd_of(fi))));
}

static void *
fs_init(struct fuse_conn_info *conn, struct fuse_config *cfg)
{

	(void)conn;
	cfg->use_ino = 1;
	cfg->attr_timeout = 0;		/* sizes change behind the kernel's back */
	cfg->entry_timeout = 0;
	cfg->negative_timeout = 0;
	return (NULL);
}

static const struct fuse_operations ops = {
	.init = fs_init,
	.getattr = fs_getattr,
	.readlink = fs_readlink,
	.readdir = fs_readdir,
	.mkdir = fs_mkdir,
	.rmdir = fs_rmdir,
	.unlink = fs_unlink,
	.rename = fs_rename,
	.link = fs_link,
	.chmod = fs_chmod,
	.chown = fs_chown,
	.utimens = fs_utimens,
	.truncate = fs_truncate,
	.statfs = fs_statfs,
	.fsyncdir = fs_fsyncdir,
	.open = fs_open,
	.create = fs_create,
	.release = fs_release,
	.read = fs_read,
	.write = fs_write,
	.fallocate = fs_fallocate,
	.lseek = fs_lseek,
	.fsync = fs_fsync,
};

/* The program. */

static void
heal(int sig)
{

	(void)sig;
	healed = 1;
}

static void
usage(FILE *out)
{

	fputs("usage: imagefs [options] SOURCE-DIR MOUNTPOINT\n"
	    "  -f, --foreground           stay in the foreground (else return once mounted)\n"
	    "  -o OPTIONS                 mount options for FUSE\n"
	    "  --no-holes                 cannot tell data from holes\n"
	    "  --eio OFFSET:LENGTH        a read that touches this fails with EIO (up to 16 times)\n"
	    "  --eio-write OFFSET         a write that reaches beyond OFFSET fails with EIO\n"
	    "  --enospc-after BYTES       the disk is full after so many bytes written\n"
	    "  --shrink-after BYTES:SIZE  cut a file to SIZE when so many bytes of it were read\n"
	    "  --grow-after BYTES:SIZE    lengthen it likewise\n"
	    "  --slow MS                  each read takes so much longer\n"
	    "  --log FILE                 append a line 'read|write NAME OFFSET LENGTH' for each call\n"
	    "  --match GLOB               faults only for files so named\n"
	    "  --cached                   keep the kernel's page cache whatever the options\n"
	    "SIGUSR1 heals all faults; SIGTERM unmounts and ends.\n", out);
}

static void
die(const char *what, const char *arg)
{

	fprintf(stderr, "imagefs: %s: %s\n", arg, what);
	exit(2);
}

/* "A" when ${second} is NULL, "A:B" otherwise. */
static void
parse_numbers(const char *s, off_t *first, off_t *second)
{
	intmax_t v;
	char *end;

	errno = 0;
	v = strtoimax(s, &end, 10);
	*first = (off_t)v;
	if (errno == 0 && end != s && v >= 0 && second != NULL && *end == ':') {
		s = end + 1;
		v = strtoimax(s, &end, 10);
		*second = (off_t)v;
		second = NULL;
	}
	if (errno != 0 || end == s || v < 0 || *end != '\0' || second != NULL)
		die("not the numbers expected here", s);
}

static void
parse_option(int c, const char *arg)
{
	off_t ms;

	switch (c) {
	case 'e':
		if (fs.neio == EIO_MAX)
			die("too many --eio", arg);
		parse_numbers(arg, &fs.eio[fs.neio].start, &fs.eio[fs.neio].len);
		fs.neio++;
		break;
	case 'w':
		parse_numbers(arg, &fs.eio_write, NULL);
		break;
	case 'n':
		parse_numbers(arg, &fs.space, NULL);
		break;
	case 'r':
		parse_numbers(arg, &fs.resize_after, &fs.resize_to);
		break;
	case 's':
		parse_numbers(arg, &ms, NULL);
		fs.slow_ms = ms > 3600000 ? 3600000 : (int)ms;
		break;
	case 'l':
		/* Now, as the background process has another current folder. */
		if ((fs.log = open(arg, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666)) == -1)
			die(strerror(errno), arg);
		break;
	case 'm':
		fs.match = arg;
		break;
	default:
		usage(stderr);
		exit(2);
	}
}

static int
parse_options(int argc, char **argv, struct fuse_args *args)
{
	int foreground = 0;
	static const struct option longs[] = {
		{ "foreground", no_argument, NULL, 'f' },
		{ "help", no_argument, NULL, 'h' },
		{ "no-holes", no_argument, &fs.no_holes, 1 },
		{ "cached", no_argument, &fs.cached, 1 },
		{ "eio", required_argument, NULL, 'e' },
		{ "eio-write", required_argument, NULL, 'w' },
		{ "enospc-after", required_argument, NULL, 'n' },
		{ "shrink-after", required_argument, NULL, 'r' },
		{ "grow-after", required_argument, NULL, 'r' },
		{ "slow", required_argument, NULL, 's' },
		{ "log", required_argument, NULL, 'l' },
		{ "match", required_argument, NULL, 'm' },
		{ NULL, 0, NULL, 0 }
	};
	int c;

	while ((c = getopt_long(argc, argv, "fho:", longs, NULL)) != -1) {
		if (c == 'f') {
			foreground = 1;
		} else if (c == 'h') {
			usage(stdout);
			exit(0);
		} else if (c == 'o') {
			if (fuse_opt_add_arg(args, "-o") == -1 || fuse_opt_add_arg(args, optarg) == -1)
				die("out of memory", optarg);
		} else if (c != 0) {
			parse_option(c, optarg);
		}
	}
	return (foreground);
}

/* The handlers come before the mount, so that no signal finds it without them. */
static int
serve(struct fuse_args *args, const char *mountpoint, int foreground)
{
	struct sigaction sa = { .sa_handler = heal };
	struct fuse *f;
	int rc = 1;

	if ((f = fuse_new(args, &ops, sizeof(ops), NULL)) == NULL)
		return (1);
	sigaction(SIGUSR1, &sa, NULL);
	if (fuse_set_signal_handlers(fuse_get_session(f)) == -1)
		goto destroy;
	if (fuse_mount(f, mountpoint) == -1)
		goto handlers;
	if (fuse_daemonize(foreground) == 0)
		rc = fuse_loop(f) < 0 ? 1 : 0;
	fuse_unmount(f);
handlers:
	fuse_remove_signal_handlers(fuse_get_session(f));
destroy:
	fuse_destroy(f);
	return (rc);
}

int
main(int argc, char **argv)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	char mountpoint[PATH_MAX];
	struct seen *s;
	int foreground, rc;

	if (fuse_opt_add_arg(&args, "imagefs") == -1 || fuse_opt_add_arg(&args, "-ofsname=imagefs,subtype=imagefs") == -1 ||
	    (geteuid() == 0 && fuse_opt_add_arg(&args, "-oallow_other,default_permissions") == -1))
		die("out of memory", "options");
	foreground = parse_options(argc, argv, &args);
	if (argc - optind != 2) {
		usage(stderr);
		fuse_opt_free_args(&args);
		return (2);
	}
	if ((fs.root = open(argv[optind], O_RDONLY | O_DIRECTORY | O_CLOEXEC)) == -1)
		die(strerror(errno), argv[optind]);
	/* The loop runs in another current folder, and has to find this again to unmount it. */
	if (realpath(argv[optind + 1], mountpoint) == NULL)
		die(strerror(errno), argv[optind + 1]);
	umask(0);	/* the caller's is in the modes already */
	rc = serve(&args, mountpoint, foreground);
	fuse_opt_free_args(&args);
	while ((s = fs.seen) != NULL) {
		fs.seen = s->next;
		free(s);
	}
	return (rc);
}
