#include "command.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/human.h"
#include "base/io.h"
#include "deadline.h"

#define NOTHING		"/dev/null"
#define LOOK_MS		200
#define KILLED_MS	5000	/* for one that was killed to go: it may hang in the kernel */
#define LINE_MAX_BYTES	1000u
#define LAST_MAX	400u
#define NOT_RUN		127	/* as sh(1) has it */
#define BY_SIGNAL	128

struct running {
	const struct command	*c;
	pid_t			 pid;
	int			 pidfd, out;
	struct buf		 text;
	size_t			 shown;
	bool			 cut;
	char			 last[LAST_MAX];
};

/* ---- the child: only what is safe after a fork in a program with threads ---- */

static void
on_orphaned(int sig)
{
	(void)sig;
	/* The keeper itself is of the group. */
	kill(0, SIGKILL);
}

static void
usual_signals(void)
{
	sigset_t none;

	for (int sig = 1; sig < NSIG; sig++)
		(void)signal(sig, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static void become(const struct command *c, int in, int out) __attribute__((noreturn));

static void
become(const struct command *c, int in, int out)
{
	static const char cannot[] = "it cannot be run\n";

	usual_signals();
	if (dup2(in, 0) == -1 || dup2(out, 1) == -1 || dup2(out, 2) == -1)
		_exit(NOT_RUN);
	(void)close_range(3, ~0u, 0);
	if (c->env != NULL)
		execve(c->argv[0], (char **)(uintptr_t)c->argv, (char **)(uintptr_t)c->env);
	else
		execv(c->argv[0], (char **)(uintptr_t)c->argv);
	if (write(2, cannot, sizeof(cannot) - 1) == -1)
		_exit(NOT_RUN);
	_exit(NOT_RUN);
}

static void keep(const struct command *c, int in, int out, pid_t parent) __attribute__((noreturn));

/* Between us and the command: it sees to it that the group ends when we die. */
static void
keep(const struct command *c, int in, int out, pid_t parent)
{
	int status = 0;
	pid_t pid;

	setpgid(0, 0);
	usual_signals();
	(void)signal(SIGTERM, on_orphaned);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent || (pid = fork()) == -1)
		_exit(NOT_RUN);
	if (pid == 0)
		become(c, in, out);
	(void)close_range(0, ~0u, 0);
	while (waitpid(pid, &status, 0) == -1 && errno == EINTR)
		continue;
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : BY_SIGNAL + WTERMSIG(status));
}

/* ---- the parent ---- */

static int
input_fd(const struct command *c, struct err *err)
{
	int fd;

	if (c->input == NULL) {
		if ((fd = open(NOTHING, O_RDONLY | O_CLOEXEC)) == -1)
			err_set(err, errno, "cannot open %s", NOTHING);
		return (fd);
	}
	if ((fd = memfd_create("input", MFD_CLOEXEC)) == -1 || io_pwrite(fd, c->input, strlen(c->input), 0) == -1) {
		err_set(err, errno, "cannot keep the input of %s", c->argv[0]);
		io_close(&fd);
	}
	return (fd);
}

static int
start(struct running *r, struct err *err)
{
	int in = input_fd(r->c, err), out[2] = { -1, -1 }, rc = -1;
	pid_t parent = getpid();

	if (in == -1)
		return (-1);
	if (pipe2(out, O_CLOEXEC) == -1) {
		err_set(err, errno, "cannot make a pipe from %s", r->c->argv[0]);
		goto out;
	}
	fcntl(out[0], F_SETFL, O_NONBLOCK);
	if ((r->pid = fork()) == -1) {
		err_set(err, errno, "cannot start %s", r->c->argv[0]);
		goto out;
	}
	if (r->pid == 0)
		keep(r->c, in, out[1], parent);
	/* Whoever comes first: it must be a group before it is killed as one. */
	(void)setpgid(r->pid, r->pid);
	r->pidfd = (int)syscall(SYS_pidfd_open, r->pid, 0);
	r->out = out[0];
	out[0] = -1;
	rc = 0;
out:
	io_close(&in);
	io_close(&out[0]);
	io_close(&out[1]);
	return (rc);
}

static void
tell_line(struct running *r, char *line)
{
	human_safe(line);
	if (line[0] == '\0')
		return;
	snprintf(r->last, sizeof(r->last), "%s", line);
	if (r->c->line == NULL || r->cut)
		return;
	r->shown += strlen(line);
	r->cut = r->shown > COMMAND_OUTPUT_MAX;
	r->c->line(r->c->arg, r->cut ? "(more of its output is not kept)" : line);
}

/* Whole lines, and pieces of those that are too long. */
static void
tell_lines(struct running *r, bool all)
{
	char *start = r->text.ptr, *end;

	while (start != NULL && (end = memchr(start, '\n', r->text.len - (size_t)(start - r->text.ptr))) != NULL) {
		*end = '\0';
		tell_line(r, start);
		start = end + 1;
	}
	if (start == NULL)
		return;
	r->text.len -= (size_t)(start - r->text.ptr);
	memmove(r->text.ptr, start, r->text.len);
	r->text.ptr[r->text.len] = '\0';
	if (all || r->text.len >= LINE_MAX_BYTES) {
		tell_line(r, r->text.ptr);
		buf_reset(&r->text);
	}
}

static void
listen_to(struct running *r)
{
	struct err ignored = ERR_INIT;
	char some[512];
	ssize_t n;

	/* One that prints faster than it is read must still meet its deadline. */
	for (int i = 0; i < 128 && r->out != -1 && (n = read(r->out, some, sizeof(some))) != -1; i++) {
		if (n == 0)
			io_close(&r->out);
		else if (buf_add(&r->text, some, (size_t)n, &ignored) == 0)
			tell_lines(r, false);
	}
}

/* Returns whether it has ended by then. */
static bool
wait_until(struct running *r, int64_t until)
{
	struct pollfd fds[] = { { .fd = r->pidfd, .events = POLLIN }, { .fd = -1, .events = POLLIN } };
	int64_t left;

	while ((left = deadline_left(until)) > 0 && (r->c->stop == NULL || !*r->c->stop)) {
		fds[0].revents = 0;
		fds[1].fd = r->out;
		(void)deadline_poll(fds, 2, left < LOOK_MS ? left : LOOK_MS);
		listen_to(r);
		if (fds[0].revents != 0)
			return (true);
		if (r->c->line != NULL)
			r->c->line(r->c->arg, NULL);
	}
	return (false);
}

static void
kill_group(const struct running *r)
{
	struct pollfd end = { .fd = r->pidfd, .events = POLLIN };

	(void)kill(-r->pid, SIGKILL);
	(void)deadline_poll(&end, 1, KILLED_MS);
}

static int
judge(const struct running *r, bool ended, int status, struct err *err)
{
	const char *sep = r->last[0] != '\0' ? ": " : "";
	int code = WIFEXITED(status) ? WEXITSTATUS(status) : WIFSIGNALED(status) ? BY_SIGNAL + WTERMSIG(status) : 0;

	if (!ended && r->c->stop != NULL && *r->c->stop)
		return (err_set(err, 0, "it was killed, as the run is to stop%s%s", sep, r->last));
	if (!ended) {
		err_set(err, 0, "it did not end within %lld s, and was killed%s%s", (long long)(r->c->timeout_ms + 999) / 1000, sep, r->last);
		err->code = ETIMEDOUT;
		return (-1);
	}
	if (code > BY_SIGNAL && code < BY_SIGNAL + NSIG)
		return (err_set(err, 0, "it was killed by signal %d (%s)%s%s", code - BY_SIGNAL, strsignal(code - BY_SIGNAL), sep, r->last));
	return (code == 0 ? 0 : err_set(err, 0, "it ended with status %d%s%s", code, sep, r->last));
}

int
command_run(const struct command *c, struct err *err)
{
	struct running r = { .c = c, .pid = -1, .pidfd = -1, .out = -1, .text = BUF_INIT };
	int64_t until = deadline_now() + c->timeout_ms;
	int status = 0;
	bool ended;

	if (start(&r, err) == -1)
		return (-1);
	ended = wait_until(&r, until);
	if (!ended)
		kill_group(&r);
	listen_to(&r);
	tell_lines(&r, true);
	/* What hangs in the kernel, even killed, is left to itself. */
	(void)waitpid(r.pid, &status, ended ? 0 : WNOHANG);
	io_close(&r.pidfd);
	io_close(&r.out);
	buf_free(&r.text);
	return (judge(&r, ended, status, err));
}
