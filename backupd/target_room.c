#include "target_room.h"

#include <errno.h>

#include "base/human.h"

#define UNKNOWN_SHARE	8u
#define SLACK		((uint64_t)16 << 20)	/* index, manifest, and what a file system keeps for itself; bytes */

/* What a byte of the disks took in the machine's last point. */
static double
last_share(const struct backup_run *run, const char *vm)
{
	struct points points = POINTS_INIT;
	struct manifest m = MANIFEST_INIT;
	struct err ignored = ERR_INIT;
	char folder[NAMING_MAX];
	uint64_t provisioned = 0;
	double share = 1.0 / UNKNOWN_SHARE;

	if (name_escape(vm, folder, &ignored) == 0 && repo_points(run->repo, folder, &points, &ignored) == 0 && points.n > 0 &&
	    repo_manifest(run->repo, &points.v[points.n - 1], &m, &ignored) == 0) {
		for (size_t i = 0; i < m.ndisks; i++)
			provisioned += m.disks[i].provisioned;
		if (provisioned > 0)
			share = (double)m.stored / (double)provisioned;
		manifest_free(&m);
	}
	points_free(&points);
	return (share);
}

int
target_room(const struct backup_run *run, const char *vm, uint64_t allocated, struct err *err)
{
	struct store *st = run->repo->st;
	char need[HUMAN_LEN], have[HUMAN_LEN];
	uint64_t needed, room;

	if (store_room(st, &room, err) == -1)
		return (-1);
	needed = (uint64_t)((double)allocated * last_share(run, vm)) + SLACK;
	if (room >= needed)
		return (0);
	return (err_plain(err, ENOSPC, "%s has %s free, and about %s will be needed: make room, or remove restore points", st->url, human_size(room, have),
	    human_size(needed, need)));
}
