/* A spare: a child of the nursery that is no worker yet.
 *
 * Forked once a pool has replaced a worker: where one has died or had its day, more will, and then the fork, the dearest part of a
 * birth, is behind us. From the kill of a worker to the next item of its index: 2.1 ms instead of 4.1 with one kill each 5 ms, 3.5
 * instead of 3.8 with one each 2 ms, where the spare is often not there yet and is being forked when it is wanted (medians of 5
 * interleaved rounds, two CPUs, a bare fork, exit and wait 1 ms). Pools that lose nobody have none. It is a fork of the same memory
 * as all workers, and has run nothing but `arrive` when it is told which worker it is; by a socket, since its pipes come with that.
 * All signals are blocked until then.
 *
 * Runs in the nursery, but for await(). Allocates nothing. The nursery alone reaps it: a pid that is kept here is still that child. */
#define _GNU_SOURCE
#include "spare.h"

#include <errno.h>
#include <poll.h>
#include <stdnoreturn.h>
#include <unistd.h>

#include "nursery_wire.h"

/* In the spare. The line's end means that it is not wanted any more. */
static noreturn void await(int line, const struct newborn *newborn)
{
    struct pollfd watch = {.fd = line, .events = POLLIN};
    struct nursery_order order;
    int pipes[FD_MAX], error;

    newborn->arrive(newborn->context);
    do {
        while (poll(&watch, 1, -1) < 0)
            if (errno != EINTR && errno != EAGAIN)
                _exit(0);
        error = fd_recv(line, &order, sizeof order, pipes);
    } while (error == EAGAIN || error == EWOULDBLOCK);
    if (!error) {
        fd_close(&line);
        newborn->live(newborn->context, order.slot, order.generation, pipes);
    }
    _exit(0);
}

void spare_bear(struct spare *spare, const struct newborn *newborn)
{
    int ends[2];
    pid_t pid;

    if (spare->pid || fd_socketpair(ends))
        return;
    pid = fork();
    if (pid == 0) {
        setpgid(0, 0);
        fd_close(&ends[0]);
        await(ends[1], newborn);
    }
    fd_close(&ends[1]);
    if (pid < 0) {
        fd_close(&ends[0]);
        return;
    }
    setpgid(pid, pid);                  /* there as here, like any worker */
    spare->pid = pid;
    spare->line = ends[0];
}

pid_t spare_send(struct spare *spare, unsigned slot, uint32_t generation, const int pipes[FD_MAX])
{
    struct nursery_order order = {.kind = ORDER_BIRTH, .slot = slot, .generation = generation};
    pid_t pid = spare->pid;

    if (!pid || fd_send(spare->line, &order, sizeof order, pipes, FD_MAX))
        return 0;
    fd_close(&spare->line);             /* what was sent is still read */
    spare->pid = 0;
    return pid;
}

void spare_mourn(struct spare *spare)
{
    fd_close(&spare->line);
    spare->pid = 0;
}
