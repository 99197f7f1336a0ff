/*
 * moment.h - one moment for all disks of a running guest: frozen, if it can be and may be, while that moment is taken.
 *
 * Calling sequence:  moment_prepare -> moment_take -> moment_end
 */
#ifndef OVB_MOMENT_H
#define OVB_MOMENT_H

#include "freeze.h"
#include "guest.h"

struct moment {
	struct freeze_guard	*guard;		/* NULL: the guest is not to be frozen */
	char			 why[512];	/* it is not quiesced; empty: it is */
	bool			 unsure;	/* the guest may still be frozen: the guard goes on */
	bool			 taken;		/* libvirt has answered that it is: nothing of it is in its hands any more */
	int64_t			 freeze_ms, own_ms;	/* -1: not frozen */
	time_t			 time;
};

#define MOMENT_INIT	{ .freeze_ms = -1, .own_ms = -1 }

/**
 * moment_prepare(m, g, dom, err):
 * Ask the agent what file systems there are, and have the guard ready, as far as the job's policy wants it.  Nothing of the guest is changed.
 * Fails: -1 when the job requires a quiesced guest and this one cannot be.
 */
int moment_prepare(struct moment *m, struct guest *g, virDomainPtr dom, struct err *err);

/**
 * moment_take(m, g, dom, take, arg, err):
 * Freeze, call ${take}, thaw.  Fails: -1 when ${take} fails, or when the job requires what could not be had; then m->taken says whether
 * ${take} succeeded.
 */
int moment_take(struct moment *m, struct guest *g, virDomainPtr dom, int (*take)(void *arg, virDomainPtr dom, struct err *err), void *arg,
    struct err *err);

/** moment_end(m, g): Let the guard go; the journal says so when it goes on by itself. */
void moment_end(struct moment *m, struct guest *g);

#endif
