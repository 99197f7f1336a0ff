/* Prune, and give back the space: what the holder of a repository does in one go. */
#include "repository/compact.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "repository/prune.h"

/* That archives cannot be packed now, for want of room perhaps, loses nothing: the next time may be better. */
static void
pack(struct repo *r, struct lock *lk, const struct compact_how *how, struct compact_stats *stats)
{
	struct err err = ERR_INIT;
	char text[sizeof(err.text) + 128];

	if (compact_after_prune(r, lk, how, stats, &err) == 0 || how->say == NULL || (how->stop != NULL && *how->stop))
		return;
	snprintf(text, sizeof(text), "the archives of pruned points cannot be packed now, and take room until the next prune: %s", err.text);
	how->say(how->arg, text);
}

int
compact_prune(struct repo *r, const struct prune_job *job, const struct compact_how *how, struct prune *p, struct compact_stats *stats,
    struct err *err)
{
	struct lock *lk;
	int rc;

	memset(stats, 0, sizeof(*stats));
	if (repo_must_be_one(r, err) == -1 || (lk = lock_alone_wait(r->st, how->program, how->wait_s, how->stop, err)) == NULL)
		return (-1);
	if ((rc = prune_run(r, lk, job, how->stop, p, err)) == 0)
		pack(r, lk, how, stats);
	else
		err->code = 0;		/* whatever EBUSY it was, it was not the lock's */
	return (lock_end(lk, rc == 0 ? err : &(struct err)ERR_INIT) == -1 ? -1 : rc);
}
