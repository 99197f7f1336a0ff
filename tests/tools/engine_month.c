/*
 * The daemon's engine with a clock of its own: lives from one moment to another, and prints what it starts.
 *
 * usage: engine_month CONFIG FROM UNTIL SECONDS        times in seconds since 1970; each run takes SECONDS, and succeeds
 * For each run: its job and when it was started, then the word "wakes" and how often the engine was asked.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../backupd/daemon/engine.h"

struct running {
	struct running	*next;
	int64_t		 id, until;
};

struct world {
	struct engine	*engine;
	struct running	*running;
	int64_t		 now, takes;
};

static int
start(void *arg, const struct run *r, const struct conf_job *job, struct err *err)
{
	struct world *w = arg;
	struct running *n = malloc(sizeof(*n));

	if (n == NULL)
		return (err_nomem(err));
	*n = (struct running){ w->running, r->id, w->now + w->takes };
	w->running = n;
	printf("%s %lld\n", job->name, (long long)w->now);
	return (0);
}

static void
cancel(void *arg, int64_t id, const char *why)
{
	(void)arg;
	printf("cancelled %lld: %s\n", (long long)id, why);
}

static void
changed(void *arg, int64_t id)
{
	(void)arg;
	(void)id;
}

static void
say(void *arg, bool trouble, const char *job, const char *text)
{
	(void)arg;
	if (trouble)
		printf("trouble: %s: %s\n", job != NULL ? job : "", text);
}

static void
hear(void *arg, const char *text)
{
	(void)arg;
	printf("trouble: %s\n", text);
}

/* End the runs whose time has come; returns when the next one ends. */
static int64_t
end_runs(struct world *w)
{
	struct running **at = &w->running, *r;
	int64_t next = SCHEDULE_NEVER;

	while ((r = *at) != NULL) {
		if (r->until <= w->now) {
			*at = r->next;
			engine_ended(w->engine, r->id, RUN_SUCCEEDED, NULL, w->now);
			free(r);
			continue;
		}
		next = r->until < next ? r->until : next;
		at = &r->next;
	}
	return (next);
}

static size_t
live(struct world *w, int64_t until)
{
	int64_t wake, ends;
	size_t wakes = 0;

	for (;; wakes++) {
		(void)end_runs(w);
		wake = engine_tick(w->engine, w->now);
		ends = end_runs(w);
		if (ends < wake)
			wake = ends;
		if (wake > until)
			return (wakes);
		w->now = wake;
	}
}

int
main(int argc, char **argv)
{
	static const struct engine_ops ops = { start, cancel, changed, NULL, say, NULL };
	struct err err = ERR_INIT;
	struct world w = { NULL };
	struct conf *c = NULL;
	struct db *db = NULL;
	int rc = 1;

	if (argc != 5)
		return (2);
	w.now = strtoll(argv[2], NULL, 10);
	w.takes = strtoll(argv[4], NULL, 10);
	if ((c = conf_load(argv[1], &err)) == NULL || (db = db_open(NULL, hear, NULL, &err)) == NULL ||
	    (w.engine = engine_new(db, "host", &ops, &w, &err)) == NULL || engine_configure(w.engine, c, w.now, &err) == -1)
		fprintf(stderr, "engine_month: %s\n", err.text);
	else {
		printf("wakes %zu\n", live(&w, strtoll(argv[3], NULL, 10)));
		rc = 0;
	}
	for (struct running *r = w.running, *next; r != NULL; r = next) {
		next = r->next;
		free(r);
	}
	engine_free(w.engine);
	db_close(db);
	conf_free(c);
	return (rc);
}
