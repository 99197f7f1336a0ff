/*
 * hypervisor.h - a connection to libvirt that does not wait for ever.
 *
 * Calling sequence:  hypervisor_open -> hypervisor_domain ... -> hypervisor_close
 * A libvirtd that is gone or hangs is noticed by keepalives, within 20 s; calls then fail.  A call that libvirt itself does not bound is made
 * within hypervisor_deadline().
 * Threads: any, as libvirt's connections.
 */
#ifndef OVB_HYPERVISOR_H
#define OVB_HYPERVISOR_H

#include <libvirt/libvirt.h>
#include <pthread.h>

#include "base/err.h"

struct hypervisor {
	pthread_mutex_t	 lock;		/* guards conn, while threads share this */
	virConnectPtr	 conn;		/* NULL while libvirtd is away */
	char		*uri;
};

/** hypervisor_open(uri, err): Fails: NULL. */
struct hypervisor *hypervisor_open(const char *uri, struct err *err);
void hypervisor_close(struct hypervisor *hv);

/**
 * hypervisor_domain(hv, uuid, seconds, err):
 * The domain with that UUID, to be freed with virDomainFree().  When the connection is lost, libvirtd is called again for up to ${seconds}.
 * Fails: NULL; err->code is ENOENT when there is no such domain.
 */
virDomainPtr hypervisor_domain(struct hypervisor *hv, const char *uuid, unsigned int seconds, struct err *err);

/** hypervisor_failed(err, fmt, ...): Set ${err} to the text and what libvirt said last on this thread.  Returns -1. */
int hypervisor_failed(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/**
 * hypervisor_deadline(seconds, doing), hypervisor_met():
 * What stands between is done in time, or this process ends with a message on standard error and status 1: the journal then says what is to
 * be settled.  For calls into a QEMU that may hang, which nothing else bounds.  They nest, and each thread has its own.
 */
void hypervisor_deadline(unsigned int seconds, const char *doing);
void hypervisor_met(void);

#endif
