/* Which points, and which folders of points, a machine or all of them have. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/thread.h"
#include "repository/repo.h"

void
points_free(struct points *p)
{
	free(p->v);
	*p = (struct points)POINTS_INIT;
}

int
points_add(struct points *ps, const struct point *p, struct err *err)
{
	size_t cap = ps->cap == 0 ? 64 : ps->cap * 2;
	struct point *v;

	if (ps->v == NULL || ps->n == ps->cap) {
		if ((v = realloc(ps->v, cap * sizeof(*v))) == NULL)
			return (err_nomem(err));
		ps->v = v;
		ps->cap = cap;
	}
	ps->v[ps->n++] = *p;
	return (0);
}

bool
point_place_parse(const char *name, char base[NAMING_MAX], time_t *t, unsigned int *suffix)
{
	size_t n = strlen(name);

	if (n >= NAMING_MAX)
		return (false);
	memcpy(base, name, n + 1);
	if (name_has_ending(name, PLACE_NEW) || name_has_ending(name, PLACE_OLD))
		base[n - 4] = '\0';
	return (point_name_parse(base, t, suffix));
}

struct listing {
	struct points	*out;
	const char	*folder;
	bool		 places;	/* each folder, not each point */
};

static int
add_point(void *arg, const char *name, struct err *err)
{
	struct listing *l = arg;
	struct point p = { .suffix = 0 };
	char base[NAMING_MAX];

	if (!point_place_parse(name, base, &p.time, &p.suffix))
		return (0);
	if (!l->places)
		name = base;
	snprintf(p.folder, sizeof(p.folder), "%s", l->folder);
	snprintf(p.name, sizeof(p.name), "%s", name);
	return (points_add(l->out, &p, err));
}

static int
compare_points(const void *pa, const void *pb)
{
	const struct point *a = pa, *b = pb;
	int c = strcmp(a->folder, b->folder);

	if (c != 0)
		return (c);
	if (a->time != b->time)
		return (a->time < b->time ? -1 : 1);
	if (a->suffix != b->suffix)
		return (a->suffix < b->suffix ? -1 : 1);
	return (strcmp(a->name, b->name));
}

/* While a point is consolidated its folder has other names: one point all the same. */
static void
drop_doubles(struct points *ps)
{
	size_t n = 0;

	for (size_t i = 0; i < ps->n; i++)
		if (n == 0 || compare_points(&ps->v[n - 1], &ps->v[i]) != 0)
			ps->v[n++] = ps->v[i];
	ps->n = n;
}

static int
list_machine(struct repo *r, const char *folder, bool places, struct points *out, struct err *err)
{
	struct listing l = { out, folder, places };

	if (store_list(r->st, folder, add_point, &l, err) == -1)
		return (-1);
	if (out->n > 1) {
		qsort(out->v, out->n, sizeof(*out->v), compare_points);
		drop_doubles(out);
	}
	return (0);
}

int
repo_points(struct repo *r, const char *folder, struct points *out, struct err *err)
{
	return (list_machine(r, folder, false, out, err));
}

int
repo_places(struct repo *r, const char *folder, struct points *out, struct err *err)
{
	return (list_machine(r, folder, true, out, err));
}

bool
repo_is_lost_and_found(const char *name, const struct err *why)
{
	return (why->code == EACCES && strcmp(name, "lost+found") == 0);
}

/* Folders of machines are all but hidden ones and the repository's own files. */
static int
add_machine(void *arg, const char *name, struct err *err)
{
	struct buf *names = arg;

	if (name[0] == '.' || strcmp(name, REPOSITORY_NAME) == 0)
		return (0);
	return (buf_add(names, name, strlen(name) + 1, err));
}

/* Machines are listed several at a time where each question takes its time on the way. */
#define LISTERS		4

struct list_all {
	struct repo	*r;
	bool		 places;
	struct buf	 names;
	pthread_mutex_t	 mutex;		/* guards what follows */
	size_t		 at;
	struct points	*out;
	int		 rc;
	struct err	 why;		/* then */
};

static int
append_points(struct points *out, const struct points *more, struct err *err)
{
	struct point *v;

	if (more->n == 0)
		return (0);
	if (out->n + more->n > out->cap) {
		if ((v = realloc(out->v, (out->n + more->n) * 2 * sizeof(*v))) == NULL)
			return (err_nomem(err));
		out->v = v;
		out->cap = (out->n + more->n) * 2;
	}
	memcpy(out->v + out->n, more->v, more->n * sizeof(*more->v));
	out->n += more->n;
	return (0);
}

/* What is no folder is none of a machine. */
static int
list_if_folder(struct list_all *la, const char *name, struct points *out, struct err *err)
{
	struct store_stat sb;

	if (list_machine(la->r, name, la->places, out, err) == 0)
		return (0);
	/* Readers take no lock: what goes meanwhile is no error. */
	if (err->code == ENOENT || err->code == ENOTDIR || repo_is_lost_and_found(name, err))
		return (0);
	return (store_stat(la->r->st, name, &sb, &(struct err)ERR_INIT) == 0 && !sb.is_dir ? 0 : -1);
}

static void *
list_machines(void *arg)
{
	struct list_all *la = arg;
	struct points mine;
	struct err err;
	const char *name;
	int rc;

	pthread_mutex_lock(&la->mutex);
	while (la->rc == 0 && la->at < la->names.len) {
		name = la->names.ptr + la->at;
		la->at += strlen(name) + 1;
		pthread_mutex_unlock(&la->mutex);
		mine = (struct points)POINTS_INIT;
		err = (struct err)ERR_INIT;
		rc = list_if_folder(la, name, &mine, &err);
		pthread_mutex_lock(&la->mutex);
		if (rc == -1 || append_points(la->out, &mine, &err) == -1) {
			la->rc = -1;
			la->why = err;
		}
		points_free(&mine);
	}
	pthread_mutex_unlock(&la->mutex);
	return (NULL);
}

static int
list_all(struct repo *r, bool places, struct points *out, struct err *err)
{
	struct list_all la = { .r = r, .places = places, .names = BUF_INIT, .mutex = PTHREAD_MUTEX_INITIALIZER, .out = out, .why = ERR_INIT };
	pthread_t threads[LISTERS - 1];
	size_t n = 0;

	if (store_list(r->st, ".", add_machine, &la.names, err) == -1) {
		buf_free(&la.names);
		return (-1);
	}
	while (r->st->remote && la.names.len > 0 && n < LISTERS - 1 && thread_start(&threads[n], list_machines, &la, err) == 0)
		n++;
	list_machines(&la);
	while (n > 0)
		pthread_join(threads[--n], NULL);
	buf_free(&la.names);
	if (la.rc == -1) {
		*err = la.why;
		return (-1);
	}
	if (out->n > 1)
		qsort(out->v, out->n, sizeof(*out->v), compare_points);
	return (0);
}

int
repo_all_points(struct repo *r, struct points *out, struct err *err)
{
	return (list_all(r, false, out, err));
}

int
repo_all_places(struct repo *r, struct points *out, struct err *err)
{
	return (list_all(r, true, out, err));
}
