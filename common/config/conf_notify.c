#include <stdlib.h>
#include <string.h>

#include "config/conf_list.h"

#define MAIL_TIMEOUT	30	/* seconds */
#define HOOK_TIMEOUT	10
#define SENDMAIL	"/usr/sbin/sendmail"
#define EVENT(e)	(1u << CONF_EVENT_##e)

/* In the order of enum conf_event. */
static const char *const events[] = { "start", "success", "failure", "retry", "overdue", "low_space", NULL };

/* What is to be told: ${some} of all there is. */
static int
get_events(const struct conf_text *t, const config_setting_t *group, unsigned int some, unsigned int *out, struct err *err)
{
	const config_setting_t *s = config_setting_get_member(group, "on");
	struct conf_strings v = { NULL, 0 };
	int rc = -1, k;

	if (s == NULL)
		return (0);
	if (conf_get_strings(t, group, "on", &v, err) == -1)
		goto out;
	*out = 0;
	for (size_t i = 0; i < v.n; i++) {
		for (k = 0; events[k] != NULL && strcmp(events[k], v.v[i]) != 0; k++)
			continue;
		if (events[k] == NULL) {
			conf_fail(t, config_setting_get_elem(s, (unsigned int)i), err,
			    "expected \"start\", \"success\", \"failure\", \"retry\", \"overdue\" or \"low_space\", not \"%.100s\"", v.v[i]);
			goto out;
		}
		if ((some & (1u << k)) == 0) {
			conf_fail(t, config_setting_get_elem(s, (unsigned int)i), err, "only url can tell of \"%s\": remove it, or give url", events[k]);
			goto out;
		}
		*out |= 1u << k;
	}
	rc = 0;
out:
	conf_strings_free(&v);
	return (rc);
}

/* SCHEME://HOST[:PORT], and for ${path} what follows.  A name or a password in it would be read by everybody who may read the configuration. */
static int
check_url(const struct conf_text *t, const config_setting_t *s, const char *text, const char *const schemes[2], int path, struct err *err)
{
	const char *host = NULL, *end;

	for (int i = 0; i < 2; i++)
		if (strncmp(text, schemes[i], strlen(schemes[i])) == 0)
			host = text + strlen(schemes[i]);
	if (host != NULL) {
		end = host + strcspn(host, "/?#");
		if (memchr(host, '@', (size_t)(end - host)) != NULL)
			return (conf_fail(t, s, err, "a name or a password does not belong into the url: %s", path ? "see token_file" : "see user and password_file"));
		if (end > host && host[strspn(host, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-:[]")] == *end && (path || *end == '\0') &&
		    strchr(text, ' ') == NULL)
			return (0);
	}
	return (conf_fail(t, s, err, "\"%.100s\": expected %sHOST%s or %sHOST%s", text, schemes[0], path ? "/PATH" : "[:PORT]", schemes[1],
	    path ? "/PATH" : "[:PORT]"));
}

static int
get_url(const struct conf_text *t, const config_setting_t *group, const char *key, char **out, struct err *err)
{
	static const char *const schemes[] = { "https://", "http://" };

	if (conf_get_string(t, group, key, out, err) == -1)
		return (-1);
	return (*out == NULL ? 0 : check_url(t, config_setting_get_member(group, key), *out, schemes, 1, err));
}

/* It stands in a header, and on sendmail's command line. */
static int
check_address(const struct conf_text *t, const config_setting_t *s, const char *text, struct err *err)
{
	if (text[0] == '-' || strlen(text) > 254 || strpbrk(text, " <>,;:\"()\\") != NULL)
		return (conf_fail(t, s, err, "\"%.100s\": expected a plain address like \"root\" or \"backup@example.net\"", text));
	return (0);
}

/* Keys that mean something only where another one is given. */
static int
needs(const struct conf_text *t, const config_setting_t *group, const char *key, const char *other, struct err *err)
{
	const config_setting_t *s = config_setting_get_member(group, key);

	if (s == NULL || config_setting_get_member(group, other) != NULL)
		return (0);
	return (conf_fail(t, s, err, "it means nothing without %s: give that, too", other));
}

static int
mail_server(const struct conf_text *t, const config_setting_t *group, struct conf_mail *m, struct err *err)
{
	static const char *const schemes[] = { "smtp://", "smtps://" }, *const starttls[] = { "required", "try", "never", NULL };
	const config_setting_t *s = config_setting_get_member(group, "server");
	static const char *const keys[] = { "starttls", "user", "ca_file" };

	if (conf_get_string(t, group, "server", &m->server, err) == -1 || (s != NULL && check_url(t, s, m->server, schemes, 0, err) == -1) ||
	    conf_get_string(t, group, "user", &m->user, err) == -1 || conf_get_path(t, group, "password_file", &m->password_file, err) == -1 ||
	    conf_get_path(t, group, "ca_file", &m->ca_file, err) == -1)
		return (-1);
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (needs(t, group, keys[i], "server", err) == -1)
			return (-1);
	if (needs(t, group, "user", "password_file", err) == -1 || needs(t, group, "password_file", "user", err) == -1)
		return (-1);
	/* A password is not sent in the clear unless somebody says so. */
	m->starttls = m->user != NULL ? CONF_STARTTLS_REQUIRED : CONF_STARTTLS_TRY;
	return (conf_get_choice(t, group, "starttls", starttls, &m->starttls, err));
}

static int
mail(const struct conf_text *t, const config_setting_t *group, struct conf_mail *m, struct err *err)
{
	static const char *const known[] = { "to", "from", "server", "starttls", "user", "password_file", "ca_file", "sendmail", "on", "timeout", NULL };
	const config_setting_t *s;

	if (!config_setting_is_group(group))
		return (conf_mistyped(t, group, "a group like { to = [ \"root\" ]; }", err));
	m->on = EVENT(FAILURE) | EVENT(OVERDUE) | EVENT(LOW_SPACE);
	m->timeout = MAIL_TIMEOUT;
	if (conf_known_keys(t, group, known, err) == -1 || conf_get_strings(t, group, "to", &m->to, err) == -1 ||
	    conf_get_string(t, group, "from", &m->from, err) == -1 || mail_server(t, group, m, err) == -1 ||
	    conf_get_path(t, group, "sendmail", &m->sendmail, err) == -1 || get_events(t, group, ~0u, &m->on, err) == -1 ||
	    conf_get_int(t, group, "timeout", 1, CONF_MAX_NOTIFY, &m->timeout, err) == -1)
		return (-1);
	if ((s = config_setting_get_member(group, "to")) == NULL)
		return (conf_fail(t, group, err, "has nobody to write to: add to = [ \"ADDRESS\" ];"));
	for (size_t i = 0; i < m->to.n; i++)
		if (check_address(t, config_setting_get_elem(s, (unsigned int)i), m->to.v[i], err) == -1)
			return (-1);
	if (m->from != NULL && check_address(t, config_setting_get_member(group, "from"), m->from, err) == -1)
		return (-1);
	if (m->sendmail != NULL && m->server != NULL)
		return (conf_fail(t, config_setting_get_member(group, "sendmail"), err, "the mail already goes to server: remove one of the two"));
	if (m->server == NULL && m->sendmail == NULL && (m->sendmail = strdup(SENDMAIL)) == NULL)
		return (err_nomem(err));
	return (0);
}

static int
webhook(const struct conf_text *t, const config_setting_t *group, struct conf_webhook *w, struct err *err)
{
	static const char *const known[] = { "url", "ping", "start_url", "success_url", "failure_url", "token_file", "ca_file", "on", "timeout", NULL };
	unsigned int some = EVENT(START) | EVENT(SUCCESS) | EVENT(FAILURE);

	if (!config_setting_is_group(group))
		return (conf_mistyped(t, group, "a group like { ping = \"https://hc-ping.com/...\"; }", err));
	w->timeout = HOOK_TIMEOUT;
	if (conf_known_keys(t, group, known, err) == -1 || get_url(t, group, "url", &w->url, err) == -1 || get_url(t, group, "ping", &w->ping, err) == -1 ||
	    get_url(t, group, "start_url", &w->start_url, err) == -1 || get_url(t, group, "success_url", &w->success_url, err) == -1 ||
	    get_url(t, group, "failure_url", &w->failure_url, err) == -1 || conf_get_path(t, group, "token_file", &w->token_file, err) == -1 ||
	    conf_get_path(t, group, "ca_file", &w->ca_file, err) == -1 || conf_get_int(t, group, "timeout", 1, CONF_MAX_NOTIFY, &w->timeout, err) == -1)
		return (-1);
	if ((w->url != NULL) + (w->ping != NULL) + (w->start_url != NULL || w->success_url != NULL || w->failure_url != NULL) != 1)
		return (conf_fail(t, group, err, "expected one of url, ping, and the three start_url, success_url and failure_url"));
	w->on = w->url != NULL ? EVENT(FAILURE) | EVENT(OVERDUE) | EVENT(LOW_SPACE) : some;
	return (get_events(t, group, w->url != NULL ? ~0u : some, &w->on, err));
}

/* A group, or a list of groups: what there are of ${key}, as so many elements of ${size} bytes. */
static int
make_room(const struct conf_text *t, const config_setting_t *s, size_t size, void **v, size_t *n, struct err *err)
{
	*n = config_setting_is_list(s) ? (size_t)config_setting_length(s) : 1;
	if (*n == 0)
		return (conf_fail(t, s, err, "the list is empty: put a group into it, or remove it"));
	if ((*v = calloc(*n, size)) != NULL)
		return (0);
	*n = 0;
	return (err_nomem(err));
}

static const config_setting_t *
element(const config_setting_t *s, size_t i)
{
	return (config_setting_is_list(s) ? config_setting_get_elem(s, (unsigned int)i) : s);
}

static int
mails(const struct conf_text *t, const config_setting_t *s, struct conf_notify *n, struct err *err)
{
	if (make_room(t, s, sizeof(*n->mails), (void **)&n->mails, &n->nmails, err) == -1)
		return (-1);
	for (size_t i = 0; i < n->nmails; i++)
		if (mail(t, element(s, i), &n->mails[i], err) == -1)
			return (-1);
	return (0);
}

static int
webhooks(const struct conf_text *t, const config_setting_t *s, struct conf_notify *n, struct err *err)
{
	if (make_room(t, s, sizeof(*n->webhooks), (void **)&n->webhooks, &n->nwebhooks, err) == -1)
		return (-1);
	for (size_t i = 0; i < n->nwebhooks; i++)
		if (webhook(t, element(s, i), &n->webhooks[i], err) == -1)
			return (-1);
	return (0);
}

int
conf_notify(const struct conf_text *t, const config_setting_t *root, struct conf_notify *n, struct err *err)
{
	static const char *const known[] = { "mail", "webhook", NULL };
	const config_setting_t *group = config_setting_get_member(root, "notify"), *s;

	if (group == NULL)
		return (0);
	if (!config_setting_is_group(group))
		return (conf_mistyped(t, group, "a group like { mail = { to = [ \"root\" ]; }; }", err));
	if (conf_known_keys(t, group, known, err) == -1)
		return (-1);
	if ((s = config_setting_get_member(group, "mail")) != NULL && mails(t, s, n, err) == -1)
		return (-1);
	return ((s = config_setting_get_member(group, "webhook")) != NULL ? webhooks(t, s, n, err) : 0);
}

const char *
conf_event_name(enum conf_event e)
{
	return (events[e]);
}

int
conf_event_named(const char *text)
{
	for (int i = 0; events[i] != NULL; i++)
		if (strcmp(events[i], text) == 0)
			return (i);
	return (-1);
}

static void
free_mail(struct conf_mail *m)
{
	free(m->from);
	free(m->server);
	free(m->user);
	free(m->password_file);
	free(m->ca_file);
	free(m->sendmail);
	conf_strings_free(&m->to);
}

static void
free_webhook(struct conf_webhook *w)
{
	free(w->url);
	free(w->ping);
	free(w->start_url);
	free(w->success_url);
	free(w->failure_url);
	free(w->token_file);
	free(w->ca_file);
}

void
conf_notify_free(struct conf_notify *n)
{
	for (size_t i = 0; i < n->nmails; i++)
		free_mail(&n->mails[i]);
	for (size_t i = 0; i < n->nwebhooks; i++)
		free_webhook(&n->webhooks[i]);
	free(n->mails);
	free(n->webhooks);
	*n = (struct conf_notify){ NULL, 0, NULL, 0 };
}
