/* A process by descriptor: a handle whose number is never another's. */
#ifndef POOL_PIDFD_H
#define POOL_PIDFD_H

#include <signal.h>
#include <sys/types.h>

/* Opens it, close-on-exec and above 2, readable once the process has ended. 0 with -1 where the system has none (before Linux 5.3, or
 * a sandbox forbids it); ESRCH: there is no such process any more; EMFILE, ENFILE, ENOMEM. */
int pidfd_open_pid(pid_t pid, int *fd);

/* 0; ESRCH: it has ended; EPERM, ENOSYS: not permitted, or not by this call. Never hits another process. */
int pidfd_kill(int fd, int signal);

/* waitid() on that process alone. 0 or an errno; EINVAL: the system (Linux 5.3) cannot. */
int pidfd_wait(int fd, siginfo_t *info, int options);

#endif
