/* options.h - the command line of virt-backupctl, as values. */
#ifndef OVB_CTL_OPTIONS_H
#define OVB_CTL_OPTIONS_H

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define PROGRAM		"virt-backupctl " OVB_VERSION	/* in locks, for people */
#define LOCK_WAIT_S	60u				/* for somebody who uses the repository */

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

struct options {
	const char	*config;
	const char	*repository;		/* name or URL; NULL: the job's, or the first configured one */
	const char	*socket;		/* the daemon's; NULL: where it usually is */
	const char	*job;			/* of verify and history: only its points, or runs */
	const char	*domain;		/* of run and replicate: this machine alone */
	const char	*from, *to;		/* of replicate: repositories */
	double		 sample;		/* of verify: per cent of the frames; 100: all */
	unsigned int	 limit, next;		/* of history, and of schedule: how many */
	int64_t		 run;			/* of cancel and log */
	bool		 json, dry_run, against_source, full, wait, watch;
	char		**args;			/* after the command */
	int		 nargs;
};

extern atomic_int interrupted;	/* set by a signal: give up cleanly */

/** ctl_error(err): "virt-backupctl: ...", to standard error.  Returns EXIT_FAILED. */
int ctl_error(struct err *err);

/** ctl_print_json(o, flags): Print ${o} with Jansson's ${flags} and a newline, and drop the reference. */
void ctl_print_json(json_t *o, size_t flags);

/** ctl_compact_how(o, shown): compacting.h's for this program, without a bar where JSON is printed whole at the end. */
struct compacting;
struct compact_how;
struct compact_how ctl_compact_how(const struct options *o, struct compacting *shown);

/* The commands; each returns an exit status.  Those that ask the daemon: */
int command_status(const struct options *o);
int command_jobs(const struct options *o);
int command_run(const struct options *o);
int command_cancel(const struct options *o);
int command_history(const struct options *o);
int command_log(const struct options *o);
int command_pause(const struct options *o);
int command_resume(const struct options *o);
int command_schedule(const struct options *o);
int command_notify_test(const struct options *o);

/* Those that work on a repository: */
int command_prune(const struct options *o);
int command_protect(const struct options *o);
int command_unprotect(const struct options *o);
int command_consolidate(const struct options *o);
int command_replicate(const struct options *o);
int command_verify(const struct options *o);

#endif
