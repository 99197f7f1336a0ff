/*
 * command.h - somebody else's program: run within a deadline, in a process group of its own, and listened to.
 *
 * Whatever happens, the group does not outlive its time: it is killed as a whole at the deadline, and when this process dies.  A program that has ended in time
 * may leave others behind, as a hook that starts a service does.
 */
#ifndef OVB_COMMAND_H
#define OVB_COMMAND_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define COMMAND_OUTPUT_MAX	65536u	/* bytes that are passed on; what is more is not, and that is told */

struct command {
	const char *const		*argv;		/* the first one is a path */
	char *const			*env;		/* NULL: as this process has it */
	const char			*input;		/* its standard input; NULL: none */
	int64_t				 timeout_ms;
	const atomic_int	*stop;		/* set: it is killed; NULL: nobody asks for that */

	/* A line of its output, standard or error; called at least each second with a NULL line while it runs.  May be NULL. */
	void				(*line)(void *arg, const char *text);
	void				*arg;
};

/**
 * command_run(c, err):
 * Run it to its end.  Fails: -1 if it cannot be run, does not end in time, is killed, or ends with another status than 0; ${err} says which, and the last line
 * that it printed, but not its name.
 *
 * Threads: any, one for each ${c}.   Blocks: for timeout_ms at most, and some seconds to kill it.
 */
int command_run(const struct command *c, struct err *err);

#endif
