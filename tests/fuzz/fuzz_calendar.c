/*
 * Schedules and zones: any text is refused with a reason, or is an event whose text in full is the same event, and whose times rise and end.
 * A first byte of 'R' makes the rest a POSIX TZ string, 'S' a span of time.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "calendar/calendar.h"
#include "calendar/span.h"
#include "calendar/zone_rule.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_event(const char *text)
{
	static const time_t from[] = { 0, 1774746000, 1793000000, INT64_C(7258000000), INT64_MAX, INT64_MIN };
	struct err err = ERR_INIT;
	struct calendar *c = calendar_parse(text, &err), *again;
	time_t t, next, same;

	if (c == NULL) {
		assert(err.text[0] != '\0');
		return;
	}
	/* In full it may be longer than a text may be. */
	if (strlen(calendar_text(c)) <= CALENDAR_MAX_TEXT) {
		again = calendar_parse(calendar_text(c), &err);
		assert(again != NULL && strcmp(calendar_text(again), calendar_text(c)) == 0);
	} else
		again = calendar_parse(text, &err);
	for (size_t i = 0; i < sizeof(from) / sizeof(from[0]); i++) {
		t = from[i];
		for (int k = 0; k < 5 && calendar_next(c, t, &next); k++, t = next) {
			assert(next > t && next < INT64_C(7258118400) + 86400);
			assert(calendar_next(again, t, &same) && same == next);
		}
	}
	calendar_free(c);
	calendar_free(again);
}

static void
check_rule(const char *text)
{
	struct zone_rule r;
	int64_t from, until, t = 1774746000;

	if (!zone_rule_parse(text, &r))
		return;
	for (int i = 0; i < 20; i++) {
		int offset = zone_rule_segment(&r, t, &from, &until);

		assert(from <= t && t < until && offset >= -25 * 3600 && offset <= 26 * 3600);
		if (until == INT64_MAX)
			break;
		t = until;
	}
}

static void
check_span(const char *text)
{
	struct err err = ERR_INIT;
	struct span s;

	if (span_parse(text, &s, &err) == 0)
		assert(span_before(1774746000, &s) < 1774746000);
	else
		assert(err.text[0] != '\0');
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);

	assert(text != NULL);
	memcpy(text, data, size);
	text[size] = '\0';
	if (text[0] == 'R')
		check_rule(text + 1);
	else if (text[0] == 'S')
		check_span(text + 1);
	check_event(text);
	free(text);
	return (0);
}
