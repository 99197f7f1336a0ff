/* Which machines a job can have, by its configuration alone; and what a retry leaves out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "config/conf.h"
#include "earlier.h"
#include "machine.h"

static struct conf *
job(const char *source)
{
	struct err err = ERR_INIT;
	char text[512];
	struct conf *c;

	snprintf(text, sizeof(text), "repositories = ( { name = \"r\"; url = \"/r\"; }, { name = \"s\"; url = \"/s\"; } ); jobs = ( { name = \"j\"; %s } );", source);
	if ((c = conf_parse(text, strlen(text), "test", &err)) == NULL)
		fail_msg("%s", err.text);
	return (c);
}

static void
test_possible(void **state)
{
	static const struct {
		const char	*source, *name;
		bool		 possible;
	} cases[] = {
		{ "domains = [ \"web*\", \"db\" ];", "web1", true },
		{ "domains = [ \"web*\", \"db\" ];", "db", true },
		{ "domains = [ \"web*\", \"db\" ];", "db1", false },
		{ "domains = [ \"*\" ]; exclude = [ \"scratch-*\" ];", "scratch-1", false },
		{ "domains = [ \"*\" ]; exclude = [ \"scratch-*\" ];", "web", true },
		{ "images = [ \"/srv/a.img\" ];", "a", true },
		{ "images = [ \"/srv/a.img\" ];", "a.img", false },
		{ "images = [ \"/srv/a.img\" ];", "b", false },
		{ "images = [ \"/srv/a.img\", \"/srv/b.c.img\" ];", "b.c", true },
		{ "images = [ \"/dev/vg/root\" ];", "root", true },
		{ "images = [ \"/dev/vg/root\" ];", "vg", false },
		{ "images = [ \"/srv/.hidden\" ];", ".hidden", true },
		{ "images = [ \"/srv/*.img\" ];", "any", true },
		{ "images = [ \"/srv/web*.img\" ];", "web", true },
		{ "images = [ \"/srv/web*.img\" ];", "db", false },
		{ "images = [ \"/srv/web[0-9].img\" ];", "webx", false },
		{ "images = [ \"/srv/*/disk.img\" ];", "disk", true },
		{ "images = [ \"/srv/*/disk.img\" ];", "srv", false },
		{ "images = [ \"/srv/a\\\\*.img\" ];", "a*", true },
		{ "images = [ \"/srv/a\\\\*.img\" ];", "ab", false },
		/* In doubt: yes. */
		{ "images = [ \"/srv/web*\" ];", "db", true },
		{ "images = [ \"/srv/a.*\" ];", "b", true },
		{ "images = [ \"/srv/a[.b]x\" ];", "q", true },
		{ "images = [ \"/srv/a\\\\.img\" ];", "q", true },
		{ "from = \"s\";", "any", true },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct conf *c = job(cases[i].source);

		if (machine_possible(&c->jobs[0], cases[i].name) != cases[i].possible)
			fail_msg("%s %s", cases[i].source, cases[i].name);
		conf_free(c);
	}
}

static void
test_earlier(void **state)
{
	struct err err = ERR_INIT;
	struct earlier e;
	char number[16];
	int fd;

	(void)state;
	unsetenv(EARLIER_ENV);
	assert_int_equal(earlier_read(&e, &err), 0);
	assert_false(earlier_has(&e, "web"));
	earlier_free(&e);
	assert_true((fd = earlier_write("web\nweb 2\ndb\n", 13, &err)) != -1);
	snprintf(number, sizeof(number), "%d", fd);
	setenv(EARLIER_ENV, number, 1);
	assert_int_equal(earlier_read(&e, &err), 0);
	assert_null(getenv(EARLIER_ENV));
	assert_true(earlier_has(&e, "web") && earlier_has(&e, "web 2") && earlier_has(&e, "db"));
	assert_false(earlier_has(&e, "we") || earlier_has(&e, "web ") || earlier_has(&e, "") || earlier_has(&e, "b") || earlier_has(&e, "dbx"));
	earlier_free(&e);
	/* It was closed. */
	setenv(EARLIER_ENV, number, 1);
	assert_int_equal(earlier_read(&e, &err), -1);
	earlier_free(&e);
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_possible), cmocka_unit_test(test_earlier) };

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
