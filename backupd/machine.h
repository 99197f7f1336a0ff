/* machine.h - what the machines of a job are called, as far as its configuration tells. */
#ifndef OVB_MACHINE_H
#define OVB_MACHINE_H

#include <stdbool.h>
#include <stddef.h>

#include "config/conf.h"

/** machine_stem(file): How many bytes of an image's file name are its machine's: all but its ending; a dot at its beginning is no ending. */
size_t machine_stem(const char *file);

/**
 * machine_possible(job, name):
 * Whether ${job} can have a machine ${name} at all.  Pure: no host and no disk is asked, so that true does not mean that there is one.
 */
bool machine_possible(const struct conf_job *job, const char *name);

#endif
