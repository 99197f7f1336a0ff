#include "compacting.h"

#include "base/human.h"

static void
begin(void *arg, const char *what, uint64_t bytes)
{
	struct compacting *c = arg;

	progress_begin(&c->progress, what, bytes);
}

static void
tick(void *arg, uint64_t done)
{
	struct compacting *c = arg;

	progress_update(&c->progress, done);
}

static void
say(void *arg, const char *text)
{
	struct compacting *c = arg;
	struct err line;

	progress_end(&c->progress);
	err_set(&line, 0, "%s", text);
	fprintf(stderr, "%s: %s\n", c->name, human_safe(line.text));
}

struct compact_how
compacting_begin(struct compacting *c, const char *name, enum progress_mode mode)
{
	c->name = name;
	progress_init(&c->progress, mode == PROGRESS_JSON, stderr, stdout);
	if (mode == PROGRESS_NONE)
		c->progress.mode = PROGRESS_NONE;
	return ((struct compact_how){ .begin = begin, .tick = tick, .say = say, .arg = c });
}
