/* The clock that schedules go by may be set, by hand or after a start without a network.  Schedules see to themselves (schedule.h); here it is told. */
#include <stdio.h>
#include <time.h>

#include "base/human.h"
#include "daemon_private.h"

#define WORTH_TELLING	10	/* seconds */
#define SECOND_NS	1000000000

/* How far it is from the one that nobody sets, and that goes on while the machine sleeps.  Nanoseconds: whole seconds of each would be off by one at times. */
static int64_t
offset(void)
{
	struct timespec real, boot;

	clock_gettime(CLOCK_BOOTTIME, &boot);
	clock_gettime(CLOCK_REALTIME, &real);
	return ((int64_t)(real.tv_sec - boot.tv_sec) * SECOND_NS + real.tv_nsec - boot.tv_nsec);
}

void
clock_told(int64_t seconds, char *out, size_t n)
{
	char by[HUMAN_LEN];

	human_duration((double)(seconds < 0 ? -seconds : seconds), by);
	if (seconds < 0)
		snprintf(out, n, "the clock was set back by %s: what was done is not done again, each job goes on at its next time after that", by);
	else
		snprintf(out, n, "the clock was set forward by %s: what was leapt over is made up for, as catch_up has it", by);
}

void
clock_look(struct daemon *d)
{
	int64_t now = offset(), moved = now - d->clock_offset, jump = (moved + (moved < 0 ? -SECOND_NS / 2 : SECOND_NS / 2)) / SECOND_NS;
	char text[256];

	if (d->clock_offset == 0)
		d->clock_offset = now;
	if (d->clock_offset == now || (jump > -WORTH_TELLING && jump < WORTH_TELLING))
		return;
	d->clock_offset = now;
	d->started += jump;
	clock_told(jump, text, sizeof(text));
	daemon_say(true, "%s", text);
}
