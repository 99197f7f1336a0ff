#include "restore_disk.h"

#include <errno.h>

#include "archive/extract.h"

#define VIEW_BATCH	128u		/* records of the index read at once */

static int
on_data(void *arg, uint64_t offset, const void *p, size_t n, struct err *err)
{
	struct restore_disk *r = arg;

	return (target_write(r->target, offset, p, n, err));
}

/* What is lost reads as zeroes, also where a device or an export held something else before. */
static int
on_damage(void *arg, const char *disk, uint64_t offset, uint64_t length, const char *why, struct err *err)
{
	struct restore_disk *r = arg;

	if (r->damage == NULL)
		return (err_set(err, 0, "disk %s cannot be restored: %llu bytes at offset %llu are lost: %s (disk --keep-going saves the rest)", disk,
		    (unsigned long long)length, (unsigned long long)offset, why));
	damage_found(r->damage, disk, offset, length, why);
	return (target_zero(r->target, offset, length, err));
}

static int
on_progress(void *arg, uint64_t done, struct err *err)
{
	struct restore_disk *r = arg;

	progress_update(r->progress, done);
	return (interrupted ? err_plain(err, EINTR, "stopped: %s", r->target->keeps ? r->target->left : "nothing of the target was kept") : 0);
}

/* Zero what the view says is not data: the holes between its records, and its zero ranges. */
static int
zero_holes(struct restore_disk *r, const struct index_reader *ix, struct err *err)
{
	uint64_t count = index_view_count(ix, r->disk), end = 0;
	struct index_view v[VIEW_BATCH];
	size_t n;

	for (uint64_t at = 0; at < count; at += n) {
		n = count - at < VIEW_BATCH ? (size_t)(count - at) : VIEW_BATCH;
		if (index_view(ix, r->disk, at, n, v, err) == -1)
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

int
restore_disk_open(struct restore_disk *r, struct opened *op, uint32_t disk, const char *where, enum target_format format, bool force,
    struct err *err)
{
	struct index_reader *ix = archive_set_first(op->set)->ix;

	r->op = op;
	r->disk = disk;
	r->size = index_disk(ix, disk)->size;
	if (extract_size(ix, disk, &r->bytes, err) == -1)
		return (-1);
	return ((r->target = target_open(where, format, r->size, force, err)) == NULL ? -1 : 0);
}

int
restore_disk_fill(struct restore_disk *r, const char *label, struct err *err)
{
	static const struct extract_ops ops = { .data = on_data, .damage = on_damage, .progress = on_progress };

	progress_begin(r->progress, label, r->bytes);
	if (!r->target->zeroes && zero_holes(r, archive_set_first(r->op->set)->ix, err) == -1)
		return (-1);
	return (extract_disk(r->op->set, r->disk, &ops, r, err));
}

void
restore_disk_close(struct restore_disk *r)
{
	target_close(r->target);
	r->target = NULL;
}
