/* ssh_exec.h - a command on the server, in a channel beside SFTP's. */
#ifndef OVB_SSH_EXEC_H
#define OVB_SSH_EXEC_H

#include "ssh/ssh_session.h"

/**
 * ssh_exec(ss, command, seconds, out, n, err):
 * Run ${command} by the user's shell there, for at most ${seconds}, during which it need not say anything; ${out} gets the first ${n} - 1 bytes of what it
 * writes to its standard output.  Returns its exit status, or -1: the connection is lost (ss->dead), or the server runs nothing for us.
 */
int ssh_exec(struct ssh_session *ss, const char *command, unsigned int seconds, char *out, size_t n, struct err *err);

#endif
