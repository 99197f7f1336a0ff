#include "compacting.h"

#include <string.h>

#include "human.h"

static void
begin(void *arg, const char *what, uint64_t bytes)
{
	progress_begin(arg, what, bytes);
}

static void
tick(void *arg, uint64_t done)
{
	progress_update(arg, done);
}

static void
say(void *arg, const char *text)
{
	struct err line;

	progress_end(arg);
	err_set(&line, 0, "%s", text);
	fprintf(stderr, "virt-backupctl: %s\n", human_safe(line.text));
}

struct compact_how
compacting(const struct options *o, struct progress *progress)
{
	/* JSON is printed whole at the end. */
	progress_init(progress, false, stderr, stdout);
	if (o->json)
		progress->mode = PROGRESS_NONE;
	return ((struct compact_how){ .program = PROGRAM, .wait_s = LOCK_WAIT_S, .stop = &interrupted, .begin = begin, .tick = tick, .say = say,
		.arg = progress });
}
