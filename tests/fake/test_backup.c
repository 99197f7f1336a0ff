/* The backup job: begun, read, ended, whatever happens meanwhile. */
#include "harness.h"

#define KEYS	"capture = \"backup\";"

/* Nothing goes wrong: this is what a run does to a guest, all of it, in this order. */
static void
backs_up(void **state)
{
	(void)state;
	assert_int_equal(run(KEYS), 0);
	guards_end();
	assert_steps("journal folder", "mkdir run", "journal folder scratch", "mkdir scratch", "journal folder scratch socket",
	    "journal folder scratch socket frozen", "freeze", "backup-begin", "thaw", "abort-job", "rmdir scratch", "rmdir run", "journal-ends", NULL);
	assert_string_equal(fake->consistency, "quiesced");
	assert_string_equal(fake->capture, "backup");
	assert_int_equal(points(), 1);
	assert_clean();
}

static int
tests(void)
{
	const struct CMUnitTest all[] = {
		world_test(backs_up),
	};

	return (cmocka_run_group_tests(all, NULL, NULL));
}

int
main(int argc, char **argv)
{
	return (harness_main(argc, argv, tests));
}
