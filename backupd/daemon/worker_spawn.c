#include "worker_spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/io.h"
#include "earlier.h"
#include "notify/notify.h"

#define IOPRIO_IDLE	(3 << 13)	/* ioprio_set(2): the idle class */
#define MAX_ARGS	12

/* How the child shall be. */
struct child {
	const char		*argv[MAX_ARGS];
	const struct worker_settings	*set;
	char			*result;	/* NULL: it has none */
	char			 run[24];	/* its number, for hooks; "": none */
	int			 in;		/* its standard input; -1: none */
	int			 out, err, go;
	pid_t			 parent;
};

static void
usual_signals(void)
{
	sigset_t none;

	sigemptyset(&none);
	for (int sig = 1; sig < NSIG; sig++)
		(void)signal(sig, SIG_DFL);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static void become(const struct child *c) __attribute__((noreturn));

static void
become(const struct child *c)
{
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	char word, number[16];

	/* Before the mask is lifted: the daemon's death is not to be missed. */
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != c->parent)
		_exit(1);
	setpgid(0, 0);
	usual_signals();
	if (null == -1 || dup2(c->in != -1 ? c->in : null, 0) == -1 || dup2(c->out, 1) == -1 || dup2(c->err, 2) == -1)
		_exit(1);
	if (read(c->go, &word, 1) != 1)
		_exit(1);
	if (c->set->nice > 0)
		(void)setpriority(PRIO_PROCESS, 0, c->set->nice);
	if (c->set->idle_io)
		(void)syscall(SYS_ioprio_set, 1, 0, IOPRIO_IDLE);
	if (c->set->conf_fd != -1)
		fcntl(c->set->conf_fd, F_SETFD, 0);
	if (c->set->earlier_fd != -1) {
		fcntl(c->set->earlier_fd, F_SETFD, 0);
		snprintf(number, sizeof(number), "%d", c->set->earlier_fd);
		setenv(EARLIER_ENV, number, 1);
	}
	if (c->result != NULL)
		setenv("OVB_RESULT_FILE", c->result, 1);
	if (c->run[0] != '\0')
		setenv("OVB_RUN", c->run, 1);
	/* They are the daemon's. */
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
	/* What runs now, also when it was replaced by another version meanwhile. */
	execv("/proc/self/exe", (char **)(uintptr_t)c->argv);
	_exit(127);
}

static int
spawn(struct worker_spawn *sp, struct child *c, struct err *err)
{
	int events[2] = { -1, -1 }, text[2] = { -1, -1 }, go[2] = { -1, -1 };
	int rc = -1;

	if (pipe2(events, O_CLOEXEC) == -1 || pipe2(text, O_CLOEXEC) == -1 || pipe2(go, O_CLOEXEC) == -1) {
		err_set(err, errno, "cannot make a pipe for a worker");
		goto out;
	}
	fcntl(events[0], F_SETFL, O_NONBLOCK);
	fcntl(text[0], F_SETFL, O_NONBLOCK);
	c->out = events[1];
	c->err = text[1];
	c->go = go[0];
	c->parent = getpid();
	if ((sp->pid = fork()) == -1) {
		err_set(err, errno, "cannot start a worker");
		goto out;
	}
	if (sp->pid == 0) {
		/* Or its own end would keep it waiting. */
		close(go[1]);
		become(c);
	}
	*sp = (struct worker_spawn){ sp->pid, events[0], text[0], go[1] };
	events[0] = text[0] = go[1] = -1;
	rc = 0;
out:
	for (int i = 0; i < 2; i++) {
		io_close(&events[i]);
		io_close(&text[i]);
		io_close(&go[i]);
	}
	return (rc);
}

int
worker_spawn_run(struct worker_spawn *sp, const struct run *r, const struct worker_settings *set, struct err *err)
{
	struct child c = { .argv = { "virt-backupd", "--once", r->job, "--json", "--config" }, .set = set, .result = run_result_path(r->id),
		.in = -1 };
	char conf[64];
	size_t n = 5;
	int rc;

	if (c.result == NULL)
		return (err_nomem(err));
	snprintf(conf, sizeof(conf), "/proc/self/fd/%d", set->conf_fd);
	snprintf(c.run, sizeof(c.run), "%" PRId64, r->id);
	c.argv[n++] = conf;
	if (r->full)
		c.argv[n++] = "--full";
	if (r->domain[0] != '\0') {
		c.argv[n++] = "--domain";
		c.argv[n++] = r->domain;
	}
	rc = spawn(sp, &c, err);
	free(c.result);
	return (rc);
}

int
worker_spawn_reconcile(struct worker_spawn *sp, const struct worker_settings *set, struct err *err)
{
	struct worker_settings own = *set;
	struct child c = { .argv = { "virt-backupd", "--reconcile" }, .set = &own, .in = -1 };

	/* A guest may be frozen. */
	own = (struct worker_settings){ .conf_fd = -1, .earlier_fd = -1 };
	return (spawn(sp, &c, err));
}

int
worker_spawn_notify(struct worker_spawn *sp, int conf_fd, int in, struct err *err)
{
	struct worker_settings set = { .conf_fd = conf_fd, .earlier_fd = -1 };
	struct child c = { .argv = { "virt-backupd", NOTIFY_OPTION }, .set = &set, .in = in };
	char conf[64];

	snprintf(conf, sizeof(conf), "/proc/self/fd/%d", conf_fd);
	c.argv[2] = conf;
	return (spawn(sp, &c, err));
}

void
worker_spawn_go(struct worker_spawn *sp, bool go)
{
	if (go && write(sp->go, "!", 1) != 1) {
		/* It is gone, which will be seen. */
	}
	io_close(&sp->go);
}
