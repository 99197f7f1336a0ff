/* virt-backupctl replicate: restore points go from one repository to another. */
#include "../replicating.h"

#include <stdio.h>
#include <string.h>

#include "options.h"

static int
no_such_job(const struct conf *c, const struct options *o, struct err *err)
{
	char names[sizeof(err->text) / 2] = "";
	size_t used = 0;

	for (size_t i = 0; i < c->njobs && used < sizeof(names); i++)
		if (c->jobs[i].nreplicate > 0 || c->jobs[i].source == CONF_SOURCE_FROM)
			used += (size_t)snprintf(names + used, sizeof(names) - used, " %s", c->jobs[i].name);
	return (err_set(err, 0, "%s has no job \"%.100s\" that replicates; those that do:%s", o->config, o->args[0], used > 0 ? names : " none"));
}

static int
replicate_as_job(const struct options *o, struct err *err)
{
	struct run_options opt = { .json = o->json, .only = o->domain, .interrupted = &interrupted };
	struct conf *c = conf_load(o->config, err);
	const struct conf_job *job;
	int rc;

	if (c == NULL)
		return (-1);
	if ((job = conf_find_job(c, o->args[0])) == NULL || (job->nreplicate == 0 && job->source != CONF_SOURCE_FROM))
		rc = no_such_job(c, o, err);
	else
		rc = replicate_job(job, &opt, PROGRAM, err);
	conf_free(c);
	return (rc);
}

/* A URL or a folder where it holds a slash, else a name in the configuration. */
static int
find_end(const struct options *o, const struct conf *c, const char *name, struct replica_end *out, struct err *err)
{
	if (strchr(name, '/') != NULL) {
		out->url = name;
		return (0);
	}
	if (c != NULL && (out->conf = conf_find_repository(c, name)) != NULL)
		return (0);
	return (err_set(err, 0, "%s has no repository \"%s\" (a folder is written with a slash: ./%s)", o->config, name, name));
}

static int
replicate_by_hand(const struct options *o, struct err *err)
{
	struct replicating r = { .program = PROGRAM, .only = o->domain, .json = o->json, .interrupted = &interrupted };
	struct conf *c = NULL;
	int rc = -1;

	/* Two URLs need no configuration. */
	if ((strchr(o->from, '/') == NULL || strchr(o->to, '/') == NULL) && (c = conf_load(o->config, err)) == NULL)
		return (-1);
	if (find_end(o, c, o->from, &r.from, err) == 0 && find_end(o, c, o->to, &r.to, err) == 0)
		rc = replicating_run(&r, err);
	conf_free(c);
	return (rc);
}

int
command_replicate(const struct options *o)
{
	struct err err = ERR_INIT;
	int rc = o->nargs > 0 ? replicate_as_job(o, &err) : replicate_by_hand(o, &err);

	if (rc == -1)
		return (ctl_error(&err));
	return (rc == 0 ? EXIT_DONE : EXIT_FAILED);
}
