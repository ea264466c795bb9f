/* Descriptors: pipes, sockets, and how they travel.
 *
 * Runs in the host, the nursery and the workers, any thread; keeps no state and allocates nothing, so that all of it may
 * run in a child between fork and exec.
 *
 * Invariants: whatever is made or received here is close-on-exec from its first instant, since another thread of the host
 * may fork and exec at any time, and lies above 2, since a task that believes in stdin, stdout and stderr would read or
 * write it. A function that fails leaves nothing open that it made.
 *
 * Not stream sockets or plain bytes for what is sent: SOCK_SEQPACKET keeps messages whole and their descriptors with them,
 * so there is no half message to remember. And close_range or the list of what is open rather than a loop up to
 * RLIMIT_NOFILE, which may be a thousand million. */
#define _GNU_SOURCE
#include "fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#if defined(__linux__)
#include <sys/syscall.h>
#if !defined(SYS_close_range) && !defined(__alpha__)
#define SYS_close_range 436             /* newer than some headers that we are built with */
#endif
#endif

#if !defined(MSG_NOSIGNAL)
#define MSG_NOSIGNAL 0
#endif
#if !defined(MSG_CMSG_CLOEXEC)
#define MSG_CMSG_CLOEXEC 0
#endif

enum { FIRST = 3 };                     /* above stdin, stdout and stderr */

/* ---- Making and closing ---- */

void fd_close(int *fd)
{
    int saved = errno, own = *fd;

    *fd = -1;                           /* first: a child that another thread forks now must not close whatever has the number then */
    if (own >= 0 && close(own) < 0)     /* not retried on EINTR: it is closed by then, and its number may be another thread's */
        errno = saved;                  /* and else not written: after a fork that costs a page */
}

int fd_lift(int *fd)
{
    int high, error = 0;

    if (*fd >= FIRST)
        return 0;
    high = fcntl(*fd, F_DUPFD_CLOEXEC, FIRST);
    if (high < 0)
        error = errno;
    fd_close(fd);
    *fd = high;
    return error;
}

static int add_flag(int fd, int get, int set, int flag)
{
    int flags = fcntl(fd, get);

    if (flags < 0)
        return errno;
    if (!(flags & flag) && fcntl(fd, set, flags | flag) < 0)
        return errno;
    return 0;
}

/* Close-on-exec where it could not be had together with the descriptor. */
static int close_on_exec(int fd)
{
    return MSG_CMSG_CLOEXEC ? 0 : add_flag(fd, F_GETFD, F_SETFD, FD_CLOEXEC);
}

/* Lifts both ends and sets their flags, or closes both. */
static int settle(int ends[2], int blocking_read)
{
    int i, error = 0;

    for (i = 0; i < 2 && !error; i++) {
        error = fd_lift(&ends[i]);
        if (!error)
            error = close_on_exec(ends[i]);
        if (!error && (i == 1 || !blocking_read))
            error = add_flag(ends[i], F_GETFL, F_SETFL, O_NONBLOCK);
    }
    if (error) {
        fd_close(&ends[0]);
        fd_close(&ends[1]);
    }
    return error;
}

int fd_pipe(int ends[2], int nonblocking_read)
{
    int fresh[2], error = 0;

#if defined(__linux__)
    if (pipe2(fresh, O_CLOEXEC) < 0)
#else
    if (pipe(fresh) < 0)
#endif
        fresh[0] = fresh[1] = -1, error = errno;
    ends[0] = fresh[0];
    ends[1] = fresh[1];
    return error ? error : settle(ends, !nonblocking_read);
}

int fd_socketpair(int ends[2])
{
    int type = SOCK_SEQPACKET, fresh[2], error = 0;

#if defined(__linux__)
    type |= SOCK_CLOEXEC | SOCK_NONBLOCK;
#endif
    if (socketpair(AF_UNIX, type, 0, fresh) < 0)
        fresh[0] = fresh[1] = -1, error = errno;
    ends[0] = fresh[0];
    ends[1] = fresh[1];
    return error ? error : settle(ends, 0);
}

int fd_null_stdin(void)
{
    int fd, error = 0;

    do
        fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return errno;
    if (fd == STDIN_FILENO)             /* it was closed. What a task execs wants a stdin too: not close-on-exec */
        return fcntl(fd, F_SETFD, 0) < 0 ? errno : 0;
    while (dup2(fd, STDIN_FILENO) < 0) {
        if (errno == EINTR || errno == EBUSY)
            continue;
        error = errno;
        break;
    }
    fd_close(&fd);
    return error;
}

/* ---- Messages ---- */

/* size_t in glibc, socklen_t in POSIX and musl */
#if defined(__GLIBC__)
typedef size_t control_size;
#else
typedef socklen_t control_size;
#endif

union control {                         /* the kernel's layout wants this alignment */
    struct cmsghdr header;
    unsigned char  room[CMSG_SPACE(FD_MAX * sizeof(int))];
};

/* How the death of the peer shows: as a reset, where it left messages of ours unread. */
static int gone(int error)
{
    return error == EPIPE || error == ECONNRESET || error == ENOTCONN;
}

int fd_send(int socket, const void *message, size_t size, const int *fds, size_t count)
{
    union control control;
    struct iovec bytes = {.iov_base = (void *)(uintptr_t)message, .iov_len = size};
    struct msghdr header = {.msg_iov = &bytes, .msg_iovlen = 1};
    ssize_t sent;

    if (size == 0 || count > FD_MAX)    /* an empty message could not be told from the end */
        return EINVAL;
    if (count) {
        memset(&control, 0, sizeof control);
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = (control_size)CMSG_LEN(count * sizeof *fds);
        memcpy(CMSG_DATA(&control.header), fds, count * sizeof *fds);
        header.msg_control = &control;
        header.msg_controllen = (control_size)CMSG_SPACE(count * sizeof *fds);
    }
    do
        sent = sendmsg(socket, &header, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent < 0)
        return gone(errno) ? EPIPE : errno;
    return (size_t)sent == size ? 0 : EMSGSIZE;
}

/* Receives once more after a reset: that is told once, ahead of the last messages of the peer, which are still there. */
static ssize_t receive(int socket, struct msghdr *header, int flags)
{
    control_size room = header->msg_controllen;
    int resets = 0;
    ssize_t got;

    do {
        header->msg_controllen = room;
        header->msg_flags = 0;
        got = recvmsg(socket, header, MSG_CMSG_CLOEXEC | flags);
    } while (got < 0 && (errno == EINTR || (errno == ECONNRESET && resets++ == 0)));
    return got;
}

/* Takes the descriptors out of a message, the first FD_MAX into fds. Those beyond are closed: the padding of the control
 * buffer may have had room for them. */
static int collect(struct msghdr *header, int fds[FD_MAX])
{
    size_t have = 0, i, n;
    const struct cmsghdr *part = CMSG_FIRSTHDR(header);     /* the only one: nothing else was asked of these sockets */
    int fd, error = 0;

    if (!part || part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
        return 0;
    n = ((size_t)part->cmsg_len - CMSG_LEN(0)) / sizeof fd;
    for (i = 0; i < n; i++) {
        memcpy(&fd, CMSG_DATA(part) + i * sizeof fd, sizeof fd);
        if (have < FD_MAX) {
            fds[have++] = fd;
        } else {
            fd_close(&fd);
            error = EBADMSG;
        }
    }
    return error;
}

static int take(int socket, void *message, size_t size, int fds[FD_MAX], int flags)
{
    union control control;
    struct iovec bytes = {.iov_base = message, .iov_len = size};
    struct msghdr header = {.msg_iov = &bytes, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t got;
    int i, error;

    for (i = 0; i < FD_MAX; i++)
        fds[i] = -1;
    got = receive(socket, &header, flags);
    if (got < 0)
        return gone(errno) ? EPIPE : errno;
    error = collect(&header, fds);
    if (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC))    /* CTRUNC: too many, or no number was left for one of them */
        error = EBADMSG;
    else if (got == 0)
        error = EPIPE;
    else if ((size_t)got != size)
        error = EBADMSG;
    for (i = 0; i < FD_MAX && !error && fds[i] >= 0; i++) {
        error = fd_lift(&fds[i]);
        if (!error)
            error = close_on_exec(fds[i]);
    }
    for (i = 0; i < FD_MAX && error; i++)
        fd_close(&fds[i]);
    return error;
}

int fd_recv(int socket, void *message, size_t size, int fds[FD_MAX])
{
    return take(socket, message, size, fds, 0);
}

int fd_peek(int socket, void *message, size_t size, int fds[FD_MAX])
{
    return take(socket, message, size, fds, MSG_PEEK);
}

/* ---- Waking ---- */

int fd_wake(int fd)
{
    ssize_t n;

    do                                  /* ENOMEM: no page for the pipe just now. Who is not woken sleeps for ever */
        n = write(fd, "", 1);
    while (n < 0 && (errno == EINTR || errno == ENOMEM));
    return n >= 0 || errno == EAGAIN || errno == EWOULDBLOCK ? 0 : errno;
}

/* Bounded, or a task that writes to its pipe without end would keep its reader here for ever; what is left makes poll report
 * the pipe again. The bound is the most that a pipe holds unless an administrator said otherwise. */
int fd_drain(int fd)
{
    char bytes[16384];
    int rounds = (1 << 20) / (int)sizeof bytes + 1;
    ssize_t n;

    while (rounds > 0) {
        n = read(fd, bytes, sizeof bytes);
        if (n == 0)
            return EPIPE;
        if (n > 0)
            rounds--;
        else if (errno == EAGAIN || errno == EWOULDBLOCK)
            return 0;
        else if (errno != EINTR)
            return errno;
    }
    return 0;
}

/* ---- Which file it is ---- */

int fd_identify(int fd, struct fd_identity *identity)
{
    struct stat now;

    if (fstat(fd, &now) < 0)
        return errno;
    identity->device = now.st_dev;
    identity->inode = now.st_ino;
    return 0;
}

int fd_is(int fd, const struct fd_identity *identity)
{
    struct fd_identity now = {0, 0};

    return fd_identify(fd, &now) == 0 && now.device == identity->device && now.inode == identity->inode;
}

/* ---- Closing what is not ours ---- */

static int kept(int fd, const int *keep, size_t count)
{
    size_t i;

    for (i = 0; i < count; i++)
        if (keep[i] == fd)
            return 1;
    return 0;
}

#if defined(SYS_close_range)

/* The gaps between those to keep, lowest first. Finding the next one anew each time needs no sorted copy, hence no memory. */
static int close_gaps(const int *keep, size_t count)
{
    unsigned from = FIRST, next;
    size_t i;

    for (;;) {
        next = UINT_MAX;
        for (i = 0; i < count; i++)
            if (keep[i] >= 0 && (unsigned)keep[i] >= from && (unsigned)keep[i] < next)
                next = (unsigned)keep[i];
        if (next > from && syscall(SYS_close_range, from, next == UINT_MAX ? next : next - 1, 0) < 0)
            return errno;               /* ENOSYS, or what a sandbox says instead */
        if (next == UINT_MAX)
            return 0;
        from = next + 1;
    }
}

#endif

/* The number in a name of the directory, or -1 ("." and ".."). */
static int number(const char *name)
{
    int n = 0;

    if (!*name)
        return -1;
    for (; *name; name++) {
        if (*name < '0' || *name > '9' || n > (INT_MAX - 9) / 10)
            return -1;
        n = n * 10 + (*name - '0');
    }
    return n;
}

#if defined(__linux__)

struct entry {                          /* what getdents64 writes; libc's own wrapper allocates */
    uint64_t       inode;
    int64_t        next;
    unsigned short length;
    unsigned char  type;
    char           name[];
};

/* Closing while listing is sound: a position in this directory is a descriptor's number, so nothing is skipped. */
static int close_listed(const char *path, const int *keep, size_t count)
{
    _Alignas(struct entry) char room[4096];
    const struct entry *entry;
    int self = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd;
    long got, at;

    if (self < 0)
        return errno;
    while ((got = syscall(SYS_getdents64, self, room, sizeof room)) > 0) {
        for (at = 0; at < got; at += entry->length) {
            entry = (const struct entry *)(const void *)(room + at);
            fd = number(entry->name);
            if (fd >= FIRST && fd != self && !kept(fd, keep, count))
                close(fd);
        }
    }
    fd_close(&self);
    return 0;
}

#else

/* Twice, since some systems skip entries when others go meanwhile; the second time over nothing is left but what was skipped. */
static int close_listed(const char *path, const int *keep, size_t count)
{
    struct dirent *entry;
    int fd, round;
    DIR *list = opendir(path);

    if (!list)
        return errno;
    for (round = 0; round < 2; round++, rewinddir(list))
        while ((entry = readdir(list))) {
            fd = number(entry->d_name);
            if (fd >= FIRST && fd != dirfd(list) && !kept(fd, keep, count))
                close(fd);
        }
    closedir(list);
    return 0;
}

#endif

void fd_close_others(const int *keep, size_t count)
{
#if defined(SYS_close_range)
    if (close_gaps(keep, count) == 0)
        return;
#endif
    if (close_listed("/proc/self/fd", keep, count))
        close_listed("/dev/fd", keep, count);   /* without either nothing is closed: untidy, not wrong */
}
