#include "notifier.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/human.h"
#include "base/io.h"
#include "daemon_private.h"
#include "notify/notice.h"
#include "notify/notify.h"
#include "process.h"
#include "run_log.h"
#include "worker_spawn.h"

#define WAITING_MAX	100u
#define TESTS_MAX	8u	/* whose results are remembered */
#define SPARE_S		10u	/* more than all channels may take together */
#define OUTPUT_MAX	16384u

struct waiting_notice {
	struct waiting_notice	*next;
	json_t			*notice;
	int64_t			 run, test;	/* 0: none */
	char			 job[CONF_MAX_NAME + 1];
};

struct test {
	int64_t	 id;
	bool	 finished;
	json_t	*channels;
};

struct notifier {
	struct daemon		*d;
	struct waiting_notice	*first, *last;	/* the first one is being told if there is a child */
	size_t			 n;
	struct worker_spawn	 child;
	int			 pidfd;		/* -1: there is none */
	bool			 late;		/* ... and it was killed */
	sd_event_source		*end, *deadline, *hurry;
	struct test		 tests[TESTS_MAX];
	int64_t			 ntests;
};

static void tell_next(struct notifier *n);

/* In the daemon's log, and in that of the run. */
static void
complain(const struct waiting_notice *w, const char *channel, const char *why)
{
	struct err ignored = ERR_INIT;
	struct run_log log = RUN_LOG_INIT;
	char text[RUN_TEXT_LEN];

	snprintf(text, sizeof(text), "warning: not notified by %s (%s): %s", channel, notice_text(w->notice, "event"), why);
	if (w->run != 0)
		daemon_say(true, "job %s: run %" PRId64 ": %s", w->job, w->run, text);
	else
		daemon_say(true, "%s%s%s%s", w->job[0] != '\0' ? "job " : "", w->job, w->job[0] != '\0' ? ": " : "", text);
	if (w->run != 0 && run_log_open(&log, w->run, &ignored) == 0)
		run_log_line(&log, text);
	run_log_close(&log);
}

static struct test *
find_test(const struct notifier *n, int64_t id)
{
	const struct test *t = &n->tests[id % TESTS_MAX];

	return (id > 0 && t->id == id ? (struct test *)(uintptr_t)t : NULL);
}

static void
result(struct notifier *n, const struct waiting_notice *w, const char *channel, const char *error)
{
	struct test *t = find_test(n, w->test);

	if (error != NULL)
		complain(w, channel, error);
	if (t != NULL)
		json_array_append_new(t->channels, json_pack("{s:s, s:b, s:o}", "channel", channel, "ok", (int)(error == NULL), "error",
		    error != NULL ? json_string(error) : json_null()));
}

static void
forget_first(struct notifier *n)
{
	struct waiting_notice *w = n->first;
	struct test *t = find_test(n, w->test);

	if (t != NULL)
		t->finished = true;
	n->first = w->next;
	if (n->first == NULL)
		n->last = NULL;
	n->n--;
	json_decref(w->notice);
	free(w);
}

/* ---- the child ---- */

static void
read_all(int fd, struct buf *out)
{
	struct err ignored = ERR_INIT;
	char some[1024];
	ssize_t got;

	while (out->len < OUTPUT_MAX && (got = read(fd, some, sizeof(some))) > 0)
		if (buf_add(out, some, (size_t)got, &ignored) == -1)
			break;
}

/* A line for each channel.  Returns how many. */
static unsigned int
take_results(struct notifier *n)
{
	struct buf b = BUF_INIT;
	unsigned int lines = 0;
	char *save = NULL;

	read_all(n->child.events, &b);
	for (char *line = b.ptr != NULL ? strtok_r(b.ptr, "\n", &save) : NULL; line != NULL; line = strtok_r(NULL, "\n", &save)) {
		json_t *o = json_loads(line, JSON_REJECT_DUPLICATES, NULL), *error = json_object_get(o, "error");

		if (json_is_string(json_object_get(o, "channel"))) {
			result(n, n->first, notice_text(o, "channel"), json_is_string(error) ? json_string_value(error) : NULL);
			lines++;
		}
		json_decref(o);
	}
	buf_free(&b);
	return (lines);
}

/* It hung, or could not begin. */
static void
take_failure(struct notifier *n, int code)
{
	struct buf b = BUF_INIT;

	read_all(n->child.text, &b);
	if (b.ptr != NULL)
		b.ptr[strcspn(b.ptr, "\n")] = '\0';
	if (n->late)
		result(n, n->first, "any channel that is left", "it took too long, and was ended");
	else if (code != 0)
		result(n, n->first, "any channel", b.len > 0 ? human_safe(b.ptr) : "the child that was to do it has died");
	buf_free(&b);
}

static void
close_child(struct notifier *n)
{
	n->end = sd_event_source_disable_unref(n->end);
	n->deadline = sd_event_source_disable_unref(n->deadline);
	io_close(&n->pidfd);
	io_close(&n->child.events);
	io_close(&n->child.text);
	io_close(&n->child.go);
}

static int
on_end(sd_event_source *s, int fd, uint32_t events, void *arg)
{
	struct notifier *n = arg;
	int status = 0;

	(void)s;
	(void)fd;
	(void)events;
	(void)waitpid(n->child.pid, &status, 0);
	(void)take_results(n);
	take_failure(n, status);
	close_child(n);
	forget_first(n);
	tell_next(n);
	/* The daemon may wait for this to end. */
	if (n->d->stopping)
		daemon_tick(n->d);
	return (0);
}

static int
on_deadline(sd_event_source *s, uint64_t usec, void *arg)
{
	struct notifier *n = arg;

	(void)s;
	(void)usec;
	n->late = true;
	(void)kill(-n->child.pid, SIGKILL);
	return (0);
}

static int
notice_fd(const json_t *notice, struct err *err)
{
	char *text = json_dumps(notice, JSON_COMPACT);
	int fd = -1;

	if (text == NULL)
		err_nomem(err);
	else if ((fd = memfd_create("notice", MFD_CLOEXEC)) == -1 || io_pwrite(fd, text, strlen(text), 0) == -1) {
		err_set(err, errno, "cannot keep a notice (%s)", notice_text(notice, "event"));
		io_close(&fd);
	}
	free(text);
	return (fd);
}

static int
start_child(struct notifier *n, struct err *err)
{
	uint64_t seconds = notify_seconds(&n->d->conf->notify) + SPARE_S;
	int in = notice_fd(n->first->notice, err), r = 0;

	n->late = false;
	if (in == -1 || worker_spawn_notify(&n->child, n->d->conf_fd, in, err) == -1) {
		io_close(&in);
		return (-1);
	}
	io_close(&in);
	if ((n->pidfd = process_pidfd(n->child.pid)) == -1 ||
	    (r = sd_event_add_io(n->d->ev, &n->end, n->pidfd, EPOLLIN, on_end, n)) < 0 ||
	    (r = sd_event_add_time_relative(n->d->ev, &n->deadline, CLOCK_MONOTONIC, seconds * 1000000, 0, on_deadline, n)) < 0) {
		err_set(err, n->pidfd == -1 ? errno : -r, "cannot watch the child %d that notifies", (int)n->child.pid);
		worker_spawn_go(&n->child, false);
		(void)waitpid(n->child.pid, NULL, 0);
		close_child(n);
		return (-1);
	}
	worker_spawn_go(&n->child, true);
	return (0);
}

static void
tell_next(struct notifier *n)
{
	struct err err = ERR_INIT;

	while (n->pidfd == -1 && n->first != NULL && start_child(n, &err) == -1) {
		result(n, n->first, "any channel", err.text);
		forget_first(n);
	}
}

/* ---- the queue ---- */

static int
add(struct notifier *n, json_t *notice, const char *job, int64_t run, int64_t test)
{
	struct waiting_notice *w = notice != NULL ? calloc(1, sizeof(*w)) : NULL;

	if (w == NULL) {
		daemon_say(true, "%s%s: somebody is not notified: out of memory", job != NULL ? "job " : "a repository", job != NULL ? job : "");
		json_decref(notice);
		return (-1);
	}
	*w = (struct waiting_notice){ .notice = notice, .run = run, .test = test };
	snprintf(w->job, sizeof(w->job), "%s", job != NULL ? job : "");
	if (n->n >= WAITING_MAX) {
		complain(w, "any channel", "too many notices wait already");
		json_decref(notice);
		free(w);
		return (-1);
	}
	if (n->last != NULL)
		n->last->next = w;
	else
		n->first = w;
	n->last = w;
	n->n++;
	tell_next(n);
	return (0);
}

struct notifier *
notifier_new(struct daemon *d, struct err *err)
{
	struct notifier *n = calloc(1, sizeof(*n));

	if (n == NULL) {
		err_nomem(err);
		return (NULL);
	}
	*n = (struct notifier){ .d = d, .pidfd = -1, .child = { -1, -1, -1, -1 } };
	return (n);
}

void
notifier_free(struct notifier *n)
{
	if (n == NULL)
		return;
	if (n->pidfd != -1) {
		(void)kill(-n->child.pid, SIGKILL);
		(void)waitpid(n->child.pid, NULL, 0);
	}
	close_child(n);
	sd_event_source_disable_unref(n->hurry);
	while (n->first != NULL)
		forget_first(n);
	for (size_t i = 0; i < TESTS_MAX; i++)
		json_decref(n->tests[i].channels);
	free(n);
}

void
notifier_tell(struct notifier *n, json_t *notice, const char *job, int64_t run)
{
	if (n == NULL)
		json_decref(notice);
	else
		(void)add(n, notice, job, run, 0);
}

int64_t
notifier_test(struct notifier *n, const char *job, struct err *err)
{
	int64_t id = n->ntests + 1;
	struct test *t = &n->tests[id % (int64_t)TESTS_MAX];

	json_decref(t->channels);
	*t = (struct test){ .id = id, .channels = json_array() };
	n->ntests = id;
	if (t->channels == NULL)
		return (err_nomem(err));
	if (add(n, notice_test(job), job, 0, id) == -1) {
		err_set(err, 0, "%u notices wait already: try again in a minute", WAITING_MAX);
		err->code = EAGAIN;
		return (-1);
	}
	return (id);
}

json_t *
notifier_result(const struct notifier *n, int64_t test)
{
	const struct test *t = find_test(n, test);

	return (t == NULL ? NULL : json_pack("{s:I, s:b, s:O}", "id", (json_int_t)t->id, "finished", (int)t->finished, "channels", t->channels));
}

bool
notifier_idle(const struct notifier *n)
{
	return (n == NULL || n->first == NULL);
}

static int
on_hurry(sd_event_source *s, uint64_t usec, void *arg)
{
	struct notifier *n = arg;
	struct waiting_notice *now = n->first;

	(void)s;
	(void)usec;
	/* The first one stays until its child is gone. */
	while (now != NULL && now->next != NULL) {
		complain(now->next, "any channel", "the daemon ends");
		n->first = now->next;
		now->next = n->first->next;
		if (n->last == n->first)
			n->last = now;
		n->n--;
		json_decref(n->first->notice);
		free(n->first);
		n->first = now;
	}
	if (n->pidfd != -1)
		(void)on_deadline(NULL, 0, n);
	return (0);
}

void
notifier_hurry(struct notifier *n, int64_t ms)
{
	if (notifier_idle(n) || (n->hurry != NULL && ms > 0))
		return;
	n->hurry = sd_event_source_disable_unref(n->hurry);
	if (ms == 0 || sd_event_add_time_relative(n->d->ev, &n->hurry, CLOCK_MONOTONIC, (uint64_t)ms * 1000, 0, on_hurry, n) < 0)
		(void)on_hurry(NULL, 0, n);
}
