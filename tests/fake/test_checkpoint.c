/* A run's checkpoint stays when its point is published, and the job's older ones go then; else it goes.  Whatever dies when. */
#include "harness.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "archive/archive_reader.h"
#include "archive/disk_reader.h"
#include "host.h"

#define KEYS	"capture = \"backup\";"
#define BEFORE	"journal folder", "mkdir run", "journal folder scratch", "mkdir scratch", "journal folder scratch socket checkpoint"
#define MOMENT	"journal folder scratch socket checkpoint frozen", "freeze", "backup-begin", "thaw", "journal folder scratch socket checkpoint"
#define END	"abort-job", "rmdir scratch", "rmdir run"

static int
qcow2_world(void **state)
{
	int rc = world_begin(state);

	strcpy(fake->disks[0].format, "qcow2");
	fake->publications = true;
	return (rc);
}

#define checkpoint_test(f)	cmocka_unit_test_setup_teardown(f, qcow2_world, world_end)

/* Of job j: how many libvirt knows, or, with ${bitmaps}, how many have left a bitmap in an image. */
static unsigned int
count(bool bitmaps)
{
	unsigned int n = 0;

	for (int i = 0; i < MODEL_CHECKPOINTS; i++) {
		const struct model_checkpoint *c = &fake->checkpoints[i];

		n += strncmp(c->name, "openvirt-backup.j.", 18) == 0 && strlen(c->name) == 26 && strspn(c->name + 18, "0123456789abcdef") == 8 &&
		    (bitmaps ? c->bitmaps[0] != NO_BITMAP : c->known);
	}
	return (n);
}

static struct model_checkpoint *
head(void)
{
	char name[160];

	host_head(name);
	return (name[0] != '\0' ? model_checkpoint(name) : NULL);
}

/* The latest point was read like this, and its checkpoint is there, and no other. */
static void
assert_head(const char *how)
{
	char text[32];

	host_head_how(text);
	assert_string_equal(text, how);
	assert_string_equal(fake->wrong, "");
	assert_non_null(head());
	assert_true(head()->known && head()->bitmaps[0] == SOUND);
	assert_int_equal(count(false), 1);
	assert_int_equal(count(true), 1);
	assert_clean();
}

static void
run_well(const char *how)
{
	int rc = run(KEYS);

	if (rc != 0)
		print_message("%s %s\n", fake->error, fake->unsettled);
	assert_int_equal(rc, 0);
	guards_end();
	assert_head(how);
	fake->nsteps = 0;
}

static void
one_takes_the_place_of_another(void **state)
{
	(void)state;
	assert_int_equal(run(KEYS), 0);
	guards_end();
	assert_steps(BEFORE, MOMENT, END, "publish", "journal", "journal-ends", NULL);
	assert_head("full");
	fake->nsteps = 0;
	assert_int_equal(run(KEYS), 0);
	guards_end();
	assert_steps(BEFORE, MOMENT, END, "publish", "journal", "checkpoint-delete 1", "journal-ends", NULL);
	assert_head("bitmap");
}

static void
of_a_run_that_fails(void **state)
{
	(void)state;
	on("read", 1, BACKUP_JOB_ENDS, 0);
	assert_int_equal(run(KEYS), 1);
	guards_end();
	assert_steps(BEFORE, MOMENT, "rmdir scratch", "rmdir run", "checkpoint-delete 1", "journal-ends", NULL);
	assert_int_equal(count(true), 0);
	fake->nrules = 0;
	run_well("full");
	failing(WHO_RUN, "backup-begin", 1, 9, VIR_ERR_OPERATION_FAILED, "operation failed");
	assert_int_equal(run(KEYS), 1);
	guards_end();
	assert_head("full");
}

/* libvirt keeps the checkpoint of a backup job that it could not begin. */
static void
of_a_job_that_is_not_begun(void **state)
{
	(void)state;
	run_well("full");
	fake->late_failures = 1;
	assert_int_equal(run(KEYS), 0);
	guards_end();
	assert_steps(BEFORE, "journal folder scratch socket checkpoint frozen", "freeze", "backup-begin!", "backup-begin!", "backup-begin", "thaw",
	    "journal folder scratch socket checkpoint", END, "publish", "checkpoint-delete 2", "journal-ends", NULL);
	/* The point has none of its own, and goes on with the one before. */
	assert_head("compared");
	run_well("bitmap");
}

static void
bitmaps_that_are_gone(void **state)
{
	static const enum bitmap what[] = { NO_BITMAP, UNSOUND };

	(void)state;
	run_well("full");
	for (size_t i = 0; i < 2; i++) {
		head()->bitmaps[0] = what[i];
		run_well("compared");
		run_well("bitmap");
	}
}

/* libvirt has no record of it, as after virsh undefine. */
static void
records_that_are_gone(void **state)
{
	static const enum bitmap what[] = { SOUND, UNSOUND, NO_BITMAP };
	struct model_checkpoint *c;

	(void)state;
	run_well("full");
	for (size_t i = 0; i < 3; i++) {
		c = head();
		c->known = false;
		c->bitmaps[0] = what[i];
		model_checkpoint_end(c);
		run_well(what[i] == SOUND ? "bitmap" : "compared");
		run_well("bitmap");
	}
}

/* One of two images was replaced: the other one is not read, and both old bitmaps go. */
static void
one_of_two(void **state)
{
	struct model_checkpoint *c;

	(void)state;
	strcpy(model_disk(world_folder(), "vdb.qcow2", "vdb", "file")->format, "qcow2");
	run_well("full");
	head()->bitmaps[1] = NO_BITMAP;
	run_well("bitmap");
	c = head();
	c->bitmaps[1] = UNSOUND;
	c->known = false;
	run_well("compared");
	run_well("bitmap");
}

/* The images of two disks are exchanged: their bitmaps have the right name, and tell of the wrong disk. */
static void
images_that_are_exchanged(void **state)
{
	char path[MODEL_PATH];

	(void)state;
	strcpy(model_disk(world_folder(), "vdb.qcow2", "vdb", "file")->format, "qcow2");
	run_well("full");
	run_well("bitmap");
	strcpy(path, fake->disks[0].base);
	strcpy(fake->disks[0].base, fake->disks[1].base);
	strcpy(fake->disks[1].base, path);
	run_well("compared");
	run_well("bitmap");
	/* Back again, for a point that has no checkpoint of its own: that of the one before is still of the other image. */
	strcpy(fake->disks[1].base, fake->disks[0].base);
	strcpy(fake->disks[0].base, path);
	fake->late_failures = 1;
	run_well("compared");
	run_well("compared");
	run_well("bitmap");
}

/* What the latest point has in each window of its disk. */
static void
assert_content(const char *wanted)
{
	char url[MODEL_PATH], found[MODEL_WINDOWS + 1] = "";
	struct manifest m = MANIFEST_INIT;
	struct err err = ERR_INIT;
	struct archive_set *set = NULL;
	struct disk_reader *dr = NULL;
	struct repo *r;
	struct point p;

	snprintf(url, sizeof(url), "%s/repository", world_folder());
	if ((r = repo_open(url, false, &err)) == NULL || repo_find(r, "web@latest", &p, &err) == -1 || repo_manifest(r, &p, &m, &err) == -1 ||
	    (set = archive_set_open(r, &p, &m, &err)) == NULL || (dr = disk_reader_new(set, 0, &err)) == NULL)
		fail_msg("%s", err.text);
	for (uint64_t i = 0; i < MODEL_WINDOWS; i++)
		assert_int_equal(disk_reader_read(dr, found + i, 1, i << 16, &err), 0);
	assert_string_equal(found, wanted);
	disk_reader_free(dr);
	archive_set_free(set);
	manifest_free(&m);
	repo_close(r);
}

/* A point that is listed becomes a pruned one, or with ${to} NULL its folder is that of no point at all. */
static void
unlist(const char *checkpoint, const char *to)
{
	char command[2 * MODEL_PATH];

	/* The first point that names it is the one that it was made for. */
	snprintf(command, sizeof(command), "cd %s/repository/web && f=$(grep -l '%s' */disks.tar* | head -1) && cd \"${f%%/*}\" && %s%s",
	    world_folder(), checkpoint, to != NULL ? "mv manifest.json " : "rm manifest.json", to != NULL ? to : "");
	assert_int_equal(system(command), 0);
}

/*
 * A point without a checkpoint of its own goes on with an earlier one's.  Then somebody puts a copy of the image from between the two back in its place:
 * its bitmap has the right name, and tells nothing of what the point has and the copy has not.
 */
static void
a_copy_from_before(void **state)
{
	static const char *const become[] = { "", "pruned.json", NULL };
	char origin[160];

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		memset(fake->content, 0, sizeof(fake->content));
		memset(fake->dirty, true, sizeof(fake->dirty));
		run_well(i == 0 ? "full" : "bitmap");
		host_head(origin);
		memset(fake->dirty, false, sizeof(fake->dirty));
		assert_content("xxxx");

		fake->content[1] = 'y';
		fake->dirty[1] = true;
		fake->late_failures = 1;
		run_well("compared");
		assert_content("xyxx");

		fake->content[1] = 0;
		fake->dirty[1] = false;
		fake->content[2] = 'z';
		fake->dirty[2] = true;
		if (i > 0)
			unlist(origin, become[i]);
		run_well(become[i] != NULL ? "bitmap" : "compared");
		assert_content("xxzx");
	}
}

static void
of_others(void **state)
{
	static const char *const names[] = { "theirs", "openvirt-backup.other.01234567", "openvirt-backup.j.j.01234567", "openvirt-backup.j.0123456",
		"openvirt-backup.j.0123456x", "openvirt-backup.j" };
	const size_t n = sizeof(names) / sizeof(names[0]);

	(void)state;
	for (size_t i = 0; i < n; i++) {
		struct model_checkpoint *c = model_checkpoint_new(names[i]);

		c->known = c->recorded[0] = true;
		c->bitmaps[0] = SOUND;
	}
	run_well("full");
	run_well("bitmap");
	for (size_t i = 0; i < n; i++)
		assert_true(model_checkpoint(names[i]) != NULL && model_checkpoint(names[i])->known && model_checkpoint(names[i])->bitmaps[0] == SOUND);
}

/* While somebody has a backup job none is deleted, but later. */
static void
beside_somebodys_job(void **state)
{
	(void)state;
	on_after("publish", 1, BACKUP_JOB_OF_SOMEBODY, 0);
	assert_int_equal(run(KEYS), 0);
	guards_end();
	fake->backup_job = false;
	assert_head("full");
	assert_int_equal(run(KEYS), 1);
	guards_end();
	assert_int_equal(fake->rc, 0);
	assert_said(fake->unsettled, "no checkpoint can be deleted before it ends");
	assert_string_equal(fake->wrong, "");
	assert_int_equal(count(false), 2);
	fake->backup_job = false;
	fake->nrules = 0;
	run_well("bitmap");
}

/* Nothing can be deleted of a guest that is off: the next run that finds it running does it. */
static void
of_a_guest_that_is_off(void **state)
{
	(void)state;
	run_well("full");
	head()->bitmaps[0] = UNSOUND;		/* so that there is something to read */
	on("read", 1, GUEST_OFF, 0);
	assert_int_equal(run(KEYS), 1);
	guards_end();
	assert_clean();
	assert_int_equal(count(false), 2);
	fake->nrules = 0;
	model_lock();
	model_event(GUEST_STARTED, 0);
	model_unlock();
	run_well("compared");
}

static void
refused(void **state)
{
	(void)state;
	run_well("full");
	failing(WHO_RUN, "checkpoint-delete", 1, 9, VIR_ERR_OPERATION_FAILED, "operation failed");
	failing(WHO_RUN, "checkpoint-forget", 1, 9, VIR_ERR_OPERATION_FAILED, "operation failed");
	assert_int_equal(run(KEYS), 1);
	guards_end();
	assert_int_equal(fake->rc, 0);
	assert_int_equal(count(false), 2);
	fake->nrules = 0;
	run_well("bitmap");
}

/* After a run that was killed, and then settled. */
static void
check(const char *before, unsigned int at)
{
	char now[160], last[MODEL_STEP] = "";

	fake->kill_at = 0;
	if (fake->nsteps > 0)
		snprintf(last, sizeof(last), "%s", fake->steps[fake->nsteps - 1]);
	guards_end();
	if (settle() != 0 || fake->wrong[0] != '\0')
		fail_msg("killed before step %u, after \"%s\": %s %s", at, last, fake->reports, fake->wrong);
	assert_clean();
	host_head(now);
	if (now[0] != '\0' && (head() == NULL || !head()->known || head()->bitmaps[0] != SOUND))
		fail_msg("killed before step %u, after \"%s\": the latest point's checkpoint is gone", at, last);
	for (int i = 0; i < MODEL_CHECKPOINTS; i++) {
		const char *name = fake->checkpoints[i].name;

		if (name[0] != '\0' && strcmp(name, before) != 0 && strcmp(name, now) != 0)
			fail_msg("killed before step %u, after \"%s\": checkpoint %u of no point stays", at, last, fake->checkpoints[i].number);
	}
	run_well(now[0] != '\0' ? "bitmap" : "full");
}

static void
killed_at_each_step(void **state)
{
	unsigned int at = 1;
	char before[160];
	int rc;

	(void)state;
	for (;; at++) {
		host_head(before);
		fake->nsteps = 0;
		fake->kill_at = at;
		if ((rc = run(KEYS)) != -SIGKILL)
			break;
		check(before, at);
	}
	assert_int_equal(rc, 0);
	assert_int_equal(at - 1, 17);
	fake->kill_at = 0;
	guards_end();
	assert_head("bitmap");
}

/* Who settles is killed, too. */
static void
killed_while_settling(void **state)
{
	char before[160];

	(void)state;
	fake->second_ms = 10;
	run_well("full");
	for (unsigned int at = 9; at <= 16; at++)
		for (unsigned int settling = 1; settling < 6; settling++) {
			host_head(before);
			fake->nsteps = 0;
			fake->kill_at = at;
			assert_int_equal(run(KEYS), -SIGKILL);
			guards_end();
			fake->kill_at = settling;
			if (settle() != -SIGKILL)
				settling = 6;
			check(before, at);
		}
}

/* libvirt goes on with the call of a run that is dead. */
static void
killed_in_a_call_that_goes_on(void **state)
{
	char before[160];

	(void)state;
	run_well("full");
	host_head(before);
	on("backup-begin", 1, ANSWERED_LATE, 10000);
	on_after("backup-begin", 1, KILLED, 0);
	assert_int_equal(run(KEYS), -SIGKILL);
	fake->nrules = 0;
	check(before, 0);
}

/* Who settles cannot tell whether the point was published: then nothing is deleted, until the next run. */
static void
settled_without_the_repository(void **state)
{
	char here[MODEL_PATH], away[MODEL_PATH];

	(void)state;
	snprintf(here, sizeof(here), "%s/repository", world_folder());
	snprintf(away, sizeof(away), "%s/away", world_folder());
	run_well("full");
	on_after("publish", 1, KILLED, 0);
	assert_int_equal(run(KEYS), -SIGKILL);
	guards_end();
	fake->nrules = 0;
	assert_int_equal(rename(here, away), 0);
	assert_int_equal(settle(), 0);
	assert_int_equal(count(false), 2);
	assert_int_equal(rename(away, here), 0);
	run_well("bitmap");
}

static int
tests(void)
{
	const struct CMUnitTest all[] = {
		checkpoint_test(one_takes_the_place_of_another), checkpoint_test(of_a_run_that_fails), checkpoint_test(of_a_job_that_is_not_begun),
		checkpoint_test(bitmaps_that_are_gone), checkpoint_test(records_that_are_gone), checkpoint_test(one_of_two), checkpoint_test(images_that_are_exchanged),
		checkpoint_test(a_copy_from_before),
		checkpoint_test(of_others), checkpoint_test(beside_somebodys_job), checkpoint_test(of_a_guest_that_is_off), checkpoint_test(refused),
		checkpoint_test(killed_at_each_step), checkpoint_test(killed_while_settling), checkpoint_test(killed_in_a_call_that_goes_on),
		checkpoint_test(settled_without_the_repository),
	};

	return (cmocka_run_group_tests(all, NULL, NULL));
}

int
main(int argc, char **argv)
{
	return (harness_main(argc, argv, tests));
}
