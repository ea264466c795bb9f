/* Taking what a worker tells: results, failures, needs; and, after its death, what is left.
 *
 * Runs in the caller, under the pool's lock, in whichever thread turns the loop. The claim word says how many items are finished; the ring
 * holds frames for those that have something to tell, in the order of their positions. The claim word is loaded first and the ring's
 * tail second, so that a finished item's frame is always among those seen. Frames of items beyond the claim word's view wait
 * for the next look.
 *
 * Nothing here is believed: a position must be the next one, a slot must be free in the books, a count must be possible. The first thing
 * that is not as it must be marks the books damaged; then nothing more is read, and the worker has to go. Positions and sizes
 * are copied out of shared memory before they are judged. */
#include "books.h"

#include "fd.h"

#include <stdlib.h>
#include <string.h>

static int damage(struct books *b)
{
    b->damaged = 1;
    return 0;
}

static void wake_stuck_worker(struct books *b)
{
    if (b->task_pipe >= 0 && channel_must_wake_stuck_worker(b->channel.desk))
        fd_wake(b->task_pipe);
}

/* ---- Streams */

static int pump_feed(struct books *b)
{
    struct transfer *t = &b->feed;
    struct desk *d = b->channel.desk;
    size_t much = stream_write(b->channel.item_stream, &d->item_stream_tail, &d->item_stream_head, &b->item_written, t->from + t->done,
                               t->size - t->done);
    if (much == SIZE_MAX)
        return damage(b);
    t->done += much;
    t->active = t->done < t->size;
    return much > 0;
}

static int pump_catch(struct books *b)
{
    struct transfer *t = &b->catching;
    struct desk *d = b->channel.desk;
    if (t->to)
        pages_prepare_ahead(t->to, t->size, t->done + CHANNEL_STREAM, &t->ready);
    size_t much = stream_read(b->channel.result_stream, &d->result_stream_tail, &d->result_stream_head, &b->result_read,
                              t->to ? t->to + t->done : NULL, t->size - t->done);
    if (much == SIZE_MAX)
        return damage(b);
    t->done += much;
    return much > 0;
}

static int pump(struct books *b)
{
    int moved = 0;
    if (b->feed.active)
        moved |= pump_feed(b);
    if (b->catching.active && b->catching.done < b->catching.size)
        moved |= pump_catch(b);
    if (moved)
        wake_stuck_worker(b);
    return moved;
}

/* ---- Looking */

/* Gives the room of the frames that were used back to the worker, which may wait for it: before we can think of sleeping, since a worker
 * without room has no other news to wake us with. */
static void publish_head(struct books *b)
{
    if (b->result_next == b->result_head)
        return;
    b->result_head = b->result_next;
    atomic_store(&b->channel.desk->result_head, b->result_head);
    wake_stuck_worker(b);
}

int books_look(struct books *b)
{
    if (b->damaged)
        return 0;
    struct claim seen = claim_load(&b->channel.desk->claim);
    uint64_t tail = atomic_load_explicit(&b->channel.desk->result_tail, memory_order_acquire);
    if (!claim_plausible(&b->claim, seen) || tail - b->result_next > CHANNEL_RESULTS)
        return damage(b);
    if (b->feed.active && (seen.front != b->feed.position || !seen.running))
        return damage(b);           /* it went on without what it had asked for, which may not be there much longer */
    int moved = pump(b);
    claim_see(&b->claim, seen);
    b->result_tail = tail;
    return moved;
}

/* ---- Events */

/* Takes `count` items off the front post. */
static void settle(struct books *b, struct post *post, size_t count, struct event *e)
{
    e->piece = post->piece;
    e->piece.count = count;
    e->piece.tries++;
    post->piece.index += count;
    post->piece.count -= count;
    post->first = claim_add(post->first, (uint32_t)count);
    post->results += b->calls[post->call].definition.mode == RESULT_PACKED ? count * b->calls[post->call].definition.out_size : 0;
    b->taken = claim_add(b->taken, (uint32_t)count);
    b->eager -= post->eager ? (uint32_t)count : 0;
}

static int take_run(struct books *b, struct post *post, size_t count, struct event *e)
{
    const struct call_definition *call = &b->calls[post->call].definition;
    e->kind = EVENT_RUN;
    e->size = call->mode == RESULT_PACKED ? call->out_size : 0;
    e->data = call->mode == RESULT_PACKED ? post->results : NULL;
    settle(b, post, count, e);
    books_retire(b);
    return 1;
}

static int take_text(struct books *b, const struct frame *frame, struct event *e)
{
    struct tell_failure head;
    if (frame->size < sizeof head)
        return damage(b);
    memcpy(&head, frame->payload, sizeof head);
    size_t size = head.text_size;
    if (size > STATUS_TEXT || size > frame->size - sizeof head)
        return damage(b);
    memcpy(b->text, (const char *)frame->payload + sizeof head, size);
    b->text[size] = '\0';
    e->code = head.code;
    e->text = b->text;
    return 1;
}

static int take_lane(struct books *b, const struct frame *frame, struct event *e)
{
    struct tell_lane lane;
    if (frame->size != sizeof lane)
        return damage(b);
    memcpy(&lane, frame->payload, sizeof lane);
    if (lane.slot >= CHANNEL_LANE_SLOTS || lane.size > b->channel.slot_size || b->result_slots & 1u << lane.slot)
        return damage(b);
    b->result_slots |= 1u << lane.slot;
    e->slot = (int)lane.slot;
    e->data = channel_result_slot(&b->channel, (size_t)lane.slot, (size_t)lane.size, PAGES_READ);
    e->size = (size_t)lane.size;
    return 1;
}

/* A streamed result is an event once all of it was read. */
static int take_stream(struct books *b, const struct frame *frame, struct event *e)
{
    struct transfer *t = &b->catching;
    if (!t->active || t->position != frame->tag || t->done < t->size)
        return damage(b);
    t->active = 0;
    if (t->to) {
        e->data = e->owned = t->to;
        e->size = t->size;
        t->to = NULL;
        return 1;
    }
    e->kind = EVENT_FAILED;
    e->code = -1;
    e->text = "no memory for its result";
    return 1;
}

static int take_frame(struct books *b, const struct frame *frame, struct event *e)
{
    e->kind = EVENT_RESULT;
    switch (frame->kind) {
    case TELL_RESULT:
        e->data = frame->payload;
        e->size = (size_t)frame->size;
        return 1;
    case TELL_RESULT_LANE:
        return take_lane(b, frame, e);
    case TELL_RESULT_STREAM:
        return take_stream(b, frame, e);
    case TELL_FAILED:
        e->kind = EVENT_FAILED;
        return take_text(b, frame, e);
    default:
        return damage(b);
    }
}

static void skip(struct books *b, const struct frame *frame)
{
    b->result_next += frame_extent(&b->channel.results, frame->size);
}

static int begin_catch(struct books *b, const struct frame *frame)
{
    struct tell_stream head;
    if (frame->size != sizeof head)
        return damage(b);
    memcpy(&head, frame->payload, sizeof head);
    void *to = head.size <= PTRDIFF_MAX ? malloc((size_t)head.size) : NULL;
    b->catching = (struct transfer){.size = (size_t)head.size, .active = 1, .position = frame->tag, .to = to};
    stream_reach(b->channel.result_stream, b->result_read, (size_t)head.size, &b->channel.reach.result_stream, PAGES_READ);
    pump(b);
    return !b->damaged;
}

/* front: as the claim word has it while the worker waits for this. */
static int begin_feed(struct books *b, const void *from, size_t size, uint32_t front)
{
    b->feed = (struct transfer){.from = from, .size = size, .active = size > 0, .position = front};
    stream_reach(b->channel.item_stream, b->item_written, size, &b->channel.reach.item_stream, PAGES_WRITE);
    pump(b);
    return !b->damaged;
}

static int feed_context(struct books *b, const struct frame *frame)
{
    struct claim now = claim_load(&b->channel.desk->claim);
    if (now.front != b->claim.seen.front || now.running != b->claim.seen.running)
        return 0;                   /* asked for by what was claimed after our look */
    struct post *post = now.running ? books_post_of(b, claim_finished(now)) : NULL;
    if (!post || post->call != frame->tag || b->feed.active)
        return damage(b);           /* only what runs keeps its context where it is */
    skip(b, frame);
    const struct call_definition *call = &b->calls[frame->tag].definition;
    return begin_feed(b, call->common, call->common_size, now.front);
}

static int feed_item(struct books *b, const struct frame *frame)
{
    struct post *post = books_post_of(b, frame->tag);
    if (!post || post->place != PLACE_STREAM || b->feed.active)
        return damage(b);
    skip(b, frame);
    return begin_feed(b, post->piece.data, post->piece.size, claim_add(frame->tag, 1));
}

/* Answers what the running item's worker asks for. 1: done, go on; 0: nothing to do now, or damage. */
static int answer(struct books *b, const struct frame *frame)
{
    if (frame->kind == TELL_NEED_CONTEXT)
        return feed_context(b, frame);
    uint32_t ahead = claim_distance(b->taken, frame->tag);
    if (ahead >= claim_distance(b->taken, b->claim.seen.front))
        return 0;                   /* claimed after our look */
    if (frame->kind == TELL_NEED_ITEM)
        return feed_item(b, frame);
    if (!b->catching.active && !begin_catch(b, frame))
        return 0;
    int whole = b->catching.done == b->catching.size;
    if (!whole && ahead < claim_distance(b->taken, claim_finished(b->claim.seen)))
        return damage(b);           /* finished before all of it was written */
    return whole;
}

/* All but the piece, which is set once it is known whose. To clear that, too, took an eighth of the time of a small result. */
static void clear(struct event *e)
{
    e->data = e->owned = NULL;
    e->size = 0;
    e->slot = -1;
    e->code = 0;
    e->text = NULL;
}

static int next_ready(struct books *b, uint32_t generation, const struct frame *frame, struct event *e)
{
    if (frame->tag != generation || b->taken != 0)
        return damage(b);
    e->piece = (struct piece){0};
    e->kind = frame->kind == TELL_READY ? EVENT_READY : frame->kind == TELL_UNREADY ? EVENT_UNREADY : EVENT_UNFIT;
    if (e->kind != EVENT_READY && !take_text(b, frame, e))
        return 0;
    skip(b, frame);
    return 1;
}

/* The finished item at the front ends with this frame. */
static int next_framed(struct books *b, struct post *post, const struct frame *frame, struct event *e)
{
    if (!take_frame(b, frame, e))
        return 0;
    skip(b, frame);
    settle(b, post, 1, e);
    books_retire(b);
    return 1;
}

static int next_event(struct books *b, uint32_t generation, struct event *e)
{
    clear(e);
    while (!b->damaged) {
        struct frame frame;
        enum frame_verdict verdict = frame_peek(&b->channel.results, &b->result_next, b->result_tail, &frame);
        if (verdict == FRAME_BAD)
            return damage(b);
        uint32_t open = claim_distance(b->taken, claim_finished(b->claim.seen)), ahead = open;
        if (verdict == FRAME_WHOLE) {
            if (frame.kind == TELL_READY || frame.kind == TELL_UNREADY || frame.kind == TELL_UNFIT)
                return next_ready(b, generation, &frame, e);
            if (frame.kind == TELL_NEED_ITEM || frame.kind == TELL_NEED_CONTEXT) {
                if (!answer(b, &frame))
                    return 0;
                continue;
            }
            ahead = claim_distance(b->taken, frame.tag);
            if (ahead >= books_outstanding(b))
                return damage(b);
            if (frame.kind == TELL_RESULT_STREAM && !answer(b, &frame) && (!ahead || b->damaged))
                return 0;
        }
        struct post *post = books_front(b);
        if (!open || !post)
            return open ? damage(b) : 0;
        if (!ahead)
            return next_framed(b, post, &frame, e);
        if (b->calls[post->call].definition.mode == RESULT_FRAMED)
            return damage(b);           /* each of its items has a frame, and this one is finished */
        size_t run = ahead < open ? ahead : open;
        return take_run(b, post, run < post->piece.count ? run : post->piece.count, e);
    }
    return 0;
}

int books_next(struct books *b, uint32_t generation, struct event *e)
{
    if (next_event(b, generation, e))
        return 1;
    if (!b->damaged)
        publish_head(b);
    return 0;
}

/* ---- Death */

int books_mourn(struct books *b, struct event *e)
{
    struct post *post;
    *e = (struct event){.slot = -1};
    if (!b->lost) {
        b->lost = claim_distance(b->taken, b->claim.seen.front);
        if (!b->lost && b->damaged && books_outstanding(b))
            b->lost = 1;                /* something ran, and nothing can be believed: the first has to answer for it */
        b->lost++;                      /* counts from 1, so that this is done once */
    }
    post = books_front(b);
    if (!post)
        return 0;
    if (b->lost > 1) {
        size_t count = b->lost - 1 < post->piece.count ? b->lost - 1 : post->piece.count;
        b->lost -= (uint32_t)count;
        settle(b, post, count, e);
        e->kind = EVENT_LOST;
        if (post->piece.count)
            e->piece.owned = NULL;
        else
            post->piece.owned = NULL;
        books_retire(b);
        return 1;
    }
    settle(b, post, post->piece.count, e);
    e->kind = EVENT_LEFT;
    e->piece.tries--;
    if (post->place == PLACE_LANE)
        e->piece.data = b->channel.item_slots + (size_t)post->slot * b->channel.slot_size;
    else if (post->place == PLACE_INLINE)
        e->piece.data = (const unsigned char *)(post->span + 1) + (e->piece.index - post->span_index) * e->piece.size;
    post->piece.owned = NULL;
    books_retire(b);
    return 1;
}

/* ---- Result slots, sleep */

void books_give_up(struct books *b, int slot)
{
    if (slot < 0)
        return;
    b->result_slots &= ~(1u << slot);
    atomic_fetch_or(&b->channel.desk->lane_free, 1ull << slot);
    wake_stuck_worker(b);
}

static int is_dry(const struct books *b, struct claim now)
{
    return now.front == now.back && !now.running && (!b->claim.offered || now.front == claim_end(&b->claim));
}

int books_are_dry(const struct books *b)
{
    return is_dry(b, claim_load(&b->channel.desk->claim));
}

int books_wait(struct books *b, uint32_t how, enum books_when when)
{
    struct desk *d = b->channel.desk;
    uint32_t open = books_outstanding(b);
    struct post *post = books_front(b);
    int all = when == BOOKS_AT_THE_END && post && b->calls[post->call].definition.mode != RESULT_FRAMED;
    uint32_t wake_at = claim_add(b->taken, b->eager && when != BOOKS_HALF_WAY ? 1 : all ? open : (open + 1) / 2);
    channel_caller_waits(d, how, wake_at);
    if (b->damaged)
        return 0;                       /* nothing more is heard of it but its death */
    struct claim now = claim_load(&d->claim);
    int unread = b->result_next != b->result_tail;      /* a frame of what was claimed after our look */
    int reached = is_dry(b, now) || claim_distance(wake_at, claim_finished(now)) <= CLAIM_MASK / 2;
    return (open && reached) || (unread && (now.front != b->claim.seen.front || now.running != b->claim.seen.running)) ||
           atomic_load(&d->result_tail) != b->result_tail ||
           (b->feed.active && b->item_written - atomic_load(&d->item_stream_head) < CHANNEL_STREAM) ||
           (b->catching.active && atomic_load(&d->result_stream_tail) != b->result_read);
}

int books_rang(const struct books *b)
{
    return channel_caller_was_woken(b->channel.desk);
}

void books_awake(struct books *b)
{
    channel_caller_wakes(b->channel.desk);
}
