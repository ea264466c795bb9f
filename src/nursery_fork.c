/* Forking the nursery off the host.
 *
 * Runs in the host, in the thread that opens the pool, and for an instant in the process forked in between.
 *
 * Invariants: the mask of this thread is blocked around the fork alone, so that no handler of the host's runs in a child;
 * signal dispositions are never looked at; the only children waited for are those whose pids are known. When it fails, no
 * process and no descriptor is left.
 *
 * Forked twice, so that the host's wait() and SIGCHLD handler do not see the nursery. The one in between is gone and reaped
 * before the nursery is told to GO, so that it can tell whether it has come to the host after all (PID 1, or a subreaper).
 * The first of the two forks is a vfork where there is one that may fork: the process in between runs on the host's own memory, in
 * the place of this thread, so that the page tables are copied once and not twice: pool_create for 2 workers took 6.0 ms instead of
 * 6.8, with 1 GiB touched 39 instead of 55 (medians of 5 and 3 interleaved rounds; a bare fork, exit and wait: 1 and 23). fork() there
 * does for the thread what it would do in it: the same handlers, once; the same locks, let go of again.
 * Hole: whoever kills that process alone while it is in fork() leaves libc's locks taken in the host.
 * The nursery itself is forked: it is to keep the program's state, and nothing is executed. */
#define _GNU_SOURCE
#include "nursery_fork.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdnoreturn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "buffers.h"
#include "fd.h"
#include "nursery_child.h"
#include "nursery_wire.h"
#include "pidfd.h"

#if defined(__linux__)
#define fork_in_between vfork           /* POSIX allows no call after it but _exit or exec, Linux any */
#else
#define fork_in_between fork
#endif

/* In the process forked in between: the second fork. */
static noreturn void pass_on(struct nursery_child *child, int hosts_end)
{
    pid_t pid = fork();

    if (pid == 0)
        nursery_child_run(child, hosts_end);
    if (pid < 0)
        nursery_child_stillborn(child, errno);
    _exit(0);
}

/* 0, or the errno of the first fork; what became of the second is told on the socket. */
static int fork_twice(struct nursery_child *child, int hosts_end)
{
    sigset_t all, before;
    pid_t between;
    int error;

    buffers_flush();
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);        /* no handler of the host's runs in a child */
    between = fork_in_between();        /* NOLINT(clang-analyzer-security.insecureAPI.vfork) */
    if (between == 0)                   /* in a function of its own, since this frame is the host's, too */
        pass_on(child, hosts_end);      /* NOLINT(clang-analyzer-unix.Vfork) */
    error = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (between < 0)
        return error;
    while (waitpid(between, NULL, 0) < 0 && errno == EINTR)
        ;                               /* ECHILD: the host ignores SIGCHLD or another thread waited; it is gone as well */
    return 0;
}

/* The nursery's first words. */
static int hear_hello(struct nursery_line *line)
{
    struct pollfd watch = {.fd = line->socket, .events = POLLIN};
    struct nursery_news news;
    int fds[FD_MAX], error;

    do {
        while (poll(&watch, 1, -1) < 0)
            if (errno != EINTR && errno != EAGAIN)
                return errno;
        memset(&news, 0, sizeof news);
        error = fd_recv(line->socket, &news, sizeof news, fds);
    } while (error == EAGAIN || error == EWOULDBLOCK);
    if (news.kind != NEWS_HELLO)
        return EIO;                     /* it died without a word */
    line->gone = fds[0];
    if (news.slot && news.pid > 0)
        line->child = news.pid;
    return error == EBADMSG ? EMFILE : news.status;     /* EBADMSG: no number was left for the pidfd */
}

static int say_go(const struct nursery_line *line)
{
    struct nursery_order go = {.kind = ORDER_GO};
    int error = fd_send(line->socket, &go, sizeof go, NULL, 0);

    return error == EPIPE ? 0 : error;  /* it is gone already, and may have said why */
}

static int start(struct nursery_line *line, const struct nursery_setup *setup)
{
    int ends[2] = {-1, -1}, self = -1, error = fd_socketpair(ends);
    struct nursery_child *child = NULL;

    if (error)
        return error;
    line->socket = ends[0];
    error = pidfd_open_pid(getpid(), &self);            /* our own, so the pid cannot be somebody else's by now */
    if (!error) {
        child = nursery_child_create(setup, ends[1], self);
        error = child ? fork_twice(child, ends[0]) : ENOMEM;
    }
    nursery_child_destroy(child);
    fd_close(&self);
    fd_close(&ends[1]);                 /* before listening: its end must show */
    return error ? error : say_go(line);
}

static void give_up(struct nursery_line *line)
{
    fd_close(&line->socket);            /* by which it leaves, wherever it is */
    fd_close(&line->gone);
    while (line->child && waitpid(line->child, NULL, 0) < 0 && errno == EINTR)
        ;                               /* ECHILD, where the host ignores SIGCHLD: it is gone as well */
}

int nursery_fork(struct nursery_line *line, const struct nursery_setup *setup)
{
    int error;

    line->socket = line->gone = -1;
    line->child = 0;
    error = start(line, setup);
    if (error)
        give_up(line);
    return error;
}

int nursery_hear_hello(struct nursery_line *line)
{
    int error = hear_hello(line);

    if (error)
        give_up(line);
    return error;
}
