/* Overlays go back into the images below them, and an overlay that is older, or in use, is left alone. */
#include "harness.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEYS		"capture = \"snapshot\";"
#define MOMENT		"journal vda", "journal frozen vda", "freeze", "snapshot", "thaw", "journal vda"
#define COMMIT		"journal vda(committing)", "commit vda"
#define PIVOTING	"journal vda(pivoting)"
#define END		"remove vda", "journal-ends"

/* Nothing goes wrong. */
static void
backs_up(void **state)
{
	(void)state;
	assert_int_equal(run(KEYS), 0);
	guards_end();
	assert_steps(MOMENT, COMMIT, PIVOTING, "pivot vda", END, NULL);
	assert_string_equal(fake->capture, "snapshot");
	assert_string_equal(fake->consistency, "quiesced");
	assert_int_equal(points(), 1);
	assert_clean();
}

static void
snapshot_fails(void **state)
{
	(void)state;
	failing(WHO_RUN, "snapshot", 1, 1, VIR_ERR_OPERATION_FAILED, "operation failed: no room");
	assert_int_equal(run(KEYS), 1);
	guards_end();
	assert_steps("journal vda", "journal frozen vda", "freeze", "snapshot!", "thaw", "journal vda", "journal-ends", NULL);
	assert_said(fake->error, "the snapshot could not be made: operation failed: no room");
	assert_clean();
}

/* It was made, but libvirtd died before it said so. */
static void
snapshot_unanswered(void **state)
{
	(void)state;
	on_after("snapshot", 1, LIBVIRTD_AWAY, 3000);
	assert_int_equal(run(KEYS), 1);
	guards_end();
	settle();
	assert_clean();
	assert_int_equal(points(), 0);
}

static void
pivot_refused(void **state)
{
	(void)state;
	fake->refused_pivots = 2;
	assert_int_equal(run(KEYS), 0);
	guards_end();
	assert_steps(MOMENT, COMMIT, PIVOTING, "pivot vda!", "journal vda(committing)", PIVOTING, "pivot vda!", "journal vda(committing)", PIVOTING, "pivot vda",
	    END, NULL);
	assert_clean();
}

/* The guest writes faster than the commit: bounded, reported, and left for later; the guest runs on. */
static void
does_not_converge(void **state)
{
	(void)state;
	fake->second_ms = 1;
	fake->ready_after = 1 << 30;
	assert_int_equal(run("capture = \"snapshot\"; quiesce = \"never\";"), 1);
	guards_end();
	assert_int_equal(fake->rc, 0);
	assert_steps("journal vda", "snapshot", COMMIT, "cancel vda", "commit vda", "cancel vda", "commit vda", "cancel vda", "journal vda(committing)", NULL);
	assert_said(fake->unsettled, "did not come forward for 10 minutes, 3 times");
	assert_int_equal(fake->disks[0].live, ON_OVERLAY);
	assert_unsettled();
	fake->ready_after = 2;
	assert_int_equal(settle(), 0);
	assert_clean();
}

/* Nor can it be ended: that is no reason to try for ever. */
static void
cannot_be_cancelled(void **state)
{
	(void)state;
	fake->second_ms = 1;
	fake->ready_after = 1 << 30;
	failing(WHO_RUN, "cancel", 1, 9999, VIR_ERR_OPERATION_FAILED, "operation failed");
	assert_int_equal(run("capture = \"snapshot\"; quiesce = \"never\";"), 1);
	guards_end();
	assert_steps("journal vda", "snapshot", COMMIT, "cancel vda!", "cancel vda!", "cancel vda!", "journal vda(committing)", NULL);
	fake->ready_after = 2;
	assert_int_equal(settle(), 0);
	assert_clean();
}

/* The job ends in QEMU by itself, once, and always. */
static void
commit_fails(void **state)
{
	(void)state;
	on("block-job", 1, COMMIT_FAILS, 0);
	assert_int_equal(run(KEYS), 0);
	guards_end();
	assert_steps(MOMENT, COMMIT, "commit vda", PIVOTING, "pivot vda", END, NULL);
	assert_clean();
}

static void
commit_always_fails(void **state)
{
	(void)state;
	for (unsigned int i = 1; i <= 4; i++)
		on("block-job", i, COMMIT_FAILS, 0);
	assert_int_equal(run(KEYS), 1);
	guards_end();
	assert_said(fake->unsettled, "failed, 3 times");
	fake->nrules = 0;
	assert_int_equal(settle(), 0);
	assert_clean();
}

static void
off_before_commit(void **state)
{
	(void)state;
	on("commit", 1, GUEST_OFF, 0);
	assert_int_equal(run(KEYS), 0);
	guards_end();
	assert_steps(MOMENT, "journal vda(committing)", "commit vda!", "qemu-img-commit vda", "define", END, NULL);
	assert_clean();
}

static void
off_while_committing(void **state)
{
	(void)state;
	on("block-job", 1, GUEST_OFF, 0);
	assert_int_equal(run(KEYS), 0);
	guards_end();
	assert_steps(MOMENT, COMMIT, "qemu-img-commit vda", "define", END, NULL);
	assert_clean();
}

/* All had been copied: both are the same, and either is right. */
static void
off_before_pivot(void **state)
{
	(void)state;
	on("pivot", 1, GUEST_OFF, 0);
	assert_int_equal(run(KEYS), 0);
	guards_end();
	assert_steps(MOMENT, COMMIT, PIVOTING, "pivot vda!", "qemu-img-compare vda", "define", END, NULL);
	assert_clean();
}

/* The same, but a pivot was refused before that: then the overlay is the newer one. */
static void
off_after_refused_pivot(void **state)
{
	(void)state;
	fake->refused_pivots = 1;
	on_after("pivot", 1, GUEST_WRITES, 0);
	on("block-job", 3, GUEST_OFF, 0);
	assert_int_equal(run(KEYS), 0);
	guards_end();
	assert_steps(MOMENT, COMMIT, PIVOTING, "pivot vda!", "journal vda(committing)", "qemu-img-commit vda", "define", END, NULL);
	assert_clean();
}

static void
off_after_pivot(void **state)
{
	(void)state;
	on_after("pivot", 1, GUEST_OFF, 0);
	assert_int_equal(run(KEYS), 0);
	guards_end();
	assert_steps(MOMENT, COMMIT, PIVOTING, "pivot vda", END, NULL);
	assert_clean();
}

/* The pivot was done, and neither answer nor persistent XML say so, as libvirtd was away when the guest ended.  The base is newer. */
static void
stale_in_persistent_xml(void **state)
{
	struct model_disk *d;

	(void)state;
	d = &fake->disks[0];
	fake->config_lags = true;
	on_after("pivot", 1, LIBVIRTD_AWAY, 1000);
	on_after("pivot", 1, GUEST_OFF, 0);
	assert_int_equal(run(KEYS), 1);
	guards_end();
	assert_said(fake->unsettled, "cannot be told whether");
	assert_steps(MOMENT, COMMIT, PIVOTING, "pivot vda", "qemu-img-compare vda", "journal vda(pivoting)", NULL);
	assert_int_equal(settle(), 1);
	assert_true(d->base_age > d->overlay_age);
	/* What the message asks for. */
	d->config = ON_BASE;
	unlink(d->overlay);
	assert_int_equal(settle(), 0);
	assert_clean();
}

/* The same while it runs: the live XML tells. */
static void
persistent_xml_lags(void **state)
{
	(void)state;
	fake->config_lags = true;
	assert_int_equal(run(KEYS), 0);
	guards_end();
	assert_steps(MOMENT, COMMIT, PIVOTING, "pivot vda", "define", END, NULL);
	assert_clean();
}

static void
define_fails(void **state)
{
	(void)state;
	fake->config_lags = true;
	failing(WHO_RUN, "define", 1, 1, VIR_ERR_OPERATION_FAILED, "operation failed");
	assert_int_equal(run(KEYS), 1);
	guards_end();
	assert_steps(MOMENT, COMMIT, PIVOTING, "pivot vda", "define!", "journal vda(pivoting)", NULL);
	assert_int_equal(settle(), 0);
	assert_clean();
}

/* Whether the domain is persistent cannot be told: then its XML may name the overlay. */
static void
persistence_unknown(void **state)
{
	(void)state;
	fake->config_lags = true;
	failing(WHO_RUN, "is-persistent", 2, 2, VIR_ERR_OPERATION_FAILED, "operation failed");
	assert_int_equal(run(KEYS), 1);
	guards_end();
	assert_unsettled();
	assert_int_equal(settle(), 0);
	assert_clean();
}

/* It is started again, on the overlay, while that is committed. */
static void
started_after_offline_commit(void **state)
{
	(void)state;
	on("commit", 1, GUEST_OFF, 0);
	on_after("qemu-img-commit", 1, GUEST_STARTED, 0);
	by(WHO_TOOL);
	assert_int_equal(run(KEYS), 0);
	guards_end();
	assert_string_equal(fake->wrong, "");
	assert_int_equal(fake->active, true);
	assert_clean();
}

static void
started_before_offline_commit(void **state)
{
	(void)state;
	on("commit", 1, GUEST_OFF, 0);
	on("qemu-img-commit", 1, GUEST_STARTED, 0);
	by(WHO_TOOL);
	assert_int_equal(run(KEYS), 0);
	guards_end();
	assert_steps(MOMENT, "journal vda(committing)", "commit vda!", "qemu-img-commit vda!", "commit vda", PIVOTING, "pivot vda", END, NULL);
	assert_clean();
}

/* Detached before the commit, while it runs, and after all was copied. */
static void
detached(void **state)
{
	static const char *const calls[] = { "commit", "block-job", "pivot", NULL };

	(void)state;
	for (const char *const *call = calls; *call != NULL; call++) {
		fake->disks[0].live = fake->disks[0].config = ON_BASE;
		fake->nrules = 0;
		on(*call, 1, DETACHED, 0);
		assert_int_equal(run(KEYS), 0);
		guards_end();
		assert_clean();
	}
}

static void
undefined(void **state)
{
	(void)state;
	fake->persistent = false;
	assert_int_equal(run(KEYS), 0);
	guards_end();
	assert_steps(MOMENT, COMMIT, PIVOTING, "pivot vda", END, NULL);
	assert_clean();
}

static void
transient_guest_ends(void **state)
{
	static const char *const calls[] = { "commit", "block-job", "pivot", NULL };

	(void)state;
	for (const char *const *call = calls; *call != NULL; call++) {
		fake->exists = fake->active = true;
		fake->persistent = false;
		fake->disks[0].live = ON_BASE;
		fake->nrules = 0;
		on(*call, 1, GUEST_OFF, 0);
		assert_int_equal(run(KEYS), 0);
		guards_end();
		assert_false(fake->exists);
		assert_clean();
	}
}

/* A run is killed; somebody commits the overlay by hand, works on, and takes the disk away.  What is left of the overlay is old. */
static void
committed_by_hand(void **state)
{
	const struct timespec later[2] = { { .tv_nsec = UTIME_NOW }, { .tv_nsec = UTIME_NOW } };
	struct model_disk *d;

	(void)state;
	d = &fake->disks[0];
	on("commit", 1, KILLED, 0);
	assert_int_equal(run(KEYS), -9);
	guards_end();
	/* The commit had been announced, so that the base may have been written; without that it is told by the time. */
	d->base_age = d->overlay_age + 1;
	d->live = d->config = ON_BASE;
	assert_int_equal(settle(), 0);
	assert_clean();
	on("journal", 4, KILLED, 0);
	assert_int_equal(run(KEYS), -9);
	guards_end();
	usleep(20000);
	d->base_age = d->overlay_age + 1;
	d->live = d->config = ON_NOTHING;
	assert_int_equal(utimensat(AT_FDCWD, d->base, later, 0), 0);
	assert_int_equal(settle(), 1);
	assert_said(fake->reports, "cannot be told whether");
	unlink(d->overlay);
	assert_int_equal(settle(), 0);
	assert_clean();
}

static void
somebodys_block_job(void **state)
{
	(void)state;
	on("commit", 1, COPY_OF_SOMEBODY, 0);
	assert_int_equal(run(KEYS), 1);
	guards_end();
	assert_said(fake->unsettled, "block job of somebody else");
	assert_int_equal(fake->disks[0].job, JOB_SOMEBODYS_COPY);
	assert_unsettled();
	fake->disks[0].job = JOB_NONE;
	assert_int_equal(settle(), 0);
	assert_clean();
	/* And before it begins. */
	model_event(COPY_OF_SOMEBODY, 0);
	assert_int_equal(run(KEYS), 1);
	assert_said(fake->error, "block job of somebody else");
	fake->disks[0].job = JOB_NONE;
	assert_clean();
}

/* One disk cannot be settled: the other one is. */
static void
each_disk_for_itself(void **state)
{
	(void)state;
	model_disk(world_folder(), "lv", "vdb", "block");
	failing(WHO_RUN, "define", 1, 9, VIR_ERR_OPERATION_FAILED, "operation failed");
	on("commit", 1, COPY_OF_SOMEBODY, 0);
	assert_int_equal(run(KEYS), 1);
	guards_end();
	assert_int_equal(fake->disks[0].live, ON_OVERLAY);
	assert_int_equal(fake->disks[1].live, ON_BASE);
	fake->disks[0].job = JOB_NONE;
	assert_int_equal(settle(), 0);
	assert_clean();
}

/* The next run settles first, and says so when it cannot. */
static void
next_run_settles(void **state)
{
	(void)state;
	on("commit", 1, KILLED, 0);
	assert_int_equal(run(KEYS), -9);
	guards_end();
	fake->nrules = 0;
	model_event(COPY_OF_SOMEBODY, 0);
	assert_int_equal(run(KEYS), 1);
	assert_said(fake->error, "what an earlier run had begun is not settled yet");
	fake->disks[0].job = JOB_NONE;
	assert_int_equal(run(KEYS), 0);
	guards_end();
	assert_int_equal(points(), 1);
	assert_clean();
}

static int
tests(void)
{
	const struct CMUnitTest all[] = {
		world_test(backs_up), world_test(snapshot_fails), world_test(snapshot_unanswered), world_test(pivot_refused), world_test(does_not_converge),
		world_test(cannot_be_cancelled), world_test(commit_fails), world_test(commit_always_fails), world_test(off_before_commit),
		world_test(off_while_committing), world_test(off_before_pivot), world_test(off_after_refused_pivot), world_test(off_after_pivot),
		world_test(stale_in_persistent_xml), world_test(persistent_xml_lags), world_test(define_fails), world_test(persistence_unknown),
		world_test(started_after_offline_commit), world_test(started_before_offline_commit), world_test(detached), world_test(undefined),
		world_test(transient_guest_ends), world_test(committed_by_hand), world_test(somebodys_block_job), world_test(each_disk_for_itself),
		world_test(next_run_settles),
	};

	return (cmocka_run_group_tests(all, NULL, NULL));
}

int
main(int argc, char **argv)
{
	return (harness_main(argc, argv, tests));
}
