#include "against_source.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../qemu_nbd.h"
#include "../source.h"
#include "archive/disk_reader.h"
#include "base/human.h"
#include "base/progress.h"

#define CHUNK		((size_t)1 << 20)
#define BLOCK		((size_t)64 << 10)	/* what differences are counted in */

/* The parts of one side that may hold data, in order. */
struct walk {
	struct extents		*ex;
	struct spool_cursor	 cursor;
	struct extent		 e;
	bool			 more;
};

struct comparison {
	const struct options	*o;
	const char		*target, *path;
	struct disk_reader	*stored;
	struct source		*source;
	struct source_reader	*reader;
	struct qemu_nbd		*server;	/* of an image that is not raw; NULL: none */
	char			*folder;	/* with its socket */
	uint64_t		 size;		/* of the disk in the point */
	uint64_t		 differ, first;	/* blocks; the first one's offset */
	bool			 same;
	uint8_t			*a, *b;		/* CHUNK bytes each */
	struct progress		 progress;
};

static int
walk_next(struct walk *w, struct err *err)
{
	int r = extents_next(&w->cursor, &w->e, err);

	w->more = r == 1;
	return (r == -1 ? -1 : 0);
}

/* From ${at} on. */
static int
walk_to(struct walk *w, uint64_t at, struct err *err)
{
	while (w->more && w->e.offset + w->e.length <= at)
		if (walk_next(w, err) == -1)
			return (-1);
	return (0);
}

static int
walk_begin(struct walk *w, struct extents *ex, struct err *err)
{
	w->ex = ex;
	if (ex == NULL)
		return (-1);
	spool_cursor_init(&w->cursor, ex->spool);
	return (walk_next(w, err));
}

static void
compare_chunk(struct comparison *c, uint64_t at, size_t n)
{
	for (size_t k = 0, part; k < n; k += part) {
		part = n - k < BLOCK ? n - k : BLOCK;
		if (memcmp(c->a + k, c->b + k, part) != 0 && c->differ++ == 0)
			c->first = at + k;
	}
}

/* The image must be as long as the disk. */
static int
compare(struct comparison *c, struct err *err)
{
	struct walk *w = calloc(2, sizeof(*w));
	uint64_t at = 0, total;
	size_t n;
	int rc = -1;

	if (w == NULL)
		return (err_nomem(err));
	if (walk_begin(&w[0], disk_reader_extents(c->stored, err), err) == -1 || walk_begin(&w[1], source_extents(c->source, err), err) == -1)
		goto out;
	total = w[0].ex->bytes > w[1].ex->bytes ? w[0].ex->bytes : w[1].ex->bytes;
	progress_begin(&c->progress, c->target, total);
	for (uint64_t done = 0; at < c->size; at += n, done += n) {
		if (walk_to(&w[0], at, err) == -1 || walk_to(&w[1], at, err) == -1)
			goto out;
		if (!w[0].more && !w[1].more)
			break;
		/* Where neither has data both are zeroes. */
		if (!(w[0].more && w[0].e.offset <= at) && !(w[1].more && w[1].e.offset <= at))
			at = (!w[1].more || (w[0].more && w[0].e.offset < w[1].e.offset) ? w[0].e.offset : w[1].e.offset) / BLOCK * BLOCK;
		n = c->size - at < CHUNK ? (size_t)(c->size - at) : CHUNK;
		if (interrupted) {
			err_plain(err, EINTR, "stopped before everything was compared");
			goto out;
		}
		if (disk_reader_read(c->stored, c->a, n, at, err) == -1 || source_read(c->reader, c->b, n, at, err) == -1)
			goto out;
		compare_chunk(c, at, n);
		progress_update(&c->progress, done < total ? done : total);
	}
	rc = source_settled(c->source, err);
out:
	progress_end(&c->progress);
	extents_free(w[0].ex);
	extents_free(w[1].ex);
	free(w);
	return (rc);
}

/* One of ours, for the socket of a server. */
static int
make_folder(struct comparison *c, struct err *err)
{
	const char *tmp = getenv("TMPDIR");

	if (asprintf(&c->folder, "%s/virt-backupctl.XXXXXX", tmp != NULL ? tmp : "/tmp") == -1) {
		c->folder = NULL;
		return (err_nomem(err));
	}
	if (mkdtemp(c->folder) != NULL)
		return (0);
	err_set(err, errno, "cannot make a folder for a socket: %s", c->folder);
	free(c->folder);
	c->folder = NULL;
	return (-1);
}

/* The image that the disk was made of, as qemu_nbd.h wants it. */
static int
describe_image(const struct manifest_disk *d, struct domain_disk *image, struct err *err)
{
	struct stat sb;

	if (d->source == NULL || d->source[0] != '/')
		return (err_set(err, 0, "its image is not in a file here (%s): only files and block devices can be compared", d->source != NULL ? d->source : "?"));
	if (stat(d->source, &sb) == -1)
		return (err_set(err, errno, "cannot look at its image %s", d->source));
	*image = (struct domain_disk){ .target = (char *)d->target, .source = (char *)d->source, .format = (char *)d->format,
		.type = (char *)(S_ISBLK(sb.st_mode) ? "block" : "file") };
	return (0);
}

/* Its bytes, and a reader of them.  Fails: NULL. */
static struct source *
open_source(struct comparison *c, const struct manifest_disk *d, struct err *err)
{
	struct domain_disk image;

	if (describe_image(d, &image, err) == -1)
		return (NULL);
	if (strcmp(d->format, "raw") == 0)
		c->source = source_image_open(d->source, false, err);
	else if (make_folder(c, err) == 0 && (c->server = qemu_nbd_start(&image, NULL, NULL, c->folder, err)) != NULL)
		c->source = source_nbd_open(qemu_nbd_socket(c->server), "", NULL, d->source, err);
	return (c->source == NULL || (c->reader = source_reader_new(c->source, err)) == NULL ? NULL : c->source);
}

static void
close_source(struct comparison *c)
{
	source_reader_free(c->reader);
	source_close(c->source);
	qemu_nbd_stop(c->server);
	if (c->folder != NULL)
		rmdir(c->folder);
	free(c->folder);
	c->reader = NULL;
	c->source = NULL;
	c->server = NULL;
	c->folder = NULL;
}

static void
report(const struct comparison *c, const char *spec)
{
	bool longer = c->source->size != c->size;
	char text[512], disk[4 * NAMING_MAX];

	if (c->o->json) {
		ctl_print_json(json_pack("{s:s, s:s, s:s, s:s, s:b, s:I, s:I, s:I}", "event", "compared", "point", spec, "disk", c->target, "source", c->path,
		    "same", (int)c->same, "size", (json_int_t)c->size, "source_size", (json_int_t)c->source->size, "blocks_differ",
		    (json_int_t)c->differ), JSON_COMPACT);
		return;
	}
	if (longer)
		snprintf(text, sizeof(text), "is %llu bytes, %s has %llu", (unsigned long long)c->size, c->path, (unsigned long long)c->source->size);
	else if (c->differ > 0)
		snprintf(text, sizeof(text), "differs from %s in %llu blocks of 64 KiB, the first at offset %llu", c->path, (unsigned long long)c->differ,
		    (unsigned long long)c->first);
	else
		snprintf(text, sizeof(text), "is what %s holds", c->path);
	snprintf(disk, sizeof(disk), "%s: disk %s", spec, c->target);
	printf("%s %s\n", human_safe(disk), human_safe(text));
}

static int
compare_disk(struct comparison *c, struct archive_set *set, uint32_t number, const struct manifest_disk *d, const char *spec, struct err *err)
{
	const struct source *image;
	int rc = -1;

	c->target = d->target;
	c->path = d->source;
	c->size = index_disk(archive_set_first(set)->ix, number)->size;
	c->differ = 0;
	if ((image = open_source(c, d, err)) != NULL && (c->stored = disk_reader_new(set, number, err)) != NULL)
		rc = image->size != c->size ? 0 : compare(c, err);
	if (rc == 0) {
		c->same = c->differ == 0 && image->size == c->size;
		report(c, spec);
	} else
		err_wrap(err, "disk %s cannot be compared", d->target);
	disk_reader_free(c->stored);
	c->stored = NULL;
	close_source(c);
	return (rc);
}

/* The manifest's rows are in the order of the index. */
static int
compare_all(struct comparison *c, struct archive_set *set, const struct manifest *m, const char *spec, bool *same, struct err *err)
{
	if (index_disks(archive_set_first(set)->ix) != m->ndisks)
		return (err_set(err, 0, "its manifest and its index name different disks"));
	if ((c->a = malloc(CHUNK)) == NULL || (c->b = malloc(CHUNK)) == NULL)
		return (err_nomem(err));
	*same = true;
	for (uint32_t i = 0; i < m->ndisks; i++) {
		if (compare_disk(c, set, i, &m->disks[i], spec, err) == -1)
			return (-1);
		*same = *same && c->same;
	}
	return (0);
}

int
against_source(const struct options *o, struct repo *r, const struct point *p, bool *same, struct err *err)
{
	struct comparison c = { .o = o };
	struct manifest m = MANIFEST_INIT;
	struct archive_set *set = NULL;
	char spec[2 * NAMING_MAX];
	int rc = -1;

	progress_init(&c.progress, o->json, stderr, stdout);
	if (repo_manifest(r, p, &m, err) == 0 && (set = archive_set_open(r, p, &m, err)) != NULL) {
		point_spec_format(m.vm, p->time, p->suffix, spec);
		rc = compare_all(&c, set, &m, spec, same, err);
	}
	free(c.a);
	free(c.b);
	archive_set_free(set);
	manifest_free(&m);
	return (rc);
}
