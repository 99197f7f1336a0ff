#include "worker.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/io.h"
#include "deadline.h"
#include "process.h"
#include "worker_event.h"
#include "worker_spawn.h"

#define LINE_MAX_BYTES	65536u

enum { EVENTS, TEXT };

static void
note(struct worker *w, bool trouble, const char *text)
{
	run_log_line(&w->log, text);
	w->ops->say(w->arg, w, trouble, text);
}

/* Whether a line may be why the run fails. */
static bool
is_cause(const char *line)
{
	return (strncmp(line, "warning: ", 9) != 0 && (strncmp(line, "hook ", 5) != 0 || strstr(line, " says: ") == NULL));
}

static void
take_text(struct worker *w, char *line)
{
	static const char name[] = "virt-backupd: ";

	if (strncmp(line, name, sizeof(name) - 1) == 0)
		line += sizeof(name) - 1;
	if (is_cause(line))
		snprintf(w->last_line, sizeof(w->last_line), "%s", line);
	note(w, w->run != 0, line);
}

static void
take_event(struct worker *w, const char *line)
{
	char text[RUN_TEXT_LEN] = "";
	struct machine m;

	switch (worker_event(w, line, time(NULL), &m, text, sizeof(text))) {
	case WORKER_EVENT_MACHINE:
		note(w, m.state != RUN_SUCCEEDED, text);
		w->ops->machine(w->arg, w, &m);
		break;
	case WORKER_EVENT_SENT:
		note(w, false, text);
		w->ops->sent(w->arg, w, &m);
		break;
	case WORKER_EVENT_TEXT:
		note(w, false, text);
		break;
	case WORKER_EVENT_PROGRESS:
		w->ops->progress(w->arg, w);
		break;
	case WORKER_EVENT_ROOM:
		w->ops->room(w->arg, w, w->room);
		break;
	case WORKER_EVENT_NONE:
		break;
	}
}

/* Whole lines, each as soon as it is there; what is longer than any of ours is dropped. */
static void
take_lines(struct worker *w, int which)
{
	struct buf *b = &w->lines[which];
	char *start = b->ptr, *end;

	while (start != NULL && (end = memchr(start, '\n', b->len - (size_t)(start - b->ptr))) != NULL) {
		*end = '\0';
		if (!w->skip[which] && start[0] != '\0') {
			if (which == EVENTS)
				take_event(w, start);
			else
				take_text(w, start);
		}
		w->skip[which] = false;
		start = end + 1;
	}
	if (start == NULL)
		return;
	b->len -= (size_t)(start - b->ptr);
	memmove(b->ptr, start, b->len);
	if (b->len >= LINE_MAX_BYTES) {
		w->skip[which] = true;
		buf_reset(b);
	}
}

/* Returns false at the end, or when there is nothing now. */
static bool
read_some(struct worker *w, int which)
{
	struct err err = ERR_INIT;
	char some[8192];
	ssize_t n = read(w->fds[which], some, sizeof(some));

	if (n <= 0) {
		if (n == 0 || (errno != EAGAIN && errno != EINTR))
			w->sources[which] = sd_event_source_disable_unref(w->sources[which]);
		return (false);
	}
	w->sign_ms = deadline_now();
	if (buf_add(&w->lines[which], some, (size_t)n, &err) == 0)
		take_lines(w, which);
	return (true);
}

static int
on_output(sd_event_source *s, int fd, uint32_t events, void *arg)
{
	struct worker *w = arg;

	(void)s;
	(void)events;
	(void)read_some(w, fd == w->fds[EVENTS] ? EVENTS : TEXT);
	return (0);
}

/* What an exit says; a worker that was told to end and had come to its end all the same has done it. */
static void
judge(struct worker *w, int status, bool known)
{
	if (known && WIFEXITED(status) && WEXITSTATUS(status) == 0) {
		w->state = RUN_SUCCEEDED;
		return;
	}
	if (w->at != WORKER_RUNS) {
		w->state = w->stopped_as;
		snprintf(w->message, sizeof(w->message), "%s", w->why);
	} else if (!known || WIFSIGNALED(status)) {
		w->state = RUN_INTERRUPTED;
		if (known)
			snprintf(w->message, sizeof(w->message), "the run was killed by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
		else
			snprintf(w->message, sizeof(w->message), "the daemon, or the machine, went down while it ran");
		w->was_killed = true;
	} else {
		w->state = RUN_FAILED;
		if (w->failed > 0)
			snprintf(w->message, sizeof(w->message), "%" PRId64 " of %" PRId64 " machines failed: %.900s", w->failed, w->failed + w->succeeded,
			    w->failure);
		else
			snprintf(w->message, sizeof(w->message), "%s", w->last_line[0] != '\0' ? w->last_line : "the run failed, and did not say why");
	}
}

void
worker_judge_noted(struct worker *w)
{
	int result = run_result_get(w->run, w->last_line, sizeof(w->last_line));

	judge(w, result > 0 ? result << 8 : 0, result != -1);
}

void
worker_log_end(struct worker *w)
{
	char text[2 * RUN_TEXT_LEN];

	/* What it said last stands there already. */
	if (w->message[0] == '\0' || strcmp(w->message, w->last_line) == 0)
		snprintf(text, sizeof(text), "%s", run_state_name(w->state));
	else
		snprintf(text, sizeof(text), "%s: %s", run_state_name(w->state), w->message);
	run_log_line(&w->log, text);
}

static int
on_end(sd_event_source *s, int fd, uint32_t events, void *arg)
{
	struct worker *w = arg;
	siginfo_t info = { .si_pid = 0 };

	(void)s;
	(void)fd;
	(void)events;
	/* Not to the end of the pipes: a freeze guard may hold them. */
	for (int i = 0; i < 2; i++)
		while (w->sources[i] != NULL && read_some(w, i))
			continue;
	if (w->adopted)
		worker_judge_noted(w);
	else if (waitid(P_PID, (id_t)w->pid, &info, WEXITED) == 0)
		judge(w, info.si_code == CLD_EXITED ? info.si_status << 8 : info.si_status & 0x7f, true);
	else
		judge(w, 0, false);
	w->pid = -1;
	w->sources[2] = sd_event_source_disable_unref(w->sources[2]);
	worker_log_end(w);
	w->ops->done(w->arg, w);
	return (0);
}

static struct worker *
new_worker(int64_t run, const struct worker_settings *set, const struct worker_ops *ops, void *arg)
{
	struct worker *w = calloc(1, sizeof(*w));

	if (w == NULL)
		return (NULL);
	*w = (struct worker){ .run = run, .machines = -1, .set = *set, .ops = ops, .arg = arg, .pid = -1, .pidfd = -1, .fds = { -1, -1 },
		.lines = { BUF_INIT, BUF_INIT }, .log = RUN_LOG_INIT, .sign_ms = deadline_now(), .vm_started = time(NULL) };
	snprintf(w->phase, sizeof(w->phase), "starting");
	return (w);
}

static int
listen_to(struct worker *w, sd_event *ev, struct err *err)
{
	int r = 0;

	for (int i = 0; i < 2 && r >= 0; i++)
		if (w->fds[i] != -1)
			r = sd_event_add_io(ev, &w->sources[i], w->fds[i], EPOLLIN, on_output, w);
	if (r >= 0)
		r = sd_event_add_io(ev, &w->sources[2], w->pidfd, EPOLLIN, on_end, w);
	/* What it has printed is taken before its end. */
	if (r >= 0)
		r = sd_event_source_set_priority(w->sources[2], SD_EVENT_PRIORITY_IDLE);
	return (r < 0 ? err_set(err, -r, "cannot wait for a worker") : 0);
}

/* Its process is in the database before it begins. */
static int
begin(struct worker *w, sd_event *ev, struct worker_spawn *sp, struct db *db, struct err *err)
{
	char name[96];

	w->pid = sp->pid;
	w->fds[EVENTS] = sp->events;
	w->fds[TEXT] = sp->text;
	process_name(w->pid, name, sizeof(name));
	if ((w->pidfd = process_pidfd(w->pid)) == -1) {
		err_set(err, errno, "cannot watch a worker");
		goto fail;
	}
	if ((db != NULL && db_process(db, w->run, name, err) == -1) || listen_to(w, ev, err) == -1)
		goto fail;
	worker_spawn_go(sp, true);
	return (0);
fail:
	worker_spawn_go(sp, false);
	(void)waitpid(w->pid, NULL, 0);
	w->pid = -1;
	return (-1);
}

struct worker *
worker_start(sd_event *ev, const struct run *r, const struct conf_job *job, const struct worker_settings *set, struct db *db,
    const struct worker_ops *ops, void *arg, struct err *err)
{
	struct worker *w = new_worker(r->id, set, ops, arg);
	struct err why = ERR_INIT;
	struct worker_spawn sp;
	char begins[64];

	if (w == NULL) {
		err_nomem(err);
		return (NULL);
	}
	snprintf(w->job, sizeof(w->job), "%s", r->job);
	w->guests = job->source == CONF_SOURCE_DOMAINS;
	if (run_log_open(&w->log, r->id, &why) == -1)
		note(w, true, why.text);
	run_result_remove(r->id);
	snprintf(begins, sizeof(begins), "begins (%s, attempt %d)", run_reason_name(r->reason), r->attempt);
	run_log_line(&w->log, begins);
	if (worker_spawn_run(&sp, r, set, err) == -1 || begin(w, ev, &sp, db, err) == -1) {
		run_log_line(&w->log, err->text);
		worker_free(w);
		return (NULL);
	}
	return (w);
}

struct worker *
worker_reconcile(sd_event *ev, const struct worker_settings *set, const struct worker_ops *ops, void *arg, struct err *err)
{
	struct worker *w = new_worker(0, set, ops, arg);
	struct worker_spawn sp;

	if (w == NULL) {
		err_nomem(err);
		return (NULL);
	}
	/* A commit takes as long as it takes. */
	w->set.stall_ms = 0;
	if (worker_spawn_reconcile(&sp, set, err) == -1 || begin(w, ev, &sp, NULL, err) == -1) {
		worker_free(w);
		return (NULL);
	}
	return (w);
}

struct worker *
worker_gone(const struct run *r, const struct worker_ops *ops, void *arg)
{
	const struct worker_settings none = { .conf_fd = -1 };
	struct worker *w = new_worker(r->id, &none, ops, arg);
	struct err err = ERR_INIT;

	if (w == NULL)
		return (NULL);
	snprintf(w->job, sizeof(w->job), "%s", r->job);
	w->adopted = w->guests = true;
	(void)run_log_open(&w->log, r->id, &err);
	return (w);
}

struct worker *
worker_adopt(sd_event *ev, const struct run *r, const struct worker_settings *set, const struct worker_ops *ops, void *arg)
{
	struct worker *w = new_worker(r->id, set, ops, arg);
	struct err err = ERR_INIT;

	if (w == NULL || (w->pidfd = process_open(r->process, &w->pid)) == -1)
		goto fail;
	snprintf(w->job, sizeof(w->job), "%s", r->job);
	snprintf(w->phase, sizeof(w->phase), "ending");
	w->adopted = w->guests = true;
	(void)run_log_open(&w->log, r->id, &err);
	if (listen_to(w, ev, &err) == -1)
		goto fail;
	/* It had its SIGTERM when the daemon died; a second one would have it leave everything as it is. */
	w->at = WORKER_STOPS;
	w->stopped_as = RUN_INTERRUPTED;
	snprintf(w->why, sizeof(w->why), "the daemon ended while it ran");
	w->kill_ms = deadline_now() + w->set.stop_ms;
	(void)syscall(SYS_pidfd_send_signal, w->pidfd, SIGCONT, NULL, 0);
	return (w);
fail:
	worker_free(w);
	return (NULL);
}

static void
send_signal(const struct worker *w, int sig)
{
	(void)syscall(SYS_pidfd_send_signal, w->pidfd, sig, NULL, 0);
}

void
worker_stop(struct worker *w, enum run_state state, const char *why)
{
	if (w->at != WORKER_RUNS)
		return;
	w->at = WORKER_STOPS;
	w->stopped_as = state;
	snprintf(w->why, sizeof(w->why), "%s", why);
	snprintf(w->phase, sizeof(w->phase), "ending");
	w->kill_ms = deadline_now() + w->set.stop_ms;
	run_log_line(&w->log, why);
	/* Reconciling cannot be asked to end, and need not: only killed. */
	if (w->run != 0)
		send_signal(w, SIGTERM);
	/* One that was stopped is to see it. */
	send_signal(w, SIGCONT);
}

static bool
is_stalled(const struct worker *w, int64_t now)
{
	return (w->at == WORKER_RUNS && w->set.stall_ms > 0 && now - w->sign_ms >= w->set.stall_ms);
}

void
worker_watch(struct worker *w)
{
	char text[RUN_TEXT_LEN];
	int64_t now = deadline_now();

	/* What it has said meanwhile counts: it may be this process that was stopped, or waited for its disk. */
	if (is_stalled(w, now))
		for (int i = 0; i < 2; i++)
			while (w->sources[i] != NULL && read_some(w, i))
				continue;
	if (is_stalled(w, now)) {
		snprintf(text, sizeof(text), "no sign of life for %" PRId64 " s (stall_timeout): it is ended", w->set.stall_ms / 1000);
		w->ops->say(w->arg, w, true, text);
		worker_stop(w, RUN_FAILED, text);
	} else if (w->at == WORKER_STOPS && now >= w->kill_ms) {
		w->at = WORKER_KILLED;
		w->was_killed = true;
		note(w, true, "it does not end within stop_timeout: killed");
		/* Itself alone: a freeze guard in its group must thaw a guest. */
		send_signal(w, SIGKILL);
	}
}

void
worker_free(struct worker *w)
{
	if (w == NULL)
		return;
	for (int i = 0; i < 3; i++)
		sd_event_source_disable_unref(w->sources[i]);
	for (int i = 0; i < 2; i++) {
		io_close(&w->fds[i]);
		buf_free(&w->lines[i]);
	}
	io_close(&w->pidfd);
	run_log_close(&w->log);
	free(w);
}
