/*
 * scratch_watch.h - sees to it that a guest never finds its scratch files full.
 *
 * What the guest overwrites while it is read is first copied to scratch files.  Were they full, QEMU would fail the guest's writes: so the
 * backup is aborted before.  A thread looks at them ten times a second; the margin is what the guest wrote, at its fastest so far, in the time that
 * noticing and aborting takes.  Another thread sees to the job, for which libvirt may take its time.
 */
#ifndef OVB_SCRATCH_WATCH_H
#define OVB_SCRATCH_WATCH_H

#include "capture.h"

/** scratch_watch_start(c, folder, max, err): Watch the files in ${folder}; ${max} bytes are theirs, 0: all that is free.  Fails: NULL. */
struct scratch_watch *scratch_watch_start(struct capture *c, const char *folder, uint64_t max, struct err *err);

/**
 * scratch_watch_why(w, look, err):
 * Fails: -1 when it aborted the backup, or the job went away by itself, and says why.  With ${look} it looks at the job now.
 */
int scratch_watch_why(struct scratch_watch *w, bool look, struct err *err);

/** scratch_watch_stop(w): Harmless on NULL. */
void scratch_watch_stop(struct scratch_watch *w);

/** scratch_room(folder, max, err): Fails: -1 when there is not enough room for scratch files to begin with. */
int scratch_room(const char *folder, uint64_t max, struct err *err);

#endif
