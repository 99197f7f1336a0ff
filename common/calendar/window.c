#include "calendar/window.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "calendar/calendar.h"

struct window {
	struct calendar	*begin, *end;
};

static struct calendar *
daily(int hour, int minute, const char *zone, struct err *err)
{
	char text[CALENDAR_MAX_TEXT];

	snprintf(text, sizeof(text), "*-*-* %02d:%02d:00%s", hour, minute, zone);
	return (calendar_parse(text, err));
}

struct window *
window_parse(const char *text, struct err *err)
{
	unsigned int h1, m1, h2, m2;
	struct window *w;
	int n = -1;

	if (sscanf(text, "%2u:%2u-%2u:%2u%n", &h1, &m1, &h2, &m2, &n) != 4 || n == -1 || (text[n] != '\0' && text[n] != ' ') ||
	    strspn(text, "0123456789:-") < (size_t)n || h1 > 23 || m1 > 59 || h2 > 23 || m2 > 59 || strlen(text + n) > CALENDAR_MAX_TEXT / 2) {
		err_set(err, 0, "\"%.100s\": expected a time of the day like \"22:00-06:00\", and maybe a time zone", text);
		return (NULL);
	}
	if (h1 == h2 && m1 == m2) {
		err_set(err, 0, "\"%.100s\" ends when it begins: give it some time, or remove it", text);
		return (NULL);
	}
	if ((w = calloc(1, sizeof(*w))) == NULL) {
		err_nomem(err);
		return (NULL);
	}
	if ((w->begin = daily((int)h1, (int)m1, text + n, err)) == NULL || (w->end = daily((int)h2, (int)m2, text + n, err)) == NULL) {
		window_free(w);
		return (NULL);
	}
	return (w);
}

void
window_free(struct window *w)
{
	if (w == NULL)
		return;
	calendar_free(w->begin);
	calendar_free(w->end);
	free(w);
}

time_t
window_opens(const struct window *w, time_t now)
{
	time_t begin, end;

	/* It is open when it closes before it opens again. */
	if (!calendar_next(w->begin, now, &begin) || !calendar_next(w->end, now, &end) || end < begin)
		return (now);
	return (begin);
}

time_t
window_closes(const struct window *w, time_t t)
{
	time_t end;

	/* A time of the day that comes never again, there is none. */
	return (calendar_next(w->end, t, &end) ? end : t);
}
