#include "repository/lock.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/document.h"
#include "base/io.h"
#include "base/thread.h"

#define RENEW_S		30
#define DEAD_S		300		/* by the storage's clock */
#define LOCK_MAX	4096u		/* bytes of a lock file */
#define ALONE_PREFIX	"exclusive-"
#define ALONE_PATH	LOCKS_DIR "/" ALONE_PREFIX
#define RUN_PREFIX	"run-"
#define PATH_MAX_LOCK	128u

struct lock {
	struct store	*st;
	char		 path[PATH_MAX_LOCK];
	char		 token[LOCK_TOKEN_LEN];
	char		*program;
	bool		 wordless;	/* its file is empty: there was no room for more */

	pthread_t	 renewer;
	bool		 renewing;	/* the thread was started */
	pthread_mutex_t	 mutex;		/* guards the two below */
	pthread_cond_t	 wake;
	bool		 stop;
};

/* Who holds a lock, as its file says. */
struct holder {
	char		 token[LOCK_TOKEN_LEN];
	char		 host[256], program[128], boot_id[64], pid_namespace[64];
	uint64_t	 pid, start_time;
};

/* The first line of a file of /proc, or "". */
static void
read_line(const char *path, char *out, size_t n)
{
	FILE *f = fopen(path, "re");

	out[0] = '\0';
	if (f == NULL)
		return;
	if (fgets(out, (int)n, f) != NULL)
		out[strcspn(out, "\n")] = '\0';
	fclose(f);
}

struct process {
	char		state;
	uint64_t	threads, start_time;
};

/* Fields 3, 20 and 22 of /proc/PID/stat; the second field, in brackets, may hold anything.  All 0 when there is no such process. */
static struct process
process_look(uint64_t pid)
{
	struct process pr = { .state = '\0' };
	char path[64], line[1024], *p;
	int field;

	snprintf(path, sizeof(path), "/proc/%llu/stat", (unsigned long long)pid);
	read_line(path, line, sizeof(line));
	p = strrchr(line, ')');
	for (field = 3; field <= 22 && p != NULL && (p = strchr(p, ' ')) != NULL; field++) {
		p++;
		if (field == 3)
			pr.state = *p;
		else if (field == 20)
			pr.threads = strtoull(p, NULL, 10);
		else if (field == 22)
			pr.start_time = strtoull(p, NULL, 10);
	}
	return (pr);
}

static uint64_t
process_start(uint64_t pid)
{
	return (process_look(pid).start_time);
}

/*
 * A process that only root may look at (/proc mounted with hidepid) is alive all the same.  One that nobody has waited for yet is gone,
 * unless only its first thread has ended.
 */
static bool
process_is_gone(uint64_t pid, uint64_t start_time)
{
	struct process pr = process_look(pid);

	if (pr.start_time != 0)
		return (pr.start_time != start_time || (strchr("ZX", pr.state) != NULL && pr.threads <= 1));
	return (pid == 0 || pid > INT_MAX || (kill((pid_t)pid, 0) == -1 && errno == ESRCH));
}

static void
boot_and_namespace(char *boot_id, size_t nboot, char *ns, size_t nns)
{
	ssize_t n = readlink("/proc/self/ns/pid", ns, nns - 1);

	ns[n > 0 ? n : 0] = '\0';
	read_line("/proc/sys/kernel/random/boot_id", boot_id, nboot);
}

static void
copy_text(const json_t *o, const char *key, char *out, size_t n)
{
	const char *v = json_string_value(json_object_get(o, key));

	snprintf(out, n, "%s", v != NULL ? v : "");
}

/* Fails with ENOENT when the lock is gone.  One that cannot be understood (its holder is just writing it) has an empty token. */
static int
read_holder(struct store *st, const char *path, struct holder *h, struct err *err)
{
	struct buf text = BUF_INIT;
	struct err ignored = ERR_INIT;
	json_t *o;

	memset(h, 0, sizeof(*h));
	if (store_read_small(st, path, LOCK_MAX, &text, err) == -1) {
		buf_free(&text);
		return (err->code == ENOENT ? -1 : 0);
	}
	o = doc_parse(text.ptr, text.len, path, &ignored);
	copy_text(o, "token", h->token, sizeof(h->token));
	copy_text(o, "host", h->host, sizeof(h->host));
	copy_text(o, "program", h->program, sizeof(h->program));
	copy_text(o, "boot_id", h->boot_id, sizeof(h->boot_id));
	copy_text(o, "pid_namespace", h->pid_namespace, sizeof(h->pid_namespace));
	h->pid = (uint64_t)json_integer_value(json_object_get(o, "pid"));
	h->start_time = (uint64_t)json_integer_value(json_object_get(o, "start_time"));
	json_decref(o);
	buf_free(&text);
	return (0);
}

/*
 * The storage's clock is read off our own lock, which was just touched.  When that clock is set back, locks come to lie in the future, and
 * their holders renew them within 30 s.  One that is far ahead of it may have none: it is renewed for them, once, so that it grows old from
 * now on.  That can only keep a live lock alive.
 */
static int
is_dead(struct lock *lk, const char *path, const struct holder *h, bool *dead, struct err *err)
{
	struct store_stat ours, theirs;
	char boot_id[64], ns[64];

	*dead = false;
	boot_and_namespace(boot_id, sizeof(boot_id), ns, sizeof(ns));
	if (h->token[0] != '\0' && h->boot_id[0] != '\0' && strcmp(h->boot_id, boot_id) == 0 && strcmp(h->pid_namespace, ns) == 0) {
		*dead = process_is_gone(h->pid, h->start_time);
		if (*dead)
			return (0);
	}
	if (store_touch(lk->st, lk->path, err) == -1 || store_stat(lk->st, lk->path, &ours, err) == -1 ||
	    store_stat(lk->st, path, &theirs, err) == -1)
		return (-1);
	*dead = ours.mtime - theirs.mtime > DEAD_S;
	if (theirs.mtime - ours.mtime > DEAD_S && store_touch(lk->st, path, err) == -1 && err->code == ENOENT)
		return (-1);
	return (0);
}

static int
write_lock_file(struct lock *lk, struct err *err)
{
	char host[256] = "", boot_id[64], ns[64], fresh[PATH_MAX_LOCK];
	struct store_file *f;
	struct buf text = BUF_INIT;
	int rc = -1;

	gethostname(host, sizeof(host) - 1);
	boot_and_namespace(boot_id, sizeof(boot_id), ns, sizeof(ns));
	if (doc_write(json_pack("{s:s, s:s, s:I, s:s, s:s, s:I, s:s}", "token", lk->token, "host", host, "pid", (json_int_t)getpid(),
	    "boot_id", boot_id, "pid_namespace", ns, "start_time", (json_int_t)process_start((uint64_t)getpid()),
	    "program", lk->program), &text, err) == -1)
		goto out;
	/* Under another name until it says whose it is: a lock that says nothing could not be broken for five minutes. */
	snprintf(fresh, sizeof(fresh), "%s/new-%s.lock", LOCKS_DIR, lk->token);
	if ((f = store_create(lk->st, fresh, err)) == NULL && err->code == ENOENT &&
	    (store_mkdir(lk->st, LOCKS_DIR, err) == 0 || err->code == EEXIST))
		f = store_create(lk->st, fresh, err);
	if (f == NULL)
		goto out;
	rc = store_append(f, text.ptr, text.len, err);
	store_file_close(f);
	/* A full repository can still be swept: an empty file is a lock too, until it is old. */
	if (rc == -1 && err->code == ENOSPC && strncmp(lk->path, ALONE_PATH, strlen(ALONE_PATH)) == 0) {
		lk->wordless = true;
		rc = 0;
	}
	if (rc == 0)
		rc = store_rename(lk->st, fresh, lk->path, err);
	if (rc == -1)
		store_unlink(lk->st, fresh, &(struct err)ERR_INIT);
	if (rc == -1 && err->code == ENOSPC)
		err_wrap(err, "the repository is full (folders in it that end in .partial are unfinished, and may be removed by hand)");
out:
	buf_free(&text);
	return (rc);
}

int
lock_check(struct lock *lk, struct err *err)
{
	struct holder h;

	*err = (struct err)ERR_INIT;
	if (read_holder(lk->st, lk->path, &h, err) == 0 && err->code == 0 && strcmp(h.token, lk->wordless ? "" : lk->token) == 0)
		return (0);
	/* Storage that is out of reach, or does not let us read, says nothing about the lock, nor does a lack of memory here. */
	if (err->code != 0 && err->code != ENOENT)
		return (err_wrap(err, "cannot look at the lock"));
	return (err_set(err, 0, "%s/%s: the lock was taken away: this process was stopped or cut off for minutes; run it again", lk->st->url,
	    lk->path));
}

/* An error is not acted upon here: the next renewal may succeed, and lock_check() has the last word. */
static void *
renew_main(void *arg)
{
	struct lock *lk = arg;
	struct err ignored = ERR_INIT;
	struct timespec until;

	pthread_mutex_lock(&lk->mutex);
	while (!lk->stop) {
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += RENEW_S;
		if (pthread_cond_timedwait(&lk->wake, &lk->mutex, &until) != ETIMEDOUT)
			continue;
		pthread_mutex_unlock(&lk->mutex);
		if (lock_check(lk, &ignored) == 0)
			store_touch(lk->st, lk->path, &ignored);
		pthread_mutex_lock(&lk->mutex);
	}
	pthread_mutex_unlock(&lk->mutex);
	return (NULL);
}

static struct lock *
lock_new(struct store *st, const char *program, const char *kind, struct err *err)
{
	struct lock *lk = calloc(1, sizeof(*lk));
	pthread_condattr_t steady;
	uint8_t random[8];

	if (lk == NULL || (lk->program = strdup(program)) == NULL) {
		free(lk);
		err_nomem(err);
		return (NULL);
	}
	lk->st = st;
	pthread_mutex_init(&lk->mutex, NULL);
	pthread_condattr_init(&steady);
	pthread_condattr_setclock(&steady, CLOCK_MONOTONIC);
	pthread_cond_init(&lk->wake, &steady);
	pthread_condattr_destroy(&steady);
	if (io_random(random, sizeof(random), err) == -1) {
		lock_release(lk);
		return (NULL);
	}
	for (size_t i = 0; i < sizeof(random); i++)
		snprintf(lk->token + 2 * i, 3, "%02x", random[i]);
	snprintf(lk->path, sizeof(lk->path), "%s/%s%s.lock", LOCKS_DIR, kind, lk->token);
	return (lk);
}

static int
start_renewing(struct lock *lk, struct err *err)
{
	if (thread_start(&lk->renewer, renew_main, lk, err) == -1)
		return (err_wrap(err, "cannot renew the lock of %s", lk->st->url));
	lk->renewing = true;
	return (0);
}

static int
held_by(const struct lock *lk, const struct holder *h, struct err *err)
{
	return (err_plain(err, EBUSY, "%s is held by %s (process %llu on %s)", lk->st->url, h->program[0] ? h->program : "somebody",
	    (unsigned long long)h->pid, h->host[0] ? h->host : "another host"));
}

/* Look at one lock: 0 when it is gone or was dead and is broken, -1 with EBUSY when it is held. */
static int
pass_lock(struct lock *lk, const char *path, struct err *err)
{
	struct holder h;
	bool dead;

	if (read_holder(lk->st, path, &h, err) == -1)
		return (0);
	if (strcmp(path, lk->path) == 0)
		return (0);
	if (is_dead(lk, path, &h, &dead, err) == -1)
		return (err->code == ENOENT ? 0 : -1);
	if (!dead)
		return (held_by(lk, &h, err));
	/* No two locks ever have the same name: this is the one that was judged. */
	return (store_unlink(lk->st, path, err) == -1 && err->code != ENOENT ? -1 : 0);
}

static int
pass_any(void *arg, const char *name, struct err *err)
{
	struct lock *lk = arg;
	char path[PATH_MAX_LOCK];

	if (strlen(name) > 64)
		return (0);
	snprintf(path, sizeof(path), "%s/%s", LOCKS_DIR, name);
	return (pass_lock(lk, path, err));
}

static int
pass_alone(void *arg, const char *name, struct err *err)
{
	return (strncmp(name, ALONE_PREFIX, strlen(ALONE_PREFIX)) == 0 ? pass_any(arg, name, err) : 0);
}

struct lock *
lock_run(struct store *st, const char *program, unsigned int wait_s, const atomic_int *stop, struct err *err)
{
	struct lock *lk = lock_new(st, program, RUN_PREFIX, err);

	if (lk == NULL)
		return (NULL);
	for (;; wait_s--) {
		if (write_lock_file(lk, err) == -1)
			goto fail;
		if (store_list(st, LOCKS_DIR, pass_alone, lk, err) == 0)
			break;
		store_unlink(st, lk->path, &(struct err)ERR_INIT);
		if (err->code != EBUSY || wait_s == 0)
			goto fail;
		if (stop != NULL && *stop) {
			err_wrap(err, "stopped while waiting");
			goto fail;
		}
		sleep(1);
	}
	if (start_renewing(lk, err) == 0)
		return (lk);
	store_unlink(st, lk->path, &(struct err)ERR_INIT);
fail:
	lk->path[0] = '\0';
	lock_release(lk);
	return (NULL);
}

int
lock_break_dead_runs(struct lock *lk, struct err *err)
{
	return (store_list(lk->st, LOCKS_DIR, pass_any, lk, err));
}

struct lock *
lock_alone(struct store *st, const char *program, struct err *err)
{
	struct lock *lk = lock_new(st, program, ALONE_PREFIX, err);

	if (lk == NULL)
		return (NULL);
	if (write_lock_file(lk, err) == -1)
		lk->path[0] = '\0';
	else if (lock_break_dead_runs(lk, err) == 0 && start_renewing(lk, err) == 0)
		return (lk);
	lock_release(lk);
	return (NULL);
}

/* Two that try at the same moment both give way: so none waits exactly as long as another. */
static void
wait_a_while(void)
{
	struct timespec ts = { 0, 500 * 1000 * 1000 };
	uint8_t random[2] = { 0, 0 };
	struct err ignored = ERR_INIT;

	if (io_random(random, sizeof(random), &ignored) == 0)
		ts.tv_nsec += (long)(random[0] << 8 | random[1]) * 7000;
	nanosleep(&ts, NULL);
}

struct lock *
lock_alone_wait(struct store *st, const char *program, unsigned int wait_s, const atomic_int *stop, struct err *err)
{
	struct timespec now, end;
	struct lock *lk;

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += (time_t)wait_s;
	while ((lk = lock_alone(st, program, err)) == NULL && err->code == EBUSY) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (now.tv_sec >= end.tv_sec)
			break;
		if (stop != NULL && *stop) {
			err_wrap(err, "stopped while waiting");
			return (NULL);
		}
		wait_a_while();
	}
	return (lk);
}

int
lock_is_held(struct lock *lk, const char *token, struct err *err)
{
	char path[PATH_MAX_LOCK];
	struct holder h;
	bool dead;

	snprintf(path, sizeof(path), "%s/%s%.*s.lock", LOCKS_DIR, RUN_PREFIX, (int)LOCK_TOKEN_LEN - 1, token);
	if (read_holder(lk->st, path, &h, err) == -1)
		return (err->code == ENOENT ? 0 : -1);
	if (is_dead(lk, path, &h, &dead, err) == -1)
		return (err->code == ENOENT ? 0 : -1);
	return (dead ? 0 : 1);
}

const char *
lock_token(const struct lock *lk)
{
	return (lk->token);
}

int
lock_end(struct lock *lk, struct err *err)
{
	struct err why = ERR_INIT;
	int rc = 0;

	if (lk->renewing) {
		pthread_mutex_lock(&lk->mutex);
		lk->stop = true;
		pthread_cond_signal(&lk->wake);
		pthread_mutex_unlock(&lk->mutex);
		pthread_join(lk->renewer, NULL);
	}
	/* What is another's by now is left to it, and nothing is wrong; what cannot be looked at may still be ours. */
	if (lk->path[0] != '\0' && lock_check(lk, &why) == 0)
		rc = store_unlink(lk->st, lk->path, err);
	else if (why.code != 0) {
		*err = why;
		rc = -1;
	}
	pthread_mutex_destroy(&lk->mutex);
	pthread_cond_destroy(&lk->wake);
	free(lk->program);
	free(lk);
	return (rc);
}

void
lock_release(struct lock *lk)
{
	if (lk != NULL)
		lock_end(lk, &(struct err)ERR_INIT);
}
