#include "target.h"

#include "digest.h"

#define GRAIN	4096u		/* zeroes are left out in pieces of this size: a page, and most file systems' block */

/* The end of the run that begins at ${at}: whole aligned pieces that are all zero, or all not. */
static size_t
run_end(uint64_t offset, const uint8_t *p, size_t n, size_t at, bool *zero)
{
	size_t end = at, piece;
	bool z;

	for (; end < n; end += piece) {
		piece = GRAIN - (size_t)((offset + end) % GRAIN);
		if (piece > n - end)
			piece = n - end;
		z = bytes_are_zero(p + end, piece);
		if (end == at)
			*zero = z;
		else if (z != *zero)
			break;
	}
	return (end);
}

int
target_write(struct target *t, uint64_t offset, const void *p, size_t n, struct err *err)
{
	size_t at, end;
	bool zero = false;

	for (at = 0; at < n; at = end) {
		end = run_end(offset, p, n, at, &zero);
		if (!zero && t->ops->write(t, offset + at, (const uint8_t *)p + at, end - at, err) == -1)
			return (-1);
	}
	return (0);
}

int
target_commit(struct target *t, struct err *err)
{
	return (t->ops->commit(t, err));
}

void
target_close(struct target *t)
{
	if (t != NULL)
		t->ops->close(t);
}
