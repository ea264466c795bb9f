/* Putting into a queue.
 *
 * Runs in every process that has it, any thread: look for room, ring, commit, in this order and under one lock; see queue.c for why. */
#define _GNU_SOURCE
#include "queue.h"

#include "clock.h"
#include "queue_beside.h"
#include "status.h"

#include <errno.h>

struct parcel {
    const void *data;
    size_t      size;
    int         fd;                     /* memory with a copy, where it goes beside the ring; else -1 */
    int         stuck;                  /* there were too many of those under way */
    uint64_t    stuck_at;               /*   when this had been got */
};

static _Thread_local struct spin putting;

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
        error = queue_ring_bell(&ring->put, q->ends[ITEMS_IN]);
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

    if (queue_is_over(deadline))
        return ETIMEDOUT;
    int error = ring_lock(&ring->get, deadline);
    if (error)
        return error;
    int none = ring_is_full(ring) || (parcel->stuck && atomic_load(&ring->get.position) == parcel->stuck_at);
    if (none)
        queue_hush_bell(&ring->get, q->ends[ROOM_OUT]);
    ring_unlock(&ring->get);
    if (none)
        queue_listen(q->ends[ROOM_OUT], deadline);
    return 0;
}

static int put(struct pool_queue *q, struct parcel *parcel, int64_t deadline)
{
    for (;;) {
        parcel->stuck = 0;
        int error = try_put(q, parcel, deadline);
        if (error != EAGAIN)
            return error;
        if (!parcel->stuck && !queue_is_over(deadline) && queue_spin(&putting, q, ring_is_nearly_full))
            continue;
        error = await_room(q, parcel, deadline);
        if (error)
            return error;
    }
}

enum pool_status pool_queue_put(struct pool_queue *q, const void *data, size_t size, double seconds)
{
    enum pool_status status = queue_enter(q, seconds);
    struct parcel parcel = {.data = data, .size = size, .fd = -1};
    int saved = errno, error = 0;

    if (status)
        return status;
    if (!data && size)
        return status_say(POOL_INVALID, "the item is NULL and has a size");
    int64_t deadline = seconds < 0 ? CLOCK_NEVER : clock_deadline(seconds);
    if (size > q->ring->inline_most) {
        if (queue_is_over(deadline) && ring_is_full(q->ring))
            return POOL_PENDING;
        error = beside_make(data, size, &parcel.fd);
    }
    if (!error)
        error = put(q, &parcel, deadline);
    fd_close(&parcel.fd);
    if (error == EPIPE)
        status = status_say(POOL_CLOSED, "this process has closed the queue: it puts no more");
    else
        status = queue_conclude(error, "put the item");
    errno = saved;
    return status;
}
