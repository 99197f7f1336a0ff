#include "repository/compact_archive.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/document.h"
#include "base/io.h"

int
compact_archive_begin(struct compact_archive *ca, struct repo *r, struct lock *lk, const char *vm, time_t t, const struct codec *codec,
    int level, struct err *err)
{
	ca->info.time = t;
	ca->info.codec = codec;
	ca->info.level = level;
	snprintf(ca->file, sizeof(ca->file), "disks%s", codec->suffix);
	if (uuid_random(ca->info.archive, err) == -1 || io_random(ca->info.secret, sizeof(ca->info.secret), err) == -1 ||
	    (ca->pw = point_begin(r, lk, vm, t, err)) == NULL || (ca->data = point_create(ca->pw, ca->file, err)) == NULL ||
	    (ca->index = point_create(ca->pw, INDEX_MEMBER, err)) == NULL || (ca->aw = archive_writer_new(&ca->info, ca->data, err)) == NULL)
		return (-1);
	return (0);
}

int
compact_archive_finish(struct compact_archive *ca, struct err *err)
{
	if (archive_writer_finish(ca->aw, ca->index, &ca->written, err) == -1 || store_sync(ca->data, err) == -1)
		return (-1);
	return (store_sync(ca->index, err));
}

static int
set_archive(const struct compact_archive *ca, json_t *m, struct err *err)
{
	char id[UUID_LEN], finished[RFC3339_LEN];
	json_t *archive;

	uuid_text(ca->info.archive, id);
	time_rfc3339(time(NULL), finished);
	archive = json_pack("{s:s, s:s, s:s, s:i, s:I, s:s, s:I}", "id", id, "file", ca->file, "codec", ca->info.codec->name, "level",
	    ca->info.level, "size", (json_int_t)ca->written.size, "sha256", ca->written.sha256, "raw", (json_int_t)ca->written.raw);
	if (archive == NULL || json_object_set_new(m, "archive", archive) == -1 || json_object_set_new(m, "finished", json_string(finished)) == -1 ||
	    json_object_set_new(m, "stored", json_integer((json_int_t)ca->written.size)) == -1 ||
	    json_object_set_new(m, "references", json_array()) == -1)
		return (err_nomem(err));
	return (0);
}

int
compact_archive_publish(struct compact_archive *ca, json_t *m, const char *file, const char *name, struct err *err)
{
	struct buf text = BUF_INIT, sums = BUF_INIT;
	int rc = -1;

	if (set_archive(ca, m, err) == 0 && doc_write(json_incref(m), &text, err) == 0 &&
	    buf_addf(&sums, err, "%s  %s\n%s  %s\n", ca->written.sha256, ca->file, ca->written.index_sha256, INDEX_MEMBER) == 0)
		rc = point_publish_text(ca->pw, file, &text, name, &sums, err);
	buf_free(&text);
	buf_free(&sums);
	return (rc);
}

void
compact_archive_end(struct compact_archive *ca)
{
	archive_writer_free(ca->aw);
	store_file_close(ca->data);
	store_file_close(ca->index);
	point_end(ca->pw);
}
