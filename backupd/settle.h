/*
 * settle.h - undoes what a run did to a guest, as its journal says: at the end of a run, and after one that died.
 *
 * Each step looks at what is there before it acts, so that it can be done again whenever it was interrupted.  The journal is kept up to date.
 * Threads: one at a time.
 */
#ifndef OVB_SETTLE_H
#define OVB_SETTLE_H

#include <signal.h>

#include "hypervisor.h"
#include "journal.h"

#define LIBVIRT_SECONDS	60		/* libvirtd may be starting again */

struct settle {
	struct hypervisor	*hv;
	struct journal		*journal;
	bool			answered;	/* libvirt has answered the call that takes the moment: it is not in the middle of it */
	void			(*report)(void *arg, const char *text);	/* what takes long is told; NULL: nobody asks */
	void			*arg;
};

/** settle_backup_job(s, err): End our backup job, if it is there, and remove its scratch files and sockets.  Fails: -1. */
int settle_backup_job(const struct settle *s, struct err *err);

/**
 * settle_overlays(s, err):
 * Commit each overlay into its base, and remove it once no domain XML names it.  Takes as long as the commit takes; one that does not come
 * forward for ten minutes is begun again, twice.  Fails: -1 with the first failure; the others are done all the same, and the guest runs on as it does.
 */
int settle_overlays(const struct settle *s, struct err *err);

/** settle_freeze(s, err): Thaw the guest; when it does not answer, leave a guard that goes on trying.  Fails: -1. */
int settle_freeze(const struct settle *s, struct err *err);

/**
 * settle_checkpoint(s, err):
 * Delete the checkpoint of a point that was not published.  Where that cannot be told now, because the repository is away, it stays: the job's next
 * run deletes it if it is not its latest point's.  Fails: -1.
 */
int settle_checkpoint(const struct settle *s, struct err *err);

/** settle_all(s, err): All of it.  Fails: -1 with the first failure; the others are done all the same. */
int settle_all(const struct settle *s, struct err *err);

/**
 * settle_leftovers(report, arg, err):
 * Settle what dead runs left, of all guests.  Returns how many could not be settled, or -1 when the journals cannot be read.
 */
int settle_leftovers(void (*report)(void *arg, const char *text), void *arg, struct err *err);

#endif
