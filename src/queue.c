/* Queues between processes: made, waited at, ended; queue_put.c and queue_get.c do the rest.
 *
 * Runs in every process that has the queue, any thread. A queue is a ring in shared memory (queue_ring.c) between two locks that the
 * death of their holder gives up (robust.c), one for those who put and one for those who get; what is too large for it travels beside it
 * (queue_beside.c). It is made before the forks, and each process has it by inheritance.
 *
 * Not a socket with whole messages, which would keep every promise by itself: two system calls and a wake-up for each item made that
 * 330,000 items a second and 31 microseconds a round trip, measured, no more than twice a locked pipe. In the ring an item is there at one
 * store; whoever is killed before has put nothing, whoever is killed after has put it. A getter that is killed after it took an item, and
 * before its caller had it, takes that item along.
 *
 * Waiting. Each side spins a little, then sleeps in poll() on a pipe of its own, the bell, which holds a byte (`rung`) unless somebody
 * sleeps or is about to. The other side makes sure of the byte and only then commits, both under its lock. A sleeper takes
 * the byte away under that same lock, having seen there that it would wait for nothing else. So whoever is killed at whatever point
 * leaves a byte too many, never one too few: that costs a look. While both sides are busy no system call is made at all.
 * All sleepers wake at a byte, and not one, which could be killed just then.
 *
 * The end. The write end of the bell of those who get is held by every process that may put: the kernel tells when the last one has closed
 * it or died, and no kill can make it lie. It is closed under the lock of those who put, so that nothing is committed after it. Who sees
 * the end looks once more whether the ring is empty. */
#define _GNU_SOURCE
#include "queue.h"

#include "clock.h"
#include "cpu_place.h"
#include "fd.h"
#include "forks.h"
#include "status.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>

/* Nanoseconds. More than twice what it takes to wake the other side: else two that answer each other, once they sleep, would each give
 * up just before the answer of the other one, who had to be woken for it, and sleep for ever after. */
#define SPIN_FOR 100000

/* ---- Made and freed ---- */

static int open_ends(struct pool_queue *q)
{
    int error = fd_pipe(&q->ends[ITEMS_OUT], 1);

    if (!error)
        error = fd_pipe(&q->ends[ROOM_OUT], 1);
    if (!error)
        error = fd_socketpair(&q->ends[BESIDE_OUT]);
    for (int i = 0; i < ENDS && !error; i++)
        error = fd_identify(q->ends[i], &q->files[i]);
    return error;
}

static void let_go(struct pool_queue *q)
{
    for (int i = 0; i < ENDS; i++)
        fd_close(&q->ends[i]);
    if (q->ring)
        ring_unmap(q->ring);
    queue_items_free(&q->items);
    free(q);
}

struct pool_queue *pool_queue_create(size_t capacity)
{
    char words[256];
    int saved = errno, error = forks_watch();

    status_clear();
    struct pool_queue *q = error ? NULL : calloc(1, sizeof *q);
    if (!q)
        return status_null(error ? error : ENOMEM, "no memory for a queue");
    for (int i = 0; i < ENDS; i++)
        q->ends[i] = -1;
    atomic_store(&q->forks, forks_count);
    q->no_spin = cpu_affinity() < 2;
    error = ring_create(capacity, &q->ring);
    if (!error)
        error = open_ends(q);
    if (error) {
        let_go(q);
        return status_null(error, "cannot make a queue: %s", status_errno(error, words, sizeof words));
    }
    if (q->ring->capacity < capacity)
        status_say(POOL_OK, "the queue holds %zu bytes and not %zu: the system allows no more", q->ring->capacity, capacity);
    errno = saved;
    return q;
}

void pool_queue_free(struct pool_queue *q)
{
    status_clear();
    if (q)
        let_go(q);
}

size_t pool_queue_capacity(const struct pool_queue *q)
{
    return q ? q->ring->capacity : 0;
}

/* ---- What all calls check ---- */

/* In a process that was forked since: did it keep what it inherited? A pool with close_fds closes it in its workers. */
static int has_ends(struct pool_queue *q)
{
    for (int i = 0; i < ENDS; i++)
        if (q->ends[i] >= 0 && !fd_is(q->ends[i], &q->files[i]))
            return 0;
    atomic_store(&q->forks, forks_count);
    return 1;
}

enum pool_status queue_enter(struct pool_queue *q, double seconds)
{
    status_clear();
    if (!q)
        return status_say(POOL_INVALID, "the queue is NULL: pool_queue_create says by pool_error() why it made none");
    if (seconds != seconds)
        return status_say(POOL_INVALID, "the time limit is not a number");
    if (atomic_load_explicit(&q->forks, memory_order_relaxed) != forks_count && !has_ends(q))
        return status_say(POOL_INVALID, "this process has closed the queue's descriptors, as a pool with close_fds does: it cannot use it");
    return POOL_OK;
}

enum pool_status queue_conclude(int error, const char *what)
{
    char words[256];

    switch (error) {
    case 0:
        return POOL_OK;
    case EAGAIN:
    case ETIMEDOUT:
        return POOL_PENDING;
    case EBADF:
    case EBADMSG:
    case EINVAL:
    case ENOTRECOVERABLE:
        return status_say(POOL_BROKEN, "the queue is damaged: something has written over its memory, or closed its descriptors");
    default:
        return status_say(POOL_NO_MEMORY, "cannot %s: %s", what, status_errno(error, words, sizeof words));
    }
}

int queue_is_over(int64_t deadline)
{
    return deadline != CLOCK_NEVER && clock_now() >= deadline;
}

/* ---- Bells ---- */

int queue_ring_bell(struct ring_side *side, int end)
{
    if (atomic_load_explicit(&side->rung, memory_order_relaxed))
        return 0;
    int error = fd_wake(end);
    if (!error)                         /* not before: killed between the two it would have to be a byte too many */
        atomic_store_explicit(&side->rung, 1, memory_order_relaxed);
    return error;
}

void queue_hush_bell(struct ring_side *side, int end)
{
    atomic_store_explicit(&side->rung, 0, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
    fd_drain(end);
}

short queue_listen(int end, int64_t deadline)
{
    struct pollfd watch = {.fd = end, .events = POLLIN};
    int n = poll(&watch, 1, clock_poll_ms(deadline));

    return n > 0 ? watch.revents : 0;   /* interrupted: whoever calls looks at the time himself */
}

int queue_spin(struct spin *spin, const struct pool_queue *q, int (*so)(const struct ring *))
{
    struct spin_round round;

    spin->off = q->no_spin;
    spin->time = SPIN_FOR;
    for (spin_begin(spin, &round); spin_on(spin, &round);)
        if (!so(q->ring)) {
            spin_paid(spin);
            return 1;
        }
    return 0;
}

/* ---- The end ---- */

void pool_queue_close(struct pool_queue *q)
{
    int saved = errno;

    if (queue_enter(q, 0) || ring_lock(&q->ring->put, CLOCK_NEVER))
        return;
    forks_lock();                       /* a child that is forked meanwhile has it open or knows that it has not */
    fd_close(&q->ends[ITEMS_IN]);
    forks_unlock();
    ring_unlock(&q->ring->put);
    errno = saved;
}

/* ---- For event loops ---- */

int queue_hush_if_empty(const struct pool_queue *q, int64_t deadline, int *empty)
{
    int error = ring_lock(&q->ring->put, deadline);

    if (error)
        return error;
    *empty = ring_is_empty(q->ring);
    if (*empty)
        queue_hush_bell(&q->ring->put, q->ends[ITEMS_OUT]);
    ring_unlock(&q->ring->put);
    return 0;
}

int pool_queue_fd(const struct pool_queue *q)
{
    int empty;

    status_clear();
    if (!q) {
        errno = EINVAL;
        status_say(POOL_INVALID, "the queue is NULL");
        return -1;
    }
    atomic_store(&q->ring->watched, 1);
    queue_hush_if_empty(q, 0, &empty);
    return q->ends[ITEMS_OUT];
}
