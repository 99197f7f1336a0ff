/*
 * harness.h - a test with a world of its own: a guest, a job and a repository in a fresh folder; runs are processes, so that they can be killed.
 *
 * Calling sequence:  world_begin -> (script: model.h) -> run ... settle ... -> assert_* -> world_end
 */
#ifndef OVB_FAKE_HARNESS_H
#define OVB_FAKE_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "libvirt.h"
#include "model.h"

#define MIB	((long)1 << 20)

/** world_begin(state), world_end(state): Setup and teardown of each test. */
int world_begin(void **state);
int world_end(void **state);
const char *world_folder(void);

#define world_test(f)	cmocka_unit_test_setup_teardown(f, world_begin, world_end)

/** run(keys): Back up the guest, with these keys of its job.  Returns 0 or 1, or the signal that ended it as a negative number. */
int run(const char *keys);

/** run_in_background(keys), run_end(): The same in two. */
pid_t run_in_background(const char *keys);
int run_end(pid_t pid);

/** settle(): Settle what runs left.  Returns how many guests could not be, or -1; what it said is in fake->reports. */
int settle(void);

/** guards_end(): Wait until no process is left that a run started; fails when one stays. */
void guards_end(void);
bool guards_end_within(int seconds);

/** assert_steps(first, ..., NULL): All that was changed, in this order. */
void assert_steps(const char *first, ...) __attribute__((sentinel));

/** assert_clean(): Nothing of a run is left: the guest is thawed, on its images, without jobs; no file is there that was not before. */
void assert_clean(void);

/** assert_unsettled(): The journal is kept. */
void assert_unsettled(void);
void assert_said(const char *text, const char *part);
int points(void);

/** harness_main(argc, argv, ...): main() of each test program. */
int harness_main(int argc, char **argv, int (*tests)(void));

#endif
