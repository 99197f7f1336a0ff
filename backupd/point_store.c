#include "point_store.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "archive/archive_writer.h"
#include "archive/delta_writer.h"
#include "base/digest.h"
#include "base/io.h"

#define NOTES_MAX	64u

struct stored_disk {
	char		*target, *member, *source, *format, *why, *identity;
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
	char				**references;	/* ids of the other archives that are needed */
	size_t				 nreferences;
	const struct chain		*chain;
	bool				 incremental;
	struct archive_written		 written;
};

int
backup_stopped(const struct backup_run *run, struct err *err)
{
	return (*run->interrupted ? err_plain(err, EINTR, "stopped; nothing of this restore point was kept") : 0);
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

void
point_store_chain(const struct backup_run *run, const char *vm, const char *uuid, struct chain *c)
{
	if (run->job->incremental && !run->full)
		chain_open(c, run->repo, run->job->name, vm, uuid);
}

struct point_store *
point_store_begin(const struct backup_run *run, const char *vm, const struct chain *chain, time_t t, struct err *err)
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
	ps->chain = chain;
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

/* The source's own identity, and where it has data. */
static int
identity_text(const struct source *s, const struct extents *ex, char **out, struct err *err)
{
	struct digest_stream *ds;
	uint8_t digest[DIGEST_LEN];
	char hex[2 * DIGEST_LEN + 1];
	struct spool_cursor c;
	struct extent e;
	int more, rc = 0;

	*out = NULL;
	if (s->identity == NULL)
		return (0);
	if ((ds = digest_stream_new(err)) == NULL)
		return (-1);
	digest_stream_begin(ds);
	spool_cursor_init(&c, ex->spool);
	while ((more = extents_next(&c, &e, err)) == 1)
		digest_stream_add(ds, &e, sizeof(e));
	digest_stream_end(ds, digest);
	digest_stream_free(ds);
	if (more == -1)
		return (-1);
	for (size_t i = 0; i < DIGEST_LEN; i++)
		snprintf(hex + 2 * i, 3, "%02x", digest[i]);
	if (asprintf(out, "%s:%s", s->identity, hex) == -1) {
		*out = NULL;
		rc = err_nomem(err);
	}
	return (rc);
}

static int
store_full(struct point_store *ps, struct stored_disk *d, const struct source *s, const struct extents *ex, const struct archive_feed *feed,
    struct err *err)
{
	struct archive_disk_written w;

	if (archive_writer_disk(ps->aw, d->target, d->member, ex, s->mtime != 0 ? s->mtime : ps->info.time, feed, &w, err) == -1)
		return (-1);
	d->facts.how = "full";
	d->facts.data = w.data;
	d->facts.zero = w.zero;
	return (0);
}

static int
store_delta(struct point_store *ps, struct stored_disk *d, const struct delta_base *base, const struct manifest_disk *before,
    const struct source *s, const struct extents *ex, const struct archive_feed *feed, struct err *err)
{
	bool unchanged = !ps->run->reread && d->identity != NULL && before->identity != NULL && strcmp(d->identity, before->identity) == 0;
	struct extents *dirty = NULL;
	struct delta_written w;
	int rc = -1;

	if (unchanged && ((dirty = extents_new(ex->size, err)) == NULL || extents_end(dirty, err) == -1))
		goto out;
	if (!unchanged && s->dirty != NULL && (dirty = inherited_dirty(&ps->chain->inherited, d->target, archive_set_first(base->set)->ix, base->disk,
	    s->dirty, err)) == NULL)
		goto out;
	if ((rc = delta_write(ps->aw, d->target, d->member, base, ex, dirty, feed, &w, err)) == -1)
		goto out;
	ps->incremental = true;
	d->facts.how = unchanged ? "unchanged" : dirty != NULL ? "bitmap" : "compared";
	if (dirty == NULL && s->why_all != NULL && (d->why = strdup(s->why_all)) == NULL)
		rc = err_nomem(err);
	d->facts.data = w.stored;
	if (w.lost > 0)
		point_store_note(ps, "%s: %llu bytes were stored again, because the archive that had them is not to be had", d->target,
		    (unsigned long long)w.lost);
out:
	extents_free(dirty);
	return (rc);
}

/* Whether the disk is stored in full (1, 0, -1 on error), and why, where the machine has earlier points. */
static int
choose_full(struct point_store *ps, struct stored_disk *d, const struct manifest_disk *before, struct err *err)
{
	int r = 0;

	if (before == NULL && ps->chain->set != NULL)
		r = asprintf(&d->why, "the latest restore point has no disk %s", d->target);
	else if (before == NULL && ps->chain->why[0] != '\0')
		r = asprintf(&d->why, "the latest restore point cannot be gone on from: %s", ps->chain->why);
	else if (before != NULL && strcmp(before->format, d->format) != 0)
		r = asprintf(&d->why, "the format was %s, and is %s now", before->format, d->format);
	if (r == -1) {
		d->why = NULL;
		return (err_nomem(err));
	}
	return (before == NULL || d->why != NULL ? 1 : 0);
}

static int
store_disk(struct point_store *ps, struct stored_disk *d, struct source *s, const struct extents *ex, struct err *err)
{
	struct delta_base base = { .set = ps->chain->set };
	const struct manifest_disk *before = chain_disk(ps->chain, d->target, &base.disk);
	struct archive_feed feed = source_feed(s);
	int full = choose_full(ps, d, before, err);

	if (full == -1 || identity_text(s, ex, &d->identity, err) == -1)
		return (-1);
	if ((full ? store_full(ps, d, s, ex, &feed, err) : store_delta(ps, d, &base, before, s, ex, &feed, err)) == -1)
		return (-1);
	d->facts.why = d->why;
	d->facts.identity = d->identity;
	return (0);
}

int
point_store_disk(struct point_store *ps, const char *target, const char *member, const char *format, struct source *s, struct err *err)
{
	struct stored_disk *d = add_disk(ps, target, member, format, s, err);
	const char *label = strcmp(ps->vm, target) == 0 ? ps->vm : target;
	struct extents *ex;
	int rc;

	if (d == NULL)
		return (-1);
	s->tick = tick;
	s->tick_arg = ps;
	progress_begin(ps->run->progress, label, s->size);
	if ((ex = source_extents(s, err)) == NULL)
		return (-1);
	progress_begin(ps->run->progress, label, ex->bytes);
	rc = store_disk(ps, d, s, ex, err);
	progress_end(ps->run->progress);
	d->facts.provisioned = ex->bytes;
	d->facts.read = s->bytes_read;
	if (s->scanned)
		point_store_note(ps, "the storage of %s could not tell holes: zeroes were found by reading everything", target);
	extents_free(ex);
	return (rc);
}

static int
add_reference(void *arg, const uint8_t id[ARCHIVE_ID_LEN], struct err *err)
{
	struct point_store *ps = arg;
	char **v = realloc(ps->references, (ps->nreferences + 1) * sizeof(*v)), *text = malloc(UUID_LEN);

	if (v != NULL)
		ps->references = v;
	if (v == NULL || text == NULL) {
		free(text);
		return (err_nomem(err));
	}
	uuid_text(id, text);
	v[ps->nreferences++] = text;
	return (0);
}

int
point_store_finish(struct point_store *ps, struct err *err)
{
	if (archive_writer_references(ps->aw, add_reference, ps, err) == -1 ||
	    archive_writer_finish(ps->aw, ps->index, &ps->written, err) == -1 || store_sync(ps->archive, err) == -1 ||
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
		.vm = ps->vm, .kind = ps->incremental ? "incremental" : "full", .consistency = facts->consistency, .capture = facts->capture, .uuid = facts->uuid,
		.checkpoint = facts->checkpoint,
		.freeze_ms = facts->freeze_ms, .job = ps->run->job->name, .host = host, .program = "openvirt-backup " OVB_VERSION,
		.time = (time_t)ps->info.time, .finished = time(NULL), .disks = disks,
		.ndisks = ps->ndisks, .members = ps->members, .nmembers = ps->nmembers, .stored = ps->written.size,
		.references = (const char **)ps->references, .nreferences = ps->nreferences,
		.archive = { .id = id, .file = ps->file, .codec = ps->info.codec->name, .sha256 = ps->written.sha256, .level = ps->info.level,
		    .size = ps->written.size, .raw = ps->written.raw },
	};
	int rc = -1;

	if (ps->run->repo->st->note != NULL)
		point_store_note(ps, "%s", ps->run->repo->st->note);
	m.notes = (const char **)ps->notes;
	m.nnotes = ps->nnotes;
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
	result->incremental = ps->incremental;
	result->consistency = facts->consistency;
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
		free(ps->disks[i].why);
		free(ps->disks[i].identity);
	}
	free(ps->disks);
	for (size_t i = 0; i < ps->nmembers; i++)
		free((char *)(uintptr_t)ps->members[i].name);
	free(ps->members);
	for (size_t i = 0; i < ps->nnotes; i++)
		free(ps->notes[i]);
	for (size_t i = 0; i < ps->nreferences; i++)
		free(ps->references[i]);
	free(ps->references);
	free(ps->vm);
	free(ps);
}
