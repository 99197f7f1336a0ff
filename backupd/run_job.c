#include "run_job.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backup_domain.h"
#include "backup_image.h"
#include "base/document.h"
#include "base/human.h"
#include "base/progress.h"
#include "domains.h"
#include "earlier.h"
#include "images.h"
#include "replicating.h"
#include "repository/repo_named.h"
#include "run_outcome.h"
#include "run_result.h"
#include "settle.h"
#include "store/throttle.h"
#include "upkeep_after.h"

#define PROGRAM		"virt-backupd " OVB_VERSION
#define LOCK_WAIT_S	60u		/* for somebody who prunes or repacks */

static void
event(json_t *o)
{
	char *line = o != NULL ? json_dumps(o, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;

	json_decref(o);
	if (line == NULL)
		return;
	run_result_event(line);
	puts(line);
	fflush(stdout);
	free(line);
}

/* For a program that shows how far it is. */
static void
report_begin(const struct run_options *opt, const char *vm, size_t machines)
{
	if (opt->json)
		event(json_pack("{s:s, s:s, s:I}", "event", "begin", "vm", vm, "machines", (json_int_t)machines));
}

static void
report_earlier(const struct run_options *opt, size_t machines)
{
	if (machines == 0)
		return;
	if (opt->json)
		event(json_pack("{s:s, s:I}", "event", "earlier", "machines", (json_int_t)machines));
	else
		fprintf(stderr, "virt-backupd: %zu machine%s backed up by an earlier attempt\n", machines, machines == 1 ? " was" : "s were");
}

static bool
is_meant(const struct run_options *opt, const char *vm)
{
	return (opt->only == NULL || strcmp(opt->only, vm) == 0);
}

static bool
is_done(const struct run_options *opt, const char *vm)
{
	return (opt->earlier != NULL && earlier_has(opt->earlier, vm));
}

static const char *
kind(const struct point_result *r)
{
	return (r->incremental ? "incremental" : "full");
}

static void
report_done(const struct run_options *opt, const struct image_file *f, const struct point_result *r, uint64_t sent)
{
	char size[HUMAN_LEN], provisioned[HUMAN_LEN], stored[HUMAN_LEN], duration[HUMAN_LEN], rate[HUMAN_LEN];
	uint64_t per_second = r->seconds > 0 ? (uint64_t)((double)r->read / r->seconds) : 0;

	if (opt->json) {
		event(json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:f}", "event", "done", "vm", f->vm, "point", r->point.name, "kind",
		    kind(r), "capture", "image", "consistency", r->consistency, "size", (json_int_t)r->size, "provisioned",
		    (json_int_t)r->provisioned, "read", (json_int_t)r->read, "stored", (json_int_t)r->stored, "sent", (json_int_t)sent, "seconds", r->seconds));
		return;
	}
	printf("%s@%s: %s disk, %s provisioned, %s stored, %s, %s/s%s%s\n", f->vm, r->point.name, human_size(r->size, size),
	    human_size(r->provisioned, provisioned), human_size(r->stored, stored), human_duration(r->seconds, duration), human_size(per_second, rate),
	    r->incremental ? ", incremental" : "", strcmp(r->consistency, "offline") == 0 ? "" : ", inconsistent: a QEMU may have written to it");
	fflush(stdout);
}

static void
report_failed(const struct run_options *opt, const char *vm, uint64_t sent, struct err *err)
{
	human_safe(err->text);
	if (opt->json)
		event(json_pack("{s:s, s:s, s:I, s:o}", "event", "failed", "vm", vm, "sent", (json_int_t)sent, "error", doc_string(err->text)));
	else
		fprintf(stderr, "virt-backupd: %s: %s\n", vm, err->text);
}

/* What dead runs left is removed first.  That it cannot be is worth a word, not the backup. */
static void
sweep(struct repo *repo)
{
	struct err err = ERR_INIT;
	unsigned int swept;

	if (repo_sweep(repo, PROGRAM, &swept, &err) == -1)
		fprintf(stderr, "virt-backupd: warning: what an interrupted run left behind could not be removed: %s\n", human_safe(err.text));
	else if (swept > 0)
		fprintf(stderr, "virt-backupd: removed %u unfinished restore point%s of an interrupted run\n", swept, swept > 1 ? "s" : "");
}

static void
report_domain(const struct run_options *opt, const char *vm, const struct domain_result *d, uint64_t sent)
{
	const struct point_result *r = &d->point;
	char size[HUMAN_LEN], provisioned[HUMAN_LEN], stored[HUMAN_LEN], duration[HUMAN_LEN], frozen[64] = "";
	json_t *o;

	if (opt->json) {
		o = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:f}", "event", "done", "vm", vm, "point", r->point.name, "kind", kind(r),
		    "capture", d->capture,
		    "consistency", r->consistency, "size", (json_int_t)r->size, "provisioned", (json_int_t)r->provisioned, "read", (json_int_t)r->read,
		    "stored", (json_int_t)r->stored, "sent", (json_int_t)sent, "seconds", r->seconds);
		if (o != NULL && d->freeze_ms >= 0) {
			json_object_set_new(o, "freeze_ms", json_integer(d->freeze_ms));
			json_object_set_new(o, "freeze_own_ms", json_integer(d->own_ms));
		}
		if (o != NULL && d->why[0] != '\0')
			json_object_set_new(o, "not_quiesced", doc_string(d->why));
		event(o);
		return;
	}
	if (d->freeze_ms >= 0)
		snprintf(frozen, sizeof(frozen), ", frozen for %lld ms", (long long)d->freeze_ms);
	printf("%s@%s: %s disks, %s provisioned, %s stored, %s, %s%s (%s)%s\n", vm, r->point.name, human_size(r->size, size),
	    human_size(r->provisioned, provisioned), human_size(r->stored, stored), human_duration(r->seconds, duration),
	    r->incremental ? "incremental, " : "", r->consistency, d->capture, frozen);
	if (d->why[0] != '\0')
		printf("%s: not quiesced: %s\n", vm, d->why);
	fflush(stdout);
}

static void
say(void *arg, const char *text)
{
	struct err line = ERR_INIT;
	const char *vm = arg;

	err_set(&line, 0, "%s", text);
	fprintf(stderr, "virt-backupd: %s%s%s\n", vm != NULL ? vm : "", vm != NULL ? ": " : "", human_safe(line.text));
}

int
reconcile(struct err *err)
{
	return (settle_leftovers(say, NULL, err));
}

/* What of the machines is to be done. */
struct todo {
	size_t		 machines, earlier;	/* those that are left out were done by an earlier attempt */
	uint64_t	 sent;			/* bytes that had gone over the network when the machine at hand was begun */
};

static void
count_todo(struct todo *t, const struct run_options *opt, const char *vm)
{
	if (!is_meant(opt, vm))
		return;
	if (is_done(opt, vm))
		t->earlier++;
	else
		t->machines++;
}

static uint64_t
sent_since(const struct backup_run *run, const struct todo *t)
{
	return (store_sent(run->repo->st) - t->sent);
}

static int
back_up_images(const struct backup_run *run, const struct image_files *files, const struct run_options *opt, struct succeeded *done)
{
	struct point_result result;
	struct err err = ERR_INIT;
	struct todo todo = { 0, 0, 0 };
	int rc = 0;

	for (size_t i = 0; i < files->n; i++)
		count_todo(&todo, opt, files->v[i].vm);
	report_earlier(opt, todo.earlier);
	for (size_t i = 0; i < files->n && !*opt->interrupted; i++) {
		if (!is_meant(opt, files->v[i].vm))
			continue;
		if (!is_done(opt, files->v[i].vm)) {
			report_begin(opt, files->v[i].vm, todo.machines);
			todo.sent = store_sent(run->repo->st);
			if (run_machine_begins(run->job, opt, files->v[i].vm, &err) == -1 || backup_image(run, &files->v[i], &result, &err) == -1) {
				report_failed(opt, files->v[i].vm, sent_since(run, &todo), &err);
				run_machine_failed(run->job, opt, files->v[i].vm, err.text);
				rc = 1;
				continue;
			}
			report_done(opt, &files->v[i], &result, sent_since(run, &todo));
			run_machine_done(run->job, opt, files->v[i].vm, &result);
		}
		if (succeeded_add(done, files->v[i].vm, &err) == -1)
			rc = 1;
	}
	return (rc);
}

static int
back_up_one_domain(const struct backup_run *run, struct hypervisor *hv, const struct domain_name *d, const struct run_options *opt, struct todo *todo)
{
	struct domain_result result;
	struct err err = ERR_INIT;
	int rc = 0;

	report_begin(opt, d->name, todo->machines);
	todo->sent = store_sent(run->repo->st);
	result.unsettled[0] = '\0';
	if (run_machine_begins(run->job, opt, d->name, &err) == -1 || backup_domain(run, hv, d->uuid, &result, say, d->name, &err) == -1) {
		report_failed(opt, d->name, sent_since(run, todo), &err);
		run_machine_failed(run->job, opt, d->name, err.text);
		rc = -1;
	} else {
		report_domain(opt, d->name, &result, sent_since(run, todo));
		run_machine_done(run->job, opt, d->name, &result.point);
	}
	if (result.unsettled[0] != '\0') {
		err_set(&err, 0, "left to be settled by the next run, or by virt-backupd --reconcile: %s", result.unsettled);
		report_failed(opt, d->name, sent_since(run, todo), &err);
		run_machine_unsettled(opt, d->name, err.text);
		rc = rc == -1 ? -1 : 1;
	}
	return (rc);
}

static int
back_up_domains(const struct backup_run *run, struct hypervisor *hv, const struct domain_names *domains, const struct run_options *opt,
    struct succeeded *done)
{
	struct todo todo = { 0, 0, 0 };
	struct err err = ERR_INIT;
	int rc = 0, r;

	for (size_t i = 0; i < domains->n; i++)
		count_todo(&todo, opt, domains->v[i].name);
	report_earlier(opt, todo.earlier);
	for (size_t i = 0; i < domains->n && !*opt->interrupted; i++) {
		if (!is_meant(opt, domains->v[i].name))
			continue;
		r = is_done(opt, domains->v[i].name) ? 0 : back_up_one_domain(run, hv, &domains->v[i], opt, &todo);
		if (r != 0)
			rc = 1;
		if (r != -1 && succeeded_add(done, domains->v[i].uuid, &err) == -1)
			rc = 1;
	}
	return (rc);
}

/* What a job works on: one of the two. */
struct machines {
	struct image_files	 files;
	struct hypervisor	*hv;
	struct domain_names	 domains;
};

static int
find_machines(const struct conf_job *job, struct machines *m, struct err *err)
{
	if (job->source == CONF_SOURCE_IMAGES)
		return (images_find(job->images.v, job->images.n, &m->files, err));
	/* Guests first: what an interrupted run left may be one that is frozen. */
	reconcile(err);
	if ((m->hv = hypervisor_open(job->connection, err)) == NULL)
		return (-1);
	return (domains_find(m->hv, job, &m->domains, err));
}

/* Which machines there are, for somebody who named another. */
static int
no_such_machine(const struct conf_job *job, const struct machines *m, const char *name, struct err *err)
{
	struct buf names = BUF_INIT;

	for (size_t i = 0; i < m->files.n; i++)
		buf_addf(&names, err, " %s", m->files.v[i].vm);
	for (size_t i = 0; i < m->domains.n; i++)
		buf_addf(&names, err, " %s", m->domains.v[i].name);
	err_set(err, 0, "job %s has no machine \"%.200s\"; it has:%s", job->name, name, names.ptr != NULL ? names.ptr : " none");
	buf_free(&names);
	return (-1);
}

static int
check_only(const struct conf_job *job, const struct machines *m, const struct run_options *opt, struct err *err)
{
	for (size_t i = 0; i < m->files.n; i++)
		if (is_meant(opt, m->files.v[i].vm))
			return (0);
	for (size_t i = 0; i < m->domains.n; i++)
		if (is_meant(opt, m->domains.v[i].name))
			return (0);
	return (opt->only == NULL ? 0 : no_such_machine(job, m, opt->only, err));
}

/* Told to stop when nothing was left to do: it is not to be done again for that. */
static bool
is_complete(const struct machines *m, const struct run_options *opt, const struct succeeded *done)
{
	size_t wanted = 0;

	for (size_t i = 0; i < m->files.n; i++)
		wanted += is_meant(opt, m->files.v[i].vm);
	for (size_t i = 0; i < m->domains.n; i++)
		wanted += is_meant(opt, m->domains.v[i].name);
	return (done->n == wanted);
}

/* What the daemon, or who tells people, cannot see for himself. */
static void
look_at_room(struct repo *repo, const struct conf_repository *r, const struct run_options *opt)
{
	struct err ignored = ERR_INIT;
	uint64_t room;

	if (r->at.kind != CONF_URL_SFTP || *opt->interrupted || store_room(repo->st, &room, &ignored) == -1 || room == UINT64_MAX)
		return;
	opt->outcome->room = room;
	if (opt->json)
		event(json_pack("{s:s, s:I}", "event", "room", "free", (json_int_t)room));
}

static int
run_machines(const struct conf_job *job, const struct run_options *opt, struct err *err)
{
	struct machines m = { .files = IMAGE_FILES_INIT, .domains = DOMAIN_NAMES_INIT };
	struct succeeded done = SUCCEEDED_INIT;
	struct progress progress;
	struct backup_run run = { .job = job, .progress = &progress, .interrupted = opt->interrupted, .full = opt->full,
		.reread = opt->reread };
	struct throttle *throttle = NULL;
	int rc = -1;

	if (job->source == CONF_SOURCE_FROM)
		return (replicate_job(job, opt, PROGRAM, err));
	if (find_machines(job, &m, err) == -1 || check_only(job, &m, opt, err) == -1 ||
	    (run.repo = repo_open_configured(job->repository, true, err)) == NULL)
		goto out;
	if (job->rate_limit > 0 && (throttle = throttle_new(job->rate_limit, opt->interrupted, err)) == NULL)
		goto out;
	store_throttle(run.repo->st, throttle);
	sweep(run.repo);
	if ((run.lock = lock_run(run.repo->st, PROGRAM, LOCK_WAIT_S, opt->interrupted, err)) == NULL)
		goto out;
	progress_init(&progress, opt->json, stderr, stdout);
	progress.limit = job->rate_limit;
	rc = m.hv != NULL ? back_up_domains(&run, m.hv, &m.domains, opt, &done) : back_up_images(&run, &m.files, opt, &done);
	if (*opt->interrupted && rc == 0 && !is_complete(&m, opt, &done)) {
		fprintf(stderr, "virt-backupd: stopped; what was reported done is done\n");
		rc = 1;
	}
	lock_release(run.lock);
	run.lock = NULL;
	if (upkeep_after(run.repo, job, &done, opt) != 0)
		rc = 1;
	if (!*opt->interrupted && replicate_job(job, opt, PROGRAM, err) != 0)
		rc = 1;
	look_at_room(run.repo, job->repository, opt);
out:
	succeeded_free(&done);
	lock_release(run.lock);
	repo_close(run.repo);
	throttle_free(throttle);
	images_free(&m.files);
	domains_free(&m.domains);
	hypervisor_close(m.hv);
	return (rc);
}

int
run_job(const struct conf_job *job, const struct run_options *opt, struct err *err)
{
	/* No guest is touched, and no repository, when what the job needs is not there. */
	int rc = run_begins(job, opt, err) == -1 ? -1 : run_machines(job, opt, err);

	run_ended(job, opt, rc, err->text);
	return (rc);
}
