#include "run_log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/human.h"
#include "base/io.h"
#include "state_dir.h"

#define FOLDER		"log"

static int
path_of(char *out, size_t n, int64_t id, const char *ending)
{
	return (snprintf(out, n, "%s/" FOLDER "/%" PRId64 ".%s", state_dir(), id, ending) < (int)n ? 0 : -1);
}

int
run_log_open(struct run_log *l, int64_t id, struct err *err)
{
	char path[4096];
	struct stat st;

	*l = (struct run_log)RUN_LOG_INIT;
	snprintf(path, sizeof(path), "%s/" FOLDER, state_dir());
	if (make_folder(path, 0700, err) == -1 || path_of(path, sizeof(path), id, "log") == -1)
		return (-1);
	if ((l->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600)) == -1)
		return (err_set(err, errno, "cannot write the log %s", path));
	if (fstat(l->fd, &st) == 0)
		l->size = (size_t)st.st_size;
	return (0);
}

void
run_log_line(struct run_log *l, const char *text)
{
	char when[32], *safe;
	time_t now = time(NULL);
	struct tm tm;
	ssize_t n;

	if (l->fd == -1 || l->cut || (safe = strdup(text)) == NULL)
		return;
	gmtime_r(&now, &tm);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
	if (l->size + strlen(safe) > RUN_LOG_MAX) {
		l->cut = true;
		n = dprintf(l->fd, "%s (more is not kept)\n", when);
	} else
		n = dprintf(l->fd, "%s %s\n", when, human_safe(safe));
	/* A full disk: the run is what counts. */
	if (n > 0)
		l->size += (size_t)n;
	free(safe);
}

void
run_log_close(struct run_log *l)
{
	io_close(&l->fd);
}

int
run_log_read(int64_t id, size_t limit, struct buf *out, struct err *err)
{
	char path[4096];
	struct stat st;
	ssize_t n = -1;
	size_t size;
	int fd;

	if (path_of(path, sizeof(path), id, "log") == -1 || (fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)) == -1)
		return (err_set(err, errno, "cannot read the log %s", path));
	if (fstat(fd, &st) == 0) {
		size = (size_t)st.st_size < limit ? (size_t)st.st_size : limit;
		if (buf_reserve(out, size, err) == -1) {
			close(fd);
			return (-1);
		}
		if ((n = io_pread(fd, out->ptr + out->len, size, (uint64_t)st.st_size - size)) >= 0) {
			out->len += (size_t)n;
			out->ptr[out->len] = '\0';
		}
	}
	if (n == -1)
		err_set(err, errno, "cannot read the log %s", path);
	close(fd);
	return (n == -1 ? -1 : 0);
}

static void
remove_one(int64_t id, const char *ending)
{
	char path[4096];

	if (path_of(path, sizeof(path), id, ending) == 0)
		(void)unlink(path);	/* it is swept at the next start */
}

void
run_log_remove(int64_t id)
{
	remove_one(id, "log");
	remove_one(id, "result");
}

void
run_log_sweep(bool (*wanted)(void *arg, int64_t id, bool notes), void *arg)
{
	char path[4096], *end;
	bool notes;
	struct dirent *d;
	long long id;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/" FOLDER, state_dir());
	if ((dir = opendir(path)) == NULL)
		return;
	/* cppcheck-suppress readdirCalled ; glibc's is safe for threads with a DIR each */
	while ((d = readdir(dir)) != NULL) {
		id = strtoll(d->d_name, &end, 10);
		notes = strcmp(end, ".result") == 0;
		if (end != d->d_name && (notes || strcmp(end, ".log") == 0) && !wanted(arg, id, notes))
			(void)unlinkat(dirfd(dir), d->d_name, 0);
	}
	closedir(dir);
}

char *
run_result_path(int64_t id)
{
	char path[4096];

	return (path_of(path, sizeof(path), id, "result") == 0 ? strdup(path) : NULL);
}

/* All of the notes, for ${take}(), line by line, until that returns false. */
static void
each_line(int64_t id, bool (*take)(void *arg, char *line), void *arg)
{
	char path[4096], *line = NULL;
	size_t size = 0, all = 0;
	ssize_t n;
	FILE *f;
	int fd;

	if (path_of(path, sizeof(path), id, "result") == -1 || (fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)) == -1)
		return;
	if ((f = fdopen(fd, "r")) == NULL) {
		close(fd);
		return;
	}
	while (all < RUN_LOG_MAX && (n = getline(&line, &size, f)) > 0) {
		all += (size_t)n;
		/* The last one may be unfinished. */
		if (line[n - 1] != '\n')
			break;
		line[n - 1] = '\0';
		if (!take(arg, line))
			break;
	}
	free(line);
	fclose(f);
}

struct result {
	int	 status;
	char	*why;
	size_t	 n;
};

static bool
take_end(void *arg, char *line)
{
	struct result *r = arg;

	if (strncmp(line, "exit ", 5) != 0 || line[5] < '0' || line[5] > '2' || line[6] != ' ')
		return (true);
	r->status = line[5] - '0';
	snprintf(r->why, r->n, "%s", line + 7);
	return (false);
}

int
run_result_get(int64_t id, char *why, size_t n)
{
	struct result r = { -1, why, n };

	each_line(id, take_end, &r);
	return (r.status);
}

struct events {
	void	(*each)(void *arg, int64_t when, const char *event);
	void	 *arg;
};

static bool
take_event(void *arg, char *line)
{
	const struct events *e = arg;
	long long when;
	char *end;

	errno = 0;
	when = strtoll(line, &end, 10);
	if (errno == 0 && end != line && *end == ' ')
		e->each(e->arg, when, end + 1);
	return (true);
}

void
run_result_each(int64_t id, void (*each)(void *arg, int64_t when, const char *event), void *arg)
{
	struct events e = { each, arg };

	each_line(id, take_event, &e);
}

void
run_result_remove(int64_t id)
{
	remove_one(id, "result");
}
