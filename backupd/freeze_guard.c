/* The freeze guard: see freeze.h. */
#include "freeze_guard.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "base/human.h"
#include "deadline.h"
#include "freeze.h"
#include "hypervisor.h"
#include "repository/naming.h"
#include "state_dir.h"

#define OWN_SECONDS	10		/* what may pass between the agent's answer and the thaw */
#define RETRY_MS	1000
#define TRY_SECONDS	60		/* for libvirt, in one try */
#define ALARM_EVERY	60		/* tries between two alarms; the first comes after ALARM_FIRST */
#define ALARM_FIRST	5

struct guard {
	const char	*uri, *uuid, *name;
	unsigned int	 seconds;
	bool		 parent;	/* is there */
	bool		 armed;
	int64_t		 deadline;
};

static void
say(int priority, const char *fmt, ...)
{
	char text[600], when[RFC3339_LEN], *path;
	va_list ap;
	int fd;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	human_safe(text);
	syslog(priority, "%s", text);
	if (asprintf(&path, "%s/guard.log", state_dir()) == -1)
		return;
	if ((fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)) != -1) {
		time_rfc3339(time(NULL), when);
		dprintf(fd, "%s %s\n", when, text);
		close(fd);
	}
	free(path);
}

static void
tell(struct guard *g, char c)
{
	if (g->parent && send(GUARD_FD, &c, 1, MSG_NOSIGNAL) != 1)
		g->parent = false;
}

/* What the parent says, within ${ms} (-1: whenever).  Returns 0 when nothing, and when it is gone. */
static char
hear(struct guard *g, int64_t ms)
{
	struct pollfd pfd = { .fd = GUARD_FD, .events = POLLIN };
	char c = 0;
	ssize_t n;

	if (!g->parent) {
		deadline_nap(ms < 0 ? 0 : ms);
		return (0);
	}
	if (deadline_poll(&pfd, 1, ms) <= 0)
		return (0);
	if ((n = recv(GUARD_FD, &c, 1, MSG_DONTWAIT)) == 1)
		return (c);
	if (n == 0 || (errno != EAGAIN && errno != EINTR))
		g->parent = false;
	return (0);
}

/* Whether the guest is certainly not frozen any more; else ${err} says why. */
static bool
thaw_once(const struct guard *g, struct err *err)
{
	struct hypervisor *hv = hypervisor_open(g->uri, err);
	virDomainPtr dom;
	int active;

	if (hv == NULL)
		return (false);
	if ((dom = hypervisor_domain(hv, g->uuid, 0, err)) == NULL)
		return (err->code == ENOENT);
	if ((active = virDomainIsActive(dom)) == -1) {
		hypervisor_failed(err, "cannot tell whether the guest runs");
		return (false);
	}
	/* A guest that does not run has nothing frozen. */
	return (active == 0 || freeze_thaw_once(dom, g->seconds, err) >= 0);
}

/* One try, in a process of its own: a libvirt that hangs, or crashes, is not the end of the guard. */
struct try {
	pid_t	pid;
	int	fd;		/* what it says when it fails; its end when it is over */
};

static int
try_begin(const struct guard *g, struct try *t)
{
	struct err err = ERR_INIT;
	pid_t guard = getpid();
	int fds[2];
	bool done;

	if (pipe2(fds, O_CLOEXEC) == -1)
		return (-1);
	if ((t->pid = fork()) == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != guard)
			_exit(1);
		close(GUARD_FD);
		if (!(done = thaw_once(g, &err)) && write(fds[1], err.text, strlen(err.text)) == -1)
			_exit(1);
		_exit(done ? 0 : 1);
	}
	close(fds[1]);
	t->fd = fds[0];
	if (t->pid == -1)
		close(t->fd);
	return (t->pid == -1 ? -1 : 0);
}

/* Whether it did it. */
static bool
try_end(struct try *t, char *why, size_t size)
{
	struct pollfd pfd = { .fd = t->fd, .events = POLLIN };
	int status = 0;
	ssize_t n = 0;

	if (poll(&pfd, 1, 0) != 1) {
		kill(t->pid, SIGKILL);
		snprintf(why, size, "libvirt does not answer");
	} else if ((n = read(t->fd, why, size - 1)) >= 0)
		why[n] = '\0';
	close(t->fd);
	while (waitpid(t->pid, &status, 0) == -1 && errno == EINTR)
		;
	return (WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* One try, unless the parent says meanwhile that it did it: then *${disarmed}. */
static bool
try_thaw(struct guard *g, bool *disarmed, char *why, size_t size)
{
	int64_t until = deadline_now() + ((int64_t)g->seconds + TRY_SECONDS) * 1000;
	struct try t;

	if (try_begin(g, &t) == -1) {
		snprintf(why, size, "cannot start a process: %s", strerror(errno));
		return (false);
	}
	while (!*disarmed && deadline_left(until) > 0) {
		struct pollfd pfd[2] = { { .fd = t.fd, .events = POLLIN }, { .fd = g->parent ? GUARD_FD : -1, .events = POLLIN } };

		if (deadline_poll(pfd, 2, deadline_left(until)) == -1 || pfd[0].revents != 0)
			break;
		if (pfd[1].revents != 0)
			*disarmed = hear(g, 0) == GUARD_DISARM;
	}
	return (try_end(&t, why, size));
}

/* Until it is done, or the parent did it. */
static void
thaw(struct guard *g)
{
	bool alarmed = false, disarmed = false;
	char why[512];

	for (unsigned int tries = 0; !try_thaw(g, &disarmed, why, sizeof(why)) && !disarmed; tries++) {
		if (tries % ALARM_EVERY == ALARM_FIRST) {
			alarmed = true;
			say(LOG_ALERT, "guest %s may be frozen, and could not be thawed yet: %s; still trying.  Look at its agent, or reset the guest", g->name,
			    why);
		}
		if ((disarmed = hear(g, RETRY_MS) == GUARD_DISARM))
			break;
	}
	g->armed = false;
	tell(g, GUARD_DISARMED);
	if (alarmed)
		say(LOG_NOTICE, "guest %s is thawed", g->name);
}

static void
serve(struct guard *g)
{
	char c;

	while (g->parent || g->armed) {
		c = hear(g, g->armed ? deadline_left(g->deadline) : -1);
		if (c == GUARD_ARM) {
			g->armed = true;
			g->deadline = deadline_now() + ((int64_t)g->seconds + OWN_SECONDS) * 1000;
			tell(g, GUARD_ARMED);
		} else if (c == GUARD_DISARM) {
			g->armed = false;
			tell(g, GUARD_DISARMED);
		} else if (c == GUARD_THAW && g->armed)
			thaw(g);
		else if (c == GUARD_THAW)
			tell(g, GUARD_DISARMED);
		else if (g->armed && (!g->parent || deadline_left(g->deadline) == 0)) {
			say(LOG_WARNING, "guest %s: %s: thawing it", g->name, g->parent ? "it is frozen for too long" : "the run that froze it is gone");
			tell(g, GUARD_FIRED);
			thaw(g);
		}
	}
}

/* Only one guard for each guest: two would not thaw it better. */
static int
take_lock(const struct guard *g)
{
	char *path;
	int fd;

	if (asprintf(&path, "%s/journal/%s.guard", state_dir(), g->uuid) == -1)
		return (-1);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	free(path);
	if (fd != -1 && flock(fd, LOCK_EX | LOCK_NB) == -1 && errno == EWOULDBLOCK) {
		close(fd);
		return (-1);
	}
	return (0);
}

int
freeze_guard_main(int argc, char **argv)
{
	struct guard g = { .parent = true };

	if (argc != 6)
		return (2);
	g.uri = argv[2];
	g.uuid = argv[3];
	g.name = argv[4];
	g.seconds = (unsigned int)strtoul(argv[5], NULL, 10);
	openlog("virt-backupd", LOG_PID, LOG_DAEMON);
	/* Only SIGKILL ends it while it has a guest to thaw. */
	signal(SIGTERM, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	if (take_lock(&g) == -1) {
		tell(&g, GUARD_BUSY);
		return (1);
	}
	tell(&g, GUARD_READY);
	serve(&g);
	return (0);
}
