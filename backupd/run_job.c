#include "run_job.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

#include "backup_image.h"
#include "human.h"
#include "images.h"
#include "progress.h"
#include "repo.h"

#define PROGRAM		"virt-backupd " OVB_VERSION
#define LOCK_WAIT_S	60u		/* for somebody who prunes or repacks */

int
run_job_unsupported(const struct conf_job *job, struct err *err)
{
	if (job->source == CONF_SOURCE_DOMAINS)
		return (err_set(err, 0, "%s:%d: job %s: this version backs up images only, not domains", job->where.file, job->where.line, job->name));
	if (job->source == CONF_SOURCE_FROM)
		return (err_set(err, 0, "%s:%d: job %s: this version does not replicate (\"from\")", job->where.file, job->where.line, job->name));
	if (job->repository->at.kind != CONF_URL_LOCAL)
		return (err_set(err, 0, "%s:%d: job %s: this version writes to local repositories only, not to %s", job->where.file, job->where.line,
		    job->name, job->repository->url));
	return (0);
}

static void
event(json_t *o)
{
	if (o != NULL && json_dumpf(o, stdout, JSON_COMPACT) == 0)
		putchar('\n');
	fflush(stdout);
	json_decref(o);
}

static void
report_done(const struct run_options *opt, const struct image_file *f, const struct point_result *r)
{
	char size[HUMAN_LEN], provisioned[HUMAN_LEN], stored[HUMAN_LEN], duration[HUMAN_LEN], rate[HUMAN_LEN];
	uint64_t per_second = r->seconds > 0 ? (uint64_t)((double)r->read / r->seconds) : 0;

	if (opt->json) {
		event(json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:f}", "event", "done", "vm", f->vm, "point", r->point.name, "size",
		    (json_int_t)r->size, "provisioned", (json_int_t)r->provisioned, "read", (json_int_t)r->read, "stored", (json_int_t)r->stored,
		    "seconds", r->seconds));
		return;
	}
	printf("%s@%s: %s disk, %s provisioned, %s stored, %s, %s/s\n", f->vm, r->point.name, human_size(r->size, size),
	    human_size(r->provisioned, provisioned), human_size(r->stored, stored), human_duration(r->seconds, duration), human_size(per_second, rate));
	fflush(stdout);
}

static void
report_failed(const struct run_options *opt, const char *vm, struct err *err)
{
	human_safe(err->text);
	if (opt->json)
		event(json_pack("{s:s, s:s, s:s}", "event", "failed", "vm", vm, "error", err->text));
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

static int
back_up_all(const struct conf_job *job, const struct image_files *files, struct repo *repo, struct lock *lk, const struct run_options *opt)
{
	struct progress progress;
	struct backup_run run = { .job = job, .repo = repo, .lock = lk, .progress = &progress, .interrupted = opt->interrupted, .json = opt->json };
	struct point_result result;
	struct err err = ERR_INIT;
	int rc = 0;

	progress_init(&progress, opt->json, stderr, stdout);
	for (size_t i = 0; i < files->n && !*opt->interrupted; i++) {
		if (backup_image(&run, &files->v[i], &result, &err) == -1) {
			report_failed(opt, files->v[i].vm, &err);
			rc = 1;
		} else
			report_done(opt, &files->v[i], &result);
	}
	if (*opt->interrupted && rc == 0) {
		fprintf(stderr, "virt-backupd: stopped; what was reported done is done\n");
		rc = 1;
	}
	return (rc);
}

int
run_job(const struct conf_job *job, const struct run_options *opt, struct err *err)
{
	struct image_files files = IMAGE_FILES_INIT;
	struct repo *repo = NULL;
	struct lock *lk = NULL;
	int rc = -1;

	if (run_job_unsupported(job, err) == -1 || images_find(job->images.v, job->images.n, &files, err) == -1 ||
	    (repo = repo_open(job->repository->at.path, true, err)) == NULL)
		goto out;
	sweep(repo);
	if ((lk = lock_run(repo->st, PROGRAM, LOCK_WAIT_S, opt->interrupted, err)) == NULL)
		goto out;
	rc = back_up_all(job, &files, repo, lk, opt);
out:
	lock_release(lk);
	repo_close(repo);
	images_free(&files);
	return (rc);
}
