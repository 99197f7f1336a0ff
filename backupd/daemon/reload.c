#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "alarms.h"
#include "base/human.h"
#include "base/io.h"
#include "daemon_private.h"
#include "interface.h"
#include "notify/notify.h"

/*
 * The text that is in force, for workers: what stands in the file by then may be wrong, or different.
 */
static int
text_fd(const struct conf *c, struct err *err)
{
	int fd = memfd_create("backupd.conf", MFD_CLOEXEC);

	/* Made with mode 0777, which a configuration must not have. */
	if (fd == -1 || fchmod(fd, 0600) == -1 || io_pwrite(fd, c->text, strlen(c->text), 0) == -1) {
		err_set(err, errno, "cannot keep the configuration for workers");
		io_close(&fd);
	}
	return (fd);
}

static void
warn_notify(void *arg, const char *text)
{
	(void)arg;
	daemon_say(true, "warning: notify: %s", text);
}

int
daemon_load(struct daemon *d, struct err *err)
{
	struct conf *c = conf_load(d->config, err);
	int fd = -1;

	if (c == NULL || (fd = text_fd(c, err)) == -1 || engine_configure(d->engine, c, daemon_now(), err) == -1) {
		io_close(&fd);
		conf_free(c);
		return (-1);
	}
	conf_free(d->conf);
	io_close(&d->conf_fd);
	d->conf = c;
	d->conf_fd = fd;
	d->conf_loaded = daemon_now();
	d->conf_error[0] = '\0';
	notify_check(&c->notify, warn_notify, NULL);
	alarms_configure(d->alarms);
	if (!interface_configure(d->interface, c))
		daemon_say(true, "the socket keeps the group that it was started with, %s%s: restart the daemon for that",
		    c->daemon.api_group != NULL ? "and does not get api_group " : "though no api_group is configured any more",
		    c->daemon.api_group != NULL ? c->daemon.api_group : "");
	return (0);
}

void
daemon_reload(struct daemon *d)
{
	struct err err = ERR_INIT;
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000);
	if (daemon_load(d, &err) == -1) {
		snprintf(d->conf_error, sizeof(d->conf_error), "%s", human_safe(err.text));
		daemon_say(true, "%s", d->conf_error);
		daemon_say(true, "the configuration is not changed: the one read before stays in force");
	} else
		daemon_say(false, "read %s again: %zu job%s", d->config, d->conf->njobs, d->conf->njobs == 1 ? "" : "s");
	sd_notify(0, "READY=1");
}
