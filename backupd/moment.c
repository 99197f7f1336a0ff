#include "moment.h"

#include <fnmatch.h>
#include <jansson.h>
#include <libvirt/virterror.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/document.h"
#include "domain_job.h"

#define AGENT_SECONDS	5		/* for a question that changes nothing */
#define TAKE_SECONDS	120

static json_t *
file_system(const virDomainFSInfo *fs)
{
	json_t *disks = json_array();

	for (size_t i = 0; i < fs->ndevAlias; i++)
		json_array_append_new(disks, doc_string(fs->devAlias[i]));
	return (json_pack("{s:o*, s:o*, s:o*, s:o}", "mountpoint", doc_string(fs->mountpoint), "name", doc_string(fs->name), "type", doc_string(fs->fstype),
	    "disks", disks));
}

/* What the agent says of the guest's file systems; also whether it answers at all. */
static int
ask_agent(struct guest *g, virDomainPtr dom, struct err *err)
{
	virDomainFSInfoPtr *fs = NULL;
	json_t *list;
	int n;

	if (freeze_limit_agent(dom, AGENT_SECONDS, err) == -1)
		return (-1);
	if ((n = virDomainGetFSInfo(dom, &fs, 0)) == -1)
		hypervisor_failed(err, "the guest agent does not answer");
	freeze_unlimit_agent(dom);
	if (n == -1)
		return (-1);
	list = json_array();
	for (int i = 0; i < n; i++) {
		json_array_append_new(list, file_system(fs[i]));
		virDomainFSInfoFree(fs[i]);
	}
	free(fs);
	free(g->filesystems);
	g->filesystems = json_dumps(list, JSON_INDENT(1));
	json_decref(list);
	return (0);
}

static bool
may_be_frozen(const struct guest *g)
{
	const struct conf_job *job = g->run->job;

	if (job->quiesce == CONF_QUIESCE_NEVER)
		return (false);
	for (size_t i = 0; i < job->no_quiesce.n; i++)
		if (fnmatch(job->no_quiesce.v[i], g->name, 0) == 0)
			return (false);
	return (true);
}

/* It will not be quiesced.  Fails when the job insists. */
static int
fall_back(struct moment *m, const struct guest *g, const char *why, struct err *err)
{
	snprintf(m->why, sizeof(m->why), "%s", why);
	if (g->run->job->quiesce == CONF_QUIESCE_REQUIRED)
		return (err_set(err, 0, "the guest cannot be quiesced, as the job requires: %s", m->why));
	return (0);
}

int
moment_prepare(struct moment *m, struct guest *g, virDomainPtr dom, struct err *err)
{
	struct err why = ERR_INIT;

	if (!may_be_frozen(g)) {
		snprintf(m->why, sizeof(m->why), "the job does not freeze this guest");
		return (0);
	}
	if (g->paused)
		return (fall_back(m, g, "the guest is paused", err));
	if (!g->desc.has_agent)
		return (fall_back(m, g, "the domain has no channel for a guest agent", err));
	if (!g->desc.agent_connected)
		return (fall_back(m, g, "no guest agent is connected: install qemu-guest-agent in the guest, or start it", err));
	if (ask_agent(g, dom, &why) == -1)
		return (fall_back(m, g, why.text, err));
	if ((m->guard = freeze_guard_start(g->hv->uri, g->uuid, g->name, (unsigned int)g->run->job->quiesce_timeout, &why)) == NULL)
		return (fall_back(m, g, why.text, err));
	return (0);
}

/* Frozen, with the journal saying so before it is. */
static int
freeze(struct moment *m, struct guest *g, virDomainPtr dom, struct err *err)
{
	struct err why = ERR_INIT;

	g->journal->frozen = true;
	if (journal_save(g->journal, err) == -1)
		return (-1);
	if (freeze_take(m->guard, dom, &why) == 0)
		return (0);
	if (fall_back(m, g, why.text, err) == -1)
		return (-1);
	return (0);
}

static int
release(struct moment *m, struct guest *g, virDomainPtr dom, struct err *err)
{
	struct err why = ERR_INIT;
	struct freeze_time t;

	if (freeze_release(m->guard, dom, &t, &why) == -1)
		return (fall_back(m, g, why.text, err));
	m->freeze_ms = t.ms;
	m->own_ms = t.own_ms;
	if (!t.held)
		return (fall_back(m, g, "somebody thawed the guest before the moment was taken", err));
	return (0);
}

/* libvirt would let us wait for its end, half a minute long: not with a guest that is frozen. */
static int
is_free(virDomainPtr dom, struct err *err)
{
	struct err ignored = ERR_INIT;
	enum domain_job job;

	if (domain_job_get(dom, &job, &ignored) == 0 && job != DOMAIN_JOB_NONE)
		return (err_set(err, 0, "somebody else's job (a backup, a migration, a save) runs on the guest: run this job again after it, or end it with "
		    "virsh domjobabort"));
	return (0);
}

int
moment_take(struct moment *m, struct guest *g, virDomainPtr dom, int (*take)(void *arg, virDomainPtr dom, struct err *err), void *arg,
    struct err *err)
{
	struct err ignored = ERR_INIT;
	int rc;

	if (is_free(dom, err) == -1)
		return (-1);
	if (m->guard != NULL && freeze(m, g, dom, err) == -1)
		return (-1);
	m->time = time(NULL);
	hypervisor_deadline(TAKE_SECONDS, "take the moment of a guest's disks");
	rc = take(arg, dom, err);
	hypervisor_met();
	m->taken = rc == 0;
	if (m->guard != NULL && m->why[0] == '\0' && release(m, g, dom, rc == 0 ? err : &ignored) == -1)
		rc = -1;
	return (rc);
}

void
moment_end(struct moment *m, struct guest *g)
{
	struct err ignored = ERR_INIT;

	if (m->guard == NULL)
		return;
	m->unsure = !freeze_guard_end(m->guard);
	m->guard = NULL;
	if (m->unsure || !g->journal->frozen)
		return;
	g->journal->frozen = false;
	/* Else whoever settles would thaw it, which by then may be frozen by somebody else.  That this fails does no harm. */
	journal_save(g->journal, &ignored);
}
