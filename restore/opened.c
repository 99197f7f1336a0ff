#include "opened.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "conf.h"
#include "human.h"

int
print_error(struct err *err)
{
	fprintf(stderr, "virt-restore: %s\n", human_safe(err->text));
	return (EXIT_FAILED);
}

static struct repo *
open_configured(const struct options *o, struct err *err)
{
	const struct conf_repository *r;
	struct repo *repo = NULL;
	struct conf *c;

	if ((c = conf_load(o->config, err)) == NULL) {
		err_wrap(err, o->repository == NULL ? "no --repository was given, so the first one of the configuration is looked for"
		    : "\"%s\" is looked for in the configuration (a folder is written with a slash: ./%s)", o->repository, o->repository);
		return (NULL);
	}
	r = o->repository != NULL ? conf_find_repository(c, o->repository) : &c->repositories[0];
	if (r == NULL)
		err_set(err, 0, "%s has no repository \"%s\" (a folder is written with a slash: ./%s)", o->config, o->repository, o->repository);
	else
		repo = repo_open(r->at.kind == CONF_URL_LOCAL ? r->at.path : r->url, false, err);
	conf_free(c);
	return (repo);
}

struct repo *
open_repository(const struct options *o, struct err *err)
{
	if (o->repository != NULL && strchr(o->repository, '/') != NULL)
		return (repo_open(o->repository, false, err));
	return (open_configured(o, err));
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

/* A lost manifest is made good by the archive: it is worth a warning. */
static struct archive_reader *
open_archive(const struct options *o, const char *spec, struct opened *out, struct err *err)
{
	struct err lost = ERR_INIT;

	if (o->archive != NULL)
		return (archive_open_bare(o->archive, err));
	if (open_manifest(o, spec, out, &lost) == 0)
		return (archive_open_point(out->repo, &out->point, &out->manifest, err));
	if (out->repo == NULL || out->point.name[0] == '\0' || lost.code == ESTALE) {
		*err = lost;
		return (NULL);
	}
	fprintf(stderr, "virt-restore: warning: %s: what the archive says of itself is used\n", human_safe(lost.text));
	return (archive_open_point(out->repo, &out->point, NULL, err));
}

int
open_point_quietly(const struct options *o, const char *spec, struct opened *out, struct err *err)
{
	struct archive_reader *ar = open_archive(o, spec, out, err);

	if (ar == NULL)
		return (-1);
	return ((out->set = archive_set_new(out->repo, ar, out->point.folder, err)) == NULL ? -1 : 0);
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
