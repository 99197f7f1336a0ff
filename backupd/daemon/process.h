/* process.h - which process it is, told so that no other one is taken for it later: "PID:START TIME:BOOT". */
#ifndef OVB_PROCESS_H
#define OVB_PROCESS_H

#include <stddef.h>
#include <sys/types.h>

/** process_name(pid, out, n): Of a process that is alive; "" when it is not. */
void process_name(pid_t pid, char *out, size_t n);

/** process_open(name, pid): A pidfd of the process ${name}, and its ${pid}; -1 when it is no more. */
int process_open(const char *name, pid_t *pid);

/** process_pidfd(pid): pidfd_open(2). */
int process_pidfd(pid_t pid);

#endif
