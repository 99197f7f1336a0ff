#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "daemon_private.h"
#include "human.h"
#include "io.h"

/*
 * The text that is in force, for workers: what stands in the file by then may be wrong, or different.
 */
static int
text_fd(const struct conf *c, struct err *err)
{
	int fd = memfd_create("backupd.conf", MFD_CLOEXEC);

	if (fd == -1 || io_pwrite(fd, c->text, strlen(c->text), 0) == -1) {
		err_set(err, errno, "cannot keep the configuration for workers");
		io_close(&fd);
	}
	return (fd);
}

static void
warn_ignored(const struct conf *c)
{
	for (size_t i = 0; i < c->njobs; i++) {
		const struct conf_job *j = &c->jobs[i];
		const struct conf_where *at[] = { &j->replicate_at, &j->full_at };
		static const char *const keys[] = { "replicate", "full" };

		for (size_t k = 0; k < sizeof(keys) / sizeof(keys[0]); k++)
			if (at[k]->line != 0)
				daemon_say(true, "%s:%d: warning: job %s: \"%s\" is not acted upon by this version", at[k]->file, at[k]->line, j->name, keys[k]);
	}
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
	warn_ignored(c);
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
		daemon_say(false, "read %s again: %zu jobs", d->config, d->conf->njobs);
	sd_notify(0, "READY=1");
}
