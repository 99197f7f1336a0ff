/* virt-restore disk: one disk of a restore point, written to a target. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/human.h"
#include "restore_disk.h"

/* Which disks there are, for somebody who named another. */
static int
no_such_disk(const struct index_reader *ix, const char *point, const char *name, struct err *err)
{
	struct buf names = BUF_INIT;

	for (uint32_t i = 0; i < index_disks(ix); i++)
		if (buf_addf(&names, err, " %s", index_disk(ix, i)->target) == -1)
			break;
	err_plain(err, ENOENT, "%s has no disk \"%s\"; it has:%s", point, name, names.ptr != NULL ? names.ptr : " none");
	buf_free(&names);
	return (-1);
}

static int
restore(const struct options *o, struct opened *op, struct restore_disk *r, struct err *err)
{
	struct index_reader *ix = archive_set_first(op->set)->ix;
	uint32_t disk = index_disk_find(ix, o->args[1]);
	enum target_format format = o->format != NULL && strcmp(o->format, "qcow2") == 0 ? TARGET_QCOW2 : TARGET_RAW;

	if (disk == UINT32_MAX)
		return (no_such_disk(ix, o->archive != NULL ? o->archive : o->args[0], o->args[1], err));
	if (strcmp(o->args[2], "-") == 0)
		return (err_plain(err, EINVAL, "disk %s is not written from front to back, so not to standard output: name a file (./- for one of that name), or use export",
		    o->args[1]));
	if (restore_disk_open(r, op, disk, o->args[2], format, o->force, err) == -1)
		return (-1);
	leave_behind(r->target->left);
	if (restore_disk_fill(r, o->args[1], err) == -1)
		return (-1);
	return (target_commit(r->target, err));
}

static int
report(const struct options *o, const struct restore_disk *r, const struct damage *damage)
{
	char size[HUMAN_LEN], data[HUMAN_LEN], duration[HUMAN_LEN];
	double seconds = progress_seconds(r->progress);
	json_t *e;

	if (o->json) {
		e = json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:f}", "event", "done", "disk", o->args[1], "target", o->args[2], "size",
		    (json_int_t)r->size, "data", (json_int_t)r->bytes, "lost", (json_int_t)damage->bytes, "seconds", seconds);
		if (json_dumpf(e, stdout, JSON_COMPACT | JSON_ENSURE_ASCII) == 0)
			putchar('\n');
		json_decref(e);
	} else
		printf("%s: %s disk, %s of data, %s\n", o->args[2], human_size(r->size, size), human_size(r->bytes, data),
		    human_duration(seconds, duration));
	return (damage_report(damage, o->args[2]));
}

int
command_disk(const struct options *o)
{
	struct opened op = OPENED_INIT;
	struct progress progress;
	struct damage damage = { .count = 0 };
	struct restore_disk r = { .progress = &progress, .damage = o->keep_going ? &damage : NULL };
	struct err err = ERR_INIT;
	int rc;

	progress_init(&progress, o->json, stderr, stdout);
	damage_init(&damage, o->json, &progress);
	if (open_point(o, o->args[0], &op, &err) == -1)
		rc = print_error(&err);
	else {
		rc = restore(o, &op, &r, &err);
		progress_end(&progress);
		rc = rc == -1 ? print_error(&err) : report(o, &r, &damage);
	}
	leave_behind(NULL);
	restore_disk_close(&r);
	opened_close(&op);
	return (rc);
}
