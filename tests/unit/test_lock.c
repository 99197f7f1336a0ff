/* Locks of a repository: who may hold it with whom, which locks are dead, and what happens when two meet at the worst moment. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>

#include "hook_store.h"

/*
 * The module itself, with time made short: sleep() calls the test, and the wait between renewals takes 10 ms, whichever clock it
 * is measured on.  How long it would have been is kept.
 */
static void (*on_sleep)(void);
static unsigned int slept;
static _Atomic int wait_clock;
static _Atomic long wait_asked_s;

static unsigned int
short_sleep(unsigned int seconds)
{
	slept += seconds;
	if (on_sleep != NULL)
		on_sleep();
	return (0);
}

static int
noted_gettime(clockid_t clock, struct timespec *t)
{
	atomic_store(&wait_clock, (int)clock);
	return (clock_gettime(clock, t));
}

static int
short_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until)
{
	struct timespec t;

	clock_gettime((clockid_t)atomic_load(&wait_clock), &t);
	atomic_store(&wait_asked_s, until->tv_sec - t.tv_sec);
	if ((t.tv_nsec += 10000000) >= 1000000000) {
		t.tv_sec++;
		t.tv_nsec -= 1000000000;
	}
	return (pthread_cond_timedwait(cond, mutex, &t));
}

#define sleep			short_sleep
#define clock_gettime		noted_gettime
#define pthread_cond_timedwait	short_timedwait
#include "repository/lock.c"
#undef sleep
#undef clock_gettime
#undef pthread_cond_timedwait

/* A test that fails leaves with its locks held: they must be released before the store goes. */
static struct lock *taken[8];

static struct lock *
noted(struct lock *lk)
{
	size_t i = 0;

	while (taken[i] != NULL)
		i++;
	taken[i] = lk;
	return (lk);
}

static void
forget(const struct lock *lk)
{
	for (size_t i = 0; i < sizeof(taken) / sizeof(taken[0]); i++)
		if (taken[i] == lk)
			taken[i] = NULL;
}

static void
noted_release(struct lock *lk)
{
	forget(lk);
	lock_release(lk);
}

#define lock_run(...)	noted(lock_run(__VA_ARGS__))
#define lock_alone(...)	noted(lock_alone(__VA_ARGS__))
#define lock_release(lk) noted_release(lk)

#define EXCLUSIVE	".locks/exclusive-" OTHER_TOKEN ".lock"
#define ME		"the program"
#define OTHER_TOKEN	"0123456789abcdef"

static char folder[64];
static struct store *plain;		/* the folder, for the other program */
static struct hook_store *hooked;	/* the same folder, for the one that is watched */

static int
setup(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	snprintf(folder, sizeof(folder), "/tmp/ovb-test-lock.XXXXXX");
	if (mkdtemp(folder) == NULL || chdir(folder) == -1 || mkdir(".locks", 0700) == -1 || (plain = store_open(folder, false, &err)) == NULL)
		return (-1);
	hooked = hook_open(folder);
	on_sleep = NULL;
	slept = 0;
	return (0);
}

static int
teardown(void **state)
{
	(void)state;
	hooked->at = hooked->fail_at = 0;
	for (size_t i = 0; i < sizeof(taken) / sizeof(taken[0]); i++)
		lock_release(taken[i]);
	store_close(plain);
	store_close(&hooked->st);
	if (chdir("/") == -1)
		return (-1);
	remove_all(folder);
	return (0);
}

/* An empty folder once more, for a test that goes through many cases. */
static void
again(void)
{
	teardown(NULL);
	assert_int_equal(setup(NULL), 0);
}

static unsigned int
lock_files(void)
{
	DIR *d = opendir(".locks");
	struct dirent *de;
	unsigned int n = 0;

	assert_non_null(d);
	while ((de = readdir(d)) != NULL)
		n += de->d_name[0] != '.';
	closedir(d);
	return (n);
}

/* Take a lock that must be had. */
static struct lock *
take(struct lock *lk, const struct err *err)
{
	if (lk == NULL)
		fail_msg("no lock: %s", err->text);
	return (lk);
}

static struct lock *
must_run(void)
{
	struct err err = ERR_INIT;

	return (take(lock_run(plain, ME, 0, NULL, &err), &err));
}

static struct lock *
must_alone(void)
{
	struct err err = ERR_INIT;

	return (take(lock_alone(plain, ME, &err), &err));
}

static bool
still_held(struct lock *lk)
{
	struct err err = ERR_INIT;

	return (lk != NULL && lock_check(lk, &err) == 0);
}

/* Somebody's lock, as a file. */
struct by_hand {
	const char	*token, *host, *boot_id, *pid_namespace;
	long		 pid;
	uint64_t	 start_time;
	long		 age_s;
};

static struct by_hand
mine(void)
{
	static char boot_id[64], ns[64];

	boot_and_namespace(boot_id, sizeof(boot_id), ns, sizeof(ns));
	return ((struct by_hand){ OTHER_TOKEN, "somehost", boot_id, ns, getpid(), process_start((uint64_t)getpid()), 0 });
}

/* One whose process is gone. */
static struct by_hand
dead(void)
{
	struct by_hand l = mine();
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	l.pid = pid;
	l.start_time = 1;
	return (l);
}

static void
put(const char *path, struct by_hand l)
{
	char text[1024];

	snprintf(text, sizeof(text), "{ \"token\": \"%s\", \"host\": \"%s\", \"pid\": %ld, \"boot_id\": \"%s\", \"pid_namespace\": \"%s\", "
	    "\"start_time\": %llu, \"program\": \"another program\" }\n", l.token, l.host, l.pid, l.boot_id, l.pid_namespace,
	    (unsigned long long)l.start_time);
	write_text(path, text);
	make_old(path, l.age_s);
}

/* Who may hold it with whom. */

static void
runs_go_side_by_side(void **state)
{
	struct lock *a = must_run(), *b = must_run();

	(void)state;
	assert_int_equal(lock_files(), 2);
	assert_string_not_equal(lock_token(a), lock_token(b));
	assert_int_equal(strlen(lock_token(a)), 16);
	assert_int_equal(strspn(lock_token(a), "0123456789abcdef"), 16);
	assert_true(still_held(a) && still_held(b));
	lock_release(a);
	assert_true(still_held(b));
	assert_int_equal(lock_files(), 1);
	lock_release(b);
	lock_release(NULL);
	assert_int_equal(lock_files(), 0);
}

static void
one_alone(void **state)
{
	struct lock *a = must_alone();
	struct err err = ERR_INIT;
	char before[1024], after[1024], holder[64];

	(void)state;
	read_text(a->path, before, sizeof(before));
	assert_null(lock_alone(plain, ME, &err));
	assert_int_equal(err.code, EBUSY);
	snprintf(holder, sizeof(holder), "%s (process %ld on ", ME, (long)getpid());
	assert_non_null(strstr(err.text, holder));
	assert_string_equal(read_text(a->path, after, sizeof(after)), before);
	assert_int_not_equal(strlen(before), 0);
	assert_int_equal(lock_files(), 1);
	assert_true(still_held(a));
	lock_release(a);
	assert_int_equal(lock_files(), 0);
	lock_release(must_alone());
}

static void
alone_gives_way_to_a_run(void **state)
{
	struct lock *a = must_run();
	struct err err = ERR_INIT;

	(void)state;
	assert_null(lock_alone(plain, ME, &err));
	assert_int_equal(err.code, EBUSY);
	assert_non_null(strstr(err.text, "held by " ME));
	assert_int_equal(lock_files(), 1);
	assert_true(still_held(a));
	lock_release(a);
	lock_release(must_alone());
	assert_int_equal(lock_files(), 0);
}

static struct lock *to_release;

static void
release_at_second_sleep(void)
{
	assert_int_equal(lock_files(), 1);	/* who waits must not be seen as a live run */
	if (slept != 2)
		return;
	lock_release(to_release);
	to_release = NULL;
}

static void
a_run_waits(void **state)
{
	struct err err = ERR_INIT;
	struct lock *run;

	(void)state;
	to_release = must_alone();
	assert_null(lock_run(plain, ME, 0, NULL, &err));
	assert_int_equal(slept, 0);
	assert_null(lock_run(plain, ME, 7, NULL, &err));
	assert_int_equal(slept, 7);
	assert_int_equal(err.code, EBUSY);
	assert_non_null(strstr(err.text, "held by " ME));
	assert_int_equal(lock_files(), 1);
	slept = 0;
	on_sleep = release_at_second_sleep;
	run = lock_run(plain, ME, 7, NULL, &err);
	assert_non_null(run);
	assert_int_equal(slept, 2);
	lock_release(run);
}

/* Which locks are dead. */

static const struct judged {
	const char	*what;
	bool		 this_boot, this_namespace, running, this_start;
	long		 age_s;
	bool		 dead;
} judged[] = {
	{ "a running process", true, true, true, true, 0, false },
	{ "a process that is gone", true, true, false, true, 0, true },
	{ "another process with its number", true, true, true, false, 0, true },
	{ "a process of another boot", false, true, false, false, 0, false },
	{ "a process of another container", true, false, false, false, 0, false },
	{ "another host's, 290 s old", false, false, false, false, 290, false },
	{ "another host's, 310 s old", false, false, false, false, 310, true },
	{ "another host's, by a clock ahead", false, false, false, false, -30, false },
	{ "a running process that did not renew it for 310 s", true, true, true, true, 310, true },
};

static struct by_hand
lock_of(const struct judged *c)
{
	struct by_hand l = c->running ? mine() : dead();

	l.boot_id = c->this_boot ? l.boot_id : "11111111-2222-3333-4444-555555555555";
	l.pid_namespace = c->this_namespace ? l.pid_namespace : "pid:[1]";
	l.start_time += c->running && !c->this_start;
	l.age_s = c->age_s;
	return (l);
}

static void
which_are_dead(void **state)
{
	static const char *const paths[] = { EXCLUSIVE, EXCLUSIVE, ".locks/run-" OTHER_TOKEN ".lock" };
	struct err err;
	struct lock *lk;

	(void)state;
	for (size_t i = 0; i < 3 * sizeof(judged) / sizeof(judged[0]); i++) {
		const struct judged *c = &judged[i / 3];
		const char *path = paths[i % 3];

		again();
		err = (struct err)ERR_INIT;
		put(path, lock_of(c));
		lk = i % 3 == 0 ? lock_run(plain, ME, 0, NULL, &err) : lock_alone(plain, ME, &err);
		if ((lk != NULL) != c->dead || (lk == NULL && (err.code != EBUSY || strstr(err.text, "another program") == NULL)))
			fail_msg("%s in %s: %s", c->what, path, lk != NULL ? "broken" : err.text);
		lock_release(lk);
		if (lock_files() != !c->dead)
			fail_msg("%s in %s: %u lock files afterwards", c->what, path, lock_files());
	}
}

/* Somebody's child that has ended, and is not waited for. */
static void
unreaped(void **state)
{
	struct by_hand l = mine();
	siginfo_t info;
	pid_t pid;

	(void)state;
	if ((pid = fork()) == 0)
		for (;;)
			pause();
	assert_true(pid > 0);
	l.pid = pid;
	l.start_time = process_start((uint64_t)pid);
	assert_int_not_equal(l.start_time, 0);
	put(EXCLUSIVE, l);
	assert_null(lock_run(plain, ME, 0, NULL, &(struct err)ERR_INIT));
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	assert_int_equal(process_start((uint64_t)pid), l.start_time);
	lock_release(must_run());
	assert_int_equal(lock_files(), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void *
outlive_main(void *arg)
{
	(void)arg;
	for (;;)
		pause();
	return (NULL);
}

/* To /proc, a program whose first thread has ended looks the same but for its threads. */
static void
first_thread_ended(void **state)
{
	struct by_hand l = mine();
	pthread_t thread;
	pid_t pid;

	(void)state;
	if ((pid = fork()) == 0) {
		if (pthread_create(&thread, NULL, outlive_main, NULL) != 0)
			_exit(1);
		pthread_exit(NULL);
	}
	assert_true(pid > 0);
	for (int i = 0; i < 500 && process_look((uint64_t)pid).state != 'Z'; i++)
		usleep(10000);
	assert_int_equal(process_look((uint64_t)pid).state, 'Z');
	l.pid = pid;
	l.start_time = process_start((uint64_t)pid);
	put(EXCLUSIVE, l);
	assert_null(lock_run(plain, ME, 0, NULL, &(struct err)ERR_INIT));
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	lock_release(must_run());
}

/* The storage's clock was a day ahead, and was set right. */
static void
from_the_future(void **state)
{
	static const char *const paths[] = { EXCLUSIVE, ".locks/run-" OTHER_TOKEN ".lock" };
	struct err err = ERR_INIT;
	struct by_hand l = mine();

	(void)state;
	l.boot_id = "11111111-2222-3333-4444-555555555555";
	for (size_t i = 0; i < 2; i++) {
		/* It counts from the moment that it is seen ... */
		l.age_s = -86400;
		put(paths[i], l);
		assert_null(lock_alone(plain, ME, &err));
		assert_int_equal(err.code, EBUSY);
		assert_in_range(age_of(paths[i]), 0, 5);
		make_old(paths[i], 290);
		assert_null(lock_alone(plain, ME, &err));
		assert_true(age_of(paths[i]) >= 290);
		make_old(paths[i], 310);
		lock_release(must_alone());
		assert_false(exists(paths[i]));
		/* ... and a little ahead, as another clock may be, from its own time. */
		l.age_s = -290;
		put(paths[i], l);
		assert_null(lock_alone(plain, ME, &err));
		assert_true(age_of(paths[i]) < -280);
		assert_int_equal(unlink(paths[i]), 0);
	}
}

/* A time that cannot be set is no reason to break it, and none to fail otherwise. */
static void
from_the_future_of_another_user(void **state)
{
	struct by_hand l = mine();
	struct err err = ERR_INIT;
	const char *line;
	unsigned int n = 1;

	(void)state;
	l.boot_id = "11111111-2222-3333-4444-555555555555";
	l.age_s = -86400;
	put(EXCLUSIVE, l);
	assert_null(lock_run(&hooked->st, ME, 0, NULL, &err));
	assert_non_null(line = strstr(hooked->log.ptr, "touch " EXCLUSIVE));
	for (const char *p = hooked->log.ptr; p < line; p++)
		n += *p == '\n';
	again();
	put(EXCLUSIVE, l);
	hooked->fail_at = n;
	hooked->fail_code = EACCES;
	assert_null(lock_run(&hooked->st, ME, 0, NULL, &err));
	assert_int_equal(err.code, EBUSY);
	assert_string_equal(hooked->failed, "touch");
	assert_true(age_of(EXCLUSIVE) < -86000);
	assert_int_equal(lock_files(), 1);
}

/* It goes away just before. */
static void
remove_exclusive(void *arg)
{
	(void)arg;
	unlink(EXCLUSIVE);
}

static void
from_the_future_and_gone(void **state)
{
	struct by_hand l = mine();
	struct err err = ERR_INIT;
	unsigned int calls;
	struct lock *lk;

	(void)state;
	l.boot_id = "11111111-2222-3333-4444-555555555555";
	l.age_s = -86400;
	put(EXCLUSIVE, l);
	assert_null(lock_run(&hooked->st, ME, 0, NULL, &err));
	for (calls = hooked->calls; calls > 0; calls--) {
		again();
		put(EXCLUSIVE, l);
		hooked->at = calls;
		hooked->act = remove_exclusive;
		lk = lock_run(&hooked->st, ME, 0, NULL, &err);
		if (lk == NULL && err.code != EBUSY)
			fail_msg("gone before call %u: %s", calls, err.text);
		lock_release(lk);
		assert_int_equal(lock_files(), 0);
	}
}

static void
not_understood(void **state)
{
	static const char *const texts[] = { "", "{", "[]", "{}", "null", "{ \"token\": 5, \"pid\": \"x\" }", "\xff\xfe\n", "{ \"pid\": -1 }" };
	struct err err = ERR_INIT;
	struct lock *lk;

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		again();
		write_text(EXCLUSIVE, texts[i]);
		if (lock_run(plain, ME, 0, NULL, &err) != NULL || err.code != EBUSY)
			fail_msg("'%s' does not hold the repository: %s", texts[i], err.text);
		if (lock_alone(plain, ME, &err) != NULL || err.code != EBUSY)
			fail_msg("'%s' does not hold the repository alone: %s", texts[i], err.text);
		make_old(EXCLUSIVE, 310);
		assert_non_null(lk = lock_run(plain, ME, 0, NULL, &err));
		lock_release(lk);
		assert_int_equal(lock_files(), 0);
		write_text(".locks/run-x.lock", texts[i]);
		assert_null(lock_alone(plain, ME, &err));
		make_old(".locks/run-x.lock", 310);
		lock_release(must_alone());
		assert_int_equal(lock_files(), 0);
	}
}

/* A lock file is read by others the moment that it is there. */
static void
huge_lock(void **state)
{
	static char text[100000];
	struct err err = ERR_INIT;

	(void)state;
	memset(text, ' ', sizeof(text) - 1);
	write_text(EXCLUSIVE, text);
	assert_null(lock_run(plain, ME, 0, NULL, &err));
	assert_int_equal(err.code, EBUSY);
	make_old(EXCLUSIVE, 310);
	lock_release(must_run());
}

/* What a program that was killed while it broke a lock leaves behind. */
static void
remains_are_removed(void **state)
{
	struct by_hand l = dead();

	(void)state;
	put(".locks/broken-aaaaaaaaaaaaaaaa.lock", l);
	put(".locks/probe-bbbbbbbbbbbbbbbb.lock", l);
	put(".locks/run-cccccccccccccccc.lock", l);
	lock_release(must_alone());
	assert_false(exists(".locks/run-cccccccccccccccc.lock"));
	assert_false(exists(".locks/broken-aaaaaaaaaaaaaaaa.lock"));
	assert_false(exists(".locks/probe-bbbbbbbbbbbbbbbb.lock"));
}

/* A lock that is lost. */

static void
lost(void **state)
{
	struct err err = ERR_INIT;
	struct by_hand l = mine();
	struct lock *lk = must_run();
	char path[128];

	(void)state;
	snprintf(path, sizeof(path), ".locks/run-%s.lock", lock_token(lk));
	assert_int_equal(lock_check(lk, &err), 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(lock_check(lk, &err), -1);
	assert_non_null(strstr(err.text, path));
	assert_non_null(strstr(err.text, "taken away"));
	put(path, l);
	assert_int_equal(lock_check(lk, &err), -1);
	lock_release(lk);
	assert_true(exists(path));		/* it is another's now */

	lk = must_run();
	snprintf(path, sizeof(path), ".locks/run-%s.lock", lock_token(lk));
	write_text(path, "");
	assert_int_equal(lock_check(lk, &err), -1);
	lock_release(lk);
}

/* A lock that cannot be looked at may still be ours: that it stays, and holds off others, is told. */
static void
not_looked_at(void **state)
{
	static const int codes[] = { ETIMEDOUT, ECONNRESET, EIO, EACCES };
	struct lock *lk;

	(void)state;
	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		struct err err = ERR_INIT;

		again();
		lk = lock_alone(&hooked->st, ME, &err);
		assert_non_null(lk);
		hooked->fail_op = "open";
		hooked->fail_code = codes[i];
		assert_int_equal(lock_check(lk, &err), -1);
		assert_int_equal(err.code, codes[i]);
		assert_null(strstr(err.text, "taken away"));
		err = (struct err)ERR_INIT;
		forget(lk);
		assert_int_equal(lock_end(lk, &err), -1);
		assert_int_equal(err.code, codes[i]);
		assert_non_null(strstr(err.text, "cannot look at the lock"));
		assert_int_equal(lock_files(), 1);
		hooked->fail_op = NULL;
	}
	/* One that was taken away is nobody's trouble. */
	again();
	lk = must_alone();
	assert_int_equal(unlink(lk->path), 0);
	forget(lk);
	assert_int_equal(lock_end(lk, &(struct err)ERR_INIT), 0);
}

static bool
becomes_new(const char *path)
{
	for (int i = 0; i < 200 && age_of(path) > 100; i++)
		usleep(10000);
	return (age_of(path) <= 100);
}

static void
renewed(void **state)
{
	struct lock *lks[] = { must_run(), NULL };
	char path[128];

	(void)state;
	snprintf(path, sizeof(path), ".locks/run-%s.lock", lock_token(lks[0]));
	for (int i = 0; i < 2; i++) {
		make_old(path, 250);
		assert_true(becomes_new(path));
	}
	assert_in_range(atomic_load(&wait_asked_s), 29, 31);
	lock_release(lks[0]);
	lks[1] = must_alone();
	make_old(lks[1]->path, 250);
	assert_true(becomes_new(lks[1]->path));
	lock_release(lks[1]);
}

/* Set back by ten minutes, the wall clock would let the lock grow too old. */
static void
renewed_by_a_steady_clock(void **state)
{
	struct lock *lk = must_run();

	(void)state;
	usleep(30000);
	lock_release(lk);
	assert_int_not_equal(atomic_load(&wait_clock), CLOCK_REALTIME);
}

static void
not_renewed_when_lost(void **state)
{
	struct by_hand l = mine();
	struct lock *lk = must_alone();

	(void)state;
	l.age_s = 250;
	write_text(".locks/new", "");
	put(".locks/new", l);
	assert_int_equal(rename(".locks/new", lk->path), 0);
	usleep(200000);
	assert_true(age_of(lk->path) >= 250);
	assert_int_equal(unlink(lk->path), 0);
	usleep(50000);
	lock_release(lk);
	assert_int_equal(lock_files(), 0);
}

/* Errors are no free pass, and leave nothing. */

static struct lock *
watched(bool alone, struct err *err)
{
	return (alone ? lock_alone(&hooked->st, ME, err) : lock_run(&hooked->st, ME, 0, NULL, err));
}

static void
failing_call(bool alone, bool held, unsigned int n, bool *reached)
{
	struct err err = ERR_INIT;
	struct lock *lk, *other;
	bool got;

	again();
	hooked->fail_at = n;
	hooked->fail_code = EIO;
	other = !held ? NULL : alone ? must_run() : must_alone();
	lk = watched(alone, &err);
	got = lk != NULL;
	*reached = hooked->calls >= n;
	hooked->fail_at = 0;
	lock_release(lk);
	lock_release(other);
	if (got && held)
		fail_msg("%s although it is held: %s failed", alone ? "alone" : "run", hooked->failed);
	if (!got && !held && strstr(err.text, "made to fail") == NULL && err.code != EBUSY)
		fail_msg("a failed %s is not told: %s", hooked->failed, err.text);
	/* What cannot be removed, or not be told from another's, stays. */
	if (lock_files() != 0 && strcmp(hooked->failed, "unlink") != 0 && strcmp(hooked->failed, "open") != 0)
		fail_msg("%s: %u lock files after a failed %s", alone ? "alone" : "run", lock_files(), hooked->failed);
}

static void
failing_calls(void **state)
{
	unsigned int n;
	bool reached;

	(void)state;
	for (int kind = 0; kind < 4; kind++) {
		for (n = 1, reached = true; reached; n++)
			failing_call(kind % 2, kind / 2, n, &reached);
		assert_true(n > 4);
	}
}

/*
 * Meetings.  One program takes a lock through the watched store; before its n-th call, another takes one in full.  Whoever is told
 * that it holds the repository alone must be the only one.
 */
struct meeting {
	bool		 other_alone;
	struct lock	*other;
};

static void
other_takes(void *arg)
{
	struct meeting *m = arg;
	struct err err = ERR_INIT;

	m->other = m->other_alone ? lock_alone(plain, "other", &err) : lock_run(plain, "other", 0, NULL, &err);
}

/* Returns whether there is such a call; then *${got} is raised when one of them had its lock. */
static bool
meet_at(bool alone, bool other_alone, bool over_dead, unsigned int n, unsigned int *got)
{
	struct meeting m = { other_alone, NULL };
	struct err err = ERR_INIT;
	struct lock *lk;
	bool one, both, reached;

	again();
	if (over_dead)
		put(EXCLUSIVE, dead());
	hooked->at = n;
	hooked->act = other_takes;
	hooked->arg = &m;
	lk = watched(alone, &err);
	one = lk != NULL || m.other != NULL;
	both = lk != NULL && m.other != NULL;
	reached = hooked->calls >= n;
	hooked->at = 0;
	lock_release(lk);
	lock_release(m.other);
	if (reached && both != (!alone && !other_alone))
		fail_msg("%s and %s %s hold it both, when they meet at call %u of\n%s", alone ? "alone" : "run", other_alone ? "alone" : "run",
		    both ? "must not" : "must", n, hooked->log.ptr);
	if (lock_files() != 0)
		fail_msg("%u lock files left after a meeting at call %u of\n%s", lock_files(), n, hooked->log.ptr);
	*got += one;
	return (reached);
}

static void
meet(bool alone, bool other_alone, bool over_dead)
{
	unsigned int n = 1, got = 0;

	while (meet_at(alone, other_alone, over_dead, n, &got))
		n++;
	assert_true(n > 3);
	assert_true(got > n / 2);		/* giving way to each other is allowed, but not always */
}

static void
meetings(void **state)
{
	(void)state;
	for (int i = 0; i < 4; i++)
		meet(i & 1, i & 2, false);
}

static void
meetings_over_a_dead_lock(void **state)
{
	(void)state;
	for (int i = 0; i < 4; i++)
		meet(i & 1, i & 2, true);
}

/* Three: while one breaks a dead exclusive.lock, another takes its place, and then a run comes. */
struct third {
	struct meeting	 alone, run;
	unsigned int	 run_at;
};

static void
run_comes(void *arg)
{
	struct third *t = arg;

	other_takes(&t->run);
}

static void
alone_comes(void *arg)
{
	struct third *t = arg;

	other_takes(&t->alone);
	hooked->at = t->run_at;
	hooked->act = run_comes;
	if (t->run_at == hooked->calls)
		run_comes(t);
}

/* Returns whether there are such calls. */
static bool
three_meet(bool alone, unsigned int first, unsigned int second)
{
	struct third t = { .alone = { true, NULL }, .run = { false, NULL }, .run_at = second };
	struct err err = ERR_INIT;
	struct lock *lk;
	bool kept, reached;

	again();
	put(EXCLUSIVE, dead());
	hooked->at = first;
	hooked->act = alone_comes;
	hooked->arg = &t;
	lk = watched(alone, &err);
	reached = hooked->calls >= second;
	hooked->at = 0;
	kept = still_held(t.alone.other);
	lock_release(lk);
	lock_release(t.alone.other);
	lock_release(t.run.other);
	if (t.alone.other != NULL && t.run.other != NULL)
		fail_msg("a run came in although another %s it alone, while a third breaks a lock that was dead: calls %u and %u of\n%s",
		    kept ? "holds" : "was told that it held", first, second, hooked->log.ptr);
	if (t.alone.other != NULL && !kept)
		fail_msg("a live exclusive.lock was taken away: calls %u and %u of\n%s", first, second, hooked->log.ptr);
	return (reached);
}

static void
three_over_a_dead_lock(void **state)
{
	unsigned int first, second;

	(void)state;
	for (int alone = 0; alone < 2; alone++)
		for (first = 1, second = 2; second > first; first++)
			for (second = first; three_meet(alone, first, second); second++)
				;
}

int
main(void)
{
#define TEST(fn)	cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(runs_go_side_by_side), TEST(one_alone), TEST(alone_gives_way_to_a_run), TEST(a_run_waits), TEST(which_are_dead),
		TEST(from_the_future), TEST(from_the_future_and_gone), TEST(from_the_future_of_another_user), TEST(unreaped), TEST(first_thread_ended),
		TEST(not_understood), TEST(huge_lock), TEST(remains_are_removed), TEST(lost), TEST(not_looked_at), TEST(renewed), TEST(renewed_by_a_steady_clock), TEST(not_renewed_when_lost),
		TEST(failing_calls), TEST(meetings), TEST(meetings_over_a_dead_lock), TEST(three_over_a_dead_lock),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
