/* virt-restore disk: one disk of a restore point, written to a target. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "damage.h"
#include "extract.h"
#include "human.h"
#include "opened.h"
#include "progress.h"
#include "target.h"

#define VIEW_BATCH	128u		/* records of the index read at once */

struct restore {
	const struct options	*o;
	struct target		*target;
	struct progress		 progress;
	struct damage		 damage;
	uint64_t		 size, bytes;	/* of the disk, and of its data */
};

static int
on_data(void *arg, uint64_t offset, const void *p, size_t n, struct err *err)
{
	struct restore *r = arg;

	return (target_write(r->target, offset, p, n, err));
}

/* What is lost reads as zeroes, also where a device or an export held something else before. */
static int
on_damage(void *arg, const char *disk, uint64_t offset, uint64_t length, const char *why, struct err *err)
{
	struct restore *r = arg;

	if (!r->o->keep_going)
		return (err_set(err, 0, "disk %s cannot be restored: %llu bytes at offset %llu are lost: %s (--keep-going saves the rest)", disk,
		    (unsigned long long)length, (unsigned long long)offset, why));
	damage_found(&r->damage, disk, offset, length, why);
	return (target_zero(r->target, offset, length, err));
}

static int
on_progress(void *arg, uint64_t done, struct err *err)
{
	struct restore *r = arg;

	progress_update(&r->progress, done);
	return (interrupted ? err_set(err, EINTR, "stopped: %s", r->target->keeps ? r->target->left : "nothing of the target was kept") : 0);
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

/* Zero what the view says is not data: the holes between its records, and its zero ranges. */
static int
zero_holes(struct restore *r, const struct index_reader *ix, uint32_t disk, struct err *err)
{
	uint64_t count = index_view_count(ix, disk), end = 0;
	struct index_view v[VIEW_BATCH];
	size_t n;

	for (uint64_t at = 0; at < count; at += n) {
		n = count - at < VIEW_BATCH ? (size_t)(count - at) : VIEW_BATCH;
		if (index_view(ix, disk, at, n, v, err) == -1)
			return (-1);
		for (size_t i = 0; i < n; i++) {
			if (v[i].kind != VIEW_DATA)
				continue;
			if (target_zero(r->target, end, v[i].offset - end, err) == -1 || on_progress(r, 0, err) == -1)
				return (-1);
			end = v[i].offset + v[i].length;
		}
	}
	return (target_zero(r->target, end, r->size - end, err));
}

static int
restore_disk(struct opened *op, struct restore *r, struct err *err)
{
	static const struct extract_ops ops = { .data = on_data, .damage = on_damage, .progress = on_progress };
	const char *name = r->o->args[1];
	struct index_reader *ix = archive_set_first(op->set)->ix;
	uint32_t disk = index_disk_find(ix, name);
	enum target_format format = r->o->format != NULL && strcmp(r->o->format, "qcow2") == 0 ? TARGET_QCOW2 : TARGET_RAW;

	if (disk == UINT32_MAX)
		return (no_such_disk(ix, name, err));
	r->size = index_disk(ix, disk)->size;
	if (extract_size(ix, disk, &r->bytes, err) == -1 ||
	    (r->target = target_open(r->o->args[2], format, r->size, r->o->force, err)) == NULL)
		return (-1);
	leave_behind(r->target->left);
	progress_begin(&r->progress, name, r->bytes);
	if ((!r->target->zeroes && zero_holes(r, ix, disk, err) == -1) || extract_disk(op->set, disk, &ops, r, err) == -1)
		return (-1);
	return (target_commit(r->target, err));
}

static int
report(const struct restore *r)
{
	char size[HUMAN_LEN], data[HUMAN_LEN], duration[HUMAN_LEN];
	double seconds = progress_seconds(&r->progress);
	const struct options *o = r->o;
	json_t *e;

	if (o->json) {
		e = json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:f}", "event", "done", "disk", o->args[1], "target", o->args[2], "size",
		    (json_int_t)r->size, "data", (json_int_t)r->bytes, "lost", (json_int_t)r->damage.bytes, "seconds", seconds);
		if (json_dumpf(e, stdout, JSON_COMPACT | JSON_ENSURE_ASCII) == 0)
			putchar('\n');
		json_decref(e);
	} else
		printf("%s: %s disk, %s of data, %s\n", o->args[2], human_size(r->size, size), human_size(r->bytes, data),
		    human_duration(seconds, duration));
	return (damage_report(&r->damage, o->args[2]));
}

int
command_disk(const struct options *o)
{
	struct opened op = OPENED_INIT;
	struct restore r = { .o = o };
	struct err err = ERR_INIT;
	int rc;

	progress_init(&r.progress, o->json, stderr, stdout);
	damage_init(&r.damage, o->json, &r.progress);
	if (open_point(o, o->args[0], &op, &err) == -1)
		rc = print_error(&err);
	else {
		rc = restore_disk(&op, &r, &err);
		progress_end(&r.progress);
		rc = rc == -1 ? print_error(&err) : report(&r);
	}
	leave_behind(NULL);
	target_close(r.target);
	opened_close(&op);
	return (rc);
}
