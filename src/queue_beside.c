/* Items too large for the ring: memory that travels by descriptor.
 *
 * Runs in every process that has the queue, any thread. The item is copied into a memory file, which is sent through a socket that all
 * processes share, its record in the ring saying which. The kernel alone counts who still has the memory: it is gone with a putter that
 * is killed before it was sent, stays while it is under way, and is gone with a getter that is killed.
 *
 * Ring and socket cannot change in one step. A putter sends first and commits the record then: if it dies between the two, a message is
 * left over whose number no record has, and whoever looks for a later one throws it away. A getter takes the record first and the message
 * then, so that one that dies leaves the same. A message is looked at before it is taken, since with no descriptor left the kernel
 * would hand it over without its memory.
 *
 * Read and not mapped: the page faults of a fresh mapping cost three times a copy, measured at 1 MiB. The pages are given back behind the
 * reader, so that no item is there twice. Not sealed: nobody else ever has it for writing. RLIMIT_FSIZE holds for it as for a file: it is
 * looked at first, since writing beyond it would be a SIGXFSZ. */
#define _GNU_SOURCE
#include "queue_beside.h"

#include "fd.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/syscall.h>
#endif

#define STEP ((size_t)8 << 20)          /* bytes read before they are given back */
#define CLOSE_ON_EXEC 1u                /* MFD_CLOEXEC */

static int open_memory(int *fd)
{
#if defined(SYS_memfd_create)
    *fd = (int)syscall(SYS_memfd_create, "pool-queue", CLOSE_ON_EXEC);
    return *fd < 0 ? errno : fd_lift(fd);
#else
    *fd = -1;
    return ENOSYS;
#endif
}

static int is_allowed(size_t size)
{
    struct rlimit limit;
    return getrlimit(RLIMIT_FSIZE, &limit) || limit.rlim_cur == RLIM_INFINITY || size <= limit.rlim_cur;
}

int beside_make(const void *data, size_t size, int *fd)
{
    const char *at = data;
    int error = is_allowed(size) ? open_memory(fd) : EFBIG;

    while (!error && size) {
        ssize_t n = write(*fd, at, size);
        if (n > 0)
            at += n, size -= (size_t)n;
        else if (n == 0 || errno != EINTR)
            error = n == 0 || errno == ENOSPC ? ENOMEM : errno;
    }
    if (error)
        fd_close(fd);
    return error;
}

static void give_back(int fd, size_t from, size_t size)
{
#if defined(FALLOC_FL_PUNCH_HOLE)
    if (size == STEP)                   /* what is less goes when it is closed */
        fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)size);
#else
    (void)fd, (void)from, (void)size;
#endif
}

int beside_read(int fd, void *data, size_t size)
{
    char *to = data;
    size_t at = 0, step_end = 0;

    while (at < size) {
        if (at == step_end) {
            if (step_end)
                give_back(fd, step_end - STEP, STEP);
            step_end = size - at < STEP ? size : at + STEP;
        }
        ssize_t n = pread(fd, to + at, step_end - at, (off_t)at);
        if (n > 0)
            at += (size_t)n;
        else if (n == 0 || errno != EINTR)
            return EBADMSG;             /* it cannot be put back */
    }
    return 0;
}

static void close_all(int fds[FD_MAX])
{
    for (int i = 0; i < FD_MAX; i++)
        fd_close(&fds[i]);
}

int beside_send(int socket, uint64_t serial, int fd)
{
    int error = fd_send(socket, &serial, sizeof serial, &fd, 1);

    return error == ETOOMANYREFS || error == ENOBUFS || error == EWOULDBLOCK ? EAGAIN : error;
}

void beside_drop(int socket)
{
    uint64_t serial;
    int fds[FD_MAX];

    fd_recv(socket, &serial, sizeof serial, fds);
    close_all(fds);
}

int beside_find(int socket, uint64_t serial, int *fd)
{
    for (;;) {
        uint64_t found = 0;
        int fds[FD_MAX], error = fd_peek(socket, &found, sizeof found, fds);
        if (error && error != EBADMSG)
            return error == EWOULDBLOCK ? EAGAIN : error;
        if (found == serial) {
            *fd = fds[0];
            return error ? EMFILE : 0;
        }
        close_all(fds);
        beside_drop(socket);
    }
}

void beside_sweep(int socket)
{
    uint64_t serial;
    int fds[FD_MAX];

    for (;;) {
        int error = fd_peek(socket, &serial, sizeof serial, fds);
        close_all(fds);
        if (error && error != EBADMSG)
            return;
        beside_drop(socket);
    }
}
