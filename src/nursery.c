/* The host's side of the nursery: sends it orders, hears what became of them, ends it.
 *
 * Runs in the host, in whichever thread turns the loop, under the pool's lock.
 *
 * Invariants: nothing blocks but nursery_open, nursery_greet and nursery_close. What is asked for is a want of its slot, not a queue entry:
 * a birth, or a kill, or a birth and then a kill of the same generation, so that memory is bounded and a full socket loses
 * nothing. A kill of any generation but the one last borne is void at once. Only a child whose pid we know is waited for.
 *
 * The end is said by shutting our direction down: an order could find the socket full, and closing means nothing while other
 * children of the host hold the socket. What is on its way then is void. That the nursery is gone says its pidfd.
 * Hole: a fork by another thread of the host while the nursery is forked holds the nursery's end of the socket, unless it
 * execs; should the nursery be killed, nursery_next gives EPIPE only when that child is gone. */
#define _GNU_SOURCE
#include "nursery.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "clock.h"
#include "fd.h"
#include "nursery_fork.h"
#include "nursery_wire.h"

struct want {                           /* of one slot */
    uint32_t generation;                /* the last that was borne */
    int      birth, kill;               /* asked for and not sent yet */
    int      pipes[FD_MAX];             /* of the birth */
};

struct nursery {
    struct nursery_line line;
    unsigned            slots;
    unsigned            unsent;         /* births and kills in wants */
    int                 retires;        /* to be told that it may leave, when there is a flush: no haste, and its end may come otherwise */
    struct want         wants[];
};

/* ---- Opening ---- */

static struct nursery *make(unsigned slots)
{
    struct nursery *nursery = calloc(1, sizeof *nursery + slots * sizeof nursery->wants[0]);
    unsigned slot;

    if (!nursery)
        return NULL;
    nursery->slots = slots;
    for (slot = 0; slot < slots; slot++)
        nursery->wants[slot].pipes[0] = nursery->wants[slot].pipes[1] = -1;
    return nursery;
}

int nursery_open(struct nursery **nursery, const struct nursery_setup *setup)
{
    struct nursery *fresh = make(setup->slots);
    int error;

    *nursery = NULL;
    if (!fresh)
        return ENOMEM;
    error = nursery_fork(&fresh->line, setup);
    if (error) {
        free(fresh);
        return error;
    }
    *nursery = fresh;
    return 0;
}

int nursery_greet(struct nursery **nursery)
{
    int error = nursery_hear_hello(&(*nursery)->line);

    if (error) {
        nursery_forget(*nursery);
        *nursery = NULL;
    }
    return error;
}

/* ---- Orders ---- */

int nursery_fd(const struct nursery *nursery)
{
    return nursery->line.socket;
}

short nursery_events(const struct nursery *nursery)
{
    return (short)(POLLIN | (nursery->unsent ? POLLOUT : 0));
}

static int say(const struct nursery *nursery, enum nursery_order_kind kind, unsigned slot, uint32_t generation,
               const int *pipes)
{
    struct nursery_order order = {.kind = kind, .slot = slot, .generation = generation};

    return fd_send(nursery->line.socket, &order, sizeof order, pipes, pipes ? FD_MAX : 0);
}

static void drop_birth(struct nursery *nursery, struct want *want)
{
    nursery->unsent -= want->birth != 0;
    want->birth = 0;
    fd_close(&want->pipes[0]);
    fd_close(&want->pipes[1]);
}

static void drop_kill(struct nursery *nursery, struct want *want)
{
    nursery->unsent -= want->kill != 0;
    want->kill = 0;
}

static void drop_all(struct nursery *nursery)
{
    unsigned slot;

    for (slot = 0; slot < nursery->slots; slot++) {
        drop_birth(nursery, &nursery->wants[slot]);
        drop_kill(nursery, &nursery->wants[slot]);
    }
    nursery->retires = 0;
}

void nursery_bear(struct nursery *nursery, unsigned slot, uint32_t generation, int task_pipe, int result_pipe)
{
    struct want *want;

    if (slot >= nursery->slots) {
        fd_close(&task_pipe);
        fd_close(&result_pipe);
        return;
    }
    want = &nursery->wants[slot];
    drop_birth(nursery, want);
    drop_kill(nursery, want);           /* the slot is empty: who was to be killed is dead */
    want->generation = generation;
    want->birth = 1;
    want->pipes[0] = task_pipe;
    want->pipes[1] = result_pipe;
    nursery->unsent++;
}

void nursery_kill(struct nursery *nursery, unsigned slot, uint32_t generation)
{
    struct want *want;

    if (slot >= nursery->slots)
        return;
    want = &nursery->wants[slot];
    if (want->generation != generation || want->kill)
        return;
    want->kill = 1;
    nursery->unsent++;
}

void nursery_retire(struct nursery *nursery)
{
    nursery->retires = 1;
}

/* The wants of one slot, the birth first. */
static int send_wants(struct nursery *nursery, unsigned slot)
{
    struct want *want = &nursery->wants[slot];
    int error;

    if (want->birth) {
        error = say(nursery, ORDER_BIRTH, slot, want->generation, want->pipes);
        if (error)
            return error;
        drop_birth(nursery, want);
    }
    if (want->kill) {
        error = say(nursery, ORDER_KILL, slot, want->generation, NULL);
        if (error)
            return error;
        drop_kill(nursery, want);
    }
    return 0;
}

/* Not now, but later: the socket is full, or too many descriptors of this user are under way, or the kernel is short of memory. */
static int passes(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK || error == ETOOMANYREFS || error == ENOBUFS || error == ENOMEM;
}

static int send_all(struct nursery *nursery)
{
    unsigned slot;
    int error = 0;

    for (slot = 0; slot < nursery->slots && nursery->unsent && !error; slot++)
        error = send_wants(nursery, slot);
    if (error || !nursery->retires)
        return error;
    error = say(nursery, ORDER_RETIRE, 0, 0, NULL);
    nursery->retires = error != 0;
    return error;
}

int nursery_flush(struct nursery *nursery)
{
    int error = send_all(nursery);

    if (!error || passes(error))
        return 0;
    shutdown(nursery->line.socket, SHUT_WR);    /* gone; or the socket is not what it was, and then it shall be gone */
    drop_all(nursery);
    return EPIPE;
}

/* ---- Reports ---- */

int nursery_next(struct nursery *nursery, struct nursery_report *report)
{
    struct nursery_news news;
    int none[FD_MAX], error;

    do {
        error = fd_recv(nursery->line.socket, &news, sizeof news, none);
        fd_close(&none[0]);
        fd_close(&none[1]);
        if (error == EAGAIN || error == EWOULDBLOCK || error == ENOMEM || error == ENOBUFS)
            return EAGAIN;
        if (error && error != EBADMSG)
            return EPIPE;
    } while (error || news.slot >= nursery->slots || news.kind < NURSERY_BORN || news.kind > NURSERY_DEAD);
    report->slot = news.slot;
    report->generation = news.generation;
    report->state = (enum nursery_state)news.kind;
    report->pid = news.pid;
    report->status = news.status;
    return 0;
}

/* ---- Closing ---- */

void nursery_forget(struct nursery *nursery)
{
    if (!nursery)
        return;
    drop_all(nursery);
    fd_close(&nursery->line.socket);
    fd_close(&nursery->line.gone);
    free(nursery);
}

/* Nonzero: it was gone before the deadline. By its pidfd, since the socket's end comes while its memory is still there, or not
 * at all; without one, by the socket. */
static int see_off(struct nursery *nursery, int64_t deadline)
{
    struct pollfd watch[2] = {{.fd = nursery->line.socket, .events = POLLIN},
                              {.fd = nursery->line.gone, .events = POLLIN}};
    struct nursery_report late;
    int error;

    for (;;) {
        error = nursery_next(nursery, &late);
        if (error == 0)
            continue;
        if (error == EPIPE && nursery->line.gone < 0)
            return 1;
        if (error == EPIPE)
            watch[0].fd = -1;           /* poll ignores that */
        watch[1].revents = 0;
        if (poll(watch, 2, clock_poll_ms(deadline)) > 0 && watch[1].revents)
            return 1;
        if (clock_now() >= deadline)
            return 0;
    }
}

void nursery_close(struct nursery *nursery, int64_t deadline)
{
    if (!nursery)
        return;
    shutdown(nursery->line.socket, SHUT_WR);
    if (see_off(nursery, deadline) && nursery->line.child)
        while (waitpid(nursery->line.child, NULL, 0) < 0 && errno == EINTR)
            ;                           /* at most an instant */
}
