/* interface.h - the daemon's API (api.h) within its loop. */
#ifndef OVB_INTERFACE_H
#define OVB_INTERFACE_H

#include "daemon_private.h"

struct interface;

/** interface_start(d, err): Listen, as the configuration says.  Fails: NULL. */
struct interface *interface_start(struct daemon *d, struct err *err);

/**
 * interface_configure(i, c):
 * Let the group do what the configuration ${c} says; harmless on NULL.  Which group it is stays.  Returns whether it is the one of ${c}.
 */
bool interface_configure(struct interface *i, const struct conf *c);

/** interface_stop(i): Nobody is answered any more; harmless on NULL. */
void interface_stop(struct interface *i);

#endif
