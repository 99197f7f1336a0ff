/*
 * conf_list.h - the two lists of a configuration.  Both fill a struct conf in part; on failure the caller frees it.
 */
#ifndef OVB_CONF_LIST_H
#define OVB_CONF_LIST_H

#include "conf_get.h"

/** conf_repositories(t, root, c, err): Fill ${c}'s repositories.  Fails: -1, ${err} with place and key. */
int conf_repositories(const struct conf_text *t, const config_setting_t *root, struct conf *c, struct err *err);

/** conf_repository_free(r): Free what ${r} owns. */
void conf_repository_free(struct conf_repository *r);

/** conf_jobs(t, root, c, err): Fill ${c}'s jobs, whose repositories are already there.  Fails: -1, ${err} with place and key. */
int conf_jobs(const struct conf_text *t, const config_setting_t *root, struct conf *c, struct err *err);

/** conf_job_free(j): Free what ${j} owns. */
void conf_job_free(struct conf_job *j);

#endif
