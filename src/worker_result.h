/* A worker's way out: rooms for results, what it tells the caller, and its sleep. */
#ifndef POOL_WORKER_RESULT_H
#define POOL_WORKER_RESULT_H

#include "channel.h"
#include "fd.h"
#include "object.h"
#include "spin.h"
#include "task.h"

/* A call's definition, as the caller numbered it. */
struct worker_call {
    pool_fn *fn;            /* NULL: this process does not have it */
    void    *common;        /* own copy; NULL where there is none or no memory */
    size_t   common_size;
    size_t   out_size;
    uint32_t mode;          /* enum result_mode */
    uint32_t timed;         /* when its items start is noted */
    int      unread;        /* the context is still to come, through the stream */
};

/* A span's header as it was when the worker came to it. */
struct worker_span {
    uint32_t count;
    uint16_t call, place;
    uint64_t index, item_size, at, results;
};

struct worker {
    struct task_run run;                /* first: a task's run is its worker */
    struct channel  channel;
    uint64_t        left;               /* the claim word as this worker left it */
    int             task_pipe, result_pipe;
    struct fd_identity task_identity, result_identity;
    struct spin     spin;
    size_t          max_memory, memory_when_ready;
    int64_t         measured;           /* when it last looked at its memory */

    uint64_t        cursor;             /* in the task ring: behind the frame last read */
    const struct task_span *span;       /* the current one, in the ring; its count and offer alone are read there again, and the rest */
    struct worker_span head;            /*   was copied before any of its items ran: those may have written over it since */
    uint32_t        span_first;
    struct claim_offer offer;           /* the current span's */
    const unsigned char *items;         /* PLACE_INLINE: of its first item */
    unsigned char  *results;            /* RESULT_PACKED: of its first item; NULL: results do not lie there */
    int             plain;              /* its items lie there, and need nothing but to be run */
    int             may_hold;           /* the caller can send fences, and so may recall what is claimed ahead */
    struct worker_call *call;           /* the current span's */
    struct worker_call calls[CHANNEL_CALLS];
    void           *item;               /* a streamed item's own memory */
    uint64_t        item_read;          /* bytes ever read from the item stream */

    uint32_t        position;           /* of the item that runs, */
    int             timed;              /*   and it has a time limit */
    uint64_t        result_tail;        /* of the result ring, padding included */
    size_t          need;               /* payload bytes that wait for room in the result ring */
    uint64_t        result_written;     /* bytes ever written to the result stream */
    void           *heap;               /* results that nobody wants, or that go through the stream */
    size_t          heap_size;
    int             urgent;             /* the caller should hear of the last item at once */
};

void worker_result_init(struct worker *w);          /* the way out is open */

/* Writes down how the running item ended: its result, or its failure with `code`. The caller sees it once the item is finished. */
void worker_publish(struct worker *w, int code);

/* Puts a frame of head and body in the result ring, waiting for room, and publishes it. */
void worker_tell(struct worker *w, uint32_t kind, uint32_t tag, const void *head, size_t head_size, const void *body, size_t body_size);
void worker_tell_failure(struct worker *w, uint32_t kind, uint32_t tag, int code);

/* Waits until there is news, spinning first; wakes a sleeping caller before it does. */
typedef int worker_news(struct worker *w);
worker_news worker_news_claim, worker_news_closed, worker_news_stream;
void worker_wait(struct worker *w, worker_news *news);

/* Wakes the caller by its pipe, if that still is one. */
void worker_ring(struct worker *w);

/* Leaves at once: a task wrote over the channel, or took its pipe. */
_Noreturn void worker_damaged(void);

#endif
