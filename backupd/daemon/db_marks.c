#include <stdio.h>
#include <string.h>

#include "db_private.h"

#define NAME_MAX_LEN	160

struct mark {
	char	name[NAME_MAX_LEN];
	int64_t	value;
};

/* A setting's name has no space in it, a mark's has one. */
static void
name_of(const char *kind, const char *name, char out[NAME_MAX_LEN])
{
	snprintf(out, NAME_MAX_LEN, "%s %s", kind, name);
}

int64_t
db_mark(struct db *db, const char *kind, const char *name)
{
	struct err err = ERR_INIT;
	char whole[NAME_MAX_LEN];
	int64_t value = RUN_NO_TIME;
	sqlite3_stmt *st;

	name_of(kind, name, whole);
	if ((st = sql_prepare(db->sql, &err, "SELECT value FROM settings WHERE name = ?1", "t", whole)) == NULL)
		return (value);
	if (sql_next(st, &err) == 1)
		value = sql_number(st, 0);
	sqlite3_finalize(st);
	return (value);
}

static int
set_mark(struct db *db, void *arg, struct err *err)
{
	const struct mark *m = arg;

	if (m->value == RUN_NO_TIME)
		return (sql_run(db->sql, err, "DELETE FROM settings WHERE name = ?1", "t", m->name));
	return (sql_run(db->sql, err, "INSERT OR REPLACE INTO settings (name, value) VALUES (?1, ?2)", "ti", m->name, m->value));
}

int
db_set_mark(struct db *db, const char *kind, const char *name, int64_t value, struct err *err)
{
	struct mark m = { .value = value };

	name_of(kind, name, m.name);
	return (db_change(db, set_mark, &m, err));
}

static bool
is_known(const struct conf *c, const char *name)
{
	return (conf_find_job(c, name) != NULL || conf_find_repository(c, name) != NULL);
}

static int
forget_marks(struct db *db, void *arg, struct err *err)
{
	const struct conf *c = arg;
	sqlite3_stmt *st = sql_prepare(db->sql, err, "SELECT name FROM settings WHERE name LIKE '% %'", "");
	char name[NAME_MAX_LEN];
	int rc;

	if (st == NULL)
		return (-1);
	while ((rc = sql_next(st, err)) == 1) {
		sql_text(st, 0, name, sizeof(name));
		if (!is_known(c, strchr(name, ' ') + 1) && sql_run(db->sql, err, "DELETE FROM settings WHERE name = ?1", "t", name) == -1) {
			rc = -1;
			break;
		}
	}
	return (sql_end(st, rc));
}

int
db_forget_marks(struct db *db, const struct conf *c, struct err *err)
{
	return (db_change(db, forget_marks, (void *)(uintptr_t)c, err));
}
