/*
 * preload_die: die, or fail, at the n-th step that changes what is on disk (for LD_PRELOAD).
 *
 * A step is a call, whatever its outcome, of: open with O_CREAT, mkdir, link, rename, unlink, rmdir, fsync, fdatasync or
 * ftruncate, in all their variants (creat, fopen for writing, mkstemp, openat, renameat2, 64-bit, fortified ...), and of write
 * in its variants when PRELOAD_WRITES=1.  Steps are numbered from 1.  What the C library does within itself (the writes of
 * stdio) and raw system calls are not seen.
 *
 *   DIE_AT=n        SIGKILL before step n
 *   DIE_AFTER=n     SIGKILL right after step n
 *   FAIL_AT=n       step n is not done and fails with FAIL_ERRNO (a number; EIO when unset);
 *   FAIL_COUNT=k    so do the k - 1 steps after it (default 1; 0: all that follow, as on a disk that stays full)
 *   DIE_UNDER=DIR   only steps that name something in this folder, or the folder itself, are steps
 *   STEP_LOG=FILE   append "n call path [-> path]" for each step, before it is done
 *   STEP_COUNTER=FILE  share one count among all processes that name this file (else each process counts its own); only that
 *                   process dies which takes the deadly step
 *
 * The calls are logged as open, mkdir, link, rename, unlink, rmdir, fsync, fdatasync, ftruncate and write, so that a program
 * may go from rename() to renameat2() without a change to its tests.  Threads: any; the count is atomic.
 */
#undef _FORTIFY_SOURCE	/* its inline functions would stand in the way of ours */

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define NO_FD	(-1)
#define PATH_SIZE	(PATH_MAX + NAME_MAX)

/* Read from the environment before main(), not changed afterwards. */
static struct {
	long die_at;
	long die_after;
	long fail_at;
	long fail_count;
	int fail_errno;
	int writes;
	int ready;		/* other libraries' constructors may run before ours */
	char log[PATH_SIZE];	/* opened anew for each line, as daemons close what they did not open */
	char under[PATH_SIZE];
} cfg = { .fail_count = 1, .fail_errno = EIO };

static atomic_long own_count;
static atomic_long *count = &own_count;		/* or a shared mapping of STEP_COUNTER */

/* Where a step's name comes from: a path below a folder, or (path NULL) an open file. */
struct place {
	int fd;
	const char *path;
};

/* The C library's own functions, found ahead of use because dlsym() is not safe in the child of a threaded process. */
#define FUNCTIONS(X) \
	X(open) X(open64) X(openat) X(openat64) X(creat) X(creat64) X(fopen) X(fopen64) \
	X(mkstemp) X(mkstemp64) X(mkostemp) X(mkostemp64) X(mkstemps) X(mkostemps) X(mkdtemp) \
	X(mkdir) X(mkdirat) X(link) X(linkat) X(rename) X(renameat) X(renameat2) \
	X(unlink) X(unlinkat) X(remove) X(rmdir) X(fsync) X(fdatasync) X(ftruncate) X(ftruncate64) \
	X(write) X(pwrite) X(pwrite64) X(writev) X(pwritev) X(pwritev64) X(pwritev2) X(pwritev64v2)
#define INDEX(fn)	FN_##fn,
#define NAME(fn)	#fn,
enum { FUNCTIONS(INDEX) FN_COUNT };
static const char *const names[] = { FUNCTIONS(NAME) };
static void *_Atomic found[FN_COUNT];
#define REAL(fn)	((__typeof__(&fn))real_function(FN_##fn))

/* Not declared by the headers unless fortified. */
int __open_2(const char *, int);
int __open64_2(const char *, int);
int __openat_2(int, const char *, int);
int __openat64_2(int, const char *, int);

static void *
real_function(int i)
{
	void *p = atomic_load_explicit(&found[i], memory_order_relaxed);

	if (p == NULL) {
		p = dlsym(RTLD_NEXT, names[i]);
		atomic_store_explicit(&found[i], p, memory_order_relaxed);
	}
	return (p);
}

/* Raw calls, as the library's own must not be counted. */
static int
raw_open(const char *path, int flags)
{

	return ((int)syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, 0666));
}

static long
env_number(const char *name, long otherwise)
{
	const char *s = getenv(name);

	return (s != NULL && *s != '\0' ? strtol(s, NULL, 10) : otherwise);
}

static void
share_count(const char *path)
{
	void *p;
	int fd;

	if ((fd = raw_open(path, O_RDWR | O_CREAT)) == -1)
		abort();
	if (syscall(SYS_ftruncate, fd, (long)sizeof(*count)) == -1)
		abort();
	if ((p = mmap(NULL, sizeof(*count), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)) == MAP_FAILED)
		abort();
	syscall(SYS_close, fd);
	count = p;
}

/* A test that cannot watch must not pass: whatever goes wrong in here aborts. */
__attribute__((constructor)) static void
setup(void)
{
	const char *s;
	int i;

	for (i = 0; i < FN_COUNT; i++)
		real_function(i);
	cfg.die_at = env_number("DIE_AT", 0);
	cfg.die_after = env_number("DIE_AFTER", 0);
	cfg.fail_at = env_number("FAIL_AT", 0);
	cfg.fail_count = env_number("FAIL_COUNT", 1);
	cfg.fail_errno = (int)env_number("FAIL_ERRNO", EIO);
	cfg.writes = env_number("PRELOAD_WRITES", 0) != 0;
	if ((s = getenv("DIE_UNDER")) != NULL && *s != '\0' && realpath(s, cfg.under) == NULL)
		snprintf(cfg.under, sizeof(cfg.under), "%s", s);
	if (strcmp(cfg.under, "/") == 0)
		cfg.under[0] = '\0';
	if ((s = getenv("STEP_COUNTER")) != NULL && *s != '\0')
		share_count(s);
	if ((s = getenv("STEP_LOG")) != NULL && *s != '\0') {
		syscall(SYS_close, raw_open(s, O_WRONLY | O_CREAT));
		if (realpath(s, cfg.log) == NULL)
			abort();
	}
	cfg.ready = 1;
}

static void
fd_path(int fd, char *buf, size_t size)
{
	char link[64];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	if ((n = readlink(link, buf, size - 1)) == -1)
		n = snprintf(buf, size, "fd:%d", fd);
	buf[n] = '\0';
}

/* The absolute name, with the folder's symbolic links resolved; the last part may not exist, or be about to go. */
static void
resolve(struct place at, char *buf)
{
	char full[2 * PATH_SIZE], folder[PATH_SIZE];
	char *slash;

	if (at.path == NULL) {
		fd_path(at.fd, buf, PATH_SIZE);
		return;
	}
	if (at.path[0] == '/')
		snprintf(full, sizeof(full), "%s", at.path);
	else {
		if (at.fd != AT_FDCWD)
			fd_path(at.fd, folder, sizeof(folder));
		else if (getcwd(folder, sizeof(folder)) == NULL)
			folder[0] = '\0';
		snprintf(full, sizeof(full), "%s/%s", folder, at.path);
	}
	while ((slash = strrchr(full, '/')) > full && slash[1] == '\0')
		*slash = '\0';
	*slash = '\0';
	if (realpath(slash == full ? "/" : full, folder) == NULL)
		snprintf(folder, sizeof(folder), "%.*s", PATH_MAX, full);
	snprintf(buf, PATH_SIZE, "%.*s/%.*s", PATH_MAX, folder[1] == '\0' ? "" : folder, NAME_MAX - 2, slash + 1);
}

static int
is_under(const char *path)
{
	size_t n = strlen(cfg.under);

	if (n == 0)
		return (1);
	return (strncmp(path, cfg.under, n) == 0 && (path[n] == '/' || path[n] == '\0' || path[n] == ' '));
}

static void
die_now(void)
{

	kill(getpid(), SIGKILL);
	for (;;)
		pause();
}

static void
log_step(long n, const char *call, const char *one, const char *two)
{
	char line[2 * PATH_SIZE + 64];
	int fd, len;

	if (cfg.log[0] == '\0')
		return;
	len = snprintf(line, sizeof(line), "%ld %s %s%s%s\n", n, call, one, two[0] != '\0' ? " -> " : "", two);
	if ((fd = raw_open(cfg.log, O_WRONLY | O_APPEND)) == -1 || syscall(SYS_write, fd, line, (size_t)len) != len)
		abort();
	syscall(SYS_close, fd);
}

/* The step's number, 0 when it does not count, -1 (and errno) when it must fail. */
static long
step_begin(const char *call, struct place one, const struct place *two)
{
	char path1[PATH_SIZE], path2[PATH_SIZE] = "";
	int saved = errno;
	long n;

	if (!cfg.ready)
		return (0);
	resolve(one, path1);
	if (two != NULL)
		resolve(*two, path2);
	errno = saved;
	if (!is_under(path1) && (two == NULL || !is_under(path2)))
		return (0);
	n = atomic_fetch_add(count, 1) + 1;
	/* What another thread began after the deadly step must not be done before death comes. */
	while (count == &own_count && ((cfg.die_at != 0 && n > cfg.die_at) || (cfg.die_after != 0 && n > cfg.die_after)))
		pause();
	log_step(n, call, path1, path2);
	if (n == cfg.die_at)
		die_now();
	if (cfg.fail_at != 0 && n >= cfg.fail_at && (cfg.fail_count == 0 || n < cfg.fail_at + cfg.fail_count)) {
		errno = cfg.fail_errno;
		return (-1);
	}
	errno = saved;
	return (n);
}

static void
step_end(long n)
{

	if (n != 0 && n == cfg.die_after)
		die_now();
}

/* One step of a call: its number is looked at before and after, the result handed on. */
#define STEP(failed, call, one, two, expr) do {			\
	long n_ = step_begin(call, one, two);			\
	__typeof__(expr) rc_;					\
								\
	if (n_ == -1)						\
		return (failed);				\
	rc_ = (expr);						\
	step_end(n_);						\
	return (rc_);						\
} while (0)
#define AT(dirfd, path)		((struct place){ dirfd, path })
#define STEP_AT(call, dirfd, path, expr)	STEP(-1, call, AT(dirfd, path), NULL, expr)
#define STEP_FD(call, fd, expr)			STEP(-1, call, AT(fd, NULL), NULL, expr)
#define STEP_TWO(call, fd1, p1, fd2, p2, expr)	STEP(-1, call, AT(fd1, p1), (&(struct place){ fd2, p2 }), expr)

/* The mode is there only when something may be made. */
#define GET_MODE(flags, mode) do {				\
	va_list ap_;						\
								\
	mode = 0;						\
	if (((flags) & O_CREAT) != 0 || ((flags) & O_TMPFILE) == O_TMPFILE) {	\
		va_start(ap_, flags);				\
		mode = va_arg(ap_, mode_t);			\
		va_end(ap_);					\
	}							\
} while (0)

#define DEFINE_OPEN(fn)						\
int								\
fn(const char *path, int flags, ...)				\
{								\
	mode_t mode;						\
								\
	GET_MODE(flags, mode);					\
	if ((flags & O_CREAT) == 0)				\
		return (REAL(fn)(path, flags, mode));		\
	STEP_AT("open", AT_FDCWD, path, REAL(fn)(path, flags, mode));	\
}
DEFINE_OPEN(open)
DEFINE_OPEN(open64)

#define DEFINE_OPENAT(fn)					\
int								\
fn(int dirfd, const char *path, int flags, ...)			\
{								\
	mode_t mode;						\
								\
	GET_MODE(flags, mode);					\
	if ((flags & O_CREAT) == 0)				\
		return (REAL(fn)(dirfd, path, flags, mode));	\
	STEP_AT("open", dirfd, path, REAL(fn)(dirfd, path, flags, mode));	\
}
DEFINE_OPENAT(openat)
DEFINE_OPENAT(openat64)

/* The fortified ones abort at O_CREAT, as that lacks a mode here; so none of them is a step but when misused. */
int
__open_2(const char *path, int flags)
{

	if ((flags & O_CREAT) != 0)
		abort();
	return (REAL(open)(path, flags));
}

int
__open64_2(const char *path, int flags)
{

	if ((flags & O_CREAT) != 0)
		abort();
	return (REAL(open64)(path, flags));
}

int
__openat_2(int dirfd, const char *path, int flags)
{

	if ((flags & O_CREAT) != 0)
		abort();
	return (REAL(openat)(dirfd, path, flags));
}

int
__openat64_2(int dirfd, const char *path, int flags)
{

	if ((flags & O_CREAT) != 0)
		abort();
	return (REAL(openat64)(dirfd, path, flags));
}

int
creat(const char *path, mode_t mode)
{

	STEP_AT("open", AT_FDCWD, path, REAL(creat)(path, mode));
}

int
creat64(const char *path, mode_t mode)
{

	STEP_AT("open", AT_FDCWD, path, REAL(creat64)(path, mode));
}

#define DEFINE_FOPEN(fn)					\
FILE *								\
fn(const char *path, const char *mode)				\
{								\
								\
	if (mode[0] == 'r')					\
		return (REAL(fn)(path, mode));			\
	STEP(NULL, "open", AT(AT_FDCWD, path), NULL, REAL(fn)(path, mode));	\
}
DEFINE_FOPEN(fopen)
DEFINE_FOPEN(fopen64)

/* The log shows the template: the name is not known before the call. */
int
mkstemp(char *path)
{

	STEP_AT("open", AT_FDCWD, path, REAL(mkstemp)(path));
}

int
mkstemp64(char *path)
{

	STEP_AT("open", AT_FDCWD, path, REAL(mkstemp64)(path));
}

int
mkostemp(char *path, int flags)
{

	STEP_AT("open", AT_FDCWD, path, REAL(mkostemp)(path, flags));
}

int
mkostemp64(char *path, int flags)
{

	STEP_AT("open", AT_FDCWD, path, REAL(mkostemp64)(path, flags));
}

int
mkstemps(char *path, int suffix)
{

	STEP_AT("open", AT_FDCWD, path, REAL(mkstemps)(path, suffix));
}

int
mkostemps(char *path, int suffix, int flags)
{

	STEP_AT("open", AT_FDCWD, path, REAL(mkostemps)(path, suffix, flags));
}

char *
mkdtemp(char *path)
{

	STEP(NULL, "mkdir", AT(AT_FDCWD, path), NULL, REAL(mkdtemp)(path));
}

int
mkdir(const char *path, mode_t mode)
{

	STEP_AT("mkdir", AT_FDCWD, path, REAL(mkdir)(path, mode));
}

int
mkdirat(int dirfd, const char *path, mode_t mode)
{

	STEP_AT("mkdir", dirfd, path, REAL(mkdirat)(dirfd, path, mode));
}

int
link(const char *from, const char *to)
{

	STEP_TWO("link", AT_FDCWD, from, AT_FDCWD, to, REAL(link)(from, to));
}

int
linkat(int fromfd, const char *from, int tofd, const char *to, int flags)
{

	/* AT_EMPTY_PATH: the file is named by its descriptor. */
	STEP_TWO("link", fromfd, from[0] != '\0' ? from : NULL, tofd, to, REAL(linkat)(fromfd, from, tofd, to, flags));
}

int
rename(const char *from, const char *to)
{

	STEP_TWO("rename", AT_FDCWD, from, AT_FDCWD, to, REAL(rename)(from, to));
}

int
renameat(int fromfd, const char *from, int tofd, const char *to)
{

	STEP_TWO("rename", fromfd, from, tofd, to, REAL(renameat)(fromfd, from, tofd, to));
}

int
renameat2(int fromfd, const char *from, int tofd, const char *to, unsigned int flags)
{

	STEP_TWO("rename", fromfd, from, tofd, to, REAL(renameat2)(fromfd, from, tofd, to, flags));
}

int
unlink(const char *path)
{

	STEP_AT("unlink", AT_FDCWD, path, REAL(unlink)(path));
}

int
unlinkat(int dirfd, const char *path, int flags)
{

	STEP_AT((flags & AT_REMOVEDIR) != 0 ? "rmdir" : "unlink", dirfd, path, REAL(unlinkat)(dirfd, path, flags));
}

int
remove(const char *path)
{
	struct stat st;
	int is_dir = lstat(path, &st) == 0 && S_ISDIR(st.st_mode);

	STEP_AT(is_dir ? "rmdir" : "unlink", AT_FDCWD, path, REAL(remove)(path));
}

int
rmdir(const char *path)
{

	STEP_AT("rmdir", AT_FDCWD, path, REAL(rmdir)(path));
}

int
fsync(int fd)
{

	STEP_FD("fsync", fd, REAL(fsync)(fd));
}

int
fdatasync(int fd)
{

	STEP_FD("fdatasync", fd, REAL(fdatasync)(fd));
}

int
ftruncate(int fd, off_t size)
{

	STEP_FD("ftruncate", fd, REAL(ftruncate)(fd, size));
}

int
ftruncate64(int fd, off64_t size)
{

	STEP_FD("ftruncate", fd, REAL(ftruncate64)(fd, size));
}

#define DEFINE_WRITE(fn, params, args)				\
ssize_t								\
fn params							\
{								\
								\
	if (!cfg.writes)					\
		return (REAL(fn)args);				\
	STEP_FD("write", fd, REAL(fn)args);			\
}
DEFINE_WRITE(write, (int fd, const void *buf, size_t len), (fd, buf, len))
DEFINE_WRITE(pwrite, (int fd, const void *buf, size_t len, off_t off), (fd, buf, len, off))
DEFINE_WRITE(pwrite64, (int fd, const void *buf, size_t len, off64_t off), (fd, buf, len, off))
DEFINE_WRITE(writev, (int fd, const struct iovec *iov, int niov), (fd, iov, niov))
DEFINE_WRITE(pwritev, (int fd, const struct iovec *iov, int niov, off_t off), (fd, iov, niov, off))
DEFINE_WRITE(pwritev64, (int fd, const struct iovec *iov, int niov, off64_t off), (fd, iov, niov, off))
DEFINE_WRITE(pwritev2, (int fd, const struct iovec *iov, int niov, off_t off, int flags), (fd, iov, niov, off, flags))
DEFINE_WRITE(pwritev64v2, (int fd, const struct iovec *iov, int niov, off64_t off, int flags), (fd, iov, niov, off, flags))
