/* virt-restore export: a restore point as one tar file that needs nothing else. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "archive_writer.h"
#include "compression.h"
#include "disk_reader.h"
#include "human.h"
#include "io.h"
#include "member_reader.h"
#include "opened.h"
#include "partial.h"
#include "progress.h"

struct export {
	const struct options	*o;
	struct opened		 op;
	struct progress		 progress;
	struct partial		 partial;
	int			 fd;		/* of the partial file, or standard output */
	struct store_file	*out;
	struct archive_writer	*aw;
	struct archive_written	 written;
};

/* Standard output is not compressed: whoever pipes it chooses. */
static int
choose_codec(const char *file, struct index_info *info, struct err *err)
{
	static const char *const defaults[] = { "none", "bzip2", "xz", "zstd" };
	struct compression c;

	info->codec = strcmp(file, "-") == 0 ? &codec_none : codec_by_suffix(file);
	if (info->codec == NULL)
		return (err_set(err, 0, "%s: the name must end in .tar, .tar.bz2, .tar.xz or .tar.zst", file));
	if (compression_parse(defaults[info->codec->id], &c, err) == -1)
		return (-1);
	info->level = c.level;
	return (0);
}

static int
open_output(struct export *e, const char *file, struct err *err)
{
	if (strcmp(file, "-") == 0) {
		if (isatty(STDOUT_FILENO))
			return (err_set(err, 0, "standard output is a terminal: send it to a file or a program"));
		e->fd = STDOUT_FILENO;
	} else {
		if (partial_begin(&e->partial, file, e->o->force, err) == -1 || (e->fd = partial_create(&e->partial, err)) == -1)
			return (-1);
		leave_behind(e->partial.left);
	}
	e->out = store_stream_wrap(e->fd, e->partial.path != NULL ? e->partial.temporary : "standard output", err);
	return (e->out == NULL ? -1 : 0);
}

/* Each reading thread decompresses for itself. */
struct disk_feed {
	struct export	*e;
	uint32_t	 disk;
};

static void *
reader_new(void *arg, struct err *err)
{
	struct disk_feed *f = arg;

	return (disk_reader_new(f->e->op.set, f->disk, err));
}

static void
reader_free(void *reader)
{
	disk_reader_free(reader);
}

static int
reader_read(void *reader, void *p, size_t n, uint64_t offset, struct err *err)
{
	return (disk_reader_read(reader, p, n, offset, err));
}

static int
tick(void *arg, uint64_t done, struct err *err)
{
	struct disk_feed *f = arg;

	progress_update(&f->e->progress, done);
	return (interrupted ? err_set(err, EINTR, "stopped; nothing was kept") : 0);
}

static int
copy_disk(struct export *e, uint32_t n, struct err *err)
{
	const struct index_info *in = index_info(archive_set_first(e->op.set)->ix);
	const struct index_disk *d = index_disk(archive_set_first(e->op.set)->ix, n);
	struct disk_feed f = { .e = e, .disk = n };
	struct archive_feed feed = { .arg = &f, .reader_new = reader_new, .reader_free = reader_free, .read = reader_read, .tick = tick };
	struct disk_reader *dr = disk_reader_new(e->op.set, n, err);
	struct archive_disk_written written;
	struct extents *ex = NULL;
	int rc = -1;

	if (dr != NULL && (ex = disk_reader_extents(dr, err)) != NULL) {
		progress_begin(&e->progress, d->target, ex->bytes);
		rc = archive_writer_disk(e->aw, d->target, d->member, ex, in->time, &feed, &written, err);
	}
	extents_free(ex);
	disk_reader_free(dr);
	return (rc);
}

static int
copy_members(struct export *e, struct err *err)
{
	struct archive_reader *ar = archive_set_first(e->op.set);
	struct buf data = BUF_INIT;
	struct index_member m;
	int rc = 0;

	for (uint32_t i = 0; i < index_members(ar->ix) && rc == 0; i++) {
		buf_reset(&data);
		if ((rc = index_member(ar->ix, i, &m, err)) == 0 && (rc = member_read(ar, i, &data, err)) == 0)
			rc = archive_writer_member(e->aw, m.name, data.ptr, data.len, err);
	}
	buf_free(&data);
	return (rc);
}

static int
export_point(struct export *e, const char *file, struct err *err)
{
	struct index_reader *ix;
	struct index_info info;

	memset(&info, 0, sizeof(info));
	if (choose_codec(file, &info, err) == -1 || open_point(e->o, e->o->args[0], &e->op, err) == -1)
		return (-1);
	ix = archive_set_first(e->op.set)->ix;
	info.time = index_info(ix)->time;
	if (uuid_random(info.archive, err) == -1 || io_random(info.secret, sizeof(info.secret), err) == -1 ||
	    open_output(e, file, err) == -1 || (e->aw = archive_writer_new(&info, e->out, err)) == NULL ||
	    copy_members(e, err) == -1)
		return (-1);
	for (uint32_t i = 0; i < index_disks(ix); i++)
		if (copy_disk(e, i, err) == -1)
			return (-1);
	if (archive_writer_finish(e->aw, NULL, &e->written, err) == -1)
		return (-1);
	return (e->partial.made ? partial_publish(&e->partial, e->fd, err) : 0);
}

int
command_export(const struct options *o)
{
	struct export e = { .o = o, .op = OPENED_INIT, .partial = PARTIAL_INIT, .fd = -1 };
	struct err err = ERR_INIT;
	char size[HUMAN_LEN];
	int rc;

	progress_init(&e.progress, false, stderr, stdout);
	rc = export_point(&e, o->args[1], &err);
	progress_end(&e.progress);
	if (rc == -1)
		rc = print_error(&err);
	else if (e.fd != STDOUT_FILENO)
		printf("%s: %s, SHA-256 %s\n", o->args[1], human_size(e.written.size, size), e.written.sha256);
	leave_behind(NULL);
	archive_writer_free(e.aw);
	store_file_close(e.out);
	if (e.fd != STDOUT_FILENO)
		io_close(&e.fd);
	partial_end(&e.partial);
	opened_close(&e.op);
	return (rc);
}
