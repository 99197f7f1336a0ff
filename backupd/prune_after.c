#include "prune_after.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "human.h"
#include "prune.h"

#define PROGRAM		"virt-backupd " OVB_VERSION
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
report(const struct prune *p, const struct run_options *opt)
{
	char size[HUMAN_LEN];
	size_t points = 0;
	json_t *o;

	for (size_t i = 0; i < p->catalog.n; i++)
		points += p->v[i].judged && p->v[i].action != PRUNE_KEEP ? 1 : 0;
	if (opt->json) {
		o = json_pack("{s:s, s:I, s:I, s:I}", "event", "pruned", "points", (json_int_t)points, "folders", (json_int_t)p->done, "freed",
		    (json_int_t)p->freed);
		if (o != NULL && json_dumpf(o, stdout, JSON_COMPACT | JSON_ENSURE_ASCII) == 0)
			putchar('\n');
		json_decref(o);
	} else if (points > 0 || p->done > 0)
		printf("pruned %zu point%s, %s freed\n", points, points == 1 ? "" : "s", human_size(p->freed, size));
	fflush(stdout);
}

static int
prune_locked(struct repo *r, const struct prune_job *pj, const struct run_options *opt, struct prune *p, struct err *err)
{
	struct lock *lk = lock_alone_wait(r->st, PROGRAM, LOCK_WAIT_S, opt->interrupted, err);
	int rc;

	if (lk == NULL)
		return (-1);
	if ((rc = prune_run(r, lk, pj, opt->interrupted, p, err)) == -1)
		err->code = 0;		/* whatever EBUSY it was, it was not the lock's */
	return (lock_end(lk, rc == 0 ? err : &(struct err)ERR_INIT) == -1 ? -1 : rc);
}

/* A point that cannot be read is never pruned, and its job is not known. */
static void
warn_damaged(const struct prune *p)
{
	struct err text = ERR_INIT;

	for (size_t i = 0; p->v != NULL && i < p->catalog.n; i++)
		if (p->catalog.v[i].trouble != NULL) {
			err_set(&text, 0, "%s", p->catalog.v[i].trouble);
			fprintf(stderr, "virt-backupd: warning: not pruned: %s%s\n", human_safe(text.text), p->catalog.v[i].unclear &&
			    p->catalog.v[i].listed ? "; no data is removed, as it cannot be told what this point needs: repair it, or remove its folder" : "");
		}
}

int
prune_after(struct repo *r, const struct conf_job *job, const struct succeeded *done, const struct run_options *opt)
{
	struct prune_job pj = { .name = job->name, .keep = &job->keep, .now = time(NULL), .machines = done->v, .nmachines = done->n };
	struct prune p = PRUNE_INIT;
	struct err err = ERR_INIT;
	int rc;

	if (job->keep_at.line == 0 || done->n == 0 || *opt->interrupted)
		return (0);
	if ((rc = prune_locked(r, &pj, opt, &p, &err)) == 0)
		report(&p, opt);
	warn_damaged(&p);
	if (rc == -1 && err.code == EBUSY) {
		fprintf(stderr, "virt-backupd: not pruned now; the next run does it: %s\n", human_safe(err.text));
		rc = 0;
	} else if (rc == -1)
		fprintf(stderr, "virt-backupd: job %s: cannot prune: %s\n", job->name, human_safe(err.text));
	prune_free(&p);
	return (rc == 0 ? 0 : 1);
}
