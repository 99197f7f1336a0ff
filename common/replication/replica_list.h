/*
 * replica_list.h - what of another repository has come to this one, kept in this one so that the next replication need not read every manifest again
 * (FORMAT.md, "Replicas").  It is a cache: without it all is found out again.
 *
 * Calling sequence:  replica_list_load -> replica_find*, replica_add* -> replica_list_save -> replica_list_free
 * Threads: one at a time.
 */
#ifndef OVB_REPLICA_LIST_H
#define OVB_REPLICA_LIST_H

#include <jansson.h>

#include "repository/catalog.h"

#define REPLICAS_DIR	".replicas"
#define REPLICA_NAME	"replica.json"
#define REPLICA_MAX	4096u			/* bytes of that file */

/* A point's folder here, or one there that is known not to be wanted. */
struct replica {
	char		*folder;		/* the machine's */
	char		*there;			/* the point's name there; NULL: it is not from there */
	char		*here;			/* its folder's name here; NULL: it is not here, as it was pruned there */
	bool		 has_id;
	archive_id	 id;			/* of its archive here */
	archive_id	*replaces;
	size_t		 nreplaces;
};

struct replica_list {
	struct replica	*v;
	size_t		 n, cap;
	json_t		*by_there, *by_here, *by_id;	/* what is asked for -> place in v */
	bool		 changed;		/* since it was loaded */
	struct store_stat file;			/* it was loaded from; size 0: there was none */
};

#define REPLICA_LIST_INIT	{ NULL, 0, 0, NULL, NULL, NULL, false, { .size = 0 } }

/** replica_list_load(r, source, out, err): What ${r} has of the repository with the id ${source}; nothing, when that is not known.  Fails: -1. */
int replica_list_load(struct repo *r, const char *source, struct replica_list *out, struct err *err);

/** replica_list_is_current(r, source, l): Whether the file that ${l} was loaded from is still that: for one that was loaded before there was a lock. */
bool replica_list_is_current(struct repo *r, const char *source, const struct replica_list *l);

/** replica_list_save(r, source, l, err): Write it, when it has changed.  Fails: -1. */
int replica_list_save(struct repo *r, const char *source, struct replica_list *l, struct err *err);
void replica_list_free(struct replica_list *l);

/** replica_add(l, rp, err): Add a copy of ${rp}.  Fails: -1. */
int replica_add(struct replica_list *l, const struct replica *rp, struct err *err);

/** replica_forget(l, is_gone, arg, err): Drop the entries that say they are here, and of which ${is_gone} says otherwise.  Fails: -1. */
int replica_forget(struct replica_list *l, bool (*is_gone)(void *arg, const struct replica *), void *arg, struct err *err);

/** archive_ids_parse(texts, ntexts, out, n, err): The ids of a manifest; what is no UUID is left out.  The caller frees *${out}, also on failure.  Fails: -1. */
int archive_ids_parse(const char **texts, size_t ntexts, archive_id **out, size_t *n, struct err *err);

/** replica_find_there(l, folder, name), replica_find_here(l, folder, name): NULL when there is none. */
const struct replica *replica_find_there(const struct replica_list *l, const char *folder, const char *name);
const struct replica *replica_find_here(const struct replica_list *l, const char *folder, const char *name);

/** replica_holds(l, id): 1: an archive with that id is here; 2: one that stands for it; 0: none. */
int replica_holds(const struct replica_list *l, const archive_id id);

/* Of some archives, those that are here as such, and the folders of what stands for any of the others. */
struct replica_holders {
	archive_id	*whole;
	size_t		 nwhole;
	struct points	 packed;
};

#define REPLICA_HOLDERS_INIT	{ NULL, 0, POINTS_INIT }

/** replica_holders(l, ids, n, out, err): Those of the ${n} archives ${ids}.  The caller frees *${out}, also on failure.  Fails: -1. */
int replica_holders(const struct replica_list *l, const archive_id *ids, size_t n, struct replica_holders *out, struct err *err);
void replica_holders_free(struct replica_holders *h);

/** replica_lists_forget(r): A point's folder has another archive from now on: nothing that was remembered of ${r} holds.  Never fails. */
void replica_lists_forget(struct repo *r);

/**
 * replica_lists_settle(r, folder, but):
 * Forget what is remembered, but for what came from the repository with the id ${but} (NULL: none), of points that are no longer in the machine's ${folder}:
 * their names are about to be given to others.  Never fails: where it cannot be told, all is forgotten.
 */
void replica_lists_settle(struct repo *r, const char *folder, const char *but);

/* replica.json: who brought a point. */
struct replica_mark {
	char	job[128];			/* "": it is no replica */
	char	from[UUID_LEN];			/* id of the repository it came from */
};

/** replica_mark_text(job, from, out, err): Fails: -1. */
int replica_mark_text(const char *job, const char *from, struct buf *out, struct err *err);

/** replica_mark_read(r, p, out, err): That of the point ${p}; none, or one that is damaged, is "".  Fails: -1, the storage is out of reach. */
int replica_mark_read(struct repo *r, const struct point *p, struct replica_mark *out, struct err *err);

#endif
