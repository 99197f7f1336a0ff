/* What people are told: the facts as JSON, and a message that mail servers take, whatever the facts are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "notify/channels.h"
#include "notify/notice.h"
#include "notify/notify.h"
#include "repository/naming.h"

static char root[] = "root", ops[] = "ops@example.net", *to[] = { root, ops };
static const struct conf_mail mail = { .to = { to, 2 } };

static json_t *
failure(const char *error, const char *lines)
{
	struct notice_run r = { .event = CONF_EVENT_FAILURE, .job = "nightly", .repository = "local", .run = 12, .state = "failed", .error = error, .attempt = 3,
		.started = 1767225600, .finished = 1767225785, .succeeded = 2, .failed = 1, .lines = lines };

	return (notice_run(&r));
}

static void
the_facts_are_there(void **state)
{
	static const char *const keys[] = { "event", "host", "version", "time", "subject", "text", "job", "repository", "run", "state", "attempt", "started",
		"finished", "duration", "error", "machines", "next_run", "next_at" };
	json_t *o = failure("web: it failed", "web: failed: it failed\n");

	(void)state;
	assert_non_null(o);
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		assert_non_null(json_object_get(o, keys[i]));
	assert_int_equal(json_object_size(o), sizeof(keys) / sizeof(keys[0]));
	assert_string_equal(notice_text(o, "event"), "failure");
	assert_string_equal(notice_text(o, "started"), "2026-01-01T00:00:00Z");
	assert_int_equal(json_integer_value(json_object_get(o, "duration")), 185);
	assert_non_null(strstr(notice_text(o, "text"), "Job nightly: run 12 failed.\n\nweb: it failed\n\nweb: failed: it failed\n"));
	assert_non_null(strstr(notice_text(o, "text"), "Took: 3:05 min\nAttempt: 3\n"));
	json_decref(o);
}

static void
other_events(void **state)
{
	char local[] = "local", url[] = "/b", low[] = "5%", nightly[] = "nightly", after[] = "2d";
	struct conf_repository r = { .name = local, .url = url, .low_space = low };
	struct conf_job job = { .name = nightly, .repository = &r, .alert_after = after };
	struct notice_run again = { .event = CONF_EVENT_RETRY, .job = "nightly", .repository = "local", .run = 12, .started = NOTICE_NO_TIME,
		.finished = NOTICE_NO_TIME, .next_run = 13, .next_at = 1767225600 };
	json_t *o = notice_overdue(&job, NOTICE_NO_TIME, NULL);

	(void)state;
	assert_non_null(strstr(notice_text(o, "subject"), "job nightly has never succeeded"));
	assert_true(json_is_null(json_object_get(o, "last_success")));
	json_decref(o);
	o = notice_overdue(&job, 1767225600, "no image");
	assert_non_null(strstr(notice_text(o, "text"), "last succeeded at 2026-01-01T00:00:00Z; alert_after is 2d"));
	assert_non_null(strstr(notice_text(o, "text"), "How its last run ended: no image"));
	json_decref(o);
	o = notice_low_space(&r, 3000000, 0);
	assert_non_null(strstr(notice_text(o, "text"), "local (/b) has 3.0 MB free, less than its low_space of 5%"));
	json_decref(o);
	o = notice_run(&again);
	assert_string_equal(notice_text(o, "event"), "retry");
	assert_non_null(strstr(notice_text(o, "text"), "It is tried again as run 13, at 2026-01-01T00:00:00Z."));
	json_decref(o);
}

/* Lines that are too long for a server, control characters, a character that was cut, headers in an error. */
static void
any_error_becomes_a_message(void **state)
{
	static const char bad[] = "web: \033[31m\r\nBcc: all@example.net\n\n.\n\xc3";
	struct buf b = BUF_INIT;
	struct err err = ERR_INIT;
	char error[4001];
	json_t *o;

	(void)state;
	for (size_t i = 0; i < 2000; i++)
		memcpy(error + 2 * i, "\xc3\xa4", 3);
	o = failure(bad, error);
	assert_non_null(o);
	assert_int_equal(mail_message(&mail, "from@example.net", o, &b, &err), 0);
	assert_non_null(strstr(b.ptr, "From: Openvirt Backup <from@example.net>\nTo: root,\n ops@example.net\nSubject: [openvirt-backup] "));
	/* It is in the body, and not shown as it came. */
	assert_true(strstr(b.ptr, "Bcc:") > strstr(b.ptr, "\n\n"));
	assert_null(strchr(b.ptr, '\033'));
	assert_null(strchr(b.ptr, '\r'));
	assert_true(b.ptr[b.len - 1] == '\n');
	for (char *line = b.ptr, *end; *line != '\0'; line = end + 1) {
		end = strchr(line, '\n');
		assert_true(end - line < 998);
		*end = '\0';
		assert_true(*line == '\0' || utf8_valid(line));
	}
	buf_free(&b);
	json_decref(o);
}

static void
who_wants_what(void **state)
{
	struct conf_mail mails[2] = { { .on = 1u << CONF_EVENT_FAILURE, .timeout = 30 }, { .on = 1u << CONF_EVENT_SUCCESS, .timeout = 5 } };
	struct conf_webhook webhook = { .on = 1u << CONF_EVENT_START, .timeout = 10 };
	struct conf_notify n = { mails, 2, &webhook, 1 };

	(void)state;
	assert_true(notify_wants(&n, CONF_EVENT_FAILURE) && notify_wants(&n, CONF_EVENT_SUCCESS) && notify_wants(&n, CONF_EVENT_START));
	assert_false(notify_wants(&n, CONF_EVENT_RETRY));
	assert_int_equal(notify_seconds(&n), 55);
	n = (struct conf_notify){ NULL, 0, NULL, 0 };
	assert_false(notify_wants(&n, CONF_EVENT_FAILURE));
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(the_facts_are_there), cmocka_unit_test(other_events),
		cmocka_unit_test(any_error_becomes_a_message), cmocka_unit_test(who_wants_what) };

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
