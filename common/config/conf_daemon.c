#include "calendar/window.h"
#include "config/conf_list.h"

int
conf_daemon(const struct conf_text *t, const config_setting_t *root, struct conf_daemon *d, struct err *err)
{
	static const char *const known[] = { "max_parallel", "stop_timeout", "on_stop", "nice", "idle_io", "history", "api_group", "api_group_acts", NULL };
	static const char *const on_stop[] = { "cancel", "finish", NULL };
	const config_setting_t *group = config_setting_get_member(root, "daemon");
	int choice = CONF_STOP_CANCEL;

	*d = (struct conf_daemon){ .max_parallel = 2, .stop_timeout = 60, .nice = 10, .idle_io = 1, .history = 100 };
	if (group == NULL)
		return (0);
	if (!config_setting_is_group(group))
		return (conf_mistyped(t, group, "a group like { max_parallel = 2; }", err));
	if (conf_known_keys(t, group, known, err) == -1 ||
	    conf_get_int(t, group, "max_parallel", 1, CONF_MAX_PARALLEL, &d->max_parallel, err) == -1 ||
	    conf_get_int(t, group, "stop_timeout", 1, CONF_MAX_SECONDS, &d->stop_timeout, err) == -1 ||
	    conf_get_choice(t, group, "on_stop", on_stop, &choice, err) == -1 ||
	    conf_get_int(t, group, "nice", 0, 19, &d->nice, err) == -1 ||
	    conf_get_bool(t, group, "idle_io", &d->idle_io, err) == -1 ||
	    conf_get_int(t, group, "history", 1, CONF_MAX_HISTORY, &d->history, err) == -1 ||
	    conf_get_string(t, group, "api_group", &d->api_group, err) == -1 ||
	    conf_get_bool(t, group, "api_group_acts", &d->api_group_acts, err) == -1)
		return (-1);
	d->on_stop = (enum conf_on_stop)choice;
	return (0);
}

static int
job_window(const struct conf_text *t, const config_setting_t *group, char **out, struct err *err)
{
	struct err why = ERR_INIT;
	struct window *w;

	if (conf_get_string(t, group, "window", out, err) == -1)
		return (-1);
	if (*out == NULL)
		return (0);
	if ((w = window_parse(*out, &why)) == NULL)
		return (conf_fail(t, config_setting_get_member(group, "window"), err, "%s", why.text));
	window_free(w);
	return (0);
}

static int
job_window_end(const struct conf_text *t, const config_setting_t *group, struct conf_job *j, struct err *err)
{
	static const char *const ends[] = { "finish", "cancel", NULL };
	const config_setting_t *s = config_setting_get_member(group, "window_end");

	if (conf_get_choice(t, group, "window_end", ends, &j->window_cancel, err) == -1)
		return (-1);
	if (s != NULL && j->window == NULL)
		return (conf_fail(t, s, err, "it says what becomes of a run when its window closes: give window, too"));
	return (0);
}

int
conf_job_daemon(const struct conf_text *t, const config_setting_t *group, struct conf_job *j, struct err *err)
{
	j->catch_up = 1;
	j->retry_wait = 600;
	j->stall_timeout = 3600;
	if (conf_get_int(t, group, "random_delay", 0, CONF_MAX_SECONDS, &j->random_delay, err) == -1 ||
	    conf_get_bool(t, group, "catch_up", &j->catch_up, err) == -1 ||
	    conf_get_int(t, group, "retries", 0, CONF_MAX_RETRIES, &j->retries, err) == -1 ||
	    conf_get_int(t, group, "retry_wait", 1, CONF_MAX_SECONDS, &j->retry_wait, err) == -1 ||
	    job_window(t, group, &j->window, err) == -1 ||
	    job_window_end(t, group, j, err) == -1)
		return (-1);
	return (conf_get_int(t, group, "stall_timeout", 0, CONF_MAX_SECONDS, &j->stall_timeout, err));
}
