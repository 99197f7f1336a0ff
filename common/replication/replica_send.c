#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "archive/archive_reader.h"
#include "archive/coverage.h"
#include "archive/frame_reader.h"
#include "archive/index.h"
#include "replication/replica_list.h"
#include "replication/replica_send_private.h"

#define SUMS_MAX	((size_t)64 << 10)

static int
damaged(const struct replica_send *s, struct err *err)
{
	err->code = EBADMSG;
	return (err_wrap(err, "%s/%s/%s is damaged at the source", s->ln->from->st->url, s->p.folder, s->p.name));
}

int
replica_stopped(const struct replica_link *ln, struct err *err)
{
	return (ln->stop != NULL && *ln->stop ? err_plain(err, EINTR, "stopped; the next replication goes on from here") : 0);
}

/* What the source says of the point. */

static int
vanished(const struct replica_send *s, struct err *err)
{
	return (err_plain(err, ESTALE, "%s@%s went away at the source meanwhile", s->p.folder, s->p.name));
}

static int
check_manifest(struct replica_send *s, struct err *err)
{
	char folder[NAMING_MAX];

	if (manifest_decode(&s->m, s->text.ptr, s->text.len, err) == -1)
		return (damaged(s, err));
	if (name_escape(s->m.vm, folder, err) == -1 || strcmp(folder, s->p.folder) != 0 || s->m.time != s->p.time) {
		err_set(err, 0, "its manifest belongs to another point");
		return (damaged(s, err));
	}
	if (strncmp(s->m.archive.file, "disks.tar", 9) != 0 || strchr(s->m.archive.file, '/') != NULL) {
		err_set(err, 0, "its manifest calls the archive \"%.60s\"", s->m.archive.file);
		return (damaged(s, err));
	}
	return (0);
}

static int
read_manifest(struct replica_send *s, struct err *err)
{
	struct repo *from = s->ln->from;
	int rc = repo_read_small(from, &s->p, MANIFEST_NAME, MANIFEST_MAX, &s->text, err);

	if (rc == -1 && err->code == ENOENT && s->as_pruned)
		rc = repo_read_small(from, &s->p, PRUNED_NAME, MANIFEST_MAX, &s->text, err);
	if (rc == -1)
		return (err->code == ENOENT ? vanished(s, err) : -1);
	if (check_manifest(s, err) == -1)
		return (-1);
	if (repo_read_small(from, &s->p, "SHA256SUMS", SUMS_MAX, &s->theirs, err) == 0)
		return (0);
	return (err->code == ENOENT ? damaged(s, err) : -1);
}

/* Where its bytes go wrong, for people; what cannot be told is left out. */
static void
find_damage(const struct replica_send *s, char *where, size_t n)
{
	struct err ignored = ERR_INIT;
	struct archive_reader *ar = archive_open_point(s->ln->from, &s->p, &s->m, &ignored);
	struct frame_reader *fr = frame_reader_new(&ignored);
	struct index_source src;
	struct index_frame f;
	uint32_t own;

	where[0] = '\0';
	for (uint64_t i = 0; ar != NULL && fr != NULL && where[0] == '\0' && i < index_frame_count(ar->ix); i++) {
		size_t at = 0;

		if (index_frames(ar->ix, i, 1, &f, &ignored) == -1)
			break;
		if (f.source == UINT32_MAX || index_source(ar->ix, f.source, &src, &ignored) == -1)
			continue;
		own = src.disk < index_disks(ar->ix) ? src.disk : 0;
		if (frame_reader_load(fr, ar, f.source, &f, &ignored) == -1) {
			struct index_block b;

			if (index_blocks(ar->ix, f.source, f.first_block, 1, &b, &ignored) == 0)
				snprintf(where, n, "disk %.60s from offset %llu", index_disk(ar->ix, own)->target, (unsigned long long)b.offset);
			break;
		}
		for (uint32_t k = 0; k < f.blocks && where[0] == '\0'; at += fr->blocks[k].length, k++)
			if (!frame_reader_block_is_good(fr, k, at))
				snprintf(where, n, "disk %.60s at offset %llu", index_disk(ar->ix, own)->target,
				    (unsigned long long)fr->blocks[k].offset);
	}
	frame_reader_free(fr);
	archive_close(ar);
}

static int
wrong_digest(const struct replica_send *s, const char *name, struct err *err)
{
	char where[128] = "";

	if (strcmp(name, s->m.archive.file) == 0)
		find_damage(s, where, sizeof(where));
	err_set(err, 0, "%s does not have the SHA-256 that was taken when it was written%s%s", name, where[0] != '\0' ? ": " : "", where);
	return (damaged(s, err));
}

/* Copying. */

/* A source that does not answer is no use for any point; one file that cannot be read is a matter of its point. */
int
replica_read_source(struct replica_send *s, struct store_file *in, size_t n, uint64_t at, struct err *err)
{
	if (store_file_read(in, s->buf, n, at, err) == 0)
		return (0);
	return (err->code == ETIMEDOUT || err->code == ECONNRESET ? -1 : damaged(s, err));
}

static int
copy_bytes(struct replica_send *s, struct store_file *in, struct store_file *out, uint64_t at, struct sha256 *sha, struct err *err)
{
	size_t n;

	for (; at < in->size; at += n) {
		n = in->size - at < CHUNK ? (size_t)(in->size - at) : CHUNK;
		if (replica_stopped(s->ln, err) == -1 || replica_read_source(s, in, n, at, err) == -1 || sha256_add(sha, s->buf, n, err) == -1 ||
		    store_append(out, s->buf, n, err) == -1)
			return (-1);
		if (s->ln->tick != NULL)
			s->ln->tick(s->ln->arg, n);
	}
	return (0);
}

static struct store_file *
open_source(struct replica_send *s, const char *name, struct err *err)
{
	struct store_file *f = repo_file(s->ln->from, &s->p, name, err);
	struct manifest m = MANIFEST_INIT;

	if (f != NULL || err->code == ETIMEDOUT || err->code == ECONNRESET)
		return (f);
	if (err->code != ENOENT) {
		damaged(s, err);
		return (NULL);
	}
	/* The point as a whole, or only this file of it? */
	if (repo_manifest_any(s->ln->from, &s->p, &m, &(struct err)ERR_INIT) == -1)
		vanished(s, err);
	else
		damaged(s, err);
	manifest_free(&m);
	return (NULL);
}

static int
copy_index(struct replica_send *s, char hex[SHA256_HEX], struct err *err)
{
	struct store_file *in = open_source(s, INDEX_MEMBER, err), *out = NULL;
	struct sha256 *sha = sha256_new(err);
	int rc = -1;

	if (in != NULL && sha != NULL && (out = point_create(s->pw, INDEX_MEMBER, err)) != NULL && copy_bytes(s, in, out, 0, sha, err) == 0 &&
	    store_sync(out, err) == 0)
		rc = sha256_end(sha, hex, err);
	store_file_close(in);
	store_file_close(out);
	sha256_free(sha);
	return (rc);
}

static int
send_archive(struct replica_send *s, struct store_file *in, char hex[SHA256_HEX], struct err *err)
{
	struct sha256 *sha = sha256_new(err);
	struct store_file *out = NULL;
	int rc = -1;

	if (sha == NULL)
		return (-1);
	s->resumed = 0;
	out = in->size >= REPLICA_RESUME_LEAST ? replica_open_part(s, in, &sha, err) : point_create(s->pw, s->m.archive.file, err);
	if (out != NULL && copy_bytes(s, in, out, s->resumed, sha, err) == 0 && store_sync(out, err) == 0)
		rc = sha256_end(sha, hex, err);
	store_file_close(out);
	sha256_free(sha);
	return (rc);
}

static void
archive_path(const struct replica_send *s, char out[PATH_LEN])
{
	if (s->part[0] != '\0')
		snprintf(out, PATH_LEN, "%s", s->part);
	else
		point_file_path(s->pw, s->m.archive.file, out, PATH_LEN);
}

static int
copy_archive(struct replica_send *s, struct err *err)
{
	struct store_file *in = open_source(s, s->m.archive.file, err);
	char hex[SHA256_HEX], path[PATH_LEN];
	int rc = -1, same;

	if (in == NULL)
		return (-1);
	if (in->size != s->m.archive.size) {
		err_set(err, 0, "%s has %llu bytes, not %llu", s->m.archive.file, (unsigned long long)in->size, (unsigned long long)s->m.archive.size);
		damaged(s, err);
		goto out;
	}
	if (send_archive(s, in, hex, err) == -1)
		goto out;
	/* What had arrived before may be what is wrong. */
	if (strcmp(hex, s->m.archive.sha256) != 0 && s->resumed > 0 && (replica_drop_part(s, err) == -1 || send_archive(s, in, hex, err) == -1))
		goto out;
	archive_path(s, path);
	if (strcmp(hex, s->m.archive.sha256) != 0) {
		if (s->part[0] != '\0')
			replica_drop_part(s, &(struct err)ERR_INIT);
		wrong_digest(s, s->m.archive.file, err);
		goto out;
	}
	if ((same = replica_has_arrived(s, in, path, in->size, hex, err)) == 1)
		rc = 0;
	else if (same == 0) {
		if (s->part[0] != '\0')
			replica_drop_part(s, &(struct err)ERR_INIT);
		err_plain(err, EIO, "%s/%s is not what was sent: the storage there, or the way to it, changes bytes", s->ln->to->st->url, path);
	}
out:
	store_file_close(in);
	return (rc);
}

/* The lines that stand there must be those that its files have. */
static int
make_sums(struct replica_send *s, const char index[SHA256_HEX], struct err *err)
{
	struct sha256 *sha = sha256_new(err);
	struct buf whole = BUF_INIT;
	char hex[SHA256_HEX];
	int rc = -1;

	if (sha == NULL || sha256_add(sha, s->text.ptr, s->text.len, err) == -1 || sha256_end(sha, hex, err) == -1 ||
	    buf_addf(&s->sums, err, "%s  %s\n%s  %s\n", s->m.archive.sha256, s->m.archive.file, index, INDEX_MEMBER) == -1 ||
	    buf_addf(&whole, err, "%s%s  %s\n", s->sums.ptr, hex, MANIFEST_NAME) == -1)
		goto out;
	if (whole.len == s->theirs.len && memcmp(whole.ptr, s->theirs.ptr, whole.len) == 0)
		rc = 0;
	else if (strstr(s->theirs.ptr, index) == NULL)
		rc = wrong_digest(s, INDEX_MEMBER, err);
	else
		rc = wrong_digest(s, MANIFEST_NAME, err);
out:
	buf_free(&whole);
	sha256_free(sha);
	return (rc);
}

/* What stands beside the point's own files. */
static int
write_marks(struct replica_send *s, struct err *err)
{
	const struct buf nothing = BUF_INIT;
	struct buf mark = BUF_INIT;
	bool is_protected = false;
	int rc = -1;

	if (replica_mark_text(s->ln->job, s->ln->from->id, &mark, err) == 0 && point_write(s->pw, REPLICA_NAME, &mark, err) == 0 &&
	    (s->as_pruned || repo_is_protected(s->ln->from, &s->p, &is_protected, err) == 0) &&
	    (!is_protected || point_write(s->pw, PROTECTED_NAME, &nothing, err) == 0))
		rc = 0;
	buf_free(&mark);
	return (rc);
}

struct replica_send *
replica_send_copy(const struct replica_link *ln, const struct point *p, bool as_pruned, const struct replica_hint *hint, struct err *err)
{
	struct replica_send *s = calloc(1, sizeof(*s));
	char index[SHA256_HEX];

	if (s == NULL || (s->buf = malloc(CHUNK)) == NULL) {
		free(s);
		err_nomem(err);
		return (NULL);
	}
	s->ln = ln;
	s->p = *p;
	s->as_pruned = as_pruned;
	s->hint = *hint;
	s->m = (struct manifest)MANIFEST_INIT;
	if (read_manifest(s, err) == 0 && (s->pw = point_begin_named(ln->to, ln->lk, s->m.vm, p->time, p->name, hint->has_machine, err)) != NULL &&
	    copy_index(s, index, err) == 0 && make_sums(s, index, err) == 0 && copy_archive(s, err) == 0 && write_marks(s, err) == 0)
		return (s);
	replica_send_end(s);
	return (NULL);
}

static bool
is_whole(const struct replica_holders *h, const uint8_t *id)
{
	for (size_t i = 0; i < h->nwhole; i++)
		if (memcmp(h->whole[i], id, ARCHIVE_ID_LEN) == 0)
			return (true);
	return (false);
}

/* Of the source ${n}: 0, 1 or -1.  An archive that it names, and needs nothing of, may be missing. */
static int
check_source(struct archive_set *set, uint32_t n, const struct replica_holders *h, archive_id lacking, struct err *err)
{
	const struct index_reader *ix = archive_set_first(set)->ix;
	struct coverage_gap gap;
	struct archive_reader *ar;
	struct index_source s;
	struct err why = ERR_INIT;
	uint32_t source = 0;
	char text[UUID_LEN];
	int rc;

	if (index_source(ix, n, &s, err) == -1)
		return (-1);
	if (memcmp(s.archive, index_info(ix)->archive, ARCHIVE_ID_LEN) == 0 || is_whole(h, s.archive))
		return (0);
	ar = archive_set_find(set, &s, &source, &why);
	if ((rc = coverage_find_gap(ix, n, ar != NULL ? ar->ix : NULL, source, &gap, err)) != 1)
		return (rc);
	if (ar == NULL && why.code != 0 && why.code != ENOENT) {
		*err = why;
		return (-1);
	}
	uuid_text(s.archive, text);
	memcpy(lacking, s.archive, ARCHIVE_ID_LEN);
	err_plain(err, EBADMSG, "disk %s at offset %llu: what it needs of the archive %s is neither there nor at the source (virt-backupctl verify tells more)",
	    index_disk(ix, gap.disk)->target, (unsigned long long)gap.offset, text);
	return (1);
}

int
replica_send_check(const struct replica_send *s, const struct replica_holders *h, archive_id lacking, struct err *err)
{
	struct archive_reader *ar = archive_open_point(s->ln->from, &s->p, &s->m, err);
	struct archive_set *set;
	int rc;

	if (ar == NULL || (set = archive_set_new(s->ln->to, ar, s->p.folder, err)) == NULL)
		return (-1);
	rc = archive_set_add(set, &h->packed, err);
	for (uint32_t i = 0; i < index_sources(ar->ix) && rc == 0; i++)
		rc = check_source(set, i, h, lacking, err);
	archive_set_free(set);
	return (rc);
}

int
replica_send_publish(struct replica_send *s, struct err *err)
{
	if (s->part[0] != '\0' && point_take(s->pw, s->part, s->m.archive.file, err) == -1)
		return (-1);
	s->part[0] = '\0';
	return (point_publish_near(s->pw, s->as_pruned ? PRUNED_NAME : MANIFEST_NAME, &s->text, s->hint.has_name ? NULL : s->p.name, &s->sums, err));
}

const struct manifest *
replica_send_manifest(const struct replica_send *s)
{
	return (&s->m);
}

const char *
replica_send_here(const struct replica_send *s)
{
	return (point_published(s->pw)->name);
}

uint64_t
replica_send_resumed(const struct replica_send *s)
{
	return (s->resumed);
}

void
replica_send_end(struct replica_send *s)
{
	if (s == NULL)
		return;
	point_end(s->pw);
	manifest_free(&s->m);
	buf_free(&s->text);
	buf_free(&s->sums);
	buf_free(&s->theirs);
	free(s->buf);
	free(s);
}
