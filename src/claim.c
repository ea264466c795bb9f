/* The claim word: see claim.h for what it holds and why.
 *
 * Runs in the caller (under the pool's lock) and in the worker. No lock, nothing to be left behind by a process that is killed: each
 * step is one compare-and-swap, and before or after it the word is whole.
 *
 * Why one word and not two indices: with separate words a caller that takes back the last item and a worker that claims it
 * need a fence and a second look on both sides (as in the THE protocol), on the path of every item. Here the swap decides, and it
 * is also the full fence that the sleep handshake in channel.c wants after a result is published.
 *
 * Both sides keep in private memory what they left in the word. What the other side cannot have changed must be as it was left: if
 * not, a task wrote over it, and the word is not believed any further.
 *
 * ABA does no harm: a worker reads the frame of a position only after its swap has claimed it, so it sees the frame that is there
 * now, whichever was there when it first looked. */
#include "claim.h"

struct claim claim_load(claim_word *word)
{
    return claim_decode(atomic_load(word));
}

void claim_reset(claim_word *word)
{
    atomic_store(word, claim_encode((struct claim){0}));
}

enum claim_step claim_next(claim_word *word, struct claim *mine)
{
    uint64_t old = atomic_load_explicit(word, memory_order_relaxed);
    for (;;) {
        struct claim now = claim_decode(old);
        if (now.front != mine->front || now.running != mine->running)
            return CLAIM_DAMAGED;
        enum claim_step step = now.closed ? CLAIM_CLOSED : now.front == now.back ? CLAIM_EMPTY : CLAIM_GOT;
        struct claim next = now;
        next.running = step == CLAIM_GOT;
        next.front = claim_add(now.front, next.running);
        if (!next.running && !now.running)
            return step;            /* nothing to finish and nothing to claim: leave the line alone */
        if (atomic_compare_exchange_weak(word, &old, claim_encode(next))) {
            *mine = next;
            return step;
        }
    }
}

enum claim_step claim_finish(claim_word *word, struct claim *mine)
{
    uint64_t old = atomic_load_explicit(word, memory_order_relaxed);
    struct claim next;
    do {
        next = claim_decode(old);
        if (next.front != mine->front || next.running != mine->running)
            return CLAIM_DAMAGED;
        next.running = 0;
    } while (!atomic_compare_exchange_weak(word, &old, claim_encode(next)));
    *mine = next;
    return CLAIM_EMPTY;
}

int claim_plausible(const struct claim *books, struct claim seen)
{
    uint32_t open = claim_distance(claim_finished(*books), books->back);
    uint32_t moved = claim_distance(claim_finished(*books), seen.front);
    return seen.back == books->back && seen.closed == books->closed && moved <= open && seen.running <= moved &&
           claim_distance(books->front, seen.front) <= open;
}

int claim_append(claim_word *word, struct claim *books, uint32_t count)
{
    uint64_t old = atomic_load_explicit(word, memory_order_relaxed);
    struct claim next;
    do {
        next = claim_decode(old);
        if (!claim_plausible(books, next))
            return -1;
        next.back = claim_add(next.back, count);
    } while (!atomic_compare_exchange_weak(word, &old, claim_encode(next)));
    books->back = next.back;
    return 0;
}

int claim_take_back(claim_word *word, struct claim *books, uint32_t want, uint32_t *taken)
{
    uint64_t old = atomic_load_explicit(word, memory_order_relaxed);
    struct claim next;
    *taken = 0;
    do {
        next = claim_decode(old);
        if (!claim_plausible(books, next))
            return -1;
        uint32_t waiting = claim_waiting(next);
        *taken = want < waiting ? want : waiting;
        if (!*taken)
            return 0;
        next.back = (next.back - *taken) & CLAIM_MASK;
    } while (!atomic_compare_exchange_weak(word, &old, claim_encode(next)));
    books->back = next.back;
    return 0;
}

int claim_close(claim_word *word, struct claim *books)
{
    uint64_t old = atomic_load_explicit(word, memory_order_relaxed);
    struct claim next;
    do {
        next = claim_decode(old);
        if (!claim_plausible(books, next))
            return -1;
        next.closed = 1;
    } while (!atomic_compare_exchange_weak(word, &old, claim_encode(next)));
    books->closed = 1;
    return 0;
}
