/*
 * notify.h - telling people: by mail, and by a webhook, as the configuration has it.
 *
 * The files behind this header:
 *   notify.c    which channels a notice goes to           notice.c    what it says (notice.h)
 *   mail.c      a message (mail.h), given to smtp.c or sendmail.c
 *   webhook.c   a POST                                    http.c      what smtp.c and webhook.c have in common
 *   notify_role.c  the daemon's child that does it        once.c      the same around a run without a daemon
 *
 * Threads: one at a time, as nobody else may use libcurl's globals.   Blocks: up to notify_seconds().
 */
#ifndef OVB_NOTIFY_H
#define OVB_NOTIFY_H

#include <jansson.h>
#include <stdbool.h>

#include "config/conf.h"

#define NOTIFY_OPTION	"--notify"	/* of this program: be the child of notify_role.c */

/* What came of a channel; ${error} NULL: it worked. */
typedef void notify_result(void *arg, const char *channel, const char *error);

/** notify_wants(n, event): Whether any channel is to be told. */
bool notify_wants(const struct conf_notify *n, enum conf_event event);

/** notify_seconds(n): How long notify_send() may take. */
unsigned int notify_seconds(const struct conf_notify *n);

/** notify_send(n, notice, result, arg): Tell ${notice} (notice.h) to the channels that want it, one after the other; one that only tests, to all. */
void notify_send(const struct conf_notify *n, const json_t *notice, notify_result *result, void *arg);

/** notify_check(n, say, arg): Tell ${say} of what would keep somebody from being told: a secret that others may read, a sendmail that is not there. */
void notify_check(const struct conf_notify *n, void (*say)(void *arg, const char *text), void *arg);

/**
 * notify_role_main(argc, argv):
 * virt-backupd --notify CONFIG: send the notice on standard input.  A line of JSON on standard output says for each channel what came of it:
 * {"channel": "mail", "error": null}.  Returns the exit status: 0, also when channels failed.
 */
int notify_role_main(int argc, char **argv);

/* ---- once.c ---- */

struct run_outcome;

/** notify_once_begins(c, job): A run without a daemon begins.  What fails is a warning on standard error. */
void notify_once_begins(const struct conf *c, const struct conf_job *job);

/** notify_once_ended(c, job, rc, o, started): It has ended, ${rc} as run_job() returns it; its repository may have little room left. */
void notify_once_ended(const struct conf *c, const struct conf_job *job, int rc, const struct run_outcome *o, int64_t started);

#endif
