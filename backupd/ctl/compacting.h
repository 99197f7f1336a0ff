/* compacting.h - how virt-backupctl shows that archives are consolidated or packed: a bar, and words. */
#ifndef OVB_CTL_COMPACTING_H
#define OVB_CTL_COMPACTING_H

#include "compact.h"
#include "options.h"
#include "progress.h"

/** compacting(o, progress): Reports into ${progress}, which is initialised here and stays the caller's; progress_end() comes after the work. */
struct compact_how compacting(const struct options *o, struct progress *progress);

#endif
