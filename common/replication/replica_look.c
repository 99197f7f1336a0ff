#include "replication/replica_look.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/thread.h"
#include "replication/replicate.h"

struct looking {
	struct repo		*to;
	struct store		*const *more;	/* further connections to it */
	size_t			 nmore;
	struct replica_list	*l;
	struct replica_look	*out;
};

static int
learn_place(struct looking *lg, const struct point *place, struct err *err)
{
	struct replica rp = { .folder = (char *)(uintptr_t)place->folder, .here = (char *)(uintptr_t)place->name };
	struct manifest m = MANIFEST_INIT;
	struct err why = ERR_INIT;
	int rc = 0;

	if (repo_manifest_any(lg->to, place, &m, &why) == 0) {
		rp.has_id = uuid_parse(m.archive.id, rp.id) == 0;
		if ((rc = archive_ids_parse(m.replaces, m.nreplaces, &rp.replaces, &rp.nreplaces, err)) == 0 && rp.has_id)
			rc = replica_add(lg->l, &rp, err);
		free(rp.replaces);
	} else if (why.code == ETIMEDOUT || why.code == ECONNRESET) {
		*err = why;
		rc = -1;
	}
	manifest_free(&m);
	return (rc);
}

static int
set_add(json_t *set, const char *key, struct err *err)
{
	return (json_object_set_new_nocheck(set, key, json_true()) == 0 ? 0 : err_nomem(err));
}

static const char *
key_of(const char *folder, const char *name, char out[2 * NAMING_MAX])
{
	snprintf(out, 2 * NAMING_MAX, "%s/%s", folder, name);
	return (out);
}

static int
add_machine(void *arg, const char *name, struct err *err)
{
	struct looking *lg = arg;

	return (name[0] == '.' || json_object_set_new_nocheck(lg->out->machines, name, json_false()) == 0 ? 0 : err_nomem(err));
}

/* A name in a machine's folder. */
static int
take_name(struct looking *lg, const char *folder, const char *name, struct points *ps, struct err *err)
{
	struct point p = { .suffix = 0 };
	char base[NAMING_MAX], key[2 * NAMING_MAX];

	lg->out->leftovers |= name_has_ending(name, ".partial") || name_has_ending(name, PLACE_NEW) || name_has_ending(name, PLACE_OLD);
	if (!point_place_parse(name, base, &p.time, &p.suffix))
		return (0);
	snprintf(p.folder, sizeof(p.folder), "%s", folder);
	snprintf(p.name, sizeof(p.name), "%s", name);
	if (points_add(ps, &p, err) == -1)
		return (-1);
	return (set_add(lg->out->taken, key_of(folder, base, key), err) == -1 ? -1 : set_add(lg->out->taken, key_of(folder, name, key), err));
}

/*
 * A machine of which nothing is new at the source is not looked at, as long as its folder is there: over a slow line that is what takes long.  The folders of
 * the others are listed, by as many threads as there are stores, each with a store of its own.
 */
struct look {
	const char	*folder;
	struct buf	 names;
	int		 rc;
	struct err	 why;		/* then */
};

struct looks {
	struct look	*v;
	size_t		 n;
	_Atomic size_t	 next;
};

struct looker {
	struct looks	*looks;
	struct store	*st;
	pthread_t	 thread;
};

static int
add_name(void *arg, const char *name, struct err *err)
{
	return (buf_add(arg, name, strlen(name) + 1, err));
}

static void *
look_main(void *arg)
{
	struct looker *lo = arg;
	struct look *l;
	size_t i;

	while ((i = lo->looks->next++) < lo->looks->n) {
		l = &lo->looks->v[i];
		l->rc = store_list(lo->st, l->folder, add_name, &l->names, &l->why);
	}
	return (NULL);
}

static void
list_folders(struct looking *lg, struct looks *ls)
{
	struct looker lo[REPLICATE_PARALLEL_MAX];
	struct err ignored = ERR_INIT;
	size_t n = 0;

	for (; n < lg->nmore && n + 1 < ls->n && n < REPLICATE_PARALLEL_MAX - 1; n++) {
		lo[n] = (struct looker){ .looks = ls, .st = lg->more[n] };
		if (thread_start(&lo[n].thread, look_main, &lo[n], &ignored) == -1)
			break;
	}
	lo[n] = (struct looker){ .looks = ls, .st = lg->to->st };
	look_main(&lo[n]);
	for (size_t i = 0; i < n; i++)
		pthread_join(lo[i].thread, NULL);
}

static int
take_names(struct looking *lg, struct look *l, struct points *places, struct err *err)
{
	if (l->rc == -1 && (l->why.code == ENOENT || l->why.code == ENOTDIR)) {
		json_object_del(lg->out->machines, l->folder);
		return (0);
	}
	if (l->rc == -1) {
		*err = l->why;
		return (-1);
	}
	for (size_t at = 0; at < l->names.len; at += strlen(l->names.ptr + at) + 1)
		if (take_name(lg, l->folder, l->names.ptr + at, places, err) == -1)
			return (-1);
	return (set_add(lg->out->machines, l->folder, err));
}

/* ${folders}: names, each with its zero byte. */
static int
look_at_machines(struct looking *lg, const struct buf *folders, size_t n, struct points *places, struct err *err)
{
	struct looks ls = { .v = calloc(n + 1, sizeof(*ls.v)) };
	int rc = 0;

	if (ls.v == NULL)
		return (err_nomem(err));
	for (size_t at = 0; at < folders->len; at += strlen(folders->ptr + at) + 1)
		ls.v[ls.n++] = (struct look){ .folder = folders->ptr + at, .names = BUF_INIT, .why = ERR_INIT };
	list_folders(lg, &ls);
	for (size_t i = 0; i < ls.n; i++) {
		if (rc == 0)
			rc = take_names(lg, &ls.v[i], places, err);
		buf_free(&ls.v[i].names);
	}
	free(ls.v);
	return (rc);
}

/* Machines with something new there, whose folder is here.  ${ps} are in order of their folders. */
static int
find_machines(struct looking *lg, const struct points *ps, const char *only, struct buf *folders, size_t *n, struct err *err)
{
	const char *last = "";

	for (size_t i = 0; i < ps->n; i++) {
		const struct point *p = &ps->v[i];

		if (strcmp(p->folder, last) == 0 || (only != NULL && strcmp(p->folder, only) != 0) || !utf8_valid(p->folder) ||
		    json_object_get(lg->out->machines, p->folder) == NULL || replica_find_there(lg->l, p->folder, p->name) != NULL)
			continue;
		last = p->folder;
		++*n;
		if (buf_add(folders, p->folder, strlen(p->folder) + 1, err) == -1)
			return (-1);
	}
	return (0);
}

static bool
is_gone(void *arg, const struct replica *rp)
{
	const struct looking *lg = arg;
	const json_t *seen = json_object_get(lg->out->machines, rp->folder);
	char key[2 * NAMING_MAX];

	return (seen == NULL || (json_is_true(seen) && json_object_get(lg->out->taken, key_of(rp->folder, rp->here, key)) == NULL));
}

int
replica_look(struct repo *to, struct store *const *more, size_t nmore, struct replica_list *l, const struct points *there, const char *only,
    struct replica_look *out, struct err *err)
{
	struct looking looking = { .to = to, .more = more, .nmore = nmore, .l = l, .out = out }, *lg = &looking;
	struct points places = POINTS_INIT;
	struct buf folders = BUF_INIT;
	size_t n = 0;
	int rc;

	*out = (struct replica_look){ .machines = json_object(), .taken = json_object() };
	if (out->machines == NULL || out->taken == NULL)
		return (err_nomem(err));
	rc = store_list(to->st, ".", add_machine, lg, err);

	/* Machines whose folder went. */
	if (rc == 0)
		rc = replica_forget(lg->l, is_gone, lg, err);
	if (rc == 0 && (rc = find_machines(lg, there, only, &folders, &n, err)) == 0)
		rc = look_at_machines(lg, &folders, n, &places, err);
	if (rc == 0)
		rc = replica_forget(lg->l, is_gone, lg, err);
	for (size_t i = 0; i < places.n && rc == 0; i++)
		if (replica_find_here(lg->l, places.v[i].folder, places.v[i].name) == NULL)
			rc = learn_place(lg, &places.v[i], err);
	points_free(&places);
	buf_free(&folders);
	return (rc);
}

struct replica_hint
replica_look_hint(const struct replica_look *look, const struct point *p)
{
	const json_t *seen = json_object_get(look->machines, p->folder);
	struct replica_hint hint;
	char key[2 * NAMING_MAX];

	/* A folder that was not listed may have anything; one that is not there has nothing. */
	hint.has_machine = json_is_true(seen);
	hint.has_name = json_is_false(seen) || json_object_get(look->taken, key_of(p->folder, p->name, key)) != NULL;
	return (hint);
}

void
replica_look_free(struct replica_look *look)
{
	json_decref(look->machines);
	json_decref(look->taken);
	*look = (struct replica_look)REPLICA_LOOK_INIT;
}
