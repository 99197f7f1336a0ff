#include "repository/repo_named.h"

#include <string.h>

#include "config/conf.h"
#include "ssh/ssh_config.h"

struct repo *
repo_open_configured(const struct conf_repository *r, bool make, struct err *err)
{
	struct ssh_options o = { .identity = r->identity, .passphrase_file = r->passphrase_file, .known_hosts = r->known_hosts,
		.connect_timeout = (unsigned int)r->connect_timeout, .idle_timeout = (unsigned int)r->idle_timeout,
		.request_timeout = (unsigned int)r->request_timeout };
	struct store *st;

	if (r->at.kind == CONF_URL_LOCAL)
		return (repo_open(r->at.path, make, err));
	o.host_key = r->host_key == CONF_HOST_KEY_STRICT ? SSH_HOST_KEY_STRICT : r->host_key == CONF_HOST_KEY_ACCEPT_NEW ? SSH_HOST_KEY_ACCEPT_NEW :
	    SSH_HOST_KEY_AS_SSH;
	st = store_sftp_open(r->url, &o, make, err);
	return (st != NULL ? repo_open_in(st, make, err) : NULL);
}

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
		repo = repo_open_configured(r, false, err);
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
