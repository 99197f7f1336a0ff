/*
 * qemu_nbd.h - QEMU's own qemu-nbd(8), which serves an image of any format that QEMU reads, for the time that it is read.
 *
 * Calling sequence:  qemu_nbd_start -> source_nbd_open(qemu_nbd_socket()) -> ... -> qemu_nbd_stop
 */
#ifndef OVB_QEMU_NBD_H
#define OVB_QEMU_NBD_H

#include "base/err.h"
#include "domain/domain_xml.h"

struct qemu_nbd;

/**
 * qemu_nbd_start(d, path, bitmap, folder, err):
 * Serve the disk ${d}, read-only, on a socket in ${folder}; ${path} is its image when that is a file or a device other than ${d} says, else
 * NULL.  No lock is taken on the image (force-share): a guest that uses it may start.  Its format is what ${d} says, and those of its backing
 * files what the image says: none is guessed.  With ${bitmap}, that
 * bitmap of the image is served too, if it is whole and kept up to date: qemu_nbd_bitmap() says so.  The server ends with this process.  Fails: NULL.
 */
struct qemu_nbd *qemu_nbd_start(const struct domain_disk *d, const char *path, const char *bitmap, const char *folder, struct err *err);

/** qemu_nbd_bitmap(q): The NBD metadata context of the bitmap that is served, or NULL. */
const char *qemu_nbd_bitmap(const struct qemu_nbd *q);

const char *qemu_nbd_socket(const struct qemu_nbd *q);

/** qemu_nbd_stop(q): End it, and remove the socket; harmless on NULL. */
void qemu_nbd_stop(struct qemu_nbd *q);

#endif
