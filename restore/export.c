/* virt-restore export: a restore point as one tar file that needs nothing else. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "archive/archive_writer.h"
#include "archive/full_copy.h"
#include "base/human.h"
#include "base/io.h"
#include "base/progress.h"
#include "config/compression.h"
#include "opened.h"
#include "partial.h"

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

static int
begin(void *arg, const char *target, uint64_t bytes, struct err *err)
{
	struct export *e = arg;

	(void)err;
	progress_begin(&e->progress, target, bytes);
	return (0);
}

static int
tick(void *arg, uint64_t done, struct err *err)
{
	struct export *e = arg;

	progress_update(&e->progress, done);
	return (interrupted ? err_plain(err, EINTR, "stopped; nothing was kept") : 0);
}

static int
export_point(struct export *e, const char *file, struct err *err)
{
	struct full_copy fc = { .arg = e, .begin = begin, .tick = tick };
	struct index_info info;

	memset(&info, 0, sizeof(info));
	if (choose_codec(file, &info, err) == -1 || open_point(e->o, e->o->args[0], &e->op, err) == -1)
		return (-1);
	fc.set = e->op.set;
	info.time = index_info(archive_set_first(fc.set)->ix)->time;
	if (uuid_random(info.archive, err) == -1 || io_random(info.secret, sizeof(info.secret), err) == -1 ||
	    open_output(e, file, err) == -1 || (e->aw = archive_writer_new(&info, e->out, err)) == NULL ||
	    full_copy(&fc, e->aw, &info, NULL, err) == -1 || archive_writer_finish(e->aw, NULL, &e->written, err) == -1)
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
		printf("%s: %s, %u %% copied, SHA-256 %s\n", o->args[1], human_size(e.written.size, size), full_copy_percent(&e.written),
		    e.written.sha256);
	leave_behind(NULL);
	archive_writer_free(e.aw);
	store_file_close(e.out);
	if (e.fd != STDOUT_FILENO)
		io_close(&e.fd);
	partial_end(&e.partial);
	opened_close(&e.op);
	return (rc);
}
