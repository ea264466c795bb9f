/* What the processes of a queue share: a ring of records between two locks.
 *
 * Runs in every process that has the queue, any thread. Two locks, so that a putter and a getter do not wait for each other; each side
 * keeps what it last saw of the other's progress, so that the cache line that the other one writes is fetched once for many items.
 *
 * Whoever is killed leaves the lock to the next one (robust.c), and a ring that is in order: a record counts once `position` is stored,
 * and that is one store. What a dead putter had written beyond it will be written over, what a dead getter had read before is still there.
 * `bytes` cannot be stored together with position; so what both shall be is noted first, and if position got there, the next holder lets
 * bytes follow. Until then bytes is behind, and fullness is compared with signs: too few put count as room, and are looked at under lock.
 *
 * A record does not wrap around: the end of the ring is skipped. The ring is four times the capacity, since a small item takes up to three
 * times its size (8 bytes count as 8 and take 16; skipping and one item beyond the capacity need the rest), so that room is a question of
 * bytes alone, the same for large and small items: who puts something large is not passed by for ever by those who put something small. */
#define _GNU_SOURCE
#include "queue_ring.h"

#include "clock.h"
#include "robust.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SIZE_LEAST = 1 << 16, TIMES = 4, INLINE_SHARE = 8, HEAD = sizeof(struct ring_record) };

#define ROUND(size) (((size) + 7) & ~(size_t)7)

/* What a kill must not find in another order. Processors keep it for whoever comes later; this keeps it in the code. */
#define ORDER() atomic_signal_fence(memory_order_seq_cst)

/* ---- Making one ---- */

/* Between a quarter and half of the machine's memory: a power of two. The ring takes memory only where items have lain. */
static size_t most(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    size_t memory = pages > 0 && page > 0 ? (size_t)pages * (size_t)page : (size_t)1 << 30;
    size_t size = SIZE_LEAST;

    while (size <= memory && size <= SIZE_MAX / 4)
        size *= 2;
    return size / TIMES;
}

static size_t mapping(size_t size)
{
    return offsetof(struct ring, bytes) + size;
}

static struct ring *map(size_t size)
{
    void *at = mmap(NULL, mapping(size), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

int ring_create(size_t capacity, struct ring **made)
{
    size_t size = SIZE_LEAST, limit = most();
    struct ring *ring;
    int error;

    if (!capacity)
        capacity = RING_DEFAULT;
    if (capacity > limit)
        capacity = limit;
    while (size / TIMES < capacity)
        size *= 2;
    ring = map(size);
    for (; !ring && size > SIZE_LEAST; ring = map(size))        /* this process may have a limit of its own */
        size /= 2;
    if (!ring)
        return ENOMEM;
    ring->size = size;
    ring->capacity = capacity < size / TIMES ? capacity : size / TIMES;
    ring->inline_most = size / INLINE_SHARE < 1 << 20 ? size / INLINE_SHARE : 1 << 20;
    error = robust_init(&ring->put.lock);
    if (!error)
        error = robust_init(&ring->get.lock);
    if (error) {
        ring_unmap(ring);
        return error;
    }
    *made = ring;
    return 0;
}

void ring_unmap(struct ring *ring)
{
    munmap(ring, mapping(ring->size));
}

/* ---- Locks and commits ---- */

int ring_lock(struct ring_side *side, int64_t deadline)
{
    int error = robust_lock(&side->lock, deadline);

    if (error != EOWNERDEAD)
        return error;
    if (atomic_load(&side->intended_position) == atomic_load(&side->position))
        atomic_store(&side->bytes, atomic_load(&side->intended_bytes));
    return 0;
}

void ring_unlock(struct ring_side *side)
{
    robust_unlock(&side->lock);
}

/* The intended position goes first: as long as it is not the position, nobody believes the intended bytes. */
static void commit(struct ring_side *side, uint64_t position, uint64_t bytes)
{
    atomic_store_explicit(&side->intended_position, position, memory_order_relaxed);
    ORDER();
    atomic_store_explicit(&side->intended_bytes, bytes, memory_order_relaxed);
    ORDER();
    atomic_store_explicit(&side->position, position, memory_order_release);
    ORDER();
    atomic_store_explicit(&side->bytes, bytes, memory_order_release);
}

/* ---- Fullness ---- */

static size_t count(size_t size)
{
    return size ? ROUND(size) : 8;
}

static int64_t waiting(const struct ring *ring)
{
    uint64_t got = atomic_load_explicit(&ring->get.bytes, memory_order_acquire);
    return (int64_t)(atomic_load_explicit(&ring->put.bytes, memory_order_acquire) - got);
}

int ring_is_empty(const struct ring *ring)
{
    uint64_t got = atomic_load_explicit(&ring->get.position, memory_order_acquire);
    return got == atomic_load_explicit(&ring->put.position, memory_order_acquire);
}

int ring_is_full(const struct ring *ring)
{
    return waiting(ring) >= (int64_t)ring->capacity;
}

int ring_is_nearly_full(const struct ring *ring)
{
    return waiting(ring) > (int64_t)(ring->capacity - ring->capacity / 8);
}

/* ---- Putting ---- */

static uint64_t own(const _Atomic uint64_t *word)
{
    return atomic_load_explicit(word, memory_order_relaxed);
}

/* An item in the ring at its largest, and the end of the ring that it may have to skip. */
static size_t need_most(const struct ring *ring)
{
    return 2 * (HEAD + ring->inline_most);
}

static int is_roomy(const struct ring *ring)
{
    const struct ring_side *put = &ring->put;
    return (int64_t)(own(&put->bytes) - put->seen_bytes) < (int64_t)ring->capacity
        && own(&put->position) - put->seen_position + need_most(ring) <= ring->size;
}

int ring_find_room(struct ring *ring)
{
    struct ring_side *put = &ring->put;

    if (is_roomy(ring))
        return 0;
    put->seen_bytes = atomic_load_explicit(&ring->get.bytes, memory_order_acquire);
    put->seen_position = atomic_load_explicit(&ring->get.position, memory_order_acquire);
    if (is_roomy(ring))
        return 0;
    return (int64_t)(own(&put->bytes) - put->seen_bytes) < (int64_t)ring->capacity ? EBADMSG : EAGAIN;
}

static struct ring_record *record_at(struct ring *ring, uint64_t position)
{
    return (struct ring_record *)(void *)(ring->bytes + (position & (ring->size - 1)));
}

void ring_put(struct ring *ring, enum ring_kind kind, const void *data, size_t size, size_t counts)
{
    uint64_t position = own(&ring->put.position);
    size_t need = HEAD + ROUND(size), left = ring->size - (size_t)(position & (ring->size - 1));

    if (left < need) {
        *record_at(ring, position) = (struct ring_record){RING_SKIP, (uint32_t)(left - HEAD)};
        position += left;
    }
    struct ring_record *record = record_at(ring, position);
    *record = (struct ring_record){kind, (uint32_t)size};
    if (size)
        memcpy(record + 1, data, size);
    commit(&ring->put, position + need, own(&ring->put.bytes) + count(counts));
}

/* ---- Getting ---- */

const struct ring_record *ring_next(struct ring *ring, uint64_t *after, int *error)
{
    struct ring_side *get = &ring->get;
    uint64_t position = own(&get->position);

    *error = 0;
    if ((int64_t)(get->seen_position - position) <= 0)
        get->seen_position = atomic_load_explicit(&ring->put.position, memory_order_acquire);
    while (position != get->seen_position) {
        const struct ring_record *record = record_at(ring, position);
        size_t size = HEAD + ROUND((size_t)record->size), left = ring->size - (size_t)(position & (ring->size - 1));
        if (size > left || size > get->seen_position - position || record->kind > RING_SKIP) {
            *error = EBADMSG;
            return NULL;
        }
        position += size;
        if (record->kind != RING_SKIP) {
            *after = position;
            return record;
        }
    }
    return NULL;
}

void ring_pop(struct ring *ring, uint64_t after, size_t counts)
{
    commit(&ring->get, after, own(&ring->get.bytes) + count(counts));
}
