/* A guest that is shut off: its images, as they lie there.  No lock is taken on them, so that it can be started at any moment. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "capture.h"
#include "settle.h"

/* When an image that qemu-nbd reads for us was written last; one that we read ourselves, its source watches. */
static int
written_last(const struct domain_disk *d, struct timespec *t, struct err *err)
{
	struct stat sb;

	*t = (struct timespec){ 0, 0 };
	if (strcmp(d->type, "file") != 0)
		return (0);
	if (stat(d->source, &sb) == -1)
		return (err_set(err, errno, "cannot look at %s", d->source));
	*t = sb.st_mtim;
	return (0);
}

static int
begin(struct capture *c, struct err *err)
{
	struct guest *g = c->guest;

	c->moment.time = time(NULL);
	if ((c->mtimes = calloc(g->ndisks, sizeof(*c->mtimes))) == NULL)
		return (err_nomem(err));
	for (size_t i = 0; i < g->ndisks; i++)
		if (written_last(g->disks[i], &c->mtimes[i], err) == -1)
			return (-1);
	return (0);
}

static struct source *
open_disk(struct capture *c, size_t i, struct err *err)
{
	return (capture_image(c, i, NULL, err));
}

static int
settled(struct capture *c, struct err *err)
{
	struct guest *g = c->guest;
	struct timespec now;
	bool active;

	if (guest_is_active(g, &active, err) == -1)
		return (-1);
	if (active) {
		err_set(err, 0, "the guest was started while its disks were read");
		err->code = EAGAIN;
		return (-1);
	}
	for (size_t i = 0; i < g->ndisks; i++) {
		if (written_last(g->disks[i], &now, err) == -1)
			return (-1);
		if (now.tv_sec != c->mtimes[i].tv_sec || now.tv_nsec != c->mtimes[i].tv_nsec)
			return (err_set(err, 0, "%s was written while it was read: run the job again", g->disks[i]->source));
	}
	return (0);
}

static int
end(struct capture *c, struct err *err)
{
	const struct settle s = { .hv = c->guest->hv, .journal = c->guest->journal };

	capture_stop_servers(c);
	free(c->mtimes);
	c->mtimes = NULL;
	return (settle_backup_job(&s, err));
}

const struct capture_ops capture_offline = { .name = "offline", .begin = begin, .open = open_disk, .settled = settled, .end = end };
