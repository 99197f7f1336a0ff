#include "source.h"

#include <stdlib.h>

struct extents *
source_extents(struct source *s, struct err *err)
{
	struct extents *ex = extents_new(s->size, err);

	if (ex == NULL)
		return (NULL);
	if (s->ops->extents(s, ex, err) == -1 || extents_end(ex, err) == -1) {
		extents_free(ex);
		return (NULL);
	}
	return (ex);
}

struct source_reader *
source_reader_new(struct source *s, struct err *err)
{
	struct source_reader *r = s->ops->reader_new(s, err);

	if (r != NULL)
		r->s = s;
	return (r);
}

void
source_reader_free(struct source_reader *r)
{
	if (r != NULL)
		r->s->ops->reader_free(r);
}

int
source_read(struct source_reader *r, void *p, size_t n, uint64_t offset, struct err *err)
{
	if (r->s->ops->read(r, p, n, offset, err) == -1)
		return (-1);
	atomic_fetch_add(&r->s->bytes_read, n);
	return (0);
}

static void *
feed_reader_new(void *arg, struct err *err)
{
	return (source_reader_new(arg, err));
}

static void
feed_reader_free(void *reader)
{
	source_reader_free(reader);
}

static int
feed_read(void *reader, void *p, size_t n, uint64_t offset, struct err *err)
{
	return (source_read(reader, p, n, offset, err));
}

static int
feed_tick(void *arg, uint64_t done, struct err *err)
{
	struct source *s = arg;

	return (s->tick != NULL ? s->tick(s->tick_arg, done, err) : 0);
}

struct archive_feed
source_feed(struct source *s)
{
	return ((struct archive_feed){ .arg = s, .reader_new = feed_reader_new, .reader_free = feed_reader_free, .read = feed_read,
	    .tick = feed_tick });
}

int
source_settled(struct source *s, struct err *err)
{
	return (s->ops->settled(s, err));
}

void
source_close(struct source *s)
{
	if (s == NULL)
		return;
	free(s->identity);
	free(s->why_all);
	extents_free(s->dirty);
	s->ops->close(s);
}
