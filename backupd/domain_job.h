/*
 * domain_job.h - the job that libvirt has on a domain, of those that it has one at a time of.
 *
 * Threads: any.  Each call asks libvirt, which may wait for QEMU: call within hypervisor_deadline().
 */
#ifndef OVB_DOMAIN_JOB_H
#define OVB_DOMAIN_JOB_H

#include <libvirt/libvirt.h>
#include <stdbool.h>

#include "base/err.h"

enum domain_job { DOMAIN_JOB_NONE, DOMAIN_JOB_BACKUP, DOMAIN_JOB_SNAPSHOT, DOMAIN_JOB_OTHER };

/** domain_job_get(dom, job, err): Fails: -1, also while libvirt is busy with a job that lets nobody ask. */
int domain_job_get(virDomainPtr dom, enum domain_job *job, struct err *err);

/** domain_job_is_backup_of(dom, token, err): Whether it is the backup job of the journal with that token: 1, 0, or -1 when that cannot be told. */
int domain_job_is_backup_of(virDomainPtr dom, const char *token, struct err *err);

/**
 * domain_job_is_being_made(dom):
 * Whether libvirt may be in the middle of a call that takes a moment: a snapshot whose overlays no XML names yet, or a backup job that is not there
 * yet, though its checkpoint may be.  Also true when it does not answer.
 */
bool domain_job_is_being_made(virDomainPtr dom);

#endif
