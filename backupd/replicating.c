#include "replicating.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/document.h"
#include "base/human.h"
#include "base/progress.h"
#include "repository/repo_named.h"
#include "store/throttle.h"
#include "upkeep_after.h"

#define LOCK_WAIT_S	60u
#define BY_HAND		"(by hand)"		/* no job's name */

/* What came of one machine. */
struct came {
	char		*vm, *point;
	uint64_t	 stored, sent;
	double		 seconds;
	bool		 failed;
};

struct showing {
	const struct replicating	*r;
	struct progress			 progress;
	struct throttle			*throttle;	/* of the job's rate_limit; NULL: it has none */
	struct came			*v;
	size_t				 n;
};

static const char *
end_name(const struct replica_end *e)
{
	return (e->conf != NULL ? e->conf->name : e->url);
}

static struct repo *
open_end(const struct replica_end *e, bool make, struct err *err)
{
	return (e->conf != NULL ? repo_open_configured(e->conf, make, err) : repo_open(e->url, make, err));
}

static struct repo *
open_from(void *arg, struct err *err)
{
	return (open_end(&((struct showing *)arg)->r->from, false, err));
}

static struct repo *
open_to(void *arg, struct err *err)
{
	struct showing *sh = arg;
	struct repo *to = open_end(&sh->r->to, true, err);

	/* Together they keep to it. */
	if (to != NULL)
		store_throttle(to->st, sh->throttle);
	return (to);
}

static void
event(json_t *o)
{
	if (o != NULL && json_dumpf(o, stdout, JSON_COMPACT | JSON_ENSURE_ASCII) == 0)
		putchar('\n');
	fflush(stdout);
	json_decref(o);
}

static void
begin(void *arg, size_t points, uint64_t bytes)
{
	struct showing *sh = arg;
	char label[128];

	if (sh->r->json)
		event(json_pack("{s:s, s:s, s:I}", "event", "begin", "vm", end_name(&sh->r->to), "machines", (json_int_t)1));
	snprintf(label, sizeof(label), "%zu point%s to %.80s", points, points == 1 ? "" : "s", end_name(&sh->r->to));
	progress_begin(&sh->progress, label, bytes);
}

static void
tick(void *arg, uint64_t done)
{
	struct showing *sh = arg;

	progress_update(&sh->progress, done);
}

static bool
is_remote(const struct replica_end *e)
{
	return (e->conf != NULL ? e->conf->at.kind == CONF_URL_SFTP : e->url != NULL && strncmp(e->url, "sftp:", 5) == 0);
}

/* A run has one outcome for each machine; without memory for it, it has none. */
static struct came *
machine(struct showing *sh, const char *vm)
{
	struct came *v;

	for (size_t i = 0; i < sh->n; i++)
		if (strcmp(sh->v[i].vm, vm) == 0)
			return (&sh->v[i]);
	if ((v = realloc(sh->v, (sh->n + 1) * sizeof(*v))) == NULL)
		return (NULL);
	sh->v = v;
	v = &sh->v[sh->n];
	*v = (struct came){ .vm = strdup(vm) };
	if (v->vm == NULL)
		return (NULL);
	sh->n++;
	return (v);
}

static void
sent(void *arg, const struct replicated *p)
{
	struct showing *sh = arg;
	char spec[2 * NAMING_MAX], stored[HUMAN_LEN], took[HUMAN_LEN];
	struct came *c = machine(sh, p->vm);
	uint64_t over_line = is_remote(&sh->r->to) ? p->stored - p->resumed : 0;

	if (c != NULL && !p->as_pruned) {
		free(c->point);
		c->point = strdup(p->here);
	}
	if (c != NULL) {
		c->stored += p->stored;
		c->sent += over_line;
		c->seconds += p->seconds;
	}
	if (sh->r->json) {
		event(json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:f}", "event", "replicated", "to", end_name(&sh->r->to), "vm", p->vm, "point", p->here, "stored",
		    (json_int_t)p->stored, "resumed", (json_int_t)p->resumed, "sent", (json_int_t)over_line, "seconds", p->seconds));
		return;
	}
	progress_end(&sh->progress);
	snprintf(spec, sizeof(spec), "%s", p->spec);
	printf("%s: %s in %s%s%s\n", human_safe(spec), human_size(p->stored, stored), human_duration(p->seconds, took),
	    p->as_pruned ? ", only as others need it" : "", p->resumed > 0 ? ", gone on with what had arrived" : "");
	fflush(stdout);
}

static void
failed(void *arg, const char *spec, const char *vm, const struct err *why)
{
	struct showing *sh = arg;
	struct came *c = machine(sh, vm);
	struct err text;

	if (c != NULL)
		c->failed = true;
	err_set(&text, 0, "%s", why->text);
	human_safe(text.text);
	if (sh->r->json)
		event(json_pack("{s:s, s:s, s:s, s:s, s:o}", "event", "replication", "to", end_name(&sh->r->to), "vm", vm, "point", spec, "error",
		    doc_string(text.text)));
	else {
		progress_end(&sh->progress);
		fprintf(stderr, "%s: %s was not copied: %s\n", program_invocation_short_name, spec, text.text);
	}
}

/* Of a job that pulls, each machine is one of the run's. */
static void
report_machines(const struct showing *sh)
{
	for (size_t i = 0; i < sh->n && sh->r->json && sh->r->pull; i++) {
		const struct came *c = &sh->v[i];

		if (c->failed)
			event(json_pack("{s:s, s:s, s:I, s:s}", "event", "failed", "vm", c->vm, "sent", (json_int_t)c->sent, "error", "not all of its points could be copied"));
		else
			event(json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:f}", "event", "done", "vm", c->vm, "point", c->point != NULL ? c->point : "", "kind",
			    "replica", "stored", (json_int_t)c->stored, "sent", (json_int_t)c->sent, "seconds", c->seconds));
	}
}

static void
report(const struct showing *sh, const struct replicate_stats *s, bool broken)
{
	char bytes[HUMAN_LEN], took[HUMAN_LEN], resumed[HUMAN_LEN], more[256] = "", before[64] = "";
	size_t used = 0;

	if (sh->r->json) {
		event(json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f}", "event", "replication", "to", end_name(&sh->r->to), "sent",
		    (json_int_t)s->sent, "archives", (json_int_t)s->archives, "present", (json_int_t)s->present, "failed", (json_int_t)s->failed, "vanished",
		    (json_int_t)s->vanished, "bytes", (json_int_t)s->bytes, "resumed", (json_int_t)s->resumed, "seconds", s->seconds));
		return;
	}
	if (s->archives > 0)
		used += (size_t)snprintf(more + used, sizeof(more) - used, ", %zu archive%s that they need", s->archives, s->archives == 1 ? "" : "s");
	if (s->vanished > 0)
		snprintf(more + used, sizeof(more) - used, ", %zu gone at the source meanwhile", s->vanished);
	if (s->resumed > 0)
		snprintf(before, sizeof(before), ", of which %s had arrived before", human_size(s->resumed, resumed));
	printf("%s to %s: %zu point%s copied%s, %zu there before; %s in %s%s%s\n", end_name(&sh->r->from), end_name(&sh->r->to), s->sent, s->sent == 1 ? "" : "s",
	    more, s->present, human_size(s->bytes, bytes), human_duration(s->seconds, took), before, broken ? ", then broken off" : "");
	fflush(stdout);
}

/* How many connections at once, and how much is read back: as either end has it that is a server. */
static int
most(const struct replicating *r, int of_from, int of_to, int otherwise)
{
	int n = of_from > of_to ? of_from : of_to;

	return (n > 0 ? n : is_remote(&r->from) || is_remote(&r->to) ? otherwise : 1);
}

static int
upkeep(struct showing *sh, const struct replicate_stats *s, struct err *err)
{
	const struct replicating *r = sh->r;
	struct run_options opt = { .json = r->json, .interrupted = r->interrupted };
	struct repo *to;
	int rc;

	if (r->job == NULL || r->job->keep_at.line == 0 || *r->interrupted)
		return (0);
	if ((to = open_end(&r->to, false, err)) == NULL)
		return (-1);
	store_throttle(to->st, sh->throttle);
	rc = upkeep_replicas(to, r->job, s->from, &opt);
	repo_close(to);
	return (rc);
}

int
replicating_run(const struct replicating *r, struct err *err)
{
	struct showing sh = { .r = r };
	const struct conf_repository *f = r->from.conf, *t = r->to.conf;
	struct replicate how = { .program = r->program, .job = r->job != NULL ? r->job->name : BY_HAND, .vm = r->only, .wait_s = LOCK_WAIT_S,
		.of_job = r->job != NULL && r->job->source != CONF_SOURCE_FROM ? r->job->name : NULL, .newer_only = r->job != NULL && r->job->keep_at.line != 0, .no_future = r->pull,
		.parallel = (unsigned int)most(r, f != NULL ? f->parallel : 0, t != NULL ? t->parallel : 0, CONF_PARALLEL),
		.read_back = t != NULL && t->read_back >= 0 ? (unsigned int)t->read_back : CONF_READ_BACK, .stop = r->interrupted,
		.open_from = open_from, .open_to = open_to, .begin = begin, .tick = tick, .sent = sent, .failed = failed, .arg = &sh };
	struct replicate_stats stats;
	int rc, kept;

	if (r->job != NULL && r->job->rate_limit > 0 && (sh.throttle = throttle_new(r->job->rate_limit, r->interrupted, err)) == NULL)
		return (-1);
	progress_init(&sh.progress, r->json, stderr, stdout);
	sh.progress.limit = r->job != NULL ? r->job->rate_limit : 0;
	rc = replicate_run(&how, &stats, err);
	progress_end(&sh.progress);
	report_machines(&sh);
	if (rc == 0 || stats.sent > 0)
		report(&sh, &stats, rc == -1);
	if (rc == 0 && stats.older > 0 && stats.sent == 0 && !r->json)
		printf("%zu older than what came before, which the job's \"keep\" may have let go of, stay where they are\n", stats.older);
	for (size_t i = 0; i < sh.n; i++) {
		free(sh.v[i].vm);
		free(sh.v[i].point);
	}
	free(sh.v);
	kept = rc == -1 ? 0 : upkeep(&sh, &stats, err);
	throttle_free(sh.throttle);
	if (rc == -1)
		return (err_wrap(err, "replication from %s to %s", end_name(&r->from), end_name(&r->to)));
	return (kept == -1 ? -1 : kept != 0 || stats.failed > 0 ? 1 : 0);
}

/* That a copy could not be made is a failure of the run; what was backed up is there. */
static void
report_replication(const struct run_options *opt, const char *to, struct err *err)
{
	human_safe(err->text);
	if (opt->json)
		event(json_pack("{s:s, s:s, s:o}", "event", "replication", "to", to, "error", doc_string(err->text)));
	else
		fprintf(stderr, "%s: %s\n", program_invocation_short_name, err->text);
}

int
replicate_job(const struct conf_job *job, const struct run_options *opt, const char *program, struct err *err)
{
	struct replicating r = { .program = program, .job = job, .only = opt->only, .json = opt->json, .interrupted = opt->interrupted };
	int rc = 0, one;

	if (job->source == CONF_SOURCE_FROM) {
		r.from.conf = job->from;
		r.to.conf = job->repository;
		r.pull = true;
		if ((one = replicating_run(&r, err)) != 0)
			return (one);
		/* From here it may go on to others. */
	}
	r.pull = false;
	r.from.conf = job->repository;
	for (size_t i = 0; i < job->nreplicate && !*opt->interrupted; i++) {
		r.to.conf = job->replicate[i];
		if ((one = replicating_run(&r, err)) == -1)
			report_replication(opt, job->replicate[i]->name, err);
		rc |= one != 0;
	}
	return (rc);
}
