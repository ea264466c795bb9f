/* The claim word: which of the items at a worker are finished, running and waiting.
 *
 * The items handed to a worker have positions 0, 1, 2 ... (modulo 2^31) for as long as it lives. One 64-bit word holds
 * {closed, running, front, back}: positions before front are claimed, front ... back-1 wait. The worker claims at the front, the
 * caller appends and takes back at the end, all by compare-and-swap on the whole word, so that one position never goes
 * to both. `running` says that the last claimed item, front-1, is not finished. A worker finishes an item in the
 * very step that claims the next one (or clears `running`): there is no moment between two items, and the step publishes the
 * result that was written before it. Finished positions are therefore front - running, and nothing else needs to say so. */
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
};

#define CLAIM_MASK 0x7fffffffu
#define CLAIM_LIMIT 0x100000u       /* items at one worker at a time stay below this: positions never overtake each other */

static inline uint32_t claim_add(uint32_t position, uint32_t n) { return (position + n) & CLAIM_MASK; }
static inline uint32_t claim_distance(uint32_t from, uint32_t to) { return (to - from) & CLAIM_MASK; }
static inline uint32_t claim_finished(struct claim c) { return (c.front - c.running) & CLAIM_MASK; }
static inline uint32_t claim_waiting(struct claim c) { return claim_distance(c.front, c.back); }

static inline struct claim claim_decode(uint64_t word)
{
    return (struct claim){.front = (uint32_t)(word >> 31) & CLAIM_MASK, .back = (uint32_t)word & CLAIM_MASK,
                          .running = (uint32_t)(word >> 62) & 1, .closed = (uint32_t)(word >> 63)};
}

static inline uint64_t claim_encode(struct claim c)
{
    return (uint64_t)c.back | (uint64_t)c.front << 31 | (uint64_t)c.running << 62 | (uint64_t)c.closed << 63;
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
    CLAIM_DAMAGED           /* the word is not what it was left as: something wrote over it */
};
enum claim_step claim_next(claim_word *word, struct claim *mine);

/* The same without claiming: CLAIM_EMPTY, or CLAIM_DAMAGED. */
enum claim_step claim_finish(claim_word *word, struct claim *mine);

/* claim_next's usual step, for each item and hence inline: from one item to the next, with the word as the worker left it. Nonzero: it is
 * done (CLAIM_GOT), and *left is the word now; 0: nothing was done, ask claim_next. On the encoded word, since taking it apart and
 * putting it together costs as much as the swap. Only a word that runs on, open, with a front that has not run over has `running` alone
 * at its top after the step (or one that ran nothing and whose front did run over into it, which comes to the same). */
static inline int claim_go_on(claim_word *word, uint64_t *left)
{
    uint64_t old = *left, next = old + (1ull << 31);
    if (next >> 62 != 1 || !((old >> 31 ^ old) & CLAIM_MASK) || !atomic_compare_exchange_strong(word, &old, next))
        return 0;
    *left = next;
    return 1;
}

/* The position of the item that runs. */
static inline uint32_t claim_running(uint64_t word) { return ((uint32_t)(word >> 31) - 1) & CLAIM_MASK; }

/* The caller: `back` and `closed` are its own to change, and `books` is what it left in the word. Each returns 0 and updates
 * books, or -1 where the word is damaged and nothing was changed. */
int claim_append(claim_word *word, struct claim *books, uint32_t count);                    /* publishes frames written before */
int claim_take_back(claim_word *word, struct claim *books, uint32_t want, uint32_t *taken); /* up to `want` from the end */
int claim_close(claim_word *word, struct claim *books);

/* The caller: is `seen` possible after `books`? Fronts only advance, up to back. */
int claim_plausible(const struct claim *books, struct claim seen);

#endif
