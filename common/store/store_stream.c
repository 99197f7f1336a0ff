/* A file that is only appended to, and need not be one: standard output, or a file outside any store. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/store.h"

struct stream {
	struct store_file	 f;
	int			 fd;
	char			*name;
};

static const struct store_ops stream_ops;

struct store_file *
store_stream_wrap(int fd, const char *name, struct err *err)
{
	struct stream *s = calloc(1, sizeof(*s));

	if (s == NULL || (s->name = strdup(name)) == NULL) {
		free(s);
		err_nomem(err);
		return (NULL);
	}
	s->f.ops = &stream_ops;
	s->fd = fd;
	return (&s->f);
}

static int
stream_append(struct store_file *f, const void *p, size_t n, struct err *err)
{
	struct stream *s = (struct stream *)f;
	const char *at = p;
	ssize_t r;

	for (; n > 0; at += r, n -= (size_t)r) {
		if ((r = write(s->fd, at, n)) >= 0)
			continue;
		if (errno != EINTR)
			return (err_set(err, errno, "cannot write %s", s->name));
		r = 0;
	}
	return (0);
}

static void
stream_close(struct store_file *f)
{
	struct stream *s = (struct stream *)f;

	free(s->name);
	free(s);
}

static const struct store_ops stream_ops = { .append = stream_append, .file_close = stream_close };
