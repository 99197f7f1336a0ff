/* replica_look.h - what there is already where points are to be copied to (for replicate_plan.c). */
#ifndef OVB_REPLICA_LOOK_H
#define OVB_REPLICA_LOOK_H

#include "replication/replica_list.h"
#include "replication/replica_send.h"

struct replica_look {
	json_t	*machines;		/* folders of machines here: true when it was listed */
	json_t	*taken;			/* "folder/point" of the names in these */
	bool	 leftovers;		/* an interrupted run left something in them */
};

#define REPLICA_LOOK_INIT	{ NULL, NULL, false }

/**
 * replica_look(to, more, nmore, l, there, only, out, err):
 * List the machines of ${to} of which the source, whose points ${there} are, has something that ${l} does not know (only of the machine's folder ${only},
 * unless NULL); ${more} are further connections to ${to}.  ${l} forgets what is no longer here, and learns what is.  ${out} is freed by the caller, also on
 * failure.  Fails: -1.
 */
int replica_look(struct repo *to, struct store *const *more, size_t nmore, struct replica_list *l, const struct points *there, const char *only,
    struct replica_look *out, struct err *err);

/** replica_look_hint(look, p): What it tells of where ${p} is to go. */
struct replica_hint replica_look_hint(const struct replica_look *look, const struct point *p);
void replica_look_free(struct replica_look *look);

#endif
