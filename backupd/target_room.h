/* target_room.h - whether a backup has room on its target, before anything is done to a guest. */
#ifndef OVB_TARGET_ROOM_H
#define OVB_TARGET_ROOM_H

#include "point_store.h"

/**
 * target_room(run, vm, allocated, err):
 * Fails: -1 when the target has less free than a backup of ${allocated} bytes will take.  How well they compress is told by the machine's last
 * point; without one, an eighth is taken for the least.
 */
int target_room(const struct backup_run *run, const char *vm, uint64_t allocated, struct err *err);

#endif
