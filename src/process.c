/* Processes of the host's own: start, watch, end.
 *
 * Runs in the host, any thread; become() alone in the new child. Forked by the host itself and not by a nursery: it is to have the
 * program as it is now, and is the host's child for all to see.
 *
 * Invariants: only this one process is ever waited for, and by descriptor, so that neither a host that reaps by wait() nor one that
 * ignores SIGCHLD makes us wait for ever or take another's status: what is gone by then has ended, its status unknown. A signal
 * goes by descriptor too. Nothing was started where NULL is returned: the child does not run before it is told to, which the host does when
 * it has got all it needs; should the host fail or die before that, the child leaves.
 *
 * Kernels without pidfds (before 5.3): the pipe by which it is told stays open at both ends, and its end is the child's, though later if
 * that left children of its own. It is then looked at before each waitid() by number; a host that reaps by itself could there be given the
 * status of a newer child of the same number.
 *
 * A page fault costs more than a system call, and a forked child has one for each page that it or its parent touches first: both do
 * little, and write nothing that need not be written, be it errno. With buffers.c, signals.c and -fno-plt that took 1.15 ms instead of 1.5,
 * 14 faults in the child instead of 26. A word in shared memory instead of the pipe was no faster; nor were signals looked at by the
 * parent meanwhile. */
#define _GNU_SOURCE
#include <forkpool.h>

#include "buffers.h"
#include "clock.h"
#include "fd.h"
#include "forks.h"
#include "leave.h"
#include "pidfd.h"
#include "signals.h"
#include "status.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define LINGER 10                       /* milliseconds between two looks at one that has ended and cannot be waited for yet */

struct pool_process {
    pid_t           pid;
    int             fd;                 /* readable once it has ended */
    int             by_number;          /* that is no pidfd */
    unsigned        forks;              /* forks_count of its parent */
    pthread_mutex_t lock;
    int             ended;              /* under lock, as all below; then it was waited for, and its number may be another's */
    int             code;
};

/* The errno that was: not written where it is the same, since after a fork that costs a page. */
static void put_back(int saved)
{
    if (errno != saved)
        errno = saved;
}

/* A handle for one process at a time lies here, where the lock that every fork writes to is as well: that page is the parent's own again
 * when the handle is filled in, while malloc and free write to two more. For a process that does nothing 2.3 ms instead of 2.5, a bare
 * fork, exit and wait taking 2.0 there (medians of 25 interleaved rounds). */
static struct pool_process first;
static atomic_flag first_taken = ATOMIC_FLAG_INIT;

static struct pool_process *new_handle(void)
{
    return atomic_flag_test_and_set(&first_taken) ? malloc(sizeof first) : &first;
}

static void free_handle(struct pool_process *p)
{
    if (p == &first)
        atomic_flag_clear(&first_taken);
    else
        free(p);
}

/* ---- Birth */

/* In the child. */
static noreturn void become(int end, int (*run)(void *), void *arg)
{
    sigset_t none;
    ssize_t n;
    char go;

    signals_default();
    buffers_drop();                     /* what other threads of the host have written since they were flushed is the host's */
    leave_at_exit();
    do
        n = read(end, &go, sizeof go);
    while (n < 0 && errno == EINTR);
    if (n != sizeof go)
        _exit(EXIT_FAILURE);            /* it was not to be */
    sigemptyset(&none);
    pthread_sigmask(SIG_SETMASK, &none, NULL);
    leave(run(arg));
}

/* The child's number, or -1 with errno. */
static pid_t fork_off(const int ends[2], int (*run)(void *), void *arg)
{
    sigset_t all, before;

    buffers_flush();
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);        /* no handler of the host's runs in the child */
    pid_t pid = fork();
    int error = errno;
    if (pid == 0) {
        close(ends[1]);
        become(ends[0], run, arg);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    put_back(error);
    return pid;
}

/* Gets hold of it: 0 or an errno. */
static int open_child(struct pool_process *p)
{
    int error = pidfd_open_pid(p->pid, &p->fd);

    p->by_number = p->fd < 0;
    if (error == ESRCH) {               /* somebody has killed it and the host has reaped it */
        p->ended = 1;
        p->code = POOL_REAPED;
        error = 0;
    }
    if (error)
        return error;
    error = pthread_mutex_init(&p->lock, NULL);
    if (error)
        fd_close(&p->fd);
    return error;
}

/* Lets it begin. Takes over the pipe. */
static void say_go(struct pool_process *p, int ends[2])
{
    fd_wake(ends[1]);                   /* we have the other end as well: no SIGPIPE if it was killed */
    fd_close(&ends[0]);
    if (p->by_number)
        p->fd = ends[1];                /* poll reports an error there as soon as nobody reads, which counts as readable */
    else
        fd_close(&ends[1]);
}

/* It has not begun. */
static void take_back(pid_t pid)
{
    kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
}

/* The handle is made after the fork: the child, for which it is nothing, need not have it. */
static int start(struct pool_process **made, int (*run)(void *), void *arg)
{
    int ends[2], error = forks_watch();

    if (!error)
        error = fd_pipe(ends, 0);
    if (error)
        return error;
    pid_t pid = fork_off(ends, run, arg);
    struct pool_process *p = pid > 0 ? new_handle() : NULL;
    if (p) {
        *p = (struct pool_process){.pid = pid, .forks = forks_count};
        error = open_child(p);
    } else {
        error = pid > 0 ? ENOMEM : errno;
    }
    if (p && !error) {
        say_go(p, ends);
        *made = p;
        return 0;
    }
    if (pid > 0)
        take_back(pid);
    fd_close(&ends[0]);
    fd_close(&ends[1]);
    free_handle(p);
    return error;
}

struct pool_process *pool_process_start(int (*run)(void *arg), void *arg)
{
    struct pool_process *p = NULL;
    char words[256];
    int saved = errno;

    status_clear();
    if (!run)
        return status_null(EINVAL, "the function to run is NULL");
    int error = start(&p, run, arg);
    if (error)
        return status_null(error, "cannot start a process: %s", status_errno(error, words, sizeof words));
    put_back(saved);
    return p;
}

/* ---- Has it ended? */

static int is_ours(const struct pool_process *p)
{
    if (!p)
        status_say(POOL_INVALID, "the process is NULL: pool_process_start says by pool_error() why it started none");
    else if (p->forks != forks_count)
        status_say(POOL_INVALID, "this process is a fork of the one that started that process: only the parent can join or signal it");
    return p && p->forks == forks_count;
}

/* Its descriptor says so. Nonzero until the deadline. */
static int shows_end(const struct pool_process *p, int64_t deadline)
{
    struct pollfd watch = {.fd = p->fd, .events = POLLIN};
    int n;

    do
        n = poll(&watch, 1, clock_poll_ms(deadline));
    while (n < 0 && (errno == EINTR || errno == EAGAIN || errno == ENOMEM));
    return n > 0;
}

static int wait_by_number(const struct pool_process *p, siginfo_t *info)
{
    if (!shows_end(p, 0))
        return 0;
    return waitid(P_PID, (id_t)p->pid, info, WEXITED | WNOHANG) < 0 ? errno : 0;
}

/* Looks, and reaps it where it has. Under lock; never blocks. */
static void settle(struct pool_process *p)
{
    siginfo_t info = {.si_pid = 0};
    int error = p->ended || p->by_number ? EINVAL : pidfd_wait(p->fd, &info, WEXITED | WNOHANG);

    if (p->ended)
        return;
    if (error == EINVAL)
        error = wait_by_number(p, &info);
    if (!error && info.si_pid == 0)
        return;
    p->ended = 1;
    if (error)
        p->code = POOL_REAPED;          /* ECHILD */
    else
        p->code = info.si_code == CLD_EXITED ? info.si_status : -info.si_status;
}

static int ended_by_now(struct pool_process *p)
{
    pthread_mutex_lock(&p->lock);
    settle(p);
    int ended = p->ended;
    pthread_mutex_unlock(&p->lock);
    return ended;
}

pid_t pool_process_pid(const struct pool_process *p)
{
    return p ? p->pid : 0;
}

int pool_process_fd(const struct pool_process *p)
{
    status_clear();
    if (p)
        return p->fd;
    errno = EINVAL;
    is_ours(p);
    return -1;
}

int pool_process_alive(struct pool_process *p)
{
    int saved = errno;

    status_clear();
    int alive = p && (p->forks == forks_count ? !ended_by_now(p) : !shows_end(p, 0));
    put_back(saved);
    return alive;
}

int pool_process_exitcode(struct pool_process *p)
{
    int saved = errno;

    status_clear();
    int code = p && p->forks != forks_count && !shows_end(p, 0) ? POOL_ALIVE : POOL_REAPED;
    if (is_ours(p))
        code = ended_by_now(p) ? p->code : POOL_ALIVE;
    put_back(saved);
    return code;
}

enum pool_status pool_process_join(struct pool_process *p, double seconds)
{
    int saved = errno;

    status_clear();
    if (!is_ours(p))
        return POOL_INVALID;
    if (seconds != seconds)
        return status_say(POOL_INVALID, "the time limit is not a number");
    int64_t deadline = clock_deadline(seconds);
    int ended = ended_by_now(p);
    while (!ended) {
        int shows = shows_end(p, deadline);
        ended = ended_by_now(p);
        if (ended || clock_now() >= deadline)
            break;
        if (shows)                      /* a debugger has it, or it closed all its descriptors, where there is no pidfd */
            poll(NULL, 0, LINGER);
    }
    put_back(saved);
    return ended ? POOL_OK : POOL_PENDING;
}

/* ---- The end */

static void send_signal(struct pool_process *p, int signal)
{
    char words[256];
    int saved = errno;

    status_clear();
    if (!is_ours(p))
        return;
    pthread_mutex_lock(&p->lock);       /* for those without a pidfd: nobody here reaps it meanwhile */
    settle(p);
    int error = p->ended ? ESRCH : p->by_number ? ENOSYS : pidfd_kill(p->fd, signal);
    if (error && error != ESRCH)        /* a sandbox may forbid the new call and not the old one */
        error = kill(p->pid, signal) < 0 ? errno : 0;
    pthread_mutex_unlock(&p->lock);
    if (error && error != ESRCH)
        status_say(POOL_INVALID, "the signal could not be sent: %s", status_errno(error, words, sizeof words));
    put_back(saved);
}

void pool_process_terminate(struct pool_process *p)
{
    send_signal(p, SIGTERM);
}

void pool_process_kill(struct pool_process *p)
{
    send_signal(p, SIGKILL);
}

void pool_process_free(struct pool_process *p)
{
    int saved = errno;

    status_clear();
    if (!p)
        return;
    if (p->forks == forks_count) {
        ended_by_now(p);
        pthread_mutex_destroy(&p->lock);
    }
    fd_close(&p->fd);
    free_handle(p);
    put_back(saved);
}
