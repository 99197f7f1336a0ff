/* virt-backupctl prune: what a job's "keep" no longer keeps, goes. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "../compacting.h"
#include "base/human.h"
#include "config/conf.h"
#include "options.h"
#include "repository/prune.h"
#include "repository/repo_named.h"

static const char *const action_names[] = {
	[PRUNE_KEEP] = "keep", [PRUNE_UNLIST] = "unlist", [PRUNE_STAY] = "stay", [PRUNE_REMOVE] = "remove",
};

static const char *
why_text(const struct prune_verdict *v, const struct conf_keep *keep, char out[RETAIN_TEXT])
{
	if (v->action == PRUNE_KEEP)
		return (retain_reasons(&v->retain, keep, out));
	if (v->action == PRUNE_UNLIST)
		return ("goes; its data stays, as others need it");
	return ("goes");
}

static void
print_table(const struct prune *p, const struct prune_job *job)
{
	const struct catalog_entry *e;
	char spec[2 * NAMING_MAX], age[HUMAN_LEN], stored[HUMAN_LEN], why[RETAIN_TEXT];

	printf("%-40s %8s %9s %-5s %s\n", "POINT", "AGE", "STORED", "KEPT", "WHY");
	for (size_t i = 0; i < p->catalog.n; i++) {
		e = &p->catalog.v[i];
		if (!p->v[i].judged)
			continue;
		point_spec_format(e->vm, e->point.time, e->point.suffix, spec);
		snprintf(why, sizeof(why), "%s", why_text(&p->v[i], job->keep, (char[RETAIN_TEXT]){ "" }));
		printf("%-40s %8s %9s %-5s %s\n", human_safe(spec), human_age(job->now - e->point.time, age), human_size(e->stored, stored),
		    p->v[i].action == PRUNE_KEEP ? "yes" : "no", why);
	}
}

static void
count_points(const struct prune *p, size_t *gone, size_t *unlisted, size_t *kept)
{
	*gone = *unlisted = *kept = 0;
	for (size_t i = 0; i < p->catalog.n; i++)
		if (p->v[i].judged) {
			*kept += p->v[i].action == PRUNE_KEEP;
			*gone += p->v[i].action != PRUNE_KEEP;
			*unlisted += p->v[i].action == PRUNE_UNLIST;
		}
}

/* What packing has given back. */
static uint64_t
net(const struct compact_stats *packed)
{
	return (packed->freed > packed->written ? packed->freed - packed->written : 0);
}

static void
print_summary(const struct prune *p, const struct prune_job *job, const struct compact_stats *packed, bool dry)
{
	char size[HUMAN_LEN];
	size_t gone, unlisted, kept;

	count_points(p, &gone, &unlisted, &kept);
	printf("%s: %zu point%s %s, %zu %s", job->name, gone, gone == 1 ? "" : "s", dry ? "would go" : "gone", kept, dry ? "would stay" : "kept");
	printf("; %s %s", human_size(dry ? prune_would_free(p) : p->freed + net(packed), size), dry ? "would be freed" : "freed");
	if (unlisted > 0)
		printf("; the data of %zu stays, as other points need it", unlisted);
	if (packed->repacked > 0)
		printf("; %u archive%s packed", packed->repacked, packed->repacked == 1 ? "" : "s");
	putchar('\n');
}

static json_t *
point_json(const struct prune *p, size_t i, const struct prune_job *job)
{
	const struct catalog_entry *e = &p->catalog.v[i];
	const struct prune_verdict *v = &p->v[i];
	char spec[2 * NAMING_MAX], when[RFC3339_LEN], why[RETAIN_TEXT];

	time_rfc3339(e->point.time, when);
	return (json_pack("{s:s, s:s, s:s, s:I, s:I, s:b, s:b, s:s, s:s}", "point", point_spec_format(e->vm, e->point.time, e->point.suffix, spec),
	    "vm", e->vm, "time", when, "age", (json_int_t)(job->now - e->point.time), "stored", (json_int_t)e->stored, "kept",
	    (int)(v->action == PRUNE_KEEP), "protected", (int)e->is_protected, "reasons",
	    v->action == PRUNE_KEEP ? retain_reasons(&v->retain, job->keep, why) : "", "action", action_names[v->action]));
}

static void
print_json(const struct prune *p, const struct prune_job *job, const struct compact_stats *packed, bool dry)
{
	json_t *points = json_array();

	for (size_t i = 0; i < p->catalog.n; i++)
		if (p->v[i].judged)
			json_array_append_new(points, point_json(p, i, job));
	ctl_print_json(json_pack("{s:s, s:b, s:o, s:I, s:I, s:I}", "job", job->name, "dry_run", (int)dry, "points", points, "folders_removed",
	    (json_int_t)(dry ? prune_count(p, PRUNE_REMOVE) : p->done + packed->removed), "archives_packed", (json_int_t)packed->repacked, "freed",
	    (json_int_t)(dry ? prune_would_free(p) : p->freed + net(packed))), JSON_INDENT(2));
}

/* What is damaged is never pruned, and may keep others from being: worth a word. */
static void
warn_damaged(const struct prune *p)
{
	const struct catalog_entry *e;
	struct err text;
	bool held = false;

	for (size_t i = 0; p->v != NULL && i < p->catalog.n; i++) {
		e = &p->catalog.v[i];
		if (e->trouble == NULL)
			continue;
		err_set(&text, 0, "%s", e->trouble);
		fprintf(stderr, "virt-backupctl: warning: %s\n", human_safe(text.text));
		held = held || (e->unclear && e->listed);
	}
	if (held)
		fprintf(stderr, "virt-backupctl: warning: what such a point needs cannot be told, so no data is removed: repair it, or remove its folder\n");
}

/* A job that pulls brings points of other jobs; one that pushes has its own where it pushes to. */
static bool
is_of_replicas(const struct options *o, const struct conf_job *job)
{
	if (job->source == CONF_SOURCE_FROM)
		return (true);
	for (size_t i = 0; o->repository != NULL && i < job->nreplicate; i++)
		if (strcmp(o->repository, job->replicate[i]->name) == 0 || strcmp(o->repository, job->replicate[i]->url) == 0)
			return (true);
	return (false);
}

static int
prune(const struct options *o, const struct conf_job *job, struct err *err)
{
	const char *where = o->repository != NULL ? o->repository : job->repository->name;
	struct prune_job pj = { .name = job->name, .keep = &job->keep, .now = time(NULL), .replicas = is_of_replicas(o, job) };
	struct compact_stats packed = { .written = 0 };
	struct prune p = PRUNE_INIT;
	struct compacting shown;
	struct compact_how how = ctl_compact_how(o, &shown);
	struct repo *r;
	int rc;

	if ((r = repo_open_named(o->config, where, err)) == NULL)
		return (-1);
	rc = o->dry_run ? prune_decide(r, &pj, &p, err) : compact_prune(r, &pj, &how, &p, &packed, err);
	progress_end(&shown.progress);
	warn_damaged(&p);
	if (rc == 0 && job->keep_at.line == 0)
		fprintf(stderr, "virt-backupctl: job %s has no \"keep\": all its points are kept\n", job->name);
	if (rc == 0 && o->json)
		print_json(&p, &pj, &packed, o->dry_run);
	else if (rc == 0) {
		if (o->dry_run)
			print_table(&p, &pj);
		print_summary(&p, &pj, &packed, o->dry_run);
	}
	prune_free(&p);
	repo_close(r);
	return (rc);
}

static void
no_such_job(const struct conf *c, const struct options *o, struct err *err)
{
	char names[sizeof(err->text) / 2] = "";
	size_t used = 0;

	for (size_t i = 0; i < c->njobs && used < sizeof(names); i++)
		used += (size_t)snprintf(names + used, sizeof(names) - used, " %s", c->jobs[i].name);
	err_set(err, 0, "%s has no job \"%.100s\"; it has:%s", o->config, o->args[0], names);
}

int
command_prune(const struct options *o)
{
	struct err err = ERR_INIT;
	const struct conf_job *job;
	struct conf *c;
	int rc = -1;

	if ((c = conf_load(o->config, &err)) == NULL)
		return (ctl_error(&err));
	if ((job = conf_find_job(c, o->args[0])) == NULL)
		no_such_job(c, o, &err);
	else
		rc = prune(o, job, &err);
	conf_free(c);
	return (rc == 0 ? EXIT_DONE : ctl_error(&err));
}
