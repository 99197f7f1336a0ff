/*
 * catalog.h - all restore points of a repository, and which archives each needs: what pruning and verifying are decided on.
 *
 * Calling sequence:  catalog_load -> read the entries, catalog_find -> catalog_free
 * It holds what the manifests say, in some hundred bytes for each point.  Where a manifest is lost, the index says it.
 */
#ifndef OVB_CATALOG_H
#define OVB_CATALOG_H

#include <stdbool.h>
#include <stdint.h>

#include "archive/index.h"
#include "repository/repo.h"

typedef uint8_t archive_id[ARCHIVE_ID_LEN];

struct catalog_entry {
	struct point	 point;
	char		*vm;			/* the machine's name; its folder's where the manifest is lost */
	char		*job, *uuid;		/* NULL: not known; of no domain */
	char		*replica_job, *replica_from;	/* NULL: made here; else by which job's replication it came, and from the repository with which id */
	uint64_t	 stored;		/* bytes */
	bool		 listed;		/* false: it was pruned, but its archive may still be needed */
	bool		 is_protected;
	bool		 full;			/* its archive holds all of every disk, as stock tar restores it */
	bool		 has_id;
	archive_id	 id;			/* of its archive */
	archive_id	*references;		/* other archives that it needs */
	size_t		 nreferences;
	archive_id	*replaces;		/* archives that its own stands for */
	size_t		 nreplaces;
	bool		 unclear;		/* neither manifest nor index can be read: it may be, and need, any archive */
	char		*trouble;		/* NULL, or why its manifest cannot be used */
};

/* Who holds the blocks of an archive. */
struct catalog_holder {
	archive_id	 id;
	size_t		 entry;
	bool		 replacing;		/* its archive only stands for that one */
};

struct catalog {
	struct catalog_entry	*v;		/* by folder, then by time */
	size_t			 n;
	struct catalog_holder	*holders;	/* by id */
	size_t			 nholders;
};

#define CATALOG_INIT	{ NULL, 0, NULL, 0 }

/**
 * catalog_load(r, out, err):
 * Read the manifests of all points, listed or not.  One that is damaged is an entry with its trouble, no failure.  Fails: -1.
 */
int catalog_load(struct repo *r, struct catalog *out, struct err *err);
void catalog_free(struct catalog *c);

/** catalog_index(c, err): Make ${c}'s holders of its entries; catalog_load() has done so.  Fails: -1. */
int catalog_index(struct catalog *c, struct err *err);

/** catalog_find(c, id, count): The holders of the archive ${id}: *${count} of them, 0 when it is not in the repository. */
const struct catalog_holder *catalog_find(const struct catalog *c, const archive_id id, size_t *count);

#endif
