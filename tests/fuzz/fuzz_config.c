/*
 * The configuration: any bytes give a struct conf that is consistent, or an error with a place; never a leak.
 * What our own check lets through must be well-formed to libconfig too: its syntax errors leak and name no key.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "calendar/calendar.h"
#include "calendar/span.h"
#include "config/conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_event(const char *text)
{
	struct err err = ERR_INIT;
	struct calendar *c = text == NULL ? NULL : calendar_parse(text, &err);

	assert((c == NULL) == (text == NULL));
	calendar_free(c);
}

static void
check(const struct conf *c)
{
	struct err err = ERR_INIT;
	struct span span;
	size_t i;

	assert(c->nrepositories > 0);
	for (i = 0; i < c->nrepositories; i++) {
		assert(conf_find_repository(c, c->repositories[i].name) == &c->repositories[i]);
		assert(c->repositories[i].at.path[0] == '/' && c->repositories[i].where.line > 0);
	}
	for (i = 0; i < c->njobs; i++) {
		const struct conf_job *j = &c->jobs[i];

		assert(conf_find_job(c, j->name) == j && j->repository != NULL && j->where.line > 0);
		assert(strchr(j->name, '/') == NULL && j->name[0] != '.' && j->name[0] != '\0');
		assert((j->domains.n > 0) + (j->images.n > 0) + (j->from != NULL) == 1);
		assert((j->connection != NULL) == (j->source == CONF_SOURCE_DOMAINS));
		assert(j->source != CONF_SOURCE_DOMAINS || (j->quiesce_timeout >= 1 && j->quiesce_timeout <= CONF_MAX_QUIESCE));
		assert(j->scratch_max == 0 || (j->scratch_max >= CONF_MIN_SCRATCH && j->scratch_max <= INT64_MAX));
		assert(j->scratch == NULL || j->scratch[0] == '/');
		assert((j->schedule != NULL) == (j->schedule_at.line != 0));
		check_event(j->schedule);
		check_event(j->full);
		assert(j->keep.within == NULL || span_parse(j->keep.within, &span, &err) == 0);
		assert((j->nreplicate > 0) == (j->replicate_at.line != 0));
	}
}

static int
ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return (n >= m && strcmp(s + n - m, end) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err err = ERR_INIT;
	struct conf *c = conf_parse((const char *)data, size, "fuzz.conf", &err);

	if (c != NULL)
		check(c);
	else
		assert(strncmp(err.text, "fuzz.conf:", 10) == 0);
	assert(!ends_with(err.text, ": syntax error"));
	assert(!ends_with(err.text, ": duplicate setting name"));
	assert(!ends_with(err.text, ": mismatched element type in array"));
	conf_free(c);
	return (0);
}
