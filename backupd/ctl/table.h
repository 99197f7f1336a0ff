/* table.h - lines of columns on standard output: within 80 columns and in colours on a terminal, whole and plain otherwise. */
#ifndef OVB_CTL_TABLE_H
#define OVB_CTL_TABLE_H

#include <jansson.h>
#include <stdbool.h>
#include <time.h>

#include "base/human.h"

enum paint { PAINT_NONE, PAINT_HEAD, PAINT_GOOD, PAINT_BAD, PAINT_WARN, PAINT_BUSY };

struct table {
	unsigned int	columns;	/* of the terminal; 0: it is none */
	bool		colour;		/* a terminal, and nothing in the environment speaks against it (NO_COLOR, TERM=dumb) */
	unsigned int	used;		/* of the line that is being written */
};

/** table_init(t): For standard output. */
void table_init(struct table *t);

/** table_cell(t, width, paint, text): The next column, with a space after it.  What does not fit is cut on a terminal, and pushes on elsewhere. */
void table_cell(struct table *t, unsigned int width, enum paint paint, const char *text);

/** table_last(t, paint, text): The last column, which may take what is left of the line. */
void table_last(struct table *t, enum paint paint, const char *text);

/** table_wrapped(t, indent, paint, text): A text of its own, in as many lines as it takes, each after ${indent} columns; in one line off a terminal. */
void table_wrapped(struct table *t, unsigned int indent, enum paint paint, const char *text);

/** table_result(t, state, reason): The last column: how something ended, and why, which goes below when it does not fit; ${reason} may be "". */
void table_result(struct table *t, const char *state, const char *reason);

/* Values of the daemon's objects; what is not there, or null, is "" or 0. */
const char *json_text(const json_t *o, const char *key);
double json_value(const json_t *o, const char *key);

/** json_time(o, key, t): The time at ${key}.  Returns whether there is one. */
bool json_time(const json_t *o, const char *key, time_t *t);

/** local_time(o, key, out): The time at ${key} in the local zone, "2026-11-22 01:30", or "-". */
const char *local_time(const json_t *o, const char *key, char out[HUMAN_LEN]);

/** paint_of_state(state): The colour of a run's state. */
enum paint paint_of_state(const char *state);

#endif
