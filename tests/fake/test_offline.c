/* A guest that is shut off, and does not stay so. */
#include "harness.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define AUTO	"capture = \"auto\";"

static void
shut_off(void **state)
{
	(void)state;
	fake->active = false;
	assert_int_equal(run(AUTO), 0);
	assert_steps(NULL, NULL);
	assert_string_equal(fake->capture, "offline");
	assert_string_equal(fake->consistency, "offline");
	assert_int_equal(points(), 1);
	assert_clean();
}

/* Started while it was read: nothing of that is kept, and it is backed up as it runs. */
static void
started_meanwhile(void **state)
{
	(void)state;
	fake->active = false;
	/* When it is asked whether it still is off. */
	on("is-active", 2, GUEST_STARTED, 0);
	assert_int_equal(run(AUTO), 0);
	guards_end();
	assert_string_equal(fake->capture, "backup");
	assert_said(fake->reports, "starting over with the running guest");
	assert_int_equal(points(), 1);
	assert_clean();
}

static void
started_meanwhile_though_offline(void **state)
{
	(void)state;
	fake->active = false;
	on("is-active", 2, GUEST_STARTED, 0);
	assert_int_equal(run("capture = \"offline\";"), 1);
	assert_said(fake->error, "was started while its disks were read");
	assert_int_equal(points(), 0);
	/* And one that runs from the beginning. */
	assert_int_equal(run("capture = \"offline\";"), 1);
	assert_said(fake->error, "shut it off, or let the job choose");
	assert_clean();
}

/* Started and off again. */
static void
written_meanwhile(void **state)
{
	const struct timespec now[2] = { { .tv_nsec = UTIME_NOW }, { .tv_nsec = UTIME_NOW } };
	siginfo_t ended;

	(void)state;
	fake->active = false;
	on("is-active", 2, HANGS, 4000);
	pid_t pid = run_in_background(AUTO);
	/* However long it takes to come to reading. */
	do {
		ended.si_pid = 0;
		utimensat(AT_FDCWD, fake->disks[0].base, now, 0);
		nanosleep(&(struct timespec){ 0, 2000000 }, NULL);
	} while (waitid(P_PID, (id_t)pid, &ended, WEXITED | WNOHANG | WNOWAIT) == 0 && ended.si_pid == 0);
	assert_int_equal(run_end(pid), 1);
	assert_said(fake->error, "written while it was read");
	assert_clean();
}

/* Shut off between two looks: it is backed up as what it is then, or the run says why not. */
static void
off_before_it_begins(void **state)
{
	(void)state;
	on("backup-begin", 1, GUEST_OFF, 0);
	assert_int_equal(run(AUTO), 1);
	guards_end();
	assert_said(fake->error, "domain is not running");
	assert_clean();
}

static int
tests(void)
{
	const struct CMUnitTest all[] = {
		world_test(shut_off), world_test(started_meanwhile), world_test(started_meanwhile_though_offline), world_test(written_meanwhile),
		world_test(off_before_it_begins),
	};

	return (cmocka_run_group_tests(all, NULL, NULL));
}

int
main(int argc, char **argv)
{
	return (harness_main(argc, argv, tests));
}
