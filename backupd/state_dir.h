/* state_dir.h - the folders that virt-backupd keeps things in, beside the repositories (file-hierarchy(7), systemd.exec(5)). */
#ifndef OVB_STATE_DIR_H
#define OVB_STATE_DIR_H

#include <sys/types.h>

#include "base/err.h"

/** state_dir(), runtime_dir(): $STATE_DIRECTORY or /var/lib/openvirt-backup; $RUNTIME_DIRECTORY or /run/openvirt-backup. */
const char *state_dir(void);
const char *runtime_dir(void);

/** make_folder(path, mode, err): Make it unless it is there, and its parents (0755).  Fails: -1. */
int make_folder(const char *path, mode_t mode, struct err *err);

#endif
