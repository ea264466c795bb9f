/* A worker's channel: shared words, rings, streams and the sleep handshake.
 *
 * Runs in the caller and in the worker, on the same memory (MAP_SHARED, mapped before the nursery was forked, no name). A channel has no
 * lock: a process that is killed at any point leaves nothing held. Each word has one writer, but for the claim word, the
 * lane's free bits and the two sleep words, which change by one atomic step each.
 *
 * Why a pipe beside the ring: a pipe can be slept on together with everything else in one poll, and it ends when the other side
 * dies. Why a ring beside the pipe: a result in it outlives its worker, and two busy sides need no system call.
 *
 * Why no wake-up is lost: see the comment at "Sleeping" in channel.h. For the claim word the publisher's compare-and-swap
 * is the fence between its publishing and its look at the sleeper's word; for streams and result frames, which are plain
 * stores, channel_must_wake_caller_now makes one. tests/model holds the same in Promela. */
#include "channel.h"

#include "copy.h"

#include <string.h>

static size_t slots_size(size_t slot_size)
{
    return slot_size * CHANNEL_LANE_SLOTS;
}

size_t channel_region(size_t slot_size)
{
    return (size_t)CHANNEL_TASKS + CHANNEL_RESULTS + 2 * (size_t)CHANNEL_STREAM + CHANNEL_LANE_SHIFT + 2 * slots_size(slot_size);
}

void channel_lay(struct channel *c, void *desk, void *region, size_t slot_size)
{
    unsigned char *at = region;
    c->desk = desk;
    c->tasks = (struct frame_ring){at, CHANNEL_TASKS, 64};
    at += CHANNEL_TASKS;
    c->results = (struct frame_ring){at, CHANNEL_RESULTS, 16};
    at += CHANNEL_RESULTS;
    c->item_stream = at;
    at += CHANNEL_STREAM;
    c->result_stream = at;
    at += CHANNEL_STREAM;
    at += CHANNEL_LANE_SHIFT;
    c->item_slots = at;
    c->result_slots = at + slots_size(slot_size);
    c->slot_size = slot_size;
    c->reach = (struct channel_reach){0};
}

unsigned char *channel_item_slot(struct channel *c, size_t slot, size_t size, enum pages_use use)
{
    unsigned char *at = c->item_slots + slot * c->slot_size;
    pages_reach(at, size, &c->reach.items[slot], use);
    return at;
}

unsigned char *channel_result_slot(struct channel *c, size_t slot, size_t size, enum pages_use use)
{
    unsigned char *at = c->result_slots + slot * c->slot_size;
    pages_reach(at, size, &c->reach.results[slot], use);
    return at;
}

void channel_reset(struct channel *c, uint64_t lane_free)
{
    struct desk *d = c->desk;
    atomic_store(&d->result_head, 0);
    atomic_store(&d->result_tail, 0);
    atomic_store(&d->item_stream_head, 0);
    atomic_store(&d->item_stream_tail, 0);
    atomic_store(&d->result_stream_head, 0);
    atomic_store(&d->result_stream_tail, 0);
    atomic_store(&d->condemned, 0);
    atomic_store(&d->crowded, 0);
    atomic_store(&d->unfenced, 0);
    atomic_store(&d->started_position, UINT32_MAX);
    atomic_store(&d->grown, 0);
    atomic_store(&d->lane_free, lane_free);
    atomic_store(&d->caller_state, CHANNEL_AWAKE);
    atomic_store(&d->wake_at, 0);
    atomic_store(&d->worker_state, CHANNEL_AWAKE);
    atomic_store(&d->begun, 0);
    claim_reset(&d->claim);
}

void channel_caller_waits(struct desk *desk, uint32_t how, uint32_t wake_at)
{
    atomic_store_explicit(&desk->wake_at, wake_at, memory_order_relaxed);
    atomic_store(&desk->caller_state, how);
}

void channel_caller_will_wait(struct desk *desk, uint32_t wake_at)
{
    atomic_store_explicit(&desk->wake_at, wake_at, memory_order_relaxed);
    atomic_store_explicit(&desk->caller_state, CHANNEL_WATCHING, memory_order_release);
}

int channel_caller_was_woken(struct desk *desk)
{
    return atomic_load(&desk->caller_state) != CHANNEL_WATCHING;
}

void channel_caller_wakes(struct desk *desk)
{
    atomic_store(&desk->caller_state, CHANNEL_AWAKE);
}

/* The plain look first: the word is nearly always AWAKE, and then its line stays shared. */
static int wake(_Atomic uint32_t *state)
{
    if (atomic_load(state) == CHANNEL_AWAKE)
        return 0;
    uint32_t was = atomic_exchange(state, CHANNEL_AWAKE);
    return was != CHANNEL_AWAKE && was != CHANNEL_WATCHING;
}

int channel_must_wake_worker(struct desk *desk)
{
    return wake(&desk->worker_state);
}

int channel_must_wake_stuck_worker(struct desk *desk)
{
    return atomic_load(&desk->worker_state) != CHANNEL_ASLEEP && wake(&desk->worker_state);
}

int channel_must_wake_waiting_caller(struct desk *desk)
{
    return wake(&desk->caller_state);
}

int channel_must_wake_caller_now(struct desk *desk)
{
    atomic_thread_fence(memory_order_seq_cst);
    return wake(&desk->caller_state);
}

static size_t window_part(uint64_t offset, uint64_t much)
{
    uint64_t to_end = CHANNEL_STREAM - (offset & (CHANNEL_STREAM - 1));
    return (size_t)(much < to_end ? much : to_end);
}

void stream_reach(unsigned char *window, uint64_t moved, size_t size, size_t *reached, enum pages_use use)
{
    int all = moved >= CHANNEL_STREAM || size >= CHANNEL_STREAM - moved;
    pages_reach(window, all ? (size_t)CHANNEL_STREAM : (size_t)moved + size, reached, use);
}

size_t stream_write(unsigned char *window, _Atomic uint64_t *tail, _Atomic uint64_t *head, uint64_t *written, const void *data, size_t size)
{
    uint64_t used = *written - atomic_load_explicit(head, memory_order_acquire);
    if (used > CHANNEL_STREAM)
        return SIZE_MAX;
    uint64_t much = CHANNEL_STREAM - used < size ? CHANNEL_STREAM - used : size;
    size_t first = window_part(*written, much);
    if (!much)
        return 0;
    copy_bytes(window + (*written & (CHANNEL_STREAM - 1)), data, first);
    copy_bytes(window, (const unsigned char *)data + first, (size_t)much - first);
    *written += much;
    atomic_store(tail, *written);
    return (size_t)much;
}

size_t stream_read(const unsigned char *window, _Atomic uint64_t *tail, _Atomic uint64_t *head, uint64_t *read, void *data, size_t size)
{
    uint64_t there = atomic_load_explicit(tail, memory_order_acquire) - *read;
    if (there > CHANNEL_STREAM)
        return SIZE_MAX;
    uint64_t much = there < size ? there : size;
    size_t first = window_part(*read, much);
    if (!much)
        return 0;
    if (data) {
        copy_bytes(data, window + (*read & (CHANNEL_STREAM - 1)), first);
        copy_bytes((unsigned char *)data + first, window, (size_t)much - first);
    }
    *read += much;
    atomic_store(head, *read);
    return (size_t)much;
}
