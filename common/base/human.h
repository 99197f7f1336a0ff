/* human.h - sizes, times and names as people read them. */
#ifndef OVB_HUMAN_H
#define OVB_HUMAN_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define HUMAN_LEN	32u

/** human_size(bytes, out): "926 MB", "3.7 GB": powers of 1000, three digits at most. */
const char *human_size(uint64_t bytes, char out[HUMAN_LEN]);

/** human_duration(seconds, out): "0.4 s", "12 s", "3:05 min", "2:10:00 h". */
const char *human_duration(double seconds, char out[HUMAN_LEN]);

/** human_age(age, out): Seconds as backups are looked at: "12 s", "35 min", "17 h", "12 d". */
const char *human_age(time_t age, char out[HUMAN_LEN]);

/** human_safe(text): Replace, in place, each control character, which could change what a terminal shows, by one '?'.  Returns ${text}. */
char *human_safe(char *text);

/**
 * human_fit(text, columns):
 * Shorten UTF-8 ${text}, in place, to at most ${columns} of a terminal's columns, between characters and with "..." for what went.  Returns the
 * columns it takes (wcwidth(3) in the C.UTF-8 locale; bytes that are no character count as one).
 */
unsigned int human_fit(char *text, unsigned int columns);

#endif
