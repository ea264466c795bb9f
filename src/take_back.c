/* Taking back from a worker what it has not begun.
 *
 * Runs in the caller, under the pool's lock. What was not claimed can be taken back by the claim word alone, whatever else is in the ring:
 * a whole unclaimed frame gives its room back, since no worker reads beyond what it has claimed; of a half-claimed one the count is
 * lowered, before positions beyond it come into being. What the worker holds, behind a small item that it runs, is recalled first; that
 * takes an interrupt at its CPU, so it is done only where nothing else waits there (handout.c: and where that small item has turned out
 * to be a large one). Where no fence can be sent, workers hold nothing. If the host was forbidden to send any since, what they hold at
 * the first time stays theirs, and then they hold nothing any more. */
#include "books.h"

#include "fence.h"

/* Nothing is on offer any more: what was waits as all else does, and may be taken back. */
static int end_offers(struct books *b)
{
    uint32_t offered = b->claim.offered;
    if (claim_end_offers(&b->channel.desk->claim, &b->claim))
        return -1;
    books_end_open_span(b);
    if (offered)
        books_wake_worker(b);           /* it may have seen the end of the offer, but not the word */
    return 0;
}

/* What was asked for by claim_take_back. 0: it waits; -1: it stays where it is, without a fence, or the word is damaged. */
static int give_back(struct books *b, int dead)
{
    struct desk *d = b->channel.desk;
    if (!dead && !fence_send()) {
        b->unfenced = 1;
        atomic_store_explicit(&d->unfenced, 1, memory_order_relaxed);
        return -1;
    }
    if (!claim_give_back(&d->claim, &b->claim, atomic_load(&d->begun)))
        return 0;
    b->damaged = 1;
    return -1;
}

/* Again where the worker, after it was made to give back what it held, has claimed that once more. */
static uint32_t take(struct books *b, uint32_t want)
{
    uint32_t taken;
    do {
        if (claim_take_back(&b->channel.desk->claim, &b->claim, want, &taken)) {
            b->damaged = 1;
            return 0;
        }
    } while (!taken && b->claim.seen.recalled && !give_back(b, 0));
    return taken;
}

void books_recall(struct books *b, int dead)
{
    uint32_t none;
    if (b->damaged)
        return;
    if (claim_take_back(&b->channel.desk->claim, &b->claim, 0, &none))
        b->damaged = 1;
    else if (b->claim.seen.recalled)
        give_back(b, dead);
}

int books_take_back(struct books *b, size_t want, struct piece *piece)
{
    if (b->post_head == b->post_tail || b->damaged || !want)
        return -1;
    struct post *post = books_post_at(b, b->post_tail - 1);
    uint32_t taken, ask = want < post->piece.count ? (uint32_t)want : (uint32_t)post->piece.count;
    if (end_offers(b)) {
        b->damaged = 1;
        return -1;
    }
    taken = take(b, ask);
    if (!taken)
        return -1;
    uint32_t back = b->claim.seen.back;
    *piece = post->piece;
    size_t left = post->piece.count - taken;
    piece->count = taken;
    piece->index += left;
    if (post->place == PLACE_LANE)
        piece->data = b->channel.item_slots + (size_t)post->slot * b->channel.slot_size;
    else if (post->place == PLACE_INLINE)
        piece->data = (const unsigned char *)(post->span + 1) + (piece->index - post->span_index) * piece->size;
    b->eager -= post->eager ? taken : 0;
    post->piece.count = left;
    if (!left && post->span_first == back) {
        books_drop_last(b);
        return 0;
    }
    atomic_store_explicit(&post->span->count, claim_distance(post->span_first, back), memory_order_relaxed);
    piece->owned = NULL;
    books_retire(b);
    return 0;
}
