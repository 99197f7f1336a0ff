/* socket.h - where clients connect: a unix socket, our own or one that systemd passes. */
#ifndef OVB_API_SOCKET_H
#define OVB_API_SOCKET_H

#include <stdbool.h>
#include <sys/types.h>

#include "../api.h"

struct api_socket {
	int	 fd;		/* listening, non-blocking; -1: none */
	gid_t	 group;		/* its file's: members may read */
	bool	 has_group;	/* one was asked for, or the file's is not root's */
	bool	 own;		/* made by us: removed at the end */
	char	*path;		/* its file's, if it has one */
	dev_t	 dev;		/* which file that is: somebody else's may be there by now */
	ino_t	 ino;
};

#define API_SOCKET_INIT	{ -1, 0, false, false, NULL, 0, 0 }

/** api_group_find(name, out, err): The group that is to be the socket's.  Fails: -1. */
int api_group_find(const char *name, gid_t *out, struct err *err);

/** api_socket_open(s, o, err): Take systemd's socket, or make one.  Fails: -1. */
int api_socket_open(struct api_socket *s, const struct api_options *o, struct err *err);

/** api_socket_close(s): Close it unless its descriptor is -1, and remove its file if it is ours. */
void api_socket_close(struct api_socket *s);

#endif
