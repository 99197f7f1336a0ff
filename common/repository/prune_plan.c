#include "repository/prune_plan.h"

#include <stdlib.h>

struct plan {
	const struct catalog	*c;
	bool			*stays;		/* listed, now and afterwards */
	bool			*needed;
};

/* Whoever holds it: of several, each may have another part (doubles.h tells what can go of them). */
static void
need(struct plan *p, const archive_id id)
{
	const struct catalog_holder *h;
	size_t count;

	h = catalog_find(p->c, id, &count);
	for (size_t k = 0; k < count; k++)
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
	bool *flags = calloc(2 * c->n + 1, sizeof(*flags));

	if (flags == NULL)
		return (err_nomem(err));
	p.stays = flags;
	p.needed = flags + c->n;
	for (size_t i = 0; i < c->n; i++)
		p.stays[i] = c->v[i].listed && !drop[i];
	find_needed(&p);
	for (size_t i = 0; i < c->n; i++)
		action[i] = p.stays[i] ? PRUNE_KEEP : !p.needed[i] ? PRUNE_REMOVE : c->v[i].listed ? PRUNE_UNLIST : PRUNE_STAY;
	free(flags);
	return (0);
}
