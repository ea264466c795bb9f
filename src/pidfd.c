/* A process by descriptor.
 *
 * Runs anywhere; keeps no state, allocates nothing. By number a process can be signalled and waited for only while nobody reaps it: then
 * the number may be another's. A pidfd stays what it was. Asked for by syscall(), since libcs have the function only of late. */
#define _GNU_SOURCE
#include "pidfd.h"

#include "fd.h"

#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/syscall.h>
#if !defined(SYS_pidfd_open) && !defined(__alpha__)
#define SYS_pidfd_open 434              /* newer than some headers that we are built with */
#endif
#if !defined(SYS_pidfd_send_signal) && !defined(__alpha__)
#define SYS_pidfd_send_signal 424
#endif
#endif

#define BY_PIDFD ((idtype_t)3)          /* P_PIDFD */

int pidfd_open_pid(pid_t pid, int *fd)
{
    *fd = -1;
#if defined(SYS_pidfd_open)
    *fd = (int)syscall(SYS_pidfd_open, pid, 0);         /* close-on-exec by itself */
    if (*fd >= 0)
        return fd_lift(fd);
    if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ESRCH)
        return errno;
#else
    (void)pid;
#endif
    return 0;
}

int pidfd_kill(int fd, int signal)
{
#if defined(SYS_pidfd_send_signal)
    return syscall(SYS_pidfd_send_signal, fd, signal, NULL, 0) < 0 ? errno : 0;
#else
    (void)fd, (void)signal;
    return ENOSYS;
#endif
}

int pidfd_wait(int fd, siginfo_t *info, int options)
{
    int r;

    do
        r = waitid(BY_PIDFD, (id_t)fd, info, options);
    while (r < 0 && errno == EINTR);
    return r < 0 ? errno : 0;
}
