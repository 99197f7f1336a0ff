/*
 * Upkeep of a repository as tests want it, step by step:
 *
 *	compact consolidate REPOSITORY VM@TIME [CODEC]	prints "copied N %", "already full" or "pending"
 *	compact write REPOSITORY VM@TIME			only its first half, under a run's lock
 *	compact sweep REPOSITORY
 *	compact retire REPOSITORY VM@TIME			the point is pruned, whether its archive is used or not
 *	compact after-prune REPOSITORY			prints "removed N, repacked N, written N, copied N, freed N"
 *	compact dead REPOSITORY VM@TIME			prints the share; VM@TIME as for retire, or a folder's name VM/NAME
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "repository/compact.h"

#define PROGRAM "compact-test"

static void
say(void *arg, const char *text)
{
	(void)arg;
	printf("%s\n", text);
}

static int
consolidate(struct repo *r, const struct point *p, const char *codec, bool half, struct err *err)
{
	struct compression z = COMPRESSION_DEFAULT;
	struct compact_how how = { .program = PROGRAM, .wait_s = 5, .say = say };
	struct compact_stats stats = { .written = 0 };
	struct lock *lk;
	int rc;

	if (codec != NULL) {
		if (compression_parse(codec, &z, err) == -1)
			return (-1);
		how.compression = &z;
	}
	if (half) {
		if ((lk = lock_run(r->st, PROGRAM, 5, NULL, err)) == NULL)
			return (-1);
		rc = compact_write(r, lk, p, &how, &stats, err);
		lock_release(lk);
	} else
		rc = compact_consolidate(r, p, &how, &stats, err);
	if (rc == -1)
		return (-1);
	if (stats.already)
		printf("already full\n");
	else if (stats.pending)
		printf("pending\n");
	else
		printf("copied %.0f %%\n", stats.written > 0 ? (double)stats.copied * 100 / (double)stats.written : 0);
	return (0);
}

static int
alone(struct repo *r, const char *what, const struct point *p, struct err *err)
{
	struct compact_how how = { .program = PROGRAM, .say = say };
	struct compact_stats stats;
	struct lock *lk = lock_alone(r->st, PROGRAM, err);
	double share;
	int rc;

	if (lk == NULL)
		return (-1);
	if (strcmp(what, "retire") == 0)
		rc = repo_settle(r, lk, err) == -1 ? -1 : repo_unlist(r, p, err);
	else if (strcmp(what, "dead") == 0) {
		if ((rc = compact_dead_share(r, p, &share, err)) == 0)
			printf("%.3f\n", share);
	} else if ((rc = compact_after_prune(r, lk, &how, &stats, err)) == 0)
		printf("removed %u, repacked %u, written %llu, copied %llu, freed %llu\n", stats.removed, stats.repacked,
		    (unsigned long long)stats.written, (unsigned long long)stats.copied, (unsigned long long)stats.freed);
	lock_release(lk);
	return (rc);
}

static int
find(struct repo *r, const char *spec, struct point *p, struct err *err)
{
	const char *slash = strchr(spec, '/');

	if (slash == NULL)
		return (repo_find(r, spec, p, err));
	snprintf(p->folder, sizeof(p->folder), "%.*s", (int)(slash - spec), spec);
	snprintf(p->name, sizeof(p->name), "%s", slash + 1);
	return (point_name_parse(p->name, &p->time, &p->suffix) ? 0 : err_set(err, 0, "%s is no point", spec));
}

int
main(int argc, char **argv)
{
	struct err err = ERR_INIT;
	struct repo *r = NULL;
	struct point p;
	unsigned int swept;
	int rc = -1;

	if (argc < 3)
		return (2);
	if ((r = repo_open(argv[2], false, &err)) == NULL || (argc > 3 && find(r, argv[3], &p, &err) == -1))
		goto out;
	if (strcmp(argv[1], "consolidate") == 0 || strcmp(argv[1], "write") == 0)
		rc = consolidate(r, &p, argc > 4 ? argv[4] : NULL, argv[1][0] == 'w', &err);
	else if (strcmp(argv[1], "sweep") == 0)
		rc = repo_sweep(r, PROGRAM, &swept, &err);
	else
		rc = alone(r, argv[1], &p, &err);
out:
	if (rc == -1)
		fprintf(stderr, "compact: %s\n", err.text);
	repo_close(r);
	return (rc == -1);
}
