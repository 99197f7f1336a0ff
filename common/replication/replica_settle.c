/* What was remembered of folders that are gone must go before their names are given to others. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replication/replica_list.h"

struct settling {
	const char	*folder, *but;
	struct buf	 names;		/* of the lists, each with its zero byte */
	struct points	 ps;		/* what is there */
};

static int
add_source(void *arg, const char *name, struct err *err)
{
	struct settling *s = arg;
	size_t n = strlen(name);

	if (n != UUID_LEN + 4 || strcmp(name + n - 5, ".json") != 0 || strncmp(name, s->but, UUID_LEN - 1) == 0)
		return (0);
	return (buf_add(&s->names, name, n + 1, err));
}

static bool
is_gone(void *arg, const struct replica *rp)
{
	const struct settling *s = arg;

	if (strcmp(rp->folder, s->folder) != 0)
		return (false);
	for (size_t i = 0; i < s->ps.n; i++)
		if (strcmp(s->ps.v[i].name, rp->here) == 0)
			return (false);
	return (true);
}

static int
settle_one(struct repo *r, const char *source, struct settling *s, struct err *err)
{
	struct replica_list l = REPLICA_LIST_INIT;
	int rc = replica_list_load(r, source, &l, err);

	if (rc == 0)
		rc = replica_forget(&l, is_gone, s, err);
	if (rc == 0)
		rc = replica_list_save(r, source, &l, err);
	replica_list_free(&l);
	return (rc);
}

void
replica_lists_settle(struct repo *r, const char *folder, const char *but)
{
	struct settling s = { .folder = folder, .but = but != NULL ? but : "", .names = BUF_INIT, .ps = POINTS_INIT };
	struct err ignored = ERR_INIT;
	char source[UUID_LEN];
	int rc = 0;

	/* None, mostly: then no more is asked. */
	store_list(r->st, REPLICAS_DIR, add_source, &s, &ignored);
	if (s.names.len > 0)
		rc = repo_places(r, folder, &s.ps, &ignored);
	for (size_t at = 0; rc == 0 && at < s.names.len; at += strlen(s.names.ptr + at) + 1) {
		snprintf(source, sizeof(source), "%.36s", s.names.ptr + at);
		rc = settle_one(r, source, &s, &ignored);
	}
	if (rc == -1)
		replica_lists_forget(r);
	points_free(&s.ps);
	buf_free(&s.names);
}
