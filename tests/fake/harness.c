#include "harness.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "backupd/backup_domain.h"
#include "backupd/domains.h"
#include "backupd/freeze_guard.h"
#include "backupd/settle.h"
#include "backupd/freeze.h"
#include "host.h"

#define RUN_SECONDS	60		/* real ones: a run that hangs is a failure */

/* ThreadSanitizer's own: by default each process takes a second to end, which here is long. */
const char *__tsan_default_options(void);

const char *
__tsan_default_options(void)
{
	return ("atexit_sleep_ms=0");
}

static char folder[MODEL_PATH / 4];
static atomic_int interrupted;

const char *
world_folder(void)
{
	return (folder);
}

static void
set(const char *variable, const char *name)
{
	char path[MODEL_PATH];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	if (mkdir(path, 0755) == -1)
		abort();
	setenv(variable, path, 1);
}

/* qemu-img is this program. */
static void
set_path(void)
{
	char bin[MODEL_PATH], link[MODEL_PATH + 16], self[MODEL_PATH], path[8192];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n == -1)
		abort();
	self[n] = '\0';
	snprintf(bin, sizeof(bin), "%s/bin", folder);
	snprintf(link, sizeof(link), "%s/qemu-img", bin);
	snprintf(path, sizeof(path), "%s:/usr/bin:/bin", bin);
	if (mkdir(bin, 0755) == -1 || symlink(self, link) == -1)
		abort();
	setenv("PATH", path, 1);
}

int
world_begin(void **state)
{
	const char *tmp = getenv("TMPDIR");

	(void)state;
	/* On a disk each fsync would take its time. */
	snprintf(folder, sizeof(folder), "%s/ovb-fake.XXXXXX", tmp != NULL ? tmp : access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	if (mkdtemp(folder) == NULL)
		abort();
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	set("STATE_DIRECTORY", "state");
	set("RUNTIME_DIRECTORY", "run");
	set_path();
	model_new(folder);
	return (0);
}

static int
remove_one(const char *path, const struct stat *sb, int flag, struct FTW *ftw)
{
	(void)sb;
	(void)flag;
	(void)ftw;
	return (remove(path));
}

int
world_end(void **state)
{
	(void)state;
	fake->exists = false;
	guards_end_within(20);
	model_free();
	nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	return (0);
}

static void
report(void *arg, const char *text)
{
	size_t n = strlen(fake->reports);

	(void)arg;
	snprintf(fake->reports + n, sizeof(fake->reports) - n, "%s\n", text);
}

static int
count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (d != NULL && readdir(d) != NULL)
		n++;
	closedir(d);
	return (n);
}

static struct conf *
configuration(const char *keys)
{
	char text[4096];
	struct err err;
	struct conf *c;
	FILE *f;

	snprintf(text, sizeof(text), "%s/conf", folder);
	if ((f = fopen(text, "w")) == NULL)
		abort();
	fprintf(f, "repositories = ( { name = \"r\"; url = \"%s/repository\"; } );\n"
	    "jobs = ( { name = \"j\"; connection = \"qemu:///system\"; domains = [ \"*\" ]; repository = \"r\"; compression = \"none\"; %s } );\n", folder, keys);
	fclose(f);
	if ((c = conf_load(text, &err)) == NULL) {
		fprintf(stderr, "%s\n", err.text);
		abort();
	}
	return (c);
}

static void
remember(int rc, const struct domain_result *r, const struct err *err)
{
	fake->rc = rc;
	snprintf(fake->error, sizeof(fake->error), "%s", rc == -1 ? err->text : "");
	snprintf(fake->unsettled, sizeof(fake->unsettled), "%s", r->unsettled);
	snprintf(fake->why, sizeof(fake->why), "%s", r->why);
	snprintf(fake->capture, sizeof(fake->capture), "%s", r->capture != NULL ? r->capture : "");
	snprintf(fake->consistency, sizeof(fake->consistency), "%s", rc == -1 ? "" : r->point.consistency);
	fake->freeze_ms = r->freeze_ms;
}

/* What run_job() does for one domain. */
static int
back_up(const struct conf_job *job)
{
	struct domain_names found = DOMAIN_NAMES_INIT;
	struct domain_result result = { .unsettled = "" };
	struct progress progress;
	struct backup_run br = { .job = job, .progress = &progress, .interrupted = &interrupted };
	struct err err = ERR_INIT;
	struct hypervisor *hv;
	int rc = -1;

	if ((hv = hypervisor_open(job->connection, &err)) == NULL || domains_find(hv, job, &found, &err) == -1 ||
	    (br.repo = repo_open(job->repository->at.path, true, &err)) == NULL ||
	    (br.lock = lock_run(br.repo->st, "test", 1, &interrupted, &err)) == NULL)
		goto out;
	progress_init(&progress, false, stderr, stdout);
	rc = backup_domain(&br, hv, found.v[0].uuid, &result, report, NULL, &err);
out:
	remember(rc, &result, &err);
	lock_release(br.lock);
	repo_close(br.repo);
	domains_free(&found);
	hypervisor_close(hv);
	return (rc == 0 && result.unsettled[0] == '\0' ? 0 : 1);
}

static pid_t
begin(enum who who)
{
	pid_t pid;

	fflush(NULL);
	if ((pid = fork()) == -1)
		abort();
	if (pid == 0) {
		fake_who = who;
		umask(077);
		signal(SIGPIPE, SIG_IGN);
		alarm(RUN_SECONDS);
	}
	return (pid);
}

pid_t
run_in_background(const char *keys)
{
	struct conf *c;
	pid_t pid;
	int rc, before;

	fake->rc = -2;
	fake->run_steps = 0;
	memset(fake->counts[WHO_RUN], 0, sizeof(fake->counts[WHO_RUN]));
	if ((pid = begin(WHO_RUN)) != 0)
		return (pid);
	before = count_fds();
	c = configuration(keys);
	rc = back_up(&c->jobs[0]);
	conf_free(c);
	fake->leaked_fds = count_fds() - before;
	exit(rc);
}

int
run_end(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		abort();
	return (WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status));
}

int
run(const char *keys)
{
	return (run_end(run_in_background(keys)));
}

int
settle(void)
{
	struct err err = ERR_INIT;
	pid_t pid;
	int rc;

	fake->reports[0] = '\0';
	fake->run_steps = 0;
	if ((pid = begin(WHO_SETTLE)) == 0) {
		if ((rc = settle_leftovers(report, NULL, &err)) == -1)
			report(NULL, err.text);
		exit(rc == -1 ? 100 : rc);
	}
	rc = run_end(pid);
	return (rc == 100 ? -1 : rc);
}

bool
guards_end_within(int seconds)
{
	pid_t r = 0;

	for (int i = 0; i < seconds * 200; i++) {
		while ((r = waitpid(-1, NULL, WNOHANG)) > 0)
			;
		if (r == -1 && errno == ECHILD)
			return (true);
		nanosleep(&(struct timespec){ 0, 5000000 }, NULL);
	}
	return (false);
}

void
guards_end(void)
{
	assert_true(guards_end_within(20));
}

static void
print_steps(void)
{
	for (unsigned int i = 0; i < fake->nsteps; i++)
		print_message("	    \"%s\",\n", fake->steps[i]);
	print_message("error: %s\nunsettled: %s\nwhy: %s\nreports: %s\nwrong: %s\n", fake->error, fake->unsettled, fake->why, fake->reports, fake->wrong);
}

void
assert_steps(const char *first, ...)
{
	const char *expected = first;
	unsigned int i = 0;
	va_list ap;

	va_start(ap, first);
	for (; expected != NULL; expected = va_arg(ap, const char *), i++)
		if (i >= fake->nsteps || strcmp(expected, fake->steps[i]) != 0) {
			print_steps();
			fail_msg("step %u is not \"%s\"", i, expected);
		}
	va_end(ap);
	if (i < fake->nsteps) {
		print_steps();
		fail_msg("nobody expected \"%s\"", fake->steps[i]);
	}
}

/* How many files below ${name} of the world there are, but those with one of the endings. */
static int
files_in(const char *name, const char *const *but)
{
	char path[MODEL_PATH];
	struct dirent *e;
	DIR *d;
	int n = 0;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	if ((d = opendir(path)) == NULL)
		return (0);
	while ((e = readdir(d)) != NULL) {
		size_t len = strlen(e->d_name);
		bool skip = e->d_name[0] == '.';

		for (const char *const *b = but; b != NULL && *b != NULL; b++)
			skip |= len >= strlen(*b) && strcmp(e->d_name + len - strlen(*b), *b) == 0;
		n += !skip;
	}
	closedir(d);
	return (n);
}

void
assert_said(const char *text, const char *part)
{
	if (strstr(text, part) == NULL)
		fail_msg("\"%s\" is not in \"%s\"", part, text);
}

void
assert_clean(void)
{
	static const char *const locks[] = { ".lock", ".guard", NULL };
	bool good = fake->wrong[0] == '\0' && fake->frozen == 0 && !fake->backup_job && fake->leaked_fds == 0;

	for (int i = 0; i < fake->ndisks; i++) {
		const struct model_disk *d = &fake->disks[i];

		good &= d->job == JOB_NONE && (!fake->active || d->live != ON_OVERLAY) && (!fake->exists || d->config != ON_OVERLAY) &&
		    (d->overlay[0] == '\0' || access(d->overlay, F_OK) == -1);
	}
	good &= files_in("state/journal", locks) == 0 && files_in("state/scratch", NULL) == 0 && files_in("run", NULL) == 0;
	if (!good) {
		print_steps();
		fail_msg("not as before: wrong \"%s\", frozen %d, backup job %d, fds %d, vda live %d config %d job %d", fake->wrong, fake->frozen,
		    fake->backup_job, fake->leaked_fds, fake->disks[0].live, fake->disks[0].config, fake->disks[0].job);
	}
}

void
assert_unsettled(void)
{
	static const char *const locks[] = { ".lock", ".guard", NULL };

	assert_int_equal(files_in("state/journal", locks), 1);
	assert_string_equal(fake->wrong, "");
}

int
points(void)
{
	static const char *const partial[] = { ".partial", NULL };

	return (files_in("repository/web", partial));
}

int
harness_main(int argc, char **argv, int (*tests)(void))
{
	const char *name = strrchr(argv[0], '/');

	if (strcmp(name != NULL ? name + 1 : argv[0], "qemu-img") == 0) {
		model_attach();
		fake_who = WHO_TOOL;
		return (qemu_img(argc, argv));
	}
	if (argc > 1 && strcmp(argv[1], GUARD_OPTION) == 0) {
		model_attach();
		fake_who = WHO_GUARD;
		alarm(RUN_SECONDS);
		return (freeze_guard_main(argc, argv));
	}
	return (tests());
}
