/* virt-restore verify: is all of a restore point there, and as it was stored? */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "damage.h"
#include "extract.h"
#include "member_reader.h"
#include "opened.h"
#include "progress.h"

#define SUMS_MAX	((size_t)64 << 10)
#define READ_CHUNK	((size_t)4 << 20)

struct verify {
	const struct options	*o;
	struct progress		 progress;
	struct damage		 damage;
	struct err		 index_lost;	/* not told yet: opening the point will say the same, and what is used instead */
};

/* Something that is wrong, but not with the data of a disk.  It goes on: the whole extent of the damage is wanted. */
static void
found(struct verify *v, const char *text)
{
	damage_found(&v->damage, NULL, 0, 0, text);
}

static int
on_damage(void *arg, const char *disk, uint64_t offset, uint64_t length, const char *why, struct err *err)
{
	struct verify *v = arg;

	(void)err;
	damage_found(&v->damage, disk, offset, length, why);
	return (0);
}

static int
on_progress(void *arg, uint64_t done, struct err *err)
{
	struct verify *v = arg;

	progress_update(&v->progress, done);
	return (interrupted ? err_set(err, EINTR, "stopped before everything was checked") : 0);
}

static int
file_sha256(struct verify *v, struct store_file *f, char hex[SHA256_HEX], struct err *err)
{
	struct sha256 *sha = sha256_new(err);
	uint8_t *buf = malloc(READ_CHUNK);
	size_t n;
	int rc = -1;

	if (sha == NULL || buf == NULL) {
		err_nomem(err);
		goto out;
	}
	for (uint64_t at = 0; at < f->size; at += n) {
		n = f->size - at < READ_CHUNK ? (size_t)(f->size - at) : READ_CHUNK;
		if (store_file_read(f, buf, n, at, err) == -1 || sha256_add(sha, buf, n, err) == -1 || on_progress(v, at + n, err) == -1)
			goto out;
	}
	rc = sha256_end(sha, hex, err);
out:
	free(buf);
	sha256_free(sha);
	return (rc);
}

/* Check one file of the point.  Fails only when the user stops it. */
static int
check_sum(struct verify *v, struct opened *op, const char *name, const char *want, struct err *err)
{
	struct err why = ERR_INIT;
	struct store_file *f;
	char hex[SHA256_HEX];

	if ((f = repo_file(op->repo, &op->point, name, &why)) != NULL) {
		progress_begin(&v->progress, name, f->size);
		if (file_sha256(v, f, hex, &why) == 0 && strcmp(hex, want) != 0)
			err_set(&why, 0, "%s/%s/%s: its SHA-256 is not the one in SHA256SUMS", op->point.folder, op->point.name, name);
		store_file_close(f);
		progress_end(&v->progress);
	}
	if (interrupted) {
		*err = why;
		return (-1);
	}
	if (why.code == ENOENT && strcmp(name, INDEX_MEMBER) == 0)
		v->index_lost = why;
	else if (why.text[0] != '\0')
		found(v, why.text);
	return (0);
}

/* "<64 digits>  <name>": returns the name, or NULL. */
static char *
parse_sum(char *line)
{
	if (strlen(line) < 67 || strspn(line, "0123456789abcdef") != 64 || line[64] != ' ' || (line[65] != ' ' && line[65] != '*') ||
	    strchr(line + 66, '/') != NULL)
		return (NULL);
	line[64] = '\0';
	return (line + 66);
}

static int
check_sums(struct verify *v, struct opened *op, struct err *err)
{
	const char *must[] = { MANIFEST_NAME, INDEX_MEMBER, op->manifest.archive.file };
	bool seen[3] = { false, false, false };
	char path[2 * NAMING_MAX + 32], *line, *save = NULL, *name;
	struct buf sums = BUF_INIT;
	int rc = -1;

	snprintf(path, sizeof(path), "%s/%s/SHA256SUMS", op->point.folder, op->point.name);
	if (store_read_small(op->repo->st, path, SUMS_MAX, &sums, err) == -1) {
		found(v, err->text);
		rc = 0;
		goto out;
	}
	for (line = strtok_r(sums.ptr, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
		if ((name = parse_sum(line)) == NULL) {
			found(v, "SHA256SUMS has a line that is none of sha256sum's");
			continue;
		}
		for (size_t i = 0; i < 3; i++)
			seen[i] = seen[i] || strcmp(name, must[i]) == 0;
		if (check_sum(v, op, name, line, err) == -1)
			goto out;
	}
	for (size_t i = 0; i < 3; i++)
		if (!seen[i])
			found(v, "SHA256SUMS does not name all files of the point");
	rc = 0;
out:
	buf_free(&sums);
	return (rc);
}

/* All blocks of its own archive, and those that its disks need from others. */
static int
check_blocks(struct verify *v, struct opened *op, struct err *err)
{
	static const struct extract_ops ops = { .damage = on_damage, .progress = on_progress };
	struct archive_reader *ar = archive_set_first(op->set);
	uint64_t bytes;

	if (extract_check_size(ar, &bytes, err) == -1)
		return (-1);
	progress_begin(&v->progress, "blocks", bytes);
	if (extract_check(ar, &ops, v, err) == -1)
		return (-1);
	for (uint32_t i = 0; op->manifest.nreferences > 0 && i < index_disks(ar->ix); i++) {
		if (extract_size(ar->ix, i, &bytes, err) == -1)
			return (-1);
		progress_begin(&v->progress, index_disk(ar->ix, i)->target, bytes);
		if (extract_disk(op->set, i, &ops, v, err) == -1)
			return (-1);
	}
	return (0);
}

/* The small members.  One that is damaged is told; only the user's stop ends it. */
static int
check_members(struct verify *v, struct archive_reader *ar, struct err *err)
{
	uint32_t count = index_members(ar->ix);
	struct buf data = BUF_INIT;
	struct index_member m;
	struct err why;
	uint64_t total = 0, done = 0;
	int rc = 0;

	for (uint32_t i = 0; i < count && index_member(ar->ix, i, &m, err) == 0; i++)
		total += m.length;
	if (count > 0)
		progress_begin(&v->progress, "files", total);
	for (uint32_t i = 0; i < count && rc == 0; i++, done += data.len) {
		why = (struct err)ERR_INIT;
		buf_reset(&data);
		if (member_read(ar, i, &data, &why) == -1)
			found(v, why.text);
		rc = on_progress(v, done, err);
	}
	buf_free(&data);
	return (rc);
}

static int
report(const struct verify *v, const char *what)
{
	json_t *e;

	if (v->o->json) {
		e = json_pack("{s:s, s:s, s:I}", "event", v->damage.count == 0 ? "verified" : "failed", "point", what, "damages",
		    (json_int_t)v->damage.count);
		if (json_dumpf(e, stdout, JSON_COMPACT | JSON_ENSURE_ASCII) == 0)
			putchar('\n');
		json_decref(e);
	} else if (v->damage.count == 0)
		printf("%s: all is as it was stored\n", what);
	return (damage_report(&v->damage, what));
}

/* Open the point for its blocks, and tell what is lost: a missing index.bin once. */
static void
open_blocks(struct verify *v, struct opened *op)
{
	struct err text = ERR_INIT;
	const struct archive_reader *ar;

	if (open_point_quietly(v->o, v->o->args[0], op, &text) == 0 && (ar = archive_set_first(op->set))->note != NULL)
		err_set(&text, 0, "%s: %s", ar->name, ar->note);
	if (v->index_lost.text[0] != '\0' && strstr(text.text, v->index_lost.text) == NULL)
		found(v, v->index_lost.text);
	if (text.text[0] != '\0')
		found(v, text.text);
}

int
command_verify(const struct options *o)
{
	const char *what = o->archive != NULL ? o->archive : o->args[0];
	struct opened op = OPENED_INIT;
	struct verify v = { .o = o, .index_lost = ERR_INIT };
	struct err err = ERR_INIT;
	int rc;

	progress_init(&v.progress, o->json, stderr, stdout);
	damage_init(&v.damage, o->json, &v.progress);
	if (o->archive == NULL) {
		if (open_manifest(o, o->args[0], &op, &err) == -1) {
			rc = print_error(&err);
			goto out;
		}
		if (check_sums(&v, &op, &err) == -1) {
			rc = print_error(&err);
			goto out;
		}
		manifest_free(&op.manifest);
		repo_close(op.repo);
		op = (struct opened)OPENED_INIT;
	}
	open_blocks(&v, &op);
	if (op.set != NULL && (check_members(&v, archive_set_first(op.set), &err) == -1 || check_blocks(&v, &op, &err) == -1)) {
		progress_end(&v.progress);
		rc = print_error(&err);
		goto out;
	}
	progress_end(&v.progress);
	rc = report(&v, what);
out:
	opened_close(&op);
	return (rc);
}
