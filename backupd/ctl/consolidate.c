/* virt-backupctl consolidate: a restore point becomes a full archive, which stock tar restores. */
#include <stdio.h>

#include "../compacting.h"
#include "base/human.h"
#include "options.h"
#include "repository/repo_named.h"

static void
print_outcome(const struct options *o, char *spec, const struct compact_stats *s)
{
	char size[HUMAN_LEN], copied[HUMAN_LEN], freed[HUMAN_LEN];

	if (o->json)
		ctl_print_json(json_pack("{s:s, s:s, s:b, s:b, s:I, s:I, s:I}", "event", "consolidated", "point", spec, "already_full", (int)s->already,
		    "pending", (int)s->pending, "written", (json_int_t)s->written, "copied", (json_int_t)s->copied, "freed", (json_int_t)s->freed),
		    JSON_COMPACT);
	else if (s->already)
		printf("%s: is a full archive already\n", human_safe(spec));
	else {
		printf("%s: now a full archive of %s, %s of it (%.0f %%) copied as it stood; %s freed\n", human_safe(spec), human_size(s->written, size),
		    human_size(s->copied, copied), s->written > 0 ? 100.0 * (double)s->copied / (double)s->written : 0, human_size(s->freed, freed));
		if (s->pending)
			printf("others use the repository: it takes its place with the next run or prune, and readers find it already\n");
	}
}

int
command_consolidate(const struct options *o)
{
	struct manifest m = MANIFEST_INIT;
	struct err err = ERR_INIT;
	struct compact_stats stats;
	char spec[2 * NAMING_MAX];
	struct compacting shown;
	struct compact_how how = ctl_compact_how(o, &shown);
	struct repo *r;
	struct point p;
	int rc = -1;

	if ((r = repo_open_named(o->config, o->repository, &err)) == NULL)
		return (ctl_error(&err));
	if (repo_find(r, o->args[0], &p, &err) == 0 && repo_manifest(r, &p, &m, &err) == 0) {
		point_spec_format(m.vm, p.time, p.suffix, spec);
		rc = compact_consolidate(r, &p, &how, &stats, &err);
	}
	progress_end(&shown.progress);
	if (rc == 0)
		print_outcome(o, spec, &stats);
	manifest_free(&m);
	repo_close(r);
	return (rc == 0 ? EXIT_DONE : ctl_error(&err));
}
