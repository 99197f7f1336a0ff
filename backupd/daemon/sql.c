#include "sql.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int
sql_code(int code)
{
	switch (code & 0xff) {
	case SQLITE_FULL:
		return (ENOSPC);
	case SQLITE_IOERR:
	case SQLITE_CANTOPEN:
		return (EIO);
	case SQLITE_READONLY:
	case SQLITE_PERM:
		return (EROFS);
	case SQLITE_NOMEM:
		return (ENOMEM);
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return (EBUSY);
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return (EBADMSG);
	default:
		return (0);
	}
}

int
sql_fail(sqlite3 *s, struct err *err)
{
	const char *file = sqlite3_db_filename(s, "main");
	int code = sql_code(sqlite3_extended_errcode(s)), os = code == EIO ? sqlite3_system_errno(s) : 0;
	char reason[128];

	err_set(err, 0, "state database %s: %s%s%s%s", file != NULL && file[0] != '\0' ? file : "in memory", sqlite3_errmsg(s), os != 0 ? " (" : "",
	    os != 0 ? strerror_r(os, reason, sizeof(reason)) : "", os != 0 ? ")" : "");
	/* "disk I/O error" is anything to SQLite. */
	err->code = os == EDQUOT ? ENOSPC : os == ENOSPC || os == EROFS ? os : code;
	return (-1);
}

static int
bind_all(sqlite3_stmt *st, const char *types, va_list ap)
{
	const char *text;
	int64_t n;
	int rc = SQLITE_OK;

	for (int i = 1; *types != '\0' && rc == SQLITE_OK; types++, i++) {
		if (*types == 't') {
			text = va_arg(ap, const char *);
			rc = text == NULL || text[0] == '\0' ? sqlite3_bind_null(st, i) : sqlite3_bind_text(st, i, text, -1, SQLITE_TRANSIENT);
			continue;
		}
		n = va_arg(ap, int64_t);
		rc = *types == 'o' && n < 0 ? sqlite3_bind_null(st, i) : sqlite3_bind_int64(st, i, n);
	}
	return (rc);
}

static sqlite3_stmt *
prepare(sqlite3 *s, struct err *err, const char *text, const char *types, va_list ap)
{
	sqlite3_stmt *st = NULL;

	if (sqlite3_prepare_v2(s, text, -1, &st, NULL) != SQLITE_OK || bind_all(st, types, ap) != SQLITE_OK) {
		sql_fail(s, err);
		sqlite3_finalize(st);
		return (NULL);
	}
	return (st);
}

sqlite3_stmt *
sql_prepare(sqlite3 *s, struct err *err, const char *text, const char *types, ...)
{
	sqlite3_stmt *st;
	va_list ap;

	va_start(ap, types);
	st = prepare(s, err, text, types, ap);
	va_end(ap);
	return (st);
}

int
sql_next(sqlite3_stmt *st, struct err *err)
{
	switch (sqlite3_step(st)) {
	case SQLITE_ROW:
		return (1);
	case SQLITE_DONE:
		return (0);
	default:
		return (sql_fail(sqlite3_db_handle(st), err));
	}
}

int
sql_end(sqlite3_stmt *st, int rc)
{
	sqlite3_finalize(st);
	return (rc == -1 ? -1 : 0);
}

int
sql_run(sqlite3 *s, struct err *err, const char *text, const char *types, ...)
{
	sqlite3_stmt *st;
	va_list ap;
	int rc;

	va_start(ap, types);
	st = prepare(s, err, text, types, ap);
	va_end(ap);
	if (st == NULL)
		return (-1);
	while ((rc = sql_next(st, err)) == 1)
		continue;
	return (sql_end(st, rc));
}

int64_t
sql_number(sqlite3_stmt *st, int column)
{
	return (sqlite3_column_type(st, column) == SQLITE_NULL ? -1 : sqlite3_column_int64(st, column));
}

void
sql_text(sqlite3_stmt *st, int column, char *out, size_t size)
{
	const unsigned char *text = sqlite3_column_text(st, column);

	snprintf(out, size, "%s", text != NULL ? (const char *)text : "");
}
