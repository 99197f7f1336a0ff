/* compacting.h - how a program shows that it consolidates or packs archives: a bar, and words on standard error. */
#ifndef OVB_COMPACTING_H
#define OVB_COMPACTING_H

#include "base/progress.h"
#include "repository/compact.h"

struct compacting {
	const char	*name;		/* of the program */
	struct progress	 progress;
};

/**
 * compacting_begin(c, name, mode):
 * What compact.h is to be called with; the program still sets its name for locks, how long it waits, and what stops it.  ${c} must stay until
 * progress_end(&c->progress), which comes after each piece of work.  ${mode} PROGRESS_NONE: no bar.
 */
struct compact_how compacting_begin(struct compacting *c, const char *name, enum progress_mode mode);

#endif
