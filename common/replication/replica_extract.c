#include "replication/replica_extract.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replication/replica_list.h"
#include "replication/replica_send_private.h"
#include "repository/pack.h"

/* Told as it goes on. */
struct telling {
	const struct replica_link	*ln;
	struct pack			*pk;
	uint64_t			 told;
};

/* What is wrong with the point's archive concerns those who need it; without the source, the far end, memory or time nothing else can be done either. */
static int
failed(struct repo *from, const struct point *p, struct err *err)
{
	struct store_stat sb;
	char path[PATH_LEN];

	switch (err->code) {
	case EINTR:
	case ENOMEM:
	case ETIMEDOUT:
	case ECONNRESET:
	case ENOSPC:
	case EDQUOT:
	case EROFS:
	case EACCES:
	case EPERM:
	case ECANCELED:
		return (-1);
	default:
		break;
	}
	snprintf(path, sizeof(path), "%.255s/%.255s", p->folder, p->name);
	if (err->code == ENOENT && store_stat(from->st, path, &sb, &(struct err)ERR_INIT) == -1)
		return (err_plain(err, ESTALE, "%s@%s went away at the source meanwhile", p->folder, p->name));
	err->code = EBADMSG;
	return (err_wrap(err, "%s/%s cannot be used", from->st->url, path));
}

/* The blocks of ${id}, marked.  Fails: NULL. */
static struct live_archive *
take(struct live *lv, const struct point *p, const archive_id id, uint64_t *stored, struct err *err)
{
	struct live_archive *a;
	char text[UUID_LEN];

	if (live_add(lv, p, err) != 1)
		return (NULL);
	a = live_archive(lv, 0);
	if (live_take(a, id, stored, err) == -1)
		return (NULL);
	uuid_text(id, text);
	if (*stored == 0) {
		err_set(err, 0, "%s: it says that it stands for the archive %s, but has nothing of it", a->ar->name, text);
		return (NULL);
	}
	return (a);
}

int
replica_extract_size(struct repo *from, const struct point *p, const archive_id id, uint64_t *size, struct err *err)
{
	struct live *lv = live_new(from, err);
	int rc = lv == NULL ? -1 : take(lv, p, id, size, err) != NULL ? 0 : failed(from, p, err);

	live_free(lv);
	return (rc);
}

static void
tick(void *arg, uint64_t done)
{
	struct telling *t = arg;
	uint64_t stored = archive_writer_stored(t->pk->ca.aw);

	(void)done;
	if (t->ln->tick != NULL && stored > t->told)
		t->ln->tick(t->ln->arg, stored - t->told);
	t->told = stored;
}

static int
has_arrived(const struct replica_link *ln, const struct compact_archive *ca, struct err *err)
{
	struct replica_send s = { .ln = ln, .buf = malloc(CHUNK) };
	char path[PATH_LEN];
	int same;

	if (s.buf == NULL)
		return (err_nomem(err));
	point_file_path(ca->pw, ca->file, path, sizeof(path));
	same = replica_has_arrived(&s, NULL, path, ca->written.size, ca->written.sha256, err);
	free(s.buf);
	if (same == 0)
		return (err_plain(err, EIO, "%s/%s is not what was sent: the storage there, or the way to it, changes bytes", ln->to->st->url, path));
	return (same == 1 ? 0 : -1);
}

static int
write_mark(const struct replica_link *ln, struct point_writer *pw, struct err *err)
{
	struct buf mark = BUF_INIT;
	int rc = replica_mark_text(ln->job, ln->from->id, &mark, err) == 0 ? point_write(pw, REPLICA_NAME, &mark, err) : -1;

	buf_free(&mark);
	return (rc);
}

static int
write_archive(struct pack *pk, struct live_archive *a, const struct replica_link *ln, const archive_id id, const char *program, struct err *err)
{
	struct telling t = { .ln = ln, .pk = pk };
	struct compact_how how = { .program = program, .stop = ln->stop, .tick = tick, .arg = &t };

	if (pack_begin(pk, err) == -1 || pack_add(pk, a, err) == -1 || pack_write(pk, ln->to, ln->lk, &how, err) == -1 || pack_replaces(pk, id, err) == -1)
		return (-1);
	return (compact_archive_finish(&pk->ca, err));
}

static int
publish(struct pack *pk, const struct replica_link *ln, const archive_id id, const char *program, struct err *err)
{
	char note[192], text[UUID_LEN];

	uuid_text(id, text);
	snprintf(note, sizeof(note), "what the source had of the archive %s, taken out of a packed one by %.60s", text, program);
	return (has_arrived(ln, &pk->ca, err) == 0 && write_mark(ln, pk->ca.pw, err) == 0 ? pack_publish(pk, note, err) : -1);
}

int
replica_extract(const struct replica_link *ln, const struct point *p, const archive_id id, const char *program, struct replica_extract *out,
    struct err *err)
{
	struct live *lv = live_new(ln->from, err);
	struct pack pk = { .ca = COMPACT_ARCHIVE_INIT };
	struct live_archive *a;
	int rc = -1;

	if (lv == NULL)
		return (-1);
	if ((a = take(lv, p, id, &out->stored, err)) == NULL || write_archive(&pk, a, ln, id, program, err) == -1)
		failed(ln->from, p, err);
	else if (publish(&pk, ln, id, program, err) == 0) {
		out->m = a->m;
		a->m = (struct manifest)MANIFEST_INIT;
		memcpy(out->id, pk.ca.info.archive, sizeof(out->id));
		out->stored = pk.ca.written.size;
		snprintf(out->here, sizeof(out->here), "%s", point_published(pk.ca.pw)->name);
		rc = 0;
	}
	pack_end(&pk);
	live_free(lv);
	return (rc);
}

void
replica_extract_end(struct replica_extract *x)
{
	manifest_free(&x->m);
}
