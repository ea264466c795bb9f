/* Posting items to a worker. Taking them back is in take_back.c.
 *
 * Runs in the caller, under the pool's lock. A post is a span of items of one size, with consecutive indexes, in one frame: a million
 * integers are a few hundred spans and not a million headers. Its payload lies in the frame, or in a lane slot, or comes through
 * the stream when the worker asks for it. A call's definition goes along with the first post that needs it.
 *
 * Everything is written before the positions are appended to the claim word, which publishes it. What was not claimed can
 * be taken back by that word alone, whatever else is in the ring. */
#include "books.h"

#include "clock.h"
#include "copy.h"
#include "fd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { POST_LARGE = 1 << 20 };          /* bytes: an item as large as a CPU's own cache */

int books_init(struct books *b)
{
    b->posts = malloc(BOOKS_POSTS * sizeof *b->posts);
    b->task_pipe = -1;
    return b->posts ? 0 : ENOMEM;
}

void books_fini(struct books *b)
{
    free(b->posts);
    free(b->catching.to);
    b->posts = NULL;
}

void books_reset(struct books *b, int task_pipe)
{
    struct books fresh = {.channel = b->channel, .posts = b->posts, .result_slots = b->result_slots, .task_pipe = task_pipe};
    free(b->catching.to);
    *b = fresh;
    channel_reset(&b->channel, CHANNEL_LANE_ALL & ~b->result_slots);
}

struct post *books_post_at(struct books *b, uint32_t n)
{
    return &b->posts[n % BOOKS_POSTS];
}

struct post *books_front(struct books *b)
{
    return b->post_head == b->post_tail ? NULL : books_post_at(b, b->post_head);
}

/* ---- Calls */

static int same_call(const struct call_definition *a, const struct call_definition *b)
{
    return a->fn.name == b->fn.name && a->fn.contents == b->fn.contents && a->fn.offset == b->fn.offset &&
           a->common_id == b->common_id && a->out_size == b->out_size && a->mode == b->mode && a->timed == b->timed;
}

static int knows(const struct books *b, int number, const struct call_definition *call)
{
    return b->calls[number].known && same_call(&b->calls[number].definition, call);
}

/* The number under which the worker knows the call, or one that can be given to it, or -1. Most often it is the last one taught. */
static int number_of(const struct books *b, const struct call_definition *call)
{
    int free_number = -1, last = (int)((b->next_call + CHANNEL_CALLS - 1) % CHANNEL_CALLS);
    if (knows(b, last, call))
        return last;
    for (unsigned i = 0; i < CHANNEL_CALLS; i++) {
        unsigned n = (b->next_call + i) % CHANNEL_CALLS;
        if (knows(b, (int)n, call))
            return (int)n;
        if (free_number < 0 && !b->calls[n].posts)
            free_number = (int)n;
    }
    return free_number;
}

static size_t common_inline(const struct call_definition *call)
{
    return call->common_size <= CHANNEL_INLINE ? call->common_size : 0;
}

/* Writes the call's frame; there is room for it. */
static void teach(struct books *b, int number, const struct call_definition *call)
{
    struct task_call head = {
        .name = call->fn.name, .contents = call->fn.contents, .offset = call->fn.offset,
        .common_size = call->common_size, .out_size = call->out_size, .mode = call->mode, .timed = call->timed,
        .place = call->common_size <= CHANNEL_INLINE ? PLACE_INLINE : PLACE_STREAM,
    };
    size_t body = common_inline(call);
    char *at = frame_reserve(&b->channel.tasks, b->task_head, &b->task_tail, sizeof head + body);
    memcpy(at, &head, sizeof head);
    if (body)
        memcpy(at + sizeof head, call->common, body);
    b->task_tail = frame_commit(&b->channel.tasks, b->task_tail, TASK_CALL, (uint32_t)number, sizeof head + body);
    b->calls[number] = (struct known_call){.definition = *call, .known = 1};
    b->next_call = ((unsigned)number + 1) % CHANNEL_CALLS;
}

/* ---- Room */

static enum payload_place place_for(const struct books *b, size_t item_size)
{
    return item_size <= CHANNEL_INLINE ? PLACE_INLINE : item_size <= b->channel.slot_size ? PLACE_LANE : PLACE_STREAM;
}

static size_t results_at(size_t items_size)
{
    return (items_size + 15) & ~(size_t)15;
}

static size_t packed_size(const struct call_definition *call)
{
    return call->mode == RESULT_PACKED ? call->out_size : 0;
}

/* Bytes behind the span's head for `count` items. */
static size_t body_size(const struct call_definition *call, enum payload_place place, size_t item_size, size_t count)
{
    size_t items = place == PLACE_INLINE ? count * item_size : 0, out = packed_size(call);
    return out ? results_at(items) + count * out : items;
}

/* Two very large items at a worker are enough: one is read while the other is written. More do not fit in the CPU's cache with their
 * results, and a worker that far ahead fills its result slots before an ordered consumer comes to them, so that they are
 * copied to the heap: two instead of four made imap of 4 MiB items twice as fast, and a map half as fast again. */
static int lane_has_room(const struct books *b, size_t item_size)
{
    return item_size >= POST_LARGE ? __builtin_popcount(b->item_slots) < 2 : b->item_slots != CHANNEL_LANE_ALL;
}

size_t books_room(struct books *b, const struct call_definition *call, size_t item_size)
{
    if (b->damaged || b->claim.seen.closed || b->task_pipe < 0 || b->post_tail - b->post_head >= BOOKS_POSTS)
        return 0;
    b->number = number_of(b, call);
    if (b->number < 0)
        return 0;
    /* What a frame may need at worst: padding up to its own size, for the call's and for the span's. */
    size_t used = (size_t)(b->task_tail - b->task_head), teaching = 2 * (common_inline(call) + 256);
    size_t left = CHANNEL_TASKS - used, need = teaching + 512;
    if (left <= need)
        return 0;
    size_t room = (left - need) / 2 < BOOKS_INLINE ? (left - need) / 2 : BOOKS_INLINE;
    size_t one = packed_size(call);
    switch (place_for(b, item_size)) {
    case PLACE_INLINE:
        one += item_size;
        break;
    case PLACE_LANE:
        return lane_has_room(b, item_size) && one <= room;
    case PLACE_STREAM:
        return one <= room;
    }
    size_t limit = CLAIM_LIMIT - 1 - books_outstanding(b);
    size_t count = one ? room / one : limit;
    return count < limit ? count : limit;
}

/* ---- Posting */

static int take_slot(struct books *b)
{
    unsigned slot = (unsigned)__builtin_ctz(~b->item_slots);
    b->item_slots |= 1u << slot;
    return (int)slot;
}

/* The lane slot that it lies in, or -1. */
static int put_payload(struct books *b, enum payload_place place, const struct piece *piece, unsigned char *body)
{
    if (place == PLACE_LANE) {
        int slot = take_slot(b);
        copy_bytes(channel_item_slot(&b->channel, (size_t)slot, piece->size, PAGES_WRITE), piece->data, piece->size);
        return slot;
    }
    if (place == PLACE_INLINE && piece->size)
        memcpy(body, piece->data, piece->count * piece->size);
    return -1;
}

void books_wake_worker(struct books *b)
{
    if (channel_must_wake_worker(b->channel.desk))
        fd_wake(b->task_pipe);          /* the pipe's read end is ours too: it can only be full, and then it wakes */
}

void books_drop_last(struct books *b)
{
    struct post *post = books_post_at(b, b->post_tail - 1);
    if (post->slot >= 0)
        b->item_slots &= ~(1u << post->slot);
    b->calls[post->call].posts--;
    if (post->taught)
        b->calls[post->call].known = 0;         /* the call's frame goes too */
    b->task_tail = post->start;
    b->post_tail--;
}

void books_end_open_span(struct books *b)
{
    if (!b->open)
        return;
    atomic_store_explicit(&b->open->count, b->grow.offered, memory_order_relaxed);
    atomic_store(&b->open->offered, 0);
    atomic_store_explicit(&b->open->hasty, 0, memory_order_relaxed);
    b->open = NULL;
    b->grow.owner = NULL;
    b->grow.hasty = 0;
}

int books_post(struct books *b, const struct call_definition *call, const struct piece *piece, int eager, size_t most)
{
    int number = b->number, taught = !knows(b, number, call);
    struct post *post = books_post_at(b, b->post_tail);
    enum payload_place place = place_for(b, piece->size);
    uint32_t first = claim_end(&b->claim);
    uint64_t start = b->task_tail;
    int open = most > piece->count && place == PLACE_INLINE && !piece->tries && !b->claim.barred;
    size_t count = open ? most : piece->count, body = body_size(call, place, piece->size, count);
    frame_turn_early(&b->channel.tasks, b->task_head, &b->task_tail, CHANNEL_HOT, 2 * (body + common_inline(call) + 512));
    uint64_t begin = b->task_tail;
    if (taught)
        teach(b, number, call);
    size_t results = body - (packed_size(call) * count);
    struct task_span *span = frame_reserve(&b->channel.tasks, b->task_head, &b->task_tail, sizeof *span + body);
    unsigned char *at = (unsigned char *)(span + 1);
    int slot = put_payload(b, place, piece, at);
    books_end_open_span(b);
    atomic_store_explicit(&span->count, (uint32_t)count, memory_order_relaxed);
    atomic_store_explicit(&span->offered, open ? (uint32_t)piece->count : 0, memory_order_relaxed);
    atomic_store_explicit(&span->hasty, 0, memory_order_relaxed);
    span->call = (uint16_t)number;
    span->place = (uint16_t)place;
    span->index = piece->index;
    span->item_size = piece->size;
    span->at = slot >= 0 ? (uint64_t)slot : 0;
    span->results = results;
    b->task_tail = frame_commit(&b->channel.tasks, b->task_tail, TASK_SPAN, first, sizeof *span + body);
    /* All of it, so that nothing has to be cleared first. */
    *post = (struct post){.piece = *piece, .first = first, .call = (uint16_t)number, .place = (uint16_t)place, .slot = slot,
                          .taught = taught, .eager = eager, .span_first = first, .span_index = piece->index, .start = start,
                          .begin = begin, .span = span, .results = at + results};
    b->calls[number].posts++;
    b->post_tail++;
    if (claim_append(&b->channel.desk->claim, &b->claim, (uint32_t)piece->count)) {
        b->damaged = 1;
        books_drop_last(b);
        return -1;
    }
    b->open = open ? span : NULL;
    b->grow.owner = open ? piece->owner : NULL;
    b->grow.index = piece->index + piece->count;
    b->grow.size = piece->size;
    b->grow.at = at + piece->count * piece->size;
    b->grow.offered = b->grow.told = (uint32_t)piece->count;
    b->grow.most = (uint32_t)count;
    b->grow.post = post;
    b->eager += eager ? (uint32_t)piece->count : 0;
    books_wake_worker(b);
    return 0;
}

size_t books_end_run(struct books *b)
{
    uint32_t added = b->grow.offered - b->grow.told;
    b->grow.told = b->grow.offered;
    b->grow.index += added;
    b->grow.post->piece.count += added;
    b->eager += b->grow.post->eager ? added : 0;
    b->claim.offered += added;
    b->claim.exposed |= added != 0;
    return added;
}

static size_t may_grow(const struct books *b, const void *owner, size_t index, size_t size)
{
    return b->grow.owner == owner && b->grow.index == index && b->grow.size == size ? b->grow.most - b->grow.offered : 0;
}

size_t books_may_run(const struct books *b, const void *owner, size_t index, size_t size)
{
    return b->grow.hasty ? may_grow(b, owner, index, size) : 0;
}

int books_grow(struct books *b, const void *owner, size_t index, const void *data, size_t size)
{
    if (!may_grow(b, owner, index, size))
        return -1;
    books_run(b, data, size);
    books_end_run(b);
    if (!b->grow.hasty)
        atomic_store(&b->open->offered, b->grow.offered);       /* with a fence */
    books_wake_worker(b);
    return 0;
}

void books_hurry(struct books *b, int hasty)
{
    if (!b->open || b->grow.hasty == (uint32_t)hasty)
        return;
    b->grow.hasty = (uint32_t)hasty;
    atomic_store(&b->open->hasty, (uint32_t)hasty);
    if (!hasty && b->claim.offered)
        books_wake_worker(b);
}

/* ---- What is posted */

struct piece *books_last(struct books *b)
{
    return b->post_head == b->post_tail ? NULL : &books_post_at(b, b->post_tail - 1)->piece;
}

struct post *books_post_of(struct books *b, uint32_t position)
{
    for (uint32_t n = b->post_head; n != b->post_tail; n++) {
        struct post *post = books_post_at(b, n);
        if (claim_distance(post->first, position) < post->piece.count)
            return post;
    }
    return NULL;
}

int books_holds(const struct books *b, const void *owner)
{
    for (uint32_t n = b->post_head; n != b->post_tail; n++)
        if (b->posts[n % BOOKS_POSTS].piece.owner == owner)
            return 1;
    return 0;
}

const struct piece *books_running(struct books *b, uint32_t *position)
{
    struct claim now = claim_load(&b->channel.desk->claim);
    struct post *post = now.running ? books_post_of(b, claim_finished(now)) : NULL;
    *position = claim_finished(now);
    return post ? &post->piece : NULL;
}

int books_is_stuck(const struct books *b, uint64_t *moved)
{
    *moved = b->item_written + b->result_read;
    return b->feed.active || b->catching.active || atomic_load(&b->channel.desk->worker_state) == CHANNEL_STUCK;
}

/* The note is written time first: a time read with a position is that item's or a later one's, which errs on the late side. */
int64_t books_started(const struct books *b, uint32_t position)
{
    const struct desk *d = b->channel.desk;
    int64_t at = (int64_t)atomic_load(&d->started_at);
    return atomic_load(&d->started_position) == position && at > 0 ? at : CLOCK_NEVER;
}

void books_close(struct books *b)
{
    b->grow.owner = NULL;
    if (b->damaged || b->claim.seen.closed)
        return;
    if (claim_close(&b->channel.desk->claim, &b->claim))
        b->damaged = 1;
    else if (b->task_pipe >= 0)
        books_wake_worker(b);
}

void books_retire(struct books *b)
{
    struct post *post = books_front(b);
    if (!post || post->piece.count)
        return;
    if (post->slot >= 0)
        b->item_slots &= ~(1u << post->slot);
    free(post->piece.owned);
    if (post->span == b->open)
        books_end_open_span(b);
    b->calls[post->call].posts--;
    b->task_head = post->begin;         /* not its end: the worker looks at its count once more when it goes on to the next */
    b->post_head++;
}
