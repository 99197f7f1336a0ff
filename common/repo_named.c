#include "repo_named.h"

#include <string.h>

#include "conf.h"

static struct repo *
open_configured(const char *config, const char *name, struct err *err)
{
	const struct conf_repository *r;
	struct repo *repo = NULL;
	struct conf *c;

	if ((c = conf_load(config, err)) == NULL) {
		err_wrap(err, name == NULL ? "no --repository was given, so the first one of the configuration is looked for"
		    : "\"%s\" is looked for in the configuration (a folder is written with a slash: ./%s)", name, name);
		return (NULL);
	}
	r = name != NULL ? conf_find_repository(c, name) : &c->repositories[0];
	if (r == NULL)
		err_set(err, 0, "%s has no repository \"%s\" (a folder is written with a slash: ./%s)", config, name, name);
	else
		repo = repo_open(r->at.kind == CONF_URL_LOCAL ? r->at.path : r->url, false, err);
	conf_free(c);
	return (repo);
}

struct repo *
repo_open_named(const char *config, const char *name, struct err *err)
{
	if (name != NULL && strchr(name, '/') != NULL)
		return (repo_open(name, false, err));
	return (open_configured(config, name, err));
}
