/* peer.h - who is at the other end of a connection, and what they may do. */
#ifndef OVB_API_PEER_H
#define OVB_API_PEER_H

#include <stdbool.h>
#include <sys/types.h>

struct peer_policy {
	gid_t	group;		/* whose members may read */
	bool	has_group;
	bool	group_acts;	/* ... and act */
};

struct peer {
	uid_t	uid;
	pid_t	pid;
	bool	may_read, may_act;
};

/** peer_identify(fd, policy, p): Ask the kernel who connected to the unix socket ${fd}.  When it cannot tell, ${p} may nothing. */
void peer_identify(int fd, const struct peer_policy *policy, struct peer *p);

#endif
