#include "config/conf.h"

#include <libconfig.h>
#include <stdlib.h>
#include <string.h>

#include "config/conf_list.h"
#include "config/conf_text.h"

static int
build(const struct conf_text *t, config_t *tree, struct conf *c, struct err *err)
{
	static const char *const known[] = { "repositories", "jobs", "daemon", "notify", NULL };
	const config_setting_t *root;
	struct conf_where w;

	if (config_read_string(tree, t->out.ptr) != CONFIG_TRUE) {
		w = conf_text_where(t, config_error_line(tree));
		return (err_set(err, 0, "%s:%d: %s", w.file, w.line,
		    config_error_text(tree) != NULL ? config_error_text(tree) : "syntax error"));
	}
	root = config_root_setting(tree);
	if (conf_known_keys(t, root, known, err) == -1 ||
	    conf_repositories(t, root, c, err) == -1 ||
	    conf_jobs(t, root, c, err) == -1 ||
	    conf_daemon(t, root, &c->daemon, err) == -1 ||
	    conf_notify(t, root, &c->notify, err) == -1)
		return (-1);
	return (0);
}

/* ${t}'s file names become the configuration's, because its places point at them. */
static struct conf *
conf_make(struct conf_text *t, struct err *err)
{
	struct conf *c;
	config_t tree;
	int rc;

	if ((c = calloc(1, sizeof(*c))) == NULL) {
		err_nomem(err);
		return (NULL);
	}
	config_init(&tree);
	rc = build(t, &tree, c, err);
	config_destroy(&tree);
	c->files = t->files;
	c->nfiles = t->nfiles;
	t->files = NULL;
	t->nfiles = 0;
	c->text = t->out.ptr;
	t->out = (struct buf)BUF_INIT;
	if (rc == -1) {
		conf_free(c);
		return (NULL);
	}
	return (c);
}

struct conf *
conf_load(const char *path, struct err *err)
{
	struct conf_text t = CONF_TEXT_INIT;
	struct conf *c = NULL;

	if (conf_text_load(&t, path, err) == 0)
		c = conf_make(&t, err);
	conf_text_free(&t);
	return (c);
}

struct conf *
conf_parse(const char *text, size_t len, const char *name, struct err *err)
{
	struct conf_text t = CONF_TEXT_INIT;
	struct conf *c = NULL;

	if (conf_text_parse(&t, text, len, name, err) == 0)
		c = conf_make(&t, err);
	conf_text_free(&t);
	return (c);
}

void
conf_free(struct conf *c)
{
	size_t i;

	if (c == NULL)
		return;
	for (i = 0; i < c->nrepositories; i++)
		conf_repository_free(&c->repositories[i]);
	for (i = 0; i < c->njobs; i++)
		conf_job_free(&c->jobs[i]);
	for (i = 0; i < c->nfiles; i++)
		free(c->files[i]);
	free(c->daemon.api_group);
	conf_notify_free(&c->notify);
	free(c->repositories);
	free(c->jobs);
	free(c->files);
	free(c->text);
	free(c);
}

const struct conf_repository *
conf_find_repository(const struct conf *c, const char *name)
{
	size_t i;

	for (i = 0; i < c->nrepositories; i++) {
		if (strcmp(c->repositories[i].name, name) == 0)
			return (&c->repositories[i]);
	}
	return (NULL);
}

const struct conf_job *
conf_find_job(const struct conf *c, const char *name)
{
	size_t i;

	for (i = 0; i < c->njobs; i++) {
		if (strcmp(c->jobs[i].name, name) == 0)
			return (&c->jobs[i]);
	}
	return (NULL);
}
