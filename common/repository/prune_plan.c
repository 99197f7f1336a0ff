#include "repository/prune_plan.h"

#include <stdlib.h>
#include <string.h>

struct plan {
	const struct catalog	*c;
	bool			*stays;		/* listed, now and afterwards */
	bool			*superseded;	/* no point, and another archive stands for its own */
	bool			*needed;
};

static bool
is_superseded(const struct plan *p, size_t i)
{
	const struct catalog_holder *h;
	size_t count;

	if (p->stays[i] || !p->c->v[i].has_id)
		return (false);
	h = catalog_find(p->c, p->c->v[i].id, &count);
	for (size_t k = 0; k < count; k++)
		if (h[k].replacing && h[k].entry != i)
			return (true);
	return (false);
}

/* Whoever holds it.  Where all are superseded, by each other, none may go. */
static void
need(struct plan *p, const archive_id id)
{
	const struct catalog_holder *h;
	bool found = false;
	size_t count;

	h = catalog_find(p->c, id, &count);
	for (size_t k = 0; k < count; k++)
		if (!p->superseded[h[k].entry])
			found = p->needed[h[k].entry] = true;
	for (size_t k = 0; k < count && !found; k++)
		p->needed[h[k].entry] = true;
}

static void
find_needed(struct plan *p)
{
	const struct catalog_entry *e;
	bool all = false;

	for (size_t i = 0; i < p->c->n; i++) {
		e = &p->c->v[i];
		p->needed[i] = p->needed[i] || p->stays[i] || (e->unclear && !e->listed);
		if (!p->stays[i])
			continue;
		all = all || e->unclear;
		for (size_t k = 0; k < e->nreferences; k++)
			need(p, e->references[k]);
	}
	for (size_t i = 0; i < p->c->n && all; i++)
		p->needed[i] = true;
}

int
prune_plan(const struct catalog *c, const bool *drop, enum prune_action *action, struct err *err)
{
	struct plan p = { .c = c };
	bool *flags = calloc(3 * c->n + 1, sizeof(*flags));

	if (flags == NULL)
		return (err_nomem(err));
	p.stays = flags;
	p.superseded = flags + c->n;
	p.needed = flags + 2 * c->n;
	for (size_t i = 0; i < c->n; i++)
		p.stays[i] = c->v[i].listed && !drop[i];
	for (size_t i = 0; i < c->n; i++)
		p.superseded[i] = is_superseded(&p, i);
	find_needed(&p);
	for (size_t i = 0; i < c->n; i++)
		action[i] = p.stays[i] ? PRUNE_KEEP : !p.needed[i] ? PRUNE_REMOVE : c->v[i].listed ? PRUNE_UNLIST : PRUNE_STAY;
	free(flags);
	return (0);
}
