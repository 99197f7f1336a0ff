#include "source.h"

#include <stddef.h>

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

int
source_read(struct source *s, void *p, size_t n, uint64_t offset, struct err *err)
{
	if (s->ops->read(s, p, n, offset, err) == -1)
		return (-1);
	s->bytes_read += n;
	return (0);
}

int
source_settled(struct source *s, struct err *err)
{
	return (s->ops->settled(s, err));
}

void
source_close(struct source *s)
{
	if (s != NULL)
		s->ops->close(s);
}
