#include "target.h"

#include <string.h>
#include <sys/stat.h>

#include "base/digest.h"
#include "partial.h"

#define GRAIN	4096u		/* zeroes are left out in pieces of this size: a page, and most file systems' block */

enum place { PLACE_FILE, PLACE_DEVICE, PLACE_NBD };

static enum place
place_of(const char *where)
{
	struct stat sb;

	if (strncmp(where, "nbd://", 6) == 0 || strncmp(where, "nbd+unix://", 11) == 0)
		return (PLACE_NBD);
	return (stat(where, &sb) == 0 && S_ISBLK(sb.st_mode) ? PLACE_DEVICE : PLACE_FILE);
}

static int
check_format(enum place place, const char *where, enum target_format format, struct err *err)
{
	if (format == TARGET_QCOW2 && place != PLACE_FILE)
		return (err_set(err, 0, "%s: --format qcow2 makes a file; to an NBD export or a block device a disk is written raw", where));
	return (0);
}

int
target_check(const char *where, enum target_format format, bool force, struct err *err)
{
	enum place place = place_of(where);

	if (check_format(place, where, format, err) == -1)
		return (-1);
	if (place == PLACE_DEVICE && !force)
		return (target_device_unforced(where, err));
	return (place == PLACE_FILE ? partial_check(where, force, err) : 0);
}

struct target *
target_open(const char *where, enum target_format format, uint64_t size, bool force, struct err *err)
{
	enum place place = place_of(where);

	if (check_format(place, where, format, err) == -1)
		return (NULL);
	if (place == PLACE_NBD)
		return (target_nbd_open(where, size, force, err));
	if (place == PLACE_DEVICE)
		return (target_device_open(where, size, force, err));
	if (format == TARGET_QCOW2)
		return (target_qcow2_open(where, size, force, err));
	return (target_file_open(where, size, force, err));
}

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
	int rc = 0;

	for (at = 0; at < n && rc == 0; at = end) {
		end = run_end(offset, p, n, at, &zero);
		rc = zero ? target_zero(t, offset + at, end - at, err)
		    : t->ops->write(t, offset + at, (const uint8_t *)p + at, end - at, err);
	}
	return (rc);
}

int
target_zero(struct target *t, uint64_t offset, uint64_t length, struct err *err)
{
	return (t->zeroes || length == 0 ? 0 : t->ops->zero(t, offset, length, err));
}

int
target_flush(struct target *t, struct err *err)
{
	if (!t->flushed && t->ops->flush(t, err) == -1)
		return (-1);
	t->flushed = true;
	return (0);
}

int
target_commit(struct target *t, struct err *err)
{
	if (target_flush(t, err) == -1)
		return (-1);
	return (t->ops->commit != NULL ? t->ops->commit(t, err) : 0);
}

void
target_close(struct target *t)
{
	if (t != NULL)
		t->ops->close(t);
}
