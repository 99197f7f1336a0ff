#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "db_private.h"

#define VERSION		2
#define BUSY_MS		2000		/* somebody looks into it with sqlite3(1) */

static const char schema[] =
    "CREATE TABLE runs (id INTEGER PRIMARY KEY AUTOINCREMENT, job TEXT NOT NULL, domain TEXT, full INTEGER NOT NULL, reason TEXT NOT NULL, "
    "  state TEXT NOT NULL, attempt INTEGER NOT NULL, requeued INTEGER NOT NULL, due INTEGER, queued INTEGER NOT NULL, not_before INTEGER, "
    "  started INTEGER, finished INTEGER, message TEXT, succeeded INTEGER NOT NULL DEFAULT 0, failed INTEGER NOT NULL DEFAULT 0, "
    "  read INTEGER NOT NULL DEFAULT 0, stored INTEGER NOT NULL DEFAULT 0, process TEXT);"
    "CREATE INDEX runs_of_job ON runs (job, id);"
    "CREATE INDEX runs_active ON runs (id) WHERE state IN ('queued', 'running');"
    "CREATE TABLE machines (run INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE, vm TEXT NOT NULL, state TEXT NOT NULL, started INTEGER, "
    "  finished INTEGER, point TEXT, kind TEXT, consistency TEXT, read INTEGER NOT NULL, stored INTEGER NOT NULL, frozen_ms INTEGER, error TEXT, "
    "  PRIMARY KEY (run, vm)) WITHOUT ROWID;"
    "CREATE TABLE jobs (name TEXT PRIMARY KEY, schedule TEXT NOT NULL, last INTEGER NOT NULL) WITHOUT ROWID;"
    /* They outlive the runs of the history.  vm '': the job as a whole. */
    "CREATE TABLE successes (job TEXT NOT NULL, vm TEXT NOT NULL, finished INTEGER NOT NULL, PRIMARY KEY (job, vm)) WITHOUT ROWID;"
    "CREATE TABLE settings (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;"
    "PRAGMA user_version = 1;";

/* From each version to the next one. */
static const char *const upgrades[VERSION] = {
    /* What retries leave out, and what went over a network. */
    [1] = "ALTER TABLE runs ADD COLUMN first INTEGER;"
    "CREATE INDEX runs_of_first ON runs (first);"
    "ALTER TABLE machines ADD COLUMN sent INTEGER NOT NULL DEFAULT 0;"
    "PRAGMA user_version = 2;",
};

static void tell(const struct db *db, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void
tell(const struct db *db, const char *fmt, ...)
{
	char text[2048];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	db->say(db->arg, text);
}

static int
script(sqlite3 *s, const char *text, struct err *err)
{
	return (sqlite3_exec(s, text, NULL, NULL, NULL) == SQLITE_OK ? 0 : sql_fail(s, err));
}

/* One number or text that a statement gives: in ${text}. */
static int
ask(sqlite3 *s, const char *question, char *text, size_t size, struct err *err)
{
	sqlite3_stmt *st = sql_prepare(s, err, question, "");
	int rc;

	if (st == NULL)
		return (-1);
	text[0] = '\0';
	if ((rc = sql_next(st, err)) == 1)
		sql_text(st, 0, text, size);
	return (sql_end(st, rc));
}

/* From ${version} (0: it is empty) to this program's, in one step. */
static int
upgrade(sqlite3 *s, long version, struct err *err)
{
	int rc = script(s, "BEGIN IMMEDIATE;", err);

	if (rc == 0 && version == 0)
		rc = script(s, schema, err);
	for (long v = version > 0 ? version : 1; rc == 0 && v < VERSION; v++)
		rc = script(s, upgrades[v], err);
	if (rc == 0)
		rc = script(s, "COMMIT;", err);
	if (rc == -1)
		sqlite3_exec(s, "ROLLBACK;", NULL, NULL, NULL);
	return (rc);
}

/* An empty database gets its tables, one of an earlier version what has been added since.  Fails: -1; EBADMSG: damaged, ENOTSUP: of a newer version. */
static int
prepare_schema(sqlite3 *s, struct err *err)
{
	char version[32], tables[32], check[256];

	if (ask(s, "PRAGMA user_version", version, sizeof(version), err) == -1 ||
	    ask(s, "SELECT count(*) FROM sqlite_master", tables, sizeof(tables), err) == -1)
		return (-1);
	if (strcmp(version, "0") == 0 && strcmp(tables, "0") == 0)
		return (upgrade(s, 0, err));
	if (ask(s, "PRAGMA quick_check(1)", check, sizeof(check), err) == -1)
		return (-1);
	if (strcmp(check, "ok") != 0 || strtol(version, NULL, 10) < 1) {
		err_set(err, 0, "%s", strcmp(check, "ok") != 0 ? check : "its tables are not this program's");
		err->code = EBADMSG;
		return (-1);
	}
	if (strtol(version, NULL, 10) > VERSION) {
		err_set(err, 0, "a newer version of this program wrote it (%s; this one knows %d)", version, VERSION);
		err->code = ENOTSUP;
		return (-1);
	}
	return (strtol(version, NULL, 10) < VERSION ? upgrade(s, strtol(version, NULL, 10), err) : 0);
}

/* A commit is durable when it returns. */
static const char usual[] = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA cache_size = -1024;";
/* Without the file that connections share: a disk that takes no byte more has no room for it, and there is only this one. */
static const char alone[] = "PRAGMA locking_mode = EXCLUSIVE;";

/* Fails: -1 and *${s} is NULL. */
static int
connect_to(const char *path, const char *pragmas, sqlite3 **s, struct err *err)
{
	const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | (pragmas == alone ? 0 : SQLITE_OPEN_CREATE);

	if (sqlite3_open_v2(path != NULL ? path : ":memory:", s, flags, NULL) != SQLITE_OK) {
		if (*s == NULL)
			return (err_nomem(err));
		sql_fail(*s, err);
		goto fail;
	}
	sqlite3_busy_timeout(*s, BUSY_MS);
	if (script(*s, pragmas, err) == -1 || prepare_schema(*s, err) == -1)
		goto fail;
	return (0);
fail:
	sqlite3_close(*s);
	*s = NULL;
	return (-1);
}

static int
move(const char *path, const char *ending, const char *aside, struct err *err)
{
	char from[4096], to[4096];

	if (snprintf(from, sizeof(from), "%s%s", path, ending) >= (int)sizeof(from) || snprintf(to, sizeof(to), "%s%s", aside, ending) >= (int)sizeof(to))
		return (err_set(err, ENAMETOOLONG, "cannot set %s%s aside: give the state folder a shorter path", path, ending));
	if (rename(from, to) == -1 && errno != ENOENT)
		return (err_set(err, errno, "cannot rename %s to %s", from, to));
	return (0);
}

/* With its write-ahead log: somebody may want to rescue what is in it. */
static int
set_aside(const struct db *db, const struct err *why, struct err *err)
{
	char aside[4096], when[32];
	time_t now = time(NULL);
	struct tm tm;

	gmtime_r(&now, &tm);
	strftime(when, sizeof(when), "%Y%m%dT%H%M%SZ", &tm);
	snprintf(aside, sizeof(aside), "%s.%s-%s", db->path, why->code == ENOTSUP ? "newer" : "corrupt", when);
	if (move(db->path, "", aside, err) == -1 || move(db->path, "-wal", aside, err) == -1 || move(db->path, "-shm", aside, err) == -1)
		return (-1);
	tell(db, "the state database %s cannot be used: %s; it is set aside as %s, and queue and history begin anew: backups are not touched", db->path, why->text,
	    aside);
	return (0);
}

static int
connect_disk(struct db *db, struct err *err)
{
	if (connect_to(db->path, usual, &db->sql, err) == 0)
		return (0);
	if (err->code != EBADMSG && err->code != ENOTSUP)
		return (-1);
	return (set_aside(db, err, err) == -1 ? -1 : connect_to(db->path, usual, &db->sql, err));
}

static int
copy(sqlite3 *from, sqlite3 *to, struct err *err)
{
	sqlite3_backup *b = sqlite3_backup_init(to, "main", from, "main");

	if (b == NULL)
		return (sql_fail(to, err));
	sqlite3_backup_step(b, -1);
	return (sqlite3_backup_finish(b) == SQLITE_OK ? 0 : sql_fail(to, err));
}

/* The disk has failed with ${why}: go on in memory, with all that can still be read of it. */
static int
leave_disk(struct db *db, const struct err *why, struct err *err)
{
	struct err ignored = ERR_INIT;
	sqlite3 *memory = NULL;

	if (connect_to(NULL, usual, &memory, err) == -1)
		return (-1);
	if (db->sql == NULL)
		(void)connect_to(db->path, alone, &db->sql, &ignored);
	db->unread = db->sql == NULL;
	if (db->sql != NULL && copy(db->sql, memory, &ignored) == -1) {
		db->unread = true;
		sqlite3_close(memory);
		if (connect_to(NULL, usual, &memory, err) == -1)
			return (-1);
	}
	sqlite3_close(db->sql);
	db->sql = memory;
	db->in_memory = true;
	tell(db, "%s; queue and history go on in memory: %s", why->text, why->code == ENOSPC ? "make room" : "see to the disk, or to who may write there");
	return (0);
}

struct db *
db_open(const char *folder, db_say *say, void *arg, struct err *err)
{
	struct db *db = calloc(1, sizeof(*db));
	struct err why = ERR_INIT;

	if (db == NULL || (folder != NULL && asprintf(&db->path, "%s/%s", folder, DB_FILE) == -1)) {
		err_nomem(err);
		goto fail;
	}
	db->say = say;
	db->arg = arg;
	if (folder == NULL ? connect_to(NULL, usual, &db->sql, err) == -1 : connect_disk(db, &why) == -1 && leave_disk(db, &why, err) == -1)
		goto fail;
	return (db);
fail:
	db_close(db);
	return (NULL);
}

void
db_close(struct db *db)
{
	if (db == NULL)
		return;
	sqlite3_close(db->sql);
	free(db->path);
	free(db);
}

/* What is in memory knows nothing of it, and must not take its place. */
static int
set_unread_aside(struct db *db, struct err *err)
{
	struct err why = ERR_INIT;
	struct stat st;

	if (!db->unread || stat(db->path, &st) == -1 || st.st_size == 0)
		return (0);
	err_set(&why, 0, "it could not be read until now");
	if (set_aside(db, &why, err) == -1)
		return (-1);
	db->unread = false;
	return (0);
}

bool
db_tend(struct db *db)
{
	struct err err = ERR_INIT;
	sqlite3 *memory = db->sql;

	if (!db->in_memory)
		return (false);
	if (set_unread_aside(db, &err) == -1 || connect_disk(db, &err) == -1 || copy(memory, db->sql, &err) == -1) {
		sqlite3_close(db->sql);
		db->sql = memory;
		return (true);
	}
	sqlite3_close(memory);
	db->in_memory = false;
	tell(db, "queue and history are in the state database %s again", db->path);
	return (false);
}

static int
try_change(struct db *db, int (*change)(struct db *db, void *arg, struct err *err), void *arg, struct err *err)
{
	if (script(db->sql, "BEGIN IMMEDIATE;", err) == -1)
		return (-1);
	if (change(db, arg, err) == 0 && script(db->sql, "COMMIT;", err) == 0)
		return (0);
	sqlite3_exec(db->sql, "ROLLBACK;", NULL, NULL, NULL);
	return (-1);
}

int
db_change(struct db *db, int (*change)(struct db *db, void *arg, struct err *err), void *arg, struct err *err)
{
	struct err why = ERR_INIT;

	if (try_change(db, change, arg, &why) == 0)
		return (0);
	if (!db->in_memory && db->path != NULL && (why.code == ENOSPC || why.code == EIO || why.code == EROFS || why.code == EBADMSG))
		return (leave_disk(db, &why, err) == -1 ? -1 : try_change(db, change, arg, err));
	*err = why;
	return (-1);
}
