/*
 * sql.h - SQLite with struct err: statements with their values, and what failed.
 *
 * Values follow as their letters in ${types} say:  i int64_t;  t const char *, NULL or "" is NULL;  o int64_t, a negative one is NULL
 * Threads: one at a time for each connection.
 */
#ifndef OVB_SQL_H
#define OVB_SQL_H

#include <sqlite3.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/** sql_prepare(s, err, text, types, ...): A statement with its values.  Fails: NULL.  It is the caller's to sqlite3_finalize(). */
sqlite3_stmt *sql_prepare(sqlite3 *s, struct err *err, const char *text, const char *types, ...);

/** sql_run(s, err, text, types, ...): One statement whose rows nobody wants.  Fails: -1. */
int sql_run(sqlite3 *s, struct err *err, const char *text, const char *types, ...);

/** sql_next(st, err): The next row: 1, 0 when there is none, or -1. */
int sql_next(sqlite3_stmt *st, struct err *err);

/** sql_end(st, rc): Finalize ${st}, after ${rc} of its last sql_next().  Returns -1 if that was -1, else 0. */
int sql_end(sqlite3_stmt *st, int rc);

/** sql_number(st, column): A number; -1 where it is NULL. */
int64_t sql_number(sqlite3_stmt *st, int column);

/** sql_text(st, column, out, size): A text, cut to fit; "" where it is NULL. */
void sql_text(sqlite3_stmt *st, int column, char *out, size_t size);

/** sql_fail(s, err): Set ${err} from the connection's error; err->code is what sql_code() gives.  Returns -1. */
int sql_fail(sqlite3 *s, struct err *err);

/** sql_code(code): The errno value for SQLite's ${code}: ENOSPC, EIO, EROFS, ENOMEM, EBUSY, EBADMSG (it is damaged), or 0. */
int sql_code(int code);

#endif
