/*
 * progress.h - how far a long piece of work has come: a bar on a terminal, lines of JSON for programs, nothing otherwise.
 *
 * Calling sequence:  progress_init -> progress_begin -> progress_update* -> progress_end, for each piece of work
 * Threads: one at a time; but any may call progress_end() meanwhile, before it says something.
 */
#ifndef OVB_PROGRESS_H
#define OVB_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

enum progress_mode { PROGRESS_NONE, PROGRESS_BAR, PROGRESS_JSON };

struct progress {
	enum progress_mode	 mode;
	FILE			*out;
	char			 label[512];	/* UTF-8, no control characters */
	uint64_t		 total;		/* bytes; 0 when not known */
	struct timespec		 begun, shown;
	double			 rate;		/* bytes a second, smoothed */
	uint64_t		 limit;		/* bytes a second that may be written, to be shown; 0: no limit */
	uint64_t		 shown_done;
	bool			 drawn;		/* something was shown: a bar stands on the terminal's line */
};

/** progress_init(p, json, err_stream, out_stream): JSON lines to ${out_stream}, else a bar on ${err_stream} when that is a terminal. */
void progress_init(struct progress *p, bool json, FILE *err_stream, FILE *out_stream);

/** progress_begin(p, label, total): Work on ${label} begins, of ${total} bytes; what was under way before has ended. */
void progress_begin(struct progress *p, const char *label, uint64_t total);

/** progress_update(p, done): Cheap: shows something after a fifth of a second, then five times a second at most (JSON: once). */
void progress_update(struct progress *p, uint64_t done);

/** progress_end(p): Clear the bar. */
void progress_end(struct progress *p);

/** progress_seconds(p): Since progress_begin(). */
double progress_seconds(const struct progress *p);

/**
 * progress_format(p, done, seconds, columns, line, n):
 * The bar's text, at most ${columns} wide; pure.  Where it is narrow the label is shortened, then the bar and the times go: how far it has come stays.
 */
void progress_format(const struct progress *p, uint64_t done, double seconds, unsigned int columns, char *line, size_t n);

#endif
