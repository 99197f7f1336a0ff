#include "freeze.h"

#include <errno.h>
#include <fcntl.h>
#include <libvirt/virterror.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "deadline.h"
#include "freeze_guard.h"
#include "hypervisor.h"

#define START_SECONDS	40		/* a host may be busy */
#define ANSWER_SECONDS	10

#define AGENT_COMMAND_FAILED	113	/* of libvirt 9.1 and newer, whose libvirtd an older library may talk to */

extern char **environ;

struct freeze_guard {
	pid_t		 pid;
	int		 fd;
	unsigned int	 seconds;	/* for one answer of the agent */
	bool		 armed;		/* the guard holds the guest for frozen */
	int64_t		 begun, frozen;
};

/* The next byte that the guard sends, or 0 when none comes in time or the guard is gone. */
static char
hear(struct freeze_guard *g, unsigned int seconds)
{
	struct pollfd pfd = { .fd = g->fd, .events = POLLIN };
	char c = 0;

	while (deadline_poll(&pfd, 1, (int64_t)seconds * 1000) == -1)
		if (errno != EINTR)
			return (0);
	if ((pfd.revents & (POLLIN | POLLHUP)) == 0 || recv(g->fd, &c, 1, MSG_DONTWAIT) != 1)
		return (0);
	return (c);
}

static int
tell(struct freeze_guard *g, char c, struct err *err)
{
	if (send(g->fd, &c, 1, MSG_NOSIGNAL) == 1)
		return (0);
	return (err_set(err, errno, "the freeze guard is gone"));
}

static int
spawn(struct freeze_guard *g, const char *uri, const char *uuid, const char *name, struct err *err)
{
	char seconds[16];
	const char *argv[] = { "virt-backupd", GUARD_OPTION, uri, uuid, name, seconds, NULL };
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t attr;
	int pair[2], r;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == -1)
		return (err_set(err, errno, "cannot make a socket"));
	snprintf(seconds, sizeof(seconds), "%u", g->seconds);
	posix_spawn_file_actions_init(&fa);
	posix_spawnattr_init(&attr);
	/* What is sent to our group, by a terminal or a shell, must not end the guard. */
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSID);
	for (int fd = 0; fd < 3; fd++)
		posix_spawn_file_actions_addopen(&fa, fd, "/dev/null", O_RDWR, 0);
	posix_spawn_file_actions_adddup2(&fa, pair[1], GUARD_FD);
	r = posix_spawn(&g->pid, "/proc/self/exe", &fa, &attr, (char **)(uintptr_t)argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&fa);
	io_close(&pair[1]);
	g->fd = pair[0];
	return (r != 0 ? err_set(err, r, "cannot start the freeze guard") : 0);
}

static struct freeze_guard *
start(const char *uri, const char *uuid, const char *name, unsigned int seconds, struct err *err)
{
	struct freeze_guard *g = calloc(1, sizeof(*g));

	if (g == NULL) {
		err_nomem(err);
		return (NULL);
	}
	g->fd = -1;
	g->pid = -1;
	g->seconds = seconds;
	if (spawn(g, uri, uuid, name, err) == 0)
		return (g);
	freeze_guard_end(g);
	return (NULL);
}

struct freeze_guard *
freeze_guard_start(const char *uri, const char *uuid, const char *name, unsigned int seconds, struct err *err)
{
	struct freeze_guard *g = start(uri, uuid, name, seconds, err);

	if (g == NULL)
		return (NULL);
	switch (hear(g, START_SECONDS)) {
	case GUARD_READY:
		return (g);
	case GUARD_BUSY:
		err_set(err, 0, "a freeze guard of an earlier run still tries to thaw the guest");
		break;
	default:
		err_set(err, 0, "the freeze guard did not start");
	}
	freeze_guard_end(g);
	return (NULL);
}

/* It goes on by itself, and is nobody's child when we have ended. */
static void
let_go(struct freeze_guard *g)
{
	io_close(&g->fd);
	free(g);
}

int
freeze_guard_leave(const char *uri, const char *uuid, const char *name, struct err *err)
{
	struct freeze_guard *g = start(uri, uuid, name, ANSWER_SECONDS, err);

	if (g == NULL)
		return (-1);
	if (tell(g, GUARD_ARM, err) == -1) {
		freeze_guard_end(g);
		return (-1);
	}
	let_go(g);
	return (0);
}

/*
 * Whether the agent answered with a refusal, or was not asked: then it has frozen nothing, or undone it.  After any other failure it may have
 * got the request, and may yet act upon it.
 */
static bool
was_refused(void)
{
	switch (virGetLastErrorCode()) {
	case AGENT_COMMAND_FAILED:
	case VIR_ERR_ACCESS_DENIED:
	case VIR_ERR_ARGUMENT_UNSUPPORTED:
	case VIR_ERR_CONFIG_UNSUPPORTED:
	case VIR_ERR_NO_DOMAIN:
	case VIR_ERR_NO_SUPPORT:
	case VIR_ERR_OPERATION_DENIED:
	case VIR_ERR_OPERATION_INVALID:
	case VIR_ERR_OPERATION_UNSUPPORTED:
		return (true);
	case VIR_ERR_INTERNAL_ERROR:
		/* As libvirt 9.0 and older hand on what the agent answered. */
		return (strstr(virGetLastErrorMessage(), "unable to execute QEMU agent command") != NULL);
	default:
		return (false);
	}
}

int
freeze_limit_agent(virDomainPtr dom, unsigned int seconds, struct err *err)
{
	if (virDomainAgentSetResponseTimeout(dom, (int)seconds, 0) == -1)
		return (hypervisor_failed(err, "the time for the guest agent's answers cannot be limited"));
	return (0);
}

void
freeze_unlimit_agent(virDomainPtr dom)
{
	virDomainAgentSetResponseTimeout(dom, VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK, 0);
}

/* Nothing is frozen, or it is thawed: the guard may rest. */
static int
disarm(struct freeze_guard *g, struct err *err)
{
	if (tell(g, GUARD_DISARM, err) == -1)
		return (-1);
	if (hear(g, ANSWER_SECONDS) != GUARD_DISARMED)
		return (err_set(err, 0, "the freeze guard does not answer"));
	g->armed = false;
	return (0);
}

int
freeze_take(struct freeze_guard *g, virDomainPtr dom, struct err *err)
{
	struct err ignored = ERR_INIT;
	bool refused;
	int n;

	if (freeze_limit_agent(dom, g->seconds, err) == -1)
		return (-1);
	if (tell(g, GUARD_ARM, err) == -1 || hear(g, ANSWER_SECONDS) != GUARD_ARMED)
		return (err_set(err, 0, "the freeze guard does not answer"));
	g->armed = true;
	g->begun = deadline_now();
	n = virDomainFSFreeze(dom, NULL, 0, 0);
	g->frozen = deadline_now();
	if (n > 0)
		return (0);
	refused = n == -1 && was_refused();
	if (n == 0)
		err_set(err, 0, "the guest agent found no file system to freeze");
	else
		hypervisor_failed(err, "the guest could not be frozen");
	freeze_unlimit_agent(dom);
	/* Somebody else's freeze, which makes the agent refuse, is not ours to end. */
	if (refused)
		disarm(g, &ignored);
	return (-1);
}

int
freeze_thaw_once(virDomainPtr dom, unsigned int seconds, struct err *err)
{
	int n;

	if (freeze_limit_agent(dom, seconds, err) == -1)
		return (-1);
	if ((n = virDomainFSThaw(dom, NULL, 0, 0)) == -1)
		hypervisor_failed(err, "the guest could not be thawed");
	freeze_unlimit_agent(dom);
	return (n);
}

int
freeze_release(struct freeze_guard *g, virDomainPtr dom, struct freeze_time *t, struct err *err)
{
	int64_t before = deadline_now(), after;
	char answer;
	int n;

	n = freeze_thaw_once(dom, g->seconds, err);
	after = deadline_now();
	*t = (struct freeze_time){ .ms = after - g->begun, .own_ms = before - g->frozen };
	if (n == -1)
		return (-1);
	if (tell(g, GUARD_DISARM, err) == -1)
		return (-1);
	/* The guard said first when it thawed the guest meanwhile. */
	answer = hear(g, ANSWER_SECONDS);
	t->held = n > 0 && answer == GUARD_DISARMED;
	if (answer == GUARD_FIRED)
		answer = hear(g, ANSWER_SECONDS);
	g->armed = answer != GUARD_DISARMED;
	return (g->armed ? err_set(err, 0, "the freeze guard does not answer") : 0);
}

/* The guest may be frozen: the guard thaws it at once, and says so when it is done soon. */
static bool
have_it_thawed(struct freeze_guard *g)
{
	struct err ignored = ERR_INIT;
	char answer;

	if (tell(g, GUARD_THAW, &ignored) == -1)
		return (false);
	do
		answer = hear(g, g->seconds + ANSWER_SECONDS);
	while (answer == GUARD_FIRED || answer == GUARD_ARMED);
	return (answer == GUARD_DISARMED);
}

bool
freeze_guard_end(struct freeze_guard *g)
{
	bool sure;

	if (g == NULL)
		return (true);
	sure = !g->armed || have_it_thawed(g);
	if (!sure) {
		let_go(g);
		return (false);
	}
	io_close(&g->fd);
	/* A guard that has nothing to do ends at once. */
	for (int i = 0; g->pid > 0 && i < ANSWER_SECONDS * 100 && waitpid(g->pid, NULL, WNOHANG) == 0; i++)
		deadline_nap(10);
	free(g);
	return (true);
}
