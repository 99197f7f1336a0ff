/* The daemon's state: a run's way through the queue, retries, what is remembered, and databases and disks that fail. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "config/conf.h"
#include "db.h"

static char folder[] = "/tmp/ovb-db.XXXXXX", said[4096];

static void
hear(void *arg, const char *text)
{
	(void)arg;
	snprintf(said, sizeof(said), "%s", text);
}

static struct db *
open_db(void)
{
	struct err err = ERR_INIT;
	struct db *db = db_open(folder, hear, NULL, &err);

	assert_non_null(db);
	return (db);
}

static void
empty_folder(void)
{
	char pattern[128];
	glob_t g;

	snprintf(pattern, sizeof(pattern), "%s/*", folder);
	if (glob(pattern, 0, NULL, &g) == 0) {
		for (size_t i = 0; i < g.gl_pathc; i++)
			assert_int_equal(unlink(g.gl_pathv[i]), 0);
		globfree(&g);
	}
	said[0] = '\0';
}

static size_t
files(const char *like)
{
	char pattern[128];
	size_t n = 0;
	glob_t g;

	snprintf(pattern, sizeof(pattern), "%s/%s", folder, like);
	if (glob(pattern, 0, NULL, &g) == 0) {
		n = g.gl_pathc;
		globfree(&g);
	}
	return (n);
}

static int64_t
put(struct db *db, const char *job, enum run_reason reason, int64_t due)
{
	struct run r = { .reason = reason, .due = due, .queued = 1000, .not_before = RUN_NO_TIME };
	struct err err = ERR_INIT;

	snprintf(r.job, sizeof(r.job), "%s", job);
	assert_int_equal(db_queue(db, &r, &err), 0);
	return (r.id);
}

static int64_t
end(struct db *db, int64_t id, enum run_state state, int64_t retry_at, bool again)
{
	struct run_end e = { .state = state, .finished = 2000, .message = "why", .again = again, .retry_at = retry_at };
	struct err err = ERR_INIT;
	int64_t next = -7;

	assert_int_equal(db_finish(db, id, &e, &next, &err), 0);
	return (next);
}

static struct run
get(struct db *db, int64_t id)
{
	struct err err = ERR_INIT;
	struct run r;

	assert_int_equal(db_run(db, id, &r, &err), 1);
	return (r);
}

static size_t
active(struct db *db)
{
	struct runs a = RUNS_INIT;
	struct err err = ERR_INIT;
	size_t n;

	assert_int_equal(db_active(db, &a, &err), 0);
	n = a.n;
	runs_free(&a);
	return (n);
}

static void
test_way_of_a_run(void **state)
{
	struct machine m = { .vm = "web", .state = RUN_SUCCEEDED, .started = 1500, .finished = 1600, .point = "p", .kind = "full", .read = 10, .stored = 5,
		.frozen_ms = -1 };
	struct err err = ERR_INIT;
	struct db *db;
	struct run r;
	int64_t id, last;

	(void)state;
	empty_folder();
	db = open_db();
	assert_int_equal(db_job_last(db, "a", "daily", 500, &last, &err), 0);
	assert_int_equal(last, 500);
	id = put(db, "a", RUN_SCHEDULE, 900);
	assert_int_equal(db_start(db, id, 1500, &err), 0);
	assert_int_equal(db_process(db, id, "1:2:3", &err), 0);
	/* What was written is there after a kill: nothing is closed. */
	db_close(db);
	db = open_db();
	r = get(db, id);
	assert_int_equal(r.state, RUN_RUNNING);
	assert_string_equal(r.process, "1:2:3");
	assert_int_equal(r.due, 900);
	assert_int_equal(db_job_last(db, "a", "daily", 9999, &last, &err), 0);
	assert_int_equal(last, 900);
	m.run = id;
	assert_int_equal(db_machine(db, "a", &m, &err), 0);
	snprintf(m.vm, sizeof(m.vm), "db");
	m.state = RUN_FAILED;
	assert_int_equal(db_machine(db, "a", &m, &err), 0);
	assert_int_equal(end(db, id, RUN_FAILED, RUN_NO_TIME, false), 0);
	r = get(db, id);
	assert_int_equal(r.state, RUN_FAILED);
	assert_int_equal(r.succeeded, 1);
	assert_int_equal(r.failed, 1);
	assert_int_equal(r.read, 20);
	assert_string_equal(r.message, "why");
	assert_int_equal(db_last_success(db, "a", "web"), 1600);
	assert_int_equal(db_last_success(db, "a", "db"), RUN_NO_TIME);
	assert_int_equal(db_last_success(db, "a", NULL), RUN_NO_TIME);
	/* A schedule that was changed begins now. */
	assert_int_equal(db_job_last(db, "a", "weekly", 9999, &last, &err), 0);
	assert_int_equal(last, 9999);
	db_close(db);
}

static void
test_what_follows(void **state)
{
	struct err err = ERR_INIT;
	struct db *db;
	struct run r;
	int64_t id, next;

	(void)state;
	empty_folder();
	db = open_db();
	/* Interrupted, and once more. */
	id = put(db, "a", RUN_SCHEDULE, 900);
	assert_int_equal(db_start(db, id, 1500, &err), 0);
	next = end(db, id, RUN_INTERRUPTED, RUN_NO_TIME, true);
	r = get(db, next);
	assert_true(r.state == RUN_QUEUED && r.reason == RUN_RETRY && r.attempt == 2 && r.requeued == 1 && r.due == 900 && r.not_before == RUN_NO_TIME);
	id = end(db, next, RUN_INTERRUPTED, 4000, true);
	r = get(db, id);
	assert_true(r.attempt == 3 && r.requeued == 2 && r.due == 900 && r.not_before == 4000);
	/* It ends once: what comes later changes nothing. */
	assert_int_equal(end(db, next, RUN_SUCCEEDED, RUN_NO_TIME, true), 0);
	assert_int_equal(get(db, next).state, RUN_INTERRUPTED);
	r = get(db, end(db, id, RUN_FAILED, 5000, true));
	assert_true(r.attempt == 4 && r.requeued == 2);
	/* A retry waits, and the next time of the schedule takes its place. */
	id = put(db, "a", RUN_SCHEDULE, 1000);
	next = end(db, id, RUN_FAILED, 5000, true);
	assert_int_equal(get(db, next).not_before, 5000);
	id = put(db, "b", RUN_SCHEDULE, 1000);
	assert_int_equal(get(db, next).state, RUN_QUEUED);
	put(db, "a", RUN_SCHEDULE, 1100);
	assert_int_equal(get(db, next).state, RUN_CANCELLED);
	/* So does somebody who does not wait for it, when that succeeds; one machine alone is not the job. */
	next = end(db, put(db, "d", RUN_SCHEDULE, 1000), RUN_FAILED, 5000, true);
	r = (struct run){ .job = "d", .domain = "only", .reason = RUN_REQUEST, .due = RUN_NO_TIME, .queued = 1, .not_before = RUN_NO_TIME };
	assert_int_equal(db_queue(db, &r, &err), 0);
	end(db, r.id, RUN_SUCCEEDED, RUN_NO_TIME, false);
	assert_int_equal(get(db, next).state, RUN_QUEUED);
	end(db, put(db, "d", RUN_REQUEST, RUN_NO_TIME), RUN_SUCCEEDED, RUN_NO_TIME, false);
	assert_int_equal(get(db, next).state, RUN_CANCELLED);
	assert_int_equal(get(db, id).state, RUN_QUEUED);
	/* The same request waits once. */
	put(db, "c", RUN_REQUEST, RUN_NO_TIME);
	r = (struct run){ .job = "c", .reason = RUN_REQUEST, .due = RUN_NO_TIME, .queued = 1, .not_before = RUN_NO_TIME };
	assert_int_equal(db_queue(db, &r, &err), -1);
	assert_int_equal(err.code, EEXIST);
	snprintf(r.domain, sizeof(r.domain), "only");
	assert_int_equal(db_queue(db, &r, &err), 0);
	assert_string_equal(get(db, r.id).domain, "only");
	db_close(db);
}

static void
gone(void *arg, int64_t id)
{
	(void)id;
	++*(int *)arg;
}

static bool
count_record(void *arg, const struct run *r, const struct machine *m)
{
	(void)r;
	(void)m;
	++*(int *)arg;
	return (true);
}

static void
test_bounds(void **state)
{
	static const char text[] = "repositories = ( { name = \"r\"; url = \"/r\"; } ); jobs = ( { name = \"b\"; images = [ \"/x\" ]; } );";
	struct err err = ERR_INIT;
	struct conf *c = conf_parse(text, strlen(text), "test", &err);
	struct db *db;
	struct run r;
	int n = 0, records = 0;
	int64_t id = 0;

	(void)state;
	empty_folder();
	db = open_db();
	assert_non_null(c);
	for (int i = 0; i < 30; i++) {
		id = put(db, i % 3 == 0 ? "b" : "a", RUN_SCHEDULE, i);
		end(db, id, RUN_SUCCEEDED, RUN_NO_TIME, false);
	}
	assert_int_equal(db_trim(db, "a", 5, gone, &n, &err), 0);
	assert_int_equal(n, 15);
	assert_int_equal(db_history(db, NULL, 100, count_record, &records, &err), 0);
	assert_int_equal(records, 15);
	assert_int_equal(db_last_success(db, "a", NULL), 2000);
	for (int i = 0; i < DB_MAX_QUEUE; i++)
		put(db, "a", RUN_SCHEDULE, i);
	r = (struct run){ .job = "b", .reason = RUN_REQUEST, .queued = 1, .not_before = RUN_NO_TIME };
	assert_int_equal(db_queue(db, &r, &err), -1);
	assert_int_equal(err.code, EAGAIN);
	/* Of jobs that the configuration has no more, nothing waits. */
	assert_int_equal(db_forget_jobs(db, c, 3000, &err), 0);
	assert_int_equal(active(db), 0);
	assert_int_equal(db_queue(db, &r, &err), 0);
	db_close(db);
	conf_free(c);
}

/* What an earlier version wrote is all there, and takes what this one adds. */
static void
test_upgrade(void **state)
{
	static const char first[] = "CREATE TABLE runs (id INTEGER PRIMARY KEY AUTOINCREMENT, job TEXT NOT NULL, domain TEXT, full INTEGER NOT NULL, "
	    "reason TEXT NOT NULL, state TEXT NOT NULL, attempt INTEGER NOT NULL, requeued INTEGER NOT NULL, due INTEGER, queued INTEGER NOT NULL, "
	    "not_before INTEGER, started INTEGER, finished INTEGER, message TEXT, succeeded INTEGER NOT NULL DEFAULT 0, failed INTEGER NOT NULL DEFAULT 0, "
	    "read INTEGER NOT NULL DEFAULT 0, stored INTEGER NOT NULL DEFAULT 0, process TEXT);"
	    "CREATE TABLE machines (run INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE, vm TEXT NOT NULL, state TEXT NOT NULL, started INTEGER, "
	    "finished INTEGER, point TEXT, kind TEXT, consistency TEXT, read INTEGER NOT NULL, stored INTEGER NOT NULL, frozen_ms INTEGER, error TEXT, "
	    "PRIMARY KEY (run, vm)) WITHOUT ROWID;"
	    "CREATE TABLE jobs (name TEXT PRIMARY KEY, schedule TEXT NOT NULL, last INTEGER NOT NULL) WITHOUT ROWID;"
	    "CREATE TABLE successes (job TEXT NOT NULL, vm TEXT NOT NULL, finished INTEGER NOT NULL, PRIMARY KEY (job, vm)) WITHOUT ROWID;"
	    "CREATE TABLE settings (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;"
	    "INSERT INTO jobs VALUES ('a', 'daily', 700);"
	    "INSERT INTO runs (id, job, full, reason, state, attempt, requeued, due, queued) VALUES (7, 'a', 0, 'schedule', 'running', 1, 0, 600, 600);"
	    "INSERT INTO machines VALUES (7, 'web', 'succeeded', 601, 602, 'p', 'full', 'offline', 10, 5, NULL, NULL);"
	    "PRAGMA user_version = 1;";
	struct err err = ERR_INIT;
	struct buf done = BUF_INIT;
	sqlite3 *s = NULL;
	char path[128];
	int64_t next, last;
	struct run r;
	struct db *db;

	(void)state;
	empty_folder();
	snprintf(path, sizeof(path), "%s/%s", folder, DB_FILE);
	assert_int_equal(sqlite3_open(path, &s), SQLITE_OK);
	assert_int_equal(sqlite3_exec(s, first, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(s);
	for (int i = 0; i < 2; i++) {
		db = open_db();
		assert_string_equal(said, "");
		assert_int_equal(db_job_last(db, "a", "daily", 9999, &last, &err), 0);
		assert_int_equal(last, 700);
		assert_int_equal(get(db, 7).stored, 0);
		if (i == 0)
			db_close(db);
	}
	next = end(db, 7, RUN_FAILED, 5000, true);
	r = get(db, next);
	assert_int_equal(r.first, 7);
	assert_int_equal(db_done(db, &r, &done, &err), 0);
	assert_string_equal(done.ptr, "web\n");
	buf_free(&done);
	db_close(db);
}

/* Whatever stands in the file: it is set aside, and the daemon has a new one. */
static void
test_damaged(void **state)
{
	char path[128], what[4096];
	struct db *db;
	int fd;

	(void)state;
	snprintf(path, sizeof(path), "%s/%s", folder, DB_FILE);
	for (int i = 0; i < 3; i++) {
		empty_folder();
		db = open_db();
		for (int k = 0; k < 50; k++)
			put(db, "a", RUN_SCHEDULE, k);
		db_close(db);
		fd = open(path, O_RDWR);
		assert_true(fd >= 0);
		memset(what, i == 0 ? 'x' : 0xff, sizeof(what));
		assert_int_equal(i == 2 ? ftruncate(fd, 5000) : 0, 0);
		assert_true(i == 2 || pwrite(fd, what, sizeof(what), i == 0 ? 0 : 4096) == (ssize_t)sizeof(what));
		close(fd);
		db = open_db();
		assert_int_equal(files("state.db.corrupt-*"), 1);
		assert_non_null(strstr(said, "set aside"));
		assert_int_equal(active(db), 0);
		put(db, "a", RUN_SCHEDULE, 1);
		db_close(db);
		db = open_db();
		assert_int_equal(active(db), 1);
		db_close(db);
	}
}

/* A disk that takes no more bytes: the state goes on in memory, and comes back. */
static void
test_full_disk(void **state)
{
	struct rlimit tight = { 4096, RLIM_INFINITY }, wide = { RLIM_INFINITY, RLIM_INFINITY };
	struct db *db;
	int64_t before, during;

	(void)state;
	empty_folder();
	signal(SIGXFSZ, SIG_IGN);
	db = open_db();
	before = put(db, "a", RUN_SCHEDULE, 1);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
	during = put(db, "a", RUN_SCHEDULE, 2);
	assert_non_null(strstr(said, "in memory"));
	assert_true(db_tend(db));
	assert_int_equal(active(db), 2);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &wide), 0);
	assert_false(db_tend(db));
	assert_non_null(strstr(said, "again"));
	db_close(db);
	db = open_db();
	assert_int_equal(get(db, before).due, 1);
	assert_int_equal(get(db, during).due, 2);
	assert_int_equal(files("*.corrupt-*"), 0);
	db_close(db);
	/* A start on such a disk knows what is on it, and what happens is added to that. */
	said[0] = '\0';
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
	db = open_db();
	assert_non_null(strstr(said, "in memory"));
	assert_int_equal(get(db, before).due, 1);
	during = put(db, "b", RUN_SCHEDULE, 3);
	assert_true(db_tend(db));
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &wide), 0);
	assert_false(db_tend(db));
	db_close(db);
	db = open_db();
	assert_int_equal(get(db, before).due, 1);
	assert_int_equal(get(db, during).due, 3);
	assert_int_equal(files("*.corrupt-*"), 0);
	db_close(db);
}

static void
test_paused(void **state)
{
	struct err err = ERR_INIT;
	struct db *db;

	(void)state;
	empty_folder();
	db = open_db();
	assert_false(db_paused(db));
	assert_int_equal(db_set_paused(db, true, &err), 0);
	db_close(db);
	db = open_db();
	assert_true(db_paused(db));
	assert_int_equal(db_set_paused(db, false, &err), 0);
	assert_false(db_paused(db));
	db_close(db);
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_way_of_a_run), cmocka_unit_test(test_what_follows), cmocka_unit_test(test_bounds), cmocka_unit_test(test_upgrade),
		cmocka_unit_test(test_damaged), cmocka_unit_test(test_full_disk), cmocka_unit_test(test_paused) };
	int rc;

	if (mkdtemp(folder) == NULL)
		return (1);
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	empty_folder();
	rmdir(folder);
	return (rc);
}
