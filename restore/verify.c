/* virt-restore verify: is all of a restore point there, and as it was stored? */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "archive/extract.h"
#include "base/progress.h"
#include "damage.h"
#include "opened.h"
#include "repository/verify.h"

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
	return (interrupted ? err_plain(err, EINTR, "stopped before everything was checked") : 0);
}

static void
on_begin(void *arg, const char *what, uint64_t total)
{
	struct verify *v = arg;

	progress_begin(&v->progress, what, total);
}

static void
on_file(void *arg, const char *file, const struct err *why)
{
	struct verify *v = arg;

	if (why->code == ENOENT && strcmp(file, INDEX_MEMBER) == 0)
		v->index_lost = *why;
	else
		found(v, why->text);
}

static const struct verify_ops file_ops = { .begin = on_begin, .progress = on_progress, .damage = on_file };

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
		if (verify_sums(op.repo, &op.point, &op.manifest, true, &file_ops, &v, &err) == -1) {
			rc = print_error(&err);
			goto out;
		}
		manifest_free(&op.manifest);
		repo_close(op.repo);
		op = (struct opened)OPENED_INIT;
	}
	open_blocks(&v, &op);
	if (op.set != NULL && (verify_members(archive_set_first(op.set), &file_ops, &v, &err) == -1 || check_blocks(&v, &op, &err) == -1)) {
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
