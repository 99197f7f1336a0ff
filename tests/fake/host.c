/*
 * What of the host the model has, too: the files that a run makes and removes, qemu-img, and what a disk's export over NBD holds.
 * Linked with -Wl,--wrap, so that the objects of backupd/ are those of the program.
 */
#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "backupd/source.h"
#include "host.h"
#include "model.h"

#define WINDOW		((uint64_t)64 << 10)
#define EXPORT_BYTES	(MODEL_WINDOWS * WINDOW)

int __real_unlink(const char *path);
int __real_rmdir(const char *path);
int __real_mkdir(const char *path, mode_t mode);
int __real_rename(const char *from, const char *to);
int __real_renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned int flags);
int __real_statvfs64(const char *path, struct statvfs *fs);
int __wrap_unlink(const char *path);
int __wrap_rmdir(const char *path);
int __wrap_mkdir(const char *path, mode_t mode);
int __wrap_rename(const char *from, const char *to);
int __wrap_renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned int flags);
int __wrap_statvfs64(const char *path, struct statvfs *fs);

static struct model_disk *
disk_of_overlay(const char *path)
{
	for (int i = 0; fake != NULL && i < fake->ndisks; i++)
		if (strcmp(fake->disks[i].overlay, path) == 0)
			return (&fake->disks[i]);
	return (NULL);
}

static bool
ends_with(const char *path, const char *end)
{
	size_t n = strlen(path), m = strlen(end);

	return (n >= m && strcmp(path + n - m, end) == 0);
}

static bool
is_journal(const char *path)
{
	return (fake != NULL && strstr(path, "/journal/") != NULL && ends_with(path, ".json"));
}

/* "scratch" or "run", for a folder that a run made there for itself; else NULL. */
static const char *
own_folder(const char *path)
{
	const char *runtime = getenv("RUNTIME_DIRECTORY"), *last = strrchr(path, '/');
	size_t n = last != NULL ? (size_t)(last - path) : 0;

	if (fake == NULL || last == NULL)
		return (NULL);
	if (strlen(fake->scratch) == n && strncmp(path, fake->scratch, n) == 0)
		return ("scratch");
	return (runtime != NULL && strlen(runtime) == n && strncmp(path, runtime, n) == 0 ? "run" : NULL);
}

static void
check_overlay(const struct model_disk *d)
{
	if (model_in_call())
		wrong("%s: the overlay was removed while libvirt made the snapshot", d->target);
	if ((fake->active && d->live == ON_OVERLAY) || d->job == JOB_COMMIT)
		wrong("%s: the overlay was removed while the guest ran on it", d->target);
	if (fake->exists && fake->persistent && d->config == ON_OVERLAY)
		wrong("%s: the overlay was removed while the persistent XML named it", d->target);
	if (d->overlay_age > d->base_age)
		wrong("%s: the overlay was removed before it was committed", d->target);
}

int
__wrap_unlink(const char *path)
{
	const struct model_disk *d = disk_of_overlay(path);
	const char *key = d != NULL ? "remove" : "journal-ends", *detail = d != NULL ? d->target : "";
	int rc, e;

	if (d == NULL && !is_journal(path))
		return (__real_unlink(path));
	step_begin(key, detail, true);
	rc = __real_unlink(path);
	e = errno;
	if (rc == 0 && d != NULL)
		check_overlay(d);
	step_end(key, detail, rc == 0 || e != ENOENT, rc == -1);
	errno = e;
	return (rc);
}

int
__wrap_rmdir(const char *path)
{
	const char *which = own_folder(path);
	int rc, e;

	if (which == NULL)
		return (__real_rmdir(path));
	step_begin("rmdir", which, true);
	if (model_in_call())
		wrong("the folder %s was removed while libvirt began the backup job", which);
	if (fake->backup_job && strstr(fake->backup_xml, path) != NULL)
		wrong("the folder %s was removed while the backup job used it", which);
	rc = __real_rmdir(path);
	e = errno;
	step_end("rmdir", which, rc == 0 || e != ENOENT, rc == -1);
	errno = e;
	return (rc);
}

int
__wrap_mkdir(const char *path, mode_t mode)
{
	const char *which = own_folder(path);
	int rc, e;

	if (which == NULL)
		return (__real_mkdir(path, mode));
	step_begin("mkdir", which, true);
	rc = __real_mkdir(path, mode);
	e = errno;
	step_end("mkdir", which, true, rc == -1);
	errno = e;
	return (rc);
}

/* "folder scratch socket checkpoint frozen vda vdb(pivoting)" */
static void
describe_journal(const char *path, char *out, size_t n)
{
	json_t *o = json_load_file(path, 0, NULL), *v;
	size_t used = 0, i;

	out[0] = '\0';
	for (const char *const *key = (const char *const[]){ "folder", "scratch", "socket", "checkpoint", NULL }; *key != NULL; key++)
		if (json_object_get(o, *key) != NULL)
			used += (size_t)snprintf(out + used, n - used, "%s%s", used > 0 ? " " : "", *key);
	if (json_is_true(json_object_get(o, "frozen")))
		used += (size_t)snprintf(out + used, n - used, "%sfrozen", used > 0 ? " " : "");
	json_array_foreach(json_object_get(o, "overlays"), i, v)
		used += (size_t)snprintf(out + used, n - used, "%s%s%s", used > 0 ? " " : "", json_string_value(json_object_get(v, "target")),
		    json_is_true(json_object_get(v, "pivoting")) ? "(pivoting)" : json_is_true(json_object_get(v, "committing")) ? "(committing)" : "");
	json_decref(o);
}

int
__wrap_rename(const char *from, const char *to)
{
	char what[MODEL_STEP / 2];
	int rc, e;

	if (!is_journal(to))
		return (__real_rename(from, to));
	describe_journal(from, what, sizeof(what));
	step_begin("journal", what, true);
	rc = __real_rename(from, to);
	e = errno;
	step_end("journal", what, true, rc == -1);
	errno = e;
	return (rc);
}

int
__wrap_renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned int flags)
{
	int rc, e;

	if (fake == NULL || !fake->publications || strchr(from, '/') == NULL || !ends_with(from, ".partial"))
		return (__real_renameat2(from_fd, from, to_fd, to, flags));
	step_begin("publish", "", true);
	rc = __real_renameat2(from_fd, from, to_fd, to, flags);
	e = errno;
	step_end("publish", "", true, rc == -1);
	errno = e;
	return (rc);
}

/* Seconds, and of one second by number. */
static bool
is_later(const char *a, const char *b)
{
	int seconds = strncmp(a, b, 18);

	return (seconds != 0 ? seconds > 0 : strlen(a) != strlen(b) ? strlen(a) > strlen(b) : strcmp(a, b) > 0);
}

static json_t *
latest_manifest(void)
{
	char folder[MODEL_PATH], path[2 * MODEL_PATH], latest[256] = "";
	struct dirent *e;
	DIR *d;

	snprintf(folder, sizeof(folder), "%s", getenv(MODEL_VARIABLE));
	*strrchr(folder, '/') = '\0';
	strncat(folder, "/repository/web", sizeof(folder) - strlen(folder) - 1);
	if ((d = opendir(folder)) == NULL)
		return (NULL);
	while ((e = readdir(d)) != NULL)
		if (e->d_name[0] != '.' && !ends_with(e->d_name, ".partial") && (latest[0] == '\0' || is_later(e->d_name, latest)))
			snprintf(latest, sizeof(latest), "%s", e->d_name);
	closedir(d);
	snprintf(path, sizeof(path), "%s/%s/manifest.json", folder, latest);
	return (json_load_file(path, 0, NULL));
}

void
host_head(char checkpoint[160])
{
	json_t *m = latest_manifest();
	const char *name = json_string_value(json_object_get(m, "checkpoint"));

	snprintf(checkpoint, 160, "%s", name != NULL ? name : "");
	json_decref(m);
}

void
host_head_how(char how[32])
{
	json_t *m = latest_manifest();
	const char *text = json_string_value(json_object_get(json_array_get(json_object_get(m, "disks"), 0), "how"));

	snprintf(how, 32, "%s", text != NULL ? text : "");
	json_decref(m);
}

int
__wrap_statvfs64(const char *path, struct statvfs *fs)
{
	int rc = __real_statvfs64(path, fs);

	if (rc == 0 && fake != NULL && fake->free_bytes != 0 && strncmp(path, fake->scratch, strlen(fake->scratch)) == 0) {
		fs->f_bavail = fake->free_bytes / fs->f_frsize;
		/* What is written there takes room. */
		if (fake->backup_job) {
			char file[MODEL_PATH];
			const char *at = strstr(fake->backup_xml, "scratch file='");
			struct stat sb;

			if (at != NULL && sscanf(at, "scratch file='%511[^']", file) == 1 && stat(file, &sb) == 0)
				fs->f_bavail -= (uint64_t)sb.st_blocks * 512 / fs->f_frsize;
		}
	}
	return (rc);
}

/* qemu-img commit ... OVERLAY, and compare ... OVERLAY ... BASE. */
int
qemu_img(int argc, char **argv)
{
	struct model_disk *d = NULL;
	const struct rule *r;
	const char *key = argc > 1 && strcmp(argv[1], "commit") == 0 ? "qemu-img-commit" : "qemu-img-compare";
	int rc = 0;

	for (int i = 2; i < argc; i++)
		if (disk_of_overlay(argv[i]) != NULL)
			d = disk_of_overlay(argv[i]);
	r = step_begin(key, d != NULL ? d->target : "?", true);
	if (r != NULL || d == NULL || access(d->overlay, F_OK) == -1) {
		fprintf(stderr, "qemu-img: %s\n", r != NULL ? r->text : "No such file or directory");
		rc = 2;
	} else if (fake->active && d->live == ON_OVERLAY) {
		fprintf(stderr, "qemu-img: Failed to get \"write\" lock\n");
		rc = 2;
	} else if (strcmp(key, "qemu-img-commit") == 0)
		model_commit(d);
	else
		rc = d->overlay_age == d->base_age ? 0 : 1;
	step_end(key, d != NULL ? d->target : "?", true, rc == 2);
	return (rc);
}

/* The guest's disk as the backup job exports it: it can be read as long as there is that job.  Stands in for source_nbd.c. */
static int
extents(struct source *s, struct extents *ex, struct err *err)
{
	return (extents_add(ex, 0, s->size, err));
}

static struct source_reader *
reader_new(struct source *s, struct err *err)
{
	struct source_reader *r = calloc(1, sizeof(*r));

	if (r == NULL)
		err_nomem(err);
	else
		r->s = s;
	return (r);
}

static void
reader_free(struct source_reader *r)
{
	free(r);
}

static int
reader_read(struct source_reader *r, void *p, size_t n, uint64_t offset, struct err *err)
{
	int rc = 0;

	step_begin("read", "", false);
	if (!fake->backup_job || !fake->active)
		rc = err_set(err, 0, "cannot read %s: the server closed the connection", r->s->path);
	step_end("read", "", false, false);
	for (size_t i = 0; i < n; i++)
		((char *)p)[i] = fake->content[(offset + i) / WINDOW] != 0 ? fake->content[(offset + i) / WINDOW] : 'x';
	return (rc);
}

static int
settled(struct source *s, struct err *err)
{
	(void)s;
	(void)err;
	return (0);
}

static void
close_source(struct source *s)
{
	free(s->path);
	free(s);
}

struct source *
source_nbd_open(const char *socket, const char *export, const char *bitmap, const char *path, struct err *err)
{
	static const struct source_ops ops = { .extents = extents, .reader_new = reader_new, .reader_free = reader_free, .read = reader_read,
		.settled = settled, .close = close_source };
	struct source *s = calloc(1, sizeof(*s));

	if (s == NULL || (s->path = strdup(path)) == NULL)
		abort();
	s->ops = &ops;
	s->size = EXPORT_BYTES;
	if (bitmap != NULL) {
		char context[64];

		snprintf(context, sizeof(context), "qemu:dirty-bitmap:backup-%s", export);
		if (strcmp(bitmap, context) != 0 || strstr(fake->backup_xml, "incremental='") == NULL)
			wrong("%s: the bitmap %s was asked for", export, bitmap);
		if ((s->dirty = extents_new(s->size, err)) == NULL)
			abort();
		for (uint64_t i = 0; i < MODEL_WINDOWS; i++)
			if (fake->dirty[i] && extents_add(s->dirty, i * WINDOW, WINDOW, err) == -1)
				abort();
		if (extents_end(s->dirty, err) == -1)
			abort();
	}
	if (access(socket, F_OK) == 0)
		return (s);
	err_set(err, errno, "cannot connect to %s", socket);
	close_source(s);
	return (NULL);
}
