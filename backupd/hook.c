#include "hook.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command.h"
#include "deadline.h"

#define SIGN_MS		5000	/* how often a run whose hook takes long shows that it lives */
#define OWN_MAX		20

extern char **environ;

static const char *const names[] = { "before_job", "after_job", "before_domain", "after_domain" };

/* Its environment: ours, without what is ours alone, and the facts. */
struct environment {
	char	**v;
	size_t	  n, max;
	char	 *own[OWN_MAX];		/* of these, what is to be freed */
	size_t	  nown;
};

static bool
is_ours(const char *entry)
{
	static const char *const prefixes[] = { "OVB_", "NOTIFY_SOCKET=", "WATCHDOG_", "LISTEN_", "JOURNAL_STREAM=" };

	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
		if (strncmp(entry, prefixes[i], strlen(prefixes[i])) == 0)
			return (true);
	return (false);
}

static int
set(struct environment *e, const char *name, const char *value, struct err *err)
{
	char *entry = NULL;

	if (e->nown == OWN_MAX || asprintf(&entry, "OVB_%s=%s", name, value != NULL ? value : "") == -1)
		return (err_nomem(err));
	e->own[e->nown++] = entry;
	e->v[e->n++] = entry;
	return (0);
}

static int
set_number(struct environment *e, const char *name, unsigned int value, struct err *err)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", value);
	return (set(e, name, text, err));
}

static int
make_environment(struct environment *e, const struct conf_job *job, enum conf_hook which, const struct hook_facts *f, struct err *err)
{
	char point[1024] = "";

	while (environ[e->max] != NULL)
		e->max++;
	if ((e->v = calloc(e->max + OWN_MAX + 1, sizeof(*e->v))) == NULL)
		return (err_nomem(err));
	for (size_t i = 0; i < e->max; i++)
		if (!is_ours(environ[i]))
			e->v[e->n++] = environ[i];
	if (f->vm != NULL && f->point != NULL)
		snprintf(point, sizeof(point), "%s@%s", f->vm, f->point);
	return (set(e, "HOOK", names[which], err) == -1 || set(e, "JOB", job->name, err) == -1 || set(e, "RUN", getenv("OVB_RUN"), err) == -1 ||
	    set(e, "REPOSITORY", job->repository->url, err) == -1 || set(e, "VM", f->vm, err) == -1 || set(e, "POINT", point, err) == -1 ||
	    set(e, "KIND", f->kind, err) == -1 || set(e, "CONSISTENCY", f->consistency, err) == -1 || set(e, "RESULT", f->result, err) == -1 ||
	    set(e, "ERROR", f->error, err) == -1 || set_number(e, "SUCCEEDED", f->succeeded, err) == -1 || set_number(e, "FAILED", f->failed, err) == -1 ? -1 : 0);
}

static void
free_environment(struct environment *e)
{
	for (size_t i = 0; i < e->nown; i++)
		free(e->own[i]);
	free(e->v);
}

struct listener {
	const char	*name;
	bool		 json;
	int64_t		 sign_ms;
};

static void
show_sign(struct listener *l)
{
	l->sign_ms = deadline_now();
	if (!l->json)
		return;
	printf("{\"event\":\"hook\",\"hook\":\"%s\"}\n", l->name);
	fflush(stdout);
}

static void
on_line(void *arg, const char *text)
{
	struct listener *l = arg;

	if (text != NULL)
		fprintf(stderr, "virt-backupd: hook %s says: %s\n", l->name, text);
	else if (deadline_now() - l->sign_ms >= SIGN_MS)
		show_sign(l);
}

int
hook_run(const struct conf_job *job, enum conf_hook which, const struct hook_facts *f, const struct run_options *opt, struct err *err)
{
	const char *const argv[] = { "/bin/sh", "-c", job->hooks.command[which], NULL };
	bool before = which == CONF_HOOK_BEFORE_JOB || which == CONF_HOOK_BEFORE_DOMAIN;
	struct listener l = { .name = names[which], .json = opt->json };
	struct command c = { .argv = argv, .timeout_ms = (int64_t)job->hooks.timeout * 1000, .stop = before ? opt->interrupted : NULL, .line = on_line,
		.arg = &l };
	struct environment e = { .v = NULL };
	int rc = -1;

	if (argv[2] == NULL)
		return (0);
	show_sign(&l);
	if (make_environment(&e, job, which, f, err) == 0) {
		c.env = e.v;
		rc = command_run(&c, err);
	}
	free_environment(&e);
	return (rc == 0 ? 0 : err_wrap(err, "hook %s", names[which]));
}
