/* A frozen guest: it is thawed in time, whoever dies and whoever is away. */
#include "harness.h"

#include "backupd/freeze_guard.h"

#define TRY		"capture = \"backup\"; quiesce = \"try\"; quiesce_timeout = 4;"
#define REQUIRED	"capture = \"backup\"; quiesce = \"required\"; quiesce_timeout = 4;"
#define BEFORE		"journal folder", "mkdir run", "journal folder scratch", "mkdir scratch", "journal folder scratch socket"
#define FROZEN_NOW	"journal folder scratch socket frozen"
#define THAWED_NOW	"journal folder scratch socket"
#define AFTER		"abort-job", "rmdir scratch", "rmdir run", "journal-ends"

static const char refusal[] = "internal error: unable to execute QEMU agent command 'guest-fsfreeze-freeze': failed to freeze /: Input/output error";
static const char timeout[] = "Guest agent is not responding: Guest agent not available for now";

/* Its agent says no: it is not frozen, and nobody has to thaw it. */
static void
refused(void **state)
{
	(void)state;
	failing(WHO_RUN, "freeze", 1, 1, VIR_ERR_INTERNAL_ERROR, refusal);
	assert_int_equal(run(TRY), 0);
	guards_end();
	assert_steps(BEFORE, FROZEN_NOW, "freeze!", "backup-begin", THAWED_NOW, AFTER, NULL);
	assert_string_equal(fake->consistency, "crash-consistent");
	assert_said(fake->why, "failed to freeze /");
	assert_int_equal(fake->agent_timeout, -2);
	assert_clean();
}

static void
refused_though_required(void **state)
{
	(void)state;
	failing(WHO_RUN, "freeze", 1, 1, VIR_ERR_INTERNAL_ERROR, refusal);
	assert_int_equal(run(REQUIRED), 1);
	guards_end();
	assert_steps(BEFORE, FROZEN_NOW, "freeze!", THAWED_NOW, "rmdir scratch", "rmdir run", "journal-ends", NULL);
	assert_said(fake->error, "cannot be quiesced, as the job requires");
	assert_int_equal(points(), 0);
	assert_clean();
}

/* Somebody else holds it frozen: their freeze is not ended. */
static void
frozen_by_somebody(void **state)
{
	(void)state;
	on("freeze", 1, FROZEN, 0);
	assert_int_equal(run(TRY), 0);
	guards_end();
	assert_int_equal(fake->frozen, 1);
	fake->frozen = 0;
	assert_clean();
}

/* No answer in time, and then it freezes all the same. */
static void
frozen_late(void **state)
{
	(void)state;
	failing(WHO_RUN, "freeze", 1, 1, VIR_ERR_AGENT_UNRESPONSIVE, timeout);
	on("backup-begin", 1, FROZEN, 0);
	assert_int_equal(run(TRY), 0);
	guards_end();
	assert_steps(BEFORE, FROZEN_NOW, "freeze!", "backup-begin", "guard: thaw", THAWED_NOW, AFTER, NULL);
	assert_string_equal(fake->consistency, "crash-consistent");
	assert_clean();
}

/* The same with an error of a newer libvirtd, which this program's libvirt does not know. */
static void
frozen_late_with_unknown_error(void **state)
{
	(void)state;
	failing(WHO_RUN, "freeze", 1, 1, 112, "guest agent command timed out");
	on("backup-begin", 1, FROZEN, 0);
	assert_int_equal(run(TRY), 0);
	guards_end();
	assert_clean();
}

static void
frozen_late_though_required(void **state)
{
	(void)state;
	failing(WHO_RUN, "freeze", 1, 1, VIR_ERR_AGENT_UNRESPONSIVE, timeout);
	on_after("freeze", 1, FROZEN, 0);
	assert_int_equal(run(REQUIRED), 1);
	guards_end();
	assert_steps(BEFORE, FROZEN_NOW, "freeze!", "guard: thaw", THAWED_NOW, "rmdir scratch", "rmdir run", "journal-ends", NULL);
	assert_clean();
}

/* Frozen, then its agent is gone for longer than the run waits: the guard goes on, and the journal stays until somebody settled it. */
static void
agent_dies_and_returns(void **state)
{
	(void)state;
	on_after("freeze", 1, AGENT_LEAVES, 0);
	assert_int_equal(run(TRY), 1);
	assert_int_equal(fake->rc, 0);
	assert_said(fake->unsettled, "may be frozen");
	assert_int_equal(fake->frozen, 1);
	assert_unsettled();
	fake->agent = AGENT_THERE;
	guards_end();
	assert_int_equal(fake->frozen, 0);
	assert_int_equal(settle(), 0);
	assert_clean();
}

/* The same, away for a moment: it is thawed before the run goes on, and nothing is left to be settled. */
static void
agent_returns_at_once(void **state)
{
	(void)state;
	on_after("freeze", 1, AGENT_LEAVES, 2000);
	assert_int_equal(run(TRY), 0);
	guards_end();
	assert_int_equal(fake->rc, 0);
	assert_clean();
}

/* While it is still away: a guard is there already, or is left. */
static void
settled_while_agent_is_away(void **state)
{
	(void)state;
	on_after("freeze", 1, AGENT_LEAVES, 0);
	assert_int_equal(run(TRY), 1);
	assert_int_equal(settle(), 1);
	assert_said(fake->reports, "may be frozen");
	assert_int_equal(fake->frozen, 1);
	assert_unsettled();
	/* The next run comes to the same end, in time. */
	assert_int_equal(run(TRY), 1);
	assert_said(fake->error, "may be frozen");
	model_lock();
	fake->agent = AGENT_THERE;
	model_unlock();
	guards_end();
	assert_int_equal(settle(), 0);
	assert_clean();
}

/* A guard was killed, too. */
static void
settled_without_guard(void **state)
{
	(void)state;
	on_after("freeze", 1, AGENT_LEAVES, 0);
	on("thaw", 2, KILLED, 0);
	by(WHO_GUARD);
	run(TRY);
	assert_int_equal(settle(), 1);
	model_lock();
	fake->agent = AGENT_THERE;
	model_unlock();
	guards_end();
	assert_int_equal(fake->frozen, 0);
	assert_int_equal(settle(), 0);
	assert_clean();
}

/* An agent that takes requests and answers none. */
static void
agent_hangs(void **state)
{
	(void)state;
	model_event(AGENT_STUCK, 0);
	assert_int_equal(run(TRY), 0);
	guards_end();
	assert_steps(BEFORE, "backup-begin", AFTER, NULL);
	assert_said(fake->why, "does not answer");
	assert_clean();
}

static void
agent_hangs_at_freeze(void **state)
{
	(void)state;
	on("freeze", 1, AGENT_STUCK, 7000);
	assert_int_equal(run(TRY), 0);
	guards_end();
	assert_string_equal(fake->consistency, "crash-consistent");
	assert_clean();
}

/* What limits the agent's answers cannot be set: then nothing is asked that may wait for ever. */
static void
no_limit(void **state)
{
	(void)state;
	failing(WHO_ANY, "agent-timeout", 1, 99, VIR_ERR_NO_SUPPORT, "this function is not supported by the connection driver");
	assert_int_equal(run(TRY), 0);
	guards_end();
	assert_steps(BEFORE, "backup-begin", AFTER, NULL);
	assert_clean();
}

static void
thawed_by_somebody(void **state)
{
	(void)state;
	on("backup-begin", 1, THAWED, 0);
	assert_int_equal(run(TRY), 0);
	guards_end();
	assert_steps(BEFORE, FROZEN_NOW, "freeze", "backup-begin", "thaw", THAWED_NOW, AFTER, NULL);
	assert_string_equal(fake->consistency, "crash-consistent");
	assert_said(fake->why, "somebody thawed");
	assert_clean();
}

/* The job takes too long to begin: the guard thaws, and the backup is what it is. */
static void
guard_fires(void **state)
{
	(void)state;
	on("backup-begin", 1, HANGS, 20000);
	assert_int_equal(run(TRY), 0);
	guards_end();
	assert_steps(BEFORE, FROZEN_NOW, "freeze", "guard: thaw", "backup-begin", "thaw", THAWED_NOW, AFTER, NULL);
	assert_string_equal(fake->consistency, "crash-consistent");
	assert_clean();
}

static void
guard_fires_though_required(void **state)
{
	(void)state;
	on("backup-begin", 1, HANGS, 20000);
	assert_int_equal(run(REQUIRED), 1);
	guards_end();
	assert_steps(BEFORE, FROZEN_NOW, "freeze", "guard: thaw", "backup-begin", "thaw", THAWED_NOW, AFTER, NULL);
	assert_int_equal(points(), 0);
	assert_clean();
}

/* It never begins: the run gives up; what it began is settled. */
static void
job_hangs(void **state)
{
	(void)state;
	fake->second_ms = 10;
	on("backup-begin", 1, HANGS, 1000000);
	assert_int_equal(run(TRY), 1);
	assert_int_equal(fake->rc, -2);
	guards_end();
	assert_int_equal(fake->frozen, 0);
	assert_int_equal(settle(), 0);
	assert_clean();
}

/* The thaw fails once: the guard does it. */
static void
thaw_fails(void **state)
{
	(void)state;
	failing(WHO_RUN, "thaw", 1, 1, VIR_ERR_AGENT_UNRESPONSIVE, timeout);
	assert_int_equal(run(TRY), 0);
	guards_end();
	assert_steps(BEFORE, FROZEN_NOW, "freeze", "backup-begin", "thaw!", "guard: thaw", THAWED_NOW, AFTER, NULL);
	assert_clean();
}

/* libvirtd ends while the guest is frozen, and returns. */
static void
libvirtd_restarts(void **state)
{
	(void)state;
	on_after("freeze", 1, LIBVIRTD_AWAY, 3000);
	assert_int_equal(run(TRY), 1);
	guards_end();
	assert_int_equal(fake->frozen, 0);
	assert_int_equal(settle(), 0);
	assert_clean();
}

/* libvirtd takes calls and answers none, connections included: the guard outlasts that. */
static void
libvirtd_hangs(void **state)
{
	(void)state;
	fake->second_ms = 20;
	on_after("freeze", 1, KILLED, 0);
	on("open", 1, HANGS, 3600000);
	by(WHO_GUARD);
	run(TRY);
	guards_end();
	assert_int_equal(fake->frozen, 0);
	settle();
	assert_clean();
}

static void
paused(void **state)
{
	(void)state;
	fake->paused = true;
	assert_int_equal(run(TRY), 0);
	guards_end();
	assert_steps(BEFORE, "backup-begin", AFTER, NULL);
	assert_true(fake->paused);
	assert_clean();
}

static void
no_agent(void **state)
{
	(void)state;
	fake->has_agent = false;
	assert_int_equal(run(TRY), 0);
	assert_said(fake->why, "no channel");
	assert_int_equal(run(REQUIRED), 1);
	assert_said(fake->error, "no channel");
	fake->has_agent = true;
	fake->agent = AGENT_GONE;
	assert_int_equal(run(REQUIRED), 1);
	assert_said(fake->error, "install qemu-guest-agent");
	guards_end();
	assert_clean();
}

static void
not_to_be_frozen(void **state)
{
	(void)state;
	assert_int_equal(run("capture = \"backup\"; quiesce = \"never\";"), 0);
	assert_steps(BEFORE, "backup-begin", AFTER, NULL);
	assert_int_equal(run("capture = \"backup\"; quiesce = \"required\"; no_quiesce = [ \"w*\" ];"), 0);
	assert_steps(BEFORE, "backup-begin", AFTER, BEFORE, "backup-begin", AFTER, NULL);
	assert_string_equal(fake->consistency, "crash-consistent");
	guards_end();
	assert_clean();
}

static int
tests(void)
{
	const struct CMUnitTest all[] = {
		world_test(refused), world_test(refused_though_required), world_test(frozen_by_somebody), world_test(frozen_late),
		world_test(frozen_late_with_unknown_error), world_test(frozen_late_though_required), world_test(agent_dies_and_returns),
		world_test(agent_returns_at_once), world_test(settled_while_agent_is_away), world_test(settled_without_guard),
		world_test(agent_hangs), world_test(agent_hangs_at_freeze), world_test(no_limit), world_test(thawed_by_somebody),
		world_test(guard_fires), world_test(guard_fires_though_required), world_test(job_hangs), world_test(thaw_fails),
		world_test(libvirtd_restarts), world_test(libvirtd_hangs), world_test(paused), world_test(no_agent), world_test(not_to_be_frozen),
	};

	return (cmocka_run_group_tests(all, NULL, NULL));
}

int
main(int argc, char **argv)
{
	return (harness_main(argc, argv, tests));
}
