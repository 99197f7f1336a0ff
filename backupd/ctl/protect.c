/* virt-backupctl protect, unprotect: whether pruning may ever let go of a restore point. */
#include <errno.h>
#include <stdio.h>

#include "base/human.h"
#include "options.h"
#include "repository/repo_named.h"

/* A run's lock: whoever prunes holds the repository alone.  A full disk has no room for one, but room for a sweeper's. */
static struct lock *
take_lock(struct repo *r, struct err *err)
{
	struct lock *lk = lock_run(r->st, PROGRAM, LOCK_WAIT_S, &interrupted, err);

	if (lk == NULL && err->code == ENOSPC)
		lk = lock_alone_wait(r->st, PROGRAM, LOCK_WAIT_S, &interrupted, err);
	return (lk);
}

static int
set_protected(const struct options *o, bool yes)
{
	struct repo *r;
	struct manifest m = MANIFEST_INIT;
	struct err err = ERR_INIT;
	struct lock *lk = NULL;
	char spec[2 * NAMING_MAX];
	struct point p;
	int rc = -1;

	if ((r = repo_open_named(o->config, o->repository, &err)) == NULL)
		return (ctl_error(&err));
	if ((lk = take_lock(r, &err)) == NULL || repo_find(r, o->args[0], &p, &err) == -1 || repo_manifest(r, &p, &m, &err) == -1)
		goto out;
	if (repo_protect(r, &p, yes, &err) == -1)
		goto out;
	point_spec_format(m.vm, p.time, p.suffix, spec);
	if (o->json)
		ctl_print_json(json_pack("{s:s, s:s}", "event", yes ? "protected" : "unprotected", "point", spec), JSON_COMPACT);
	else
		printf("%s: %s\n", human_safe(spec), yes ? "protected" : "no longer protected");
	rc = EXIT_DONE;
out:
	lock_release(lk);
	manifest_free(&m);
	repo_close(r);
	return (rc == EXIT_DONE ? rc : ctl_error(&err));
}

int
command_protect(const struct options *o)
{
	return (set_protected(o, true));
}

int
command_unprotect(const struct options *o)
{
	return (set_protected(o, false));
}
