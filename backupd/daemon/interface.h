/* interface.h - the daemon's API (api.h) within its loop. */
#ifndef OVB_INTERFACE_H
#define OVB_INTERFACE_H

#include "daemon_private.h"

struct interface;

/** interface_start(d, err): Listen, as the configuration says.  Fails: NULL. */
struct interface *interface_start(struct daemon *d, struct err *err);

/** interface_stop(i): Nobody is answered any more; harmless on NULL. */
void interface_stop(struct interface *i);

#endif
