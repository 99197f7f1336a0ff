#include "base/spool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"

#define SPOOL_MEMORY	((size_t)1 << 20)	/* bytes held back from the file */

struct spool {
	size_t	 record;
	size_t	 tail_max;	/* records that fit in tail */
	uint64_t in_file;	/* records in the file, before those in tail */
	size_t	 in_tail;
	uint8_t	*tail;
	size_t	 tail_cap;	/* bytes allocated */
	int	 fd;		/* -1 until the first spill */
};

struct spool *
spool_new(size_t record, struct err *err)
{
	struct spool *sp = calloc(1, sizeof(*sp));

	if (sp == NULL) {
		err_nomem(err);
		return (NULL);
	}
	sp->record = record;
	sp->tail_max = SPOOL_MEMORY / record;
	sp->fd = -1;
	return (sp);
}

/* Move the tail to the file. */
static int
spill(struct spool *sp, struct err *err)
{
	if (sp->fd == -1 && (sp->fd = io_tempfile(err)) == -1)
		return (-1);
	if (io_pwrite(sp->fd, sp->tail, sp->in_tail * sp->record, sp->in_file * sp->record) == -1)
		return (io_temp_failed(errno, "write", err));
	sp->in_file += sp->in_tail;
	sp->in_tail = 0;
	return (0);
}

int
spool_add(struct spool *sp, const void *rec, struct err *err)
{
	size_t cap;
	uint8_t *p;

	if (sp->in_tail == sp->tail_max && spill(sp, err) == -1)
		return (-1);
	if ((sp->in_tail + 1) * sp->record > sp->tail_cap) {
		cap = sp->tail_cap == 0 ? 4096 : sp->tail_cap * 4;
		if (cap > SPOOL_MEMORY)
			cap = SPOOL_MEMORY;
		if ((p = realloc(sp->tail, cap)) == NULL)
			return (err_nomem(err));
		sp->tail = p;
		sp->tail_cap = cap;
	}
	memcpy(sp->tail + sp->in_tail * sp->record, rec, sp->record);
	sp->in_tail++;
	return (0);
}

uint64_t
spool_count(const struct spool *sp)
{
	return (sp->in_file + sp->in_tail);
}

int
spool_read(struct spool *sp, uint64_t first, size_t n, void *recs, struct err *err)
{
	size_t from_file = 0, bytes;

	if (first < sp->in_file) {
		from_file = n < sp->in_file - first ? n : (size_t)(sp->in_file - first);
		bytes = from_file * sp->record;
		errno = 0;
		if (io_pread(sp->fd, recs, bytes, first * sp->record) != (ssize_t)bytes)
			return (io_temp_failed(errno ? errno : EIO, "read", err));
	}
	if (n > from_file)
		memcpy((uint8_t *)recs + from_file * sp->record,
		    sp->tail + (size_t)(first + from_file - sp->in_file) * sp->record, (n - from_file) * sp->record);
	return (0);
}

void
spool_free(struct spool *sp)
{
	if (sp == NULL)
		return;
	io_close(&sp->fd);
	free(sp->tail);
	free(sp);
}

void
spool_cursor_init(struct spool_cursor *c, struct spool *sp)
{
	c->sp = sp;
	c->next = 0;
	c->have = c->at = 0;
}

int
spool_next(struct spool_cursor *c, const void **rec, struct err *err)
{
	uint64_t left = spool_count(c->sp) - c->next;
	size_t n;

	if (c->at == c->have) {
		n = sizeof(c->buf) / c->sp->record;
		if (left < n)
			n = (size_t)left;
		if (n == 0)
			return (0);
		if (spool_read(c->sp, c->next, n, c->buf, err) == -1)
			return (-1);
		c->have = n;
		c->at = 0;
	}
	*rec = c->buf + c->at * c->sp->record;
	c->at++;
	c->next++;
	return (1);
}
