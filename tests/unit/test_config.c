/* The configuration file: what is read, and for each mistake the text and the line of its error. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "config/conf.h"

/* Lines 1 and 2 of most cases. */
#define R	"repositories = ( { name = \"local\"; url = \"/b\"; },\n  { name = \"away\"; url = \"sftp://h/b\"; } );\n"
#define REPO(x)	"repositories = (\n{ name = \"local\"; " x " }\n);\n"		/* x in line 2 */
#define JOB(x)	R "jobs = (\n{ name = \"j\"; " x " }\n);\n"			/* x in line 4 */
#define IMAGE(x) JOB("images = [ \"/i\" ]; " x)
#define DOMAIN(x) JOB("domains = [ \"*\" ]; " x)
#define SIZE	"a size like \"512M\", \"20G\" or \"1T\" of at least \"16M\", or 0"
#define LOCAL	"{ name = \"local\"; url = \"/var/backups/vm\"; }"

static const struct {
	const char *text, *error;
} bad[] = {
	/* the text as such */
	{ "", "t:1: repositories: missing: add a list of groups like ( " LOCAL " )" },
	{ "a", "t:1: a: unexpected end of the file: expected \"=\"" },
	{ "\n5", "t:2: unexpected \"5\": expected a key" },
	{ "a = ;", "t:1: a: unexpected \";\": expected a value (strings stand in quotes)" },
	{ "a = b;", "t:1: a: unexpected \"b\": expected a value (strings stand in quotes)" },
	{ "a = 1;;", "t:1: a: unexpected \";\": expected a key" },
	{ "a = 1 2", "t:1: a: unexpected \"2\": expected \";\" or the next key" },
	{ "a = (\n{ b = 1 )", "t:2: b: unexpected \")\": expected \"}\"" },
	{ "a = }", "t:1: a: unexpected \"}\": expected a value (strings stand in quotes)" },
	{ "}", "t:1: unexpected \"}\": expected a key" },
	{ "a = (1 2)", "t:1: a: unexpected \"2\": expected \",\" or the closing bracket" },
	{ "a = [ \"x\",\n]", "t:2: a: unexpected \"]\": expected a value after the comma" },
	{ "a = [ \"x\",\n1 ]", "t:2: a: unexpected \"1\": expected a value of the same type as the others in [ ]" },
	{ "a = [ 1, 2L ]", "t:1: a: unexpected \"2L\": expected a value of the same type as the others in [ ]" },
	{ "a = [ { b = 1; } ]", "t:1: a: unexpected \"{\": expected a plain value, as nothing else can stand in [ ]" },
	{ "x = 1;\na = (\n(1,", "t:3: the file ends, but the \"(\" of t:3 is not closed" },
	{ "a = 1;\nb = 2;\na = 3;", "t:3: a: given twice in one group: remove one" },
	{ "a = \"x\n\";", "t:1: a string is not closed on its line: \" is missing" },
	{ "\n/* x\n", "t:2: a comment begins here that does not end: */ is missing" },
	{ "a = 'x'", "t:1: unexpected \"'\": strings stand in quotes" },
	{ "a = \x01", "t:1: unexpected byte 0x01 outside of a string" },
	{ "a = \"\\x00\"", "t:1: a string cannot hold \\x00" },
	{ "a = 010", "t:1: unexpected \"010\": write numbers in decimal, without leading zeros, and strings in quotes" },
	{ "a = 0x10", "t:1: unexpected \"0x10\": write numbers in decimal, without leading zeros, and strings in quotes" },
	{ "a = 4294967297", "t:1: the number 4294967297 is too large; a size may be a string like \"20G\"" },
	{ "@include \"x\"", "t:1: @include is not allowed here" },
	{ "a = 1; @include \"x\"", "t:1: unexpected \"@\": to include a file, begin a line with @include \"FILE\"" },
	{ "(((((((((((((((((", "t:1: unexpected \"(\": expected a key" },
	{ "a=((((((((((((((((((", "t:1: a: more than 16 brackets inside each other" },
	{ R "job = ();", "t:3: job: unknown key; known here: repositories, jobs, daemon, notify" },

	/* repositories */
	{ "repositories = 1;", "t:1: repositories: expected a list of groups like ( " LOCAL " ), not 1" },
	{ "\nrepositories = ();", "t:2: repositories: the list is empty: expected a list of groups like ( " LOCAL " )" },
	{ "repositories = (\n1);", "t:2: repositories[0]: expected a group like " LOCAL ", not 1" },
	{ "repositories = (\n{ url = \"/b\"; });", "t:2: repositories[0]: has no name: add name = \"...\";" },
	{ REPO(""), "t:2: repositories[0]: has no url: add url = \"/PATH\"; or url = \"sftp://[user@]host[:port]/PATH\";" },
	{ REPO("url = \"/b\";\nuri = 1;"), "t:3: repositories[0].uri: unknown key; known here: name, url, identity, passphrase_file, known_hosts, "
	    "host_key, connect_timeout, idle_timeout, request_timeout, parallel, read_back, max_parallel, low_space" },
	{ REPO("url = 5;"), "t:2: repositories[0].url: expected a string, not 5" },
	{ REPO("url = \"\";"), "t:2: repositories[0].url: the string is empty: give a value or remove it" },
	{ REPO("url = \"/b\\n\";"), "t:2: repositories[0].url: the string holds the control character 0x0a: remove it" },
	{ REPO("url = \"b\";"), "t:2: repositories[0].url: \"b\": expected an absolute path or sftp://[user@]host[:port]/path" },
	{ REPO("url = \"/b\"; identity = \"/i\";"),
	  "t:2: repositories[0].identity: only a repository with an sftp:// url has it: remove it" },
	{ REPO("url = \"/b\"; idle_timeout = 5;"), "t:2: repositories[0].idle_timeout: only a repository with an sftp:// url has it: remove it" },
	{ REPO("url = \"sftp://h/b\"; request_timeout = 241;"), "t:2: repositories[0].request_timeout: expected a whole number from 1 to 240, not 241" },
	{ REPO("url = \"sftp://h/b\"; host_key = \"no\";"), "t:2: repositories[0].host_key: expected \"as-ssh\", \"strict\" or \"accept-new\", not \"no\"" },
	{ REPO("url = \"sftp://h/b\"; passphrase_file = \"/p\";"),
	  "t:2: repositories[0].passphrase_file: it is the passphrase of the key in identity: give that, too" },
	{ REPO("url = \"sftp://h/b\"; known_hosts = \"k\";"), "t:2: repositories[0].known_hosts: \"k\": expected an absolute path" },
	{ "repositories = ( " LOCAL ",\n" LOCAL " );",
	  "t:2: repositories[1].name: \"local\" is also the name of the repository at t:1: choose another" },

	/* jobs */
	{ R "jobs = [ 1 ];", "t:3: jobs: expected a list of groups like ( { name = \"images\"; images = [ \"/srv/images/*.img\" ]; } ), "
	  "not an array [ ]" },
	{ R "jobs = (\n(1));", "t:4: jobs[0]: expected a group like { name = \"images\"; images = [ \"/srv/images/*.img\" ]; }, "
	  "not a list ( )" },
	{ R "jobs = ( { images = [ \"/i\" ]; } );", "t:3: jobs[0]: has no name: add name = \"...\";" },
	{ R "jobs = ( { name = \"a/b\"; } );", "t:3: jobs[0].name: \"a/b\": a name has letters, digits, \".\", \"_\" and \"-\" only, "
	  "and no \".\" first" },
	{ R "jobs = ( { name = \".a\"; } );", "t:3: jobs[0].name: \".a\": a name has letters, digits, \".\", \"_\" and \"-\" only, "
	  "and no \".\" first" },
	{ R "jobs = ( { name = \"j\"; from = \"away\"; },\n{ name = \"j\"; from = \"away\"; } );",
	  "t:4: jobs[1].name: \"j\" is also the name of the job at t:3: choose another" },
	{ IMAGE("\nkeeps = 1;"), "t:5: jobs[0].keeps: unknown key; known here: domains, images, from, name, connection, exclude, "
	  "exclude_disks, capture, quiesce, quiesce_timeout, no_quiesce, scratch, scratch_max, in_use, incremental, "
	  "repository, replicate, compression, schedule, full, keep, random_delay, catch_up, retries, retry_wait, window, stall_timeout, window_end, rate_limit, "
	  "hooks, alert_after" },
	{ JOB(""), "t:4: jobs[0]: has nothing to back up: add one of domains, images and from" },
	{ IMAGE("\nfrom = \"away\";"), "t:5: jobs[0].from: the job already has images: a job has one of domains, images and from" },
	{ IMAGE("quiesce = \"try\";"), "t:4: jobs[0].quiesce: only a job with domains has it, and this one has images: remove it" },
	{ IMAGE("exclude = [ \"a\" ];"), "t:4: jobs[0].exclude: only a job with domains has it, and this one has images: remove it" },
	{ JOB("from = \"away\"; connection = \"x\";"),
	  "t:4: jobs[0].connection: only a job with domains has it, and this one has from: remove it" },
	{ JOB("domains = [ \"*\" ]; in_use = \"allow\";"),
	  "t:4: jobs[0].in_use: only a job with images has it, and this one has domains: remove it" },
	{ JOB("domains = \"*\";"), "t:4: jobs[0].domains: expected an array of strings like [ \"a\", \"b\" ], not a string" },
	{ JOB("domains = [];"), "t:4: jobs[0].domains: the array is empty: put a string into it or remove the key" },
	{ JOB("domains = [ 1 ];"), "t:4: jobs[0].domains[0]: expected a string, not 1" },
	{ JOB("domains = [ \"a\",\n\"\" ];"), "t:4: jobs[0].domains[1]: the string is empty: give a value or remove it" },
	{ JOB("domains = [ \"a\" ]; exclude = [];"),
	  "t:4: jobs[0].exclude: the array is empty: put a string into it or remove the key" },
	{ JOB("domains = [ \"a\" ]; quiesce = \"yes\";"),
	  "t:4: jobs[0].quiesce: expected \"try\", \"required\" or \"never\", not \"yes\"" },
	{ JOB("domains = [ \"a\" ]; quiesce = true;"),
	  "t:4: jobs[0].quiesce: expected \"try\", \"required\" or \"never\", not true" },

	/* how a domain is captured */
	{ IMAGE("exclude_disks = [ \"vdb\" ];"),
	  "t:4: jobs[0].exclude_disks: only a job with domains has it, and this one has images: remove it" },
	{ IMAGE("capture = \"auto\";"), "t:4: jobs[0].capture: only a job with domains has it, and this one has images: remove it" },
	{ IMAGE("quiesce_timeout = 1;"),
	  "t:4: jobs[0].quiesce_timeout: only a job with domains has it, and this one has images: remove it" },
	{ IMAGE("no_quiesce = [ \"a\" ];"),
	  "t:4: jobs[0].no_quiesce: only a job with domains has it, and this one has images: remove it" },
	{ JOB("from = \"away\"; scratch = \"/s\";"),
	  "t:4: jobs[0].scratch: only a job with domains has it, and this one has from: remove it" },
	{ JOB("from = \"away\"; scratch_max = 0;"),
	  "t:4: jobs[0].scratch_max: only a job with domains has it, and this one has from: remove it" },
	{ DOMAIN("exclude_disks = \"vdb\";"),
	  "t:4: jobs[0].exclude_disks: expected an array of strings like [ \"a\", \"b\" ], not a string" },
	{ DOMAIN("exclude_disks = [ \"vdb\", \"/vdb\" ];"),
	  "t:4: jobs[0].exclude_disks[1]: \"/vdb\": expected TARGET or DOMAIN/TARGET, like \"vdb\" or \"web*/vdb\"" },
	{ DOMAIN("exclude_disks = [ \"web/\" ];"),
	  "t:4: jobs[0].exclude_disks[0]: \"web/\": expected TARGET or DOMAIN/TARGET, like \"vdb\" or \"web*/vdb\"" },
	{ DOMAIN("exclude_disks = [ \"a/b/c\" ];"),
	  "t:4: jobs[0].exclude_disks[0]: \"a/b/c\": expected TARGET or DOMAIN/TARGET, like \"vdb\" or \"web*/vdb\"" },
	{ DOMAIN("capture = \"pull\";"),
	  "t:4: jobs[0].capture: expected \"auto\", \"backup\", \"snapshot\" or \"offline\", not \"pull\"" },
	{ DOMAIN("capture = \"\";"),
	  "t:4: jobs[0].capture: expected \"auto\", \"backup\", \"snapshot\" or \"offline\", not \"\"" },
	{ DOMAIN("capture = 1;"), "t:4: jobs[0].capture: expected \"auto\", \"backup\", \"snapshot\" or \"offline\", not 1" },
	{ DOMAIN("quiesce_timeout = 0;"), "t:4: jobs[0].quiesce_timeout: expected a whole number from 1 to 600, not 0" },
	{ DOMAIN("quiesce_timeout = 601;"), "t:4: jobs[0].quiesce_timeout: expected a whole number from 1 to 600, not 601" },
	{ DOMAIN("quiesce_timeout = \"10 s\";"), "t:4: jobs[0].quiesce_timeout: expected a whole number from 1 to 600, not a string" },
	{ DOMAIN("no_quiesce = [];"), "t:4: jobs[0].no_quiesce: the array is empty: put a string into it or remove the key" },
	{ DOMAIN("scratch = \"tmp\";"), "t:4: jobs[0].scratch: \"tmp\": expected an absolute path" },
	{ DOMAIN("scratch = 1;"), "t:4: jobs[0].scratch: expected a string, not 1" },
	{ DOMAIN("scratch_max = 20;"), "t:4: jobs[0].scratch_max: expected " SIZE ", not 20" },
	{ DOMAIN("scratch_max = -1L;"), "t:4: jobs[0].scratch_max: expected " SIZE ", not -1L" },
	{ DOMAIN("scratch_max = 16777215;"), "t:4: jobs[0].scratch_max: expected " SIZE ", not 16777215" },
	{ DOMAIN("scratch_max = 2.5;"), "t:4: jobs[0].scratch_max: expected " SIZE ", not 2.5" },
	{ DOMAIN("scratch_max = [ \"1T\" ];"), "t:4: jobs[0].scratch_max: expected " SIZE ", not an array [ ]" },
	{ DOMAIN("scratch_max = \"\";"), "t:4: jobs[0].scratch_max: expected " SIZE ", not \"\"" },
	{ DOMAIN("scratch_max = \"15M\";"), "t:4: jobs[0].scratch_max: expected " SIZE ", not \"15M\"" },

	{ JOB("images = [ \"i\" ];"), "t:4: jobs[0].images[0]: \"i\": expected an absolute path or pattern" },
	{ IMAGE("in_use = \"no\";"), "t:4: jobs[0].in_use: expected \"refuse\" or \"allow\", not \"no\"" },
	{ IMAGE("repository = \"lokal\";"),
	  "t:4: jobs[0].repository: \"lokal\" is not the name of a repository: see the list \"repositories\"" },
	{ IMAGE("repository = 1;"), "t:4: jobs[0].repository: expected a string, not 1" },
	{ JOB("from = \"x\";"), "t:4: jobs[0].from: \"x\" is not the name of a repository: see the list \"repositories\"" },
	{ JOB("from = \"local\";"),
	  "t:4: jobs[0].from: \"local\" is also the repository that the job writes to: set repository to another" },
	{ IMAGE("replicate = \"away\";"),
	  "t:4: jobs[0].replicate: expected an array of repository names like [ \"offsite\" ], not a string" },
	{ IMAGE("replicate = [];"),
	  "t:4: jobs[0].replicate: the array is empty: put the name of a repository into it or remove the key" },
	{ IMAGE("replicate = [ \"x\" ];"),
	  "t:4: jobs[0].replicate[0]: \"x\" is not the name of a repository: see the list \"repositories\"" },
	{ IMAGE("replicate = [ \"local\" ];"),
	  "t:4: jobs[0].replicate[0]: \"local\" is the repository that the job writes to: name another" },
	{ IMAGE("replicate = [ \"away\", \"away\" ];"), "t:4: jobs[0].replicate[1]: \"away\" is named twice: remove one" },
	{ JOB("from = \"away\"; replicate = [ \"away\" ];"),
	  "t:4: jobs[0].replicate[0]: \"away\" is the repository that the job reads from: name another" },
	{ IMAGE("compression = \"gzip\";"),
	  "t:4: jobs[0].compression: \"gzip\": expected bzip2[:1-9], xz[:0-9], zstd[:1-19] or none" },
	{ IMAGE("compression = 9;"), "t:4: jobs[0].compression: expected a string, not 9" },
	{ IMAGE("schedule = \"\";"), "t:4: jobs[0].schedule: the string is empty: give a value or remove it" },
	{ IMAGE("schedule = \"nightly\";"), "t:4: jobs[0].schedule: \"nightly\" is not a calendar event (systemd.time(7)): "
	  "expected a number at \"nightly\"" },
	{ IMAGE("\nschedule = \"daily Europe/Berln\";"), "t:5: jobs[0].schedule: \"daily Europe/Berln\": there is no time zone Europe/Berln: "
	  "expected UTC or a name like Europe/Berlin" },
	{ IMAGE("full = \"*-2-30\";"), "t:4: jobs[0].full: \"*-2-30\" never comes: in full, it is \"*-02-30 00:00:00\"" },
	{ IMAGE("full = true;"), "t:4: jobs[0].full: expected a string, not true" },

	/* the daemon */
	{ IMAGE("random_delay = -1;"), "t:4: jobs[0].random_delay: expected a whole number from 0 to 86400, not -1" },
	{ IMAGE("catch_up = 1;"), "t:4: jobs[0].catch_up: expected true or false, not 1" },
	{ IMAGE("retries = 21;"), "t:4: jobs[0].retries: expected a whole number from 0 to 20, not 21" },
	{ IMAGE("retry_wait = 0;"), "t:4: jobs[0].retry_wait: expected a whole number from 1 to 86400, not 0" },
	{ IMAGE("stall_timeout = 86401;"), "t:4: jobs[0].stall_timeout: expected a whole number from 0 to 86400, not 86401" },
	{ IMAGE("window = \"22-6\";"), "t:4: jobs[0].window: \"22-6\": expected a time of the day like \"22:00-06:00\", and maybe a time zone" },
	{ IMAGE("window = \"06:00-06:00\";"), "t:4: jobs[0].window: \"06:00-06:00\" ends when it begins: give it some time, or remove it" },
	{ IMAGE("window = \"22:00-06:00\"; window_end = \"stop\";"), "t:4: jobs[0].window_end: expected \"finish\" or \"cancel\", not \"stop\"" },
	{ IMAGE("window_end = \"cancel\";"), "t:4: jobs[0].window_end: it says what becomes of a run when its window closes: give window, too" },
	{ IMAGE("rate_limit = \"63K\";"), "t:4: jobs[0].rate_limit: expected a size like \"512M\", \"20G\" or \"1T\" of at least \"64K\", or 0, not \"63K\"" },
	{ R "daemon = 1;", "t:3: daemon: expected a group like { max_parallel = 2; }, not 1" },
	{ R "daemon = { parallel = 1; };", "t:3: daemon.parallel: unknown key; known here: max_parallel, stop_timeout, on_stop, nice, idle_io, history, api_group, api_group_acts" },
	{ R "daemon = { max_parallel = 0; };", "t:3: daemon.max_parallel: expected a whole number from 1 to 1000, not 0" },
	{ R "daemon = { on_stop = \"kill\"; };", "t:3: daemon.on_stop: expected \"cancel\" or \"finish\", not \"kill\"" },
	{ R "daemon = { api_group = 1; };", "t:3: daemon.api_group: expected a string, not 1" },
	{ R "daemon = { nice = 20; };", "t:3: daemon.nice: expected a whole number from 0 to 19, not 20" },

	/* keep */
	{ IMAGE("keep = 3;"), "t:4: jobs[0].keep: expected a group like { last = 3; daily = 7; }, not 3" },
	{ IMAGE("keep = {\nlatest = 3; };"),
	  "t:5: jobs[0].keep.latest: unknown key; known here: last, hourly, daily, weekly, monthly, yearly, within" },
	{ IMAGE("keep = { last = -1; };"), "t:4: jobs[0].keep.last: expected a whole number from 0 to 100000, not -1" },
	{ IMAGE("keep = { daily = 100001; };"), "t:4: jobs[0].keep.daily: expected a whole number from 0 to 100000, not 100001" },
	{ IMAGE("keep = { last = 3L; };"), "t:4: jobs[0].keep.last: expected a whole number from 0 to 100000, not 3L" },
	{ IMAGE("keep = { last = 3.5; };"), "t:4: jobs[0].keep.last: expected a whole number from 0 to 100000, not 3.5" },
	{ IMAGE("keep = { last = true; };"), "t:4: jobs[0].keep.last: expected a whole number from 0 to 100000, not true" },
	{ IMAGE("keep = { last = \"3\"; };"), "t:4: jobs[0].keep.last: expected a whole number from 0 to 100000, not a string" },
	{ IMAGE("keep = { last = { }; };"), "t:4: jobs[0].keep.last: expected a whole number from 0 to 100000, not a group { }" },
	{ IMAGE("keep = { within = 3; };"), "t:4: jobs[0].keep.within: expected a string, not 3" },
	{ IMAGE("keep = { last = 1;\nwithin = \"2 days\"; };"), "t:5: jobs[0].keep.within: \"2 days\": expected a span of time like \"14d\", "
	  "\"36h\" or \"1y6m3d12h\": numbers from 1 to 100000 with the units y, m (months), w, d and h in this order" },
	{ IMAGE("keep = { };"), "t:4: jobs[0].keep: keeps nothing: set a count in it above 0, or remove it to keep all" },
	{ IMAGE("keep = { last = 0; };"), "t:4: jobs[0].keep: keeps nothing: set a count in it above 0, or remove it to keep all" },
};

static void
errors_name_line_and_key(void **state)
{
	struct err err;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		err = (struct err)ERR_INIT;
		assert_null(conf_parse(bad[i].text, strlen(bad[i].text), "t", &err));
		assert_string_equal(err.text, bad[i].error);
	}
}

static struct conf *
parsed(const char *text)
{
	struct err err = ERR_INIT;
	struct conf *c = conf_parse(text, strlen(text), "t", &err);

	assert_string_equal(err.text, "");
	assert_non_null(c);
	return (c);
}

static void
defaults_are_filled_in(void **state)
{
	struct conf *c = parsed(R "jobs = ( { name = \"i\"; images = [ \"/i\" ]; }, { name = \"d\"; domains = [ \"*\" ]; } ); # end");
	const struct conf_job *i = conf_find_job(c, "i"), *d = conf_find_job(c, "d");

	(void)state;
	assert_int_equal(c->nrepositories, 2);
	assert_int_equal(c->njobs, 2);
	assert_int_equal(i->source, CONF_SOURCE_IMAGES);
	assert_ptr_equal(i->repository, &c->repositories[0]);
	assert_int_equal(i->compression.codec, CODEC_BZIP2);
	assert_int_equal(i->compression.level, 9);
	assert_int_equal(i->in_use_allow, 0);
	assert_null(i->connection);
	assert_null(i->schedule);
	assert_int_equal(i->schedule_at.line + i->keep_at.line + i->replicate_at.line + i->full_at.line, 0);
	assert_string_equal(d->connection, "qemu:///system");
	assert_int_equal(d->exclude.n + d->exclude_disks.n + d->no_quiesce.n, 0);
	assert_int_equal(d->capture, CONF_CAPTURE_AUTO);
	assert_int_equal(d->quiesce, CONF_QUIESCE_TRY);
	assert_int_equal(d->quiesce_timeout, 10);
	assert_null(d->scratch);
	assert_true(d->scratch_max == 0);
	assert_null(conf_find_job(c, "x"));
	assert_true(i->window_cancel == 0 && i->rate_limit == 0 && c->repositories[0].max_parallel == 0);
	assert_true(i->random_delay == 0 && i->catch_up == 1 && i->retries == 0 && i->retry_wait == 600 && i->stall_timeout == 3600 && i->window == NULL);
	assert_true(c->daemon.max_parallel == 2 && c->daemon.stop_timeout == 60 && c->daemon.on_stop == CONF_STOP_CANCEL && c->daemon.nice == 10 &&
	    c->daemon.idle_io == 1 && c->daemon.history == 100 && c->daemon.api_group == NULL && c->daemon.api_group_acts == 0);
	conf_free(c);
	conf_free(parsed(R));		/* virt-restore needs no jobs */
	conf_free(parsed(R "jobs = ();"));
	conf_free(NULL);
}

static void
values_and_places_are_kept(void **state)
{
	struct conf *c = parsed(R "jobs = (\n{ name = \"j\"; images = [ \"/a\" \"b\", \"/c\" ];\n"
	    "in_use = \"allow\"; repository = \"away\";\nschedule = \"daily\";\n"
	    "keep = { last = 0; yearly = 100000; within = \"2d\"; };\nreplicate = [ \"local\" ];\n"
	    "full = \"monthly\"; compression = \"none\" } )");
	const struct conf_job *j = &c->jobs[0];

	(void)state;
	assert_int_equal(j->images.n, 2);
	assert_string_equal(j->images.v[0], "/ab");
	assert_string_equal(j->images.v[1], "/c");
	assert_int_equal(j->in_use_allow, 1);
	assert_string_equal(j->repository->name, "away");
	assert_int_equal(j->nreplicate, 1);
	assert_string_equal(j->replicate[0]->name, "local");
	assert_int_equal(j->keep.yearly, 100000);
	assert_string_equal(j->keep.within, "2d");
	assert_int_equal(j->compression.codec, CODEC_NONE);
	assert_string_equal(j->schedule, "daily");
	assert_string_equal(j->schedule_at.file, "t");
	assert_int_equal(j->where.line, 4);
	assert_int_equal(j->schedule_at.line, 6);
	assert_int_equal(j->keep_at.line, 7);
	assert_int_equal(j->replicate_at.line, 8);
	assert_int_equal(j->full_at.line, 9);
	conf_free(c);
}

static void
what_the_daemon_does_is_kept(void **state)
{
	struct conf *c = parsed(IMAGE("random_delay = 600; catch_up = false; retries = 3; retry_wait = 5; window = \"22:00-06:00 Europe/Berlin\"; stall_timeout = 0; "
	    "window_end = \"cancel\"; rate_limit = \"50M\";")
	    "daemon = { max_parallel = 7; stop_timeout = 9; on_stop = \"finish\"; nice = 0; idle_io = false; history = 3; "
	    "api_group = \"adm\"; api_group_acts = true; };"), *again;
	const struct conf_job *j = &c->jobs[0];
	struct err err = ERR_INIT;

	(void)state;
	for (int i = 0; i < 2; i++) {
		assert_true(j->random_delay == 600 && j->catch_up == 0 && j->retries == 3 && j->retry_wait == 5 && j->stall_timeout == 0);
		assert_string_equal(j->window, "22:00-06:00 Europe/Berlin");
		assert_true(j->window_cancel == 1 && j->rate_limit == 50 << 20);
		assert_true(c->daemon.max_parallel == 7 && c->daemon.stop_timeout == 9 && c->daemon.on_stop == CONF_STOP_FINISH && c->daemon.nice == 0 &&
		    c->daemon.idle_io == 0 && c->daemon.history == 3 && strcmp(c->daemon.api_group, "adm") == 0 && c->daemon.api_group_acts == 1);
		/* Its text gives the same once more. */
		assert_non_null(again = conf_parse(c->text, strlen(c->text), "again", &err));
		conf_free(c);
		c = again;
		j = &c->jobs[0];
	}
	conf_free(c);
}

static void
capture_is_kept(void **state)
{
	struct conf *c = parsed(DOMAIN("exclude_disks = [ \"vd[b-d]\", \"web*/sda\" ]; capture = \"snapshot\"; quiesce = \"required\";"
	    "quiesce_timeout = 600; no_quiesce = [ \"db*\" ]; scratch = \"/fast\"; scratch_max = \"20G\";"));
	const struct conf_job *j = &c->jobs[0];

	(void)state;
	assert_int_equal(j->exclude_disks.n, 2);
	assert_string_equal(j->exclude_disks.v[0], "vd[b-d]");
	assert_string_equal(j->exclude_disks.v[1], "web*/sda");
	assert_int_equal(j->capture, CONF_CAPTURE_SNAPSHOT);
	assert_int_equal(j->quiesce, CONF_QUIESCE_REQUIRED);
	assert_int_equal(j->quiesce_timeout, 600);
	assert_int_equal(j->no_quiesce.n, 1);
	assert_string_equal(j->no_quiesce.v[0], "db*");
	assert_string_equal(j->scratch, "/fast");
	assert_true(j->scratch_max == 20ULL << 30);
	conf_free(c);
	c = parsed(DOMAIN("capture = \"backup\";"));
	assert_int_equal(c->jobs[0].capture, CONF_CAPTURE_BACKUP);
	conf_free(c);
	c = parsed(DOMAIN("capture = \"offline\";"));
	assert_int_equal(c->jobs[0].capture, CONF_CAPTURE_OFFLINE);
	conf_free(c);
}

static void
sizes_have_units(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} good[] = {
		{ "0", 0 }, { "0L", 0 }, { "\"0\"", 0 }, { "\"0G\"", 0 }, { "16777216", 16 << 20 }, { "999999999", 999999999 },
		{ "20000000000L", 20000000000 }, { "999999999999999999L", 999999999999999999 }, { "\"20000000000\"", 20000000000 },
		{ "\"16384K\"", 16 << 20 }, { "\"16M\"", 16 << 20 }, { "\"1G\"", 1 << 30 }, { "\"1T\"", 1ULL << 40 },
		{ "\"8388607T\"", 8388607ULL << 40 },
	};
	static const char *const wrong[] = { "G", "20 G", " 20G", "20g", "20GB", "20GiB", "1.5G", "-20G", "+20G", "020G", "20G ", "0x20G", "20P",
	    "8388608T", "9999999999999999999", "999999999999999999K", "1e9" };
	struct err err = ERR_INIT;
	char text[512];
	struct conf *c;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		snprintf(text, sizeof(text), DOMAIN("scratch_max = %s;"), good[i].text);
		c = parsed(text);
		assert_true(c->jobs[0].scratch_max == good[i].bytes);
		conf_free(c);
	}
	for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		snprintf(text, sizeof(text), DOMAIN("scratch_max = \"%s\";"), wrong[i]);
		assert_null(conf_parse(text, strlen(text), "t", &err));
		snprintf(text, sizeof(text), "t:4: jobs[0].scratch_max: expected " SIZE ", not \"%s\"", wrong[i]);
		assert_string_equal(err.text, text);
	}
}

static void
sizes_are_bounded(void **state)
{
	struct err err = ERR_INIT;
	struct buf b = BUF_INIT;
	char *big = calloc(1, CONF_MAX_BYTES + 1);
	int i;

	(void)state;
	assert_non_null(big);
	memset(big, ' ', CONF_MAX_BYTES + 1);
	assert_null(conf_parse(big, CONF_MAX_BYTES + 1, "t", &err));
	assert_string_equal(err.text, "t: larger than 1048576 bytes, included files counted: is it a configuration?");
	assert_null(conf_parse(big, CONF_MAX_BYTES, "t", &err));
	assert_non_null(strstr(err.text, "repositories: missing"));
	assert_null(conf_parse("a\n\0", 3, "t", &err));
	assert_string_equal(err.text, "t:2: a NUL byte: this is not a text file");

	for (i = 0; i <= CONF_MAX_ENTRIES; i++)
		buf_addf(&b, &err, "%s1", i == 0 ? "a=\n[" : ",");
	assert_null(conf_parse(b.ptr, b.len, "t", &err));
	assert_string_equal(err.text, "t:2: a: more than 10000 entries");
	buf_reset(&b);
	for (i = 0; i <= 100; i++)
		buf_addf(&b, &err, "k%d=1;", i);
	assert_null(conf_parse(b.ptr, b.len, "t", &err));
	assert_string_equal(err.text, "t:1: k100: more than 100 keys in one group");
	buf_reset(&b);
	buf_addf(&b, &err, "repositories = ( { name = \"%0*d\"", CONF_MAX_NAME + 1, 0);
	buf_addf(&b, &err, " } );");
	assert_null(conf_parse(b.ptr, b.len, "t", &err));
	assert_string_equal(err.text, "t:1: repositories[0].name: a name has at most 100 bytes, this one has 101");
	buf_free(&b);
	free(big);
}

static void
write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
	assert_int_equal(fclose(f), 0);
}

static void
load_fails(const char *path, const char *error)
{
	struct err err = ERR_INIT;

	assert_null(conf_load(path, &err));
	assert_string_equal(err.text, error);
}

static void
included_files_are_named(void **state)
{
	struct err err = ERR_INIT;
	struct conf *c;

	(void)state;
	assert_int_equal(mkdir("sub", 0700), 0);
	write_file("main.conf", "/* @include \"no\" */ repositories = (\n@include \"sub/repo.conf\"\n);\n"
	    " jobs = (\n\t@include \"sub/jobs.conf\"\n, { name = \"k\"; from = \"away\"; } );");
	write_file("sub/repo.conf", "@include \"local.conf\"\n, { name = \"away\"; url = \"sftp://h/b\"; }");
	write_file("sub/local.conf", LOCAL "# no newline");
	write_file("sub/jobs.conf", "\n{ name = \"j\"; images = [ \"/i\" ];\nschedule = \"daily\"; }");
	c = conf_load("main.conf", &err);
	assert_string_equal(err.text, "");
	assert_non_null(c);
	assert_int_equal(c->nfiles, 4);
	assert_string_equal(c->repositories[0].where.file, "sub/local.conf");
	assert_string_equal(c->repositories[1].where.file, "sub/repo.conf");
	assert_int_equal(c->repositories[1].where.line, 2);
	assert_string_equal(c->jobs[0].schedule_at.file, "sub/jobs.conf");
	assert_int_equal(c->jobs[0].schedule_at.line, 3);
	assert_string_equal(c->jobs[1].where.file, "main.conf");
	assert_int_equal(c->jobs[1].where.line, 6);
	conf_free(c);

	write_file("sub/jobs.conf", "{ name = \"j\";\nimages = \"/i\"; }");
	load_fails("main.conf", "sub/jobs.conf:2: jobs[0].images: expected an array of strings like [ \"a\", \"b\" ], not a string");
	write_file("sub/jobs.conf", "{ name = \"j\";\nimages = [ \"/i\"; }");
	load_fails("main.conf", "sub/jobs.conf:2: images: unexpected \";\": expected \",\" or the closing bracket");
	write_file("sub/local.conf", "");
	load_fails("main.conf", "sub/repo.conf:2: repositories: unexpected \",\": expected a value (strings stand in quotes)");
}

static void
unreadable_files_are_named(void **state)
{
	(void)state;
	load_fails("none.conf", "there is no configuration none.conf: write one, see backupd.conf(5), or name another with --config");
	load_fails("/dev/null", "cannot read /dev/null: not a regular file");
	assert_int_equal(mkdir("folder", 0700), 0);
	assert_int_equal(mkfifo("pipe", 0600), 0);
	write_file("a.conf", "\n@include \"none.conf\"");
	load_fails("a.conf", "a.conf:2: cannot open none.conf: No such file or directory");
	write_file("a.conf", "\n@include \"folder\"");
	load_fails("a.conf", "a.conf:2: cannot read folder: not a regular file");
	write_file("a.conf", "@include \"pipe\"");
	load_fails("a.conf", "a.conf:1: cannot read pipe: not a regular file");
	write_file("a.conf", "@include \"a.conf\"");
	load_fails("a.conf", "a.conf:1: @include: more than 10 files inside each other");
}

static void
urls_are_taken_apart(void **state)
{
	static const struct {
		const char *url, *user, *host, *path;
		int port;
	} good[] = {
		{ "/a/b", NULL, NULL, "/a/b", 0 },
		{ "sftp://h/p", NULL, "h", "/p", 0 },
		{ "sftp://u@h.example:2222/p/q@r:1", "u", "h.example", "/p/q@r:1", 2222 },
		{ "sftp://u@[fe80::1]:65535/p", "u", "fe80::1", "/p", 65535 },
		{ "sftp://[::1]/", NULL, "::1", "/", 0 },
	};
	static const char *const wrong[] = { "", "a", "http://h/p", "sftp:/h/p", "sftp://h", "sftp:///p", "sftp://@h/p", "sftp://u@/p",
	    "sftp://-oX@h/p", "sftp://-oX/p", "sftp://h:/p", "sftp://h:0/p", "sftp://h:65536/p", "sftp://h:22x/p", "sftp://h:022/p",
	    "sftp://h h/p", "sftp://u:secret@h/p", "sftp://[::1/p", "sftp://[::1]x/p", "sftp://[]/p", "sftp://a@b@h/p" };
	struct conf_url u;
	struct err err;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(conf_url_parse(good[i].url, &u, &err), 0);
		assert_int_equal(u.kind, good[i].host == NULL ? CONF_URL_LOCAL : CONF_URL_SFTP);
		assert_string_equal(u.user == NULL ? "" : u.user, good[i].user == NULL ? "" : good[i].user);
		assert_string_equal(u.host == NULL ? "" : u.host, good[i].host == NULL ? "" : good[i].host);
		assert_string_equal(u.path, good[i].path);
		assert_int_equal(u.port, good[i].port);
		conf_url_free(&u);
	}
	for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		if (conf_url_parse(wrong[i], &u, &err) != -1)
			fail_msg("accepted %s", wrong[i]);
		assert_null(u.path);
	}
}

static void
compressions_are_read(void **state)
{
	static const struct {
		const char *text;
		struct compression c;
	} good[] = {
		{ "none", { CODEC_NONE, 0 } }, { "bzip2", { CODEC_BZIP2, 9 } }, { "bzip2:1", { CODEC_BZIP2, 1 } },
		{ "xz", { CODEC_XZ, 6 } }, { "xz:0", { CODEC_XZ, 0 } }, { "xz:9", { CODEC_XZ, 9 } },
		{ "zstd", { CODEC_ZSTD, 3 } }, { "zstd:1", { CODEC_ZSTD, 1 } }, { "zstd:19", { CODEC_ZSTD, 19 } },
	};
	static const char *const wrong[] = { "", ":", "bzip", "bzip2:", "bzip2:0", "bzip2:10", "bzip2:-1", "bzip2:1 ", "bzip2:09", "none:0",
	    "xz:10", "zstd:0", "zstd:20", "zstd:100", "zstd:3:3", "BZIP2", "bzip2 :1" };
	struct compression c;
	struct err err;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(compression_parse(good[i].text, &c, &err), 0);
		assert_int_equal(c.codec, good[i].c.codec);
		assert_int_equal(c.level, good[i].c.level);
	}
	for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		c.level = 77;
		if (compression_parse(wrong[i], &c, &err) != -1 || c.level != 77)
			fail_msg("accepted %s", wrong[i]);
	}
	compression_parse("zstd:20", &c, &err);
	assert_string_equal(err.text, "\"zstd:20\": the level of zstd is a number from 1 to 19");
}

static char top[4096];

static void
shipped_files_are_good(void **state)
{
	static const char *const names[] = { "minimal.conf", "backupd.conf.example" };
	struct err err = ERR_INIT;
	char path[8192];
	struct conf *c;
	size_t i;

	(void)state;
	for (i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/conf/%s", top, names[i]);
		c = conf_load(path, &err);
		assert_string_equal(err.text, "");
		assert_non_null(c);
		assert_int_equal(c->njobs, i == 0 ? 1 : 3);
		assert_string_equal(c->repositories[0].at.path, "/var/backups/vm");
		conf_free(c);
	}
}

static int
enter_folder(void **state)
{
	static char dir[] = "/tmp/test_config.XXXXXX";

	if (getcwd(top, sizeof(top)) == NULL || mkdtemp(dir) == NULL || chdir(dir) != 0)
		return (-1);
	*state = dir;
	return (0);
}

static int
leave_folder(void **state)
{
	static const char *const files[] = { "main.conf", "a.conf", "pipe", "sub/repo.conf", "sub/local.conf", "sub/jobs.conf" };
	size_t i;

	for (i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		unlink(files[i]);
	rmdir("sub");
	rmdir("folder");
	return (chdir(top) != 0 || rmdir(*state) != 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(errors_name_line_and_key),
		cmocka_unit_test(defaults_are_filled_in),
		cmocka_unit_test(values_and_places_are_kept),
		cmocka_unit_test(what_the_daemon_does_is_kept),
		cmocka_unit_test(capture_is_kept),
		cmocka_unit_test(sizes_have_units),
		cmocka_unit_test(sizes_are_bounded),
		cmocka_unit_test(included_files_are_named),
		cmocka_unit_test(unreadable_files_are_named),
		cmocka_unit_test(urls_are_taken_apart),
		cmocka_unit_test(compressions_are_read),
		cmocka_unit_test(shipped_files_are_good),
	};

	return (cmocka_run_group_tests(tests, enter_folder, leave_folder));
}
