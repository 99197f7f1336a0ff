#include "interface.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

#include "api.h"
#include "ops.h"

struct interface {
	struct daemon	*d;
	struct api	*api;
	char		*group;		/* that of the configuration it was started with; NULL: none */
	sd_event_source	*ready, *timeout;
};

static const struct api_ops ops = {
	.status = ops_status, .jobs = ops_jobs, .history = ops_history, .run = ops_run_job, .cancel = ops_cancel, .schedule = ops_schedule,
	.pause = ops_pause, .resume = ops_resume, .log = ops_log, .run_state = ops_run_state,
	.notify_test = ops_notify_test, .notify_result = ops_notify_result,
};

static void
serve(struct interface *i)
{
	int ms;

	api_serve(i->api);
	if ((ms = api_timeout(i->api)) >= 0)
		sd_event_source_set_time_relative(i->timeout, (uint64_t)ms * 1000);
	sd_event_source_set_enabled(i->timeout, ms >= 0 ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
}

static int
on_ready(sd_event_source *s, int fd, uint32_t events, void *arg)
{
	(void)s;
	(void)fd;
	(void)events;
	serve(arg);
	return (0);
}

static int
on_timeout(sd_event_source *s, uint64_t usec, void *arg)
{
	(void)s;
	(void)usec;
	serve(arg);
	return (0);
}

/* Who follows the run is answered when the loop comes round: this may be called from within an operation. */
static void
on_changed(void *arg, int64_t run)
{
	struct interface *i = arg;

	api_run_changed(i->api, run);
	sd_event_source_set_time_relative(i->timeout, 0);
	sd_event_source_set_enabled(i->timeout, SD_EVENT_ONESHOT);
}

struct interface *
interface_start(struct daemon *d, struct err *err)
{
	const struct api_options o = { .group = d->conf->daemon.api_group, .group_acts = d->conf->daemon.api_group_acts != 0 };
	struct interface *i = calloc(1, sizeof(*i));
	int r;

	if (i == NULL) {
		err_nomem(err);
		return (NULL);
	}
	i->d = d;
	if (o.group != NULL && (i->group = strdup(o.group)) == NULL) {
		err_nomem(err);
		free(i);
		return (NULL);
	}
	if ((i->api = api_start(&o, &ops, d, err)) == NULL) {
		free(i->group);
		free(i);
		return (NULL);
	}
	if ((r = sd_event_add_io(d->ev, &i->ready, api_fd(i->api), EPOLLIN, on_ready, i)) < 0 ||
	    (r = sd_event_add_time_relative(d->ev, &i->timeout, CLOCK_MONOTONIC, 0, 0, on_timeout, i)) < 0) {
		err_set(err, -r, "cannot set up the daemon's event loop");
		interface_stop(i);
		return (NULL);
	}
	d->changed = on_changed;
	d->changed_arg = i;
	return (i);
}

bool
interface_configure(struct interface *i, const struct conf *c)
{
	const char *group = c->daemon.api_group;

	if (i == NULL)
		return (true);
	api_group_acts(i->api, c->daemon.api_group_acts != 0);
	return (group == NULL || i->group == NULL ? group == i->group : strcmp(group, i->group) == 0);
}

void
interface_stop(struct interface *i)
{
	if (i == NULL)
		return;
	i->d->changed = NULL;
	sd_event_source_unref(i->ready);
	sd_event_source_unref(i->timeout);
	api_stop(i->api);
	free(i->group);
	free(i);
}
