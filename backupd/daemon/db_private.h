/* db_private.h - what the files behind db.h share. */
#ifndef OVB_DB_PRIVATE_H
#define OVB_DB_PRIVATE_H

#include "db.h"
#include "sql.h"

struct db {
	sqlite3	*sql;
	char	*path;		/* NULL: in memory only */
	bool	 in_memory;	/* the disk was left */
	bool	 unread;	/* ... and what is on it is not in memory */
	db_say	*say;
	void	*arg;
};

/**
 * db_change(db, change, arg, err):
 * Call ${change} within a transaction.  When the disk fails, it is called once more, in memory.  Fails: -1 and nothing is changed.
 */
int db_change(struct db *db, int (*change)(struct db *db, void *arg, struct err *err), void *arg, struct err *err);

/** DB_RUN_COLUMNS, db_run_row(st, r): The columns of a run ("r"), which come first in a row, and how they are read. */
#define DB_RUN_COLUMNS	"r.id, r.job, r.domain, r.full, r.reason, r.state, r.attempt, r.requeued, r.due, r.queued, r.not_before, r.started, " \
			"r.finished, r.message, r.succeeded, r.failed, r.read, r.stored, r.process, r.first"
#define DB_RUN_NCOLUMNS	20
void db_run_row(sqlite3_stmt *st, struct run *r);

#endif
