#include "hypervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/io.h"
#include "libvirt_api.h"
#include "steady.h"

#define CHECK_S		60
#define DEFINE_S	180

/* What the process of its own works with. */
struct session {
	struct libvirt_api		 api;
	const struct hypervisor_domain	*d;
	void				*conn;
	void				*by_name, *by_uuid;	/* the domains in the way, or NULL */
};

typedef enum hypervisor_answer (*job)(struct session *, struct err *);

/* ---- in the process of its own ---- */

static void
quiet(void *arg, void *error)
{
	(void)arg;
	(void)error;
}

static int
failed(const struct session *s, const char *doing, struct err *err)
{
	const char *why = s->api.last_error();

	return (err_set(err, 0, "libvirt cannot %s %s: %s", doing, s->d->name, why != NULL ? why : "it does not say why"));
}

static int
join(struct session *s, struct err *err)
{
	if (libvirt_api_load(&s->api, err) == -1)
		return (-1);
	s->api.set_error_func(NULL, quiet);
	if (s->api.initialize() == -1 || (s->conn = s->api.open(s->d->uri)) == NULL) {
		const char *why = s->api.last_error();

		return (err_set(err, 0, "no connection to libvirt at %s: %s", s->d->uri, why != NULL ? why : "it does not say why"));
	}
	s->by_name = s->api.by_name(s->conn, s->d->name);
	s->by_uuid = s->api.by_uuid(s->conn, s->d->uuid);
	return (0);
}

static int
check_one(const struct session *s, void *dom, struct err *err)
{
	const char *name = s->api.name(dom);

	if (name == NULL)
		return (failed(s, "look at", err));
	if (!s->d->force)
		return (err_set(err, 0, "there is a domain %s: --name restores this one as another, --force replaces it when it is shut off", name));
	if (s->api.is_active(dom) != 0)
		return (err_set(err, 0, "the domain %s is running: shut it off, or restore this one as another with --name", name));
	/* It would go on from that memory with the restored disks under it, and destroy them. */
	if (s->api.has_saved_state(dom, 0) != 0)
		return (err_set(err, 0, "the domain %s has a saved state, which does not fit the restored disks: virsh managedsave-remove %s", name, name));
	if (strcmp(name, s->d->name) != 0)
		return (err_set(err, 0, "the domain %s has its UUID: undefine it, or restore this one as another with --name", name));
	return (0);
}

static enum hypervisor_answer
check(struct session *s, struct err *err)
{
	if ((s->by_name != NULL && check_one(s, s->by_name, err) == -1) || (s->by_uuid != NULL && check_one(s, s->by_uuid, err) == -1))
		return (HYPERVISOR_REFUSED);
	return (HYPERVISOR_DONE);
}

static void
forget_checkpoints(const struct session *s, void *dom)
{
	void **list = NULL;
	int n;

	if (s->api.checkpoints == NULL || s->api.checkpoint_delete == NULL || s->api.checkpoint_free == NULL)
		return;
	n = s->api.checkpoints(dom, &list, 0);
	for (int i = 0; i < n; i++) {
		s->api.checkpoint_delete(list[i], CHECKPOINT_METADATA_ONLY);
		s->api.checkpoint_free(list[i]);
	}
	free(list);
}

static int
undefine(const struct session *s, void *dom, struct err *err)
{
	unsigned int flags = UNDEFINE_SNAPSHOTS_METADATA | UNDEFINE_KEEP_NVRAM | UNDEFINE_CHECKPOINTS_METADATA;

	/* Before libvirt 8.9 there was no KEEP_TPM. */
	if (s->api.undefine(dom, flags | UNDEFINE_KEEP_TPM) == 0 || s->api.undefine(dom, flags) == 0)
		return (0);
	return (failed(s, "undefine the old", err));
}

/* A domain of that name with another UUID has to go first.  *${old} is its XML. */
static int
make_room(const struct session *s, char **old, struct err *err)
{
	char uuid[LIBVIRT_UUID_LEN] = "";

	if (s->by_uuid != NULL)
		forget_checkpoints(s, s->by_uuid);
	if (s->by_name == NULL)
		return (0);
	if (s->api.uuid(s->by_name, uuid) == -1)
		return (failed(s, "look at", err));
	if (strcasecmp(uuid, s->d->uuid) == 0)
		return (0);
	if ((*old = s->api.xml(s->by_name, XML_SECURE | XML_INACTIVE)) == NULL)
		return (failed(s, "read the XML of the old", err));
	return (undefine(s, s->by_name, err));
}

static enum hypervisor_answer
define(struct session *s, struct err *err)
{
	enum hypervisor_answer answer = check(s, err);
	char *old = NULL;
	void *dom;

	if (answer != HYPERVISOR_DONE)
		return (answer);
	if (make_room(s, &old, err) == -1) {
		free(old);
		return (HYPERVISOR_REFUSED);
	}
	if ((dom = s->api.define(s->conn, s->d->xml)) == NULL) {
		failed(s, "define", err);
		if (old != NULL && s->api.define(s->conn, old) == NULL)
			err_wrap(err, "the domain %s that was there is undefined now, and could not be defined again", s->d->name);
		answer = HYPERVISOR_REFUSED;
	} else if (s->d->start && s->api.start(dom) == -1) {
		failed(s, "start", err);
		answer = HYPERVISOR_NOT_STARTED;
	}
	if (dom != NULL)
		s->api.free_domain(dom);
	free(old);
	return (answer);
}

static _Noreturn void
run(const struct hypervisor_domain *d, job work, int out)
{
	struct session s = { .d = d };
	struct err err = ERR_INIT;
	enum hypervisor_answer answer = HYPERVISOR_ABSENT;

	/* Not to be outlived: nobody would hear the answer. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (join(&s, &err) == 0) {
		answer = work(&s, &err);
		s.api.close(s.conn);
	}
	if (write(out, err.text, strlen(err.text)) == -1)
		answer = HYPERVISOR_REFUSED;
	_exit((int)answer);
}

/* ---- in ours ---- */

/* What it wrote, until it ends.  Returns -1 when that takes longer than ${seconds}. */
static int
listen_to(int fd, int seconds, char *text, size_t n)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	time_t until = steady_seconds() + seconds;
	size_t len = 0;
	ssize_t got = 1;
	int r;

	while (got > 0 && len < n - 1) {
		if (steady_seconds() >= until)
			return (-1);
		if ((r = poll(&pfd, 1, 1000)) == 0 || (r == -1 && errno == EINTR))
			continue;
		if ((got = read(fd, text + len, n - 1 - len)) > 0)
			len += (size_t)got;
	}
	text[len] = '\0';
	return (0);
}

static enum hypervisor_answer
ask(const struct hypervisor_domain *d, job work, int seconds, struct err *err)
{
	int out[2], status = 0, r;
	char text[sizeof(err->text)] = "";
	pid_t pid;

	/* O_CLOEXEC: a daemon that libvirt starts must not keep it open. */
	if (pipe2(out, O_CLOEXEC) == -1) {
		err_set(err, errno, "cannot make a pipe to ask libvirt at %s", d->uri);
		return (HYPERVISOR_ABSENT);
	}
	if ((pid = fork()) == 0) {
		close(out[0]);
		run(d, work, out[1]);
	}
	close(out[1]);
	if (pid == -1) {
		err_set(err, errno, "cannot start a process to ask libvirt at %s", d->uri);
		close(out[0]);
		return (HYPERVISOR_ABSENT);
	}
	if ((r = listen_to(out[0], seconds, text, sizeof(text))) == -1)
		kill(pid, SIGKILL);
	close(out[0]);
	while (waitpid(pid, &status, 0) == -1 && errno == EINTR)
		;
	if (r == -1)
		err_plain(err, ETIMEDOUT, "libvirt did not answer within %d s", seconds);
	else if (!WIFEXITED(status))
		err_set(err, 0, "libvirt's library ended with signal %d", WTERMSIG(status));
	else if (WEXITSTATUS(status) != HYPERVISOR_DONE)
		err_set(err, 0, "%s", text);
	if (r == -1 || !WIFEXITED(status) || WEXITSTATUS(status) > HYPERVISOR_NOT_STARTED)
		return (work == check ? HYPERVISOR_ABSENT : HYPERVISOR_REFUSED);
	return ((enum hypervisor_answer)WEXITSTATUS(status));
}

enum hypervisor_answer
hypervisor_check(const struct hypervisor_domain *d, struct err *err)
{
	return (ask(d, check, CHECK_S, err));
}

enum hypervisor_answer
hypervisor_define(const struct hypervisor_domain *d, struct err *err)
{
	return (ask(d, define, DEFINE_S, err));
}
