#include "upkeep_after.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/human.h"
#include "calendar/calendar.h"
#include "compacting.h"
#include "repository/prune.h"

#define PROGRAM		"virt-backupd " OVB_VERSION	/* in locks and notes, for people */
#define NAME		program_invocation_short_name
#define LOCK_WAIT_S	10u		/* it is no harm to leave it to the next run */

int
succeeded_add(struct succeeded *s, const char *machine, struct err *err)
{
	const char **more = realloc(s->v, (s->n + 1) * sizeof(*more));

	if (more == NULL)
		return (err_nomem(err));
	s->v = more;
	more[s->n++] = machine;
	return (0);
}

void
succeeded_free(struct succeeded *s)
{
	free(s->v);
	*s = (struct succeeded)SUCCEEDED_INIT;
}

static void
print_event(json_t *o)
{
	if (o != NULL && json_dumpf(o, stdout, JSON_COMPACT | JSON_ENSURE_ASCII) == 0)
		putchar('\n');
	json_decref(o);
	fflush(stdout);
}

/* Consolidate. */

/* As in prune.h: by the domain's UUID, or the image's name. */
static bool
is_of(const struct catalog_entry *e, const char *job, const char *machine)
{
	return (e->listed && e->trouble == NULL && e->job != NULL && strcmp(e->job, job) == 0 && strcmp(e->uuid != NULL ? e->uuid : e->vm, machine) == 0);
}

/* The machine's newest point, when it has no full archive since ${full} came last; else NULL. */
static const struct catalog_entry *
find_due(const struct catalog *c, const struct calendar *full, const char *job, const char *machine)
{
	const struct catalog_entry *newest = NULL, *last = NULL;
	time_t due;

	for (size_t i = 0; i < c->n; i++) {
		const struct catalog_entry *e = &c->v[i];

		if (!is_of(e, job, machine))
			continue;
		if (newest == NULL || e->point.time >= newest->point.time)
			newest = e;
		if (e->full && (last == NULL || e->point.time > last->point.time))
			last = e;
	}
	if (newest == NULL || newest->full)
		return (NULL);
	if (last == NULL)
		return (newest);
	return (calendar_next(full, last->point.time, &due) && due <= newest->point.time ? newest : NULL);
}

static void
report_consolidated(const struct catalog_entry *e, const struct compact_stats *s, const struct run_options *opt)
{
	char spec[2 * NAMING_MAX], size[HUMAN_LEN];

	point_spec_format(e->vm, e->point.time, e->point.suffix, spec);
	if (opt->json)
		print_event(json_pack("{s:s, s:s, s:I, s:I, s:I}", "event", "consolidated", "point", spec, "written", (json_int_t)s->written, "copied",
		    (json_int_t)s->copied, "freed", (json_int_t)s->freed));
	else
		printf("%s: now a full archive of %s\n", human_safe(spec), human_size(s->written, size));
	fflush(stdout);
}

static int
consolidate(struct repo *r, const struct catalog_entry *e, const struct compact_how *how, const struct run_options *opt)
{
	struct compact_stats stats;
	struct err err = ERR_INIT;
	int rc = compact_consolidate(r, &e->point, how, &stats, &err);

	progress_end(&((struct compacting *)how->arg)->progress);
	if (rc == 0)
		report_consolidated(e, &stats, opt);
	else
		fprintf(stderr, "%s: the full archive that is due was not made; the next run tries again: %s\n", NAME, human_safe(err.text));
	return (rc);
}

static int
consolidate_due(struct repo *r, const struct conf_job *job, const struct succeeded *done, const struct compact_how *how, const struct run_options *opt)
{
	struct catalog c = CATALOG_INIT;
	struct calendar *full = NULL;
	const struct catalog_entry *e;
	struct err err = ERR_INIT;
	int rc = -1;

	if ((full = calendar_parse(job->full, &err)) == NULL || catalog_load(r, &c, &err) == -1) {
		fprintf(stderr, "%s: job %s: cannot tell whether a full archive is due: %s\n", NAME, job->name, human_safe(err.text));
		goto out;
	}
	rc = 0;
	for (size_t i = 0; i < done->n && !*opt->interrupted; i++)
		if ((e = find_due(&c, full, job->name, done->v[i])) != NULL && consolidate(r, e, how, opt) == -1)
			rc = -1;
out:
	calendar_free(full);
	catalog_free(&c);
	return (rc);
}

/* Prune. */

static size_t
points_gone(const struct prune *p)
{
	size_t points = 0;

	for (size_t i = 0; i < p->catalog.n; i++)
		points += p->v[i].judged && p->v[i].action != PRUNE_KEEP ? 1 : 0;
	return (points);
}

static void
report(const struct prune *p, const struct compact_stats *packed, const struct run_options *opt)
{
	uint64_t freed = p->freed + (packed->freed > packed->written ? packed->freed - packed->written : 0);
	size_t points = points_gone(p);
	char size[HUMAN_LEN];

	if (opt->json)
		print_event(json_pack("{s:s, s:I, s:I, s:I, s:I}", "event", "pruned", "points", (json_int_t)points, "folders",
		    (json_int_t)(p->done + packed->removed), "archives_packed", (json_int_t)packed->repacked, "freed", (json_int_t)freed));
	else if (points > 0 || p->done > 0 || packed->removed > 0)
		printf("pruned %zu point%s, %s freed\n", points, points == 1 ? "" : "s", human_size(freed, size));
	fflush(stdout);
}

/* A point that cannot be read is never pruned, and its job is not known. */
static void
warn_damaged(const struct prune *p)
{
	struct err text = ERR_INIT;

	for (size_t i = 0; p->v != NULL && i < p->catalog.n; i++)
		if (p->catalog.v[i].trouble != NULL) {
			err_set(&text, 0, "%s", p->catalog.v[i].trouble);
			fprintf(stderr, "%s: warning: not pruned: %s%s\n", NAME, human_safe(text.text), p->catalog.v[i].unclear &&
			    p->catalog.v[i].listed ? "; no data is removed, as it cannot be told what this point needs: repair it, or remove its folder" : "");
		}
}

/* How many points went is in ${gone}. */
static int
prune(struct repo *r, const struct prune_job *pj, const struct compact_how *how, const struct run_options *opt, size_t *gone)
{
	struct compact_stats packed;
	struct prune p = PRUNE_INIT;
	struct err err = ERR_INIT;
	int rc = compact_prune(r, pj, how, &p, &packed, &err);

	progress_end(&((struct compacting *)how->arg)->progress);
	*gone = rc == 0 ? points_gone(&p) : 0;
	if (rc == 0)
		report(&p, &packed, opt);
	warn_damaged(&p);
	if (rc == -1 && err.code == EBUSY) {
		fprintf(stderr, "%s: not pruned now; the next run does it: %s\n", NAME, human_safe(err.text));
		rc = 0;
	} else if (rc == -1)
		fprintf(stderr, "%s: job %s: cannot prune: %s\n", NAME, pj->name, human_safe(err.text));
	prune_free(&p);
	return (rc);
}

static struct compact_how
how_to(const struct run_options *opt, struct compacting *shown)
{
	struct compact_how how = compacting_begin(shown, NAME, opt->json ? PROGRESS_JSON : PROGRESS_BAR);

	how.program = PROGRAM;
	how.wait_s = LOCK_WAIT_S;
	how.stop = opt->interrupted;
	return (how);
}

int
upkeep_replicas(struct repo *r, const struct conf_job *job, const char *from, const struct run_options *opt)
{
	struct prune_job pj = { .name = job->name, .keep = &job->keep, .now = time(NULL), .replicas = true, .from = from };
	struct compacting shown;
	struct compact_how how = how_to(opt, &shown);
	size_t gone;

	return (prune(r, &pj, &how, opt, &gone) == -1 ? 1 : 0);
}

int
upkeep_after(struct repo *r, const struct conf_job *job, const struct succeeded *done, const struct run_options *opt)
{
	struct compacting shown;
	struct compact_how how = how_to(opt, &shown);
	struct prune_job pj = { .name = job->name, .keep = &job->keep, .now = time(NULL), .machines = done->v, .nmachines = done->n };
	size_t gone = 0;
	int rc = 0;

	how.compression = &job->compression;
	if (job->full != NULL && done->n > 0 && !*opt->interrupted && consolidate_due(r, job, done, &how, opt) == -1)
		rc = 1;
	how.compression = NULL;		/* an archive that is packed stays what it is */
	if (job->keep_at.line != 0 && done->n > 0 && !*opt->interrupted && prune(r, &pj, &how, opt, &gone) == -1)
		rc = 1;
	/* The last full archive may have gone with its point. */
	how.compression = &job->compression;
	if (job->full != NULL && gone > 0 && !*opt->interrupted && consolidate_due(r, job, done, &how, opt) == -1)
		rc = 1;
	return (rc);
}
