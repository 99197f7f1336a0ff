#include "images.h"

#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "archive/index.h"
#include "machine.h"
#include "repository/naming.h"

static int
compare_files(const void *a, const void *b)
{
	return (strcmp(((const struct image_file *)a)->path, ((const struct image_file *)b)->path));
}

static int
compare_machines(const void *a, const void *b)
{
	const struct image_file *fa = a, *fb = b;
	int c = strcmp(fa->vm, fb->vm);

	return (c != 0 ? c : strcmp(fa->path, fb->path));
}

static int
fill(struct image_file *f, const char *path, struct err *err)
{
	const char *slash = strrchr(path, '/'), *name = slash != NULL ? slash + 1 : path;
	size_t n = strlen(name);

	if (!utf8_valid(name))
		return (err_set(err, 0, "the name of an image in %.*s is not UTF-8, or holds control characters: rename it", (int)(name - path),
		    path));
	if (n == 0 || n + 4 >= INDEX_NAME_LEN)
		return (err_set(err, 0, "%s: the name of an image has 1 to %u bytes", path, INDEX_NAME_LEN - 5));
	f->path = strdup(path);
	f->vm = strndup(name, machine_stem(name));
	f->member = malloc(n + 5);
	if (f->path == NULL || f->vm == NULL || f->member == NULL)
		return (err_nomem(err));
	/* The index is a member too; nothing may be extracted over it. */
	memcpy(f->member, name, n + 1);
	if (strcmp(name, INDEX_MEMBER) == 0)
		memcpy(f->member + n, ".img", 5);
	return (0);
}

/* Most often it is the folder that the pattern begins with: somebody has moved it. */
static void
cannot_look(const char *pattern, struct err *err)
{
	char folder[4096];
	char *slash;

	snprintf(folder, sizeof(folder), "%.*s", (int)strcspn(pattern, "*?[\\"), pattern);
	if ((slash = strrchr(folder, '/')) != NULL && slash != folder)
		*slash = '\0';
	if (access(folder, R_OK | X_OK) == 0)
		err_set(err, 0, "%s: a folder on the way cannot be read: see to who may, or take the pattern out of the job", pattern);
	else if (errno == ENOENT)
		err_set(err, 0, "%s: there is no folder %s: make it, or name another one in the job", pattern, folder);
	else
		err_set(err, errno, "%s: cannot read the folder %s", pattern, folder);
}

static int
add_matches(const char *pattern, struct image_files *out, struct err *err)
{
	struct image_file *v;
	glob_t g = { 0 };
	int r, rc = -1;

	if ((r = glob(pattern, GLOB_ERR | GLOB_NOSORT, NULL, &g)) != 0) {
		if (r == GLOB_NOMATCH)
			err_set(err, 0, "%s matches no file: make it, or take the pattern out of the job", pattern);
		else if (r == GLOB_NOSPACE)
			err_nomem(err);
		else
			cannot_look(pattern, err);
		goto out;
	}
	if ((v = realloc(out->v, (out->n + g.gl_pathc) * sizeof(*v))) == NULL) {
		err_nomem(err);
		goto out;
	}
	out->v = v;
	for (size_t i = 0; i < g.gl_pathc; i++) {
		memset(&v[out->n], 0, sizeof(*v));
		if (fill(&v[out->n++], g.gl_pathv[i], err) == -1)
			goto out;
	}
	rc = 0;
out:
	globfree(&g);
	return (rc);
}

static void
free_file(struct image_file *f)
{
	free(f->path);
	free(f->vm);
	free(f->member);
}

/* Several patterns may match one file. */
static void
drop_repeated(struct image_files *f)
{
	size_t kept = 0;

	qsort(f->v, f->n, sizeof(*f->v), compare_files);
	for (size_t i = 0; i < f->n; i++) {
		if (kept > 0 && strcmp(f->v[kept - 1].path, f->v[i].path) == 0)
			free_file(&f->v[i]);
		else
			f->v[kept++] = f->v[i];
	}
	f->n = kept;
}

static int
check_collisions(struct image_files *f, struct err *err)
{
	qsort(f->v, f->n, sizeof(*f->v), compare_machines);
	for (size_t i = 1; i < f->n; i++)
		if (strcmp(f->v[i - 1].vm, f->v[i].vm) == 0)
			return (err_set(err, 0, "%s and %s would both be the machine \"%s\": rename one, or put it into a job with a repository of its own",
			    f->v[i - 1].path, f->v[i].path, f->v[i].vm));
	return (0);
}

int
images_find(char *const *patterns, size_t npatterns, struct image_files *out, struct err *err)
{
	for (size_t i = 0; i < npatterns; i++)
		if (add_matches(patterns[i], out, err) == -1)
			return (-1);
	drop_repeated(out);
	return (check_collisions(out, err));
}

void
images_free(struct image_files *f)
{
	for (size_t i = 0; i < f->n; i++)
		free_file(&f->v[i]);
	free(f->v);
	*f = (struct image_files)IMAGE_FILES_INIT;
}
