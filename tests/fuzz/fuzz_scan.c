/* An archive without its index: any bytes are refused with a reason, or give an index that passes its own check, with members that can be read. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "archive/archive_scan.h"
#include "archive/member_reader.h"
#include "base/io.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(struct archive_reader *ar)
{
	struct err err = ERR_INIT;
	struct buf out = BUF_INIT;
	struct index_member m;

	assert(index_members(ar->ix) + index_disks(ar->ix) > 0);
	for (uint32_t i = 0; i < index_members(ar->ix); i++) {
		buf_reset(&out);
		assert(index_member(ar->ix, i, &m, &err) == 0 && member_read(ar, i, &out, &err) == 0 && out.len == m.length);
	}
	buf_free(&out);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct manifest_disk d = { .target = "vda", .member = "vda.img", .size = 5 * 65536 };
	struct manifest m = { .disks = &d, .ndisks = 1 };
	int fd = memfd_create("archive", MFD_CLOEXEC);
	struct archive_reader ar = { .name = NULL };
	struct buf notes = BUF_INIT;
	struct err err = ERR_INIT;
	char name[] = "archive";

	setenv("TMPDIR", "/dev/shm", 0);
	assert(fd != -1 && io_pwrite(fd, data, size, 0) == 0);
	ar.name = name;
	assert((ar.data = store_dir_wrap(fd, "archive", &err)) != NULL);
	if ((ar.ix = archive_scan(ar.data, size % 2 ? &m : NULL, &notes, &err)) != NULL)
		check(&ar);
	else
		assert(err.text[0] != '\0');
	index_close(ar.ix);
	store_file_close(ar.data);
	buf_free(&notes);
	return (0);
}
