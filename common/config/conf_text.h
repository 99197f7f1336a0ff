/*
 * conf_text.h - the whole text of a configuration, with the included files in their places.
 *
 * Calling sequence:  CONF_TEXT_INIT -> conf_text_load | conf_text_parse -> conf_text_where ... -> conf_text_free
 *
 * libconfig's own @include is not used: it exits the program when it is given a folder, waits on a pipe, knows no errno, and
 * reads files of any size.
 */
#ifndef OVB_CONF_TEXT_H
#define OVB_CONF_TEXT_H

#include <stddef.h>

#include "base/buf.h"
#include "config/conf.h"
#include "config/conf_check.h"

struct conf_text {
	struct buf	  out;		/* what libconfig may parse: no NUL, no @include, ends with a newline */
	int		  line;		/* of the end of out */
	int		  includes;	/* @include is allowed */
	struct conf_span {
		int	  start;	/* from this line of out on ... */
		int	  line;		/* ... stands what begins in this line ... */
		size_t	  file;		/* ... of this file */
	}		 *spans;
	size_t		  nspans;
	char		**files;	/* the first is the outermost */
	size_t		  nfiles;
	struct check	 *check;
};

#define CONF_TEXT_INIT	{ BUF_INIT, 1, 0, NULL, 0, NULL, 0, NULL }

/** conf_text_load(t, path, err): Fill ${t} with the file ${path}.  Fails: -1, ${err} as conf_load() promises. */
int conf_text_load(struct conf_text *t, const char *path, struct err *err);

/** conf_text_parse(t, text, len, name, err): Fill ${t} with ${len} bytes of text; @include is an error.  Fails: likewise. */
int conf_text_parse(struct conf_text *t, const char *text, size_t len, const char *name, struct err *err);

/** conf_text_where(t, line): Where line ${line} of ${t}->out came from.  The file's name lives as long as ${t}->files. */
struct conf_where conf_text_where(const struct conf_text *t, int line);

/** conf_text_free(t): Free what ${t} owns; harmless on an empty one. */
void conf_text_free(struct conf_text *t);

#endif
