/* The backup job: begun, read, ended, whatever happens meanwhile. */
#include "harness.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define KEYS	"capture = \"backup\";"
#define BEFORE	"journal folder", "mkdir run", "journal folder scratch", "mkdir scratch", "journal folder scratch socket"
#define MOMENT	"journal folder scratch socket frozen", "freeze", "backup-begin", "thaw", "journal folder scratch socket"
#define AFTER	"rmdir scratch", "rmdir run", "journal-ends"

/* Nothing goes wrong: this is what a run does to a guest, all of it, in this order. */
static void
backs_up(void **state)
{
	(void)state;
	assert_int_equal(run(KEYS), 0);
	guards_end();
	assert_steps(BEFORE, MOMENT, "abort-job", AFTER, NULL);
	assert_string_equal(fake->consistency, "quiesced");
	assert_string_equal(fake->capture, "backup");
	assert_int_equal(points(), 1);
	assert_clean();
}

static void
hostile_names(void **state)
{
	struct model_disk *d;

	(void)state;
	strcpy(fake->name, "a&b \"c\" <d>'e'");
	d = model_disk(world_folder(), "i&m \"a\" <g>'e'.img", "vdb", "file");
	assert_int_equal(run("capture = \"backup\"; exclude_disks = [ \"vda\" ];"), 0);
	assert_null(strstr(fake->backup_xml, "'vda' backup='yes'"));
	assert_non_null(strstr(fake->backup_xml, "'vda' backup='no'"));
	assert_clean();
	assert_int_equal(run("capture = \"snapshot\";"), 0);
	assert_string_not_equal(d->overlay, "");
	guards_end();
	assert_clean();
}

/* Thawed at once; and there is no job to end. */
static void
begin_fails(void **state)
{
	(void)state;
	failing(WHO_RUN, "backup-begin", 1, 1, VIR_ERR_OPERATION_FAILED, "operation failed: no bitmap");
	assert_int_equal(run(KEYS), 1);
	guards_end();
	assert_steps(BEFORE, "journal folder scratch socket frozen", "freeze", "backup-begin!", "thaw", "journal folder scratch socket", AFTER, NULL);
	assert_said(fake->error, "the backup job could not be begun: operation failed: no bitmap");
	assert_int_equal(points(), 0);
	assert_clean();
}

/* It was begun, but libvirtd died before it said so: it is ended. */
static void
begin_unanswered(void **state)
{
	(void)state;
	on_after("backup-begin", 1, LIBVIRTD_AWAY, 3000);
	assert_int_equal(run(KEYS), 1);
	guards_end();
	settle();
	assert_false(fake->backup_job);
	assert_clean();
}

static void
abort_refused(void **state)
{
	(void)state;
	failing(WHO_RUN, "abort-job", 1, 3, VIR_ERR_OPERATION_FAILED, "Timed out during operation: cannot acquire state change lock");
	assert_int_equal(run(KEYS), 0);
	guards_end();
	assert_steps(BEFORE, MOMENT, "abort-job!", "abort-job!", "abort-job!", "abort-job", AFTER, NULL);
	assert_clean();
}

/* For good: nothing of the job's is removed, and the backup is good all the same. */
static void
abort_never_done(void **state)
{
	(void)state;
	fake->second_ms = 10;
	failing(WHO_RUN, "abort-job", 1, 9999, VIR_ERR_OPERATION_FAILED, "Timed out during operation: cannot acquire state change lock");
	assert_int_equal(run(KEYS), 1);
	guards_end();
	assert_int_equal(fake->rc, 0);
	assert_int_equal(points(), 1);
	assert_said(fake->unsettled, "could not be ended");
	assert_true(fake->backup_job);
	assert_unsettled();
	assert_int_equal(settle(), 0);
	assert_clean();
}

static void
ended_with(enum event e, const char *said)
{
	on("read", 1, e, 0);
	assert_int_equal(run(KEYS), 1);
	guards_end();
	assert_steps(BEFORE, MOMENT, AFTER, NULL);
	assert_said(fake->error, said);
	assert_int_equal(points(), 0);
	assert_clean();
}

static void
job_ends(void **state)
{
	(void)state;
	ended_with(BACKUP_JOB_ENDS, "somebody aborted the job");
}

static void
guest_is_shut_off(void **state)
{
	(void)state;
	ended_with(GUEST_OFF, "shut off while it was read");
}

static void
guest_is_restarted(void **state)
{
	(void)state;
	ended_with(GUEST_RESTARTED, "the guest was restarted");
}

static void
guest_migrates(void **state)
{
	(void)state;
	ended_with(GUEST_GONE, "migrated away, or undefined");
}

static void
transient_guest_ends(void **state)
{
	(void)state;
	fake->persistent = false;
	ended_with(GUEST_OFF, "Domain not found");
}

/* A job of somebody else is in the place of ours: it is not ended. */
static void
somebodys_job(void **state)
{
	(void)state;
	on("read", 1, BACKUP_JOB_OF_SOMEBODY, 0);
	run(KEYS);
	guards_end();
	assert_steps(BEFORE, MOMENT, AFTER, NULL);
	assert_true(fake->backup_job);
	fake->backup_job = false;
	assert_clean();
}

static void
somebodys_job_before(void **state)
{
	(void)state;
	model_event(BACKUP_JOB_OF_SOMEBODY, 0);
	assert_int_equal(run(KEYS), 1);
	guards_end();
	assert_said(fake->error, "somebody else's job");
	assert_true(fake->backup_job);
	fake->backup_job = false;
	assert_clean();
}

static void
two_runs(void **state)
{
	pid_t first;

	(void)state;
	on("read", 1, HANGS, 16000);
	first = run_in_background(KEYS);
	while (fake->nsteps < 10)
		usleep(1000);
	assert_int_equal(run(KEYS), 1);
	assert_said(fake->error, "another run of virt-backupd works on this guest just now");
	assert_int_equal(settle(), 0);
	assert_string_equal(fake->reports, "");
	assert_int_equal(run_end(first), 0);
	guards_end();
	assert_steps(BEFORE, MOMENT, "abort-job", AFTER, NULL);
	assert_clean();
}

/* libvirtd is away for a while, at each call that a run makes: before it, or after it, so that its answer is lost. */
static void
libvirtd_is_away(const char *keys, const char *const *calls)
{
	char first[64];

	for (; *calls != NULL; calls++)
		for (unsigned int nth = 1; nth <= 2; nth++)
			for (int after = 0; after < 2; after++) {
				fake->nrules = 0;
				fake->generation++;
				snprintf(first, sizeof(first), "%s %u %s", *calls, nth, after ? "after" : "before");
				(after ? on_after : on)(*calls, nth, LIBVIRTD_AWAY, 3000);
				run(keys);
				if (!guards_end_within(20) || settle() != 0 || fake->wrong[0] != '\0')
					fail_msg("%s: %s: %s", first, fake->wrong, fake->reports);
				print_message("%s\n", first);
				assert_clean();
			}
}

static void
libvirtd_is_away_in_backup(void **state)
{
	static const char *const calls[] = { "lookup", "is-active", "is-persistent", "state", "xml", "xml-inactive", "caps", "block-info", "agent-timeout",
		"fsinfo", "freeze", "backup-begin", "thaw", "backup-xml", "abort-job", "read", NULL };

	(void)state;
	fake->second_ms = 10;
	libvirtd_is_away("capture = \"auto\";", calls);
}

static void
libvirtd_is_away_in_snapshot(void **state)
{
	static const char *const calls[] = { "is-active", "is-persistent", "xml", "xml-inactive", "freeze", "snapshot", "thaw", "commit", "block-job", "pivot",
		NULL };

	(void)state;
	fake->second_ms = 10;
	libvirtd_is_away("capture = \"snapshot\";", calls);
}

/* What libvirt can do is asked for, not guessed from a lost connection. */
static void
method_is_chosen(void **state)
{
	(void)state;
	assert_int_equal(run("capture = \"auto\";"), 0);
	assert_string_equal(fake->capture, "backup");
	on("caps", 1, LIBVIRTD_AWAY, 1000);
	assert_int_equal(run("capture = \"auto\";"), 0);
	assert_string_equal(fake->capture, "backup");
	fake->nrules = 0;
	fake->no_backup_api = true;
	assert_int_equal(run("capture = \"auto\";"), 0);
	assert_string_equal(fake->capture, "snapshot");
	guards_end();
	assert_clean();
}

static int
tests(void)
{
	const struct CMUnitTest all[] = {
		world_test(backs_up), world_test(hostile_names), world_test(begin_fails), world_test(begin_unanswered), world_test(abort_refused),
		world_test(abort_never_done), world_test(job_ends), world_test(guest_is_shut_off), world_test(guest_is_restarted),
		world_test(guest_migrates), world_test(transient_guest_ends), world_test(somebodys_job), world_test(somebodys_job_before),
		world_test(two_runs), world_test(libvirtd_is_away_in_backup), world_test(libvirtd_is_away_in_snapshot), world_test(method_is_chosen),
	};

	return (cmocka_run_group_tests(all, NULL, NULL));
}

int
main(int argc, char **argv)
{
	return (harness_main(argc, argv, tests));
}
