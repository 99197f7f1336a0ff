/* A repository: names of machines and points, publishing, finding, sweeping, and each of these while another program is at work. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <dirent.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "hook_store.h"

/* The module itself, but its stores are those of the test. */
static struct store *test_store_open(const char *url, bool make, struct err *err);
#define store_open	test_store_open
#include "repository/repo.c"
#undef store_open

#define T0		((time_t)1795311000)	/* 2026-11-22T01:30:00Z */
#define P0		"2026-11-22T013000Z"
#define ME		"the program"
#define DEAD_TOKEN	"dddddddddddddddd"

static char folder[64];
static struct repo *repo;		/* there, for the other program */
static struct hook_store *hooked;	/* there, for the one that is watched, with its repository */
static struct repo *watched;
static bool next_open_is_hooked, no_replace_missing;

static struct store *
test_store_open(const char *url, bool make, struct err *err)
{
	if (!next_open_is_hooked)
		return (store_open(url, make, err));
	next_open_is_hooked = false;
	return (&hooked->st);
}

/* A file system that has no RENAME_NOREPLACE, as NFS. */
int
renameat2(int fromfd, const char *from, int tofd, const char *to, unsigned int flags)
{
	if (no_replace_missing && flags != 0) {
		errno = EINVAL;
		return (-1);
	}
	return ((int)syscall(SYS_renameat2, fromfd, from, tofd, to, flags));
}

static int
setup(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	snprintf(folder, sizeof(folder), "/tmp/ovb-test-repo.XXXXXX");
	if (mkdtemp(folder) == NULL || chdir(folder) == -1 || (repo = repo_open(folder, true, &err)) == NULL)
		return (-1);
	hooked = hook_open(folder);
	next_open_is_hooked = true;
	if ((watched = repo_open(folder, false, &err)) == NULL)
		return (-1);
	hooked->calls = 0;
	buf_reset(&hooked->log);
	no_replace_missing = false;
	return (0);
}

static int
teardown(void **state)
{
	(void)state;
	repo_close(repo);
	repo_close(watched);
	if (chdir("/") == -1)
		return (-1);
	remove_all(folder);
	return (0);
}

static void
again(void)
{
	teardown(NULL);
	assert_int_equal(setup(NULL), 0);
}

/* Making points. */

static int
put_file(struct point_writer *pw, const char *name, const char *text, struct err *err)
{
	struct store_file *f = point_create(pw, name, err);
	int rc;

	if (f == NULL)
		return (-1);
	rc = store_append(f, text, strlen(text), err) == -1 ? -1 : store_sync(f, err);
	store_file_close(f);
	return (rc);
}

static int
publish(struct point_writer *pw, const char *vm, struct err *err)
{
	static const char id[] = "6e1a5f9e-5f36-4b5e-9c37-6a3f3b1f0a11";
	static const char sha256[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
	struct manifest_disk d = { .target = "vda", .member = "vda.img", .source = "/vda.img", .format = "raw" };
	struct manifest_member members[] = { { "domain.xml", 600 }, { "empty", 0 } };
	struct manifest m = {
		.members = members, .nmembers = strcmp(vm, "web") == 0 ? 2 : 0, .vm = vm, .kind = "full", .consistency = "offline", .capture = "image", .job = "j", .host = "h", .program = "p", .time = T0,
		.finished = T0, .disks = &d, .ndisks = 1, .archive = { .id = id, .file = "disks.tar", .codec = "none", .sha256 = sha256 },
	};
	struct buf sums = BUF_INIT;
	int rc;

	rc = buf_addf(&sums, err, "%s  disks.tar\n", sha256) == -1 ? -1 : point_publish(pw, &m, &sums, err);
	buf_free(&sums);
	return (rc);
}

/* A point from beginning to end; its name is copied to ${name} unless NULL. */
static int
make_point(struct repo *r, struct lock *lk, const char *vm, time_t t, char *name, struct err *err)
{
	struct point_writer *pw = point_begin(r, lk, vm, t, err);
	int rc = -1;

	if (pw != NULL && put_file(pw, "disks.tar", vm, err) == 0 && publish(pw, vm, err) == 0) {
		if (name != NULL)
			snprintf(name, NAMING_MAX, "%s", point_published(pw)->name);
		rc = 0;
	}
	point_end(pw);
	return (rc);
}

/* A whole run, as the daemon does it.  Returns -1 when it failed, 1 when somebody else holds the repository. */
static int
run(struct repo *r, const char *vm, time_t t, struct err *err)
{
	struct lock *lk;
	unsigned int swept;
	int rc;

	if (repo_sweep(r, ME, &swept, err) == -1)
		return (-1);
	if ((lk = lock_run(r->st, ME, 0, NULL, err)) == NULL)
		return (err->code == EBUSY ? 1 : -1);
	rc = make_point(r, lk, vm, t, NULL, err);
	lock_release(lk);
	return (rc);
}

static void
must_run(const char *vm, time_t t)
{
	struct err err = ERR_INIT;

	if (run(repo, vm, t, &err) != 0)
		fail_msg("no point of %s: %s", vm, err.text);
}

static struct lock *
must_lock(void)
{
	struct err err = ERR_INIT;
	struct lock *lk = lock_run(repo->st, ME, 0, NULL, &err);

	if (lk == NULL)
		fail_msg("no lock: %s", err.text);
	return (lk);
}

/* What a killed run leaves: a lock of a process that is gone, and a folder with files. */
static void
make_remains(const char *vm, const char *token)
{
	char path[512], text[512], boot_id[64] = "", ns[64];
	ssize_t n = readlink("/proc/self/ns/pid", ns, sizeof(ns) - 1);
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	ns[n > 0 ? n : 0] = '\0';
	read_text("/proc/sys/kernel/random/boot_id", boot_id, sizeof(boot_id));
	boot_id[strcspn(boot_id, "\n")] = '\0';
	snprintf(text, sizeof(text), "{ \"token\": \"%s\", \"host\": \"h\", \"pid\": %ld, \"boot_id\": \"%s\", \"pid_namespace\": \"%s\", \"start_time\": 1, "
	    "\"program\": \"p\" }\n", token, (long)pid, boot_id, ns);
	mkdir(".locks", 0700);
	snprintf(path, sizeof(path), ".locks/run-%s.lock", token);
	write_text(path, text);
	mkdir(vm, 0700);
	snprintf(path, sizeof(path), "%s/" P0 ".%s.partial", vm, token);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(path, sizeof(path), "%s/" P0 ".%s.partial/disks.tar", vm, token);
	write_text(path, "half");
}

static unsigned int
entries(const char *path, const char *with)
{
	DIR *d = opendir(path);
	struct dirent *de;
	unsigned int n = 0;

	if (d == NULL)
		return (0);
	while ((de = readdir(d)) != NULL)
		n += strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0 && strstr(de->d_name, with) != NULL;
	closedir(d);
	return (n);
}

static const char *
listed(const char *vm)
{
	static char all[4096];
	struct points ps = POINTS_INIT;
	struct err err = ERR_INIT;
	size_t at = 0;

	if (repo_points(repo, vm, &ps, &err) == -1)
		fail_msg("%s", err.text);
	all[0] = '\0';
	for (size_t i = 0; i < ps.n; i++)
		at += (size_t)snprintf(all + at, sizeof(all) - at, "%s%s", i > 0 ? " " : "", ps.v[i].name);
	points_free(&ps);
	return (all);
}

/* Names. */

static void
names_of_machines(void **state)
{
	static const struct { const char *name, *escaped; } table[] = {
		{ "web01", "web01" }, { "AZaz09_-+=,@~", "AZaz09_-+=,@~" }, { "a.b", "a.b" }, { "a.", "a." }, { "a..b", "a..b" },
		{ ".", "%2E" }, { "..", "%2E." }, { ".a", "%2Ea" }, { ".partial", "%2Epartial" }, { "a.partial", "a%2Epartial" },
		{ "a.json", "a%2Ejson" }, { "repository.json", "repository%2Ejson" }, { "a.old", "a%2Eold" }, { "a.new", "a%2Enew" },
		{ "a.lock", "a%2Elock" }, { "a.old.b", "a.old.b" }, { "a.old.old", "a.old%2Eold" }, { "a.oldx", "a.oldx" }, { "a.Old", "a.Old" },
		{ "a/b", "a%2Fb" }, { "../../etc", "%2E.%2F..%2Fetc" }, { "a b", "a%20b" }, { "100%", "100%25" }, { "%2F", "%252F" },
		{ "a\nb\x7f\x01", "a%0Ab%7F%01" }, { "K\xc3\xb6ln", "K\xc3\xb6ln" }, { "\x80\xff", "\x80\xff" }, { "a:b;c*?[]{}()!\"'#$&<>|\\^`",
		    "a%3Ab%3Bc%2A%3F%5B%5D%7B%7D%28%29%21%22%27%23%24%26%3C%3E%7C%5C%5E%60" },
	};
	struct err err = ERR_INIT;
	char out[NAMING_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		assert_int_equal(name_escape(table[i].name, out, &err), 0);
		assert_string_equal(out, table[i].escaped);
	}
	assert_int_equal(name_escape("", out, &err), -1);
}

static void
long_names(void **state)
{
	char name[300], out[NAMING_MAX + 8], filled[NAMING_MAX + 8];
	struct err err = ERR_INIT;

	(void)state;
	memset(filled, 0x5a, sizeof(filled));
	for (size_t n = 80; n < 300; n++)
		for (size_t slashes = 0; slashes < 4; slashes++) {
			memset(name, 'a', n);
			memset(name + n - slashes, '/', slashes);
			name[n] = '\0';
			memset(out, 0x5a, sizeof(out));
			if (name_escape(name, out, &err) != (n + 2 * slashes <= 255 ? 0 : -1))
				fail_msg("%zu bytes, %zu when escaped: %s", n, n + 2 * slashes, n + 2 * slashes <= 255 ? "refused" : "accepted");
			assert_memory_equal(out + NAMING_MAX, filled + NAMING_MAX, 8);
		}
	assert_int_equal(err.code, ENAMETOOLONG);
}

static void
names_of_points(void **state)
{
	static const char *const none[] = {
		"", "latest", "2026-11-22", P0 "-", P0 "-0", P0 "-1", P0 "-01", P0 "-02", P0 "- 2", P0 "-+2", P0 "--2", P0 "-2x", P0 ".x",
		P0 ".0123456789abcdef.partial", P0 ".new", P0 ".old", P0 "-2.partial", " " P0, P0 " ", "2026-11-22T013000", "2026-11-22T013000z",
		"2026-11-22T01:30:00Z", "2026-02-30T013000Z", "2026-11-31T013000Z", "2026-13-01T013000Z", "2026-11-22T243000Z", "2026-11-22T016000Z",
		"2026-11-22T013061Z", "26-11-22T013000Z", "2026-1-22T013000Z", "+2026-11-22T013000Z", P0 "-4294967298", P0 "-18446744073709551618",
		P0 "-99999999999999999999999999999999999", "manifest.json", "pruned.json", ".locks",
	};
	static const unsigned int suffixes[] = { 1, 2, 9, 10, 1000 };
	unsigned int suffix;
	char name[NAMING_MAX];
	time_t t;

	(void)state;
	point_name(T0, 1, name);
	assert_string_equal(name, P0);
	for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
		point_name(T0, suffixes[i], name);
		assert_true(point_name_parse(name, &t, &suffix));
		assert_true(t == T0 && suffix == suffixes[i]);
	}
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
		if (point_name_parse(none[i], &t, &suffix))
			fail_msg("'%s' passes for a point", none[i]);
	assert_true(point_name_parse("2028-02-29T235959Z", &t, &suffix));
}

/* Finding a point. */

static void
specs(void **state)
{
	static const struct { const char *spec, *found, *error; } table[] = {
		{ "web@latest", "2026-11-23T013000Z", NULL },
		{ "web@2026-11-22T01:30:00Z", P0, NULL },
		{ "web@2026-11-22T013000Z", P0, NULL },			/* whole, though others begin with it */
		{ "web@2026-11-22T01:30:00Z-2", P0 "-2", NULL },
		{ "web@2026-11-22T01:30:00Z-10", P0 "-10", NULL },
		{ "web@2026-11-23", "2026-11-23T013000Z", NULL },
		{ "web@2025", "2025-11-22T013000Z", NULL },
		{ "web@2026-11-22", NULL, "11 restore points of web begin with 2026-11-22, the last is " P0 "-10" },
		{ "web@2026-11-22T01:30:00Z-1", P0 "-10", NULL },
		{ "web@20", NULL, "13 restore points" },
		{ "web@2024", NULL, "no restore point web@2024" },
		{ "web@2026-11-24", NULL, "no restore point web@2026-11-24" },	/* pruned */
		{ "none@latest", NULL, "no restore point none@latest" },
		{ "a@b@latest", P0, NULL },
		{ "../web@latest", NULL, "no restore point ../web@latest" },
		{ "empty@latest", NULL, "no restore point empty@latest" },
		{ "web", NULL, "is not a restore point" }, { "web@", NULL, "is not a restore point" }, { "@latest", NULL, "is not a restore point" },
		{ "", NULL, "is not a restore point" }, { "web@:", NULL, "names no time" }, { "web@Latest", NULL, "no restore point" },
	};
	struct err err = ERR_INIT;
	struct point p;

	(void)state;
	for (int i = 0; i < 10; i++)
		must_run("web", T0);
	must_run("web", T0 + 3600);
	assert_int_equal(rename("web/2026-11-22T023000Z", "web/2026-11-22T012959Z"), 0);
	must_run("web", T0 + 86400);
	must_run("web", T0 + 2 * 86400);
	assert_int_equal(rename("web/2026-11-24T013000Z/manifest.json", "web/2026-11-24T013000Z/pruned.json"), 0);
	must_run("web", T0 - 365 * 86400);
	must_run("a@b", T0);
	mkdir("empty", 0700);
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		err.text[0] = '\0';
		if (repo_find(repo, table[i].spec, &p, &err) == 0 ? table[i].found == NULL || strcmp(p.name, table[i].found) != 0 :
		    table[i].error == NULL || strstr(err.text, table[i].error) == NULL)
			fail_msg("%s: %s", table[i].spec, err.text[0] != '\0' ? err.text : p.name);
	}
}

static void
listed_in_order_of_time(void **state)
{
	(void)state;
	must_run("web", T0 + 60);
	for (int i = 0; i < 11; i++)
		must_run("web", T0);
	must_run("web", T0 - 60);
	mkdir("web/" P0 ".aaaaaaaaaaaaaaaa.partial", 0700);
	mkdir("web/" P0 ".new", 0700);
	mkdir("web/notes", 0700);
	assert_string_equal(listed("web"), "2026-11-22T012900Z " P0 " " P0 "-2 " P0 "-3 " P0 "-4 " P0 "-5 " P0 "-6 " P0 "-7 " P0 "-8 " P0 "-9 "
	    P0 "-10 " P0 "-11 2026-11-22T013100Z");
}

static void
pruned(void **state)
{
	struct manifest m = MANIFEST_INIT;
	struct err err = ERR_INIT;
	struct point p;

	(void)state;
	must_run("web", T0);
	assert_int_equal(repo_find(repo, "web@latest", &p, &err), 0);
	assert_int_equal(repo_manifest(repo, &p, &m, &err), 0);
	assert_string_equal(m.vm, "web");
	assert_int_equal(m.nmembers, 2);
	assert_string_equal(m.members[0].name, "domain.xml");
	assert_true(m.members[0].size == 600 && m.members[1].size == 0);
	manifest_free(&m);
	must_run("without files", T0);
	assert_int_equal(repo_find(repo, "without files@latest", &p, &err), 0);
	assert_int_equal(repo_manifest(repo, &p, &m, &err), 0);
	assert_int_equal(m.nmembers, 0);
	manifest_free(&m);
	assert_int_equal(repo_find(repo, "web@latest", &p, &err), 0);
	assert_int_equal(rename("web/" P0 "/manifest.json", "web/" P0 "/pruned.json"), 0);
	assert_int_equal(repo_manifest(repo, &p, &m, &err), -1);
	assert_int_equal(err.code, ESTALE);
	assert_int_equal(repo_manifest_any(repo, &p, &m, &err), 0);
	manifest_free(&m);
	assert_int_equal(unlink("web/" P0 "/pruned.json"), 0);
	assert_int_equal(repo_manifest(repo, &p, &m, &err), -1);
	assert_int_equal(err.code, ENOENT);
}

/* Publishing. */

static void
one_second(void **state)
{
	struct lock *a = must_lock(), *b = must_lock();
	struct err err = ERR_INIT;
	struct point_writer *pa, *pb;
	char name[NAMING_MAX];

	(void)state;
	assert_non_null(pa = point_begin(repo, a, "web", T0, &err));
	assert_non_null(pb = point_begin(repo, b, "web", T0, &err));
	assert_string_equal(listed("web"), "");
	assert_int_equal(publish(pb, "web", &err), 0);
	assert_string_equal(point_published(pb)->name, P0);
	assert_int_equal(publish(pa, "web", &err), 0);
	assert_string_equal(point_published(pa)->name, P0 "-2");
	point_end(pa);
	point_end(pb);
	assert_int_equal(make_point(repo, a, "web", T0, name, &err), 0);
	assert_string_equal(name, P0 "-3");
	assert_string_equal(listed("web"), P0 " " P0 "-2 " P0 "-3");
	assert_int_equal(entries("web", ""), 3);
	/* When earlier ones are gone, the next one still comes after those that stay: what is the latest is told by the name. */
	assert_int_equal(rename("web/" P0, "gone-1"), 0);
	assert_int_equal(rename("web/" P0 "-2", "gone-2"), 0);
	assert_int_equal(make_point(repo, a, "web", T0, name, &err), 0);
	assert_string_equal(name, P0 "-4");
	/* But a name that is none of ours does not use up what there is. */
	mkdir("web/" P0 "-4000000000", 0700);
	assert_int_equal(make_point(repo, a, "web", T0, name, &err), 0);
	assert_string_equal(name, P0 "-5");
	lock_release(a);
	lock_release(b);
}

/* Whatever stands in the place of a point stays, even an empty folder, which rename() would replace. */
static void
never_replaced(void **state)
{
	struct err err = ERR_INIT;
	char name[NAMING_MAX], text[16];
	struct lock *lk;

	(void)state;
	for (int i = 0; i < 2; i++) {
		again();
		no_replace_missing = i == 1;
		lk = must_lock();
		mkdir("web", 0700);
		mkdir("web/" P0, 0700);
		write_text("web/" P0 "-2", "a file");
		mkdir("web/" P0 "-3", 0700);
		write_text("web/" P0 "-3/disks.tar", "theirs");
		assert_int_equal(symlink("nowhere", "web/" P0 "-4"), 0);
		if (make_point(repo, lk, "web", T0, name, &err) == -1)
			fail_msg("%s", err.text);
		assert_string_equal(name, P0 "-5");
		assert_int_equal(entries("web/" P0, ""), 0);
		assert_string_equal(read_text("web/" P0 "-2", text, sizeof(text)), "a file");
		assert_string_equal(read_text("web/" P0 "-3/disks.tar", text, sizeof(text)), "theirs");
		assert_int_equal(entries("web/" P0 "-5", ""), 3);
		lock_release(lk);
	}
}

static void
ended_without_a_trace(void **state)
{
	struct lock *lk = must_lock();
	struct err err = ERR_INIT;
	struct point_writer *pw;

	(void)state;
	assert_non_null(pw = point_begin(repo, lk, "web", T0, &err));
	assert_int_equal(put_file(pw, "disks.tar", "half", &err), 0);
	assert_int_equal(put_file(pw, "disks.tar", "twice", &err), -1);
	assert_int_equal(err.code, EEXIST);
	assert_int_equal(entries("web", lock_token(lk)), 1);
	point_end(pw);
	point_end(NULL);
	assert_false(exists("web"));
	lock_release(lk);
}

static void
not_published_without_the_lock(void **state)
{
	struct err err = ERR_INIT;
	struct point_writer *pw;
	struct lock *lk;
	char path[128];

	(void)state;
	for (int i = 0; i < 2; i++) {
		again();
		lk = must_lock();
		snprintf(path, sizeof(path), ".locks/run-%s.lock", lock_token(lk));
		assert_non_null(pw = point_begin(repo, lk, "web", T0, &err));
		assert_int_equal(put_file(pw, "disks.tar", "whole", &err), 0);
		assert_int_equal(unlink(path), 0);
		if (i == 1)
			write_text(path, "{ \"token\": \"" DEAD_TOKEN "\" }");
		assert_int_equal(publish(pw, "web", &err), -1);
		assert_non_null(strstr(err.text, path));
		point_end(pw);
		assert_string_equal(entries("web", "") == 0 ? "" : listed("web"), "");
		assert_int_equal(entries("web", ".partial"), 0);
		lock_release(lk);
	}
}

/* Each file and the folder are durable before the rename, the lock is looked at last before it, the machine's folder is durable after. */
static void
order_of_publishing(void **state)
{
	struct err err = ERR_INIT;
	struct lock *lk = lock_run(&hooked->st, ME, 0, NULL, &err);
	char want[1024];

	(void)state;
	assert_non_null(lk);
	mkdir("web", 0700);
	buf_reset(&hooked->log);
	assert_int_equal(make_point(watched, lk, "web", T0, NULL, &err), 0);
	/* The name must be free of a point that is just being consolidated; the lock is looked at last. */
	snprintf(want, sizeof(want), "create web/" P0 ".%s.partial/SHA256SUMS\nsync_dir web/" P0 ".%s.partial\nlist web\nstat web/" P0 "\nstat web/" P0 ".new\n"
	    "stat web/" P0 ".old\nopen .locks/run-%s.lock\n"
	    "rename web/" P0 ".%s.partial\nsync_dir web\n", lock_token(lk), lock_token(lk), lock_token(lk), lock_token(lk));
	if (strstr(hooked->log.ptr, want) == NULL)
		fail_msg("not in this order:\n%s", hooked->log.ptr);
	lock_release(lk);
}

/* Sweeping. */

static void
swept(void **state)
{
	unsigned int n = 9;
	struct err err = ERR_INIT;
	char *renamed, *removed;

	(void)state;
	must_run("web", T0);
	make_remains("web", DEAD_TOKEN);
	make_remains("db", "eeeeeeeeeeeeeeee");
	mkdir("web/" P0 "." DEAD_TOKEN ".partial/deeper", 0700);
	write_text("web/" P0 "." DEAD_TOKEN ".partial/deeper/file", "x");
	mkdir("web/" P0 ".new", 0700);
	write_text("repository.json.01234567.partial", "{");
	write_text("notes.partial", "not ours");
	mkdir("web/download.partial", 0700);
	mkdir("web/" P0 ".partial", 0700);
	mkdir("web/" P0 ".0123456789ABCDEF.partial", 0700);
	write_text("web/film." DEAD_TOKEN ".partial", "nor this");
	assert_int_equal(repo_sweep(watched, ME, &n, &err), 0);
	assert_int_equal(n, 2);
	assert_int_equal(entries("web", ".partial"), 4);
	assert_int_equal(entries("db", ".partial") + entries(".locks", ""), 0);
	assert_false(exists("repository.json.01234567.partial"));
	assert_true(exists("notes.partial") && exists("web/" P0 ".new") && exists("repository.json"));
	assert_string_equal(listed("web"), P0);
	renamed = strstr(hooked->log.ptr, "rename web/" P0 "." DEAD_TOKEN ".partial\n");
	removed = strstr(hooked->log.ptr, "unlink web/");
	assert_true(renamed != NULL && removed != NULL && renamed < removed);
	assert_int_equal(repo_sweep(watched, ME, &n, &err), 0);
	assert_int_equal(n, 0);
}

/* Whoever can write into a repository cannot have anything removed that is not in it. */
static void
not_beyond(void **state)
{
	struct point p = { .folder = "web", .name = P0, .time = T0, .suffix = 1 };
	struct lock *lk;
	struct err err = ERR_INIT;
	unsigned int n;

	(void)state;
	must_run("web", T0 + 1);
	mkdir("precious", 0700);
	write_text("precious/file", "x");
	assert_int_equal(symlink("../precious", "web/" P0 "." DEAD_TOKEN ".partial"), 0);
	write_text("web/" P0 ".eeeeeeeeeeeeeeee.partial", "a file");
	assert_int_equal(symlink("../precious", "web/" P0), 0);
	assert_int_equal(repo_sweep(repo, ME, &n, &err), 0);
	assert_int_equal(n, 2);
	assert_true(exists("precious/file"));
	assert_int_equal(entries("web", ".partial"), 0);
	assert_non_null(lk = lock_alone(repo->st, ME, &err));
	assert_int_equal(repo_remove(repo, lk, &p, &err), 0);
	assert_true(exists("precious/file"));
	assert_false(exists("web/" P0));
	lock_release(lk);
}

/* Folders that no run made: lost+found, where the repository is the root of a file system. */
static void
not_swept(void **state)
{
	unsigned int n;
	struct err err = ERR_INIT;

	(void)state;
	mkdir("lost+found", 0700);
	assert_int_equal(repo_sweep(repo, ME, &n, &err), 0);
	assert_true(exists("lost+found"));
}

static void
not_swept_beside_a_live_run(void **state)
{
	struct lock *lk = must_lock();
	struct err err = ERR_INIT;
	struct point_writer *pw;
	unsigned int n = 9;

	(void)state;
	assert_non_null(pw = point_begin(repo, lk, "web", T0, &err));
	make_remains("web", DEAD_TOKEN);
	assert_int_equal(repo_sweep(watched, ME, &n, &err), 0);
	assert_int_equal(n, 0);
	assert_int_equal(entries("web", lock_token(lk)), 1);
	assert_false(exists(".locks/exclusive.lock"));
	if (publish(pw, "web", &err) == -1)
		fail_msg("%s", err.text);
	point_end(pw);
	lock_release(lk);
	assert_int_equal(repo_sweep(watched, ME, &n, &err), 0);
	assert_int_equal(n, exists("web/" P0 "." DEAD_TOKEN ".partial") ? 1 : n);
	assert_int_equal(entries("web", ".partial"), 0);
	assert_string_equal(listed("web"), P0);
}

/* A writer that slept while its lock grew old finds that its folder is gone. */
static void
swept_while_it_slept(void **state)
{
	struct lock *lk = must_lock();
	struct err err = ERR_INIT;
	struct point_writer *pw;
	unsigned int n = 0;
	char path[128];

	(void)state;
	assert_non_null(pw = point_begin(repo, lk, "web", T0, &err));
	assert_int_equal(put_file(pw, "disks.tar", "whole", &err), 0);
	snprintf(path, sizeof(path), ".locks/run-%s.lock", lock_token(lk));
	make_old(path, 310);
	assert_int_equal(repo_sweep(watched, ME, &n, &err), 0);
	assert_int_equal(n, 1);
	assert_int_equal(publish(pw, "web", &err), -1);
	point_end(pw);
	lock_release(lk);
	assert_int_equal(entries("web", ""), 0);
	assert_int_equal(entries(".locks", ""), 0);
}

/* The number of the first call of the watched repository that is ${call}. */
static unsigned int
number_of(const char *call)
{
	const char *line = strstr(hooked->log.ptr, call);
	unsigned int n = 1;

	assert_non_null(line);
	for (const char *p = hooked->log.ptr; p < line; p++)
		n += *p == '\n';
	hooked->calls = 0;
	buf_reset(&hooked->log);
	return (n);
}

/* A folder that may not be read: only the file system's own is passed over. */
static void
closed_folders(void **state)
{
	static const char *const names[] = { "lost+found", "lost+found2", "web" };
	struct points ps = POINTS_INIT;
	char call[64];
	struct err err;
	unsigned int swept;
	bool ours;

	(void)state;
	/* The first one makes the folder of the locks, which is a call more. */
	assert_int_equal(repo_sweep(watched, ME, &swept, &err), 0);
	hooked->calls = 0;
	buf_reset(&hooked->log);
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(mkdir(names[i], 0700), 0);
		snprintf(call, sizeof(call), "list %s\n", names[i]);
		ours = i != 0;

		err = (struct err)ERR_INIT;
		assert_int_equal(repo_all_points(watched, &ps, &err), 0);
		hooked->fail_at = number_of(call);
		hooked->fail_code = EACCES;
		assert_int_equal(repo_all_points(watched, &ps, &err), ours ? -1 : 0);
		hooked->calls = 0;
		hooked->fail_code = EIO;
		assert_int_equal(repo_all_points(watched, &ps, &err), -1);

		hooked->fail_at = hooked->calls = 0;
		buf_reset(&hooked->log);
		assert_int_equal(repo_sweep(watched, ME, &swept, &err), 0);
		hooked->fail_at = number_of(call);
		hooked->fail_code = EACCES;
		assert_int_equal(repo_sweep(watched, ME, &swept, &err), ours ? -1 : 0);
		hooked->fail_at = hooked->calls = 0;
		buf_reset(&hooked->log);
		assert_int_equal(rmdir(names[i]), 0);
	}
	points_free(&ps);
}

/* A folder that cannot be removed is told, and is no point afterwards either. */
static void
sweep_fails(void **state)
{
	struct err err = ERR_INIT;
	unsigned int n;

	(void)state;
	for (int i = 0; i < 3; i++) {
		again();
		make_remains("web", DEAD_TOKEN);
		hooked->fail_op = i == 0 ? "rename" : i == 1 ? "list" : "rmdir";
		hooked->fail_code = EIO;
		assert_int_equal(repo_sweep(watched, ME, &n, &err), -1);
		assert_non_null(strstr(err.text, "made to fail"));
		assert_int_equal(err.code, EIO);
		hooked->fail_op = NULL;
		assert_string_equal(listed("web"), "");
		assert_int_equal(entries(".locks", "exclusive"), 0);
		assert_int_equal(repo_sweep(repo, ME, &n, &err), 0);
		assert_int_equal(entries("web", ""), 0);
	}
}

/*
 * Meetings: before the n-th call of the watched program, another does something in full.  What may be done side by side must succeed,
 * wherever the two meet.
 */
static int other_rc;
static struct err other_err;

static void
other_run(void *arg)
{
	other_rc = run(repo, arg, T0, &other_err);
}

static void
other_sweep(void *arg)
{
	unsigned int n;

	(void)arg;
	other_rc = repo_sweep(repo, ME, &n, &other_err);
}

/* A run that fails, which takes the machine's folder away again when it is empty. */
static struct point_writer *failing;

static void
other_ends(void *arg)
{
	(void)arg;
	point_end(failing);
	failing = NULL;
}

static void
other_removes(void *arg)
{
	remove_all(arg);
}

static void
meet_at(unsigned int n, void (*act)(void *), const char *arg)
{
	hooked->calls = 0;
	buf_reset(&hooked->log);
	hooked->at = n;
	hooked->act = act;
	hooked->arg = (void *)(uintptr_t)arg;
	other_rc = 0;
	other_err = (struct err)ERR_INIT;
}

static bool
reached(unsigned int n)
{
	hooked->at = 0;
	if (other_rc == -1)
		fail_msg("the other fails at call %u of\n%s: %s", n, hooked->log.ptr, other_err.text);
	return (hooked->calls >= n);
}

/* What was published is whole. */
static void
all_whole(unsigned int n, const char *vm, unsigned int points)
{
	unsigned int found = 0;
	char path[512];

	for (unsigned int i = 1; i <= 3; i++) {
		snprintf(path, sizeof(path), i == 1 ? "%s/" P0 : "%s/" P0 "-%u", vm, i);
		if (!exists(path))
			continue;
		found++;
		if (entries(path, "") != 3)
			fail_msg("call %u of\n%s: %u files in %s", n, hooked->log.ptr, entries(path, ""), path);
	}
	if (found != points)
		fail_msg("call %u of\n%s: %u points of %s, wanted %u", n, hooked->log.ptr, found, vm, points);
}

static void
two_runs_meet(void **state)
{
	static const char *const vms[] = { "web", "db" };
	struct err err = ERR_INIT;
	unsigned int n;
	bool more;

	(void)state;
	for (int i = 0; i < 4; i++) {
		for (n = 1, more = true; more; n++) {
			int rc;

			again();
			if (i / 2)
				make_remains("web", DEAD_TOKEN);
			meet_at(n, other_run, vms[i % 2]);
			rc = run(watched, "web", T0, &err);
			more = reached(n);
			if (rc == -1)
				fail_msg("fails when another comes at call %u of\n%s: %s", n, hooked->log.ptr, err.text);
			if (!more)
				continue;
			all_whole(n, "web", (rc == 0) + (i % 2 == 0 && other_rc == 0));
			if (i % 2)
				all_whole(n, "db", other_rc == 0);
		}
		assert_true(n > 12);
	}
}

static void
a_run_meets_a_sweep(void **state)
{
	struct err err = ERR_INIT;
	struct lock *lk;
	unsigned int n;
	bool more = true;

	(void)state;
	for (n = 1; more; n++) {
		int rc = -1;

		again();
		make_remains("web", DEAD_TOKEN);
		meet_at(n, other_sweep, NULL);
		if ((lk = lock_run(&hooked->st, ME, 0, NULL, &err)) != NULL)
			rc = make_point(watched, lk, "web", T0, NULL, &err);
		lock_release(lk);
		more = reached(n);
		if (rc == -1)
			fail_msg("fails when a sweep comes at call %u of\n%s: %s", n, hooked->log.ptr, err.text);
		all_whole(n, "web", 1);
	}
	assert_true(n > 10);
}

/* Another run of the same machine fails, and its folder goes, just when this one begins. */
static void
a_run_meets_one_that_fails(void **state)
{
	struct err err = ERR_INIT;
	struct lock *lk, *theirs;
	unsigned int n;
	bool more = true;

	(void)state;
	for (n = 1; more; n++) {
		int rc;

		again();
		theirs = must_lock();
		assert_non_null(failing = point_begin(repo, theirs, "web", T0, &err));
		assert_non_null(lk = lock_run(&hooked->st, ME, 0, NULL, &err));
		meet_at(n, other_ends, NULL);
		rc = make_point(watched, lk, "web", T0, NULL, &err);
		more = reached(n);
		point_end(failing);
		lock_release(theirs);
		lock_release(lk);
		if (rc == -1)
			fail_msg("fails when another fails at call %u of\n%s: %s", n, hooked->log.ptr, err.text);
		all_whole(n, "web", 1);
	}
}

/* Readers take no locks: what comes and goes meanwhile must not stop them. */
static void
a_reader_meets_others(void **state)
{
	static const struct { const char *gone; void (*act)(void *); const char *arg; } table[] = {
		{ NULL, other_run, "new" }, { NULL, other_run, "web" }, { NULL, other_sweep, NULL },
		{ "db", other_removes, "db" },							/* an empty folder is removed by a sweep */
		{ "repository.json.01234567.partial", other_removes, "repository.json.01234567.partial" },
		{ "web/" P0, other_removes, "web/" P0 },					/* pruned */
	};
	struct points ps = POINTS_INIT;
	struct err err = ERR_INIT;
	struct point p;
	unsigned int n;
	bool more;

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		for (n = 1, more = true; more; n++) {
			int rc;

			again();
			must_run("web", T0);
			must_run("web", T0 + 60);
			make_remains("db", DEAD_TOKEN);
			if (i == 3) {
				remove_all("db");
				mkdir("db", 0700);
			}
			write_text("repository.json.01234567.partial", "{");
			meet_at(n, table[i].act, table[i].arg);
			rc = repo_all_points(watched, &ps, &err);
			if (rc == -1)
				fail_msg("cannot list: case %zu, call %u of\n%s: %s", i, n, hooked->log.ptr, err.text);
			assert_true(ps.n >= 1);
			points_free(&ps);
			if (repo_find(watched, "web@latest", &p, &err) == -1)
				fail_msg("cannot find: case %zu, call %u of\n%s: %s", i, n, hooked->log.ptr, err.text);
			more = reached(n);
			assert_int_equal(p.time, T0 + 60);
		}
}

/* Two make the repository at the same moment. */
static void
other_makes(void *arg)
{
	(void)arg;
	repo_close(repo);
	if ((repo = repo_open(folder, true, &other_err)) == NULL)
		abort();
	other_rc = run(repo, "web", T0, &other_err);
}

static void
two_make_it(void **state)
{
	struct err err = ERR_INIT;
	struct repo *mine;
	unsigned int n;
	bool more;

	(void)state;
	for (int damaged = 0; damaged < 2; damaged++) {
		for (n = 1, more = true; more; n++) {
			again();
			if (damaged)
				write_text("repository.json", "{ \"format\": 1 ");
			else
				assert_int_equal(unlink("repository.json"), 0);
			meet_at(n, other_makes, NULL);
			/* The watched store is opened once more: the first repository lets go of it. */
			free(watched);
			watched = NULL;
			next_open_is_hooked = true;
			if ((mine = repo_open(folder, true, &err)) == NULL) {
				hooked = hook_open(folder);		/* the store went with it */
				fail_msg("%sfails when another makes it at call %u: %s", damaged ? "damaged: " : "", n, err.text);
			}
			watched = mine;
			if ((more = reached(n)) && strcmp(mine->id, repo->id) != 0)
				fail_msg("%stwo repositories when they meet at call %u of\n%s", damaged ? "damaged: " : "", n, hooked->log.ptr);
			assert_int_equal(entries(".", ".partial"), 0);
		}
		assert_true(n > 4);
	}
}

static void
formats(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	write_text("repository.json", "{ \"format\": 2, \"id\": \"x\" }");
	assert_null(repo_open(folder, false, &err));
	assert_non_null(strstr(err.text, "repository.json"));
	assert_null(repo_open(folder, true, &err));
	assert_int_equal(unlink("repository.json"), 0);
	repo_close(repo);
	assert_non_null(repo = repo_open(folder, false, &err));
	assert_string_equal(repo->id, "");
	assert_false(exists("repository.json"));
}

/* The disk is bad just where repository.json lies: whoever reads needs nothing of it. */
static void
not_readable(void **state)
{
	struct err err = ERR_INIT;
	struct hook_store *h = hook_open(folder);
	struct repo *r;

	(void)state;
	h->fail_op = "open";
	h->fail_code = EIO;
	r = repo_open_in(&h->st, false, &err);
	assert_non_null(r);
	assert_string_equal(r->id, "");
	repo_close(r);
	/* Whoever writes says so, and makes no second one. */
	h = hook_open(folder);
	h->fail_op = "open";
	h->fail_code = EIO;
	assert_null(repo_open_in(&h->st, true, &err));
	assert_int_equal(err.code, EIO);
	/* That it is out of reach says nothing. */
	h = hook_open(folder);
	h->fail_op = "open";
	h->fail_code = ECONNRESET;
	assert_null(repo_open_in(&h->st, false, &err));
}

/* A file in the place of a point's folder is a point that is damaged, as one without its files. */
static void
file_for_a_folder(void **state)
{
	struct point p = { .folder = "web", .name = P0, .time = T0, .suffix = 1 };
	struct manifest m = MANIFEST_INIT;
	struct err err = ERR_INIT;

	(void)state;
	mkdir("web", 0700);
	write_text("web/" P0, "a file");
	assert_int_equal(repo_manifest(repo, &p, &m, &err), -1);
	assert_int_equal(err.code, ENOENT);
	assert_false(repo_is_pruned(repo, &p));
	assert_null(repo_file(repo, &p, "index.bin", &err));
	assert_int_equal(err.code, ENOENT);
}

int
main(void)
{
#define TEST(fn)	cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_of_machines), cmocka_unit_test(long_names), cmocka_unit_test(names_of_points), TEST(specs),
		TEST(listed_in_order_of_time), TEST(pruned), TEST(one_second), TEST(never_replaced), TEST(ended_without_a_trace),
		TEST(not_published_without_the_lock), TEST(order_of_publishing), TEST(swept), TEST(not_beyond), TEST(not_swept), TEST(not_swept_beside_a_live_run),
		TEST(swept_while_it_slept), TEST(closed_folders), TEST(sweep_fails), TEST(two_runs_meet), TEST(a_run_meets_a_sweep), TEST(a_run_meets_one_that_fails),
		TEST(a_reader_meets_others), TEST(two_make_it), TEST(formats), TEST(not_readable), TEST(file_for_a_folder),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
