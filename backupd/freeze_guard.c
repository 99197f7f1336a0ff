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
#include <sys/socket.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "deadline.h"
#include "freeze.h"
#include "human.h"
#include "hypervisor.h"
#include "naming.h"
#include "state_dir.h"

#define OWN_SECONDS	10		/* what may pass between the agent's answer and the thaw */
#define RETRY_MS	1000
#define ALARM_EVERY	60		/* tries between two alarms; the first comes after ALARM_FIRST */
#define ALARM_FIRST	5

struct guard {
	const char		*uri, *uuid, *name;
	unsigned int		 seconds;
	struct hypervisor	*hv;		/* NULL while libvirtd is away */
	bool			 parent;	/* is there */
	bool			 armed;
	int64_t			 deadline;
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

/* One try.  Returns whether the guest is certainly not frozen any more; else ${err} says why. */
static bool
try_thaw(struct guard *g, struct err *err)
{
	virDomainPtr dom;
	int active;
	bool done;

	if (g->hv == NULL && (g->hv = hypervisor_open(g->uri, err)) == NULL)
		return (false);
	if ((dom = hypervisor_domain(g->hv, g->uuid, 0, err)) == NULL)
		return (err->code == ENOENT);
	active = virDomainIsActive(dom);
	/* A guest that does not run has nothing frozen. */
	done = active == 0 || (active == 1 && freeze_thaw_once(dom, g->seconds, err) >= 0);
	if (active == -1)
		hypervisor_failed(err, "cannot tell whether the guest runs");
	virDomainFree(dom);
	return (done);
}

/* Until it is done, or the parent did it. */
static void
thaw(struct guard *g)
{
	struct err err = ERR_INIT;
	bool alarmed = false;

	for (unsigned int tries = 0;; tries++) {
		if (try_thaw(g, &err))
			break;
		if (tries % ALARM_EVERY == ALARM_FIRST) {
			alarmed = true;
			say(LOG_ALERT, "guest %s may be frozen, and could not be thawed yet: %s; still trying.  Look at its agent, or reset the guest", g->name,
			    err.text);
		}
		if (hear(g, RETRY_MS) == GUARD_DISARM) {
			g->armed = false;
			tell(g, GUARD_DISARMED);
			return;
		}
	}
	g->armed = false;
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
		} else if (g->armed && (!g->parent || deadline_left(g->deadline) == 0)) {
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
	struct err err = ERR_INIT;
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
	g.hv = hypervisor_open(g.uri, &err);
	tell(&g, g.hv != NULL ? GUARD_READY : GUARD_BLIND);
	serve(&g);
	hypervisor_close(g.hv);
	return (0);
}
