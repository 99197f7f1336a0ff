#include "point_store.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "archive_writer.h"
#include "io.h"

#define NOTES_MAX	64u

struct stored_disk {
	char		*target, *member, *source, *format;
	struct manifest_disk facts;
};

struct point_store {
	const struct backup_run		*run;
	char				*vm;
	struct timespec			 begun;
	struct point_writer		*pw;
	struct archive_writer		*aw;
	struct store_file		*archive, *index;
	struct index_info		 info;
	char				 file[32];	/* the archive's name */
	struct stored_disk		*disks;
	size_t				 ndisks;
	struct manifest_member		*members;
	size_t				 nmembers;
	char				*notes[NOTES_MAX];
	size_t				 nnotes;
	struct archive_written		 written;
};

int
backup_stopped(const struct backup_run *run, struct err *err)
{
	return (*run->interrupted ? err_set(err, EINTR, "stopped; nothing of this restore point was kept") : 0);
}

static int
open_archive(struct point_store *ps, struct err *err)
{
	const struct compression *c = &ps->run->job->compression;

	if ((ps->info.codec = codec_by_id((uint32_t)c->codec)) == NULL)
		return (err_set(err, 0, "job %s: there is no codec number %d", ps->run->job->name, (int)c->codec));
	ps->info.level = c->level;
	if (uuid_random(ps->info.archive, err) == -1 || io_random(ps->info.secret, sizeof(ps->info.secret), err) == -1)
		return (-1);
	snprintf(ps->file, sizeof(ps->file), "disks%s", ps->info.codec->suffix);
	if ((ps->pw = point_begin(ps->run->repo, ps->run->lock, ps->vm, (time_t)ps->info.time, err)) == NULL ||
	    (ps->archive = point_create(ps->pw, ps->file, err)) == NULL || (ps->index = point_create(ps->pw, INDEX_MEMBER, err)) == NULL ||
	    (ps->aw = archive_writer_new(&ps->info, ps->archive, err)) == NULL)
		return (-1);
	return (0);
}

struct point_store *
point_store_begin(const struct backup_run *run, const char *vm, time_t t, struct err *err)
{
	struct point_store *ps = calloc(1, sizeof(*ps));

	if (ps == NULL || (ps->vm = strdup(vm)) == NULL) {
		free(ps);
		err_nomem(err);
		return (NULL);
	}
	clock_gettime(CLOCK_MONOTONIC, &ps->begun);
	ps->run = run;
	ps->info.time = t;
	if (open_archive(ps, err) == -1) {
		point_store_end(ps);
		return (NULL);
	}
	return (ps);
}

void
point_store_note(struct point_store *ps, const char *fmt, ...)
{
	va_list ap;

	if (ps->nnotes == NOTES_MAX)
		return;
	va_start(ap, fmt);
	if (vasprintf(&ps->notes[ps->nnotes], fmt, ap) != -1)
		ps->nnotes++;
	va_end(ap);
}

/* Something was read: show it, and see whether to go on. */
static int
tick(void *arg, uint64_t done, struct err *err)
{
	struct point_store *ps = arg;

	progress_update(ps->run->progress, done);
	return (backup_stopped(ps->run, err));
}

int
point_store_member(struct point_store *ps, const char *name, const void *p, size_t n, struct err *err)
{
	struct manifest_member *v;
	const char *copy;

	if (archive_writer_member(ps->aw, name, p, n, err) == -1)
		return (-1);
	if ((v = realloc(ps->members, (ps->nmembers + 1) * sizeof(*v))) == NULL)
		return (err_nomem(err));
	ps->members = v;
	if ((copy = strdup(name)) == NULL)
		return (err_nomem(err));
	v[ps->nmembers++] = (struct manifest_member){ .name = copy, .size = n };
	return (0);
}

static struct stored_disk *
add_disk(struct point_store *ps, const char *target, const char *member, const char *format, const struct source *s, struct err *err)
{
	struct stored_disk *v = realloc(ps->disks, (ps->ndisks + 1) * sizeof(*v)), *d;

	if (v == NULL) {
		err_nomem(err);
		return (NULL);
	}
	ps->disks = v;
	d = &v[ps->ndisks++];
	memset(d, 0, sizeof(*d));
	if ((d->target = strdup(target)) == NULL || (d->member = strdup(member)) == NULL || (d->source = strdup(s->path)) == NULL ||
	    (d->format = strdup(format)) == NULL) {
		err_nomem(err);
		return (NULL);
	}
	d->facts = (struct manifest_disk){ .target = d->target, .member = d->member, .source = d->source, .format = d->format, .size = s->size };
	return (d);
}

int
point_store_disk(struct point_store *ps, const char *target, const char *member, const char *format, struct source *s, struct err *err)
{
	struct stored_disk *d = add_disk(ps, target, member, format, s, err);
	struct archive_feed feed = source_feed(s);
	struct archive_disk_written w;
	struct extents *ex;
	int rc;

	if (d == NULL)
		return (-1);
	s->tick = tick;
	s->tick_arg = ps;
	progress_begin(ps->run->progress, strcmp(ps->vm, target) == 0 ? ps->vm : target, s->size);
	if ((ex = source_extents(s, err)) == NULL)
		return (-1);
	progress_begin(ps->run->progress, strcmp(ps->vm, target) == 0 ? ps->vm : target, ex->bytes);
	rc = archive_writer_disk(ps->aw, target, member, ex, s->mtime != 0 ? s->mtime : ps->info.time, &feed, &w, err);
	progress_end(ps->run->progress);
	if (rc == 0) {
		d->facts.provisioned = ex->bytes;
		d->facts.read = s->bytes_read;
		d->facts.data = w.data;
		d->facts.zero = w.zero;
		if (s->scanned)
			point_store_note(ps, "the storage of %s could not tell holes: zeroes were found by reading everything", target);
	}
	extents_free(ex);
	return (rc);
}

int
point_store_finish(struct point_store *ps, struct err *err)
{
	if (archive_writer_finish(ps->aw, ps->index, &ps->written, err) == -1 || store_sync(ps->archive, err) == -1 ||
	    store_sync(ps->index, err) == -1)
		return (-1);
	return (0);
}

static int
publish(struct point_store *ps, const struct point_facts *facts, struct manifest_disk *disks, struct err *err)
{
	char host[256] = "", id[UUID_LEN];
	struct buf sums = BUF_INIT;
	struct manifest m = {
		.vm = ps->vm, .kind = "full", .consistency = facts->consistency, .capture = facts->capture, .uuid = facts->uuid,
		.freeze_ms = facts->freeze_ms, .job = ps->run->job->name, .host = host, .program = "openvirt-backup " OVB_VERSION,
		.time = (time_t)ps->info.time, .finished = time(NULL), .notes = (const char **)ps->notes, .nnotes = ps->nnotes, .disks = disks,
		.ndisks = ps->ndisks, .members = ps->members, .nmembers = ps->nmembers, .stored = ps->written.size,
		.archive = { .id = id, .file = ps->file, .codec = ps->info.codec->name, .sha256 = ps->written.sha256, .level = ps->info.level,
		    .size = ps->written.size, .raw = ps->written.raw },
	};
	int rc = -1;

	gethostname(host, sizeof(host) - 1);
	uuid_text(ps->info.archive, id);
	if (buf_addf(&sums, err, "%s  %s\n%s  %s\n", ps->written.sha256, ps->file, ps->written.index_sha256, INDEX_MEMBER) == 0)
		rc = point_publish(ps->pw, &m, &sums, err);
	buf_free(&sums);
	return (rc);
}

int
point_store_publish(struct point_store *ps, const struct point_facts *facts, struct point_result *result, struct err *err)
{
	struct manifest_disk *disks = calloc(ps->ndisks + 1, sizeof(*disks));
	struct timespec now;
	int rc;

	if (disks == NULL)
		return (err_nomem(err));
	memset(result, 0, sizeof(*result));
	for (size_t i = 0; i < ps->ndisks; i++) {
		disks[i] = ps->disks[i].facts;
		result->size += disks[i].size;
		result->provisioned += disks[i].provisioned;
		result->read += disks[i].read;
	}
	rc = publish(ps, facts, disks, err);
	free(disks);
	clock_gettime(CLOCK_MONOTONIC, &now);
	result->stored = ps->written.size;
	result->seconds = (double)(now.tv_sec - ps->begun.tv_sec) + (double)(now.tv_nsec - ps->begun.tv_nsec) / 1e9;
	result->point = *point_published(ps->pw);
	return (rc);
}

void
point_store_end(struct point_store *ps)
{
	if (ps == NULL)
		return;
	archive_writer_free(ps->aw);
	store_file_close(ps->archive);
	store_file_close(ps->index);
	point_end(ps->pw);
	for (size_t i = 0; i < ps->ndisks; i++) {
		free(ps->disks[i].target);
		free(ps->disks[i].member);
		free(ps->disks[i].source);
		free(ps->disks[i].format);
	}
	free(ps->disks);
	for (size_t i = 0; i < ps->nmembers; i++)
		free((char *)(uintptr_t)ps->members[i].name);
	free(ps->members);
	for (size_t i = 0; i < ps->nnotes; i++)
		free(ps->notes[i]);
	free(ps->vm);
	free(ps);
}
