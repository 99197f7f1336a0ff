#include "daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "alarms.h"
#include "base/human.h"
#include "base/io.h"
#include "daemon_private.h"
#include "deadline.h"
#include "interface.h"
#include "notifier.h"
#include "state_dir.h"

#define TEND_S		60		/* how often the disk is tried again */
#define TELL_MS		30000		/* for what is to be told when the daemon ends */
#define SECOND_US	UINT64_C(1000000)

void
daemon_say(bool trouble, const char *fmt, ...)
{
	/* sd-daemon(3): the journal takes the priority from the line. */
	const char *priority = getenv("JOURNAL_STREAM") == NULL ? "" : trouble ? SD_WARNING : SD_INFO;
	char text[2 * RUN_TEXT_LEN];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fprintf(stderr, "%svirt-backupd: %s\n", priority, human_safe(text));
}

int64_t
daemon_now(void)
{
	return (time(NULL));
}

static void
say_state(void *arg, const char *text)
{
	(void)arg;
	daemon_say(true, "%s", text);
}

/* ---- the loop ---- */

static void
tell_systemd(const struct daemon *d, int64_t wake)
{
	unsigned int running = 0;
	char when[64] = "nothing is scheduled";
	time_t t = (time_t)wake;
	struct tm tm;

	for (const struct worker *w = d->workers; w != NULL; w = w->next)
		running += w->run != 0;
	if (wake != SCHEDULE_NEVER && localtime_r(&t, &tm) != NULL)
		strftime(when, sizeof(when), "next at %F %T", &tm);
	sd_notifyf(0, "STATUS=%u running; %s%s%s", running, engine_paused(d->engine) ? "paused" : when, d->in_memory ? "; the state is in memory only" : "",
	    d->conf_error[0] != '\0' ? "; the configuration on disk is wrong" : "");
}

/* Wakes up when that time has come, and when somebody sets the clock.  Returns false when that happened just now. */
static bool
set_timer(const struct daemon *d, int64_t wake)
{
	struct itimerspec at = { .it_value = { .tv_sec = wake == SCHEDULE_NEVER ? INT64_MAX / 1000000000 : (time_t)wake } };

	if (timerfd_settime(d->timer, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &at, NULL) == 0)
		return (true);
	if (errno == ECANCELED)
		return (false);
	daemon_say(true, "cannot set the timer: %s", strerror(errno));
	return (true);
}

/* Once again when the clock is set meanwhile. */
static int64_t
work_off(struct daemon *d)
{
	int64_t now, wake, look;

	do {
		clock_look(d);
		now = daemon_now();
		wake = engine_tick(d->engine, now);
		look = alarms_tick(d->alarms, now);
		if (d->in_memory && wake > now + TEND_S)
			wake = now + TEND_S;
	} while (!set_timer(d, look < wake ? look : wake));
	return (wake);
}

static void
end_when_quiet(struct daemon *d)
{
	if (d->workers != NULL)
		return;
	if (notifier_idle(d->notifier))
		sd_event_exit(d->ev, 0);
	else
		notifier_hurry(d->notifier, TELL_MS);
}

void
daemon_tick(struct daemon *d)
{
	int64_t wake;

	d->in_memory = db_tend(d->db);
	if (d->stopping) {
		(void)engine_tick(d->engine, daemon_now());	/* starts nothing, but writes what could not be written before */
		end_when_quiet(d);
		return;
	}
	wake = work_off(d);
	if (d->workers != NULL)
		sd_event_source_set_enabled(d->second, SD_EVENT_ON);
	tell_systemd(d, wake);
}

static int
on_timer(sd_event_source *s, int fd, uint32_t events, void *arg)
{
	uint64_t n;

	(void)s;
	(void)events;
	/* ECANCELED: the clock was set.  All the same to us: we look. */
	if (read(fd, &n, sizeof(n)) == -1 && errno == EAGAIN)
		return (0);
	daemon_tick(arg);
	return (0);
}

static int
on_second(sd_event_source *s, uint64_t usec, void *arg)
{
	struct daemon *d = arg;

	(void)usec;
	for (struct worker *w = d->workers; w != NULL; w = w->next)
		worker_watch(w);
	if (d->stopping && d->stop_by != 0 && deadline_left(d->stop_by) == 0) {
		d->stop_by = 0;
		daemon_say(true, "runs did not finish within \"stop_timeout\": they are told to end, and queued again");
		daemon_stop_runs(d);
	}
	if (d->workers == NULL) {
		sd_event_source_set_enabled(s, SD_EVENT_OFF);
		return (0);
	}
	return (sd_event_source_set_time_relative(s, SECOND_US));
}

/* ---- signals ---- */

static int
on_hangup(sd_event_source *s, const struct signalfd_siginfo *si, void *arg)
{
	struct daemon *d = arg;

	(void)s;
	(void)si;
	if (!d->stopping) {
		daemon_reload(d);
		daemon_tick(d);
	}
	return (0);
}

static int
on_terminate(sd_event_source *s, const struct signalfd_siginfo *si, void *arg)
{
	const struct conf_daemon *c = &((struct daemon *)arg)->conf->daemon;
	bool again = ((struct daemon *)arg)->stopping;
	struct daemon *d = arg;

	(void)s;
	(void)si;
	d->stopping = true;
	if (again)
		notifier_hurry(d->notifier, 0);
	engine_hold(d->engine);
	/* Finishing takes stop_timeout, ending another one, and what was killed is to be settled. */
	sd_notifyf(0, "STOPPING=1\nSTATUS=ending\nEXTEND_TIMEOUT_USEC=%" PRIu64, (uint64_t)(3 * c->stop_timeout + 10) * SECOND_US);
	if (c->on_stop == CONF_STOP_FINISH && !again) {
		d->stop_by = deadline_now() + (int64_t)c->stop_timeout * 1000;
		if (d->workers != NULL)
			daemon_say(false, "stops when its runs have finished");
	} else {
		d->stop_by = 0;
		daemon_stop_runs(d);
	}
	end_when_quiet(d);
	return (0);
}

static int
add_sources(struct daemon *d, struct err *err)
{
	int r;

	if ((d->timer = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK)) == -1)
		return (err_set(err, errno, "cannot make a timer for the schedule"));
	if ((r = sd_event_add_io(d->ev, &d->sources[0], d->timer, EPOLLIN, on_timer, d)) < 0 ||
	    (r = sd_event_add_time_relative(d->ev, &d->second, CLOCK_MONOTONIC, SECOND_US, 0, on_second, d)) < 0 ||
	    (r = sd_event_add_signal(d->ev, &d->sources[1], SIGTERM, on_terminate, d)) < 0 ||
	    (r = sd_event_add_signal(d->ev, &d->sources[2], SIGINT, on_terminate, d)) < 0 ||
	    (r = sd_event_add_signal(d->ev, &d->sources[3], SIGHUP, on_hangup, d)) < 0 ||
	    (r = sd_event_set_watchdog(d->ev, 1)) < 0)
		return (err_set(err, -r, "cannot set up the daemon's event loop"));
	return (0);
}

/* ---- start and end ---- */

/* A record lock, which goes with the process, however that dies: one of flock(2) would go on in a child that was forked a moment before. */
static int
only_one(struct daemon *d, struct err *err)
{
	struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	char path[4096];

	snprintf(path, sizeof(path), "%s/daemon.lock", state_dir());
	if (make_folder(state_dir(), 0711, err) == -1)
		return (-1);
	if ((d->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)) == -1)
		return (err_set(err, errno, "cannot open %s", path));
	if (fcntl(d->lock, F_SETLK, &fl) == 0)
		return (0);
	if (errno != EACCES && errno != EAGAIN)
		return (err_set(err, errno, "cannot lock %s", path));
	if (fcntl(d->lock, F_GETLK, &fl) == -1 || fl.l_type == F_UNLCK)
		fl.l_pid = 0;
	return (err_set(err, 0, "another virt-backupd (process %ld) runs with the state folder %s: stop it, or set STATE_DIRECTORY", (long)fl.l_pid, state_dir()));
}

static void
block_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	/* Ignored by who started us, ends of workers would be lost. */
	signal(SIGCHLD, SIG_DFL);
}

static int
set_up(struct daemon *d, struct err *err)
{
	char host[256] = "";
	int r;

	gethostname(host, sizeof(host) - 1);
	if (only_one(d, err) == -1)
		return (-1);
	if ((r = sd_event_new(&d->ev)) < 0)
		return (err_set(err, -r, "cannot set up the daemon's event loop"));
	if ((d->db = db_open(state_dir(), say_state, d, err)) == NULL || (d->engine = engine_new(d->db, host, &daemon_engine_ops, d, err)) == NULL ||
	    (d->notifier = notifier_new(d, err)) == NULL || (d->alarms = alarms_new(d, err)) == NULL || daemon_load(d, err) == -1)
		return (-1);
	return (add_sources(d, err) == -1 || (d->interface = interface_start(d, err)) == NULL ? -1 : 0);
}

static void
tear_down(struct daemon *d)
{
	interface_stop(d->interface);
	for (struct worker *w = d->workers, *next; w != NULL; w = next) {
		next = w->next;
		worker_free(w);
	}
	notifier_free(d->notifier);
	alarms_free(d->alarms);
	for (size_t i = 0; i < sizeof(d->sources) / sizeof(d->sources[0]); i++)
		sd_event_source_unref(d->sources[i]);
	sd_event_source_unref(d->second);
	sd_event_source_disable_unref(d->settle_later);
	engine_free(d->engine);
	db_close(d->db);
	conf_free(d->conf);
	sd_event_unref(d->ev);
	io_close(&d->conf_fd);
	io_close(&d->timer);
	io_close(&d->lock);
}

int
daemon_main(const char *config)
{
	struct daemon d = { .config = config, .conf_fd = -1, .timer = -1, .lock = -1, .started = daemon_now() };
	struct err err = ERR_INIT;
	int rc = 1;

	setvbuf(stderr, NULL, _IOLBF, 0);
	block_signals();
	if (set_up(&d, &err) == -1) {
		daemon_say(true, "%s", err.text);
		goto out;
	}
	daemon_settle(&d);
	daemon_recover(&d);
	daemon_tick(&d);
	daemon_say(false, "ready: %zu job%s of %s", d.conf->njobs, d.conf->njobs == 1 ? "" : "s", config);
	sd_notify(0, "READY=1");
	rc = sd_event_loop(d.ev) < 0 ? 1 : 0;
	daemon_say(false, "ended");
out:
	tear_down(&d);
	return (rc);
}
