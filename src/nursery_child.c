/* The nursery process: how it settles in, what it listens to, and how it ends all that is below it.
 *
 * Runs in the nursery, single-threaded, from the fork in nursery_open until the host is gone or wants no more; arrive() and live() alone
 * run in each new worker. Allocates nothing, takes no lock and uses no stdio: the host may have had threads.
 *
 * Invariants: all signals are blocked but SIGCHLD during ppoll, so nothing that is sent to it ends it but SIGKILL. It keeps
 * no worker's pipe, and no worker keeps its socket. All below it is gone before it is.
 *
 * Not forked by the host itself, worker by worker: that would copy a host with threads in any state, show the children to
 * the host's wait(), and leave nobody to kill them when the host is killed. A pidfd of the host and not the socket's end
 * alone tells that it is gone, since its other children may hold the socket; where there is no pidfd, one look every
 * 250 ms does. That look takes a zombie, or a stranger with the host's pid, for the host: there only the socket's end tells. */
#define _GNU_SOURCE
#include "nursery_child.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/prctl.h>
#endif

#include "buffers.h"
#include "cpu_place.h"
#include "cradle.h"
#include "descendants.h"
#include "fd.h"
#include "nursery_wire.h"
#include "pidfd.h"
#include "signals.h"

#define ORDERS 16                       /* obeyed in a row before anything is told: births, of which a host that waits knows nothing */

struct nursery_child {
    struct nursery_setup setup;
    int                  socket, host;  /* host: a pidfd, or -1 */
    pid_t                host_pid, pid;
    int                  asked;         /* to say hello, and it was not said yet */
    int                  retired;       /* no more births will come */
    struct cradles      *cradles;
    struct newborn       newborn;
    int                 *keep;          /* descriptors, where the others are to be closed */
};

/* ---- In the host, before the fork ---- */

static void arrive(void *nursery);
static void live(void *nursery, unsigned slot, uint32_t generation, const int pipes[FD_MAX]);

struct nursery_child *nursery_child_create(const struct nursery_setup *setup, int socket, int host)
{
    struct nursery_child *child = calloc(1, sizeof *child);

    if (!child)
        return NULL;
    child->cradles = cradles_create(setup->slots);
    child->keep = calloc(setup->pass_fds_count + 2, sizeof *child->keep);
    if (!child->cradles || !child->keep) {
        nursery_child_destroy(child);
        return NULL;
    }
    child->setup = *setup;
    child->newborn = (struct newborn){arrive, live, child};
    child->socket = socket;
    child->host = host;
    child->host_pid = getpid();
    return child;
}

void nursery_child_destroy(struct nursery_child *child)
{
    if (!child)
        return;
    cradles_destroy(child->cradles);
    free(child->keep);
    free(child);
}

/* ---- Settling in ---- */

static int greet(const struct nursery_child *child, pid_t pid, int error, int self)
{
    struct nursery_news news = {.kind = NEWS_HELLO, .slot = getppid() == child->host_pid, .pid = pid, .status = error};

    return fd_send(child->socket, &news, sizeof news, &self, self >= 0);
}

void nursery_child_stillborn(const struct nursery_child *child, int error)
{
    greet(child, 0, error, -1);
}

/* For ps and top: it otherwise looks like the host. `name`: on the stack, since a constant lies on a page that has to be faulted in. */
static void rename_self(const char *name)
{
#if defined(PR_SET_NAME)
    prctl(PR_SET_NAME, name);
#else
    (void)name;
#endif
}

static void nod(int signal)             /* SIGCHLD only has to interrupt ppoll */
{
    (void)signal;
}

static void reset_signals(void)
{
    struct sigaction action;

    signals_default();
    memset(&action, 0, sizeof action);
    sigemptyset(&action.sa_mask);
    action.sa_handler = nod;            /* ignored, as the host may have it, would reap the workers before we do */
    action.sa_flags = SA_NOCLDSTOP;
    sigaction(SIGCHLD, &action, NULL);
}

static void close_inherited(const struct nursery_child *child)
{
    size_t count = child->setup.pass_fds_count;

    if (count)
        memcpy(child->keep, child->setup.pass_fds, count * sizeof *child->keep);
    child->keep[count] = child->socket;
    child->keep[count + 1] = child->host;       /* -1 is no descriptor */
    fd_close_others(child->keep, count + 2);
}

/* 0, or an errno: the nursery cannot be used. */
static int settle(struct nursery_child *child, int hosts_end)
{
    const char name[] = "pool-nursery";

    setsid();                           /* first: from here no terminal signal reaches us */
#if defined(PR_SET_CHILD_SUBREAPER)
    prctl(PR_SET_CHILD_SUBREAPER, 1L, 0L, 0L, 0L);      /* fails before Linux 3.4: what leaves its worker's group escapes there */
#endif
    reset_signals();
    rename_self(name);
    child->pid = getpid();
    fd_close(&hosts_end);
    if (child->setup.settle_in)
        child->setup.settle_in(child->setup.context);
    __fpurge(stdin);                    /* what the host had read or written and not passed on is the host's */
    buffers_drop();
    if (child->setup.close_fds)
        close_inherited(child);
    return fd_null_stdin();
}

/* ---- Orders ---- */

/* In the new worker. */
static void arrive(void *nursery)
{
    struct nursery_child *child = nursery;
    const char name[] = "pool-worker";

#if defined(PR_SET_PDEATHSIG)
    prctl(PR_SET_PDEATHSIG, (long)SIGKILL);     /* should the nursery itself be killed */
#endif
    if (getppid() != child->pid)        /* it was, before that took effect */
        _exit(0);
    fd_close(&child->socket);           /* or the host would not see the nursery's end */
    fd_close(&child->host);
    signal(SIGCHLD, SIG_DFL);
    rename_self(name);
}

static void live(void *nursery, unsigned slot, uint32_t generation, const int pipes[FD_MAX])
{
    struct nursery_child *child = nursery;

    child->setup.birth(child->setup.context, slot, generation, pipes[0], pipes[1]);
}

/* The answer to GO, and nothing else before it: until then the one forked in between may be our parent. */
static int say_hello(const struct nursery_child *child)
{
    int self, error = pidfd_open_pid(getpid(), &self), unsaid = greet(child, child->pid, error, self);

    fd_close(&self);
    return error ? error : unsaid;
}

/* What makes no sense is not from our host's hand: ignored. */
static void obey(struct nursery_child *child, const struct nursery_order *order, const int pipes[FD_MAX])
{
    child->asked |= order->kind == ORDER_GO;
    if (order->kind == ORDER_BIRTH)
        cradles_bear(child->cradles, order->slot, order->generation, pipes, &child->newborn);
    if (order->kind == ORDER_KILL)
        cradles_kill(child->cradles, order->slot, order->generation);
    child->retired |= order->kind == ORDER_RETIRE;
}

/* One order, no more: a birth takes as long as a fork, and the host's end must not wait behind all that are queued. Nonzero: there
 * will be no more. */
static int listen_up(struct nursery_child *child)
{
    struct nursery_order order;
    int pipes[FD_MAX], error;

    memset(&order, 0, sizeof order);            /* kind 0 if nothing is received into it */
    error = fd_recv(child->socket, &order, sizeof order, pipes);
    if (error == EAGAIN || error == EWOULDBLOCK)
        return 0;
    if (error && error != EBADMSG)              /* EBADMSG: the order may be whole but for its descriptors, see cradles_bear */
        return 1;
    obey(child, &order, pipes);
    fd_close(&pipes[0]);
    fd_close(&pipes[1]);
    return 0;
}

/* ---- The loop ---- */

static int owes(const struct nursery_child *child)
{
    return child->asked || cradles_owe(child->cradles);
}

/* Nonzero: the host is out of reach. */
static int tell(struct nursery_child *child)
{
    if (child->asked && say_hello(child))
        return 1;
    child->asked = 0;
    cradles_tell(child->cradles, child->socket);
    return 0;
}

static int host_is_gone(const struct nursery_child *child, const struct pollfd watch[2])
{
    if (child->host >= 0)
        return watch[1].revents != 0;
    return kill(child->host_pid, 0) < 0 && errno == ESRCH;
}

/* Until the host is gone or wants no more, or all it wanted is over. Orders that it sent before it said so are void. Orders that are
 * there go before telling, up to a bound, so that the host is woken once, while the first workers begin, and not from each fork. */
static void serve(struct nursery_child *child)
{
    static const struct timespec look = {.tv_nsec = 250000000};
    struct pollfd watch[2] = {{.fd = child->socket}, {.fd = child->host, .events = POLLIN}};
    sigset_t deaf;
    unsigned untold = 0;                /* orders obeyed since */

    sigfillset(&deaf);
    sigdelset(&deaf, SIGCHLD);
    for (;;) {
        cradles_reap(child->cradles);   /* each time, not after EINTR only: a ready descriptor goes before a signal in ppoll */
        if (child->retired && cradles_are_empty(child->cradles))
            return;
        if (!owes(child))
            cradles_prepare(child->cradles, &child->newborn);
        watch[0].events = (short)(POLLIN | POLLRDHUP | (owes(child) ? POLLOUT : 0));
        watch[0].revents = watch[1].revents = 0;
        if (ppoll(watch, 2, child->host < 0 ? &look : NULL, &deaf) < 0 && errno != EINTR && errno != EAGAIN)
            return;
        if (host_is_gone(child, watch) || watch[0].revents & (POLLHUP | POLLRDHUP | POLLERR | POLLNVAL))
            return;
        int ordered = watch[0].revents & POLLIN;
        if (ordered && listen_up(child))
            return;
        untold = ordered ? untold + 1 : 0;
        if (untold % ORDERS == 0 && tell(child))
            return;
    }
}

/* ---- The end ---- */

/* Kills until no child is left. The wait cannot miss anybody: whoever is struck is alive, or died since the last reaping so that
 * the signal of it is still to come; each death is followed by another look; and whoever comes to us later comes by the death of
 * one who was struck. Ends where none of the children can be signalled, or, without /proc, where no worker is among
 * them; waits on for one that the kernel cannot let go of yet. */
static void clear_out(struct nursery_child *child)
{
    sigset_t deaths;
    int struck;

    fd_close(&child->host);             /* leaves a number for reading /proc, should there be no other */
    sigemptyset(&deaths);
    sigaddset(&deaths, SIGCHLD);
    cradles_kill_all(child->cradles);   /* at once, before anything is read */
    while (cradles_reap(child->cradles)) {
        struck = descendants_kill();
        if (struck < 0)
            struck = cradles_kill_all(child->cradles);
        if (struck == 0)
            return;
        sigwaitinfo(&deaths, NULL);
    }
}

/* Waits to be asked how it went: before GO, who our parent will be is not known. */
static void refuse(struct nursery_child *child, int error)
{
    struct pollfd watch[2] = {{.fd = child->socket, .events = POLLIN}, {.fd = child->host, .events = POLLIN}};
    struct nursery_order go;
    int fds[FD_MAX];

    while (poll(watch, 2, -1) < 0 && errno == EINTR)
        ;
    fd_recv(child->socket, &go, sizeof go, fds);
    greet(child, child->pid, error, -1);
}

noreturn void nursery_child_run(struct nursery_child *child, int hosts_end)
{
    cpu_track();
    int error = settle(child, hosts_end);

    if (error) {
        refuse(child, error);
    } else {
        serve(child);
        clear_out(child);
    }
    shutdown(child->socket, SHUT_RDWR); /* closing is not enough where another child of the host has this end */
    _exit(0);
}
