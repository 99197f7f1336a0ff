/* virt-restore disk: one disk of a restore point, written to a target. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "extract.h"
#include "human.h"
#include "opened.h"
#include "progress.h"
#include "target.h"

struct restore {
	struct target	*target;
	struct progress	 progress;
};

static int
on_data(void *arg, uint64_t offset, const void *p, size_t n, struct err *err)
{
	struct restore *r = arg;

	return (target_write(r->target, offset, p, n, err));
}

static int
on_damage(void *arg, const char *disk, uint64_t offset, uint64_t length, const char *why, struct err *err)
{
	(void)arg;
	return (err_set(err, 0, "disk %s cannot be restored: %llu bytes at offset %llu are lost: %s", disk, (unsigned long long)length,
	    (unsigned long long)offset, why));
}

static int
on_progress(void *arg, uint64_t done, struct err *err)
{
	struct restore *r = arg;

	progress_update(&r->progress, done);
	return (interrupted ? err_set(err, EINTR, "stopped; nothing of the target was kept") : 0);
}

/* Which disks there are, for somebody who named another. */
static int
no_such_disk(const struct index_reader *ix, const char *name, struct err *err)
{
	struct buf names = BUF_INIT;

	for (uint32_t i = 0; i < index_disks(ix); i++)
		if (buf_addf(&names, err, " %s", index_disk(ix, i)->target) == -1)
			break;
	err_set(err, ENOENT, "there is no disk \"%s\" in it; it has:%s", name, names.ptr != NULL ? names.ptr : " none");
	buf_free(&names);
	return (-1);
}

static int
restore_disk(const struct options *o, struct opened *op, struct restore *r, uint64_t *bytes, struct err *err)
{
	static const struct extract_ops ops = { .data = on_data, .damage = on_damage, .progress = on_progress };
	const char *name = o->args[1], *target = o->args[2];
	struct index_reader *ix = archive_set_first(op->set)->ix;
	uint32_t disk = index_disk_find(ix, name);

	if (disk == UINT32_MAX)
		return (no_such_disk(ix, name, err));
	if (extract_size(ix, disk, bytes, err) == -1 ||
	    (r->target = target_file_open(target, index_disk(ix, disk)->size, o->force, err)) == NULL)
		return (-1);
	progress_begin(&r->progress, name, *bytes);
	if (extract_disk(op->set, disk, &ops, r, err) == -1)
		return (-1);
	return (target_commit(r->target, err));
}

static void
report(const struct options *o, const struct restore *r, uint64_t size, uint64_t bytes)
{
	char text_size[HUMAN_LEN], text_bytes[HUMAN_LEN], duration[HUMAN_LEN];
	double seconds = progress_seconds(&r->progress);
	json_t *e;

	if (o->json) {
		e = json_pack("{s:s, s:s, s:s, s:I, s:I, s:f}", "event", "done", "disk", o->args[1], "target", o->args[2], "size",
		    (json_int_t)size, "data", (json_int_t)bytes, "seconds", seconds);
		if (json_dumpf(e, stdout, JSON_COMPACT) == 0)
			putchar('\n');
		json_decref(e);
		return;
	}
	printf("%s: %s disk, %s of data, %s\n", o->args[2], human_size(size, text_size), human_size(bytes, text_bytes),
	    human_duration(seconds, duration));
}

int
command_disk(const struct options *o)
{
	struct opened op = OPENED_INIT;
	struct restore r = { .target = NULL };
	struct err err = ERR_INIT;
	uint64_t bytes = 0;
	int rc = EXIT_DONE;

	progress_init(&r.progress, o->json, stderr, stdout);
	if (open_point(o, o->args[0], &op, &err) == -1)
		rc = print_error(&err);
	else {
		if (restore_disk(o, &op, &r, &bytes, &err) == -1)
			rc = EXIT_FAILED;
		progress_end(&r.progress);
		if (rc == EXIT_FAILED)
			print_error(&err);
		else
			report(o, &r, index_disk(archive_set_first(op.set)->ix,
			    index_disk_find(archive_set_first(op.set)->ix, o->args[1]))->size, bytes);
	}
	target_close(r.target);
	opened_close(&op);
	return (rc);
}
