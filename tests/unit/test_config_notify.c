/* Who is told, hooks, alarms: what of a configuration is kept, and which mistakes are named with their place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "config/conf.h"
#include "repository/low_space.h"

#define REPO(keys)	"repositories = ( { name = \"local\"; url = \"/b\"; " keys " } );\n"
#define SFTP(keys)	"repositories = ( { name = \"away\"; url = \"sftp://h/b\"; " keys " } );\n"
#define NOTIFY(text)	REPO("") "notify = {\n" text " };"
#define MAIL(keys)	NOTIFY("mail = { to = [ \"root\" ];\n" keys " };")
#define WEB(keys)	NOTIFY("webhook = {\n" keys " };")
#define JOB(keys)	REPO("") "jobs = ( { name = \"j\"; images = [ \"/i\" ];\n" keys " } );"
#define SMTP(url)	"server = \"" url "\";"
#define HTTPS		"expected https://HOST/PATH or http://HOST/PATH"
#define EVENTS		"expected \"start\", \"success\", \"failure\", \"retry\", \"overdue\" or \"low_space\", not "
#define BIT(e)		(1u << CONF_EVENT_##e)

static const struct {
	const char	*text, *error;
} bad[] = {
	{ REPO("") "notify = 1;", "t:2: notify: expected a group like { mail = { to = [ \"root\" ]; }; }, not 1" },
	{ NOTIFY("sms = { };"), "t:3: notify.sms: unknown key; known here: mail, webhook" },
	{ NOTIFY("mail = 1;"), "t:3: notify.mail: expected a group like { to = [ \"root\" ]; }, not 1" },
	{ NOTIFY("mail = ( );"), "t:3: notify.mail: the list is empty: put a group into it, or remove it" },
	{ NOTIFY("mail = { };"), "t:3: notify.mail: has nobody to write to: add to = [ \"ADDRESS\" ];" },
	{ NOTIFY("mail = (\n{ to = [ \"a\" ]; },\n{ } );"), "t:5: notify.mail[1]: has nobody to write to: add to = [ \"ADDRESS\" ];" },
	{ MAIL("port = 25;"), "t:4: notify.mail.port: unknown key; known here: to, from, server, starttls, user, password_file, ca_file, sendmail, on, timeout" },
	{ NOTIFY("mail = { to = [ \"a\", \"-oQ/tmp\" ]; };"), "t:3: notify.mail.to[1]: \"-oQ/tmp\": expected a plain address like \"root\" or \"backup@example.net\"" },
	{ MAIL("from = \"A <a@b>\";"), "t:4: notify.mail.from: \"A <a@b>\": expected a plain address like \"root\" or \"backup@example.net\"" },
	{ MAIL(SMTP("mail.example.net")), "t:4: notify.mail.server: \"mail.example.net\": expected smtp://HOST[:PORT] or smtps://HOST[:PORT]" },
	{ MAIL(SMTP("smtp://h/x")), "t:4: notify.mail.server: \"smtp://h/x\": expected smtp://HOST[:PORT] or smtps://HOST[:PORT]" },
	{ MAIL(SMTP("smtp://me:pw@h")), "t:4: notify.mail.server: a name or a password does not belong into the url: see user and password_file" },
	{ MAIL(SMTP("smtp://h") " user = \"u\";"), "t:4: notify.mail.user: it means nothing without password_file: give that, too" },
	{ MAIL(SMTP("smtp://h") " password_file = \"/p\";"), "t:4: notify.mail.password_file: it means nothing without user: give that, too" },
	{ MAIL("user = \"u\"; password_file = \"/p\";"), "t:4: notify.mail.user: it means nothing without server: give that, too" },
	{ MAIL("starttls = \"try\";"), "t:4: notify.mail.starttls: it means nothing without server: give that, too" },
	{ MAIL(SMTP("smtp://h") " starttls = \"yes\";"), "t:4: notify.mail.starttls: expected \"required\", \"try\" or \"never\", not \"yes\"" },
	{ MAIL(SMTP("smtp://h") " sendmail = \"/s\";"), "t:4: notify.mail.sendmail: the mail already goes to server: remove one of the two" },
	{ MAIL("sendmail = \"sendmail\";"), "t:4: notify.mail.sendmail: \"sendmail\": expected an absolute path" },
	{ MAIL("on = [ \"failed\" ];"), "t:4: notify.mail.on[0]: " EVENTS "\"failed\"" },
	{ MAIL("on = [ ];"), "t:4: notify.mail.on: the array is empty: put a string into it or remove the key" },
	{ MAIL("timeout = 601;"), "t:4: notify.mail.timeout: expected a whole number from 1 to 600, not 601" },
	{ WEB(""), "t:3: notify.webhook: expected one of url, ping, and the three start_url, success_url and failure_url" },
	{ WEB("url = \"https://h/\"; ping = \"https://h/\";"), "t:3: notify.webhook: expected one of url, ping, and the three start_url, success_url and failure_url" },
	{ WEB("ping = \"ftp://h/\";"), "t:4: notify.webhook.ping: \"ftp://h/\": " HTTPS },
	{ WEB("ping = \"https://\";"), "t:4: notify.webhook.ping: \"https://\": " HTTPS },
	{ WEB("url = \"https://h/a b\";"), "t:4: notify.webhook.url: \"https://h/a b\": " HTTPS },
	{ WEB("url = \"https://u:p@h/\";"), "t:4: notify.webhook.url: a name or a password does not belong into the url: see token_file" },
	{ WEB("ping = \"https://h/\"; on = [ \"overdue\" ];"), "t:4: notify.webhook.on[0]: only url can tell of \"overdue\": remove it, or give url" },
	{ WEB("ping = \"https://h/\"; token_file = \"t\";"), "t:4: notify.webhook.token_file: \"t\": expected an absolute path" },

	{ JOB("hooks = 1;"), "t:3: jobs[0].hooks: expected a group like { before_job = \"mount /mnt/backup\"; }, not 1" },
	{ JOB("hooks = { before = \"x\"; };"), "t:3: jobs[0].hooks.before: unknown key; known here: before_job, after_job, before_domain, after_domain, timeout" },
	{ JOB("hooks = { after_job = \"\"; };"), "t:3: jobs[0].hooks.after_job: the string is empty: give a value or remove it" },
	{ JOB("hooks = { timeout = 0; };"), "t:3: jobs[0].hooks.timeout: expected a whole number from 1 to 86400, not 0" },
	{ JOB("alert_after = \"2 days\";"), "t:3: jobs[0].alert_after: \"2 days\": expected a span of time like \"14d\", \"36h\" or \"1y6m3d12h\": numbers from 1 to "
	  "100000 with the units y, m (months), w, d and h in this order" },
	{ JOB("alert_after = 2;"), "t:3: jobs[0].alert_after: expected a string, not 2" },

	{ REPO("low_space = 5;"), "t:1: repositories[0].low_space: expected a string, not 5" },
	{ REPO("low_space = \"lots\";"), "t:1: repositories[0].low_space: \"lots\": expected a share up to 90% like \"10%\", or a size like \"500G\"" },
	{ SFTP("low_space = \"10%\";"), "t:1: repositories[0].low_space: \"10%\": a repository with an sftp:// url takes a size like \"500G\"" },
};

static void
errors_name_line_and_key(void **state)
{
	struct err err;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		err = (struct err)ERR_INIT;
		assert_null(conf_parse(bad[i].text, strlen(bad[i].text), "t", &err));
		assert_string_equal(err.text, bad[i].error);
	}
}

static struct conf *
parsed(const char *text)
{
	struct err err = ERR_INIT;
	struct conf *c = conf_parse(text, strlen(text), "t", &err);

	if (c == NULL)
		fail_msg("%s", err.text);
	return (c);
}

static void
defaults(void **state)
{
	struct conf *c = parsed(REPO("") "jobs = ( { name = \"j\"; images = [ \"/i\" ]; } );");
	const struct conf_job *j = &c->jobs[0];

	(void)state;
	assert_true(c->notify.nmails == 0 && c->notify.nwebhooks == 0 && j->alert_after == NULL && j->hooks.timeout == 300);
	for (int i = 0; i < CONF_HOOKS; i++)
		assert_null(j->hooks.command[i]);
	assert_string_equal(c->repositories[0].low_space, "5%");
	assert_int_equal(c->repositories[0].low.percent, 5);
	conf_free(c);
	c = parsed(SFTP(""));
	assert_true(c->repositories[0].low.percent == 0 && c->repositories[0].low.bytes == 0);
	conf_free(c);
	c = parsed(MAIL(""));
	assert_string_equal(c->notify.mails[0].sendmail, "/usr/sbin/sendmail");
	assert_true(c->notify.mails[0].server == NULL && c->notify.mails[0].timeout == 30);
	assert_int_equal(c->notify.mails[0].on, BIT(FAILURE) | BIT(OVERDUE) | BIT(LOW_SPACE));
	conf_free(c);
	/* A password goes through an encrypted connection only, unless somebody says otherwise. */
	c = parsed(MAIL(SMTP("smtp://h")));
	assert_true(c->notify.mails[0].starttls == CONF_STARTTLS_TRY && c->notify.mails[0].sendmail == NULL);
	conf_free(c);
	c = parsed(MAIL(SMTP("smtp://h") " user = \"u\"; password_file = \"/p\";"));
	assert_int_equal(c->notify.mails[0].starttls, CONF_STARTTLS_REQUIRED);
	conf_free(c);
	c = parsed(NOTIFY("webhook = ( { ping = \"https://h/\"; }, { url = \"https://h/\"; } );"));
	assert_int_equal(c->notify.webhooks[0].on, BIT(START) | BIT(SUCCESS) | BIT(FAILURE));
	assert_int_equal(c->notify.webhooks[1].on, BIT(FAILURE) | BIT(OVERDUE) | BIT(LOW_SPACE));
	assert_int_equal(c->notify.webhooks[1].timeout, 10);
	conf_free(c);
}

static void
what_is_given_is_kept(void **state)
{
	struct conf *c = parsed(REPO("low_space = \"20G\";")
	    "jobs = ( { name = \"j\"; images = [ \"/i\" ]; alert_after = \"2d\"; hooks = { before_job = \"a b\"; after_job = \"c\"; before_domain = \"d\"; "
	    "after_domain = \"e\"; timeout = 7; }; } );"
	    "notify = { mail = ( { to = [ \"a@b.c\", \"root\" ]; from = \"f@g.h\"; server = \"smtps://[::1]:465\"; user = \"u\"; password_file = \"/p\"; "
	    "starttls = \"never\"; ca_file = \"/c\"; on = [ \"retry\", \"start\" ]; timeout = 9; }, { to = [ \"x\" ]; sendmail = \"/s\"; } ); "
	    "webhook = { start_url = \"http://h:1/s\"; failure_url = \"http://h/f?x=y\"; token_file = \"/t\"; on = [ \"failure\" ]; timeout = 3; }; };");
	const struct conf_job *j = &c->jobs[0];
	const struct conf_mail *m = c->notify.mails;
	const struct conf_webhook *w = c->notify.webhooks;

	(void)state;
	assert_true(c->repositories[0].low.percent == 0 && c->repositories[0].low.bytes == UINT64_C(20) << 30);
	assert_string_equal(j->alert_after, "2d");
	assert_string_equal(j->hooks.command[CONF_HOOK_BEFORE_JOB], "a b");
	assert_string_equal(j->hooks.command[CONF_HOOK_AFTER_JOB], "c");
	assert_string_equal(j->hooks.command[CONF_HOOK_BEFORE_DOMAIN], "d");
	assert_string_equal(j->hooks.command[CONF_HOOK_AFTER_DOMAIN], "e");
	assert_int_equal(j->hooks.timeout, 7);
	assert_true(c->notify.nmails == 2 && m[0].to.n == 2 && m[0].starttls == CONF_STARTTLS_NEVER && m[0].timeout == 9 && m[0].sendmail == NULL);
	assert_int_equal(m[0].on, BIT(RETRY) | BIT(START));
	assert_string_equal(m[0].to.v[1], "root");
	assert_string_equal(m[0].server, "smtps://[::1]:465");
	assert_string_equal(m[0].password_file, "/p");
	assert_string_equal(m[0].ca_file, "/c");
	assert_string_equal(m[1].sendmail, "/s");
	assert_true(c->notify.nwebhooks == 1 && w->timeout == 3 && w->on == BIT(FAILURE) && w->success_url == NULL);
	assert_string_equal(w->failure_url, "http://h/f?x=y");
	assert_string_equal(w->token_file, "/t");
	for (int e = CONF_EVENT_START; e <= CONF_EVENT_LOW_SPACE; e++)
		assert_int_equal(conf_event_named(conf_event_name((enum conf_event)e)), e);
	assert_int_equal(conf_event_named("test"), -1);
	conf_free(c);
}

static void
little_space_is_told_once(void **state)
{
	static const char *const wrong[] = { "", "%", "91%", "5 %", "-1", "1.5G", "1KB", "9999999T", "1234567890123" };
	struct low_space l;
	struct err err;

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(low_space_parse(wrong[i], &l, &err), -1);
	assert_int_equal(low_space_parse("10%", &l, &err), 0);
	assert_true(!low_space_is(&l, false, 100, 1000) && low_space_is(&l, false, 99, 1000));
	/* It takes somewhat more to be enough again. */
	assert_true(low_space_is(&l, true, 109, 1000) && !low_space_is(&l, true, 110, 1000));
	assert_true(!low_space_is(&l, false, 0, 0));
	assert_int_equal(low_space_parse("2K", &l, &err), 0);
	assert_true(low_space_is(&l, false, 2047, 0) && !low_space_is(&l, false, 2048, 0));
	assert_int_equal(low_space_parse("0", &l, &err), 0);
	assert_true(!low_space_is(&l, false, 0, 1000) && !low_space_is(&l, true, 0, 1000));
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(errors_name_line_and_key), cmocka_unit_test(defaults), cmocka_unit_test(what_is_given_is_kept),
		cmocka_unit_test(little_space_is_told_once) };

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
