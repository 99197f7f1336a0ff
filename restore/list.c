/* virt-restore list: the restore points of a repository. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/human.h"
#include "opened.h"
#include "report.h"

static int
list_points(const struct options *o, struct repo *repo, const struct points *ps)
{
	json_t *all = json_array();
	struct manifest m;
	struct err err = ERR_INIT;
	bool is_protected;
	size_t shown = 0;
	int rc = EXIT_DONE;

	for (size_t i = 0; i < ps->n; i++) {
		if (repo_manifest(repo, &ps->v[i], &m, &err) == -1) {
			/* Pruned, or just being pruned: no longer a point.  Anything else is worth a word; the others are listed. */
			if (err.code != ESTALE)
				rc = print_error(&err);
			continue;
		}
		is_protected = report_protected(repo, &ps->v[i]);
		if (o->json)
			json_array_append_new(all, report_point_json(&ps->v[i], &m, is_protected));
		else
			report_point_line(&ps->v[i], &m, is_protected, shown++ == 0);
		manifest_free(&m);
	}
	if (o->json && json_dumpf(all, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII) == 0)
		putchar('\n');
	else if (!o->json && shown == 0 && rc == EXIT_DONE)
		fprintf(stderr, "virt-restore: there are no restore points in %s\n", repo->st->url);
	json_decref(all);
	return (rc);
}

static int
collect(const struct options *o, struct repo *repo, struct points *ps, struct err *err)
{
	char folder[NAMING_MAX];

	if (o->nargs == 0) {
		if (repo_all_points(repo, ps, err) == -1)
			return (-1);
		if (ps->n == 0 && repo->id[0] == '\0')
			return (err_set(err, 0, "%s is no repository: it has neither repository.json nor restore points", repo->st->url));
		return (0);
	}
	if (name_escape(o->args[0], folder, err) == -1)
		return (-1);
	if (repo_points(repo, folder, ps, err) == -1)
		return (err->code == ENOENT ? err_plain(err, ENOENT, "%s has no machine \"%s\"", repo->st->url, o->args[0]) : -1);
	return (0);
}

/* A bare archive has no manifest: its disks are all there is to list. */
static int
list_archive(const struct options *o)
{
	struct opened op = OPENED_INIT;
	struct err err = ERR_INIT;
	int rc = EXIT_DONE;

	if (open_point(o, "", &op, &err) == -1)
		rc = print_error(&err);
	else
		report_archive(archive_set_first(op.set), o->json);
	opened_close(&op);
	return (rc);
}

int
command_list(const struct options *o)
{
	struct points ps = POINTS_INIT;
	struct err err = ERR_INIT;
	struct repo *repo;
	int rc;

	if (o->archive != NULL)
		return (list_archive(o));
	if ((repo = open_repository(o, &err)) == NULL)
		return (print_error(&err));
	rc = collect(o, repo, &ps, &err) == -1 ? print_error(&err) : list_points(o, repo, &ps);
	points_free(&ps);
	repo_close(repo);
	return (rc);
}
