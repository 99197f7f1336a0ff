#include <stdlib.h>
#include <string.h>

#include "config/conf_list.h"

#define LIST	"a list of groups like ( { name = \"local\"; url = \"/var/backups/vm\"; } )"

/* A file that only a repository over sftp has a use for. */
static int
sftp_file(const struct conf_text *t, const config_setting_t *group, const char *key, const struct conf_url *u, char **out,
    struct err *err)
{
	const config_setting_t *s = config_setting_get_member(group, key);

	if (s == NULL)
		return (0);
	if (u->kind != CONF_URL_SFTP)
		return (conf_fail(t, s, err, "only a repository with an sftp:// url has it: remove it"));
	return (conf_get_path(t, group, key, out, err));
}

/* What else only a repository over sftp has a use for. */
static int
sftp_keys(const struct conf_text *t, const config_setting_t *group, struct conf_repository *r, struct err *err)
{
	static const char *const choices[] = { "as-ssh", "strict", "accept-new", NULL };
	static const char *const keys[] = { "host_key", "connect_timeout", "idle_timeout", "request_timeout", "parallel", "read_back" };
	const config_setting_t *s;

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]) && r->at.kind != CONF_URL_SFTP; i++)
		if ((s = config_setting_get_member(group, keys[i])) != NULL)
			return (conf_fail(t, s, err, "only a repository with an sftp:// url has it: remove it"));
	if (sftp_file(t, group, "identity", &r->at, &r->identity, err) == -1 ||
	    sftp_file(t, group, "passphrase_file", &r->at, &r->passphrase_file, err) == -1 ||
	    sftp_file(t, group, "known_hosts", &r->at, &r->known_hosts, err) == -1 ||
	    conf_get_choice(t, group, "host_key", choices, &r->host_key, err) == -1 ||
	    conf_get_int(t, group, "connect_timeout", 1, CONF_MAX_REQUEST, &r->connect_timeout, err) == -1 ||
	    conf_get_int(t, group, "idle_timeout", 1, CONF_MAX_REQUEST, &r->idle_timeout, err) == -1 ||
	    conf_get_int(t, group, "request_timeout", 1, CONF_MAX_REQUEST, &r->request_timeout, err) == -1 ||
	    conf_get_int(t, group, "parallel", 1, CONF_MAX_REPLICATE, &r->parallel, err) == -1 ||
	    conf_get_int(t, group, "read_back", 0, 100, &r->read_back, err) == -1)
		return (-1);
	if (r->passphrase_file != NULL && r->identity == NULL)
		return (conf_fail(t, config_setting_get_member(group, "passphrase_file"), err, "it is the passphrase of the key in identity: give that, too"));
	return (0);
}

/* An SFTP server does not say how much there is in all. */
static int
low_space(const struct conf_text *t, const config_setting_t *group, struct conf_repository *r, struct err *err)
{
	const config_setting_t *s = config_setting_get_member(group, "low_space");
	struct err why = ERR_INIT;

	if (conf_get_string(t, group, "low_space", &r->low_space, err) == -1)
		return (-1);
	if (s == NULL && (r->low_space = strdup(r->at.kind == CONF_URL_SFTP ? "0" : LOW_SPACE_DEFAULT)) == NULL)
		return (err_nomem(err));
	if (low_space_parse(r->low_space, &r->low, &why) == -1)
		return (conf_fail(t, s, err, "%s", why.text));
	if (s != NULL && r->low.percent > 0 && r->at.kind == CONF_URL_SFTP)
		return (conf_fail(t, s, err, "\"%s\": a repository with an sftp:// url takes a size like \"500G\"", r->low_space));
	return (0);
}

static int
repository(const struct conf_text *t, const config_setting_t *group, struct conf_repository *r, struct err *err)
{
	static const char *const known[] = { "name", "url", "identity", "passphrase_file", "known_hosts", "host_key", "connect_timeout",
	    "idle_timeout", "request_timeout", "parallel", "read_back", "max_parallel", "low_space", NULL };
	const config_setting_t *url;
	struct err why = ERR_INIT;

	if (!config_setting_is_group(group))
		return (conf_mistyped(t, group, "a group like { name = \"local\"; url = \"/var/backups/vm\"; }", err));
	r->read_back = -1;
	r->where = conf_text_where(t, (int)config_setting_source_line(group));
	if (conf_known_keys(t, group, known, err) == -1 ||
	    conf_get_name(t, group, &r->name, err) == -1 ||
	    conf_get_string(t, group, "url", &r->url, err) == -1 ||
	    conf_get_int(t, group, "max_parallel", 1, CONF_MAX_PARALLEL, &r->max_parallel, err) == -1)
		return (-1);
	if ((url = config_setting_get_member(group, "url")) == NULL)
		return (conf_fail(t, group, err, "has no url: add url = \"/PATH\"; or url = \"sftp://[user@]host[:port]/PATH\";"));
	if (conf_url_parse(r->url, &r->at, &why) == -1)
		return (conf_fail(t, url, err, "%s", why.text));
	return (low_space(t, group, r, err) == -1 ? -1 : sftp_keys(t, group, r, err));
}

int
conf_repositories(const struct conf_text *t, const config_setting_t *root, struct conf *c, struct err *err)
{
	const config_setting_t *list = config_setting_get_member(root, "repositories");
	const config_setting_t *group;
	const struct conf_repository *twin;
	int i, n;

	if (list == NULL)
		return (conf_fail(t, root, err, "repositories: missing: add %s", LIST));
	if (!config_setting_is_list(list))
		return (conf_mistyped(t, list, LIST, err));
	if ((n = config_setting_length(list)) == 0)
		return (conf_fail(t, list, err, "the list is empty: expected %s", LIST));
	if ((c->repositories = calloc((size_t)n, sizeof(*c->repositories))) == NULL)
		return (err_nomem(err));
	for (i = 0; i < n; i++) {
		struct conf_repository *r = &c->repositories[i];

		group = config_setting_get_elem(list, (unsigned int)i);
		if (repository(t, group, r, err) == -1) {
			conf_repository_free(r);
			return (-1);
		}
		twin = conf_find_repository(c, r->name);
		c->nrepositories++;
		if (twin != NULL)
			return (conf_fail(t, config_setting_get_member(group, "name"), err,
			    "\"%s\" is also the name of the repository at %s:%d: choose another",
			    r->name, twin->where.file, twin->where.line));
	}
	return (0);
}

void
conf_repository_free(struct conf_repository *r)
{
	free(r->name);
	free(r->url);
	conf_url_free(&r->at);
	free(r->identity);
	free(r->known_hosts);
	free(r->passphrase_file);
	free(r->low_space);
	*r = (struct conf_repository){ .name = NULL };
}
