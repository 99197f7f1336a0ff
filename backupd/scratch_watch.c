#include "scratch_watch.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/human.h"
#include "deadline.h"
#include "domain_job.h"

#define POLL_MS		100
#define LATER_MS	2000
#define JOB_MS		1000		/* between two looks at the job itself: they ask libvirt */
#define CALL_SECONDS	120		/* for one call into QEMU */
#define NOTICE_MS	(2 * POLL_MS + 1000)	/* until an abort has had its effect */
#define RESERVE		((uint64_t)64 << 20)	/* bytes of the file system that are left to others */
#define LEAST		((uint64_t)256 << 20)	/* bytes that must be free to begin with */

struct scratch_watch {
	struct capture	*c;
	char		*folder;
	uint64_t	 max;
	uint64_t	 used;		/* when looked at last */
	double		 fastest;	/* bytes a millisecond */

	pthread_t	 files, job;	/* two threads: what libvirt does must not keep the first from looking */
	pthread_mutex_t	 lock;		/* guards the rest */
	pthread_cond_t	 wake;
	bool		 stop;
	bool		 failed;	/* and ${why} */
	bool		 abort;		/* the job is to be ended */
	struct err	 why;
};

static uint64_t
free_bytes(const char *folder)
{
	struct statvfs fs;

	return (statvfs(folder, &fs) == -1 ? UINT64_MAX : (uint64_t)fs.f_bavail * fs.f_frsize);
}

int
scratch_room(const char *folder, uint64_t max, struct err *err)
{
	uint64_t room = free_bytes(folder), wanted = max != 0 && max < LEAST ? max : LEAST;
	char have[HUMAN_LEN], want[HUMAN_LEN];

	if (room >= wanted + RESERVE)
		return (0);
	return (err_set(err, 0, "%s, for scratch files, has %s free: a backup begins with %s at least.  Make room, or set \"scratch\" to another folder",
	    folder, human_size(room, have), human_size(wanted + RESERVE, want)));
}

static uint64_t
used_bytes(const char *folder)
{
	char path[4096];
	uint64_t used = 0;
	struct dirent *e;
	struct stat sb;
	DIR *d = opendir(folder);

	if (d == NULL)
		return (0);
	/* cppcheck-suppress readdirCalled ; glibc's is safe for threads with a DIR each */
	while ((e = readdir(d)) != NULL)
		if (e->d_name[0] != '.' && (size_t)snprintf(path, sizeof(path), "%s/%s", folder, e->d_name) < sizeof(path) && stat(path, &sb) == 0)
			used += (uint64_t)sb.st_blocks * 512;
	closedir(d);
	return (used);
}

static void
fail(struct scratch_watch *w, const struct err *why, bool abort)
{
	pthread_mutex_lock(&w->lock);
	if (!w->failed)
		w->why = *why;
	w->failed = true;
	w->abort |= abort;
	pthread_cond_broadcast(&w->wake);
	pthread_mutex_unlock(&w->lock);
}

static void
look_at_files(struct scratch_watch *w, int64_t ms)
{
	uint64_t used = used_bytes(w->folder), room = free_bytes(w->folder), margin;
	char is[HUMAN_LEN], limit[HUMAN_LEN];
	double rate = used > w->used && ms > 0 ? (double)(used - w->used) / (double)ms : 0;
	struct err why = ERR_INIT;

	if (rate > w->fastest)
		w->fastest = rate;
	w->used = used;
	margin = (uint64_t)(w->fastest * NOTICE_MS);
	if (w->max != 0 && used + margin > w->max) {
		err_set(&why, 0, "the guest wrote so much that its scratch files have %s, and would soon reach scratch_max (%s): the backup was aborted, the guest "
		    "runs on.  Raise scratch_max, or run the job when the guest is quieter", human_size(used, is), human_size(w->max, limit));
		fail(w, &why, true);
	} else if (room < margin + RESERVE) {
		err_set(&why, 0, "the guest wrote so much that %s, with its scratch files, has only %s free: the backup was aborted, the guest runs on.  "
		    "Make room there, or set \"scratch\" to another folder", w->folder, human_size(room, is));
		fail(w, &why, true);
	}
}

/* What the job is doing; and, if ${abort}, end it: the source's reads fail from there on, and the run ends.  Returns whether it is there. */
static bool
look_at_job(struct scratch_watch *w, bool abort)
{
	struct guest *g = w->c->guest;
	struct err why = ERR_INIT;
	virDomainPtr dom = hypervisor_domain(g->hv, g->uuid, 0, &why);
	int active, ours;

	if (dom == NULL) {
		/* While libvirtd is away QEMU goes on, and so do we. */
		if (why.code != ENOENT)
			return (true);
		err_wrap(&why, "the guest was migrated away, or undefined, while it was read");
		fail(w, &why, false);
		return (false);
	}
	hypervisor_deadline(CALL_SECONDS, "tell about the backup job");
	active = virDomainIsActive(dom);
	ours = active == 1 ? domain_job_is_backup_of(dom, g->journal->token, &why) : active;
	/* Nobody else's job is ended. */
	if (ours == 1 && abort)
		virDomainAbortJob(dom);
	hypervisor_met();
	virDomainFree(dom);
	if (active == 0)
		err_set(&why, 0, "the guest was shut off while it was read");
	else if (ours == 0)
		err_set(&why, 0, "the backup job ended while it was read: the guest was restarted, or somebody aborted the job");
	if (ours == 0)
		fail(w, &why, false);
	return (ours != 0);
}

/* With the lock held: ${ms} later, or when something is to be done at once. */
static void
rest(struct scratch_watch *w, int64_t ms, bool abort)
{
	int64_t until = deadline_now() + ms;

	while (!w->stop && w->abort == abort && deadline_left(until) > 0)
		deadline_wait(&w->wake, &w->lock, until);
}

static void *
watch_files(void *arg)
{
	struct scratch_watch *w = arg;
	int64_t before = deadline_now(), now;

	pthread_mutex_lock(&w->lock);
	while (!w->stop && !w->failed) {
		rest(w, POLL_MS, false);
		pthread_mutex_unlock(&w->lock);
		now = deadline_now();
		look_at_files(w, now - before);
		before = now;
		pthread_mutex_lock(&w->lock);
	}
	pthread_mutex_unlock(&w->lock);
	return (NULL);
}

/* As long as it is to be ended and is not, it is asked to: libvirtd may be away, or refuse it at first. */
static void *
watch_job(void *arg)
{
	struct scratch_watch *w = arg;
	bool there = true, abort;

	pthread_mutex_lock(&w->lock);
	while (!w->stop && there) {
		rest(w, w->abort ? POLL_MS : JOB_MS, w->abort);
		abort = w->abort;
		if (w->stop)
			break;
		pthread_mutex_unlock(&w->lock);
		there = look_at_job(w, abort);
		pthread_mutex_lock(&w->lock);
	}
	pthread_mutex_unlock(&w->lock);
	return (NULL);
}

static void
stop(struct scratch_watch *w)
{
	pthread_mutex_lock(&w->lock);
	w->stop = true;
	pthread_cond_broadcast(&w->wake);
	pthread_mutex_unlock(&w->lock);
}

static void
destroy(struct scratch_watch *w)
{
	pthread_cond_destroy(&w->wake);
	pthread_mutex_destroy(&w->lock);
	free(w->folder);
	free(w);
}

struct scratch_watch *
scratch_watch_start(struct capture *c, const char *folder, uint64_t max, struct err *err)
{
	struct scratch_watch *w = calloc(1, sizeof(*w));
	int r;

	if (w == NULL || (w->folder = strdup(folder)) == NULL) {
		free(w);
		err_nomem(err);
		return (NULL);
	}
	w->c = c;
	w->max = max;
	pthread_mutex_init(&w->lock, NULL);
	deadline_cond_init(&w->wake);
	if ((r = pthread_create(&w->files, NULL, watch_files, w)) == 0 && (r = pthread_create(&w->job, NULL, watch_job, w)) != 0) {
		stop(w);
		pthread_join(w->files, NULL);
	}
	if (r == 0)
		return (w);
	err_set(err, r, "cannot start a thread");
	destroy(w);
	return (NULL);
}

int
scratch_watch_why(struct scratch_watch *w, bool look, struct err *err)
{
	bool failed;

	/* A source that failed may have been told of it first, and libvirt only a moment later. */
	for (int64_t until = deadline_now() + LATER_MS; look && look_at_job(w, false) && deadline_left(until) > 0;)
		deadline_nap(POLL_MS);
	pthread_mutex_lock(&w->lock);
	if ((failed = w->failed))
		*err = w->why;
	pthread_mutex_unlock(&w->lock);
	return (failed ? -1 : 0);
}

void
scratch_watch_stop(struct scratch_watch *w)
{
	if (w == NULL)
		return;
	stop(w);
	pthread_join(w->files, NULL);
	pthread_join(w->job, NULL);
	destroy(w);
}
