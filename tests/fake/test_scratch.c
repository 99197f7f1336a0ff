/* What the guest overwrites goes to scratch files: the backup is ended before they are full, and the guest never notices. */
#include "harness.h"

#define BEFORE	"journal folder", "mkdir run", "journal folder scratch", "mkdir scratch", "journal folder scratch socket"
#define MOMENT	"journal folder scratch socket frozen", "freeze", "backup-begin", "thaw", "journal folder scratch socket"
#define AFTER	"rmdir scratch", "rmdir run", "journal-ends"

/* The guest writes ${bytes}, and the run reads on only long after. */
static void
grow(unsigned int read, long bytes)
{
	on("read", read, SCRATCH_GROWS, bytes);
	on("read", read, HANGS, 3000);
}

static void
within_bounds(void **state)
{
	(void)state;
	grow(1, MIB / 4);
	assert_int_equal(run("capture = \"backup\"; scratch_max = \"16M\";"), 0);
	guards_end();
	assert_clean();
}

static void
quota(void **state)
{
	(void)state;
	grow(1, 17 * MIB);
	assert_int_equal(run("capture = \"backup\"; scratch_max = \"16M\";"), 1);
	guards_end();
	assert_steps(BEFORE, MOMENT, "abort-job", AFTER, NULL);
	assert_said(fake->error, "would soon reach scratch_max");
	assert_said(fake->error, "Raise scratch_max");
	assert_int_equal(points(), 0);
	assert_clean();
}

/* There is much room left, but at this rate not for long. */
static void
fast_growth(void **state)
{
	(void)state;
	fake->second_ms = 400;
	grow(1, 40 * MIB);
	assert_int_equal(run("capture = \"backup\"; scratch_max = \"64M\";"), 1);
	guards_end();
	assert_said(fake->error, "would soon reach scratch_max");
	assert_clean();
}

static void
file_system_fills(void **state)
{
	(void)state;
	fake->second_ms = 400;
	fake->free_bytes = 325 * (uint64_t)MIB;
	grow(1, 120 * MIB);
	assert_int_equal(run("capture = \"backup\";"), 1);
	guards_end();
	assert_steps(BEFORE, MOMENT, "abort-job", AFTER, NULL);
	assert_said(fake->error, "set \"scratch\" to another folder");
	assert_clean();
}

/* Too little to begin with: the guest is not even frozen. */
static void
no_room(void **state)
{
	(void)state;
	fake->free_bytes = 300 * (uint64_t)MIB;
	assert_int_equal(run("capture = \"backup\";"), 1);
	assert_steps("journal folder", "mkdir run", "journal folder scratch", "mkdir scratch", "rmdir scratch", "rmdir run", "journal-ends", NULL);
	assert_said(fake->error, "Make room");
	assert_clean();
}

/* The job is not ended at the first request: it is asked for again, while the guest goes on writing. */
static void
abort_refused(void **state)
{
	(void)state;
	grow(1, 17 * MIB);
	failing(WHO_RUN, "abort-job", 1, 3, VIR_ERR_OPERATION_FAILED, "Timed out during operation: cannot acquire state change lock");
	assert_int_equal(run("capture = \"backup\"; scratch_max = \"16M\";"), 1);
	guards_end();
	assert_steps(BEFORE, MOMENT, "abort-job!", "abort-job!", "abort-job!", "abort-job", AFTER, NULL);
	assert_said(fake->error, "would soon reach scratch_max");
	assert_clean();
}

/* libvirtd is away when the files grow, and for longer than they would last: noticed at once, done when it is back. */
static void
libvirtd_is_away(void **state)
{
	(void)state;
	on("read", 1, LIBVIRTD_AWAY, 2000);
	grow(1, 17 * MIB);
	assert_int_equal(run("capture = \"backup\"; scratch_max = \"16M\";"), 1);
	guards_end();
	assert_steps(BEFORE, MOMENT, "abort-job", AFTER, NULL);
	assert_said(fake->error, "would soon reach scratch_max");
	assert_clean();
}

/* libvirt does not answer a question about the job: the files are looked at all the same. */
static void
libvirt_hangs(void **state)
{
	(void)state;
	on("read", 1, HANGS, 4000);
	on("backup-xml", 1, SCRATCH_GROWS, 17 * MIB);
	on("backup-xml", 1, HANGS, 8000);
	assert_int_equal(run("capture = \"backup\"; scratch_max = \"16M\";"), 1);
	guards_end();
	assert_said(fake->error, "would soon reach scratch_max");
	assert_clean();
}

static void
somebodys_job(void **state)
{
	(void)state;
	grow(1, 17 * MIB);
	on("backup-xml", 1, BACKUP_JOB_OF_SOMEBODY, 0);
	assert_int_equal(run("capture = \"backup\"; scratch_max = \"16M\";"), 1);
	guards_end();
	assert_true(fake->backup_job);
	fake->backup_job = false;
	assert_clean();
}

static int
tests(void)
{
	const struct CMUnitTest all[] = {
		world_test(within_bounds), world_test(quota), world_test(fast_growth), world_test(file_system_fills), world_test(no_room),
		world_test(abort_refused), world_test(libvirtd_is_away), world_test(libvirt_hangs), world_test(somebodys_job),
	};

	return (cmocka_run_group_tests(all, NULL, NULL));
}

int
main(int argc, char **argv)
{
	return (harness_main(argc, argv, tests));
}
