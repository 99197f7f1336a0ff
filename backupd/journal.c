#include "journal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/document.h"
#include "base/io.h"
#include "repository/manifest.h"
#include "state_dir.h"

#define JOURNAL_MAX	((size_t)1 << 20)	/* bytes */
#define SUFFIX		".json"
#define FRESH		".new"		/* behind it: being written */

static int
journal_folder(char **out, struct err *err)
{
	if (asprintf(out, "%s/journal", state_dir()) == -1) {
		*out = NULL;
		err_nomem(err);
		return (-1);
	}
	return (make_folder(*out, 0700, err));
}

static void
free_overlay(struct journal_overlay *o)
{
	free(o->target);
	free(o->base);
	free(o->overlay);
	free(o->format);
}

static void
journal_free(struct journal *j)
{
	if (j == NULL)
		return;
	io_close(&j->lock_fd);
	for (size_t i = 0; i < j->noverlays; i++)
		free_overlay(&j->overlays[i]);
	free(j->overlays);
	free(j->uri);
	free(j->name);
	free(j->uuid);
	free(j->folder);
	free(j->socket);
	free(j->scratch);
	free(j->checkpoint);
	free(j->repository);
	free(j->path);
	free(j->fresh_path);
	free(j->lock_path);
	free(j);
}

/* The lock's file is never removed while somebody may wait for it: an empty file for each guest does no harm. */
static int
take_lock(struct journal *j, struct err *err)
{
	if ((j->lock_fd = open(j->lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600)) == -1)
		return (err_set(err, errno, "cannot open %s", j->lock_path));
	if (flock(j->lock_fd, LOCK_EX | LOCK_NB) == 0)
		return (0);
	if (errno == EWOULDBLOCK) {
		err_set(err, 0, "another run of virt-backupd works on this guest just now");
		err->code = EBUSY;
		return (-1);
	}
	return (err_set(err, errno, "cannot lock %s", j->lock_path));
}

static struct journal *
journal_new(const char *uuid, struct err *err)
{
	struct journal *j = calloc(1, sizeof(*j));
	char *folder = NULL;
	uint8_t id[16];

	if (j == NULL) {
		err_nomem(err);
		return (NULL);
	}
	j->lock_fd = -1;
	if (uuid_parse(uuid, id) == -1) {
		err_set(err, 0, "\"%.40s\" is not a UUID", uuid);
		goto fail;
	}
	if (journal_folder(&folder, err) == -1)
		goto fail;
	if ((j->uuid = strdup(uuid)) == NULL || asprintf(&j->path, "%s/%s" SUFFIX, folder, uuid) == -1 ||
	    asprintf(&j->fresh_path, "%s" FRESH, j->path) == -1 ||
	    asprintf(&j->lock_path, "%s/%s.lock", folder, uuid) == -1) {
		err_nomem(err);
		goto fail;
	}
	free(folder);
	if (take_lock(j, err) == -1) {
		journal_free(j);
		return (NULL);
	}
	/* What a run that was killed had not written to its end. */
	unlink(j->fresh_path);
	return (j);
fail:
	free(folder);
	journal_free(j);
	return (NULL);
}

struct journal *
journal_begin(const char *uri, const char *name, const char *uuid, struct err *err)
{
	struct journal *j = journal_new(uuid, err);
	uint8_t random[4];

	if (j == NULL)
		return (NULL);
	if (access(j->path, F_OK) == 0) {
		err_set(err, 0, "what an earlier run did to this guest is not settled yet (%s)", j->path);
		err->code = EEXIST;
		goto fail;
	}
	if (io_random(random, sizeof(random), err) == -1)
		goto fail;
	for (size_t i = 0; i < sizeof(random); i++)
		snprintf(j->token + 2 * i, 3, "%02x", random[i]);
	if ((j->uri = strdup(uri)) == NULL || (j->name = strdup(name)) == NULL) {
		err_nomem(err);
		goto fail;
	}
	return (j);
fail:
	journal_free(j);
	return (NULL);
}

int
journal_add_overlay(struct journal *j, const struct journal_overlay *from, struct err *err)
{
	struct journal_overlay *v = realloc(j->overlays, (j->noverlays + 1) * sizeof(*v)), *o;

	if (v == NULL)
		return (err_nomem(err));
	j->overlays = v;
	o = &v[j->noverlays++];
	*o = (struct journal_overlay){ .target = strdup(from->target), .base = strdup(from->base), .overlay = strdup(from->overlay),
		.format = strdup(from->format), .block = from->block,
		.committing = from->committing, .pivoting = from->pivoting };
	return (o->target == NULL || o->base == NULL || o->overlay == NULL || o->format == NULL ? err_nomem(err) : 0);
}

void
journal_drop_overlay(struct journal *j, size_t i)
{
	free_overlay(&j->overlays[i]);
	memmove(&j->overlays[i], &j->overlays[i + 1], (--j->noverlays - i) * sizeof(*j->overlays));
}

static json_t *
encode_overlay(const struct journal_overlay *o)
{
	return (json_pack("{s:s, s:s, s:s, s:s, s:b, s:b, s:b}", "target", o->target, "base", o->base, "overlay", o->overlay, "format", o->format,
	    "block", o->block, "committing", o->committing, "pivoting", o->pivoting));
}

static json_t *
encode(const struct journal *j)
{
	json_t *o = json_pack("{s:i, s:s, s:s, s:s, s:s, s:b, s:s*, s:s*, s:s*, s:s*, s:s*}", "format", 1, "uri", j->uri, "name", j->name, "uuid", j->uuid,
	    "token", j->token, "frozen", j->frozen, "folder", j->folder, "socket", j->socket, "scratch", j->scratch, "checkpoint", j->checkpoint,
	    "repository", j->repository), *v = json_array();

	for (size_t i = 0; i < j->noverlays; i++)
		json_array_append_new(v, encode_overlay(&j->overlays[i]));
	if (o == NULL || json_object_set_new(o, "overlays", v) == -1) {
		json_decref(o);
		return (NULL);
	}
	return (o);
}

static int
sync_folder_of(const char *path, struct err *err)
{
	char *copy = strdup(path);
	int fd, rc = 0;

	if (copy == NULL)
		return (err_nomem(err));
	*strrchr(copy, '/') = '\0';
	if ((fd = open(copy, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) == -1 || fsync(fd) == -1)
		rc = err_set(err, errno, "cannot make %s durable", path);
	io_close(&fd);
	free(copy);
	return (rc);
}

static int
write_durably(const char *path, const char *fresh, const struct buf *text, struct err *err)
{
	int fd = -1;

	if ((fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)) == -1 || io_pwrite(fd, text->ptr, text->len, 0) == -1 ||
	    fsync(fd) == -1 || close(fd) == -1) {
		err_set(err, errno, "cannot write %s", fresh);
		goto out;
	}
	fd = -1;
	if (rename(fresh, path) == -1) {
		err_set(err, errno, "cannot rename %s", fresh);
		goto out;
	}
	io_close(&fd);
	return (sync_folder_of(path, err));
out:
	io_close(&fd);
	unlink(fresh);
	return (-1);
}

int
journal_save(struct journal *j, struct err *err)
{
	struct buf text = BUF_INIT;
	int rc = -1;

	if (doc_write(encode(j), &text, err) == 0)
		rc = write_durably(j->path, j->fresh_path, &text, err);
	buf_free(&text);
	return (rc == -1 ? err_wrap(err, "the journal of %s", j->name) : 0);
}

void
journal_end(struct journal *j, bool settled)
{
	struct err ignored = ERR_INIT;

	if (j == NULL)
		return;
	/* That it comes back after a power cut does no harm: settling twice is settling once. */
	if (settled && unlink(j->path) == 0)
		sync_folder_of(j->path, &ignored);
	journal_free(j);
}

/* True or false; missing is false. */
static int
flag(const json_t *o, const char *key, bool *out, struct err *err)
{
	const json_t *v = json_object_get(o, key);

	if (v != NULL && !json_is_boolean(v))
		return (err_set(err, 0, "\"%s\" is neither true nor false", key));
	*out = json_is_true(v);
	return (0);
}

/* A text that may be missing. */
static int
optional(const json_t *o, const char *key, char **out, struct err *err)
{
	const char *text;

	if (json_object_get(o, key) == NULL)
		return (0);
	if (doc_text(o, key, &text, err) == -1)
		return (-1);
	return ((*out = strdup(text)) == NULL ? err_nomem(err) : 0);
}

static int
decode_overlay(struct journal *j, const json_t *e, struct err *err)
{
	const char *target, *base, *overlay, *format;
	struct journal_overlay o = { .target = NULL };

	if (doc_text(e, "target", &target, err) == -1 || doc_text(e, "base", &base, err) == -1 || doc_text(e, "overlay", &overlay, err) == -1 ||
	    doc_text(e, "format", &format, err) == -1 || flag(e, "block", &o.block, err) == -1 || flag(e, "committing", &o.committing, err) == -1 ||
	    flag(e, "pivoting", &o.pivoting, err) == -1)
		return (-1);
	o.target = (char *)(uintptr_t)target;
	o.base = (char *)(uintptr_t)base;
	o.overlay = (char *)(uintptr_t)overlay;
	o.format = (char *)(uintptr_t)format;
	return (journal_add_overlay(j, &o, err));
}

static int
decode(struct journal *j, const json_t *o, struct err *err)
{
	const char *uri, *name, *uuid, *token;
	const json_t *v = json_object_get(o, "overlays"), *e;
	size_t i;

	if (doc_format_is(o, "the journal", err) == -1 || doc_text(o, "uri", &uri, err) == -1 || doc_text(o, "name", &name, err) == -1 ||
	    doc_text(o, "uuid", &uuid, err) == -1 || doc_text(o, "token", &token, err) == -1 || optional(o, "folder", &j->folder, err) == -1 ||
	    optional(o, "socket", &j->socket, err) == -1 || optional(o, "scratch", &j->scratch, err) == -1 ||
	    optional(o, "checkpoint", &j->checkpoint, err) == -1 || optional(o, "repository", &j->repository, err) == -1)
		return (-1);
	if (strcmp(uuid, j->uuid) != 0 || strlen(token) != JOURNAL_TOKEN_LEN - 1)
		return (err_set(err, 0, "it is of another guest"));
	if (flag(o, "frozen", &j->frozen, err) == -1)
		return (-1);
	if (!json_is_array(v))
		return (err_set(err, 0, "\"overlays\" is no list"));
	memcpy(j->token, token, JOURNAL_TOKEN_LEN);
	if ((j->uri = strdup(uri)) == NULL || (j->name = strdup(name)) == NULL)
		return (err_nomem(err));
	json_array_foreach(v, i, e)
		if (decode_overlay(j, e, err) == -1)
			return (-1);
	return (0);
}

static int
read_journal(struct journal *j, struct err *err)
{
	struct buf text = BUF_INIT;
	json_t *o = NULL;
	struct stat sb;
	int fd, rc = -1;

	if ((fd = open(j->path, O_RDONLY | O_CLOEXEC)) == -1 || fstat(fd, &sb) == -1) {
		err_set(err, errno, "cannot open %s", j->path);
		goto out;
	}
	if ((size_t)sb.st_size > JOURNAL_MAX) {
		err_set(err, 0, "%s is too long to be a journal", j->path);
		goto out;
	}
	if (buf_reserve(&text, (size_t)sb.st_size, err) == -1)
		goto out;
	if (io_pread(fd, text.ptr, (size_t)sb.st_size, 0) != sb.st_size) {
		err_set(err, errno, "cannot read %s", j->path);
		goto out;
	}
	if ((o = doc_parse(text.ptr, (size_t)sb.st_size, "the journal", err)) == NULL || decode(j, o, err) == -1)
		err_wrap(err, "%s is damaged: see that the guest runs on its images and is not frozen (virsh domblklist, virsh domfsthaw), then remove that "
		    "file", j->path);
	else
		rc = 0;
out:
	json_decref(o);
	buf_free(&text);
	io_close(&fd);
	return (rc);
}

struct journal *
journal_resume(const char *uuid, struct err *err)
{
	struct journal *j = journal_new(uuid, err);

	if (j != NULL && read_journal(j, err) == -1) {
		journal_free(j);
		j = NULL;
	}
	return (j);
}

/* A journal that was never written to its end: nothing had been done. */
static void
sweep(const char *uuid)
{
	journal_free(journal_new(uuid, &(struct err)ERR_INIT));
}

int
journal_each(void (*fn)(void *arg, const char *uuid), void *arg, struct err *err)
{
	char *folder = NULL, uuid[UUID_LEN];
	struct dirent *e;
	DIR *d;

	if (journal_folder(&folder, err) == -1) {
		free(folder);
		return (-1);
	}
	if ((d = opendir(folder)) == NULL) {
		err_set(err, errno, "cannot read the folder %s", folder);
		free(folder);
		return (-1);
	}
	/* cppcheck-suppress readdirCalled ; glibc's is safe for threads with a DIR each */
	while ((e = readdir(d)) != NULL) {
		if (strlen(e->d_name) < UUID_LEN - 1)
			continue;
		memcpy(uuid, e->d_name, UUID_LEN - 1);
		uuid[UUID_LEN - 1] = '\0';
		if (strcmp(e->d_name + UUID_LEN - 1, SUFFIX) == 0)
			fn(arg, uuid);
		else if (strcmp(e->d_name + UUID_LEN - 1, SUFFIX FRESH) == 0)
			sweep(uuid);
	}
	closedir(d);
	free(folder);
	return (0);
}
