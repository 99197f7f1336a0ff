#include "base/extent.h"

#include <stdlib.h>
#include <string.h>

struct extents *
extents_new(uint64_t size, struct err *err)
{
	struct extents *ex = calloc(1, sizeof(*ex));

	if (ex == NULL) {
		err_nomem(err);
		return (NULL);
	}
	ex->size = size;
	if ((ex->spool = spool_new(sizeof(struct extent), err)) == NULL) {
		free(ex);
		return (NULL);
	}
	return (ex);
}

static int
push_last(struct extents *ex, struct err *err)
{
	if (ex->last.length == 0)
		return (0);
	ex->count++;
	ex->bytes += ex->last.length;
	ex->data_end = ex->last.offset + ex->last.length;
	return (spool_add(ex->spool, &ex->last, err));
}

int
extents_add(struct extents *ex, uint64_t offset, uint64_t length, struct err *err)
{
	uint64_t end;

	if (length == 0)
		return (0);
	if (offset > ex->size || length > ex->size - offset || offset < ex->last.offset)
		return (err_set(err, 0, "extent %llu+%llu is out of order or beyond the disk's %llu bytes", (unsigned long long)offset,
		    (unsigned long long)length, (unsigned long long)ex->size));
	end = offset + length;
	offset -= offset % SECTOR;
	if (end % SECTOR != 0)
		end = ex->size - end < SECTOR - end % SECTOR ? ex->size : end + SECTOR - end % SECTOR;
	if (ex->last.length > 0 && offset <= ex->last.offset + ex->last.length) {
		if (end > ex->last.offset + ex->last.length)
			ex->last.length = end - ex->last.offset;
		return (0);
	}
	if (push_last(ex, err) == -1)
		return (-1);
	ex->last = (struct extent){ offset, end - offset };
	return (0);
}

int
extents_end(struct extents *ex, struct err *err)
{
	int rc = push_last(ex, err);

	ex->last.length = 0;
	return (rc);
}

void
extents_free(struct extents *ex)
{
	if (ex == NULL)
		return;
	spool_free(ex->spool);
	free(ex);
}

int
extents_next(struct spool_cursor *c, struct extent *e, struct err *err)
{
	const void *rec;
	int r;

	if ((r = spool_next(c, &rec, err)) == 1)
		memcpy(e, rec, sizeof(*e));
	return (r);
}
