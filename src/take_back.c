/* Taking back from a worker what it has not begun.
 *
 * Runs in the caller, under the pool's lock. What was not claimed can be taken back by the claim word alone, whatever else is in the ring:
 * a whole unclaimed frame gives its room back, since no worker reads beyond what it has claimed; of a half-claimed one the count is
 * lowered, before positions beyond it come into being. What the worker holds, behind a small item that it runs, is recalled first; that
 * takes an interrupt at its CPU, so it is done only where nothing else waits there (handout.c: and where that small item has turned out
 * to be a large one). Where no fence can be sent, workers hold nothing; if the host was forbidden to send any since, what they hold
 * stays theirs. */
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

/* Until the worker holds nothing: it may have claimed the next few by the time that it is asked for what it held. */
static int recall(struct books *b, int dead)
{
    struct desk *d = b->channel.desk;
    int asked = 0;
    while (!claim_ask_back(&d->claim, &b->claim, &asked)) {
        if (!asked || !(dead || fence_send()))
            return 0;
        if (claim_give_back(&d->claim, &b->claim, atomic_load(&d->begun)))
            break;
    }
    return -1;
}

static int take(struct books *b, uint32_t want, uint32_t *taken)
{
    claim_word *word = &b->channel.desk->claim;
    if (claim_take_back(word, &b->claim, want, taken))
        return -1;
    return *taken ? 0 : recall(b, 0) || claim_take_back(word, &b->claim, want, taken);
}

void books_recall_of_the_dead(struct books *b)
{
    if (!b->damaged && recall(b, 1))
        b->damaged = 1;
}

int books_take_back(struct books *b, size_t want, struct piece *piece)
{
    if (b->post_head == b->post_tail || b->damaged || !want)
        return -1;
    struct post *post = books_post_at(b, b->post_tail - 1);
    uint32_t taken, ask = want < post->piece.count ? (uint32_t)want : (uint32_t)post->piece.count;
    if (end_offers(b) || take(b, ask, &taken)) {
        b->damaged = 1;
        return -1;
    }
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
