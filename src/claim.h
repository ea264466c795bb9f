/* The claim word: which of the items at a worker are finished, running and waiting.
 *
 * The items handed to a worker have positions 0, 1, 2 ... (modulo 2^30) for as long as it lives. One 64-bit word holds
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
 * has read an older offer cannot append it any more. */
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
};

/* What an open span offers, as its worker sees it. */
struct claim_offer {
    const _Atomic uint32_t *offered;    /* positions from `first` on that may be claimed; 0: the span is not open. NULL: there is no span */
    uint32_t first, most;
};

#define CLAIM_MASK 0x3fffffffu
#define CLAIM_LIMIT 0x100000u       /* items at one worker at a time stay below this: positions never overtake each other */

static inline uint32_t claim_add(uint32_t position, uint32_t n) { return (position + n) & CLAIM_MASK; }
static inline uint32_t claim_distance(uint32_t from, uint32_t to) { return (to - from) & CLAIM_MASK; }
static inline uint32_t claim_finished(struct claim c) { return (c.front - c.running) & CLAIM_MASK; }

/* Bits: closed, running, turn, 30 of front, one that is 0, 30 of back. */
static inline struct claim claim_decode(uint64_t word)
{
    return (struct claim){.front = (uint32_t)(word >> 31) & CLAIM_MASK, .back = (uint32_t)word & 0x7fffffffu,
                          .turn = (uint32_t)(word >> 61) & 1, .running = (uint32_t)(word >> 62) & 1, .closed = (uint32_t)(word >> 63)};
}

static inline uint64_t claim_encode(struct claim c)
{
    return (uint64_t)c.back | (uint64_t)c.front << 31 | (uint64_t)c.turn << 61 | (uint64_t)c.running << 62 | (uint64_t)c.closed << 63;
}

/* The word as it is now; what its worker published with it is visible afterwards. */
struct claim claim_load(claim_word *word);

/* For a new worker, nobody else using the word: nothing claimed, nothing waiting. */
void claim_reset(claim_word *word);

/* The worker: finishes what it runs, if anything, and claims the next item. `mine` is what the worker left in the word: front and
 * running are its own to change. */
enum claim_step {
    CLAIM_GOT,              /* mine->front-1 is yours now */
    CLAIM_EMPTY,            /* nothing waits */
    CLAIM_CLOSED,           /* nothing will be claimed any more */
    CLAIM_DAMAGED           /* the word, or the offer, is not what it can be: something wrote over it */
};
enum claim_step claim_next(claim_word *word, const struct claim_offer *offer, struct claim *mine);

/* The same without claiming: CLAIM_EMPTY, or CLAIM_DAMAGED. */
enum claim_step claim_finish(claim_word *word, struct claim *mine);

/* Would claim_next give anything but CLAIM_EMPTY to a worker that runs nothing? */
int claim_has_news(claim_word *word, const struct claim_offer *offer);

/* claim_next's usual step, from one item to the next and with the word as the worker left it; for each item, hence inline, and on the
 * encoded word, since taking it apart and putting it together costs as much as the swap. How many times it can be taken with what was there
 * then; 0: ask claim_next. The front must not run over into the turn. */
static inline uint32_t claim_ahead(uint64_t left)
{
    uint32_t front = (uint32_t)(left >> 31) & CLAIM_MASK, waiting = claim_distance(front, (uint32_t)left), whole = CLAIM_MASK - front;
    return left >> 62 != 1 ? 0 : waiting < whole ? waiting : whole;
}

/* Nonzero: it is taken (CLAIM_GOT), and *left is the word now; 0: nothing was done, ask claim_next. */
static inline int claim_go_on(claim_word *word, uint64_t *left)
{
    uint64_t old = *left, next = old + (1ull << 31);
    if (!atomic_compare_exchange_strong(word, &old, next))
        return 0;
    *left = next;
    return 1;
}

/* The position of the item that runs. */
static inline uint32_t claim_running(uint64_t word) { return ((uint32_t)(word >> 31) - 1) & CLAIM_MASK; }

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

/* The caller: `back`, `closed` and `turn` are its own to change. Each returns 0 and updates the books, or -1 where the word is damaged and
 * nothing was changed. */
int claim_append(claim_word *word, struct claim_books *books, uint32_t count);      /* publishes frames written before, offers too */
int claim_take_back(claim_word *word, struct claim_books *books, uint32_t want, uint32_t *taken);   /* up to `want` from the end; */
int claim_end_offers(claim_word *word, struct claim_books *books);                  /*   but this first, and then the span is not open */
int claim_close(claim_word *word, struct claim_books *books);

/* The caller: is `seen` possible after the books? Fronts only advance, up to back, and back only over what was offered. */
int  claim_plausible(const struct claim_books *books, struct claim seen);
void claim_see(struct claim_books *books, struct claim seen);      /* it is */

#endif
