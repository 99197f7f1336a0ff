#include <stdlib.h>
#include <string.h>

#include "calendar/span.h"
#include "config/conf_list.h"

#define TIMEOUT	300	/* seconds */

static int
hooks(const struct conf_text *t, const config_setting_t *group, struct conf_hooks *h, struct err *err)
{
	static const char *const known[] = { "before_job", "after_job", "before_domain", "after_domain", "timeout", NULL };

	if (!config_setting_is_group(group))
		return (conf_mistyped(t, group, "a group like { before_job = \"mount /mnt/backup\"; }", err));
	if (conf_known_keys(t, group, known, err) == -1)
		return (-1);
	for (int i = 0; i < CONF_HOOKS; i++)
		if (conf_get_string(t, group, known[i], &h->command[i], err) == -1)
			return (-1);
	return (conf_get_int(t, group, "timeout", 1, CONF_MAX_SECONDS, &h->timeout, err));
}

int
conf_job_hooks(const struct conf_text *t, const config_setting_t *group, struct conf_job *j, struct err *err)
{
	const config_setting_t *s = config_setting_get_member(group, "hooks");
	struct err why = ERR_INIT;
	struct span span;

	j->hooks.timeout = TIMEOUT;
	if ((s != NULL && hooks(t, s, &j->hooks, err) == -1) || conf_get_string(t, group, "alert_after", &j->alert_after, err) == -1)
		return (-1);
	if (j->alert_after != NULL && span_parse(j->alert_after, &span, &why) == -1)
		return (conf_fail(t, config_setting_get_member(group, "alert_after"), err, "%s", why.text));
	return (0);
}

void
conf_job_hooks_free(struct conf_job *j)
{
	for (int i = 0; i < CONF_HOOKS; i++)
		free(j->hooks.command[i]);
	free(j->alert_after);
}
