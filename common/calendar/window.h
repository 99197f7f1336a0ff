/*
 * window.h - a time of the day within which something may begin: "22:00-06:00".
 *
 * HOUR:MINUTE-HOUR:MINUTE, from the first up to, but not including, the second; a window may run over midnight.  A time zone such as Europe/Berlin may
 * follow after a space, otherwise the times are local.  On a day whose change of clocks leaves out one of the times, that one does not come.
 */
#ifndef OVB_WINDOW_H
#define OVB_WINDOW_H

#include <stdbool.h>
#include <time.h>

#include "base/err.h"

struct window;

/** window_parse(text, err): Fails: NULL; ${err} quotes ${text} and says what is expected, or is out of memory.  Blocks: on the disk, to read the zone. */
struct window *window_parse(const char *text, struct err *err);

/** window_free(w): harmless on NULL. */
void window_free(struct window *w);

/** window_opens(w, now): ${now} if ${w} is open then, or when it opens next.  Pure; threads: any. */
time_t window_opens(const struct window *w, time_t now);

/** window_closes(w, t): When ${w} closes next after ${t}.  Pure; threads: any. */
time_t window_closes(const struct window *w, time_t t);

#endif
