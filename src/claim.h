/* The claim word: which of the items at a worker are finished, running and waiting.
 *
 * The items handed to a worker have positions 0, 1, 2 ... (modulo 2^27) for as long as it lives. One 64-bit word holds
 * {closed, running, front, back}: positions before front are claimed, front ... back-1 wait. The worker claims at the front, the
 * caller appends and takes back at the end, all by compare-and-swap on the whole word, so that one position never goes
 * to both. `running` says that the last claimed item, front-1, is not finished. A worker finishes an item in the
 * very step that claims the next one (or clears `running`): there is no moment between two items, and the step publishes the
 * result that was written before it. Finished positions are therefore front - running, and nothing else needs to say so.
 *
 * A span may be open: its last position is not back-1, but what its `offered` says, which the caller raises by a store. A worker to which
 * the word gives nothing more appends what was offered by itself, in the step that claims the first of it. So each item of a generator
 * can be had as soon as it is there, and the word's line stays with the worker: with a swap for each, an item took twice as long, or
 * thrice where the CPUs are far apart. `turn` is changed by the caller when it takes back after it had offered something: a worker that
 * has read an older offer cannot append it any more.
 *
 * Small items are claimed several at a time: the first of them runs, and the worker holds those behind it, front ... front+held-1. A swap
 * for each took two thirds of the time of a small item (8 ns of 12 on an Intel Xeon of 2023). Between two swaps the worker stores beside
 * the word which position it has begun, then looks whether the word is still as it left it; if not, it gives back by a swap what
 * it has not begun. The caller, where it wants what is held, changes the word (`recalled`), sends a fence to the worker (fence.h), and
 * then reads what that has begun: either the worker has stored it before the fence, or its look comes behind it and sees the change.
 * So what is behind what was read is not begun, and will not be without another swap: the caller gives it back in the worker's stead. */
#ifndef POOL_CLAIM_H
#define POOL_CLAIM_H

#include <stdatomic.h>
#include <stdint.h>

typedef _Atomic uint64_t claim_word;

struct claim {
    uint32_t front;         /* next position to be claimed */
    uint32_t back;          /* one past the last position that waits */
    uint32_t running;       /* 1: front-1 is claimed and not finished */
    uint32_t closed;        /* 1: the worker claims nothing any more */
    uint32_t turn;          /* 0 or 1 */
    uint32_t held;          /* positions from front on that are claimed too: finished, running or waiting as the worker comes to them */
    uint32_t recalled;      /* 1: the caller wants them */
};

/* What an open span offers, as its worker sees it. */
struct claim_offer {
    const _Atomic uint32_t *offered;    /* positions from `first` on that may be claimed; 0: the span is not open. NULL: there is no span */
    uint32_t first, most;
};

#define CLAIM_MASK 0x7ffffffu
#define CLAIM_LIMIT 0x100000u       /* items at one worker at a time stay below this: positions never overtake each other */
#define CLAIM_BATCH 32u             /* items that are claimed at a time */

static inline uint32_t claim_add(uint32_t position, uint32_t n) { return (position + n) & CLAIM_MASK; }
static inline uint32_t claim_distance(uint32_t from, uint32_t to) { return (to - from) & CLAIM_MASK; }
static inline uint32_t claim_finished(struct claim c) { return (c.front - c.running) & CLAIM_MASK; }

/* Bits: closed, running, turn, recalled, 5 of held, 27 of front, one that is 0, 27 of back. */
enum { CLAIM_AT_FRONT = 28, CLAIM_AT_HELD = 55, CLAIM_AT_RECALLED = 60, CLAIM_AT_TURN, CLAIM_AT_RUNNING, CLAIM_AT_CLOSED };

#define CLAIM_MASK_BACK     (2ull * CLAIM_MASK + 1)         /* with the one that is 0: a back beyond CLAIM_MASK shows damage */
#define CLAIM_MASK_FRONT    ((uint64_t)CLAIM_MASK << CLAIM_AT_FRONT)
#define CLAIM_MASK_HELD     ((uint64_t)(CLAIM_BATCH - 1) << CLAIM_AT_HELD)

static inline uint32_t claim_back(uint64_t word) { return (uint32_t)(word & CLAIM_MASK_BACK); }
static inline uint32_t claim_front(uint64_t word) { return (uint32_t)(word >> CLAIM_AT_FRONT) & CLAIM_MASK; }
static inline uint32_t claim_held(uint64_t word) { return (uint32_t)(word >> CLAIM_AT_HELD) % CLAIM_BATCH; }

static inline struct claim claim_decode(uint64_t word)
{
    return (struct claim){.front = claim_front(word), .back = claim_back(word),
                          .turn = (uint32_t)(word >> CLAIM_AT_TURN) & 1, .running = (uint32_t)(word >> CLAIM_AT_RUNNING) & 1,
                          .closed = (uint32_t)(word >> CLAIM_AT_CLOSED), .held = claim_held(word),
                          .recalled = (uint32_t)(word >> CLAIM_AT_RECALLED) & 1};
}

static inline uint64_t claim_encode(struct claim c)
{
    return (uint64_t)c.back | (uint64_t)c.front << CLAIM_AT_FRONT | (uint64_t)c.held << CLAIM_AT_HELD |
           (uint64_t)c.recalled << CLAIM_AT_RECALLED | (uint64_t)c.turn << CLAIM_AT_TURN | (uint64_t)c.running << CLAIM_AT_RUNNING |
           (uint64_t)c.closed << CLAIM_AT_CLOSED;
}

/* One past the last claimed position. */
static inline uint32_t claim_claimed(struct claim c) { return claim_add(c.front, c.held); }

/* The word as it is now; what its worker published with it is visible afterwards. */
struct claim claim_load(claim_word *word);

/* For a new worker, nobody else using the word: nothing claimed, nothing waiting. */
void claim_reset(claim_word *word);

/* The worker, holding nothing: finishes what it runs, if anything, and claims the next item. `left` is the word as the worker left it:
 * front, held and running are its own to change. */
enum claim_step {
    CLAIM_GOT,              /* left's front-1 is yours now */
    CLAIM_EMPTY,            /* nothing waits */
    CLAIM_CLOSED,           /* nothing will be claimed any more */
    CLAIM_DAMAGED           /* the word, or the offer, is not what it can be: something wrote over it */
};
enum claim_step claim_next(claim_word *word, const struct claim_offer *offer, uint64_t *left);

/* The same without claiming: CLAIM_EMPTY, or CLAIM_DAMAGED. */
enum claim_step claim_finish(claim_word *word, uint64_t *left);

/* Would claim_next give anything but CLAIM_EMPTY to a worker that runs nothing? */
int claim_has_news(claim_word *word, const struct claim_offer *offer);

/* claim_next's usual step, from one item to the next and with the word as the worker left it; for nearly each item, hence inline, and on
 * the encoded word, since taking it apart and putting it together costs as much as the swap. How many can be claimed of what was
 * there then; 0: ask claim_next. The front must not run over into what is held. */
static inline uint32_t claim_ahead(uint64_t left)
{
    uint32_t claimed = claim_front(left) + claim_held(left);
    uint32_t waiting = claim_distance(claimed, (uint32_t)left), whole = CLAIM_MASK - claimed;
    return left >> CLAIM_AT_RUNNING != 1 ? 0 : waiting < whole ? waiting : whole;
}

/* Nothing is held; the next one is claimed. Nonzero: it is (CLAIM_GOT), and *left is the word now; 0: nothing was done. */
static inline int claim_go_on(claim_word *word, uint64_t *left)
{
    uint64_t old = *left, next = old + (1ull << CLAIM_AT_FRONT);
    if (!atomic_compare_exchange_strong(word, &old, next))
        return 0;
    *left = next;
    return 1;
}

/* The same where all that was held is finished, and for n more, CLAIM_BATCH at most; the first of them is begun. begun: the word beside. */
static inline int claim_go_on_together(claim_word *word, _Atomic uint32_t *begun, uint64_t *left, uint32_t n)
{
    uint64_t old = *left, held = claim_held(old);
    if (n > 1)
        atomic_store_explicit(begun, claim_add(claim_front(old), (uint32_t)held), memory_order_release);
    uint64_t next = old + ((held + 1) << CLAIM_AT_FRONT) - (held << CLAIM_AT_HELD) + ((uint64_t)(n - 1) << CLAIM_AT_HELD);
    if (!atomic_compare_exchange_strong(word, &old, next))
        return 0;
    *left = next;
    return 1;
}

/* From one item to the next, which is held. Nonzero: it is begun; 0: ask claim_settle. The load comes after the store in the program; in
 * the machine it may come before, but for the caller's fence. */
static inline int claim_begin(claim_word *word, _Atomic uint32_t *begun, uint64_t left, uint32_t position)
{
    atomic_store_explicit(begun, position, memory_order_release);
    atomic_signal_fence(memory_order_seq_cst);
    return atomic_load_explicit(word, memory_order_relaxed) == left;
}

/* The worker, which has stored `begun`: holds nothing any more but that. CLAIM_GOT: it may run; CLAIM_EMPTY: the caller was quicker, and
 * the item before it ran last; or CLAIM_DAMAGED. */
enum claim_step claim_settle(claim_word *word, uint32_t begun, uint64_t *left);

/* The position of the item that runs, as far as the word tells. */
static inline uint32_t claim_running(uint64_t word) { return claim_add(claim_front(word), CLAIM_MASK); }

/* The caller's books on the word. */
struct claim_books {
    struct claim seen;      /* back, closed and turn: as left, or as the worker appended what was offered; front, running: as last seen */
    uint32_t offered;       /* positions from back on that an open span offers */
    int      exposed;       /* something was offered since the turn was changed last */
    int      barred;        /* nothing may be offered: a worker may still hold an offer of the last turn but one, */
    uint32_t barred_at;     /*   as long as this is its front */
};

/* One past the last position that was appended or offered. */
static inline uint32_t claim_end(const struct claim_books *books) { return claim_add(books->seen.back, books->offered); }

/* The caller: `back`, `closed` and `turn` are its own to change, and what it has recalled. Each returns 0 and updates the books, or -1
 * where the word is damaged and nothing was changed. */
int claim_append(claim_word *word, struct claim_books *books, uint32_t count);      /* publishes frames written before, offers too */
int claim_end_offers(claim_word *word, struct claim_books *books);                  /* then the span is not open, and first of all */
int claim_take_back(claim_word *word, struct claim_books *books, uint32_t want, uint32_t *taken);   /* up to `want` from the end; if none */
int claim_give_back(claim_word *word, struct claim_books *books, uint32_t begun);   /*   waits, what is held is recalled; then this, with */
int claim_close(claim_word *word, struct claim_books *books);                       /*   `begun` as it was read behind a fence */

/* The caller: is `seen` possible after the books? Fronts only advance, up to back, and back only over what was offered. */
int  claim_plausible(const struct claim_books *books, struct claim seen);
void claim_see(struct claim_books *books, struct claim seen);      /* it is */

#endif
