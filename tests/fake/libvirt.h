/*
 * libvirt.h - a stand-in for libvirt.so: the calls that backupd/ makes, on the guest that model.h has.
 *
 * What it does not have, the linker says.  A call that waits in libvirt waits here too; the lock of the model is not held meanwhile.
 */
#ifndef OVB_FAKE_LIBVIRT_H
#define OVB_FAKE_LIBVIRT_H

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

#include "model.h"

#endif
