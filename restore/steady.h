/* steady.h - a clock for deadlines: seconds since some moment, which go on when somebody sets the time of the day. */
#ifndef OVB_RESTORE_STEADY_H
#define OVB_RESTORE_STEADY_H

#include <time.h>

static inline time_t
steady_seconds(void)
{
	struct timespec now = { 0 };

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec);
}

#endif
