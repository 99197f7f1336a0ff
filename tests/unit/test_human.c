/* What people read: sizes, durations, and names that fit where they are shown. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/human.h"
#include "base/progress.h"

static void
test_sizes(void **state)
{
	char out[HUMAN_LEN];

	(void)state;
	assert_string_equal(human_size(0, out), "0 B");
	assert_string_equal(human_size(999, out), "999 B");
	assert_string_equal(human_size(1000, out), "1.0 kB");
	assert_string_equal(human_size(926000000, out), "926 MB");
	assert_string_equal(human_size(999600, out), "1.0 MB");
	assert_string_equal(human_size(UINT64_MAX, out), "18 EB");
}

static void
test_durations(void **state)
{
	char out[HUMAN_LEN];

	(void)state;
	assert_string_equal(human_duration(0.44, out), "0.4 s");
	assert_string_equal(human_duration(59.4, out), "59 s");
	assert_string_equal(human_duration(185, out), "3:05 min");
	assert_string_equal(human_duration(7800, out), "2:10:00 h");
	assert_string_equal(human_duration(-1e300, out), "0.0 s");
	assert_string_equal(human_duration(1e300, out), "277777777:46:40 h");
}

static void
test_safe(void **state)
{
	char text[] = "a\tb\n\x1b[2J\x7f \xc2\x85\xc2\x9b" "31m \xc2\xa0\xc3\xa4", empty[] = "";

	(void)state;
	assert_string_equal(human_safe(text), "a?b\n?[2J? ??31m \xc2\xa0\xc3\xa4");
	assert_string_equal(human_safe(empty), "");
}

static void
check_fit(const char *text, unsigned int columns, const char *want, unsigned int want_columns)
{
	char copy[64];

	snprintf(copy, sizeof(copy), "%s", text);
	assert_int_equal(human_fit(copy, columns), want_columns);
	assert_string_equal(copy, want);
}

static void
test_fit(void **state)
{
	(void)state;
	check_fit("debian", 6, "debian", 6);
	check_fit("debian", 5, "de...", 5);
	check_fit("debian", 3, "...", 3);
	check_fit("debian", 2, "", 0);
	check_fit("", 0, "", 0);
	check_fit("ääää", 4, "ääää", 4);
	check_fit("äääää", 4, "ä...", 4);
	check_fit("磁碟磁碟", 8, "磁碟磁碟", 8);
	check_fit("磁碟磁碟", 7, "磁碟...", 7);
	check_fit("磁碟磁碟", 6, "磁...", 5);	/* half a character is not shown */
	check_fit("\xff\xfe\xfd", 3, "\xff\xfe\xfd", 3);
	check_fit("e\xcc\x81" "e\xcc\x81", 2, "e\xcc\x81" "e\xcc\x81", 2);	/* a combining accent takes no column */
}

static void
test_bar_fits(void **state)
{
	static const char *const labels[] = { "big", "a name of some length that no narrow terminal has room for", "磁碟磁碟磁碟磁碟磁碟磁碟磁碟磁碟" };
	struct progress p = { .mode = PROGRESS_BAR, .total = 200000000, .rate = 25e6 };
	char line[sizeof(p.label) + 256];

	(void)state;
	for (size_t i = 0; i < sizeof(labels) / sizeof(*labels); i++)
		for (unsigned int columns = 0; columns < 200; columns++) {
			snprintf(p.label, sizeof(p.label), "%s", labels[i]);
			progress_format(&p, 84000000, 2, columns, line, sizeof(line));
			if (columns >= 5) {
				assert_true(human_fit(line, 1000) <= columns);
				assert_non_null(strstr(line, " 42%"));
			}
			if (columns >= 79)
				assert_non_null(strstr(line, "84 MB of 200 MB  25 MB/s  4.6 s left"));
		}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_durations),
		cmocka_unit_test(test_safe),
		cmocka_unit_test(test_fit),
		cmocka_unit_test(test_bar_fits),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
