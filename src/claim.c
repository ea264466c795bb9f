/* The claim word: see claim.h for what it holds and why.
 *
 * Runs in the caller (under the pool's lock) and in the worker. No lock, nothing to be left behind by a process that is killed: each
 * step is one compare-and-swap, and before or after it the word is whole.
 *
 * Why one word and not two indices: with separate words a caller that takes back the last item and a worker that claims it
 * need a fence and a second look on both sides (as in the THE protocol), on the path of every item. Here the swap decides, and it
 * is also the full fence that the sleep handshake in channel.c wants after a result is published.
 *
 * What is claimed ahead is the exception to the fence at each item, and the caller's fence is what makes up for it: claim.h tells how, and
 * tests/model/hold.pml that it fails without any part of it.
 *
 * Both sides keep in private memory what they left in the word. What the other side cannot have changed must be as it was left: if
 * not, a task wrote over it, and the word is not believed any further.
 *
 * ABA does no harm without offers: a worker reads the frame of a position, and the count of its span, only after its swap has claimed it,
 * so it sees what is there now, whichever was there when it first looked. An offer, however, is read before the swap that relies on it,
 * and after the word that is swapped: what was offered may have been appended by the caller and taken back since, and then the word would
 * be the same again, but for the turn, which claim_end_offers changes before anything is taken back. Twice changed it would be the same
 * once more: so nothing is offered after a change until the front has moved. The worker moves it, by a swap, and has no older offer in
 * its hands then; or the caller does, for a worker that holds something, and such a one has no offer at all. The model (tests/model)
 * fails without either. */
#include "claim.h"

struct claim claim_load(claim_word *word)
{
    return claim_decode(atomic_load(word));
}

void claim_reset(claim_word *word)
{
    atomic_store(word, claim_encode((struct claim){0}));
}

/* Nothing waits: what does the span offer? -1: what cannot be. */
static int take_offer(const struct claim_offer *offer, uint32_t front, uint32_t *back)
{
    uint32_t offered = offer->offered ? atomic_load(offer->offered) : 0;
    uint32_t end = claim_add(offer->first, offered);
    if (!offered)
        return 0;
    if (offered > offer->most || claim_distance(front, end) > offer->most)
        return -1;
    *back = end;
    return 0;
}

/* What the worker alone changes, as long as it holds nothing, is as it left it. */
static int is_as_left(uint64_t word, uint64_t left)
{
    return !((word ^ left) & (CLAIM_MASK_FRONT | CLAIM_MASK_HELD | 1ull << CLAIM_AT_RUNNING));
}

enum claim_step claim_next(claim_word *word, const struct claim_offer *offer, uint64_t *left)
{
    uint64_t old = atomic_load(word);
    for (;;) {
        uint32_t front = claim_front(old), back = claim_back(old);
        int closed = old >> CLAIM_AT_CLOSED != 0;
        if (!is_as_left(old, *left) || (front == back && !closed && take_offer(offer, front, &back)))
            return CLAIM_DAMAGED;
        enum claim_step step = closed ? CLAIM_CLOSED : front == back ? CLAIM_EMPTY : CLAIM_GOT;
        uint64_t next = old & ~(1ull << CLAIM_AT_RUNNING);
        if (step == CLAIM_GOT)
            next = (old & ~(CLAIM_MASK_FRONT | CLAIM_MASK_BACK)) | (uint64_t)claim_add(front, 1) << CLAIM_AT_FRONT | back |
                   1ull << CLAIM_AT_RUNNING;
        else if (next == old)
            return step;                /* nothing to finish and nothing to claim: leave the line alone */
        if (atomic_compare_exchange_weak(word, &old, next)) {
            *left = next;
            return step;
        }
    }
}

enum claim_step claim_finish(claim_word *word, uint64_t *left)
{
    uint64_t old = atomic_load_explicit(word, memory_order_relaxed), next;
    do {
        if (!is_as_left(old, *left))
            return CLAIM_DAMAGED;
        next = old & ~(1ull << CLAIM_AT_RUNNING);
    } while (!atomic_compare_exchange_weak(word, &old, next));
    *left = next;
    return CLAIM_EMPTY;
}

enum claim_step claim_settle(claim_word *word, uint32_t begun, uint64_t *left)
{
    struct claim mine = claim_decode(*left), next;
    uint64_t old = atomic_load(word);
    do {
        next = claim_decode(old);
        int given_back = !next.held && (next.front == begun || next.front == claim_add(begun, 1));
        if (!next.running || (!given_back && (next.front != mine.front || next.held != mine.held)))
            return CLAIM_DAMAGED;
        if (given_back) {
            *left = old;
            return next.front == begun ? CLAIM_EMPTY : CLAIM_GOT;
        }
        next.front = claim_add(begun, 1);
        next.held = next.recalled = 0;
    } while (!atomic_compare_exchange_weak(word, &old, claim_encode(next)));
    *left = claim_encode(next);
    return CLAIM_GOT;
}

int claim_has_news(claim_word *word, const struct claim_offer *offer)
{
    uint64_t now = atomic_load(word);
    uint32_t front = claim_front(now), back = claim_back(now);
    return front != back || now >> CLAIM_AT_CLOSED || take_offer(offer, front, &back) || front != back;
}

int claim_plausible(const struct claim_books *books, struct claim seen)
{
    const struct claim *left = &books->seen;
    uint32_t open = claim_distance(claim_finished(*left), seen.back);
    uint32_t moved = claim_distance(claim_finished(*left), seen.front);
    return seen.back <= CLAIM_MASK && claim_distance(left->back, seen.back) <= books->offered && seen.closed == left->closed &&
           seen.turn == left->turn && moved <= open && seen.running <= moved && claim_distance(left->front, seen.front) <= open &&
           seen.held <= open - moved && seen.recalled <= left->recalled;
}

void claim_see(struct claim_books *books, struct claim seen)
{
    books->offered -= claim_distance(books->seen.back, seen.back);
    books->barred &= seen.front == books->barred_at;
    books->seen = seen;
}

int claim_append(claim_word *word, struct claim_books *books, uint32_t count)
{
    uint64_t old = atomic_load_explicit(word, memory_order_relaxed);
    struct claim next;
    do {
        next = claim_decode(old);
        if (!claim_plausible(books, next))
            return -1;
        next.back = claim_add(claim_end(books), count);
    } while (!atomic_compare_exchange_weak(word, &old, claim_encode(next)));
    books->seen.back = next.back;
    books->offered = 0;
    return 0;
}

int claim_end_offers(claim_word *word, struct claim_books *books)
{
    uint64_t old = atomic_load_explicit(word, memory_order_relaxed);
    struct claim next;
    if (!books->exposed)
        return 0;
    do {
        next = claim_decode(old);
        if (!claim_plausible(books, next))
            return -1;
        next.back = claim_end(books);
        next.turn = !next.turn;
    } while (!atomic_compare_exchange_weak(word, &old, claim_encode(next)));
    books->seen.back = next.back;
    books->seen.turn = next.turn;
    books->offered = 0;
    books->exposed = 0;
    books->barred = 1;
    books->barred_at = next.front;
    return 0;
}

int claim_take_back(claim_word *word, struct claim_books *books, uint32_t want, uint32_t *taken)
{
    uint64_t old = atomic_load_explicit(word, memory_order_relaxed);
    struct claim next;
    *taken = 0;
    do {
        next = claim_decode(old);
        if (!claim_plausible(books, next))
            return -1;
        uint32_t waiting = claim_distance(claim_claimed(next), next.back);
        *taken = want < waiting ? want : waiting;
        next.back = claim_distance(*taken, next.back);
        next.recalled |= !*taken && next.held;
        if (!*taken && !next.held)
            break;
    } while (!atomic_compare_exchange_weak(word, &old, claim_encode(next)));
    if (*taken)
        books->seen.back = next.back;
    books->seen.recalled = next.recalled;
    return 0;
}

int claim_close(claim_word *word, struct claim_books *books)
{
    uint64_t old = atomic_load_explicit(word, memory_order_relaxed);
    struct claim next;
    do {
        next = claim_decode(old);
        if (!claim_plausible(books, next))
            return -1;
        next.closed = 1;
    } while (!atomic_compare_exchange_weak(word, &old, claim_encode(next)));
    books->offered -= claim_distance(books->seen.back, next.back);
    books->seen.back = next.back;
    books->seen.closed = 1;
    return 0;
}

int claim_give_back(claim_word *word, struct claim_books *books, uint32_t begun)
{
    uint64_t old = atomic_load_explicit(word, memory_order_relaxed);
    struct claim next;
    do {
        next = claim_decode(old);
        if (!claim_plausible(books, next))
            return -1;
        if (!next.recalled)
            break;                      /* the worker was quicker */
        uint32_t went = claim_distance(next.front, claim_add(begun, 1));
        if (went > next.held + 1)
            return -1;
        next.front = claim_add(next.front, went < next.held ? went : next.held);        /* one beyond: it was about to claim that */
        next.held = next.recalled = 0;
    } while (!atomic_compare_exchange_weak(word, &old, claim_encode(next)));
    books->seen.recalled = 0;
    return 0;
}
