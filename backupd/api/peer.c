#include "peer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define GROUPS_MAX	65536u		/* NGROUPS_MAX of Linux */

/* The groups that the peer had when it connected, beside its own. */
static bool
is_in_group(int fd, gid_t group)
{
	socklen_t len = GROUPS_MAX * sizeof(gid_t);
	gid_t *v = malloc(len);
	bool found = false;

	if (v != NULL && getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, v, &len) == 0)
		for (size_t i = 0; i < len / sizeof(gid_t) && !found; i++)
			found = v[i] == group;
	free(v);
	return (found);
}

void
peer_identify(int fd, const struct peer_policy *policy, struct peer *p)
{
	struct ucred c = { .uid = (uid_t)-1, .gid = (gid_t)-1 };
	socklen_t len = sizeof(c);

	memset(p, 0, sizeof(*p));
	p->uid = (uid_t)-1;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c, &len) == -1 || c.uid == (uid_t)-1)
		return;
	p->uid = c.uid;
	p->pid = c.pid;
	p->may_act = c.uid == 0 || c.uid == geteuid();
	p->may_read = p->may_act;
	if (!p->may_read && policy->has_group && (c.gid == policy->group || is_in_group(fd, policy->group))) {
		p->may_read = true;
		p->may_act = policy->group_acts;
	}
}
