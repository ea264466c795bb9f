/* Queues between processes: putting, getting, waiting, the end.
 *
 * Runs in every process that has the queue, any thread. A queue is a ring in shared memory (queue_ring.c) between two locks that the death
 * of their holder gives up (robust.c), one for those who put and one for those who get; what is too large for it travels beside it
 * (queue_beside.c). It is made before the forks, and each process has it by inheritance.
 *
 * Not a socket with whole messages, which would keep every promise by itself: two system calls and a wake-up for each item made that 330,000
 * items a second and 31 microseconds a round trip, measured, no more than twice a locked pipe. In the ring an item is there at one
 * store; whoever is killed before has put nothing, whoever is killed after has put it. A getter that is killed after it took an item, and
 * before its caller had it, takes that item along.
 *
 * Waiting. Each side spins a little, then sleeps in poll() on a pipe of its own, the bell, which holds a byte (`rung`) unless somebody
 * sleeps or is about to. The other side makes sure of the byte and only then commits, both under its lock. A sleeper takes
 * the byte away under that same lock, having seen there that it would wait for nothing else. So whoever is killed at whatever point
 * leaves a byte too many, never one too few: that costs a look. While both sides are busy no system call is made at all.
 * All sleepers wake at a byte, and not one, which could be killed just then.
 *
 * The end. The write end of the bell of those who get is held by every process that may put: the kernel tells when the last one has closed it
 * or died, and no kill can make it lie. It is closed under the lock of those who put, so that nothing is committed after it. Who sees
 * the end looks once more whether the ring is empty. */
#define _GNU_SOURCE
#include <forkpool.h>

#include "clock.h"
#include "cpu.h"
#include "fd.h"
#include "forks.h"
#include "queue_beside.h"
#include "queue_items.h"
#include "queue_ring.h"
#include "spin.h"
#include "status.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

/* Three pairs, the end to read from first: two bells, and what travels beside the ring. */
enum { ITEMS_OUT, ITEMS_IN, ROOM_OUT, ROOM_IN, BESIDE_OUT, BESIDE_IN, ENDS };

struct pool_queue {                     /* each process has its own copy, by the fork */
    struct ring       *ring;
    int                ends[ENDS];      /* ITEMS_IN: -1 once this process puts no more; under put.lock */
    struct fd_identity files[ENDS];     /* what they were */
    _Atomic unsigned   forks;           /* forks_count of the process in which they were last seen to be that */
    unsigned           no_spin;
    struct queue_items items;
};

struct parcel {
    const void *data;
    size_t      size;
    int         fd;                     /* memory with a copy, where it goes beside the ring; else -1 */
    int         stuck;                  /* there were too many of those under way */
    uint64_t    stuck_at;               /*   when this had been got */
};

static _Thread_local struct spin putting, getting;

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

static enum pool_status enter(struct pool_queue *q, double seconds)
{
    status_clear();
    if (!q)
        return status_say(POOL_INVALID, "the queue is NULL: pool_queue_create says by pool_error() why it made none");
    if (seconds != seconds)
        return status_say(POOL_INVALID, "the time limit is not a number");
    if (atomic_load_explicit(&q->forks, memory_order_relaxed) != forks_count && !has_ends(q))
        return status_say(POOL_INVALID, "the queue's descriptors were closed in this process (pool_options.close_fds does that): it cannot use it");
    return POOL_OK;
}

static enum pool_status conclude(int error, const char *what)
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

static int is_over(int64_t deadline)
{
    return deadline != CLOCK_NEVER && clock_now() >= deadline;
}

/* ---- Bells ---- */

/* Under the lock of the side that rings. */
static int ring_bell(struct ring_side *side, int end)
{
    if (atomic_load_explicit(&side->rung, memory_order_relaxed))
        return 0;
    int error = fd_wake(end);
    if (!error)                         /* not before: killed between the two it would have to be a byte too many */
        atomic_store_explicit(&side->rung, 1, memory_order_relaxed);
    return error;
}

/* Under the same lock. Drains where there should be nothing, too: see above. */
static void hush_bell(struct ring_side *side, int end)
{
    atomic_store_explicit(&side->rung, 0, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
    fd_drain(end);
}

/* What poll says of it; 0: nothing until the deadline. */
static short listen_for(int end, int64_t deadline)
{
    struct pollfd watch = {.fd = end, .events = POLLIN};
    int n = poll(&watch, 1, clock_poll_ms(deadline));

    return n > 0 ? watch.revents : 0;   /* interrupted: whoever calls looks at the time himself */
}

/* Nonzero: it is so, after a while that is worth it. */
static int spin_until(struct spin *spin, const struct pool_queue *q, int (*not_so)(const struct ring *))
{
    struct spin_round round;

    spin->off = q->no_spin;
    for (spin_begin(spin, &round); spin_on(spin, &round);)
        if (!not_so(q->ring)) {
            spin_paid(spin);
            return 1;
        }
    return 0;
}

/* ---- Putting ---- */

static int send_beside(struct pool_queue *q, struct parcel *parcel, struct ring_beside *record, int64_t deadline)
{
    struct ring *ring = q->ring;

    record->serial = atomic_fetch_add(&ring->serial, 1) + 1;    /* never twice, or a dead putter's would be taken for this one */
    record->size = parcel->size;
    int error = beside_send(q->ends[BESIDE_IN], record->serial, parcel->fd);
    if (error != EAGAIN)
        return error;
    parcel->stuck = 1;
    parcel->stuck_at = atomic_load(&ring->get.position);
    if (!ring_is_empty(ring))
        return EAGAIN;                  /* one less as soon as somebody gets */
    error = ring_lock(&ring->get, deadline);
    if (error)
        return error;
    beside_sweep(q->ends[BESIDE_OUT]);
    ring_unlock(&ring->get);
    error = beside_send(q->ends[BESIDE_IN], record->serial, parcel->fd);
    return error == EAGAIN ? ENOBUFS : error;
}

/* 0; EAGAIN: there is no room; EPIPE: closed; else an errno. */
static int try_put(struct pool_queue *q, struct parcel *parcel, int64_t deadline)
{
    struct ring *ring = q->ring;
    struct ring_beside beside;
    int error = ring_lock(&ring->put, deadline);

    if (error)
        return error;
    if (q->ends[ITEMS_IN] < 0)
        error = EPIPE;
    if (!error)
        error = ring_find_room(ring);
    if (!error)
        error = ring_bell(&ring->put, q->ends[ITEMS_IN]);
    if (!error && parcel->fd >= 0)
        error = send_beside(q, parcel, &beside, deadline);
    if (!error && parcel->fd >= 0)
        ring_put(ring, RING_BESIDE, &beside, sizeof beside, parcel->size);
    else if (!error)
        ring_put(ring, RING_ITEM, parcel->data, parcel->size, parcel->size);
    ring_unlock(&ring->put);
    return error;
}

/* 0: try again; ETIMEDOUT; else an errno. */
static int await_room(struct pool_queue *q, const struct parcel *parcel, int64_t deadline)
{
    struct ring *ring = q->ring;

    if (is_over(deadline))
        return ETIMEDOUT;
    int error = ring_lock(&ring->get, deadline);
    if (error)
        return error;
    int none = ring_is_full(ring) || (parcel->stuck && atomic_load(&ring->get.position) == parcel->stuck_at);
    if (none)
        hush_bell(&ring->get, q->ends[ROOM_OUT]);
    ring_unlock(&ring->get);
    if (none)
        listen_for(q->ends[ROOM_OUT], deadline);
    return 0;
}

static int put(struct pool_queue *q, struct parcel *parcel, int64_t deadline)
{
    for (;;) {
        parcel->stuck = 0;
        int error = try_put(q, parcel, deadline);
        if (error != EAGAIN)
            return error;
        if (!parcel->stuck && !is_over(deadline) && spin_until(&putting, q, ring_is_nearly_full))
            continue;
        error = await_room(q, parcel, deadline);
        if (error)
            return error;
    }
}

enum pool_status pool_queue_put(struct pool_queue *q, const void *data, size_t size, double seconds)
{
    enum pool_status status = enter(q, seconds);
    struct parcel parcel = {.data = data, .size = size, .fd = -1};
    int saved = errno, error = 0;

    if (status)
        return status;
    if (!data && size)
        return status_say(POOL_INVALID, "the item is NULL and has a size");
    int64_t deadline = seconds < 0 ? CLOCK_NEVER : clock_deadline(seconds);
    if (size > q->ring->inline_most) {
        if (is_over(deadline) && ring_is_full(q->ring))
            return POOL_PENDING;
        error = beside_make(data, size, &parcel.fd);
    }
    if (!error)
        error = put(q, &parcel, deadline);
    fd_close(&parcel.fd);
    status = error == EPIPE ? status_say(POOL_CLOSED, "this process has closed the queue: it puts no more") : conclude(error, "put the item");
    errno = saved;
    return status;
}

void pool_queue_close(struct pool_queue *q)
{
    int saved = errno;

    if (enter(q, 0) || ring_lock(&q->ring->put, CLOCK_NEVER))
        return;
    forks_lock();                       /* a child that is forked meanwhile has it open or knows that it has not */
    fd_close(&q->ends[ITEMS_IN]);
    forks_unlock();
    ring_unlock(&q->ring->put);
    errno = saved;
}

/* ---- Getting ---- */

/* Takes the byte away if there is nothing: then *empty. 0 or an errno. */
static int hush_if_empty(const struct pool_queue *q, int64_t deadline, int *empty)
{
    int error = ring_lock(&q->ring->put, deadline);

    if (error)
        return error;
    *empty = ring_is_empty(q->ring);
    if (*empty)
        hush_bell(&q->ring->put, q->ends[ITEMS_OUT]);
    ring_unlock(&q->ring->put);
    return 0;
}

/* The item beside the ring, found, and memory for it. ENOENT: its getter took it and died. */
static int find_beside(const struct pool_queue *q, const struct ring_beside *beside, struct queue_item *item, int *fd)
{
    int error = beside_find(q->ends[BESIDE_OUT], beside->serial, fd);

    if (error)
        return error == EAGAIN ? ENOENT : error;
    error = queue_item_reserve(item, beside->size);
    if (error)
        fd_close(fd);
    return error;
}

/* One record, under get.lock: 0, and *fd where the item is still to be read from there; ENOENT: nothing came of it, look again. */
static int take(const struct pool_queue *q, struct queue_item *item, size_t *size, int *fd)
{
    struct ring *ring = q->ring;
    struct ring_beside beside = {0, 0};
    uint64_t after;
    int error;
    const struct ring_record *record = ring_next(ring, &after, &error);

    if (!record)
        return error ? error : EAGAIN;
    *size = record->size;
    if (record->kind == RING_BESIDE) {
        memcpy(&beside, record + 1, sizeof beside);
        *size = beside.size;
        error = find_beside(q, &beside, item, fd);
    } else {
        error = queue_item_reserve(item, *size);
        if (!error && *size)
            memcpy(item->data, record + 1, *size);
    }
    if (error && error != ENOENT)
        return error;
    int unrung = ring_bell(&ring->get, q->ends[ROOM_IN]);
    if (unrung) {
        fd_close(fd);
        return unrung;
    }
    ring_pop(ring, after, *size);
    if (*fd >= 0)
        beside_drop(q->ends[BESIDE_OUT]);
    return error;
}

/* 0; EAGAIN: there is nothing; else an errno. */
static int try_get(const struct pool_queue *q, struct queue_item *item, struct pool_bytes *got, int64_t deadline)
{
    size_t size = 0;
    int fd = -1, empty, error = ring_lock(&q->ring->get, deadline);

    if (error)
        return error;
    do
        error = take(q, item, &size, &fd);
    while (error == ENOENT);
    ring_unlock(&q->ring->get);
    if (error)
        return error;
    if (fd >= 0) {
        error = beside_read(fd, item->data, size);
        fd_close(&fd);
    }
    *got = (struct pool_bytes){item->data, size};
    if (atomic_load_explicit(&q->ring->watched, memory_order_relaxed) && ring_is_empty(q->ring))
        hush_if_empty(q, 0, &empty);
    return error;
}

/* 0: look again; ETIMEDOUT; EPIPE: there will be nothing any more; else an errno. */
static int await_item(const struct pool_queue *q, int64_t deadline)
{
    int over = is_over(deadline), empty = 1;

    if (!over || atomic_load_explicit(&q->ring->watched, memory_order_relaxed)) {
        int error = hush_if_empty(q, deadline, &empty);
        if (error || !empty)
            return error;
    }
    short said = listen_for(q->ends[ITEMS_OUT], over ? 0 : deadline);
    if (said & (POLLHUP | POLLERR | POLLNVAL) && ring_is_empty(q->ring))
        return said & POLLNVAL ? EBADF : EPIPE;
    return over && !(said & POLLHUP) ? ETIMEDOUT : 0;
}

static int get(const struct pool_queue *q, struct queue_item *item, struct pool_bytes *got, int64_t deadline)
{
    for (;;) {
        int error = ring_is_empty(q->ring) ? EAGAIN : try_get(q, item, got, deadline);
        if (error != EAGAIN)
            return error;
        if (!is_over(deadline) && spin_until(&getting, q, ring_is_empty))
            continue;
        error = await_item(q, deadline);
        if (error)
            return error;
    }
}

enum pool_status pool_queue_get(struct pool_queue *q, struct pool_bytes *got, double seconds)
{
    enum pool_status status = enter(q, seconds);
    int saved = errno;

    if (got)
        *got = (struct pool_bytes){NULL, 0};
    if (status)
        return status;
    if (!got)
        return status_say(POOL_INVALID, "there is no place for the item: it is NULL");
    struct queue_item *item = queue_items_mine(&q->items);
    int error = item ? get(q, item, got, seconds < 0 ? CLOCK_NEVER : clock_deadline(seconds)) : ENOMEM;
    status = error == EPIPE ? POOL_CLOSED : conclude(error, "get an item");
    if (status)
        *got = (struct pool_bytes){NULL, 0};
    errno = saved;
    return status;
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
    hush_if_empty(q, 0, &empty);
    return q->ends[ITEMS_OUT];
}
