#include "run_outcome.h"

#include <stdio.h>
#include <string.h>

#include "base/human.h"
#include "hook.h"

#define LINES_MAX	16384u	/* bytes */

static void
add_line(struct run_outcome *o, const char *text)
{
	struct err ignored = ERR_INIT;

	if (o->lines.len < LINES_MAX)
		(void)buf_addf(&o->lines, &ignored, "%s\n", o->lines.len + strlen(text) + 1 < LINES_MAX ? text : "(and more)");
}

static void
add_failure(struct run_outcome *o, const char *vm, const char *error)
{
	char text[1200];

	if (o->failed++ == 0)
		snprintf(o->error, sizeof(o->error), "%.300s: %.700s", vm, error);
	snprintf(text, sizeof(text), "%.300s: failed: %.800s", vm, error);
	add_line(o, text);
}

/* One that comes after something: nothing can be made undone by its failure. */
static void
after(const struct conf_job *job, enum conf_hook which, const struct hook_facts *f, const struct run_options *opt)
{
	struct err err = ERR_INIT;

	if (hook_run(job, which, f, opt, &err) == -1)
		fprintf(stderr, "virt-backupd: warning: %s\n", human_safe(err.text));
}

int
run_begins(const struct conf_job *job, const struct run_options *opt, struct err *err)
{
	struct hook_facts f = { .vm = NULL };

	return (hook_run(job, CONF_HOOK_BEFORE_JOB, &f, opt, err));
}

int
run_machine_begins(const struct conf_job *job, const struct run_options *opt, const char *vm, struct err *err)
{
	struct hook_facts f = { .vm = vm, .succeeded = opt->outcome->succeeded, .failed = opt->outcome->failed };

	return (hook_run(job, CONF_HOOK_BEFORE_DOMAIN, &f, opt, err));
}

void
run_machine_done(const struct conf_job *job, const struct run_options *opt, const char *vm, const struct point_result *r)
{
	struct run_outcome *o = opt->outcome;
	struct hook_facts f = { .vm = vm, .point = r->point.name, .kind = r->incremental ? "incremental" : "full", .consistency = r->consistency,
		.result = "succeeded", .succeeded = ++o->succeeded, .failed = o->failed };
	char text[1200], stored[HUMAN_LEN];

	snprintf(text, sizeof(text), "%.600s@%.100s: %s, %s, %s stored", vm, f.point, f.kind, f.consistency, human_size(r->stored, stored));
	add_line(o, text);
	after(job, CONF_HOOK_AFTER_DOMAIN, &f, opt);
}

void
run_machine_failed(const struct conf_job *job, const struct run_options *opt, const char *vm, const char *error)
{
	struct hook_facts f = { .vm = vm, .result = "failed", .error = error };

	add_failure(opt->outcome, vm, error);
	f.succeeded = opt->outcome->succeeded;
	f.failed = opt->outcome->failed;
	after(job, CONF_HOOK_AFTER_DOMAIN, &f, opt);
}

void
run_machine_unsettled(const struct run_options *opt, const char *vm, const char *error)
{
	add_failure(opt->outcome, vm, error);
}

void
run_ended(const struct conf_job *job, const struct run_options *opt, int rc, const char *error)
{
	struct run_outcome *o = opt->outcome;
	struct hook_facts f = { .result = rc == 0 ? "succeeded" : "failed", .succeeded = o->succeeded, .failed = o->failed };

	if (rc == -1)
		snprintf(o->error, sizeof(o->error), "%s", error);
	else if (rc != 0 && o->error[0] == '\0')
		snprintf(o->error, sizeof(o->error), "%s", *opt->interrupted ? "the run was stopped" : "what follows the backups failed: see the run's output");
	f.error = o->error;
	after(job, CONF_HOOK_AFTER_JOB, &f, opt);
}

void
run_outcome_free(struct run_outcome *o)
{
	buf_free(&o->lines);
}
