/* Getting from a queue.
 *
 * Runs in every process that has it, any thread. An item is copied out and only then taken, under one lock, so that a getter that is killed
 * before leaves it to the next; one too large for the ring is found and memory made ready for it before it is taken, so that nothing that
 * can fail is left to be done. */
#define _GNU_SOURCE
#include "queue.h"

#include "clock.h"
#include "queue_beside.h"
#include "status.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

static _Thread_local struct spin getting;

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
    int unrung = queue_ring_bell(&ring->get, q->ends[ROOM_IN]);
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
        queue_hush_if_empty(q, 0, &empty);
    return error;
}

/* 0: look again; ETIMEDOUT; EPIPE: there will be nothing any more; else an errno. */
static int await_item(const struct pool_queue *q, int64_t deadline)
{
    int over = queue_is_over(deadline), empty = 1;

    if (!over || atomic_load_explicit(&q->ring->watched, memory_order_relaxed)) {
        int error = queue_hush_if_empty(q, deadline, &empty);
        if (error || !empty)
            return error;
    }
    short said = queue_listen(q->ends[ITEMS_OUT], over ? 0 : deadline);
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
        if (!queue_is_over(deadline) && queue_spin(&getting, q, ring_is_empty))
            continue;
        error = await_item(q, deadline);
        if (error)
            return error;
    }
}

enum pool_status pool_queue_get(struct pool_queue *q, struct pool_bytes *got, double seconds)
{
    enum pool_status status = queue_enter(q, seconds);
    int saved = errno;

    if (got)
        *got = (struct pool_bytes){NULL, 0};
    if (status)
        return status;
    if (!got)
        return status_say(POOL_INVALID, "there is no place for the item: it is NULL");
    struct queue_item *item = queue_items_mine(&q->items);
    int error = item ? get(q, item, got, seconds < 0 ? CLOCK_NEVER : clock_deadline(seconds)) : ENOMEM;
    status = error == EPIPE ? POOL_CLOSED : queue_conclude(error, "get an item");
    if (status)
        *got = (struct pool_bytes){NULL, 0};
    errno = saved;
    return status;
}
