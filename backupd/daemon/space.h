/* space.h - how much room there is in the folders of repositories, asked for by a child: a file system that hangs holds up nobody.  Threads: that of the loop. */
#ifndef OVB_SPACE_H
#define OVB_SPACE_H

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "config/conf.h"

struct space;

/* Of the repository ${i}; not ${known}: it is not there, or far away.  Bytes. */
typedef void space_result(void *arg, size_t i, bool known, uint64_t free, uint64_t total);

/* The repository ${i} does not answer.  Told once. */
typedef void space_silence(void *arg, size_t i);

/** space_new(ev, result, silence, arg): Fails: NULL, out of memory. */
struct space *space_new(sd_event *ev, space_result *result, space_silence *silence, void *arg);
void space_free(struct space *s);

/** space_ask(s, c): Ask for the space of ${c}'s repositories, unless somebody still waits for the last answers. */
void space_ask(struct space *s, const struct conf *c);

/** space_stop(s): Forget what was asked for. */
void space_stop(struct space *s);

#endif
