#include "table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "repository/naming.h"

#define CELL_MAX	2048u		/* bytes */
#define REASON_INDENT	6u

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

static unsigned int
width(const char *text, size_t n)
{
	char cell[CELL_MAX];

	snprintf(cell, sizeof(cell), "%.*s", (int)n, text);
	return (human_fit(cell, CELL_MAX));
}

/* How many bytes of ${text} go into a line: up to a blank, or, where a word is longer than that, all there is room for. */
static size_t
piece(const char *text, unsigned int columns)
{
	size_t fits = 0, blank = 0, n = 0;

	while (text[n] != '\0') {
		do
			n++;
		while (((unsigned char)text[n] & 0xc0) == 0x80);
		if (width(text, n) > columns)
			return (blank > 0 ? blank : fits > 0 ? fits : n);
		fits = n;
		if (text[n] == ' ')
			blank = n;
	}
	return (n);
}

void
table_wrapped(struct table *t, unsigned int indent, enum paint paint, const char *text)
{
	char all[CELL_MAX], line[CELL_MAX];
	const char *at = all;
	size_t n;

	fit(all, text, CELL_MAX);
	while (*at != '\0') {
		n = t->columns > indent ? piece(at, t->columns - indent) : strlen(at);
		snprintf(line, sizeof(line), "%.*s", (int)n, at);
		printf("%*s", (int)indent, "");
		put(t, paint, line);
		putchar('\n');
		at += n;
		at += strspn(at, " ");
	}
}

void
table_result(struct table *t, const char *state, const char *reason)
{
	enum paint paint = paint_of_state(state);
	char text[CELL_MAX];

	snprintf(text, sizeof(text), "%s%s%s", state, *reason != '\0' ? ": " : "", reason);
	if (*reason == '\0' || t->columns == 0 || width(text, strlen(text)) + t->used <= t->columns)
		table_last(t, paint, text);
	else {
		table_last(t, paint, state);
		table_wrapped(t, REASON_INDENT, paint, reason);
	}
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
