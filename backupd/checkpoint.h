/*
 * checkpoint.h - libvirt's checkpoints: from one on, QEMU notes in a bitmap of each qcow2 image what the guest writes.
 *
 * Each job keeps one for each domain, named openvirt-backup.JOB.TOKEN, as old as its latest restore point.  Other tools' and other jobs' are
 * never touched.
 */
#ifndef OVB_CHECKPOINT_H
#define OVB_CHECKPOINT_H

#include <libvirt/libvirt.h>
#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#include "archive/index.h"
#include "base/buf.h"
#include "base/err.h"
#include "domain/domain_xml.h"

#define CHECKPOINT_NAME_LEN	160u

/** checkpoint_name(job, token, out): The name of the job's next one. */
void checkpoint_name(const char *job, const char *token, char out[CHECKPOINT_NAME_LEN]);

/** checkpoint_member(name, out): The small member with its XML, in the archive of the point that it was made for. */
void checkpoint_member(const char *name, char out[INDEX_NAME_LEN]);

/** checkpoint_is_of_job(name, job): Whether the checkpoint of that name is one of the job's. */
bool checkpoint_is_of_job(const char *name, const char *job);

/** checkpoint_possible(d): Whether QEMU can keep a bitmap for the disk. */
bool checkpoint_possible(const struct domain_disk *d);

/** checkpoint_get(dom, name, xml, err): Append the checkpoint's XML to ${xml}.  Returns 1, 0 when there is none of that name, -1 on error. */
int checkpoint_get(virDomainPtr dom, const char *name, struct buf *xml, struct err *err);

/** checkpoint_has_disk(xml, len, target): Whether the checkpoint with that XML has a bitmap for the disk. */
bool checkpoint_has_disk(const char *xml, size_t len, const char *target);

/**
 * checkpoint_recover(dom, name, t, targets, n, err):
 * Make a checkpoint that libvirt has lost known to it again, when each of these disks still has its bitmap, sound; it was made at ${t}.  Fails: -1.
 */
int checkpoint_recover(virDomainPtr dom, const char *name, time_t t, const char *const *targets, size_t n, struct err *err);

/**
 * checkpoint_purge(dom, name, targets, n, err):
 * Delete what bitmaps these disks of a running guest have of a checkpoint that libvirt has lost.  Fails: -1.
 */
int checkpoint_purge(virDomainPtr dom, const char *name, const char *const *targets, size_t n, struct err *err);

/**
 * checkpoint_delete(dom, name, err):
 * Delete it and those of its bitmaps that are still there.  Of a guest that is shut off it stays, as libvirt cannot delete the bitmaps then: the
 * job's next run does.  Fails: -1; harmless when there is none.
 */
int checkpoint_delete(virDomainPtr dom, const char *name, struct err *err);

/** checkpoint_delete_others(dom, job, keep, err): Delete the job's, but for ${keep}, likewise.  Fails: -1. */
int checkpoint_delete_others(virDomainPtr dom, const char *job, const char *keep, struct err *err);

#endif
