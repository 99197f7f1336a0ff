/*
 * Every allocation in turn finds no memory, and every write, fsync and rename in turn finds the disk full: it is told, and nothing is lost or half done.
 * The linker puts ours in the place of the C library's (see the Makefile); libraries keep theirs.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <ftw.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "archive/extract.h"
#include "config/conf.h"
#include "domain/domain_xml.h"
#include "memory_feed.h"
#include "repository/catalog.h"
#include "repository/compact_archive.h"

#define SIZE	((uint64_t)1 << 20)
#define BLOCK	((uint64_t)WINDOW_SIZE)
#define T0	1767225600

/* ---- faults ---- */

enum kind { MEMORY, DISK };

static enum kind failing;
static atomic_long countdown;	/* to the call that fails; 0 or less: none will */
static atomic_bool hit;

static bool
fails(enum kind kind, int code)
{
	if (kind != failing || atomic_load(&countdown) <= 0 || atomic_fetch_sub(&countdown, 1) != 1)
		return (false);
	atomic_store(&hit, true);
	errno = code;
	return (true);
}

/* TYPE NAME(PARAMETERS), called with ARGUMENTS, which fails with VALUE and CODE. */
#define FAULTY(kind, type, value, code, name, parameters, arguments)	\
type __real_##name parameters;						\
type __wrap_##name parameters;						\
type									\
__wrap_##name parameters						\
{									\
	return (fails(kind, code) ? value : __real_##name arguments);	\
}
FAULTY(MEMORY, void *, NULL, ENOMEM, malloc, (size_t n), (n))
FAULTY(MEMORY, void *, NULL, ENOMEM, calloc, (size_t n, size_t each), (n, each))
FAULTY(MEMORY, void *, NULL, ENOMEM, realloc, (void *p, size_t n), (p, n))
FAULTY(MEMORY, char *, NULL, ENOMEM, strdup, (const char *s), (s))
FAULTY(MEMORY, char *, NULL, ENOMEM, strndup, (const char *s, size_t n), (s, n))
FAULTY(DISK, ssize_t, -1, ENOSPC, pwrite64, (int fd, const void *p, size_t n, off_t at), (fd, p, n, at))
FAULTY(DISK, int, -1, EIO, fsync, (int fd), (fd))
FAULTY(DISK, int, -1, ENOSPC, mkdirat, (int fd, const char *path, mode_t mode), (fd, path, mode))
FAULTY(DISK, int, -1, ENOSPC, renameat2, (int a, const char *from, int b, const char *to, unsigned int flags), (a, from, b, to, flags))

/* ${try} with the first, second ... call failing, until there are no more; ${check} after each.  Returns how many there were. */
static long
each(enum kind kind, int (*try)(struct err *), void (*check)(int rc))
{
	long at = 0;
	int rc;

	failing = kind;
	do {
		struct err err = ERR_INIT;

		atomic_store(&hit, false);
		atomic_store(&countdown, ++at);
		rc = try(&err);
		atomic_store(&countdown, 0);
		if (rc == -1 && (!atomic_load(&hit) || err.text[0] == '\0'))
			fail_msg("call %ld: it failed without a reason: \"%s\"", at, err.text);
		check(rc);
	} while (atomic_load(&hit));
	assert_int_equal(rc, 0);
	return (at - 1);
}

static void
no_check(int rc)
{
	(void)rc;
}

/* ---- configuration and XML ---- */

static const char config[] = "repositories = ( { name = \"a\"; url = \"/r\"; }, { name = \"b\"; url = \"sftp://u@h:22/r\"; identity = \"/k\"; } );\n"
    "notify = { mail = { to = [ \"ops@example.net\" ]; server = \"smtp://mail.example.net\"; }; };\n"
    "jobs = ( { name = \"n\"; domains = [ \"*\" ]; exclude = [ \"x-*\" ]; repository = \"a\"; schedule = \"Mon..Fri 01:30\"; compression = \"xz:3\";\n"
    "  keep = { last = 3; within = \"14d\"; }; replicate = [ \"b\" ]; full = \"monthly\"; },\n"
    "  { name = \"i\"; images = [ \"/srv/*.img\", \"/srv/b\" ]; repository = \"a\"; }, { name = \"p\"; from = \"b\"; repository = \"a\"; } );\n";

static int
try_config(struct err *err)
{
	struct conf *c = conf_parse(config, sizeof(config) - 1, "t", err);

	if (c == NULL)
		return (-1);
	assert_int_equal(c->njobs, 3);
	assert_string_equal(c->jobs[2].from->name, "b");
	conf_free(c);
	return (0);
}

static void
test_config(void **state)
{
	(void)state;
	assert_in_range(each(MEMORY, try_config, no_check), 50, 5000);
}

static const char xml[] = "<domain type='kvm' id='3'><name>web</name><uuid>7a0e64cc-6e1d-4b1a-9a53-000000000001</uuid><os><nvram>/v/n.fd</nvram></os><devices>"
    "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/srv/a'/><target dev='vda' bus='virtio'/></disk>"
    "<disk type='network' device='disk'><driver name='qemu' type='raw'/><source protocol='nbd' name='x'><host name='h' port='1'/></source>"
    "<target dev='vdb'/></disk><disk type='file' device='cdrom'><target dev='sda'/><readonly/></disk>"
    "<interface type='network'><mac address='52:54:00:00:00:01'/></interface></devices></domain>";

static int
try_xml(struct err *err)
{
	const struct domain_disk_place places[] = { { "vda", "/new/a", "raw", false }, { "vdb", "/dev/b", "raw", true } };
	const struct domain_change change = { .name = "other", .nvram = "/new/n", .places = places, .nplaces = 2 };
	struct domain_desc d = { .name = NULL };
	struct buf out = BUF_INIT;
	int rc;

	if ((rc = domain_desc_parse(&d, xml, sizeof(xml) - 1, err)) == 0) {
		assert_int_equal(d.ndisks, 3);
		domain_desc_free(&d);
		if ((rc = domain_rewrite(xml, sizeof(xml) - 1, &change, &out, err)) == 0) {
			assert_int_equal(buf_add(&out, "", 1, err), 0);
			assert_non_null(strstr(out.ptr, "/new/a"));
			assert_non_null(strstr(out.ptr, "/dev/b"));
		}
	}
	buf_free(&out);
	return (rc);
}

static void
test_xml(void **state)
{
	(void)state;
	assert_in_range(each(MEMORY, try_xml, no_check), 15, 5000);
}

/* ---- a repository: a full point, and an incremental one of which the first block is its own ---- */

static char folder[32], url[64];
static uint8_t content[SIZE], extracted[SIZE], first_id[ARCHIVE_ID_LEN];

static int
remove_one(const char *path, const struct stat *sb, int what, struct FTW *ftw)
{
	(void)sb;
	(void)what;
	(void)ftw;
	return (remove(path));
}

static void
wipe(void)
{
	nftw(url, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static int
write_full(struct archive_writer *aw, struct err *err)
{
	struct archive_feed feed = memory_feed(content);
	struct extents *ex = extents_new(SIZE, err);
	struct archive_disk_written w;
	int rc = -1;

	if (ex != NULL && extents_add(ex, 0, SIZE / 2, err) == 0 && extents_end(ex, err) == 0 &&
	    archive_writer_member(aw, "domain.xml", "<domain/>", 9, err) == 0)
		rc = archive_writer_disk(aw, "vda", "vda.img", ex, 0, &feed, &w, err);
	extents_free(ex);
	return (rc);
}

static int
write_delta(struct archive_writer *aw, struct err *err)
{
	struct index_view v = { BLOCK, SIZE / 2 - BLOCK, 0, VIEW_DATA };
	struct index_source s = { .disk = 0 };
	struct archive_disk_written w;
	int64_t n;

	memcpy(s.archive, first_id, ARCHIVE_ID_LEN);
	if (archive_writer_delta_begin(aw, "vda", "vda.img", SIZE, err) == -1 ||
	    archive_writer_delta_block(aw, 0, content, (uint32_t)BLOCK, err) == -1 || (n = archive_writer_source(aw, &s, err)) == -1)
		return (-1);
	v.source = (uint32_t)n;
	return (archive_writer_delta_view(aw, &v, err) == -1 ? -1 : archive_writer_delta_end(aw, &w, err));
}

static json_t *
manifest_of(int number)
{
	char when[RFC3339_LEN];

	time_rfc3339(T0 + number, when);
	return (json_pack("{s:i, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:[], s:[{s:s, s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:i}]}", "format", 1, "vm", "vm", "time",
	    when, "kind", number == 0 ? "full" : "incremental", "consistency", "offline", "capture", "image", "job", "j", "host", "h", "program", "p",
	    "notes", "disks", "target", "vda", "member", "vda.img", "source", "s", "format", "raw", "size", (int)SIZE, "provisioned", 0, "read", 0,
	    "data", 0, "zero", 0));
}

/* Write and publish the point ${number}; its disk is what content says. */
static int
write_point(int number, struct err *err)
{
	struct compact_archive ca = COMPACT_ARCHIVE_INIT;
	struct repo *r = repo_open(url, true, err);
	struct lock *lk = r != NULL ? lock_run(r->st, "test", 0, NULL, err) : NULL;
	json_t *m = manifest_of(number);
	int rc = -1;

	assert_non_null(m);
	if (lk != NULL && compact_archive_begin(&ca, r, lk, "vm", T0 + number, &codec_zstd, 1, err) == 0) {
		if (number == 0)
			memcpy(first_id, ca.info.archive, ARCHIVE_ID_LEN);
		if ((number == 0 ? write_full(ca.aw, err) : write_delta(ca.aw, err)) == 0 && compact_archive_finish(&ca, err) == 0)
			rc = compact_archive_publish(&ca, m, MANIFEST_NAME, NULL, err);
	}
	compact_archive_end(&ca);
	json_decref(m);
	lock_release(lk);
	repo_close(r);
	return (rc);
}

static int
take(void *arg, uint64_t offset, const void *p, size_t n, struct err *err)
{
	(void)arg;
	(void)err;
	memcpy(extracted + offset, p, n);
	return (0);
}

static int
damaged(void *arg, const char *disk, uint64_t offset, uint64_t length, const char *why, struct err *err)
{
	(void)arg;
	(void)length;
	return (err_set(err, 0, "%s at %llu: %s", disk, (unsigned long long)offset, why));
}

/* Read every point there is, and compare the last one with content.  Returns how many there are, or -1. */
static int
read_points(struct err *err)
{
	static const struct extract_ops ops = { .data = take, .damage = damaged };
	struct catalog catalog = CATALOG_INIT;
	struct points points = POINTS_INIT;
	struct repo *r = repo_open(url, false, err);
	struct archive_set *set;
	int rc = -1;

	if (r == NULL || repo_all_points(r, &points, err) == -1 || catalog_load(r, &catalog, err) == -1 || catalog_index(&catalog, err) == -1)
		goto out;
	for (size_t i = 0; i < points.n; i++) {
		struct manifest m = MANIFEST_INIT;

		rc = -1;
		if (repo_manifest(r, &points.v[i], &m, err) == -1)
			goto out;
		set = archive_set_open(r, &points.v[i], &m, err);
		manifest_free(&m);
		memset(extracted, 0, SIZE);
		rc = set != NULL ? extract_disk(set, 0, &ops, NULL, err) : -1;
		archive_set_free(set);
		if (rc == -1)
			goto out;
	}
	rc = (int)points.n;
	if (points.n > 0)
		assert_memory_equal(extracted, content, SIZE);
out:
	catalog_free(&catalog);
	points_free(&points);
	repo_close(r);
	return (rc);
}

static int
points_now(void)
{
	struct err err = ERR_INIT;
	int n = read_points(&err);

	if (n == -1)
		fail_msg("%s", err.text);
	return (n);
}

/* What a next run does first, and then the run itself.  A lock that could not be looked at any more is still there, but its process would not be. */
static void
next_run(int number, int wanted)
{
	struct err err = ERR_INIT;
	struct repo *r;
	unsigned int swept;
	char locks[sizeof(url) + sizeof(LOCKS_DIR)];

	snprintf(locks, sizeof(locks), "%s/%s", url, LOCKS_DIR);
	nftw(locks, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	r = repo_open(url, true, &err);
	if (r == NULL || repo_sweep(r, "test", &swept, &err) == -1)
		fail_msg("%s", err.text);
	repo_close(r);
	if (write_point(number, &err) == -1)
		fail_msg("%s", err.text);
	assert_int_equal(points_now(), wanted);
}

static int
try_write(struct err *err)
{
	wipe();
	return (write_point(0, err));
}

/* A point that was published is whole, and only its folder's fsync may have failed; the next run is not held up by what is left of the one that failed. */
static void
check_written(int rc)
{
	struct err err = ERR_INIT;
	struct repo *r = repo_open(url, false, &err);
	int n = 0;

	repo_close(r);
	if (r != NULL)
		n = points_now();
	assert_in_range(n, rc == 0 ? 1 : 0, 1);
	next_run(0, n + 1);
}

static void
test_write(void **state)
{
	(void)state;
	assert_in_range(each(DISK, try_write, check_written), 10, 1000);
	assert_in_range(each(MEMORY, try_write, check_written), 50, 5000);
}

static int
try_read(struct err *err)
{
	int n = read_points(err);

	if (n != -1)
		assert_int_equal(n, 2);
	return (n == -1 ? -1 : 0);
}

static void
both_points(void)
{
	struct err err = ERR_INIT;

	wipe();
	content[0] = 1;
	assert_int_equal(write_point(0, &err), 0);
	content[0] = 2;
	assert_int_equal(write_point(1, &err), 0);
}

static void
test_read(void **state)
{
	(void)state;
	both_points();
	assert_in_range(each(MEMORY, try_read, no_check), 50, 5000);
}

static int
try_consolidate(struct err *err)
{
	static const struct compact_how how = { .program = "test" };
	struct compact_stats stats;
	struct point p;
	struct err none = ERR_INIT;
	struct repo *r;
	long at = atomic_exchange(&countdown, 0);
	int rc;

	both_points();
	assert_non_null(r = repo_open(url, true, &none));
	assert_int_equal(repo_find(r, "vm@latest", &p, &none), 0);
	atomic_store(&countdown, at);
	rc = compact_consolidate(r, &p, &how, &stats, err);
	atomic_store(&countdown, 0);
	repo_close(r);
	return (rc);
}

static void
check_consolidated(int rc)
{
	(void)rc;
	assert_int_equal(points_now(), 2);
	content[0] = 3;
	next_run(2, 3);
}

static void
test_consolidate(void **state)
{
	(void)state;
	assert_in_range(each(DISK, try_consolidate, check_consolidated), 10, 1000);
	assert_in_range(each(MEMORY, try_consolidate, check_consolidated), 50, 5000);
}

static int
setup(void **state)
{
	(void)state;
	/* What cannot be compressed, and half of the disk. */
	for (size_t i = 0, x = 1; i < SIZE / 2; i++)
		content[i] = (uint8_t)((x = x * 6364136223846793005u + 1442695040888963407u) >> 56);
	/* In memory where that can be had: some thousand points are written and synced. */
	snprintf(folder, sizeof(folder), "%s/ovb-faults.XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	if (mkdtemp(folder) == NULL)
		return (-1);
	snprintf(url, sizeof(url), "%s/r", folder);
	return (0);
}

static int
teardown(void **state)
{
	(void)state;
	wipe();
	return (rmdir(folder));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_config),
		cmocka_unit_test(test_xml),
		cmocka_unit_test(test_write),
		cmocka_unit_test(test_read),
		cmocka_unit_test(test_consolidate),
	};

	return (cmocka_run_group_tests(tests, setup, teardown));
}
