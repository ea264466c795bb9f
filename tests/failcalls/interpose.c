/* An object for LD_PRELOAD that stands before libc and makes the n-th call of one kind fail: see interpose.h.
 *
 * Counts lie in shared memory, one for each side: the order says which side's calls are meant, and both workers count together. Nothing is
 * counted before the subject arms, so that the dynamic loader, libc's own start and the subject's are left alone. What is ordered never
 * happens: a call that fails is not made at all, but for a short one, which is made for one byte.
 *
 * The heap goes to libc's own entries (__libc_malloc), which need no looking up; dlsym itself allocates. */
#define _GNU_SOURCE
#include "interpose.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#if !defined(SYS_pidfd_open)
#define SYS_pidfd_open 434
#endif
#if !defined(SYS_pidfd_send_signal)
#define SYS_pidfd_send_signal 424
#endif
#if !defined(SYS_close_range)
#define SYS_close_range 436
#endif

/* ---- What is behind: looked up once, before the subject arms */

#define REALS(X) \
    X(fork) X(mmap) X(munmap) X(pipe2) X(pipe) X(socketpair) X(sendmsg) X(recvmsg) X(poll) X(ppoll) X(read) X(write) X(fcntl) X(open) \
    X(dup2) X(waitpid) X(waitid) X(setsid) X(setpgid) X(syscall) X(fstat) X(pthread_create) X(pthread_mutex_init) \
    X(pthread_cond_init) X(sigwaitinfo) X(pread) X(fallocate)

#define DECLARE(name) static __typeof__(name) *real_##name;
REALS(DECLARE)

__attribute__((constructor)) static void look_up(void)
{
#define LOOK_UP(name) *(void **)(void *)&real_##name = dlsym(RTLD_NEXT, #name);
    REALS(LOOK_UP)
}

struct shared { atomic_long calls, failed; };

static struct failcalls_order order;
static char kind[32];
static struct shared *shared;           /* NULL: not armed */
static int depth;                       /* forks since arming */
static atomic_long blocks, mapped;

/* Is this call one of those that shall fail? Then it is with *error. */
static int strikes(const char *name, int *error)
{
    int side = depth == 0 ? SIDE_HOST : depth <= 2 ? SIDE_NURSERY : SIDE_WORKER;
    if (!shared || side != order.side || strcmp(name, kind) != 0)
        return 0;
    long n = atomic_fetch_add(&shared->calls, 1) + 1;
    if (n < order.first || n > order.last)
        return 0;
    atomic_fetch_add(&shared->failed, 1);
    *error = order.error;
    return 1;
}

static int fails(const char *name)
{
    int error;
    if (!strikes(name, &error))
        return 0;
    errno = error;
    return 1;
}

#define SYMBOL __attribute__((visibility("default")))

SYMBOL void failcalls_arm(const struct failcalls_order *what);
SYMBOL long failcalls_disarm(void);
SYMBOL void failcalls_balance(struct failcalls_balance *balance);

void failcalls_arm(const struct failcalls_order *what)
{
    void *page = real_mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    order = *what;
    strncpy(kind, what->kind, sizeof kind - 1);
    depth = 0;
    blocks = mapped = 0;
    shared = page == MAP_FAILED ? NULL : page;
}

long failcalls_disarm(void)
{
    long failed = shared ? atomic_load(&shared->failed) : 0;
    shared = NULL;
    return failed;
}

void failcalls_balance(struct failcalls_balance *balance)
{
    *balance = (struct failcalls_balance){atomic_load(&blocks), atomic_load(&mapped)};
}

/* ---- The heap. Not failing for size 0: NULL is a success there. */

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

static void *counted(void *block)
{
    if (block && depth == 0)
        blocks++;
    return block;
}

SYMBOL void *malloc(size_t size)
{
    return fails("malloc") ? NULL : counted(__libc_malloc(size));
}

SYMBOL void *calloc(size_t count, size_t size)
{
    return fails("calloc") ? NULL : counted(__libc_calloc(count, size));
}

SYMBOL void *realloc(void *block, size_t size)
{
    if (fails("realloc"))
        return NULL;
    void *more = __libc_realloc(block, size);
    return block ? more : counted(more);
}

SYMBOL void *aligned_alloc(size_t align, size_t size)
{
    return fails("aligned_alloc") ? NULL : counted(__libc_memalign(align, size));
}

SYMBOL int posix_memalign(void **block, size_t align, size_t size)
{
    if (fails("posix_memalign"))
        return ENOMEM;
    *block = counted(__libc_memalign(align, size));
    return *block ? 0 : ENOMEM;
}

SYMBOL void free(void *block)
{
    if (block && depth == 0)
        blocks--;
    __libc_free(block);
}

/* ---- The rest */

SYMBOL pid_t fork(void)
{
    if (fails("fork"))
        return -1;
    pid_t pid = real_fork();
    if (pid == 0)
        depth++;
    return pid;
}

/* A fork as well: nothing of ours could run on both sides of a vfork, and the library relies on no shared memory there. */
SYMBOL pid_t vfork(void)
{
    return fork();
}

SYMBOL void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    if (fails("mmap"))
        return MAP_FAILED;
    void *map = real_mmap ? real_mmap(at, size, protection, flags, fd, offset)
                          : (void *)syscall(SYS_mmap, at, size, (long)protection, (long)flags, (long)fd, (long)offset);
    if (map != MAP_FAILED && depth == 0)
        mapped += (long)size;
    return map;
}

SYMBOL int munmap(void *at, size_t size)
{
    if (fails("munmap"))
        return -1;
    int r = real_munmap(at, size);
    if (!r && depth == 0)
        mapped -= (long)size;
    return r;
}

SYMBOL int pipe2(int ends[2], int flags)
{
    return fails("pipe2") ? -1 : real_pipe2(ends, flags);
}

SYMBOL int pipe(int ends[2])
{
    return fails("pipe") ? -1 : real_pipe(ends);
}

SYMBOL int socketpair(int domain, int type, int protocol, int ends[2])
{
    return fails("socketpair") ? -1 : real_socketpair(domain, type, protocol, ends);
}

SYMBOL ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    return fails("sendmsg") ? -1 : real_sendmsg(fd, message, flags);
}

SYMBOL ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    return fails("recvmsg") ? -1 : real_recvmsg(fd, message, flags);
}

SYMBOL int poll(struct pollfd *polls, nfds_t count, int timeout)
{
    return fails("poll") ? -1 : real_poll(polls, count, timeout);
}

SYMBOL int ppoll(struct pollfd *polls, nfds_t count, const struct timespec *timeout, const sigset_t *mask)
{
    return fails("ppoll") ? -1 : real_ppoll(polls, count, timeout, mask);
}

SYMBOL ssize_t read(int fd, void *to, size_t size)
{
    int error = 0;
    if (strikes("read", &error)) {
        errno = error;
        if (error != FAILCALLS_SHORT)
            return -1;
        size = size ? 1 : 0;
    }
    return real_read(fd, to, size);
}

SYMBOL ssize_t write(int fd, const void *from, size_t size)
{
    int error = 0;
    if (strikes("write", &error)) {
        errno = error;
        if (error != FAILCALLS_SHORT)
            return -1;
        size = size ? 1 : 0;
    }
    return real_write(fd, from, size);
}

SYMBOL ssize_t pread(int fd, void *to, size_t size, off_t offset)
{
    int error = 0;
    if (strikes("pread", &error)) {
        errno = error;
        if (error != FAILCALLS_SHORT)
            return -1;
        size = size ? 1 : 0;
    }
    return real_pread(fd, to, size, offset);
}

SYMBOL int fallocate(int fd, int mode, off_t offset, off_t size)
{
    return fails("fallocate") ? -1 : real_fallocate(fd, mode, offset, size);
}

SYMBOL int fcntl(int fd, int command, ...)
{
    va_list list;
    va_start(list, command);
    void *argument = va_arg(list, void *);
    va_end(list);
    int duplicates = command == F_DUPFD || command == F_DUPFD_CLOEXEC;
    return duplicates && fails("fcntl") ? -1 : real_fcntl(fd, command, argument);
}

SYMBOL int open(const char *path, int flags, ...)
{
    va_list list;
    va_start(list, flags);
    unsigned mode = va_arg(list, unsigned);
    va_end(list);
    return fails("open") ? -1 : real_open(path, flags, mode);
}

SYMBOL int dup2(int from, int to)
{
    return fails("dup2") ? -1 : real_dup2(from, to);
}

SYMBOL pid_t waitpid(pid_t pid, int *status, int options)
{
    return fails("waitpid") ? -1 : real_waitpid(pid, status, options);
}

SYMBOL int waitid(idtype_t type, id_t id, siginfo_t *info, int options)
{
    return fails("waitid") ? -1 : real_waitid(type, id, info, options);
}

SYMBOL int sigwaitinfo(const sigset_t *set, siginfo_t *info)
{
    return fails("sigwaitinfo") ? -1 : real_sigwaitinfo(set, info);
}

SYMBOL pid_t setsid(void)
{
    return fails("setsid") ? -1 : real_setsid();
}

SYMBOL int setpgid(pid_t pid, pid_t group)
{
    return fails("setpgid") ? -1 : real_setpgid(pid, group);
}

SYMBOL int fstat(int fd, struct stat *stat)
{
    return fails("fstat") ? -1 : real_fstat(fd, stat);
}

SYMBOL long syscall(long number, ...)
{
    long a[6];
    va_list list;
    va_start(list, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(list, long);
    va_end(list);
    static const struct { long number; const char *name; } by_number[] = {
        {SYS_pidfd_open, "pidfd_open"}, {SYS_pidfd_send_signal, "pidfd_send_signal"},
        {SYS_close_range, "close_range"}, {SYS_memfd_create, "memfd_create"},
    };
    for (size_t i = 0; i < sizeof by_number / sizeof *by_number; i++)
        if (number == by_number[i].number && fails(by_number[i].name))
            return -1;
    return real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* These return their error. */

SYMBOL int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument)
{
    int error;
    if (strikes("pthread_create", &error))
        return error;
    return real_pthread_create(thread, attributes, start, argument);
}

SYMBOL int pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attributes)
{
    int error;
    if (strikes("pthread_mutex_init", &error))
        return error;
    return real_pthread_mutex_init(mutex, attributes);
}

SYMBOL int pthread_cond_init(pthread_cond_t *condition, const pthread_condattr_t *attributes)
{
    int error;
    if (strikes("pthread_cond_init", &error))
        return error;
    return real_pthread_cond_init(condition, attributes);
}
