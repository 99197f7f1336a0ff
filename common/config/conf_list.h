/*
 * conf_list.h - the parts of a configuration.  They fill a struct conf in part; on failure the caller frees it.
 */
#ifndef OVB_CONF_LIST_H
#define OVB_CONF_LIST_H

#include "config/conf_get.h"

/** conf_repositories(t, root, c, err): Fill ${c}'s repositories.  Fails: -1, ${err} with place and key. */
int conf_repositories(const struct conf_text *t, const config_setting_t *root, struct conf *c, struct err *err);

/** conf_repository_free(r): Free what ${r} owns. */
void conf_repository_free(struct conf_repository *r);

/** conf_jobs(t, root, c, err): Fill ${c}'s jobs, whose repositories are already there.  Fails: -1, ${err} with place and key. */
int conf_jobs(const struct conf_text *t, const config_setting_t *root, struct conf *c, struct err *err);

/** conf_daemon(t, root, d, err): Fill ${d} from the group "daemon", or with the defaults.  Fails: -1, ${err} with place and key. */
int conf_daemon(const struct conf_text *t, const config_setting_t *root, struct conf_daemon *d, struct err *err);

/** conf_job_daemon(t, group, j, err): Fill what the daemon does with the job in ${group}.  Fails: -1, ${err} with place and key. */
int conf_job_daemon(const struct conf_text *t, const config_setting_t *group, struct conf_job *j, struct err *err);

/** conf_notify(t, root, n, err): Fill ${n} from the group "notify", if there is one.  Fails: -1, ${err} with place and key. */
int conf_notify(const struct conf_text *t, const config_setting_t *root, struct conf_notify *n, struct err *err);

/** conf_notify_free(n): Free what ${n} owns. */
void conf_notify_free(struct conf_notify *n);

/** conf_job_hooks(t, group, j, err): Fill the hooks and the alarm of the job in ${group}.  Fails: -1, ${err} with place and key. */
int conf_job_hooks(const struct conf_text *t, const config_setting_t *group, struct conf_job *j, struct err *err);

/** conf_job_hooks_free(j): Free what of ${j} it has filled. */
void conf_job_hooks_free(struct conf_job *j);

/** conf_job_free(j): Free what ${j} owns. */
void conf_job_free(struct conf_job *j);

#endif
