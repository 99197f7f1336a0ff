/*
 * A clock that a test sets: CLOCK_REALTIME is as many seconds ahead as the file $CLOCK_FILE says (an int64_t).  When that changes, a timer of timerfd(2)
 * wakes up with ECANCELED, as when somebody sets the real clock.  One such timer at a time.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define LOOK_US	10000

static const _Atomic int64_t none, *offset = &none;
static atomic_int timer = -1;
static atomic_bool cancelled;

static int (*real_create)(int, int);
static int (*real_gettime)(clockid_t, struct timespec *);
static int (*real_settime)(int, int, const struct itimerspec *, struct itimerspec *);
static ssize_t (*real_read)(int, void *, size_t);

static void
look_up(void)
{
	int fd;
	void *p;

	if (real_read != NULL)
		return;
	*(void **)&real_gettime = dlsym(RTLD_NEXT, "clock_gettime");
	*(void **)&real_create = dlsym(RTLD_NEXT, "timerfd_create");
	*(void **)&real_settime = dlsym(RTLD_NEXT, "timerfd_settime");
	*(void **)&real_read = dlsym(RTLD_NEXT, "read");
	fd = getenv("CLOCK_FILE") != NULL ? open(getenv("CLOCK_FILE"), O_RDONLY | O_CLOEXEC) : -1;
	p = fd != -1 ? mmap(NULL, sizeof(*offset), PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
	if (fd != -1)
		close(fd);
	if (p != MAP_FAILED)
		offset = p;
}

__attribute__((constructor)) static void
begin(void)
{
	look_up();
}

int
clock_gettime(clockid_t clock, struct timespec *t)
{
	int rc;

	look_up();
	rc = real_gettime(clock, t);
	if (rc == 0 && clock == CLOCK_REALTIME)
		t->tv_sec += *offset;
	return (rc);
}

time_t
time(time_t *out)
{
	struct timespec t = { 0 };

	clock_gettime(CLOCK_REALTIME, &t);
	if (out != NULL)
		*out = t.tv_sec;
	return (t.tv_sec);
}

int
gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
	struct timespec t = { 0 };

	(void)zone;
	clock_gettime(CLOCK_REALTIME, &t);
	*tv = (struct timeval){ t.tv_sec, t.tv_nsec / 1000 };
	return (0);
}

/* What the kernel does when the clock is set. */
static void *
watch(void *arg)
{
	const struct itimerspec now = { .it_value = { .tv_nsec = 1 } };
	int64_t known = *offset;

	(void)arg;
	for (;; usleep(LOOK_US)) {
		if (*offset == known)
			continue;
		known = *offset;
		cancelled = 1;
		real_settime(timer, 0, &now, NULL);
	}
	return (NULL);
}

int
timerfd_create(int clock, int flags)
{
	pthread_t thread;
	int fd;

	look_up();
	if ((fd = real_create(clock, flags)) != -1 && clock == CLOCK_REALTIME && atomic_exchange(&timer, fd) == -1 &&
	    pthread_create(&thread, NULL, watch, NULL) != 0)
		abort();
	return (fd);
}

int
timerfd_settime(int fd, int flags, const struct itimerspec *at, struct itimerspec *old)
{
	struct itimerspec shifted = *at;

	look_up();
	if (fd != timer || (flags & TFD_TIMER_ABSTIME) == 0)
		return (real_settime(fd, flags, at, old));
	shifted.it_value.tv_sec -= *offset;
	if (real_settime(fd, flags, &shifted, old) == -1)
		return (-1);
	if (!atomic_exchange(&cancelled, 0))
		return (0);
	errno = ECANCELED;
	return (-1);
}

ssize_t
read(int fd, void *p, size_t n)
{
	ssize_t got;

	look_up();
	got = real_read(fd, p, n);
	if (fd != timer || fd == -1 || !atomic_exchange(&cancelled, 0))
		return (got);
	errno = ECANCELED;
	return (-1);
}
