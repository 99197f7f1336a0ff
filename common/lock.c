#include "lock.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "buf.h"
#include "document.h"
#include "io.h"

#define RENEW_S		30
#define DEAD_S		300		/* by the storage's clock */
#define LOCK_MAX	4096u		/* bytes of a lock file */
#define ALONE_PATH	LOCKS_DIR "/exclusive.lock"
#define RUN_PREFIX	"run-"
#define PATH_MAX_LOCK	128u

struct lock {
	struct store	*st;
	char		 path[PATH_MAX_LOCK];
	char		 token[LOCK_TOKEN_LEN];
	char		*program;

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

/* Field 22 of /proc/PID/stat; the second field, in brackets, may hold anything.  0 when there is no such process. */
static uint64_t
process_start(uint64_t pid)
{
	char path[64], line[1024], *p;
	int field;

	snprintf(path, sizeof(path), "/proc/%llu/stat", (unsigned long long)pid);
	read_line(path, line, sizeof(line));
	if ((p = strrchr(line, ')')) == NULL)
		return (0);
	for (field = 2; field < 22 && p != NULL; field++)
		if ((p = strchr(p, ' ')) != NULL)
			p++;
	return (p != NULL ? strtoull(p, NULL, 10) : 0);
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

/* The storage's clock is read off our own lock, which was just touched. */
static int
is_dead(struct lock *lk, const char *path, const struct holder *h, bool *dead, struct err *err)
{
	struct store_stat ours, theirs;
	char boot_id[64], ns[64];

	*dead = false;
	boot_and_namespace(boot_id, sizeof(boot_id), ns, sizeof(ns));
	if (h->token[0] != '\0' && h->boot_id[0] != '\0' && strcmp(h->boot_id, boot_id) == 0 && strcmp(h->pid_namespace, ns) == 0) {
		*dead = process_start(h->pid) != h->start_time;
		if (*dead)
			return (0);
	}
	if (store_touch(lk->st, lk->path, err) == -1 || store_stat(lk->st, lk->path, &ours, err) == -1 ||
	    store_stat(lk->st, path, &theirs, err) == -1)
		return (-1);
	*dead = ours.mtime - theirs.mtime > DEAD_S;
	return (0);
}

/*
 * Break a dead lock: rename it away, and look at what was renamed.  If that is a new holder's, who came in between, it goes back to its
 * place, where that holder has meanwhile found it missing at worst.
 */
static int
break_lock(struct lock *lk, const char *path, const struct holder *seen, struct err *err)
{
	char away[PATH_MAX_LOCK];
	struct holder got;
	struct err ignored = ERR_INIT;

	snprintf(away, sizeof(away), "%s/broken-%s.lock", LOCKS_DIR, lk->token);
	if (store_rename(lk->st, path, away, err) == -1)
		return (err->code == ENOENT ? 0 : -1);
	if (read_holder(lk->st, away, &got, err) == -1)
		return (0);
	if (strcmp(got.token, seen->token) != 0) {
		store_rename(lk->st, away, path, &ignored);
		return (0);
	}
	return (store_unlink(lk->st, away, err));
}

static int
write_lock_file(struct lock *lk, struct err *err)
{
	char host[256] = "", boot_id[64], ns[64];
	struct store_file *f;
	struct buf text = BUF_INIT;
	int rc = -1;

	gethostname(host, sizeof(host) - 1);
	boot_and_namespace(boot_id, sizeof(boot_id), ns, sizeof(ns));
	if (doc_write(json_pack("{s:s, s:s, s:I, s:s, s:s, s:I, s:s}", "token", lk->token, "host", host, "pid", (json_int_t)getpid(),
	    "boot_id", boot_id, "pid_namespace", ns, "start_time", (json_int_t)process_start((uint64_t)getpid()),
	    "program", lk->program), &text, err) == -1)
		goto out;
	if ((f = store_create(lk->st, lk->path, err)) == NULL)
		goto out;
	rc = store_append(f, text.ptr, text.len, err);
	store_file_close(f);
	if (rc == -1)
		store_unlink(lk->st, lk->path, &(struct err)ERR_INIT);
out:
	buf_free(&text);
	return (rc);
}

int
lock_check(struct lock *lk, struct err *err)
{
	struct holder h;

	if (read_holder(lk->st, lk->path, &h, err) == 0 && strcmp(h.token, lk->token) == 0)
		return (0);
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
		clock_gettime(CLOCK_REALTIME, &until);
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
	uint8_t random[8];

	if (lk == NULL || (lk->program = strdup(program)) == NULL) {
		free(lk);
		err_nomem(err);
		return (NULL);
	}
	lk->st = st;
	pthread_mutex_init(&lk->mutex, NULL);
	pthread_cond_init(&lk->wake, NULL);
	if (io_random(random, sizeof(random), err) == -1 || (store_mkdir(st, LOCKS_DIR, err) == -1 && err->code != EEXIST)) {
		lock_release(lk);
		return (NULL);
	}
	for (size_t i = 0; i < sizeof(random); i++)
		snprintf(lk->token + 2 * i, 3, "%02x", random[i]);
	if (kind == NULL)
		snprintf(lk->path, sizeof(lk->path), "%s", ALONE_PATH);
	else
		snprintf(lk->path, sizeof(lk->path), "%s/%s%s.lock", LOCKS_DIR, kind, lk->token);
	return (lk);
}

static int
start_renewing(struct lock *lk, struct err *err)
{
	sigset_t all, old;
	int r;

	/* Signals are for the program's own threads. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&lk->renewer, NULL, renew_main, lk);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r != 0)
		return (err_set(err, r, "cannot start a thread"));
	lk->renewing = true;
	return (0);
}

static int
held_by(const struct lock *lk, const struct holder *h, struct err *err)
{
	return (err_set(err, EBUSY, "%s is held by %s (process %llu on %s)", lk->st->url, h->program[0] ? h->program : "somebody",
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
	if (strcmp(h.token, lk->token) == 0)
		return (0);
	if (is_dead(lk, path, &h, &dead, err) == -1)
		return (err->code == ENOENT ? 0 : -1);
	return (dead ? break_lock(lk, path, &h, err) : held_by(lk, &h, err));
}

struct lock *
lock_run(struct store *st, const char *program, unsigned int wait_s, struct err *err)
{
	struct lock *lk = lock_new(st, program, RUN_PREFIX, err);

	if (lk == NULL)
		return (NULL);
	for (;; wait_s--) {
		if (write_lock_file(lk, err) == -1)
			goto fail;
		if (pass_lock(lk, ALONE_PATH, err) == 0)
			break;
		store_unlink(st, lk->path, &(struct err)ERR_INIT);
		if (err->code != EBUSY || wait_s == 0)
			goto fail;
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

static int
pass_run(void *arg, const char *name, struct err *err)
{
	struct lock *lk = arg;
	char path[PATH_MAX_LOCK];

	if (strncmp(name, RUN_PREFIX, strlen(RUN_PREFIX)) != 0 || strlen(name) > 64)
		return (0);
	snprintf(path, sizeof(path), "%s/%s", LOCKS_DIR, name);
	return (pass_lock(lk, path, err));
}

int
lock_break_dead_runs(struct lock *lk, struct err *err)
{
	return (store_list(lk->st, LOCKS_DIR, pass_run, lk, err));
}

/* Make exclusive.lock, breaking a dead one once. */
static int
take_alone(struct lock *lk, struct err *err)
{
	struct lock *probe;
	int rc;

	if (write_lock_file(lk, err) == 0)
		return (0);
	if (err->code != EEXIST)
		return (-1);
	/* Judging the other's age takes a file of our own to read the storage's clock off. */
	if ((probe = lock_new(lk->st, lk->program, "probe-", err)) == NULL)
		return (-1);
	rc = write_lock_file(probe, err);
	if (rc == 0)
		rc = pass_lock(probe, ALONE_PATH, err);
	lock_release(probe);
	return (rc == 0 ? write_lock_file(lk, err) : -1);
}

struct lock *
lock_alone(struct store *st, const char *program, struct err *err)
{
	struct lock *lk = lock_new(st, program, NULL, err);

	if (lk == NULL)
		return (NULL);
	if (take_alone(lk, err) == -1) {
		if (err->code == EEXIST)
			err->code = EBUSY;
		lk->path[0] = '\0';
	} else if (lock_break_dead_runs(lk, err) == 0 && start_renewing(lk, err) == 0)
		return (lk);
	lock_release(lk);
	return (NULL);
}

const char *
lock_token(const struct lock *lk)
{
	return (lk->token);
}

void
lock_release(struct lock *lk)
{
	struct err ignored = ERR_INIT;

	if (lk == NULL)
		return;
	if (lk->renewing) {
		pthread_mutex_lock(&lk->mutex);
		lk->stop = true;
		pthread_cond_signal(&lk->wake);
		pthread_mutex_unlock(&lk->mutex);
		pthread_join(lk->renewer, NULL);
	}
	if (lk->path[0] != '\0' && lock_check(lk, &ignored) == 0)
		store_unlink(lk->st, lk->path, &ignored);
	pthread_mutex_destroy(&lk->mutex);
	pthread_cond_destroy(&lk->wake);
	free(lk->program);
	free(lk);
}
