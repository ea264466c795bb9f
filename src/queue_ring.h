/* What the processes of a queue share: a ring of records between two locks. */
#ifndef POOL_QUEUE_RING_H
#define POOL_QUEUE_RING_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* One side's progress. Its lock is held to change any of it. */
struct ring_side {
    _Alignas(64) pthread_mutex_t lock;          /* robust */
    _Atomic uint64_t intended_position, intended_bytes; /* what the commit under way makes of the two below: read by whoever mends */
    uint64_t         seen_position, seen_bytes; /* the other side's, when last looked at: never ahead of it */
    _Atomic int      rung;                      /* the bell of the other side's sleepers has its byte */
    /* Lines of their own, since the other side waits for the one or the other to change. */
    _Alignas(64) _Atomic uint64_t position;     /* bytes of the ring passed since ever. Its store commits */
    _Alignas(64) _Atomic uint64_t bytes;        /* the same in bytes of items; follows position */
};

struct ring {
    size_t           capacity;          /* bytes of items beyond which it is full */
    size_t           size;              /* of bytes[], a power of two */
    size_t           inline_most;       /* bytes of an item that lies in the ring itself */
    _Atomic int      watched;           /* somebody polls: the bell of those who get has to be exact. Set once, by anybody */
    _Atomic uint64_t serial;            /* of the last item sent beside the ring; under put.lock */
    struct ring_side put, get;
    _Alignas(64) unsigned char bytes[];
};

enum ring_kind { RING_ITEM, RING_BESIDE, RING_SKIP };

struct ring_record {
    uint32_t kind, size;                /* size: of what follows here, which is rounded up to 8 */
};

/* The item is beside the ring: what its record holds. */
struct ring_beside { uint64_t serial, size; };

enum { RING_DEFAULT = 2 << 20 };        /* the capacity where none is asked for */

/* Makes one, mapped shared, for so many bytes of items or as many as the system allows. 0 or an errno. */
int ring_create(size_t capacity, struct ring **made);
void ring_unmap(struct ring *ring);

/* 0, or an errno: it is not ours (ETIMEDOUT). Mends what a dead holder left. */
int ring_lock(struct ring_side *side, int64_t deadline);
void ring_unlock(struct ring_side *side);

/* Without a lock these are true at some moment meanwhile. Under put.lock an empty ring stays empty; under get.lock a full one full. */
int ring_is_empty(const struct ring *ring);
int ring_is_full(const struct ring *ring);
int ring_is_nearly_full(const struct ring *ring);       /* less than an eighth is free */

/* Under put.lock. Room for one more: 0; EAGAIN: full; EBADMSG: somebody has written over it. Put, only where there is room: one store
 * commits it. `counts`: the item's own size. */
int  ring_find_room(struct ring *ring);
void ring_put(struct ring *ring, enum ring_kind kind, const void *data, size_t size, size_t counts);

/* Under get.lock. The next record, with what pop is to be told, or NULL: empty. EBADMSG in *error: it makes no sense. */
const struct ring_record *ring_next(struct ring *ring, uint64_t *after, int *error);
void ring_pop(struct ring *ring, uint64_t after, size_t counts);

#endif
