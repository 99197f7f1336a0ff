/* A run is killed before each of its steps in turn: the guard thaws, settling leaves the guest as it was, and settling twice is settling once. */
#include "harness.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

static void
check(const char *keys, unsigned int at)
{
	char last[MODEL_STEP] = "";
	unsigned int n;

	fake->kill_at = 0;
	if (fake->nsteps > 0)
		snprintf(last, sizeof(last), "%s", fake->steps[fake->nsteps - 1]);
	/* Within the guard's own time, whatever else happens. */
	guards_end();
	if (fake->frozen != 0)
		fail_msg("%s killed before step %u, after \"%s\": the guest stays frozen", keys, at, last);
	if (settle() != 0 || fake->wrong[0] != '\0')
		fail_msg("%s killed before step %u, after \"%s\": %s %s", keys, at, last, fake->reports, fake->wrong);
	assert_clean();
	n = fake->nsteps;
	assert_int_equal(settle(), 0);
	assert_string_equal(fake->reports, "");
	assert_int_equal(fake->nsteps, n);
	guards_end();
	assert_clean();
}

/* Before each step of a run, until there is none left. */
static unsigned int
kill_everywhere(const char *keys)
{
	unsigned int at = 1;
	int rc = 0;

	for (;; at++) {
		fake->nsteps = 0;
		fake->kill_at = at;
		if ((rc = run(keys)) != -SIGKILL)
			break;
		check(keys, at);
	}
	assert_int_equal(rc, 0);
	fake->kill_at = 0;
	guards_end();
	assert_clean();
	/* And a backup works after all that. */
	assert_int_equal(run(keys), 0);
	return (at - 1);
}

static void
in_backup(void **state)
{
	(void)state;
	assert_int_equal(kill_everywhere("capture = \"backup\";"), 14);
}

static void
in_snapshot(void **state)
{
	(void)state;
	model_disk(world_folder(), "vdb.img", "vdb", "file");
	assert_int_equal(kill_everywhere("capture = \"snapshot\";"), 17);
}

/* The same with a guest that is shut off before it is settled. */
static void
in_snapshot_and_off(void **state)
{
	unsigned int at;

	(void)state;
	for (at = 1;; at++) {
		fake->nsteps = 0;
		fake->kill_at = at;
		if (run("capture = \"snapshot\";") != -SIGKILL)
			break;
		model_lock();
		model_event(GUEST_OFF, 0);
		model_unlock();
		check("off", at);
		model_lock();
		model_event(GUEST_STARTED, 0);
		model_unlock();
	}
	assert_int_equal(at, 13);
	assert_string_equal(fake->wrong, "");
}

/* Who settles is killed, too, before each of its own steps. */
static void
in_settling(void **state)
{
	unsigned int settling;

	(void)state;
	for (unsigned int at = 1; at < 12; at++)
		for (settling = 1; settling < 8; settling++) {
			fake->nsteps = 0;
			fake->kill_at = at;
			assert_int_equal(run("capture = \"snapshot\";"), -SIGKILL);
			guards_end();
			fake->kill_at = settling;
			if (settle() != -SIGKILL)
				settling = 8;
			fake->kill_at = 0;
			check("settling", at);
		}
}

/* While it waits, not between steps. */
static void
in_freeze(void **state)
{
	static const char *const calls[] = { "freeze", "backup-begin", "thaw" };

	(void)state;
	for (size_t i = 0; i < 3; i++)
		for (int after = 0; after < 2; after++) {
			fake->nrules = 0;
			(after ? on_after : on)(calls[i], 1, KILLED, 0);
			assert_int_equal(run("capture = \"backup\";"), -SIGKILL);
			check(calls[i], (unsigned int)after);
		}
}

/* libvirt goes on with the call of a run that is dead: nothing may be undone before that has ended. */
static void
in_a_call_that_goes_on(void **state)
{
	static const char *const methods[] = { "backup", "snapshot" }, *const calls[] = { "backup-begin", "snapshot" };
	char keys[64];

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		fake->nrules = 0;
		on(calls[i], 1, ANSWERED_LATE, 10000);
		on_after(calls[i], 1, KILLED, 0);
		snprintf(keys, sizeof(keys), "capture = \"%s\";", methods[i]);
		assert_int_equal(run(keys), -SIGKILL);
		check(keys, 0);
	}
}

/* Killed with the guest frozen, while its agent or libvirtd is away. */
static void
while_all_is_away(void **state)
{
	(void)state;
	on_after("freeze", 1, AGENT_LEAVES, 8000);
	on_after("freeze", 1, LIBVIRTD_AWAY, 5000);
	on("agent-timeout", 4, KILLED, 0);
	run("capture = \"backup\";");
	check("away", 0);
}

static int
tests(void)
{
	const struct CMUnitTest all[] = {
		world_test(in_backup), world_test(in_snapshot), world_test(in_snapshot_and_off), world_test(in_settling), world_test(in_freeze), world_test(in_a_call_that_goes_on),
		world_test(while_all_is_away),
	};

	return (cmocka_run_group_tests(all, NULL, NULL));
}

int
main(int argc, char **argv)
{
	return (harness_main(argc, argv, tests));
}
