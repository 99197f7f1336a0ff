#include "model.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "backupd/deadline.h"
#include "second.h"

#define IMAGE_BYTES	(256 << 10)

struct model *fake;
enum who fake_who = WHO_SETTLE;

int
fake_second_ms(void)
{
	return (fake != NULL && fake->second_ms > 0 ? fake->second_ms : 1000);
}

void
model_attach(void)
{
	const char *path = getenv(MODEL_VARIABLE);
	int fd;

	if (path == NULL || (fd = open(path, O_RDWR | O_CLOEXEC)) == -1 ||
	    (fake = mmap(NULL, sizeof(*fake), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)) == MAP_FAILED) {
		fprintf(stderr, "no model at %s\n", path != NULL ? path : MODEL_VARIABLE);
		abort();
	}
	close(fd);
}

static void
make_file(const char *path)
{
	static char data[IMAGE_BYTES];
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	memset(data, 'x', sizeof(data) / 2);
	if (fd == -1 || write(fd, data, sizeof(data)) != (ssize_t)sizeof(data))
		abort();
	close(fd);
}

struct model_disk *
model_disk(const char *folder, const char *name, const char *target, const char *type)
{
	struct model_disk *d = &fake->disks[fake->ndisks++];

	memset(d, 0, sizeof(*d));
	snprintf(d->target, sizeof(d->target), "%s", target);
	snprintf(d->type, sizeof(d->type), "%s", type);
	snprintf(d->format, sizeof(d->format), "raw");
	snprintf(d->base, sizeof(d->base), "%s/%s", folder, name);
	make_file(d->base);
	d->live = d->config = ON_BASE;
	d->base_age = 1;
	return (d);
}

void
model_new(const char *folder)
{
	char path[MODEL_PATH];
	pthread_mutexattr_t attr;
	int fd;

	snprintf(path, sizeof(path), "%s/model", folder);
	if ((fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600)) == -1 || ftruncate(fd, sizeof(*fake)) == -1)
		abort();
	close(fd);
	setenv(MODEL_VARIABLE, path, 1);
	model_attach();
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(&fake->lock, &attr);
	pthread_mutexattr_destroy(&attr);
	snprintf(fake->name, sizeof(fake->name), "web");
	snprintf(fake->uuid, sizeof(fake->uuid), "4f1c9c1e-0000-4000-8000-00000000000a");
	fake->exists = fake->active = fake->persistent = fake->has_agent = true;
	fake->agent_timeout = -2;
	fake->second_ms = 50;
	fake->ready_after = 2;
	snprintf(fake->scratch, sizeof(fake->scratch), "%s/state/scratch", folder);
	model_disk(folder, "vda.img", "vda", "file");
}

void
model_free(void)
{
	munmap(fake, sizeof(*fake));
	fake = NULL;
}

void
model_lock(void)
{
	if (pthread_mutex_lock(&fake->lock) == EOWNERDEAD)
		pthread_mutex_consistent(&fake->lock);
}

void
model_unlock(void)
{
	pthread_mutex_unlock(&fake->lock);
}

void
wrong(const char *fmt, ...)
{
	va_list ap;

	if (fake->wrong[0] != '\0')
		return;
	va_start(ap, fmt);
	vsnprintf(fake->wrong, sizeof(fake->wrong), fmt, ap);
	va_end(ap);
}

struct model_disk *
model_find(const char *target)
{
	for (int i = 0; i < fake->ndisks; i++)
		if (strcmp(fake->disks[i].target, target) == 0)
			return (&fake->disks[i]);
	return (NULL);
}

struct model_checkpoint *
model_checkpoint(const char *name)
{
	for (int i = 0; i < MODEL_CHECKPOINTS; i++)
		if (strcmp(fake->checkpoints[i].name, name) == 0)
			return (&fake->checkpoints[i]);
	return (NULL);
}

struct model_checkpoint *
model_checkpoint_new(const char *name)
{
	struct model_checkpoint *c = model_checkpoint(name);

	if (c != NULL)
		return (c);
	if ((c = model_checkpoint("")) == NULL)
		abort();
	snprintf(c->name, sizeof(c->name), "%s", name);
	c->number = ++fake->ncheckpoints;
	return (c);
}

void
model_checkpoint_end(struct model_checkpoint *c)
{
	bool left = c->known;

	for (int i = 0; i < MODEL_DISKS; i++)
		left = left || c->bitmaps[i] != NO_BITMAP;
	if (!left)
		memset(c, 0, sizeof(*c));
}

/* The overlay's data go into the base. */
void
model_commit(struct model_disk *d)
{
	if (d->overlay_age < d->base_age)
		wrong("%s: an overlay that is older was committed over its base", d->target);
	d->base_age = d->overlay_age;
}

static void
guest_writes(void)
{
	struct model_disk *d;

	for (int i = 0; i < fake->ndisks && fake->active; i++) {
		d = &fake->disks[i];
		if (d->live == ON_OVERLAY)
			d->overlay_age = 1 + (d->overlay_age > d->base_age ? d->overlay_age : d->base_age);
		else
			d->base_age++;
	}
}

static void
guest_off(void)
{
	fake->active = fake->backup_job = fake->paused = false;
	fake->frozen = 0;
	for (int i = 0; i < fake->ndisks; i++) {
		fake->disks[i].job = JOB_NONE;
		fake->disks[i].ready = false;
	}
	if (!fake->persistent)
		fake->exists = false;
}

static void
guest_start(void)
{
	struct model_disk *d;

	fake->active = true;
	for (int i = 0; i < fake->ndisks; i++) {
		d = &fake->disks[i];
		d->live = d->config;
		if (d->live == ON_OVERLAY && access(d->overlay, F_OK) == -1)
			wrong("%s: the guest was started without its overlay", d->target);
		if (d->live == ON_OVERLAY && d->overlay_age < d->base_age)
			wrong("%s: the guest was started on an overlay that is older than its base", d->target);
	}
	guest_writes();
}

static void
grow_scratch(long bytes)
{
	char path[2 * MODEL_PATH], *file = strstr(fake->backup_xml, "scratch file='");
	int fd;

	if (!fake->backup_job || file == NULL || sscanf(file, "scratch file='%511[^']", path) != 1)
		return;
	if ((fd = open(path, O_WRONLY | O_CLOEXEC)) == -1 || fallocate(fd, 0, lseek(fd, 0, SEEK_END), bytes) == -1)
		wrong("the scratch file could not grow: the guest has an I/O error");
	if (fd != -1)
		close(fd);
}

/* In the process that calls: its files, not ours. */
static void
fill_disk(void)
{
	const struct rlimit none = { 0, RLIM_INFINITY };

	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &none);
}

static void
guest_event(enum event e)
{
	switch (e) {
	case GUEST_OFF:
		guest_off();
		break;
	case GUEST_STARTED:
		guest_start();
		break;
	case GUEST_RESTARTED:
		guest_off();
		guest_start();
		break;
	case GUEST_WRITES:
		guest_writes();
		break;
	case GUEST_GONE:
		guest_off();
		fake->exists = false;
		break;
	default:
		break;
	}
}

static void
job_event(enum event e)
{
	struct model_disk *d = &fake->disks[0];

	switch (e) {
	case BACKUP_JOB_ENDS:
		fake->backup_job = false;
		break;
	case BACKUP_JOB_OF_SOMEBODY:
		fake->backup_job = true;
		snprintf(fake->backup_xml, sizeof(fake->backup_xml), "<domainbackup mode='push'/>");
		break;
	case COMMIT_FAILS:
		d->job = JOB_NONE;
		d->ready = false;
		break;
	case COPY_OF_SOMEBODY:
		d->job = JOB_SOMEBODYS_COPY;
		d->ready = true;
		break;
	case DETACHED:
		d->live = d->config = ON_NOTHING;
		d->job = JOB_NONE;
		break;
	default:
		break;
	}
}

void
model_event(enum event e, long arg)
{
	guest_event(e);
	job_event(e);
	switch (e) {
	case LIBVIRTD_AWAY:
		fake->back = deadline_now() + arg;
		fake->generation++;
		break;
	case AGENT_LEAVES:
	case AGENT_STUCK:
		fake->agent = e == AGENT_LEAVES ? AGENT_GONE : AGENT_HANGS;
		fake->agent_back = arg != 0 ? deadline_now() + arg : 0;
		break;
	case THAWED:
		fake->frozen = 0;
		break;
	case FROZEN:
		fake->frozen = 1;
		break;
	case SCRATCH_GROWS:
		grow_scratch(arg);
		break;
	case ANSWERED_LATE:
		fake->call_ends = deadline_now() + arg;
		break;
	case DISK_FULL:
		fill_disk();
		break;
	default:
		break;
	}
}

void
model_clock(void)
{
	if (fake->agent != AGENT_THERE && fake->agent_back != 0 && deadline_now() >= fake->agent_back)
		fake->agent = AGENT_THERE;
}

bool
model_in_call(void)
{
	return (deadline_now() < fake->call_ends);
}

static struct rule *
add_rule(enum who who, const char *step, unsigned int from, unsigned int to, enum event event)
{
	struct rule *r = &fake->rules[fake->nrules++];

	if (fake->nrules > MODEL_RULES)
		abort();
	*r = (struct rule){ .who = who, .from = from, .to = to, .event = event };
	snprintf(r->step, sizeof(r->step), "%s", step);
	return (r);
}

void
on(const char *step, unsigned int nth, enum event event, long arg)
{
	add_rule(WHO_RUN, step, nth, nth, event)->arg = arg;
}

void
on_after(const char *step, unsigned int nth, enum event event, long arg)
{
	struct rule *r = add_rule(WHO_RUN, step, nth, nth, event);

	r->arg = arg;
	r->after = true;
}

void
failing(enum who who, const char *step, unsigned int from, unsigned int to, int code, const char *text)
{
	struct rule *r = add_rule(who, step, from, to, FAILS);

	r->code = code;
	snprintf(r->text, sizeof(r->text), "%s", text);
}

void
by(enum who who)
{
	fake->rules[fake->nrules - 1].who = who;
}

static unsigned int *
count_of(const char *key)
{
	size_t i = 0;

	while (i < 39 && fake->counts[fake_who][i].step[0] != '\0' && strcmp(fake->counts[fake_who][i].step, key) != 0)
		i++;
	snprintf(fake->counts[fake_who][i].step, sizeof(fake->counts[fake_who][i].step), "%s", key);
	return (&fake->counts[fake_who][i].n);
}

/* What the script has for the ${n}th call of ${key}. */
static const struct rule *
apply(const char *key, unsigned int n, bool after)
{
	const struct rule *found = NULL;
	int64_t hang = 0;
	bool die = false;

	for (unsigned int i = 0; i < fake->nrules; i++) {
		const struct rule *r = &fake->rules[i];

		if (strcmp(r->step, key) != 0 || n < r->from || n > r->to || r->after != after || (r->who != WHO_ANY && r->who != fake_who))
			continue;
		if (r->event == FAILS || (after && r->event == LIBVIRTD_AWAY))
			found = r;
		else if (r->event == KILLED)
			die = true;
		else if (r->event == HANGS)
			hang = r->arg;
		if (r->event != FAILS && r->event != KILLED && r->event != HANGS)
			model_event(r->event, r->arg);
	}
	if (die) {
		model_unlock();
		kill(getpid(), SIGKILL);
	}
	if (hang > 0) {
		model_unlock();
		deadline_nap(hang);
		model_lock();
	}
	return (found);
}

const struct rule *
step_begin(const char *key, const char *detail, bool changes)
{
	(void)detail;
	model_lock();
	model_clock();
	if (changes && (fake_who == WHO_RUN || fake_who == WHO_SETTLE) && fake->kill_at != 0 && fake->run_steps + 1 == fake->kill_at) {
		model_unlock();
		kill(getpid(), SIGKILL);
	}
	return (apply(key, ++*count_of(key), false));
}

bool
step_end(const char *key, const char *detail, bool changes, bool failed)
{
	static const char *const names[WHO_N] = { "", "guard: ", "settle: ", "" };
	bool lost;

	if (changes) {
		if (fake->nsteps < MODEL_STEPS)
			snprintf(fake->steps[fake->nsteps++], MODEL_STEP, "%s%s%s%s%s", names[fake_who], key, detail[0] != '\0' ? " " : "", detail,
			    failed ? "!" : "");
		if (fake_who == WHO_RUN || fake_who == WHO_SETTLE)
			fake->run_steps++;
	}
	lost = apply(key, *count_of(key), true) != NULL;
	model_unlock();
	return (lost);
}
