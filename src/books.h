/* The caller's books on one worker: what was posted to it, what it has claimed, what was taken from it.
 *
 * All of it is private memory of the host, changed under the pool's lock. Shared memory is never read for what the books know. The
 * owner of a post is whoever the items belong to; the books only hand it back. */
#ifndef POOL_BOOKS_H
#define POOL_BOOKS_H

#include "channel.h"
#include "piece.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { BOOKS_POSTS = 1024 };            /* posts at one worker at a time; a power of two */
enum { BOOKS_INLINE = 64 << 10 };       /* bytes of items and results in one span */

struct post {
    struct piece piece;                 /* what is left of it: not taken, not taken back */
    uint32_t     first;                 /* position of the first item left */
    uint16_t     call;
    uint16_t     place;
    int          slot;                  /* lane slot, or -1 */
    int          taught;                /* a call frame was sent along */
    int          eager;                 /* somebody waits for the end of each of its items */
    uint32_t     span_first;            /* as posted: position and index of the first item */
    size_t       span_index;
    uint64_t     start, begin;          /* in the task ring, call included: with the padding of an early turn, and behind it */
    struct task_span *span;             /* in the ring: only its count is ever written again */
    const unsigned char *results;       /* RESULT_PACKED: of the first item left */
};

struct known_call {
    struct call_definition definition;
    uint32_t posts;                     /* that use it */
    uint32_t known;                     /* 0: this number is free */
};

/* A payload on its way through a stream. */
struct transfer {
    const unsigned char *from;          /* item stream: the source */
    unsigned char       *to;            /* result stream: the heap; NULL: no memory, it is read and dropped */
    size_t   size, done;
    size_t   ready;                     /* result stream: bytes whose pages are there */
    int      active;
    uint32_t position;                  /* result stream: whose it is; item stream: the claim word's front meanwhile */
};

struct books {
    struct channel    channel;
    int               task_pipe;        /* write end; -1: nobody there to be woken */
    struct claim_books claim;
    uint32_t          taken;            /* positions before it are settled */
    struct post      *posts;            /* BOOKS_POSTS of them, used as a ring */
    uint32_t          post_head, post_tail;
    struct task_span *open;             /* the last post's span, where it may grow: */
    struct {
        const void    *owner;           /* by this one's items, from this index on, of this size; NULL: by none, */
        size_t         index, size;
        unsigned char *at;              /*   there, */
        uint32_t       offered, most;   /*   from so many to so many; */
        uint32_t       told;            /*   of so many the rest of the books knows */
        uint32_t       hasty;           /* without a fence for each */
        struct post   *post;
    } grow;
    struct known_call calls[CHANNEL_CALLS];
    unsigned          next_call;
    int               number;           /* of the call that books_room was asked about last; -1: there is none for it */
    uint64_t          task_head, task_tail;
    uint64_t          result_head;      /* before it all is taken; published once every event of a look was used */
    uint64_t          result_next;      /* behind the frame whose event is being used */
    uint64_t          result_tail;      /* as last seen */
    uint64_t          item_written, result_read;
    struct transfer   feed, catching;
    unsigned          item_slots;       /* lane: bits of those in use */
    unsigned          result_slots;     /* lane: bits of those that hold results not yet given up */
    uint32_t          eager;            /* posted items whose end somebody waits for one by one */
    int               damaged;          /* something was not as it must be: nothing more is read */
    int               unfenced;         /* no fence could be sent: what it holds cannot be had */
    uint32_t          lost;             /* mourning: claimed items whose end will not be told */
    char              text[STATUS_TEXT + 1];
};

int  books_init(struct books *books);           /* 0, or ENOMEM */
void books_fini(struct books *books);

/* For a new worker: everything was taken or taken back. Result slots that are still held stay so. */
void books_reset(struct books *books, int task_pipe);

static inline uint32_t books_outstanding(const struct books *b) { return claim_distance(b->taken, claim_end(&b->claim)); }

/* How many items have not started, by that word of the worker; of what it holds, some may have ended. */
static inline uint32_t books_waiting(const struct books *b, struct claim now) { return claim_distance(now.front, claim_end(&b->claim)); }

/* ---- Posting: post.c */

/* How many items of this kind could be posted in one piece now. */
size_t books_room(struct books *books, const struct call_definition *call, size_t item_size);

/* Posts piece->count items and wakes the worker. `owned` goes over to the books. eager: the end of each is waited for. most: it may grow to
 * so many items; neither number may be more than books_room has just said for this call. 0; -1 where the channel is damaged (piece
 * untouched). */
int books_post(struct books *books, const struct call_definition *call, const struct piece *piece, int eager, size_t most);

/* Adds one item to the last post, where that is its owner's, has room, and the item is the next one and of its size. 0; -1: no. */
int books_grow(struct books *books, const void *owner, size_t index, const void *data, size_t size);

/* So many that come one after the other may be added in haste. */
size_t books_may_run(const struct books *books, const void *owner, size_t index, size_t size);

/* Adds one of those: the worker has it at once, but the rest of the books is told by books_end_run only, before anybody else looks. For
 * each item of a fast generator, hence inline. */
static inline void books_run(struct books *b, const void *data, size_t size)
{
    if (size == 8)                      /* the call alone takes longer */
        memcpy(b->grow.at, data, 8);
    else if (size)
        memcpy(b->grow.at, data, size);
    b->grow.at += size;
    atomic_store_explicit(&b->open->offered, ++b->grow.offered, memory_order_release);
}

/* How many were added. */
size_t books_end_run(struct books *books);

/* From now on what is added to the last post is hasty, or not any more. */
void books_hurry(struct books *books, int hasty);

/* ---- Taking back: take_back.c */

/* Takes back up to `want` items that have not started, from the end, of one post. 0: *piece is set (its data is good until the next post
 * here; what is owned comes back only with a whole post); -1: none to be had. */
int books_take_back(struct books *books, size_t want, struct piece *piece);

/* What the worker holds waits again, so that a look sees all that has ended; of a dead one before the last look. */
void books_recall(struct books *books, int dead);

/* ---- What is posted */

/* What books_take_back would take from; NULL where nothing is posted. */
struct piece *books_last(struct books *books);

/* Has the owner items here that have not ended? */
int books_holds(const struct books *books, const void *owner);

/* The post of the item that runs now, and its position; NULL where none does. */
const struct piece *books_running(struct books *books, uint32_t *position);

/* Does the running item wait for the caller: for room, as its worker says, or with a payload on its way? *moved: bytes that have passed
 * through the streams so far. */
int books_is_stuck(const struct books *books, uint64_t *moved);

/* When the worker says that the item at that position started; CLOCK_NEVER where it has said nothing. */
int64_t books_started(const struct books *books, uint32_t position);

/* The worker claims nothing more. */
void books_close(struct books *books);

/* ---- Taking: take.c */

enum event_kind {
    EVENT_READY = 1,
    EVENT_UNREADY,          /* code, text */
    EVENT_UNFIT,            /* code: an errno; text */
    EVENT_RESULT,           /* one item: data, size */
    EVENT_RUN,              /* count items: data has count results of size bytes each, or is NULL (dropped) */
    EVENT_FAILED,           /* one item: code, text */
    EVENT_LOST,             /* mourning: count items that had started; piece.owned is the taker's */
    EVENT_LEFT              /* mourning: piece has not started */
};

struct event {
    enum event_kind kind;
    struct piece    piece;          /* owner, index, count, tries of the items; for EVENT_LEFT all of it */
    const void     *data;           /* good until the next event; */
    size_t          size;
    void           *owned;          /*   but heap memory that is the taker's, where set, */
    int             slot;           /*   and a result slot until books_give_up, unless -1 */
    int             code;
    const char     *text;           /* good until the next event */
};

/* Looks at the channel, so that books_next can tell what is new, and moves streams on. Nonzero: a stream has moved. */
int books_look(struct books *books);

/* The next event; 0 when there is none. generation: the worker's, for READY. */
int books_next(struct books *books, uint32_t generation, struct event *event);

/* The worker is dead and all events are taken: LOST for what had started, then LEFT for the rest; 0 when all is told. */
int books_mourn(struct books *books, struct event *event);

/* The result in that slot is not needed any more. */
void books_give_up(struct books *books, int slot);

/* The caller wants to hear of this worker, by its word (how: CHANNEL_WATCHING) or by its pipe as well (CHANNEL_ASLEEP). Nonzero: there is
 * something already. */
enum books_when {
    BOOKS_IN_TIME,          /* of each finished item where somebody waits for each, else when half of what waits there is done */
    BOOKS_AT_THE_END,       /* or, with nothing to be given to it meanwhile, when all is, unless the results have to be fetched */
    BOOKS_HALF_WAY          /* when half is done, whoever waits: the caller looks again soon */
};
int books_wait(struct books *books, uint32_t how, enum books_when when);

/* Has it nothing to do, as its own word says now? */
int books_are_dry(const struct books *books);

/* Does the worker not sleep? */
static inline int books_are_awake(const struct books *b)
{
    return atomic_load_explicit(&b->channel.desk->worker_state, memory_order_relaxed) == CHANNEL_AWAKE;
}

/* Has it something to tell, or was never asked? */
int books_rang(const struct books *books);

/* It is looked at next, whatever it says. */
void books_awake(struct books *books);

/* ---- Shared by the files above */

/* Releases the post's means once nothing of it is left. */
void books_retire(struct books *books);
struct post *books_front(struct books *books);
struct post *books_post_at(struct books *books, uint32_t nth);
struct post *books_post_of(struct books *books, uint32_t position);
void books_wake_worker(struct books *books);

/* Forgets the last post, of which nothing was claimed: its worker has not read it and never will. */
void books_drop_last(struct books *books);

/* No position beyond those that were offered belongs to the span, and none is offered any more. */
void books_end_open_span(struct books *books);

#endif
