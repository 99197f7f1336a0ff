#include "run.h"

#include <string.h>

static const char *const states[] = { "queued", "running", "succeeded", "failed", "cancelled", "interrupted" };
static const char *const reasons[] = { "schedule", "missed", "retry", "request" };

const char *
run_state_name(enum run_state s)
{
	return (states[s]);
}

const char *
run_reason_name(enum run_reason r)
{
	return (reasons[r]);
}

enum run_state
run_state_named(const char *text)
{
	for (size_t i = 0; text != NULL && i < sizeof(states) / sizeof(states[0]); i++)
		if (strcmp(states[i], text) == 0)
			return ((enum run_state)i);
	return (RUN_FAILED);
}

enum run_reason
run_reason_named(const char *text)
{
	for (size_t i = 0; text != NULL && i < sizeof(reasons) / sizeof(reasons[0]); i++)
		if (strcmp(reasons[i], text) == 0)
			return ((enum run_reason)i);
	return (RUN_REQUEST);
}
