#include "notify.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <string.h>
#include <unistd.h>

#include "base/human.h"
#include "channels.h"
#include "config/secret.h"
#include "notice.h"

#define TWICE	2u	/* a test tries two addresses of a webhook */

static bool
wants(unsigned int on, const char *event)
{
	int e = conf_event_named(event);

	return (strcmp(event, NOTICE_TEST) == 0 || (e != -1 && (on & (1u << e)) != 0));
}

bool
notify_wants(const struct conf_notify *n, enum conf_event event)
{
	unsigned int on = 0;

	for (size_t i = 0; i < n->nmails; i++)
		on |= n->mails[i].on;
	for (size_t i = 0; i < n->nwebhooks; i++)
		on |= n->webhooks[i].on;
	return ((on & (1u << event)) != 0);
}

unsigned int
notify_seconds(const struct conf_notify *n)
{
	unsigned int sum = 0;

	for (size_t i = 0; i < n->nmails; i++)
		sum += (unsigned int)n->mails[i].timeout;
	for (size_t i = 0; i < n->nwebhooks; i++)
		sum += TWICE * (unsigned int)n->webhooks[i].timeout;
	return (sum);
}

void
notify_send(const struct conf_notify *n, const json_t *notice, notify_result *result, void *arg)
{
	const char *event = notice_text(notice, "event");
	struct err err = ERR_INIT;

	/* First what is quick. */
	for (size_t i = 0; i < n->nwebhooks; i++)
		if (wants(n->webhooks[i].on, event))
			result(arg, "webhook", webhook_send(&n->webhooks[i], notice, &err) == 0 ? NULL : human_safe(err.text));
	for (size_t i = 0; i < n->nmails; i++)
		if (wants(n->mails[i].on, event))
			result(arg, "mail", mail_send(&n->mails[i], notice, &err) == 0 ? NULL : human_safe(err.text));
}

static void
check_secret(const char *path, const char *what, void (*say)(void *arg, const char *text), void *arg)
{
	char secret[SECRET_MAX];
	struct err err = ERR_INIT;

	if (path != NULL && secret_read(path, what, secret, &err) == -1)
		say(arg, human_safe(err.text));
	OPENSSL_cleanse(secret, sizeof(secret));
}

void
notify_check(const struct conf_notify *n, void (*say)(void *arg, const char *text), void *arg)
{
	struct err err = ERR_INIT;

	for (size_t i = 0; i < n->nmails; i++) {
		check_secret(n->mails[i].password_file, "the password", say, arg);
		if (n->mails[i].sendmail != NULL && access(n->mails[i].sendmail, X_OK) == -1) {
			err_set(&err, errno, "cannot run %s: install a mail system, or name a server", n->mails[i].sendmail);
			say(arg, human_safe(err.text));
		}
	}
	for (size_t i = 0; i < n->nwebhooks; i++)
		check_secret(n->webhooks[i].token_file, "the token", say, arg);
}
