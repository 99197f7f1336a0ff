/*
 * Schedules and time zones without systemd: what is refused and how it is said, changes of clocks, the ends of time; and each zone of the system
 * against localtime_r(3).  tests/scenario/calendar.t compares thousands of events with systemd-analyze.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "calendar/calendar.h"
#include "calendar/zone.h"
#include "calendar/zone_rule.h"
#include "repository/naming.h"

#define FOLDER "/usr/share/zoneinfo"

static uint64_t seed = 88172645463325252;

static int64_t
rnd(int64_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return ((int64_t)(seed >> 1) % below);
}

static void
zone(const char *name)
{
	if (name == NULL)
		unsetenv("TZ");
	else
		setenv("TZ", name, 1);
	tzset();
}

static struct calendar *
parsed(const char *text)
{
	struct err err = ERR_INIT;
	struct calendar *c = calendar_parse(text, &err);

	if (c == NULL)
		fail_msg("%s", err.text);
	return (c);
}

/* The ${n} times after ${after}, as RFC 3339, with spaces. */
static void
check_next(const char *tz, const char *text, const char *after, const char *want)
{
	char all[512] = "", one[RFC3339_LEN];
	struct calendar *c;
	size_t n = (strlen(want) + 1) / 21;
	time_t t;

	zone(tz);
	c = parsed(text);
	assert_true(time_parse_rfc3339(after, &t));
	for (size_t i = 0; i < n && calendar_next(c, t, &t); i++) {
		time_rfc3339(t, one);
		snprintf(all + strlen(all), sizeof(all) - strlen(all), "%s%s", i > 0 ? " " : "", one);
	}
	assert_string_equal(all, want);
	calendar_free(c);
}

static void
test_clocks_change(void **state)
{
	(void)state;
	/* The 29th of March has no 02:30, the 25th of October has two and takes the first. */
	check_next("Europe/Berlin", "02:30", "2026-03-27T12:00:00Z", "2026-03-28T01:30:00Z 2026-03-30T00:30:00Z");
	check_next("Europe/Berlin", "02:30", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z 2026-10-26T01:30:00Z");
	check_next("UTC", "02:30 Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z 2026-10-26T01:30:00Z");
	check_next("America/New_York", "*:0/30", "2026-03-08T06:29:59Z", "2026-03-08T06:30:00Z 2026-03-08T07:00:00Z 2026-03-08T07:30:00Z");
	check_next("America/New_York", "*:0/30", "2026-11-01T05:00:00Z", "2026-11-01T05:30:00Z 2026-11-01T07:00:00Z 2026-11-01T07:30:00Z");
	/* Asked in the hour that is repeated, the second time. */
	check_next("America/New_York", "*:0/30", "2026-11-01T06:00:00Z", "2026-11-01T06:30:00Z 2026-11-01T07:00:00Z");
	/* Half an hour; and a day that Samoa left out. */
	check_next("Australia/Lord_Howe", "2:10", "2026-10-02T00:00:00Z", "2026-10-02T15:40:00Z 2026-10-04T15:10:00Z");
	check_next("Pacific/Apia", "daily", "2011-12-29T00:00:00Z", "2011-12-29T10:00:00Z 2011-12-30T10:00:00Z");
	/* Midnight is left out. */
	check_next("America/Sao_Paulo", "daily", "2018-11-03T00:00:00Z", "2018-11-03T03:00:00Z 2018-11-05T02:00:00Z");
	/* A rule without a file, and no rule at all. */
	check_next("XYZ-1XYS,M3.5.0,M10.5.0/3", "02:30", "2026-03-28T12:00:00Z", "2026-03-30T00:30:00Z");
	check_next("", "02:30", "2026-03-28T12:00:00Z", "2026-03-29T02:30:00Z");
	check_next("No/Where", "02:30", "2026-03-28T12:00:00Z", "2026-03-29T02:30:00Z");
	check_next(":Europe/Berlin", "02:30", "2026-03-28T12:00:00Z", "2026-03-30T00:30:00Z");
	check_next("/usr/share/zoneinfo/Europe/Berlin", "02:30", "2026-03-28T12:00:00Z", "2026-03-30T00:30:00Z");
}

static void
test_dates(void **state)
{
	(void)state;
	check_next("UTC", "*-02-29", "2026-03-28T12:00:00Z", "2028-02-29T00:00:00Z 2032-02-29T00:00:00Z");
	check_next("UTC", "*-02-29", "2096-03-01T00:00:00Z", "2104-02-29T00:00:00Z");
	check_next("UTC", "*-02~1", "2027-03-01T00:00:00Z", "2028-02-29T00:00:00Z 2029-02-28T00:00:00Z");
	check_next("UTC", "Mon *-05~07/1", "2026-01-01T00:00:00Z", "2026-05-25T00:00:00Z 2027-05-31T00:00:00Z");
	check_next("UTC", "quarterly", "2026-11-22T00:00:00Z", "2027-01-01T00:00:00Z 2027-04-01T00:00:00Z");
	check_next("UTC", "*-*-* *:*:*", "2026-12-31T23:59:58Z", "2026-12-31T23:59:59Z 2027-01-01T00:00:00Z");
	check_next("UTC", "weekly", "2199-12-29T00:00:00Z", "2199-12-30T00:00:00Z");
	check_next("UTC", "2199-12-31 23:59:59", "2020-01-01T00:00:00Z", "2199-12-31T23:59:59Z");
	check_next("UTC", "@1800000000", "2020-01-01T00:00:00Z", "2027-01-15T08:00:00Z");
	check_next("UTC", "1970-01-01", "1960-01-01T00:00:00Z", "1970-01-01T00:00:00Z");
	check_next("Asia/Tokyo", "1970-01-01", "1960-01-01T00:00:00Z", "1969-12-31T15:00:00Z");
}

static void
test_never(void **state)
{
	static const char *const events[] = { "*-02-30", "Mon 2026-11-22", "2020-01-01", "@1", "Mon 2199-12-31", "*-04,06,09,11-31 *:*:* Europe/Berlin" };
	struct timespec begin, end;
	time_t t;

	(void)state;
	zone("Europe/Berlin");
	clock_gettime(CLOCK_MONOTONIC, &begin);
	for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
		struct calendar *c = parsed(events[i]);

		for (time_t after = 1800000000; after < INT64_C(8000000000); after += 100000000)
			assert_false(calendar_next(c, after, &t));
		calendar_free(c);
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	assert_true(end.tv_sec - begin.tv_sec < 20);	/* 378 calls: well under a second, but this may run under valgrind */
}

/* Whatever the clock says, the next time is later, in the limits, and nothing lies between: it is also the next one after a moment before it. */
static void
test_order(void **state)
{
	static const char *const events[] = { "*:0/7", "Mon..Fri 01..03:0/30", "*-*~1 *:59:59", "*-02-29 2:0", "*:*:* Asia/Beirut", "2:*:0/59 America/Havana" };
	static const char *const zones[] = { "Europe/Berlin", "America/Havana", "Australia/Lord_Howe", "Europe/Dublin", "<+0330>-3:30" };

	(void)state;
	for (size_t i = 0; i < 30; i++) {
		struct calendar *c;

		zone(zones[i % 5]);
		c = parsed(events[i % 6]);
		for (int round = 0; round < 1500; round++) {
			static const time_t edges[] = { INT64_MIN, INT64_MIN + 1, -1, 0, INT64_C(7258118399), INT64_MAX - 1, INT64_MAX };
			time_t after = round < 7 ? edges[round] : rnd(2) ? rnd(INT64_C(7400000000)) - 90000000 : 1774746000 - 200000 + rnd(400000);
			time_t next, again;

			if (!calendar_next(c, after, &next)) {
				assert_true(after > INT64_C(7130000000));	/* 2196 has the last leap day */
				continue;
			}
			assert_true(next > after && next < INT64_C(7258118400 + 86400));
			assert_true(calendar_next(c, next - 1, &again));
			assert_int_equal(again, next);
		}
		calendar_free(c);
	}
}

static void
test_texts(void **state)
{
	static const char *const cases[][2] = {
		{ "weekly", "Mon *-*-* 00:00:00" },
		{ "Sun,Mon..Wed,Sat 5:6", "Mon..Wed,Sat,Sun *-*-* 05:06:00" },
		{ "mon,TUESDAY 26-1..3,7/2~1..5/3", "Mon,Tue 2026-01..03,07/2~01..04/3 00:00:00" },
		{ "*:0/1:0/1 utc", "*-*-* *:00/1:* UTC" },
		{ "5,4,4,9..9:00 Europe/Berlin", "*-*-* 04,05,09:00:00 Europe/Berlin" },
	};

	(void)state;
	zone("UTC");
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct calendar *c = parsed(cases[i][0]), *again = parsed(cases[i][1]);

		assert_string_equal(calendar_text(c), cases[i][1]);
		assert_string_equal(calendar_text(again), cases[i][1]);
		calendar_free(c);
		calendar_free(again);
	}
	calendar_free(NULL);
}

static void
test_refused(void **state)
{
#define NOT(x) "\"" x "\" is not a calendar event (systemd.time(7)): "
	static const char *const cases[][2] = {
		{ "", NOT("") "expected a date, a time, or a word like daily at its end" },
		{ "nightly", NOT("nightly") "expected a number at \"nightly\"" },
		{ "25:00", NOT("25:00") "an hour, range or repetition of it is not possible" },
		{ "1:60", NOT("1:60") "a minute, range or repetition of it is not possible" },
		{ "01:30:00.5", NOT("01:30:00.5") "expected a whole number at \"00.5\"" },
		{ "1", NOT("1") "expected \"-\", \"~\" or \":\" at its end" },
		{ "Fri..Mon", NOT("Fri..Mon") "expected a range of weekdays from Mon to Sun before this at its end" },
		{ "Mondays 5:00", NOT("Mondays 5:00") "expected a weekday like Mon or Monday before this, then a space, \",\" or \"..\" at \"s 5:00\"" },
		{ "*-*-* 1:00 Europe/Berln", "\"*-*-* 1:00 Europe/Berln\": there is no time zone Europe/Berln: expected UTC or a name like Europe/Berlin" },
		{ "1:00 ../../etc/passwd", NOT("1:00 ../../etc/passwd") "expected \":\" and seconds, or the end, at \" ../../etc/passwd\"" },
		{ "1:00 Europe/../UTC", "\"1:00 Europe/../UTC\": there is no time zone Europe/../UTC: expected UTC or a name like Europe/Berlin" },
		{ "1:00 Europe", "\"1:00 Europe\": there is no time zone Europe: expected UTC or a name like Europe/Berlin" },
		{ "1:00 CET", "\"1:00 CET\": CET is short for a part of the local time zone: leave it out, or name a zone like Europe/Berlin or UTC" },
		{ "1:00 zone.tab", "\"1:00 zone.tab\": there is no time zone zone.tab: expected UTC or a name like Europe/Berlin" },
	};
	char many[2000];

	(void)state;
	zone("Europe/Berlin");
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct err err = ERR_INIT;

		assert_null(calendar_parse(cases[i][0], &err));
		assert_string_equal(err.text, cases[i][1]);
	}
	for (size_t len = 1; len < sizeof(many); len += 7) {	/* long ones, with and without an end */
		struct err err = ERR_INIT;

		memset(many, len % 2 ? '1' : ',', len);
		memcpy(many, "1,2,3,4,5,6,7,8,9,10,", len < 21 ? len : 21);
		many[len] = '\0';
		assert_null(calendar_parse(many, &err));
		assert_true(strlen(err.text) > 10);
	}
}

/* Zones. */

static int nzones;

static int
check_zone(const char *path, const struct stat *sb, int type, struct FTW *ftw)
{
	struct err err = ERR_INIT;
	struct zone *z;
	struct tm tm;
	time_t t;

	(void)sb;
	(void)ftw;
	if (type != FTW_F || strstr(path, "/right/") != NULL || strchr(path + strlen(FOLDER), '.') != NULL ||
	    strcmp(path, FOLDER "/leapseconds") == 0 || strstr(path, "/posixrules") != NULL)
		return (0);
	if ((z = zone_named(path + strlen(FOLDER) + 1, &err)) == NULL)
		fail_msg("%s", err.text);
	zone(path + strlen(FOLDER) + 1);
	for (int i = 0; i < 3000; i++) {
		t = i % 3 == 0 ? rnd(INT64_C(20000000000)) - INT64_C(5000000000) : 1500000000 + rnd(700000000);
		localtime_r(&t, &tm);
		if (zone_offset(z, t) != tm.tm_gmtoff)
			fail_msg("%s at %lld: offset %d, not %ld", path, (long long)t, zone_offset(z, t), tm.tm_gmtoff);
		assert_true(t < 1800000000 || zone_has_abbreviation(z, tm.tm_zone));
	}
	/* As close as a second to each change of this and the next years. */
	localtime_r(&(time_t){ 1600000000 }, &tm);
	for (t = 1600000000; t < 1800000000; t += 86400) {
		int offset = zone_offset(z, t);

		if (zone_offset(z, t + 86400) == offset)
			continue;
		for (time_t lo = t, hi = t + 86400; lo < hi; ) {
			time_t mid = lo + (hi - lo) / 2;

			if (localtime_r(&mid, &tm)->tm_gmtoff == offset)
				lo = mid + 1;
			else
				hi = mid;
			assert_int_equal(zone_offset(z, mid), tm.tm_gmtoff);
		}
	}
	zone_free(z);
	nzones++;
	return (0);
}

static void
test_every_zone(void **state)
{
	(void)state;
	if (access(FOLDER "/Europe/Berlin", R_OK) != 0)
		skip();
	assert_int_equal(nftw(FOLDER, check_zone, 8, FTW_PHYS), 0);
	assert_true(nzones > 300);
}

static void
test_rules(void **state)
{
	static const char *const same[] = { "EST5EDT,M3.2.0,M11.1.0", "<+0330>-3:30", "IST-1GMT0,M10.5.0,M3.5.0/1", "<-02>2<-01>,M3.5.0/-1,M10.5.0/0",
	    "EET-2EEST,M3.4.4/50,M10.4.4/50", "AAA1BBB,J60,J300", "AAA1BBB,59,299/3:30:15", "NZST-12NZDT,M9.5.0,M4.1.0/3" };
	static const char *const bad[] = { "", "A", "AB1", "ABC", "<ABC1", "ABC1DEF", "ABC1DEF,M3.2.0", "ABC1DEF,M13.2.0,M3.2.0", "ABC1DEF,M3.6.0,M3.2.0",
	    "ABC1DEF,M3.2.7,M3.2.0", "ABC1DEF,J0,J1", "ABC1DEF,366,1", "ABC25", "ABC1:60", "ABC1DEF,M3.2.0,M11.1.0x", "ABC1DEF,M3.2.0/168,M11.1.0",
	    "ABCDEFGHIJKLMNOPQRS1", "ABC99999999999999", "ABC1DEF,M", "ABC1DEF,M3", "ABC1DEF,M3.", "ABC-", "ABC1:" };
	struct zone_rule r;
	int64_t from, until;

	(void)state;
	for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
		assert_true(zone_rule_parse(same[i], &r));
		zone(same[i]);
		for (int k = 0; k < 4000; k++) {
			time_t t = rnd(INT64_C(8000000000));
			struct tm tm;
			int offset = zone_rule_segment(&r, t, &from, &until);

			assert_true(from <= t && t < until);
			localtime_r(&t, &tm);
			if (offset != tm.tm_gmtoff)
				fail_msg("%s at %lld: %d, not %ld", same[i], (long long)t, offset, tm.tm_gmtoff);
		}
	}
	/* Daylight saving time all year, as RFC 9636 writes it; the C library has some hours of winter in it. */
	assert_true(zone_rule_parse("XXX3EDT4,0/0,J365/23", &r));
	for (time_t t = 1800000000; t < 1900000000; t += 1800)
		assert_int_equal(zone_rule_segment(&r, t, &from, &until), -4 * 3600);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(zone_rule_parse(bad[i], &r));
}

/* Damaged zone files are refused or give a zone; nothing is read that is not there. */
static void
test_damaged_files(void **state)
{
	char dir[] = "/tmp/ovb-test.XXXXXX", path[64];
	unsigned char bytes[8192], copy[8192];
	struct err err = ERR_INIT;
	size_t len;
	FILE *f = fopen(FOLDER "/Europe/Berlin", "rb");

	(void)state;
	if (f == NULL)
		skip();
	len = fread(bytes, 1, sizeof(bytes), f);
	fclose(f);
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/Zone", dir);
	setenv("TZDIR", dir, 1);
	for (int round = 0; round < 3000; round++) {
		size_t cut = round % 4 == 0 ? (size_t)rnd((int64_t)len) : len;
		struct zone *z;
		time_t t;

		memcpy(copy, bytes, len);
		for (int64_t i = rnd(4); i >= 0 && round > 0; i--)
			copy[(size_t)rnd(rnd(3) == 0 ? (int64_t)len : 48)] = (unsigned char)rnd(256);
		f = fopen(path, "wb");
		assert_int_equal(fwrite(copy, 1, round == 0 ? len : cut, f), round == 0 ? len : cut);
		fclose(f);
		if ((z = zone_named("Zone", &err)) != NULL)
			for (int i = 0; i < 20; i++) {
				int64_t wall = rnd(INT64_C(4000000000));

				assert_in_range(zone_offset(z, rnd(INT64_C(4000000000))) + 26 * 3600, 0, 52 * 3600);
				(void)zone_wall(z, &wall, wall - 200000, &t);
			}
		assert_true(round > 0 || z != NULL);
		zone_free(z);
	}
	unsetenv("TZDIR");
	unlink(path);
	rmdir(dir);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_clocks_change),
		cmocka_unit_test(test_dates),
		cmocka_unit_test(test_never),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_texts),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_every_zone),
		cmocka_unit_test(test_rules),
		cmocka_unit_test(test_damaged_files),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
