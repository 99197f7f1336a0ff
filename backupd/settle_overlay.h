/* settle_overlay.h - one overlay goes back into the image below it. */
#ifndef OVB_SETTLE_OVERLAY_H
#define OVB_SETTLE_OVERLAY_H

#include "settle.h"

#define OVERLAY_MARK	".ovb-"		/* an overlay's name is IMAGE.ovb-TOKEN-TARGET.qcow2 */

/** settle_overlay(s, o, err): Commit ${o}, whether its guest runs or not, and remove the file.  Fails: -1. */
int settle_overlay(const struct settle *s, struct journal_overlay *o, struct err *err);

#endif
