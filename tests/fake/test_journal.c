/* What is not written down is not done; what was written and is damaged is not guessed at. */
#include "harness.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *
journal_path(void)
{
	static char path[MODEL_PATH];

	snprintf(path, sizeof(path), "%s/state/journal/%s.json", world_folder(), fake->uuid);
	return (path);
}

static void
write_journal(const char *text)
{
	FILE *f = fopen(journal_path(), "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

/* The disk is full from some step on: what cannot be journalled is not done, and what was done is undone. */
static void
disk_full(const char *keys, const char *step, unsigned int nth)
{
	fake->nrules = 0;
	fake->nsteps = 0;
	on_after(step, nth, DISK_FULL, 0);
	assert_int_equal(run(keys), 1);
	guards_end();
	assert_string_equal(fake->wrong, "");
	assert_int_equal(fake->frozen, 0);
	assert_int_equal(settle(), 0);
	assert_clean();
	assert_int_equal(points(), 0);
}

static void
full_in_backup(void **state)
{
	(void)state;
	for (unsigned int nth = 1; nth <= 5; nth++) {
		disk_full("capture = \"backup\";", "journal", nth);
		if (nth == 3) {
			assert_steps("journal folder", "mkdir run", "journal folder scratch", "mkdir scratch", "journal folder scratch socket", "rmdir scratch",
			    "rmdir run", "journal-ends", NULL);
			assert_said(fake->error, "File too large");
			assert_said(fake->error, "the journal of web");
		}
	}
	disk_full("capture = \"backup\";", "lookup", 1);
	disk_full("capture = \"backup\";", "backup-begin", 1);
}

static void
full_in_snapshot(void **state)
{
	(void)state;
	for (unsigned int nth = 1; nth <= 3; nth++)
		disk_full("capture = \"snapshot\";", "journal", nth);
	disk_full("capture = \"snapshot\";", "snapshot", 1);
}

/* Before the pivot: it waits until it can be written down. */
static void
full_before_pivot(void **state)
{
	(void)state;
	on_after("commit", 1, DISK_FULL, 0);
	assert_int_equal(run("capture = \"snapshot\";"), 1);
	guards_end();
	assert_steps("journal vda", "journal frozen vda", "freeze", "snapshot", "thaw", "journal vda", "journal vda(committing)", "commit vda", NULL);
	assert_int_equal(fake->disks[0].live, ON_OVERLAY);
	assert_unsettled();
	assert_int_equal(settle(), 0);
	assert_clean();
}

static void
damaged(void **state)
{
	static const char *const texts[] = { "", "{", "[]", "null", "{\"format\": 2}", "{\"format\": 1, \"uuid\": 7}",
		"{\"format\": 1, \"uri\": \"x\", \"name\": \"web\", \"uuid\": \"4f1c9c1e-0000-4000-8000-00000000000b\", \"token\": \"00000000\"}",
		"{\"format\": 1, \"uri\": \"x\", \"name\": \"web\", \"uuid\": \"4f1c9c1e-0000-4000-8000-00000000000a\", \"token\": \"\"}",
		"{\"format\": 1, \"uri\": \"x\", \"name\": \"web\", \"uuid\": \"4f1c9c1e-0000-4000-8000-00000000000a\", \"token\": \"0123456a\", \"overlays\": [7]}",
		"{\"format\": 1, \"uri\": \"x\", \"name\": \"web\", \"uuid\": \"4f1c9c1e-0000-4000-8000-00000000000a\", \"token\": \"0123456a\", \"frozen\": 1}",
		"{\"format\": 1, \"uri\": \"x\", \"name\": \"web\", \"uuid\": \"4f1c9c1e-0000-4000-8000-00000000000a\", \"token\": \"0123456a\", \"overlays\": {}}",
		NULL };

	(void)state;
	assert_int_equal(run("capture = \"backup\";"), 0);
	guards_end();
	fake->nsteps = 0;
	for (const char *const *text = texts; *text != NULL; text++) {
		write_journal(*text);
		assert_int_equal(settle(), 1);
		assert_said(fake->reports, "is damaged");
		assert_int_equal(run("capture = \"backup\";"), 1);
		assert_said(fake->error, "is damaged: see that the guest runs on its images");
		assert_steps(NULL, NULL);
	}
	unlink(journal_path());
	assert_int_equal(run("capture = \"backup\";"), 0);
	guards_end();
	assert_clean();
}

/* What a half-written one leaves is not in the way. */
static void
half_written(void **state)
{
	char fresh[MODEL_PATH + 8];
	FILE *f;

	(void)state;
	assert_int_equal(run("capture = \"backup\";"), 0);
	snprintf(fresh, sizeof(fresh), "%s.new", journal_path());
	f = fopen(fresh, "w");
	assert_non_null(f);
	fclose(f);
	assert_int_equal(settle(), 0);
	assert_int_equal(run("capture = \"backup\";"), 0);
	guards_end();
	assert_clean();
}

static int
tests(void)
{
	const struct CMUnitTest all[] = {
		world_test(full_in_backup), world_test(full_in_snapshot), world_test(full_before_pivot), world_test(damaged), world_test(half_written),
	};

	return (cmocka_run_group_tests(all, NULL, NULL));
}

int
main(int argc, char **argv)
{
	return (harness_main(argc, argv, tests));
}
