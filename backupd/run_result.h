/*
 * run_result.h - a worker's own notes: what it did, and how it ended, in the file that the daemon names in OVB_RESULT_FILE.  A daemon that was killed meanwhile
 * reads them when it is back (daemon/run_log.h).  Without OVB_RESULT_FILE nothing is noted.
 *
 *	1763861400 {"event":"done", ...}	when, and what: one line for each event
 *	exit 1 cannot ...			the last one: the exit status, and why
 *
 * Threads: one at a time.   Blocks: on the disk; what is noted is durable.
 */
#ifndef OVB_RUN_RESULT_H
#define OVB_RUN_RESULT_H

/** run_result_event(line): Note an event, before it is told: its line of JSON. */
void run_result_event(const char *line);

/** run_result_end(status, why): Note the end; ${why} "": nothing to say.  That it cannot be noted is a warning on standard error. */
void run_result_end(int status, const char *why);

#endif
