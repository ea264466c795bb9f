/* A worker's channel: what caller and worker share, who writes what, and how either sleeps until the other has news. */
#ifndef POOL_CHANNEL_H
#define POOL_CHANNEL_H

#include "claim.h"
#include "frame.h"
#include "pages.h"
#include "piece.h"
#include "status.h"

#include <stdalign.h>
#include <stddef.h>
#include <stdint.h>

/* Sizes of the parts of a region, in bytes. */
enum {
    CHANNEL_TASKS = 512 << 10,      /* ring of task frames */
    CHANNEL_RESULTS = 256 << 10,    /* ring of result frames */
    CHANNEL_HOT = 32 << 10,         /* as much of either is in use for small frames */
    CHANNEL_STREAM = 1 << 20,       /* each direction's window on a payload larger than a lane slot */
    CHANNEL_INLINE = 16 << 10,      /* larger payloads leave the rings for the lane */
    CHANNEL_PACKED = 4 << 10,       /* results of one known size up to this lie beside their items */
    CHANNEL_LANE_SLOTS = 4,         /* lane slots in each direction */
    CHANNEL_LANE_SHIFT = 64,        /* so far into a page they begin: else a copy to memory that malloc has mapped is slow, see copy.h */
    CHANNEL_LANE_ALL = (1 << CHANNEL_LANE_SLOTS) - 1
};

/* Words of the sleep handshake. Odd patterns, so that a task that writes zeros, or anything, over them costs a needless wake-up
 * and not a missing one: whoever finds something other than AWAKE rings. */
enum {
    CHANNEL_AWAKE = 0x5a11ab1e,
    CHANNEL_ASLEEP = 0x0ddba115,        /* until there is anything */
    CHANNEL_WATCHING = 0x7ea5e11e,      /* the caller, before it sleeps: looks at this very word, so no ring is needed to wake it */
    CHANNEL_STUCK = 0x0bad5eed          /* the worker, in the middle of an item: until there is room for its result, or its payload */
};

/* The shared words of one worker: a page of its own, apart from the payloads, so that a task that overruns its result does not
 * reach them. One cache line for each writer. */
struct desk {
    alignas(64) claim_word claim;                       /* caller and worker, by compare-and-swap: claim.h */
    _Atomic uint32_t begun;                             /* worker: position that it has begun, of those that it holds */

    alignas(64) _Atomic uint64_t result_head;           /* caller: bytes of the result ring it has taken */
    _Atomic uint64_t item_stream_tail;                  /* caller: bytes of large items and contexts it has written */
    _Atomic uint64_t result_stream_head;                /* caller: bytes of large results it has taken */
    _Atomic uint32_t index;                             /* caller, before the birth: which of the pool's workers it is */
    _Atomic uint32_t condemned;                         /* caller, before it closes the deque: the worker does not leave in order */
    _Atomic uint32_t crowded;                           /* caller: more processes have something to do than there are CPUs */
    _Atomic uint32_t unfenced;                          /* caller: it cannot recall what is held */

    alignas(64) _Atomic uint64_t result_tail;           /* worker: bytes of the result ring it has written */
    _Atomic uint64_t item_stream_head;                  /* worker: bytes of large items and contexts it has taken */
    _Atomic uint64_t result_stream_tail;                /* worker: bytes of large results it has written */
    _Atomic uint64_t started_at;                        /* worker: when (clock.h) the item at started_position started; only for */
    _Atomic uint32_t started_position;                  /*   items with a time limit */
    _Atomic uint64_t grown;                             /* worker: bytes of its own beyond what it had when ready; only where limited */

    alignas(64) _Atomic uint64_t lane_free;             /* result slots: the caller sets bits, the worker clears those it takes */

    alignas(64) _Atomic uint32_t caller_state;          /* caller: WATCHING or ASLEEP while it waits; whoever wakes it sets AWAKE */
    _Atomic uint32_t wake_at;                           /* caller: finished position from which on it wants to be woken */

    alignas(64) _Atomic uint32_t worker_state;          /* worker: ASLEEP or STUCK before it reads its pipe; whoever wakes it sets AWAKE */
};

/* One worker's channel as mapped: the same in caller, nursery and worker. */
struct channel {
    struct desk *desk;
    struct frame_ring tasks;            /* caller writes, worker reads */
    struct frame_ring results;          /* worker writes, caller reads */
    unsigned char *item_stream;
    unsigned char *result_stream;
    unsigned char *item_slots;          /* CHANNEL_LANE_SLOTS of slot_size: the caller's to give out and take back */
    unsigned char *result_slots;        /* the worker's to take while lane_free has their bit */
    size_t slot_size;
    struct channel_reach { size_t items[CHANNEL_LANE_SLOTS], results[CHANNEL_LANE_SLOTS], item_stream, result_stream; }
        reach;                          /* how far this process has the pages of each: pages.h */
};

/* Bytes of the payload part of a region; the channel laid over a desk and such a part. */
size_t channel_region(size_t slot_size);
void   channel_lay(struct channel *channel, void *desk, void *region, size_t slot_size);

/* A lane slot (below CHANNEL_LANE_SLOTS) of which `size` bytes are about to be written, or read where the other side wrote them. */
unsigned char *channel_item_slot(struct channel *channel, size_t slot, size_t size, enum pages_use use);
unsigned char *channel_result_slot(struct channel *channel, size_t slot, size_t size, enum pages_use use);

/* For a new worker, nobody else using the channel: everything empty, but for the result slots whose bit is not in lane_free. */
void channel_reset(struct channel *channel, uint64_t lane_free);

/* ---- Kinds of frames. Tags are positions where nothing else is said. */

enum task_kind {
    TASK_CALL = 1,          /* tag: call number; struct task_call, then the context where it fits */
    TASK_SPAN               /* tag: position of its first item; struct task_span, items, then room for results */
};

enum payload_place {
    PLACE_INLINE,           /* in the frame */
    PLACE_LANE,             /* in the lane slot `at` */
    PLACE_STREAM            /* comes through the stream once the worker says TELL_NEED_ITEM or TELL_NEED_CONTEXT */
};

enum { CHANNEL_CALLS = 16 };            /* call numbers: definitions that a worker remembers at a time */

struct task_call {
    uint64_t name, contents, offset;    /* the function: object.h */
    uint64_t common_size;
    uint64_t out_size;
    uint32_t mode;                      /* enum result_mode */
    uint32_t place;                     /* of the context: inline or stream */
    uint32_t timed;                     /* its items have a time limit: when each starts is to be noted */
    uint32_t unused;
};

struct task_span {                      /* 48 bytes: with the header before it the items begin at a multiple of 64 */
    _Atomic uint32_t count;             /* items, in an open span as many as fit; the caller lowers it: takes back, or ends the span */
    uint16_t call;
    uint16_t place;
    uint64_t index;                     /* of its first item; each next one's is one more */
    uint64_t item_size;
    uint64_t at;                        /* lane slot */
    uint64_t results;                   /* RESULT_PACKED: where they begin, from the items' begin */
    _Atomic uint32_t offered;           /* items of an open span that are there: claim.h. The caller raises it, and ends it with 0 */
    _Atomic uint32_t hasty;             /* it does so without a look that is sure to find a sleeping worker: see "Sleeping" */
};

enum tell_kind {
    TELL_READY = 16,        /* tag: generation. The initializer is done */
    TELL_UNREADY,           /* tag: generation. struct tell_failure and text: the initializer failed */
    TELL_UNFIT,             /* tag: generation. struct tell_failure, with an errno for code, and text: it may not be as it was to be */
    TELL_NEED_ITEM,         /* the running item's payload is wanted through the stream */
    TELL_NEED_CONTEXT,      /* tag: call number */
    TELL_RESULT,            /* payload: the result */
    TELL_RESULT_LANE,       /* struct tell_lane */
    TELL_RESULT_STREAM,     /* struct tell_stream: so many bytes follow through the stream before the item is finished */
    TELL_FAILED             /* struct tell_failure and text */
};

struct tell_lane { uint64_t slot, size; };
struct tell_stream { uint64_t size; };
struct tell_failure { int32_t code; uint32_t text_size; };

/* ---- Sleeping. A sleeper writes ASLEEP, then looks once more, then sleeps; whoever has news publishes it, then looks for ASLEEP. All four
 * are sequentially consistent, so one of the two sees the other, and no wake-up is lost.
 *
 * That takes a fence after each item of a generator, a tenth of the time of a small one. So while a fast generator is asked, its span is
 * hasty: offers are plain stores, and the look for ASLEEP may come before them. A worker that sleeps there looks again by itself after
 * 1, 2, 4 ... ms, and is ASLEEP all the while. It reads whether it has to once it has written ASLEEP, before it looks. If the word was
 * not hasty yet, whoever made it so sees ASLEEP at each offer; when the caller takes it back, it looks for ASLEEP once more. */

/* The caller, before it spins (how: WATCHING) or polls (ASLEEP): wants to be woken by this worker at the latest when it has finished
 * `wake_at`, and claims more, or has nothing to do. It spins on a word that is written once, when there is something: looking at the
 * claim word itself would take its line from the worker at every look, which made an item of a map three times as dear. */
void channel_caller_waits(struct desk *desk, uint32_t how, uint32_t wake_at);
/* The same (WATCHING) right before something is posted to a worker that has nothing to tell until it has claimed that: so the post makes it
 * known, and the fence is not paid for twice. */
void channel_caller_will_wait(struct desk *desk, uint32_t wake_at);
int  channel_caller_was_woken(struct desk *desk);
void channel_caller_wakes(struct desk *desk);

/* Nonzero: the other side slept; ring its pipe. At most one ring a sleep. */
int channel_must_wake_worker(struct desk *desk);
int channel_must_wake_stuck_worker(struct desk *desk);      /* one that only waits for work sleeps on */
int channel_must_wake_waiting_caller(struct desk *desk);
int channel_must_wake_caller_now(struct desk *desk);

/* After each claim, hence inline: the caller hardly ever waits, or for one of many. */
static inline int channel_must_wake_caller(struct desk *desk, uint32_t finished)
{
    return atomic_load(&desk->caller_state) != CHANNEL_AWAKE &&
           claim_distance(atomic_load_explicit(&desk->wake_at, memory_order_relaxed), finished) <= CLAIM_MASK / 2 &&
           channel_must_wake_waiting_caller(desk);
}

/* ---- Streams: one payload at a time in each direction, through a window of CHANNEL_STREAM bytes. */

/* Before the first of `size` bytes: the part of the window that they will use. moved: the own count of bytes so far. */
void stream_reach(unsigned char *window, uint64_t moved, size_t size, size_t *reached, enum pages_use use);

/* Copies what fits of data[0 ... size) into the stream; `written` is the writer's own count of bytes ever written. Returns the
 * bytes copied, or SIZE_MAX where the other side's count is impossible. */
size_t stream_write(unsigned char *window, _Atomic uint64_t *tail, _Atomic uint64_t *head, uint64_t *written, const void *data,
                    size_t size);

/* Copies what is there, up to `size`, out of the stream; `read` is the reader's own count. data NULL: it is dropped. */
size_t stream_read(const unsigned char *window, _Atomic uint64_t *tail, _Atomic uint64_t *head, uint64_t *read, void *data, size_t size);

#endif
