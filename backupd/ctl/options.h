/* options.h - the command line of virt-backupctl, as values. */
#ifndef OVB_CTL_OPTIONS_H
#define OVB_CTL_OPTIONS_H

#include <jansson.h>
#include <signal.h>
#include <stdbool.h>

#include "err.h"

#define PROGRAM		"virt-backupctl " OVB_VERSION	/* in locks, for people */
#define LOCK_WAIT_S	60u				/* for somebody who uses the repository */

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

struct options {
	const char	*config;
	const char	*repository;		/* name or URL; NULL: the job's, or the first configured one */
	const char	*job;			/* of verify: only its points */
	double		 sample;		/* of verify: per cent of the frames; 100: all */
	bool		 json, dry_run, against_source;
	char		**args;			/* after the command */
	int		 nargs;
};

extern volatile sig_atomic_t interrupted;	/* set by a signal: give up cleanly */

/** ctl_error(err): "virt-backupctl: ...", to standard error.  Returns EXIT_FAILED. */
int ctl_error(struct err *err);

/** ctl_print_json(o, flags): Print ${o} with Jansson's ${flags} and a newline, and drop the reference. */
void ctl_print_json(json_t *o, size_t flags);

/* The commands; each returns an exit status. */
int command_prune(const struct options *o);
int command_protect(const struct options *o);
int command_unprotect(const struct options *o);
int command_consolidate(const struct options *o);
int command_verify(const struct options *o);

#endif
