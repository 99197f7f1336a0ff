#include "base/pagecache.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
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

struct pagecache_map {
	size_t			 n;
	struct pagecache_range	*v[];		/* NULL where all was resident, or nothing is known */
};

static bool
all_resident(const struct pagecache_range *r)
{
	for (size_t i = 0; i < r->pages; i++)
		if ((r->resident[i] & 1) == 0)
			return (false);
	return (true);
}

struct pagecache_map *
pagecache_map_new(int fd, uint64_t length)
{
	size_t n = (size_t)((length + PAGECACHE_RANGE - 1) / PAGECACHE_RANGE), part;
	struct pagecache_map *m = calloc(1, sizeof(*m) + n * sizeof(m->v[0]));

	if (m == NULL)
		return (NULL);
	for (m->n = 0; m->n < n; m->n++) {
		part = (size_t)(length - m->n * PAGECACHE_RANGE < PAGECACHE_RANGE ? length - m->n * PAGECACHE_RANGE : PAGECACHE_RANGE);
		if ((m->v[m->n] = malloc(sizeof(*m->v[0]))) == NULL)
			continue;
		pagecache_look(m->v[m->n], fd, m->n * PAGECACHE_RANGE, part);
		if (all_resident(m->v[m->n])) {
			free(m->v[m->n]);
			m->v[m->n] = NULL;
		}
	}
	return (m);
}

void
pagecache_map_end(struct pagecache_map *m)
{
	if (m == NULL)
		return;
	for (size_t i = 0; i < m->n; i++) {
		if (m->v[i] != NULL)
			pagecache_restore(m->v[i]);
		free(m->v[i]);
	}
	free(m);
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
