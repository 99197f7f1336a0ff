#include "table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "naming.h"

#define CELL_MAX	2048u		/* bytes */

void
table_init(struct table *t)
{
	const char *term = getenv("TERM"), *no_colour = getenv("NO_COLOR");
	struct winsize ws;

	memset(t, 0, sizeof(*t));
	if (!isatty(STDOUT_FILENO))
		return;
	t->columns = ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws) == 0 && ws.ws_col > 0 ? ws.ws_col : 80;
	t->colour = (no_colour == NULL || *no_colour == '\0') && term != NULL && strcmp(term, "dumb") != 0;
}

/* Control characters would get through to the terminal, and an end of line would break the table. */
static unsigned int
fit(char *cell, const char *text, unsigned int columns)
{
	snprintf(cell, CELL_MAX, "%s", text);
	for (char *p = cell; (p = strchr(p, '\n')) != NULL;)
		*p = ' ';
	return (human_fit(human_safe(cell), columns));
}

static void
put(const struct table *t, enum paint paint, const char *cell)
{
	static const char *const codes[] = {
		[PAINT_NONE] = "", [PAINT_HEAD] = "1", [PAINT_GOOD] = "32", [PAINT_BAD] = "31", [PAINT_WARN] = "33", [PAINT_BUSY] = "36",
	};

	if (t->colour && paint != PAINT_NONE && *cell != '\0')
		printf("\x1b[%sm%s\x1b[0m", codes[paint], cell);
	else
		fputs(cell, stdout);
}

void
table_cell(struct table *t, unsigned int width, enum paint paint, const char *text)
{
	char cell[CELL_MAX];
	unsigned int used = fit(cell, text, t->columns > 0 ? width : CELL_MAX);

	put(t, paint, cell);
	printf("%*s", (int)(used < width ? width - used + 1 : 1), "");
	t->used += used < width ? width + 1 : used + 1;
}

void
table_last(struct table *t, enum paint paint, const char *text)
{
	char cell[CELL_MAX];

	fit(cell, text, t->columns == 0 ? CELL_MAX : t->columns > t->used ? t->columns - t->used : 0);
	put(t, paint, cell);
	putchar('\n');
	t->used = 0;
}

const char *
json_text(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return (s != NULL ? s : "");
}

double
json_value(const json_t *o, const char *key)
{
	return (json_number_value(json_object_get(o, key)));
}

bool
json_time(const json_t *o, const char *key, time_t *t)
{
	return (time_parse_rfc3339(json_text(o, key), t));
}

const char *
local_time(const json_t *o, const char *key, char out[HUMAN_LEN])
{
	struct tm tm;
	time_t t;

	if (!json_time(o, key, &t) || localtime_r(&t, &tm) == NULL || strftime(out, HUMAN_LEN, "%Y-%m-%d %H:%M", &tm) == 0)
		snprintf(out, HUMAN_LEN, "-");
	return (out);
}

enum paint
paint_of_state(const char *state)
{
	if (strcmp(state, "succeeded") == 0)
		return (PAINT_GOOD);
	if (strcmp(state, "failed") == 0 || strcmp(state, "interrupted") == 0)
		return (PAINT_BAD);
	return (strcmp(state, "running") == 0 ? PAINT_BUSY : PAINT_WARN);
}
