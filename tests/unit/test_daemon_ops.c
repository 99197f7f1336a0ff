/* What the daemon answers to its API, and what it understands of a worker: every key of API.md, in every state of a run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "alarms.h"
#include "daemon_private.h"
#include "notifier.h"
#include "ops.h"
#include "run_log.h"
#include "worker_event.h"

static struct daemon d;
static struct worker worker = { .machines = 3, .vm = "web", .phase = "reading", .done = 10, .total = 100, .rate = 5, .left = 18 };
static char folder[] = "/tmp/ovb-ops.XXXXXX";

static int
start(void *arg, const struct run *r, const struct conf_job *job, struct err *err)
{
	(void)arg;
	(void)job;
	(void)err;
	worker.run = r->id;
	d.workers = &worker;
	return (0);
}

static void
ignore(void *arg, int64_t id)
{
	(void)arg;
	(void)id;
}

static void
say(void *arg, bool trouble, const char *job, const char *text)
{
	(void)arg;
	(void)job;
	if (trouble)
		fail_msg("%s", text);
}

static void
hear(void *arg, const char *text)
{
	(void)arg;
	fail_msg("%s", text);
}

static void
cancel(void *arg, int64_t id, const char *why)
{
	(void)why;
	ignore(arg, id);
}

static const struct engine_ops engine_ops = { start, cancel, ignore, NULL, say, NULL };

static int
set_up(void **state)
{
	static const char text[] = "repositories = ( { name = \"r\"; url = \"/\"; } ); daemon = { max_parallel = 1; };"
	    "jobs = ( { name = \"a\"; images = [ \"/srv/*.img\" ]; schedule = \"hourly\"; }, { name = \"b\"; images = [ \"/x\" ]; schedule = \"*:30\"; },"
	    "{ name = \"c\"; images = [ \"/x\" ]; } );";
	struct err err = ERR_INIT;

	(void)state;
	d = (struct daemon){ .config = "/etc/x", .timer = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC), .conf_fd = -1, .started = 1000 };
	if (sd_event_new(&d.ev) < 0 || sd_event_add_time_relative(d.ev, &d.second, CLOCK_MONOTONIC, 1, 0, NULL, NULL) < 0)
		return (-1);
	d.conf = conf_parse(text, strlen(text), "test", &err);
	d.db = db_open(NULL, hear, NULL, &err);
	d.engine = engine_new(d.db, "host", &engine_ops, &d, &err);
	d.notifier = notifier_new(&d, &err);
	d.alarms = alarms_new(&d, &err);
	if (d.conf == NULL || engine_configure(d.engine, d.conf, daemon_now(), &err) == -1)
		return (-1);
	alarms_configure(d.alarms);
	return (0);
}

static int
tear_down(void **state)
{
	(void)state;
	alarms_free(d.alarms);
	notifier_free(d.notifier);
	engine_free(d.engine);
	db_close(d.db);
	conf_free(d.conf);
	sd_event_source_unref(d.second);
	sd_event_unref(d.ev);
	close(d.timer);
	return (0);
}

/* Exactly these, or these and more. */
static void
has_keys(const json_t *o, const char *keys)
{
	char copy[512], *save, *key;

	assert_true(json_is_object(o));
	snprintf(copy, sizeof(copy), "%s", keys);
	for (key = strtok_r(copy, " ", &save); key != NULL; key = strtok_r(NULL, " ", &save))
		if (json_object_get(o, key) == NULL)
			fail_msg("no key %s", key);
}

static const char *
word(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return (s != NULL ? s : "");
}

static void
state_is(int64_t run, const char *state)
{
	json_t *o = ops_run_state(&d, run);

	has_keys(o, "id job domain full trigger attempt state queued started finished vm phase done total rate left limit machines error");
	assert_string_equal(word(o, "state"), state);
	json_decref(o);
}

/* It is asked for by a child. */
static void
wait_for_space(void)
{
	sd_event_source_set_enabled(d.second, SD_EVENT_OFF);
	for (int i = 0; i < 100 && !alarms_space(d.alarms, &d.conf->repositories[0]).known; i++)
		assert_true(sd_event_run(d.ev, 100000) >= 0);
}

static void
test_states(void **state)
{
	struct machine m = { .vm = "web", .state = RUN_SUCCEEDED, .started = 1767225600, .finished = 1767225605, .point = "2026-01-01T000000Z", .kind = "full",
		.consistency = "quiesced", .read = 7, .stored = 8, .sent = 9, .frozen_ms = 250 };
	int64_t first, second, now = daemon_now();
	struct err err = ERR_INIT;
	json_t *o, *r;

	(void)state;
	worker.at = WORKER_RUNS;
	assert_int_equal(ops_run_job(&d, "a", "web", true, &first, &err), 0);
	assert_int_equal(ops_run_job(&d, "c", NULL, false, &second, &err), 0);
	assert_int_equal(ops_run_job(&d, "c", NULL, false, &second, &err), -1);
	assert_int_equal(err.code, EEXIST);
	assert_int_equal(ops_run_job(&d, "x", NULL, false, &second, &err), -1);
	assert_int_equal(err.code, ENOENT);
	assert_int_equal(ops_run_job(&d, "c", "web", false, &second, &err), -1);
	assert_int_equal(err.code, ENOENT);
	second = first + 1;
	state_is(first, "running");
	state_is(second, "queued");
	assert_null(ops_run_state(&d, 4711));
	o = ops_run_state(&d, first);
	assert_string_equal(word(o, "vm"), "web");
	assert_string_equal(word(o, "domain"), "web");
	assert_string_equal(word(o, "trigger"), "request");
	assert_int_equal(json_integer_value(json_object_get(o, "total")), 100);
	assert_int_equal(json_integer_value(json_object_get(json_object_get(o, "machines"), "total")), 3);
	json_decref(o);
	worker.at = WORKER_STOPS;
	state_is(first, "cancelling");
	wait_for_space();
	o = ops_status(&d);
	has_keys(o, "version time started paused config jobs runs repositories warnings");
	has_keys(json_object_get(o, "config"), "file loaded error");
	assert_int_equal(json_array_size(json_object_get(o, "runs")), 2);
	has_keys(json_array_get(json_object_get(o, "repositories"), 0), "name url free total low");
	assert_true(json_integer_value(json_object_get(json_array_get(json_object_get(o, "repositories"), 0), "total")) > 0);
	json_decref(o);
	/* It ends, and the other one begins. */
	m.run = first;
	m.sent = 4;
	assert_int_equal(db_machine(d.db, "a", &m, &err), 0);
	m.sent = 5;
	assert_int_equal(db_sent(d.db, &m, &err), 0);
	d.workers = NULL;
	engine_ended(d.engine, first, RUN_SUCCEEDED, NULL, now);
	state_is(first, "succeeded");
	worker.at = WORKER_RUNS;
	(void)engine_tick(d.engine, now);
	state_is(second, "running");
	d.workers = NULL;
	engine_ended(d.engine, second, RUN_FAILED, "no such image", now);
	o = ops_history(&d, NULL, 10);
	assert_int_equal(json_array_size(o), 2);
	for (size_t i = 0; i < 2; i++)
		has_keys(json_array_get(o, i), "id job vm state started finished duration point kind consistency read stored sent frozen error");
	r = json_array_get(o, 0);
	assert_true(json_is_null(json_object_get(r, "vm")));
	assert_string_equal(word(r, "error"), "no such image");
	r = json_array_get(o, 1);
	assert_string_equal(word(r, "point"), "web@2026-01-01T00:00:00Z");
	assert_string_equal(word(r, "started"), "2026-01-01T00:00:00Z");
	assert_int_equal(json_integer_value(json_object_get(r, "duration")), 5);
	assert_true(json_real_value(json_object_get(r, "frozen")) == 0.25);
	assert_int_equal(json_integer_value(json_object_get(r, "sent")), 9);
	json_decref(o);
	o = ops_history(&d, "a", 10);
	assert_int_equal(json_array_size(o), 1);
	json_decref(o);
	o = ops_jobs(&d);
	assert_int_equal(json_array_size(o), 3);
	r = json_array_get(o, 0);
	has_keys(r, "name repository schedule next last last_success overdue run machines");
	has_keys(json_object_get(r, "last"), "id state started finished duration error");
	assert_string_equal(word(json_array_get(json_object_get(r, "machines"), 0), "last_success"), "2026-01-01T00:00:05Z");
	assert_true(json_is_null(json_object_get(json_array_get(o, 2), "next")));
	json_decref(o);
	assert_int_equal(ops_cancel(&d, first, &err), -1);
	assert_int_equal(err.code, EALREADY);
}

static void
test_schedule(void **state)
{
	struct err err = ERR_INIT;
	const char *last = "";
	json_t *o = ops_schedule(&d, 9);

	(void)state;
	assert_int_equal(json_array_size(o), 9);
	for (size_t i = 0; i < 9; i++) {
		const json_t *e = json_array_get(o, i);

		assert_true(strcmp(word(e, "time"), last) > 0);
		last = word(e, "time");
		assert_string_equal(word(e, "job"), strstr(last, ":00:00Z") != NULL ? "a" : "b");
	}
	json_decref(o);
	assert_int_equal(ops_pause(&d, &err), 0);
	assert_int_equal(ops_pause(&d, &err), 0);
	o = ops_status(&d);
	assert_true(json_is_true(json_object_get(o, "paused")));
	json_decref(o);
	assert_int_equal(ops_resume(&d, &err), 0);
}

static void
test_log(void **state)
{
	struct run_log l;
	struct err err = ERR_INIT;
	struct buf b = BUF_INIT;
	int64_t id;

	(void)state;
	assert_int_equal(ops_run_job(&d, "c", NULL, false, &id, &err), 0);
	assert_int_equal(ops_log(&d, id, &b, &err), 0);
	assert_int_equal(b.len, 0);
	assert_int_equal(run_log_open(&l, id, &err), 0);
	run_log_line(&l, "one \033[31m line");
	for (unsigned int i = 0; i < RUN_LOG_MAX / 20; i++)
		run_log_line(&l, "and many more of them");
	run_log_close(&l);
	assert_int_equal(ops_log(&d, id, &b, &err), 0);
	assert_non_null(strstr(b.ptr, "one ?[31m line\n"));
	assert_non_null(strstr(b.ptr, "(more is not kept)\n"));
	assert_true(b.len > RUN_LOG_MAX / 2 && b.len < RUN_LOG_MAX + 1000);
	buf_reset(&b);
	assert_int_equal(run_log_read(id, 7, &b, &err), 0);
	assert_string_equal(b.ptr, " kept)\n");
	buf_free(&b);
	run_log_remove(id);
	assert_int_equal(ops_log(&d, 4711, &b, &err), -1);
	assert_int_equal(err.code, ENOENT);
	d.workers = NULL;
}

/* Whatever a worker prints. */
static void
test_events(void **state)
{
	static const char *const strange[] = { "", "{", "null", "[]", "\"x\"", "{}", "{\"event\":1}", "{\"event\":\"done\"}", "{\"event\":\"nosuch\"}",
		"{\"event\":\"done\",\"vm\":{}}", "{\"event\":\"failed\",\"error\":\"x\"}", "{\"event\":\"done\",\"event\":\"done\"}" };
	struct worker w = { .run = 5 };
	struct machine m;
	char text[256], line[4096];

	(void)state;
	for (size_t i = 0; i < sizeof(strange) / sizeof(strange[0]); i++)
		assert_int_equal(worker_event(&w, strange[i], 1700000000, &m, text, sizeof(text)), WORKER_EVENT_NONE);
	w.failed = w.succeeded = 0;
	assert_int_equal(worker_event(&w, "{\"event\":\"begin\",\"vm\":\"web\",\"machines\":2}", 1700000000, &m, text, sizeof(text)), WORKER_EVENT_PROGRESS);
	assert_string_equal(w.vm, "web");
	assert_int_equal(worker_event(&w, "{\"event\":\"progress\",\"done\":-5,\"total\":9,\"left\":-1}", 1700000000, &m, text, sizeof(text)), WORKER_EVENT_PROGRESS);
	assert_true(w.done == 0 && w.total == 9 && w.left == 0 && w.limit == 0);
	assert_int_equal(worker_event(&w, "{\"event\":\"progress\",\"done\":1,\"total\":9,\"limit\":65536}", 1700000000, &m, text, sizeof(text)), WORKER_EVENT_PROGRESS);
	assert_int_equal(w.limit, 65536);
	assert_int_equal(worker_event(&w, "{\"event\":\"earlier\",\"machines\":2}", 1700000000, &m, text, sizeof(text)), WORKER_EVENT_TEXT);
	assert_string_equal(text, "left out: 2 machines that an earlier attempt has backed up");
	assert_int_equal(worker_event(&w, "{\"event\":\"done\",\"vm\":\"web\",\"point\":\"p\",\"kind\":\"full\",\"stored\":12,\"sent\":13,\"freeze_ms\":0}", 1700000000, &m, text,
	    sizeof(text)), WORKER_EVENT_MACHINE);
	assert_true(m.run == 5 && m.state == RUN_SUCCEEDED && m.stored == 12 && m.sent == 13 && m.frozen_ms == 0);
	assert_int_equal(worker_event(&w, "{\"event\":\"replicated\",\"to\":\"far\",\"vm\":\"web\",\"point\":\"p\",\"stored\":12,\"sent\":5,\"seconds\":1}", 1700000000, &m,
	    text, sizeof(text)), WORKER_EVENT_SENT);
	assert_true(m.run == 5 && m.sent == 5 && strcmp(m.vm, "web") == 0);
	memset(line, 0, sizeof(line));
	snprintf(line, sizeof(line), "{\"event\":\"failed\",\"vm\":\"db\",\"error\":\"%03000d\"}", 1);
	assert_int_equal(worker_event(&w, line, 1700000000, &m, text, sizeof(text)), WORKER_EVENT_MACHINE);
	assert_true(m.state == RUN_FAILED && strlen(m.error) == sizeof(m.error) - 1 && w.failed == 1 && w.succeeded == 1);
	assert_int_equal(worker_event(&w, "{\"event\":\"pruned\",\"points\":0,\"folders\":0,\"freed\":0}", 1700000000, &m, text, sizeof(text)), WORKER_EVENT_NONE);
	assert_int_equal(worker_event(&w, "{\"event\":\"pruned\",\"points\":2,\"folders\":1,\"freed\":9}", 1700000000, &m, text, sizeof(text)), WORKER_EVENT_TEXT);
	assert_string_equal(text, "pruned 2 points, 9 B freed");
	assert_int_equal(worker_event(&w, "{\"event\":\"consolidated\",\"point\":\"web@2026-01-01T00:00:00Z\",\"written\":9}", 1700000000, &m, text, sizeof(text)), WORKER_EVENT_TEXT);
	assert_string_equal(text, "web@2026-01-01T00:00:00Z: now a full archive of 9 B");
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test_setup_teardown(test_states, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_schedule, set_up, tear_down), cmocka_unit_test_setup_teardown(test_log, set_up, tear_down),
		cmocka_unit_test(test_events) };
	char path[64];
	int rc;

	if (mkdtemp(folder) == NULL)
		return (1);
	setenv("STATE_DIRECTORY", folder, 1);
	setenv("TZ", "UTC", 1);
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	snprintf(path, sizeof(path), "%s/log", folder);
	rmdir(path);
	rmdir(folder);
	return (rc);
}
