/* options.h - the command line of virt-restore, as values. */
#ifndef OVB_OPTIONS_H
#define OVB_OPTIONS_H

#include <stdatomic.h>
#include <stdbool.h>

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

struct options {
	const char	*config;		/* where repositories are looked up by name */
	const char	*repository;		/* name or URL; NULL: the first configured one */
	const char	*archive;		/* a bare archive, instead of a repository */
	const char	*format;		/* of a target file: raw, qcow2 or NULL */
	bool		 json, force, keep_going;
	const char	*name, *directory, *connect;	/* of vm */
	bool		 define, start, dry_run;
	char		**args;			/* after the command */
	int		 nargs;
};

extern atomic_int interrupted;	/* set by a signal: give up cleanly */

/** leave_behind(text): What a second signal, which ends the program at once, says is left where; NULL: nothing.  ${text} must stay. */
void leave_behind(const char *text);

/* The commands; each returns an exit status. */
int command_list(const struct options *o);
int command_show(const struct options *o);
int command_disk(const struct options *o);
int command_file(const struct options *o);
int command_vm(const struct options *o);
int command_verify(const struct options *o);
int command_export(const struct options *o);

#endif
