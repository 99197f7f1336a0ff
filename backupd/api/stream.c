/* A run's state as lines of JSON, each when there is news.  Between them the connection is suspended and costs nothing. */
#include <stdlib.h>
#include <string.h>

#include "server.h"

#define HEARTBEAT_MS	15000
#define BLOCK		4096u

struct stream {
	LIST_ENTRY(stream)	 entry;
	struct api		*a;
	struct MHD_Connection	*conn;
	int64_t			 run;
	char			*line;		/* being sent */
	size_t			 len, sent;
	bool			 news, last, suspended;
};

static void
free_stream(void *cls)
{
	struct stream *s = cls;

	LIST_REMOVE(s, entry);
	s->a->nstreams--;
	free(s->line);
	free(s);
}

/* The state as it is now, however often it changed since the last line. */
static int
next_line(struct stream *s)
{
	json_t *o = s->a->ops->run_state(s->a->arg, s->run);

	free(s->line);
	s->line = o == NULL ? NULL : json_dumps(o, API_JSON);
	s->last = s->line == NULL || !json_is_null(json_object_get(o, "finished"));
	json_decref(o);
	s->news = false;
	s->sent = 0;
	if (s->line == NULL)
		return (-1);
	s->len = strlen(s->line);
	s->line[s->len++] = '\n';	/* in the place of the zero byte */
	return (0);
}

static ssize_t
read_stream(void *cls, uint64_t pos, char *out, size_t max)
{
	struct stream *s = cls;
	size_t n = s->len - s->sent;

	(void)pos;
	if (n == 0 && s->last)
		return (MHD_CONTENT_READER_END_OF_STREAM);
	if (n == 0 && !s->news) {
		MHD_suspend_connection(s->conn);
		s->suspended = true;
		return (0);
	}
	if (n == 0) {
		if (next_line(s) == -1)
			return (MHD_CONTENT_READER_END_WITH_ERROR);
		n = s->len;
	}
	if (n > max)
		n = max;
	memcpy(out, s->line + s->sent, n);
	s->sent += n;
	return ((ssize_t)n);
}

struct MHD_Response *
stream_response(struct api *a, struct client *c, int64_t run)
{
	struct MHD_Response *r;
	struct stream *s;

	if (a->nstreams == STREAMS_MAX || (s = calloc(1, sizeof(*s))) == NULL)
		return (NULL);
	*s = (struct stream){ .a = a, .conn = c->conn, .run = run, .news = true };
	if ((r = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK, read_stream, s, free_stream)) == NULL) {
		free(s);
		return (NULL);
	}
	if (a->nstreams++ == 0)
		a->heartbeat = api_now();
	LIST_INSERT_HEAD(&a->streams, s, entry);
	return (r);
}

static void
wake(struct stream *s)
{
	s->news = true;
	if (s->suspended) {
		s->suspended = false;
		MHD_resume_connection(s->conn);
	}
}

void
stream_changed(struct api *a, int64_t run)
{
	struct stream *s;

	for (s = LIST_FIRST(&a->streams); s != NULL; s = LIST_NEXT(s, entry)) {
		if (s->run == run)
			wake(s);
	}
}

void
stream_heartbeat(struct api *a)
{
	struct stream *s;

	if (stream_timeout(a) != 0)
		return;
	a->heartbeat = api_now();
	for (s = LIST_FIRST(&a->streams); s != NULL; s = LIST_NEXT(s, entry)) {
		wake(s);
	}
}

int
stream_timeout(const struct api *a)
{
	int64_t left = a->heartbeat + HEARTBEAT_MS - api_now();

	return (a->nstreams == 0 ? -1 : left < 0 ? 0 : (int)left);
}

void
stream_end(struct api *a)
{
	struct stream *s;

	for (s = LIST_FIRST(&a->streams); s != NULL; s = LIST_NEXT(s, entry)) {
		s->last = true;
		s->sent = s->len;
		wake(s);
	}
}
