/* worker_spawn.h - this program again, as a child that waits for a word before it begins. */
#ifndef OVB_WORKER_SPAWN_H
#define OVB_WORKER_SPAWN_H

#include "worker.h"

struct worker_spawn {
	pid_t	pid;
	int	events, text;	/* its standard output and standard error, not blocking */
	int	go;
};

/** worker_spawn_run(sp, r, set, err): To run ${r}.  Fails: -1. */
int worker_spawn_run(struct worker_spawn *sp, const struct run *r, const struct worker_settings *set, struct err *err);

/** worker_spawn_reconcile(sp, set, err): To settle what dead runs left.  Fails: -1. */
int worker_spawn_reconcile(struct worker_spawn *sp, const struct worker_settings *set, struct err *err);

/** worker_spawn_notify(sp, conf_fd, in, err): virt-backupd --notify, with the notice in ${in}.  Fails: -1. */
int worker_spawn_notify(struct worker_spawn *sp, int conf_fd, int in, struct err *err);

/** worker_spawn_go(sp, go): It begins, or ends without a trace.  A daemon that dies before is a word too: that it is to end. */
void worker_spawn_go(struct worker_spawn *sp, bool go);

#endif
