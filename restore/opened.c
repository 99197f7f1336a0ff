#include "opened.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/human.h"
#include "repository/repo_named.h"

int
print_error(struct err *err)
{
	fprintf(stderr, "virt-restore: %s\n", human_safe(err->text));
	return (EXIT_FAILED);
}

struct repo *
open_repository(const struct options *o, struct err *err)
{
	return (repo_open_named(o->config, o->repository, err));
}

int
open_manifest(const struct options *o, const char *spec, struct opened *out, struct err *err)
{
	if ((out->repo = open_repository(o, err)) == NULL)
		return (-1);
	if (repo_find(out->repo, spec, &out->point, err) == -1)
		return (-1);
	return (repo_manifest(out->repo, &out->point, &out->manifest, err));
}

int
open_point_quietly(const struct options *o, const char *spec, struct opened *out, struct err *err)
{
	struct err lost = ERR_INIT;
	struct archive_reader *ar;

	if (o->archive != NULL) {
		if ((ar = archive_open_bare(o->archive, err)) != NULL)
			out->set = archive_set_new(NULL, ar, "", err);
	} else if (open_manifest(o, spec, out, &lost) == 0)
		out->set = archive_set_open(out->repo, &out->point, &out->manifest, err);
	else if (out->repo == NULL || out->point.name[0] == '\0' || lost.code == ESTALE)
		*err = lost;
	else {
		/* A lost manifest is made good by the archive: it is worth a warning. */
		fprintf(stderr, "virt-restore: warning: %s: what the archive says of itself is used\n", human_safe(lost.text));
		out->set = archive_set_open(out->repo, &out->point, NULL, err);
	}
	return (out->set == NULL ? -1 : 0);
}

int
open_point(const struct options *o, const char *spec, struct opened *out, struct err *err)
{
	const struct archive_reader *ar;

	if (open_point_quietly(o, spec, out, err) == -1)
		return (-1);
	if ((ar = archive_set_first(out->set))->note != NULL)
		fprintf(stderr, "virt-restore: warning: %s: %s\n", ar->name, human_safe(ar->note));
	return (0);
}

void
opened_close(struct opened *op)
{
	archive_set_free(op->set);
	manifest_free(&op->manifest);
	repo_close(op->repo);
}
