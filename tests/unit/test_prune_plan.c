/* Pruning: what becomes of each folder, in chosen cases and in random graphs against a second, naive implementation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "repository/prune_plan.h"

#define MAX	24u

static uint64_t seed = 88172645463325252;

/* xorshift64: the same numbers each time. */
static unsigned int
rnd(unsigned int below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return ((unsigned int)(seed >> 11) % below);
}

/* A repository of up to MAX folders.  Archives are numbers from 1. */
struct graph {
	struct catalog		c;
	struct catalog_entry	e[MAX];
	archive_id		references[MAX][MAX], replaces[MAX][MAX];
	bool			drop[MAX];
	enum prune_action	action[MAX];
};

static void
set_id(archive_id id, unsigned int n)
{
	memset(id, 0, ARCHIVE_ID_LEN);
	id[3] = (uint8_t)n;
}

static void
reset(struct graph *g)
{
	free(g->c.holders);
	memset(g, 0, sizeof(*g));
	g->c.v = g->e;
}

static size_t
add(struct graph *g, unsigned int id, bool listed, bool drop)
{
	size_t i = g->c.n++;

	g->e[i].listed = listed;
	g->e[i].has_id = id != 0;
	set_id(g->e[i].id, id);
	g->e[i].references = g->references[i];
	g->e[i].replaces = g->replaces[i];
	g->drop[i] = drop;
	return (i);
}

static void
refer(struct graph *g, size_t i, unsigned int id)
{
	set_id(g->references[i][g->e[i].nreferences++], id);
}

static void
replace(struct graph *g, size_t i, unsigned int id)
{
	set_id(g->replaces[i][g->e[i].nreplaces++], id);
}

static void
plan(struct graph *g)
{
	struct err err = ERR_INIT;

	assert_int_equal(catalog_index(&g->c, &err), 0);
	assert_int_equal(prune_plan(&g->c, g->drop, g->action, &err), 0);
}

static void
test_chain(void **state)
{
	struct graph g = { .c = CATALOG_INIT };

	(void)state;
	reset(&g);
	add(&g, 1, true, true);				/* the full one: the last needs it */
	refer(&g, add(&g, 2, true, true), 1);		/* nobody needs it */
	refer(&g, add(&g, 3, true, false), 1);
	add(&g, 4, false, false);			/* pruned before: nobody needs it any more */
	refer(&g, add(&g, 5, false, false), 4);		/* pruned before, and still needed: what it refers to is not */
	refer(&g, 2, 5);
	plan(&g);
	assert_int_equal(g.action[0], PRUNE_UNLIST);
	assert_int_equal(g.action[1], PRUNE_REMOVE);
	assert_int_equal(g.action[2], PRUNE_KEEP);
	assert_int_equal(g.action[3], PRUNE_REMOVE);
	assert_int_equal(g.action[4], PRUNE_STAY);
	reset(&g);
}

static void
test_replaced(void **state)
{
	struct graph g = { .c = CATALOG_INIT };

	(void)state;
	reset(&g);
	refer(&g, add(&g, 9, true, false), 1);
	replace(&g, add(&g, 2, false, false), 1);	/* stands for archive 1, which is gone */
	plan(&g);
	assert_int_equal(g.action[1], PRUNE_STAY);

	/* Archive 1 is still there: either may have what the other one has not. */
	add(&g, 1, false, false);
	plan(&g);
	assert_int_equal(g.action[1], PRUNE_STAY);
	assert_int_equal(g.action[2], PRUNE_STAY);
	g.e[2].listed = true;
	g.drop[2] = true;
	plan(&g);
	assert_int_equal(g.action[1], PRUNE_STAY);
	assert_int_equal(g.action[2], PRUNE_UNLIST);

	/* Nobody needs what stands for others any more. */
	g.drop[0] = true;
	plan(&g);
	assert_int_equal(g.action[1], PRUNE_REMOVE);
	assert_int_equal(g.action[2], PRUNE_REMOVE);
	reset(&g);
}

static void
test_unclear(void **state)
{
	struct graph g = { .c = CATALOG_INIT };

	(void)state;
	reset(&g);
	add(&g, 1, true, true);
	add(&g, 2, false, false);
	g.e[add(&g, 0, false, false)].unclear = true;	/* may be any archive */
	add(&g, 0, true, false);			/* nothing is left of it */
	plan(&g);
	assert_int_equal(g.action[0], PRUNE_REMOVE);
	assert_int_equal(g.action[1], PRUNE_REMOVE);
	assert_int_equal(g.action[2], PRUNE_STAY);
	assert_int_equal(g.action[3], PRUNE_KEEP);
	g.e[3].unclear = true;				/* may need any archive */
	plan(&g);
	assert_int_equal(g.action[0], PRUNE_UNLIST);
	assert_int_equal(g.action[1], PRUNE_STAY);
	assert_int_equal(g.action[2], PRUNE_STAY);
	assert_int_equal(g.action[3], PRUNE_KEEP);
	reset(&g);
}

/* What FORMAT.md says, without tables or order. */
static bool
names(const archive_id *v, size_t n, const archive_id id)
{
	for (size_t i = 0; i < n; i++)
		if (memcmp(v[i], id, ARCHIVE_ID_LEN) == 0)
			return (true);
	return (false);
}

static bool
holds(const struct graph *g, size_t i, const archive_id id)
{
	return ((g->e[i].has_id && memcmp(g->e[i].id, id, ARCHIVE_ID_LEN) == 0) || names(g->e[i].replaces, g->e[i].nreplaces, id));
}

static bool
is_point(const struct graph *g, size_t i)
{
	return (g->e[i].listed && !g->drop[i]);
}

/* Whether some point needs folder ${i} for the archive that it has, or stands for. */
static bool
is_needed(const struct graph *g, size_t i)
{
	for (size_t p = 0; p < g->c.n; p++)
		for (size_t r = 0; is_point(g, p) && r < g->e[p].nreferences; r++)
			if (holds(g, i, g->e[p].references[r]))
				return (true);
	return (false);
}

static void
random_graph(struct graph *g)
{
	unsigned int n = 1 + rnd(MAX), refs;
	size_t i;

	reset(g);
	for (unsigned int k = 0; k < n; k++) {
		i = add(g, 1 + (rnd(20) == 0 ? rnd(n) : k), rnd(3) > 0, rnd(2) == 0);	/* now and then a copy */
		for (refs = rnd(4); refs > 0; refs--)
			refer(g, i, 1 + rnd(n + 2));					/* some are nowhere */
		for (refs = rnd(6) == 0 ? 1 + rnd(3) : 0; refs > 0; refs--)
			replace(g, i, 1 + rnd(n + 2));
	}
}

static void
test_random(void **state)
{
	static struct graph g = { .c = CATALOG_INIT };
	enum prune_action wanted;

	(void)state;
	for (unsigned int round = 0; round < 20000; round++) {
		random_graph(&g);
		plan(&g);
		for (size_t i = 0; i < g.c.n; i++) {
			wanted = is_point(&g, i) ? PRUNE_KEEP : !is_needed(&g, i) ? PRUNE_REMOVE : g.e[i].listed ? PRUNE_UNLIST : PRUNE_STAY;
			if (g.action[i] != wanted)
				fail_msg("graph %u, folder %zu: %d, not %d", round, i, (int)g.action[i], (int)wanted);
		}
	}
	reset(&g);
}

/* Take away the folders that go: all, or those that a crash let go. */
static void
remove_some(struct graph *g, bool all)
{
	size_t kept = 0;

	for (size_t i = 0; i < g->c.n; i++) {
		if (g->action[i] == PRUNE_REMOVE && (all || rnd(2) == 0))
			continue;
		g->e[kept] = g->e[i];
		g->e[kept].listed = is_point(g, i);
		g->action[kept++] = g->action[i];
	}
	memset(g->drop, 0, sizeof(g->drop));
	g->c.n = kept;
}

/* How many folders hold what points need: each may hold another part of it. */
static size_t
count_held(const struct graph *g)
{
	size_t held = 0;

	for (size_t i = 0; i < g->c.n; i++)
		for (size_t r = 0; is_point(g, i) && r < g->e[i].nreferences; r++)
			for (size_t k = 0; k < g->c.n; k++)
				held += holds(g, k, g->e[i].references[r]) ? 1 : 0;
	return (held);
}

/* Nothing that a point needs is ever lost; and what a crash left, the next plan removes, and nothing else. */
static void
test_again(void **state)
{
	static struct graph g = { .c = CATALOG_INIT };
	enum prune_action before[MAX];
	size_t points, held;

	(void)state;
	for (unsigned int round = 0; round < 5000; round++) {
		random_graph(&g);
		for (size_t i = 0; i < g.c.n && round % 2 == 0; i++)
			g.e[i].nreplaces = 0;
		plan(&g);
		points = 0;
		for (size_t i = 0; i < g.c.n; i++)
			points += is_point(&g, i) ? 1 : 0;
		held = count_held(&g);
		remove_some(&g, false);
		assert_int_equal(count_held(&g), held);
		memcpy(before, g.action, sizeof(before));
		plan(&g);
		for (size_t i = 0; i < g.c.n && round % 2 == 0; i++)
			assert_int_equal(g.action[i], before[i] == PRUNE_UNLIST ? PRUNE_STAY : before[i]);
		remove_some(&g, true);
		assert_int_equal(count_held(&g), held);
		for (size_t i = 0; i < g.c.n; i++)
			points -= g.action[i] == PRUNE_KEEP ? 1 : 0;
		assert_int_equal(points, 0);
	}
	reset(&g);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_chain),
		cmocka_unit_test(test_replaced),
		cmocka_unit_test(test_unclear),
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_again),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
