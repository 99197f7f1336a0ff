#include "space.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "deadline.h"

#define SILENCE_MS	30000
#define KILLED_MS	100

struct answer {
	uint64_t	free, total;
	bool		known;
};

struct space {
	sd_event	*ev;
	space_result	*result;
	space_silence	*silence;
	void		*arg;
	pid_t		 pid;		/* -1: nobody is asked */
	int		 fd;
	sd_event_source	*source;
	size_t		 next;		/* whose answer comes next ... */
	int64_t		 since;		/* ... and since when it is waited for */
	bool		 told;
};

static void ask_all(const struct conf *c, int out, pid_t parent) __attribute__((noreturn));

/* One after the other: the one that does not answer is known. */
static void
ask_all(const struct conf *c, int out, pid_t parent)
{
	/* Nobody is to be kept from the daemon's socket by this. */
	if (dup2(out, 0) == -1)
		_exit(1);
	(void)close_range(1, ~0u, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	for (size_t i = 0; i < c->nrepositories; i++) {
		struct answer a = { .known = false };
		struct statvfs v;

		if (c->repositories[i].at.kind == CONF_URL_LOCAL && statvfs(c->repositories[i].at.path, &v) == 0)
			a = (struct answer){ (uint64_t)v.f_bavail * v.f_frsize, (uint64_t)v.f_blocks * v.f_frsize, true };
		if (write(0, &a, sizeof(a)) != (ssize_t)sizeof(a))
			_exit(1);
	}
	_exit(0);
}

struct space *
space_new(sd_event *ev, space_result *result, space_silence *silence, void *arg)
{
	struct space *s = calloc(1, sizeof(*s));

	if (s != NULL)
		*s = (struct space){ .ev = ev, .result = result, .silence = silence, .arg = arg, .pid = -1, .fd = -1 };
	return (s);
}

void
space_stop(struct space *s)
{
	if (s->pid == -1)
		return;
	s->source = sd_event_source_disable_unref(s->source);
	io_close(&s->fd);
	(void)kill(s->pid, SIGKILL);
	/* What hangs in the kernel is not waited for. */
	for (int i = 0; i < KILLED_MS && waitpid(s->pid, NULL, WNOHANG) == 0; i++)
		deadline_nap(1);
	s->pid = -1;
}

void
space_free(struct space *s)
{
	if (s == NULL)
		return;
	space_stop(s);
	free(s);
}

static int
on_answer(sd_event_source *source, int fd, uint32_t events, void *arg)
{
	struct space *s = arg;
	struct answer a;
	ssize_t n;

	(void)source;
	(void)events;
	/* They are shorter than what a pipe writes at once: each comes whole. */
	if ((n = read(fd, &a, sizeof(a))) == (ssize_t)sizeof(a)) {
		s->since = deadline_now();
		s->told = false;
		s->result(s->arg, s->next++, a.known, a.free, a.total);
	} else if (n != -1 || (errno != EAGAIN && errno != EINTR)) {
		s->source = sd_event_source_disable_unref(s->source);
		io_close(&s->fd);
		(void)waitpid(s->pid, NULL, 0);
		s->pid = -1;
	}
	return (0);
}

void
space_ask(struct space *s, const struct conf *c)
{
	int out[2];
	pid_t parent = getpid();

	if (s->pid != -1) {
		if (!s->told && s->next < c->nrepositories && deadline_now() - s->since >= SILENCE_MS) {
			s->told = true;
			s->silence(s->arg, s->next);
		}
		return;
	}
	if (pipe2(out, O_CLOEXEC | O_NONBLOCK) == -1)
		return;
	if ((s->pid = fork()) == 0) {
		(void)fcntl(out[1], F_SETFL, 0);
		ask_all(c, out[1], parent);
	}
	io_close(&out[1]);
	s->fd = out[0];
	s->next = 0;
	s->since = deadline_now();
	s->told = false;
	if (s->pid == -1 || sd_event_add_io(s->ev, &s->source, s->fd, EPOLLIN, on_answer, s) < 0) {
		space_stop(s);
		io_close(&s->fd);
	}
}
