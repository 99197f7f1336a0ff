#include "pagecache.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#define PIECE	((uint64_t)8 << 20)

void
pagecache_look(struct pagecache_range *r, int fd, uint64_t offset, size_t length)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), span;
	void *map;

	r->fd = fd;
	r->offset = offset - offset % page;
	r->pages = 0;
	span = length + (size_t)(offset - r->offset);
	if (length == 0 || length > PAGECACHE_RANGE || (span + page - 1) / page > sizeof(r->resident))
		return;
	/* PROT_NONE: the mapping is only a way to ask, nothing is ever read through it. */
	if ((map = mmap(NULL, span, PROT_NONE, MAP_SHARED, fd, (off_t)r->offset)) == MAP_FAILED)
		return;
	if (mincore(map, span, r->resident) == 0)
		r->pages = (span + page - 1) / page;
	munmap(map, span);
}

void
pagecache_restore(const struct pagecache_range *r)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), i, n;

	for (i = 0; i < r->pages; i += n) {
		for (n = 1; i + n < r->pages && (r->resident[i + n] & 1) == (r->resident[i] & 1); n++)
			;
		if ((r->resident[i] & 1) == 0)
			posix_fadvise(r->fd, (off_t)(r->offset + i * page), (off_t)(n * page), POSIX_FADV_DONTNEED);
	}
}

void
pagecache_wrote(struct pagecache_writer *w, uint64_t end)
{
	uint64_t piece;

	while (end - w->begun >= PIECE) {
		sync_file_range(w->fd, (off_t)w->begun, (off_t)PIECE, SYNC_FILE_RANGE_WRITE);
		w->begun += PIECE;
		if (w->begun - w->dropped < 3 * PIECE)
			continue;
		piece = w->dropped;
		sync_file_range(w->fd, (off_t)piece, (off_t)PIECE,
		    SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
		posix_fadvise(w->fd, (off_t)piece, (off_t)PIECE, POSIX_FADV_DONTNEED);
		w->dropped += PIECE;
	}
}

void
pagecache_drop(int fd)
{
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
}
