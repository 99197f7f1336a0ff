/* Files that others must not read, or write. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/conf.h"
#include "config/secret_file.h"

#define FILE_NAME	"test_secret_file.tmp"

static void
secrets_are_nobody_elses(void **state)
{
	static const struct {
		mode_t mode;
		bool ours, good;
	} cases[] = {
		{ 0600, true, true }, { 0400, true, true }, { 0700, true, true }, { 0640, true, false }, { 0604, true, false }, { 0620, true, false },
		{ 0602, true, false }, { 0601, true, false },
		/* Somebody else's, that we are let at through its group. */
		{ 0640, false, true }, { 0600, false, true }, { 0644, false, false }, { 0642, false, false },
	};
	char wanted[128];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct stat st = { .st_mode = S_IFREG | cases[i].mode, .st_uid = cases[i].ours ? geteuid() : geteuid() + 1 };
		struct err err = ERR_INIT;

		assert_int_equal(secret_file_check(&st, "/k", "the key", &err), cases[i].good ? 0 : -1);
		snprintf(wanted, sizeof(wanted), "others may read the key in /k (mode %04o): chmod 600 it", (unsigned int)cases[i].mode);
		assert_string_equal(err.text, cases[i].good ? "" : wanted);
		assert_int_equal(err.code, cases[i].good ? 0 : EACCES);
	}
}

static void
a_configuration_is_written_by_few(void **state)
{
	static const char text[] = "repositories = ( { name = \"local\"; url = \"/b\"; } );\n";
	int fd = open(FILE_NAME, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	struct err err = ERR_INIT;
	struct conf *c;

	(void)state;
	assert_int_equal(write(fd, text, sizeof(text) - 1), sizeof(text) - 1);
	assert_int_equal(fchmod(fd, 0646), 0);
	assert_null(conf_load(FILE_NAME, &err));
	assert_string_equal(err.text, FILE_NAME ": everybody may write to it: chmod o-w it");
	assert_int_equal(fchmod(fd, 0664), 0);
	c = conf_load(FILE_NAME, &err);
	assert_non_null(c);
	conf_free(c);
	close(fd);
	unlink(FILE_NAME);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(secrets_are_nobody_elses),
		cmocka_unit_test(a_configuration_is_written_by_few),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
