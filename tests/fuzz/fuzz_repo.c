/*
 * Small files of a repository.  The first byte says which one the rest is:
 *   'R'  repository.json     'L'  a list of what came from another repository (.replicas/)     'M'  replica.json
 *   'K'  a lock              'S'  a point's SHA256SUMS
 * What cannot be used is refused with a reason or counts for nothing, and no name that it holds leads out of its folder.
 */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "replication/replica_list.h"
#include "repository/lock.h"
#include "repository/repo.h"
#include "repository/verify.h"

#define SOURCE	"00000000-0000-4000-8000-000000000000"
#define TOKEN	"0123456789abcdef"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* One repository with one point, for all inputs; and a folder for a repository that is made of the input. */
static struct {
	char		 path[64], other[80];
	int		 dir;
	struct repo	*r;
	struct lock	*lk;
	struct point	 point;
} world = { .dir = -1 };

static void
write_file(const char *name, const uint8_t *p, size_t n)
{
	int fd = openat(world.dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert(fd != -1 && write(fd, p, n) == (ssize_t)n && close(fd) == 0);
}

static void
empty_folder(int dir)
{
	int fd = dup(dir);
	struct dirent *e;
	DIR *d;

	assert(fd != -1 && (d = fdopendir(fd)) != NULL);
	rewinddir(d);
	while ((e = readdir(d)) != NULL) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 || unlinkat(dir, e->d_name, 0) == 0)
			continue;
		assert((fd = openat(dir, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)) != -1);
		empty_folder(fd);
		close(fd);
		assert(unlinkat(dir, e->d_name, AT_REMOVEDIR) == 0);
	}
	closedir(d);
}

static void
end_world(void)
{
	lock_release(world.lk);
	repo_close(world.r);
	empty_folder(world.dir);
	close(world.dir);
	assert(rmdir(world.path) == 0);
}

static void
begin_world(void)
{
	struct err err = ERR_INIT;

	snprintf(world.path, sizeof(world.path), "/dev/shm/fuzz_repo.XXXXXX");
	assert(mkdtemp(world.path) != NULL && (world.dir = open(world.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) != -1);
	snprintf(world.other, sizeof(world.other), "%s/other", world.path);
	assert((world.r = repo_open(world.path, true, &err)) != NULL && (world.lk = lock_run(world.r->st, "fuzz", 0, NULL, &err)) != NULL);
	world.point = (struct point){ .folder = "web", .name = "2026-11-22T013000Z" };
	assert(mkdirat(world.dir, "other", 0700) == 0 && mkdirat(world.dir, ".replicas", 0700) == 0 && mkdirat(world.dir, "web", 0700) == 0 &&
	    mkdirat(world.dir, "web/2026-11-22T013000Z", 0700) == 0);
	write_file("web/2026-11-22T013000Z/manifest.json", (const uint8_t *)"{}\n", 3);
	write_file("web/2026-11-22T013000Z/index.bin", (const uint8_t *)"", 0);
	write_file("web/2026-11-22T013000Z/disks.tar", (const uint8_t *)"disk", 4);
	atexit(end_world);
}

/* A repository's id becomes the name of a file in others. */
static void
check_id(const char *id)
{
	uint8_t bytes[16];

	assert(id[0] == '\0' || uuid_parse(id, bytes) == 0);
}

static void
check_repository(const uint8_t *data, size_t size)
{
	struct err err = ERR_INIT;
	struct repo *r;
	char id[UUID_LEN];
	int dir;

	write_file("other/repository.json", data, size);
	if ((r = repo_open(world.other, false, &err)) != NULL)
		check_id(r->id);
	else
		assert(strstr(err.text, world.other) != NULL);
	repo_close(r);
	/* Whoever writes makes a damaged one anew. */
	if ((r = repo_open(world.other, true, &err)) != NULL) {
		assert(r->id[0] != '\0');
		check_id(r->id);
		memcpy(id, r->id, sizeof(id));
		repo_close(r);
		assert((r = repo_open(world.other, false, &err)) != NULL && strcmp(r->id, id) == 0);
	}
	repo_close(r);
	assert((dir = openat(world.dir, "other", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) != -1);
	empty_folder(dir);
	close(dir);
}

static void
check_name(const char *name)
{
	assert(name[0] != '\0' && strlen(name) < NAMING_MAX && strchr(name, '/') == NULL && strcmp(name, ".") != 0 && strcmp(name, "..") != 0);
}

static void
check_list(const uint8_t *data, size_t size)
{
	struct replica_list l, again;
	struct err err = ERR_INIT;

	write_file(".replicas/" SOURCE ".json", data, size);
	assert(replica_list_load(world.r, SOURCE, &l, &err) == 0 && !l.changed);
	for (size_t i = 0; i < l.n; i++) {
		const struct replica *rp = &l.v[i];

		check_name(rp->folder);
		assert(rp->there != NULL || rp->here != NULL);
		assert(rp->here == NULL || rp->has_id);
		if (rp->there != NULL) {
			check_name(rp->there);
			assert(replica_find_there(&l, rp->folder, rp->there) != NULL);
		}
		if (rp->here != NULL) {
			check_name(rp->here);
			assert(replica_find_here(&l, rp->folder, rp->here) != NULL && replica_holds(&l, rp->id) == 1);
		}
	}
	l.changed = true;
	assert(replica_list_save(world.r, SOURCE, &l, &err) == 0 && replica_list_load(world.r, SOURCE, &again, &err) == 0 && again.n == l.n);
	for (size_t i = 0; i < l.n; i++)
		assert(strcmp(l.v[i].folder, again.v[i].folder) == 0 && l.v[i].nreplaces == again.v[i].nreplaces);
	replica_list_free(&l);
	replica_list_free(&again);
}

static void
check_mark(const uint8_t *data, size_t size)
{
	struct replica_mark m;
	struct err err = ERR_INIT;

	write_file("web/2026-11-22T013000Z/" REPLICA_NAME, data, size);
	assert(replica_mark_read(world.r, &world.point, &m, &err) == 0);
	assert(memchr(m.job, '\0', sizeof(m.job)) != NULL && memchr(m.from, '\0', sizeof(m.from)) != NULL);
}

/* What cannot be understood is held until it is old. */
static void
check_lock(const uint8_t *data, size_t size)
{
	struct err err = ERR_INIT;
	struct lock *alone;
	int held;

	write_file(".locks/run-" TOKEN ".lock", data, size);
	held = lock_is_held(world.lk, TOKEN, &err);
	assert(held == 0 || held == 1);
	alone = lock_alone(world.r->st, "fuzz", &err);
	assert(alone == NULL && err.code == EBUSY && strstr(err.text, world.path) != NULL);
	unlinkat(world.dir, ".locks/run-" TOKEN ".lock", 0);
}

static void
on_begin(void *arg, const char *what, uint64_t total)
{
	(void)arg;
	check_name(what);
	assert(total <= 65536);
}

static int
on_progress(void *arg, uint64_t done, struct err *err)
{
	(void)arg;
	(void)done;
	return (err == NULL ? -1 : 0);
}

static void
on_damage(void *arg, const char *file, const struct err *why)
{
	assert(file[0] != '\0' && why->text[0] != '\0');
	++*(size_t *)arg;
}

/* Nothing but the four files' own lines is right. */
static void
check_sums(const uint8_t *data, size_t size)
{
	static const struct verify_ops ops = { .begin = on_begin, .progress = on_progress, .damage = on_damage };
	const struct manifest m = { .archive = { .id = SOURCE, .file = "disks.tar" }, .freeze_ms = -1 };
	struct err err = ERR_INIT;
	size_t damages = 0;

	write_file("web/2026-11-22T013000Z/SHA256SUMS", data, size);
	assert(verify_sums(world.r, &world.point, &m, true, &ops, &damages, &err) == 0);
	assert(damages > 0 || size >= 3 * 65);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return (0);
	if (world.dir == -1)
		begin_world();
	switch (data[0]) {
	case 'R':
		check_repository(data + 1, size - 1);
		break;
	case 'L':
		check_list(data + 1, size - 1);
		break;
	case 'M':
		check_mark(data + 1, size - 1);
		break;
	case 'K':
		check_lock(data + 1, size - 1);
		break;
	case 'S':
		check_sums(data + 1, size - 1);
		break;
	default:
		break;
	}
	return (0);
}
