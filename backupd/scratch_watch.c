#include "scratch_watch.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "deadline.h"
#include "human.h"

#define POLL_MS		100
#define JOB_POLLS	10		/* the job itself is looked for less often: that asks libvirt */
#define NOTICE_MS	(2 * POLL_MS + 1000)	/* until an abort has had its effect */
#define RESERVE		((uint64_t)64 << 20)	/* bytes of the file system that are left to others */
#define LEAST		((uint64_t)256 << 20)	/* bytes that must be free to begin with */

struct scratch_watch {
	struct capture	*c;
	char		*folder;
	uint64_t	 max;
	uint64_t	 used;		/* when looked at last */
	double		 fastest;	/* bytes a millisecond */

	pthread_t	 thread;
	pthread_mutex_t	 lock;		/* guards the rest */
	pthread_cond_t	 wake;
	bool		 stop;
	bool		 failed;
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
fail(struct scratch_watch *w, const struct err *why)
{
	pthread_mutex_lock(&w->lock);
	if (!w->failed)
		w->why = *why;
	w->failed = true;
	pthread_mutex_unlock(&w->lock);
}

/* The source's reads fail from here on, and the run ends. */
static void
abort_backup(struct scratch_watch *w, const struct err *why)
{
	struct err ignored = ERR_INIT;
	virDomainPtr dom;

	fail(w, why);
	if ((dom = hypervisor_domain(w->c->guest->hv, w->c->guest->uuid, 0, &ignored)) != NULL) {
		virDomainAbortJob(dom);
		virDomainFree(dom);
	}
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
		abort_backup(w, &why);
	} else if (room < margin + RESERVE) {
		err_set(&why, 0, "the guest wrote so much that %s, with its scratch files, has only %s free: the backup was aborted, the guest runs on.  "
		    "Make room there, or set \"scratch\" to another folder", w->folder, human_size(room, is));
		abort_backup(w, &why);
	}
}

/* The job ends by itself with the guest, or because somebody aborts it. */
static void
look_at_job(struct scratch_watch *w)
{
	struct guest *g = w->c->guest;
	struct err why = ERR_INIT;
	virDomainJobInfo info;
	virDomainPtr dom = hypervisor_domain(g->hv, g->uuid, 0, &why);
	int active;

	if (dom == NULL) {
		/* While libvirtd is away QEMU goes on, and so do we. */
		if (why.code == ENOENT)
			fail(w, &why);
		return;
	}
	active = virDomainIsActive(dom);
	if (active == 0)
		err_set(&why, 0, "the guest was shut off while it was read");
	else if (active == 1 && virDomainGetJobInfo(dom, &info) == 0 && info.type == VIR_DOMAIN_JOB_NONE)
		err_set(&why, 0, "the backup job ended while it was read: the guest was restarted, or somebody aborted the job");
	if (why.text[0] != '\0')
		fail(w, &why);
	virDomainFree(dom);
}

static void *
watch_main(void *arg)
{
	struct scratch_watch *w = arg;
	int64_t before = deadline_now(), now;

	pthread_mutex_lock(&w->lock);
	for (unsigned int polls = 1; !w->stop && !w->failed; polls++) {
		deadline_wait(&w->wake, &w->lock, deadline_now() + POLL_MS);
		if (w->stop)
			break;
		pthread_mutex_unlock(&w->lock);
		now = deadline_now();
		look_at_files(w, now - before);
		before = now;
		if (polls % JOB_POLLS == 0)
			look_at_job(w);
		pthread_mutex_lock(&w->lock);
	}
	pthread_mutex_unlock(&w->lock);
	return (NULL);
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
	if ((r = pthread_create(&w->thread, NULL, watch_main, w)) != 0) {
		err_set(err, r, "cannot start a thread");
		free(w->folder);
		free(w);
		return (NULL);
	}
	return (w);
}

int
scratch_watch_why(struct scratch_watch *w, struct err *err)
{
	bool failed;

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
	pthread_mutex_lock(&w->lock);
	w->stop = true;
	pthread_cond_signal(&w->wake);
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
	pthread_cond_destroy(&w->wake);
	pthread_mutex_destroy(&w->lock);
	free(w->folder);
	free(w);
}
