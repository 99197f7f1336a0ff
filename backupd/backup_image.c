#include "backup_image.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "archive_writer.h"
#include "io.h"
#include "source.h"

/* What one backup owns while it is under way. */
struct run {
	const struct image_backup	*b;
	struct source			*source;
	struct extents			*ex;
	struct point_writer		*pw;
	struct archive_writer		*aw;
	struct store_file		*archive, *index;
	struct index_info		 info;
	char				 file[32];	/* the archive's name */
	struct archive_disk_written	 disk;
	struct archive_written		 written;
};

static int
begin_archive(struct run *r, struct err *err)
{
	const struct compression *c = &r->b->job->compression;

	if ((r->info.codec = codec_by_id((uint32_t)c->codec)) == NULL)
		return (err_set(err, 0, "job %s: there is no codec number %d", r->b->job->name, (int)c->codec));
	r->info.level = c->level;
	r->info.time = time(NULL);
	if (uuid_random(r->info.archive, err) == -1 || io_random(r->info.secret, sizeof(r->info.secret), err) == -1)
		return (-1);
	snprintf(r->file, sizeof(r->file), "disks%s", r->info.codec->suffix);
	if ((r->pw = point_begin(r->b->repo, r->b->lock, r->b->file->vm, (time_t)r->info.time, err)) == NULL ||
	    (r->archive = point_create(r->pw, r->file, err)) == NULL || (r->index = point_create(r->pw, INDEX_MEMBER, err)) == NULL ||
	    (r->aw = archive_writer_new(&r->info, r->archive, err)) == NULL)
		return (-1);
	return (0);
}

/* Something was done: show it, and see whether to go on. */
static int
tick(void *arg, uint64_t done, struct err *err)
{
	struct run *r = arg;

	progress_update(r->b->progress, done);
	if (*r->b->interrupted)
		return (err_set(err, EINTR, "stopped; nothing of this restore point was kept"));
	return (0);
}

static int
copy_extent(struct run *r, const struct extent *e, uint64_t *done, struct err *err)
{
	uint64_t at;
	uint8_t *p;
	size_t n;

	for (at = 0; at < e->length; at += n) {
		if ((p = archive_writer_reserve(r->aw, e->offset + at, e->length - at, &n, err)) == NULL ||
		    source_read(r->source, p, n, e->offset + at, err) == -1)
			return (-1);
		*done += n;
		if (tick(r, *done, err) == -1)
			return (-1);
	}
	return (0);
}

static int
copy_disk(struct run *r, struct err *err)
{
	struct spool_cursor c;
	struct extent e;
	uint64_t done = 0;
	int more;

	progress_begin(r->b->progress, r->b->file->vm, r->ex->bytes);
	if (archive_writer_disk_begin(r->aw, r->b->file->vm, r->b->file->member, r->ex, r->source->mtime, err) == -1)
		return (-1);
	spool_cursor_init(&c, r->ex->spool);
	while ((more = extents_next(&c, &e, err)) == 1)
		if (copy_extent(r, &e, &done, err) == -1)
			return (-1);
	if (more == -1)
		return (-1);
	return (archive_writer_disk_end(r->aw, &r->disk, err));
}

static int
publish(struct run *r, struct err *err)
{
	const char *notes[2];
	char host[256] = "", id[UUID_LEN];
	struct buf sums = BUF_INIT;
	struct manifest_disk d = {
		.target = r->b->file->vm, .member = r->b->file->member, .source = r->source->path, .format = "raw", .size = r->source->size,
		.provisioned = r->ex->bytes, .read = r->source->bytes_read, .data = r->disk.data, .zero = r->disk.zero,
	};
	struct manifest m = {
		.vm = r->b->file->vm, .kind = "full", .consistency = r->source->in_use ? "inconsistent" : "offline", .capture = "image",
		.job = r->b->job->name, .host = host, .program = "openvirt-backup " OVB_VERSION, .time = (time_t)r->info.time,
		.finished = time(NULL), .notes = notes, .disks = &d, .ndisks = 1, .stored = r->written.size,
		.archive = { .id = id, .file = r->file, .codec = r->info.codec->name, .sha256 = r->written.sha256, .level = r->info.level,
		    .size = r->written.size, .raw = r->written.raw },
	};
	int rc = -1;

	gethostname(host, sizeof(host) - 1);
	uuid_text(r->info.archive, id);
	if (r->source->scanned)
		notes[m.nnotes++] = "the storage could not tell holes: zeroes were found by reading everything";
	if (r->source->in_use)
		notes[m.nnotes++] = "the image was held for writing by a QEMU while it was read (in_use = \"allow\")";
	if (buf_addf(&sums, err, "%s  %s\n%s  %s\n", r->written.sha256, r->file, r->written.index_sha256, INDEX_MEMBER) == 0)
		rc = point_publish(r->pw, &m, &sums, err);
	buf_free(&sums);
	return (rc);
}

static int
capture(struct run *r, struct err *err)
{
	if ((r->source = source_image_open(r->b->file->path, r->b->job->in_use_allow, err)) == NULL)
		return (-1);
	r->source->tick = tick;
	r->source->tick_arg = r;
	progress_begin(r->b->progress, r->b->file->vm, r->source->size);
	if ((r->ex = source_extents(r->source, err)) == NULL || begin_archive(r, err) == -1)
		return (-1);
	if (copy_disk(r, err) == -1 || archive_writer_finish(r->aw, r->index, &r->written, err) == -1 ||
	    source_settled(r->source, err) == -1)
		return (-1);
	if (store_sync(r->archive, err) == -1 || store_sync(r->index, err) == -1)
		return (-1);
	return (publish(r, err));
}

int
backup_image(const struct image_backup *b, struct image_backup_result *result, struct err *err)
{
	struct run r = { .b = b };
	struct timespec begun, ended;
	int rc;

	clock_gettime(CLOCK_MONOTONIC, &begun);
	rc = capture(&r, err);
	progress_end(b->progress);
	clock_gettime(CLOCK_MONOTONIC, &ended);
	if (rc == 0)
		*result = (struct image_backup_result){
			.point = *point_published(r.pw), .size = r.source->size, .provisioned = r.ex->bytes, .read = r.source->bytes_read,
			.stored = r.written.size,
			.seconds = (double)(ended.tv_sec - begun.tv_sec) + (double)(ended.tv_nsec - begun.tv_nsec) / 1e9,
		};
	archive_writer_free(r.aw);
	store_file_close(r.archive);
	store_file_close(r.index);
	point_end(r.pw);
	extents_free(r.ex);
	source_close(r.source);
	return (rc);
}
