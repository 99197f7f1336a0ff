#include "archive/full_copy.h"

#include "archive/copy_plan.h"
#include "archive/disk_reader.h"
#include "archive/member_reader.h"

/* Each reading thread decompresses for itself. */
struct feed {
	const struct full_copy	*fc;
	uint32_t		 disk;
};

static void *
reader_new(void *arg, struct err *err)
{
	struct feed *f = arg;

	return (disk_reader_new(f->fc->set, f->disk, err));
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
	struct feed *f = arg;

	return (f->fc->tick != NULL ? f->fc->tick(f->fc->arg, done, err) : 0);
}

static int
copy_disk(const struct full_copy *fc, struct archive_writer *aw, const struct index_info *info, uint32_t n, struct archive_disk_written *written,
    struct err *err)
{
	const struct index_disk *d = index_disk(archive_set_first(fc->set)->ix, n);
	struct feed f = { .fc = fc, .disk = n };
	struct archive_feed feed = { .arg = &f, .reader_new = reader_new, .reader_free = reader_free, .read = reader_read, .tick = tick };
	struct copy_plan plan = COPY_PLAN_INIT;
	int rc = -1;

	if (copy_plan_make(&plan, fc->set, n, info->codec, info->level, err) == 0 &&
	    (fc->begin == NULL || fc->begin(fc->arg, d->target, plan.ex->bytes, err) == 0)) {
		feed.copies = plan.copies;
		rc = archive_writer_disk(aw, d->target, d->member, plan.ex, info->time, &feed, written, err);
	}
	copy_plan_free(&plan);
	return (rc);
}

static int
copy_members(const struct full_copy *fc, struct archive_writer *aw, struct err *err)
{
	struct archive_reader *ar = archive_set_first(fc->set);
	struct buf data = BUF_INIT;
	struct index_member m;
	int rc = 0;

	for (uint32_t i = 0; i < index_members(ar->ix) && rc == 0; i++) {
		buf_reset(&data);
		if ((rc = index_member(ar->ix, i, &m, err)) == 0 && (rc = member_read(ar, i, &data, err)) == 0)
			rc = archive_writer_member(aw, m.name, data.ptr, data.len, err);
	}
	buf_free(&data);
	return (rc);
}

int
full_copy(const struct full_copy *fc, struct archive_writer *aw, const struct index_info *info, struct archive_disk_written *written,
    struct err *err)
{
	uint32_t n = index_disks(archive_set_first(fc->set)->ix);
	struct archive_disk_written w;

	if (copy_members(fc, aw, err) == -1)
		return (-1);
	for (uint32_t i = 0; i < n; i++)
		if (copy_disk(fc, aw, info, i, written != NULL ? &written[i] : &w, err) == -1)
			return (-1);
	return (0);
}

unsigned int
full_copy_percent(const struct archive_written *w)
{
	return (w->size > 0 ? (unsigned int)((double)w->copied * 100 / (double)w->size + 0.5) : 0);
}
