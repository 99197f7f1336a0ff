/*
 * freeze.h - a guest's file systems are frozen for a moment, and never stay so.
 *
 * Calling sequence:  freeze_guard_start -> freeze_take -> (take the moment) -> freeze_release -> freeze_guard_end
 * A process of its own, the guard, thaws the guest when its deadline passes or its parent dies, whatever state libvirtd and agent are in:
 * while they do not answer it goes on trying, past the end of the run, and says so in the system's log and in <state>/guard.log.
 * Threads: one at a time.
 */
#ifndef OVB_FREEZE_H
#define OVB_FREEZE_H

#include <libvirt/libvirt.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct freeze_guard;

/** freeze_guard_start(uri, uuid, name, seconds, err): Start the guard, and wait until it is ready; ${seconds} is what the agent is given.  Fails: NULL. */
struct freeze_guard *freeze_guard_start(const char *uri, const char *uuid, const char *name, unsigned int seconds, struct err *err);

/**
 * freeze_take(g, dom, err):
 * Freeze the guest.  Fails: -1; the guest is not frozen, or the guard is thawing it: as long as it may be frozen, freeze_guard_end() says so.
 */
int freeze_take(struct freeze_guard *g, virDomainPtr dom, struct err *err);

struct freeze_time {
	bool	held;		/* nobody thawed it before we did */
	int64_t	ms;		/* from before it was frozen until after it was thawed, milliseconds */
	int64_t	own_ms;		/* of these, between the agent's two answers: what we took */
};

/** freeze_release(g, dom, t, err): Thaw it.  Fails: -1 when that failed; the guard goes on trying. */
int freeze_release(struct freeze_guard *g, virDomainPtr dom, struct freeze_time *t, struct err *err);

/**
 * freeze_guard_end(g):
 * Let the guard go.  When the guest may be frozen, the guard thaws it first; what it cannot do within seconds, it goes on trying alone.  Returns
 * whether the guest is known not to be frozen by us.  Harmless on NULL.
 */
bool freeze_guard_end(struct freeze_guard *g);

/**
 * freeze_limit_agent(dom, seconds, err), freeze_unlimit_agent(dom):
 * Between the two the agent has so long for an answer; without that a call to it may wait for ever.  Fails: -1; then do not ask it.
 */
int freeze_limit_agent(virDomainPtr dom, unsigned int seconds, struct err *err);
void freeze_unlimit_agent(virDomainPtr dom);

/** freeze_thaw_once(dom, seconds, err): Thaw, whoever froze.  Returns the number of file systems, or -1. */
int freeze_thaw_once(virDomainPtr dom, unsigned int seconds, struct err *err);

/** freeze_guard_leave(uri, uuid, name, err): Start a guard that thaws the guest at once and goes on trying until it is.  Fails: -1. */
int freeze_guard_leave(const char *uri, const char *uuid, const char *name, struct err *err);

/** freeze_guard_main(argc, argv): The guard: virt-backupd --freeze-guard URI UUID NAME SECONDS, with its parent on descriptor 3. */
int freeze_guard_main(int argc, char **argv);

#endif
