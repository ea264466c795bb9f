/* The caller's books on a worker, with the test itself playing the worker on plain memory.
 *
 * Each part of the channel has a block of exactly its size, so that a step beyond it is a step beyond its block (the sanitizers see it).
 * The player does what worker_child.c and worker_result.c do, but never waits: one step at a time, so that all of it runs in one thread.
 * What it is told to do wrong comes last: 200,000 channels written over in every way, from a seeded generator.
 * ctest: timeout 180 */
#define _GNU_SOURCE
#include "books.h"
#include "check.h"
#include "claims.h"
#include "fd.h"
#include "fence.h"

#include <stdlib.h>
#include <string.h>

enum { SLOT = 32 << 10, GENERATION = 7 };

static uint64_t seed = 0x9e3779b97f4a7c15u;

static uint64_t random_word(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

/* ---- The bench: books and player on one channel */

enum doing { IDLE, WANTS_CONTEXT, WANTS_ITEM, HAS_ITEM, SENDS_RESULT };

struct player {
    struct claim   mine;
    struct claim_offer offer;
    uint64_t       cursor, result_tail, item_read, result_written;
    struct task_span *span;
    uint32_t       first;
    struct task_call calls[CHANNEL_CALLS];
    unsigned char *contexts[CHANNEL_CALLS];
    int            unread[CHANNEL_CALLS];
    enum doing     doing;
    uint32_t       position;
    const unsigned char *item;
    unsigned char *own;                     /* a streamed item; then a streamed result */
    size_t         size, done;
};

struct bench {
    struct books  books;
    struct player player;
    int           pipe[2];
};

static void *block(size_t size)
{
    void *at = aligned_alloc(64, size);
    assert_non_null(at);
    memset(at, 0xa5, size);
    return at;
}

static void forget_player(struct player *p)
{
    for (int i = 0; i < CHANNEL_CALLS; i++)
        free(p->contexts[i]);
    free(p->own);
    *p = (struct player){0};
}

static void restart(struct bench *b)
{
    forget_player(&b->player);
    books_reset(&b->books, b->pipe[1]);
}

static int open_bench(void **state)
{
    struct bench *b = calloc(1, sizeof *b);
    struct channel *c = &b->books.channel;
    assert_non_null(b);
    assert_int_equal(fd_pipe(b->pipe, 1), 0);
    assert_int_equal(books_init(&b->books), 0);
    c->desk = block(sizeof *c->desk);
    c->tasks = (struct frame_ring){block(CHANNEL_TASKS), CHANNEL_TASKS, 64};
    c->results = (struct frame_ring){block(CHANNEL_RESULTS), CHANNEL_RESULTS, 16};
    c->item_stream = block(CHANNEL_STREAM);
    c->result_stream = block(CHANNEL_STREAM);
    c->item_slots = block((size_t)SLOT * CHANNEL_LANE_SLOTS);
    c->result_slots = block((size_t)SLOT * CHANNEL_LANE_SLOTS);
    c->slot_size = SLOT;
    restart(b);
    *state = b;
    return 0;
}

static int close_bench(void **state)
{
    struct bench *b = *state;
    struct channel *c = &b->books.channel;
    forget_player(&b->player);
    books_fini(&b->books);
    free(c->desk);
    free(c->tasks.bytes);
    free(c->results.bytes);
    free(c->item_stream);
    free(c->result_stream);
    free(c->item_slots);
    free(c->result_slots);
    fd_close(&b->pipe[0]);
    fd_close(&b->pipe[1]);
    free(b);
    return 0;
}

static struct call_definition call_of(uint64_t fn, enum result_mode mode, size_t out_size)
{
    return (struct call_definition){.fn = {.name = fn, .offset = fn}, .mode = mode, .out_size = out_size};
}

static int owner_a, owner_b;

/* Posts `count` items of `size` bytes at data. */
static void post(struct bench *b, const struct call_definition *call, const void *data, size_t index, size_t count, size_t size)
{
    struct piece piece = {.owner = &owner_a, .index = index, .count = count, .data = data, .size = size, .source_keeps = 1};
    assert_true(books_room(&b->books, call, size) >= count);
    assert_int_equal(books_post(&b->books, call, &piece, 0, 0), 0);
}

/* ---- The player */

static int tell(struct bench *b, uint32_t kind, uint32_t tag, const void *head, size_t head_size, const void *body, size_t body_size)
{
    struct player *p = &b->player;
    struct desk *d = b->books.channel.desk;
    unsigned char *at = frame_reserve(&b->books.channel.results, d->result_head, &p->result_tail, head_size + body_size);
    if (!at)
        return 0;
    if (head_size)
        memcpy(at, head, head_size);
    if (body_size)
        memcpy(at + head_size, body, body_size);
    p->result_tail = frame_commit(&b->books.channel.results, p->result_tail, kind, tag, head_size + body_size);
    d->result_tail = p->result_tail;
    return 1;
}

static int tell_failure(struct bench *b, uint32_t kind, uint32_t tag, int code, const char *text)
{
    struct tell_failure head = {code, (uint32_t)strlen(text)};
    return tell(b, kind, tag, &head, sizeof head, text, head.text_size);
}

static void learn(struct player *p, const struct frame *frame)
{
    struct task_call *call = &p->calls[frame->tag];
    assert_true(frame->tag < CHANNEL_CALLS && frame->size >= sizeof *call);
    memcpy(call, frame->payload, sizeof *call);
    free(p->contexts[frame->tag]);
    p->contexts[frame->tag] = call->common_size ? malloc((size_t)call->common_size) : NULL;
    p->unread[frame->tag] = call->common_size && call->place == PLACE_STREAM;
    if (call->common_size && !p->unread[frame->tag])
        memcpy(p->contexts[frame->tag], (const char *)frame->payload + sizeof *call, (size_t)call->common_size);
}

static void find_span(struct bench *b)
{
    struct player *p = &b->player;
    struct frame frame;
    while (!p->span || claim_distance(p->first, p->position) >= p->span->count) {
        assert_int_equal(frame_peek(&b->books.channel.tasks, &p->cursor, p->cursor + CHANNEL_TASKS, &frame), FRAME_WHOLE);
        p->cursor += frame_extent(&b->books.channel.tasks, frame.size);
        if (frame.kind == TASK_CALL) {
            learn(p, &frame);
            continue;
        }
        assert_int_equal(frame.kind, TASK_SPAN);
        p->span = (struct task_span *)(uintptr_t)frame.payload;
        p->first = frame.tag;
        p->offer = (struct claim_offer){&p->span->offered, p->first, p->span->count};
    }
    p->size = (size_t)p->span->item_size;
}

static size_t index_of(const struct player *p)
{
    return (size_t)p->span->index + claim_distance(p->first, p->position);
}

static void find_item(struct bench *b)
{
    struct player *p = &b->player;
    uint32_t nth = claim_distance(p->first, p->position);
    p->doing = HAS_ITEM;
    if (p->span->place == PLACE_INLINE) {
        p->item = (unsigned char *)(p->span + 1) + nth * p->size;
    } else if (p->span->place == PLACE_LANE) {
        assert_true(p->span->at < CHANNEL_LANE_SLOTS);
        p->item = b->books.channel.item_slots + p->span->at * SLOT;
    } else {
        p->own = malloc(p->size);
        p->item = p->own;
        p->done = 0;
        p->doing = tell(b, TELL_NEED_ITEM, p->position, NULL, 0, NULL, 0) ? WANTS_ITEM : HAS_ITEM;
        assert_int_equal(p->doing, WANTS_ITEM);
    }
}

/* Claims the next item, finishing the one before. */
static enum claim_step claim(struct bench *b)
{
    struct player *p = &b->player;
    enum claim_step step = claims_next(&b->books.channel.desk->claim, &p->offer, &p->mine);
    free(p->own);
    p->own = NULL;
    p->doing = IDLE;
    if (step != CLAIM_GOT)
        return step;
    p->position = claim_add(p->mine.front, CLAIM_MASK);
    find_span(b);
    if (p->unread[p->span->call]) {
        p->done = 0;
        p->doing = WANTS_CONTEXT;
        assert_true(tell(b, TELL_NEED_CONTEXT, p->span->call, NULL, 0, NULL, 0));
    } else {
        find_item(b);
    }
    return step;
}

static size_t receive(struct bench *b, unsigned char *to, size_t size)
{
    struct player *p = &b->player;
    struct desk *d = b->books.channel.desk;
    size_t much = stream_read(b->books.channel.item_stream, &d->item_stream_tail, &d->item_stream_head, &p->item_read,
                              to + p->done, size - p->done);
    assert_true(much != SIZE_MAX);
    p->done += much;
    return much;
}

/* Goes on with what goes through a stream. */
static void go_on(struct bench *b)
{
    struct player *p = &b->player;
    struct desk *d = b->books.channel.desk;
    switch (p->doing) {
    case WANTS_CONTEXT:
        receive(b, p->contexts[p->span->call], (size_t)p->calls[p->span->call].common_size);
        if (p->done == p->calls[p->span->call].common_size) {
            p->unread[p->span->call] = 0;
            find_item(b);
        }
        break;
    case WANTS_ITEM:
        receive(b, p->own, p->size);
        p->doing = p->done == p->size ? HAS_ITEM : WANTS_ITEM;
        break;
    case SENDS_RESULT:
        p->done += stream_write(b->books.channel.result_stream, &d->result_stream_tail, &d->result_stream_head, &p->result_written,
                                p->own + p->done, p->size - p->done);
        p->doing = p->done == p->size ? IDLE : SENDS_RESULT;
        break;
    default:
        break;
    }
}

/* Writes a result of `size` bytes down, wherever one of that size goes. 0: no room in the ring now. */
static int give(struct bench *b, const void *data, size_t size)
{
    struct player *p = &b->player;
    struct desk *d = b->books.channel.desk;
    const struct task_call *call = &p->calls[p->span->call];
    if (call->mode == RESULT_DROPPED)
        return 1;
    if (call->mode == RESULT_PACKED && size == call->out_size) {
        if (size)
            memcpy((unsigned char *)(p->span + 1) + p->span->results + claim_distance(p->first, p->position) * size, data, size);
        return 1;
    }
    if (size <= CHANNEL_INLINE)
        return tell(b, TELL_RESULT, p->position, NULL, 0, data, size);
    if (size <= SLOT) {
        if (!d->lane_free)
            return 0;
        unsigned slot = (unsigned)__builtin_ctzll(d->lane_free);
        struct tell_lane head = {slot, size};
        if (!tell(b, TELL_RESULT_LANE, p->position, &head, sizeof head, NULL, 0))
            return 0;
        d->lane_free &= ~(1ull << slot);
        memcpy(b->books.channel.result_slots + slot * SLOT, data, size);
        return 1;
    }
    struct tell_stream head = {size};
    if (!tell(b, TELL_RESULT_STREAM, p->position, &head, sizeof head, NULL, 0))
        return 0;
    free(p->own);
    p->own = malloc(size);
    memcpy(p->own, data, size);
    p->size = size;
    p->done = 0;
    p->doing = SENDS_RESULT;
    return 1;
}

/* The next event; 0: none, with the channel looked at first. */
static int next(struct bench *b, struct event *e)
{
    if (books_next(&b->books, GENERATION, e))
        return 1;
    books_look(&b->books);
    return books_next(&b->books, GENERATION, e);
}

static void expect(struct bench *b, struct event *e, enum event_kind kind, size_t index, size_t count)
{
    assert_true(next(b, e));
    assert_int_equal(e->kind, kind);
    assert_int_equal(e->piece.index, index);
    assert_int_equal(e->piece.count, count);
    assert_ptr_equal(e->piece.owner, &owner_a);
}

static void expect_nothing(struct bench *b)
{
    struct event e;
    assert_false(next(b, &e));
    assert_false(b->books.damaged);
}

/* ---- Readiness */

static void a_worker_is_ready_when_it_says_so(void **state)
{
    struct bench *b = *state;
    struct event e;
    expect_nothing(b);
    tell(b, TELL_READY, GENERATION, NULL, 0, NULL, 0);
    assert_true(next(b, &e));
    assert_int_equal(e.kind, EVENT_READY);
    assert_null(e.piece.owner);
    expect_nothing(b);
}

static void a_failed_initializer_says_why(void **state)
{
    struct bench *b = *state;
    struct event e;
    tell_failure(b, TELL_UNREADY, GENERATION, 42, "no such device");
    assert_true(next(b, &e));
    assert_int_equal(e.kind, EVENT_UNREADY);
    assert_int_equal(e.code, 42);
    assert_string_equal(e.text, "no such device");
}

static void another_generation_is_not_believed(void **state)
{
    struct bench *b = *state;
    struct event e;
    tell(b, TELL_READY, GENERATION - 1, NULL, 0, NULL, 0);
    assert_false(next(b, &e));
    assert_true(b->books.damaged);
}

/* ---- Ends, by mode */

static void framed_results_come_one_by_one_in_order(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_FRAMED, 0);
    const int xs[] = {10, 11, 12};
    struct event e;
    post(b, &call, xs, 5, 3, sizeof *xs);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(claim(b), CLAIM_GOT);
        assert_memory_equal(b->player.item, &xs[i], sizeof *xs);
        assert_int_equal(index_of(&b->player), 5 + i);
        assert_true(give(b, &(int){i * 7}, sizeof(int)));
    }
    assert_int_equal(claim(b), CLAIM_EMPTY);
    for (int i = 0; i < 3; i++) {
        expect(b, &e, EVENT_RESULT, 5 + (size_t)i, 1);
        assert_int_equal(e.size, sizeof(int));
        assert_int_equal(*(const int *)e.data, i * 7);
        assert_int_equal(e.piece.tries, 1);
    }
    expect_nothing(b);
    assert_int_equal(books_outstanding(&b->books), 0);
}

static void a_result_waits_for_its_finish(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_FRAMED, 0);
    struct event e;
    post(b, &call, "x", 0, 1, 1);
    claim(b);
    give(b, "y", 1);
    expect_nothing(b);
    claim(b);
    expect(b, &e, EVENT_RESULT, 0, 1);
}

static void packed_results_come_as_a_run(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_PACKED, sizeof(int));
    const int xs[] = {1, 2, 3, 4}, ys[] = {100, 101, 102, 103};
    struct event e;
    post(b, &call, xs, 0, 4, sizeof *xs);
    for (int i = 0; i < 4; i++) {
        claim(b);
        give(b, &ys[i], sizeof *ys);
    }
    claim(b);
    expect(b, &e, EVENT_RUN, 0, 4);
    assert_int_equal(e.size, sizeof(int));
    assert_memory_equal(e.data, ys, sizeof ys);
    expect_nothing(b);
}

static void a_run_is_taken_as_far_as_it_is_finished(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_PACKED, 1);
    struct event e;
    post(b, &call, "abcd", 0, 4, 1);
    for (int i = 0; i < 3; i++) {
        claim(b);
        give(b, &"wxyz"[i], 1);
    }
    expect(b, &e, EVENT_RUN, 0, 2);
    assert_memory_equal(e.data, "wx", 2);
    expect_nothing(b);
    claim(b);
    give(b, "z", 1);
    claim(b);
    expect(b, &e, EVENT_RUN, 2, 2);
    assert_memory_equal(e.data, "yz", 2);
}

static void dropped_results_come_as_a_run_without_data(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_DROPPED, 0);
    struct event e;
    post(b, &call, NULL, 1000, 50000, 0);
    for (int i = 0; i < 50000; i++)
        claim(b);
    claim(b);
    expect(b, &e, EVENT_RUN, 1000, 50000);
    assert_null(e.data);
}

static void a_failure_parts_a_run(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_PACKED, 1);
    struct event e;
    post(b, &call, "abcde", 0, 5, 1);
    for (int i = 0; i < 5; i++) {
        claim(b);
        if (i == 2)
            tell_failure(b, TELL_FAILED, b->player.position, 9, "no");
        else
            give(b, b->player.item, 1);
    }
    claim(b);
    expect(b, &e, EVENT_RUN, 0, 2);
    expect(b, &e, EVENT_FAILED, 2, 1);
    assert_int_equal(e.code, 9);
    assert_string_equal(e.text, "no");
    expect(b, &e, EVENT_RUN, 3, 2);
    assert_memory_equal(e.data, "de", 2);
    expect_nothing(b);
}

static void a_packed_result_of_another_size_comes_in_a_frame(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_PACKED, 4);
    struct event e;
    post(b, &call, "abcd", 0, 1, 4);
    claim(b);
    give(b, "xyz", 3);
    claim(b);
    expect(b, &e, EVENT_RESULT, 0, 1);
    assert_int_equal(e.size, 3);
}

static void a_run_ends_with_its_post(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_DROPPED, 0);
    struct event e;
    post(b, &call, NULL, 0, 3, 0);
    post(b, &call, NULL, 90, 2, 0);
    while (claim(b) == CLAIM_GOT)
        ;
    expect(b, &e, EVENT_RUN, 0, 3);
    expect(b, &e, EVENT_RUN, 90, 2);
}

static void a_message_has_1000_bytes_at_most(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_FRAMED, 0);
    char text[STATUS_TEXT + 2];
    struct event e;
    memset(text, 'm', sizeof text);
    text[STATUS_TEXT] = '\0';
    post(b, &call, "ab", 0, 2, 1);
    claim(b);
    tell_failure(b, TELL_FAILED, b->player.position, 1, text);
    claim(b);
    expect(b, &e, EVENT_FAILED, 0, 1);
    assert_string_equal(e.text, text);
    text[STATUS_TEXT] = 'm';
    text[STATUS_TEXT + 1] = '\0';
    tell_failure(b, TELL_FAILED, b->player.position, 1, text);
    claim(b);
    assert_false(next(b, &e));
    assert_true(b->books.damaged);
}

/* ---- Large payloads */

static unsigned char *pattern(size_t size, unsigned salt)
{
    unsigned char *bytes = malloc(size ? size : 1);
    assert_non_null(bytes);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (unsigned char)(salt + i * 2654435761u / 65536);
    return bytes;
}

static void a_large_item_lies_in_a_lane_slot(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_DROPPED, 0);
    unsigned char *item = pattern(CHANNEL_INLINE + 1, 1);
    post(b, &call, item, 0, 1, CHANNEL_INLINE + 1);
    claim(b);
    assert_int_equal(b->player.span->place, PLACE_LANE);
    assert_memory_equal(b->player.item, item, CHANNEL_INLINE + 1);
    free(item);
}

static void lane_slots_run_out_and_come_back(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_DROPPED, 0);
    unsigned char *item = pattern(SLOT, 1);
    struct event e;
    for (size_t i = 0; i < CHANNEL_LANE_SLOTS; i++)
        post(b, &call, item, i, 1, SLOT);
    assert_int_equal(books_room(&b->books, &call, SLOT), 0);
    assert_true(books_room(&b->books, &call, 8) > 0);
    claim(b);
    claim(b);
    expect(b, &e, EVENT_RUN, 0, 1);
    assert_int_equal(books_room(&b->books, &call, SLOT), 1);
    free(item);
}

static void a_large_result_stays_in_its_slot_until_given_up(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_FRAMED, 0);
    unsigned char *result = pattern(SLOT, 9);
    struct event e;
    post(b, &call, "x", 0, 1, 1);
    claim(b);
    assert_true(give(b, result, SLOT));
    claim(b);
    expect(b, &e, EVENT_RESULT, 0, 1);
    assert_true(e.slot >= 0);
    assert_int_equal(e.size, SLOT);
    assert_memory_equal(e.data, result, SLOT);
    assert_int_equal(b->books.channel.desk->lane_free, CHANNEL_LANE_ALL & ~(1u << e.slot));
    books_give_up(&b->books, e.slot);
    assert_int_equal(b->books.channel.desk->lane_free, CHANNEL_LANE_ALL);
    free(result);
}

static void a_slot_still_held_is_not_the_next_workers(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_FRAMED, 0);
    unsigned char *result = pattern(SLOT, 9);
    struct event e;
    post(b, &call, "x", 0, 1, 1);
    claim(b);
    give(b, result, SLOT);
    claim(b);
    expect(b, &e, EVENT_RESULT, 0, 1);
    int slot = e.slot;
    restart(b);
    assert_int_equal(b->books.channel.desk->lane_free, CHANNEL_LANE_ALL & ~(1u << slot));
    assert_memory_equal(b->books.channel.result_slots + (size_t)slot * SLOT, result, SLOT);
    books_give_up(&b->books, slot);
    free(result);
}

static void a_slot_told_twice_is_not_believed(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_FRAMED, 0);
    struct event e;
    post(b, &call, "xy", 0, 2, 1);
    for (int i = 0; i < 2; i++) {
        claim(b);
        tell(b, TELL_RESULT_LANE, b->player.position, &(struct tell_lane){2, 20000}, sizeof(struct tell_lane), NULL, 0);
    }
    claim(b);
    expect(b, &e, EVENT_RESULT, 0, 1);
    assert_false(next(b, &e));
    assert_true(b->books.damaged);
}

/* Turns caller and player until the player has come to `doing`. */
static void turn_until(struct bench *b, enum doing doing)
{
    struct event e;
    for (int rounds = 0; b->player.doing != doing; rounds++) {
        go_on(b);
        assert_false(next(b, &e));
        assert_false(b->books.damaged);
        assert_true(rounds < 100000);
    }
}

static void an_item_larger_than_a_slot_is_streamed(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_DROPPED, 0);
    size_t size = 3 * (size_t)CHANNEL_STREAM + 17;
    unsigned char *item = pattern(size, 3);
    struct event e;
    post(b, &call, item, 4, 1, size);
    claim(b);
    turn_until(b, HAS_ITEM);
    assert_memory_equal(b->player.own, item, size);
    claim(b);
    expect(b, &e, EVENT_RUN, 4, 1);
    free(item);
}

static void a_result_larger_than_a_slot_is_streamed(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_FRAMED, 0);
    size_t size = 3 * (size_t)CHANNEL_STREAM + 17;
    unsigned char *result = pattern(size, 3);
    struct event e;
    post(b, &call, "x", 4, 1, 1);
    claim(b);
    give(b, result, size);
    turn_until(b, IDLE);
    claim(b);
    expect(b, &e, EVENT_RESULT, 4, 1);
    assert_int_equal(e.size, size);
    assert_memory_equal(e.data, result, size);
    free(e.owned);
    free(result);
}

static void a_large_context_is_streamed_once(void **state)
{
    struct bench *b = *state;
    size_t size = CHANNEL_STREAM + 999;
    unsigned char *common = pattern(size, 5);
    struct call_definition call = call_of(1, RESULT_DROPPED, 0);
    call.common = common;
    call.common_size = size;
    call.common_id = 1;
    post(b, &call, NULL, 0, 2, 0);
    claim(b);
    assert_int_equal(b->player.doing, WANTS_CONTEXT);
    turn_until(b, HAS_ITEM);
    assert_memory_equal(b->player.contexts[b->player.span->call], common, size);
    claim(b);
    assert_int_equal(b->player.doing, HAS_ITEM);
    free(common);
}

static void a_small_context_comes_with_the_call(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_DROPPED, 0);
    call.common = "twelve bytes";
    call.common_size = 12;
    call.common_id = 1;
    post(b, &call, NULL, 0, 1, 0);
    claim(b);
    assert_memory_equal(b->player.contexts[b->player.span->call], "twelve bytes", 12);
}

static void a_stream_cut_short_is_not_believed(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_FRAMED, 0);
    struct event e;
    post(b, &call, "xy", 0, 2, 1);
    claim(b);
    tell(b, TELL_RESULT_STREAM, b->player.position, &(struct tell_stream){100000}, sizeof(struct tell_stream), NULL, 0);
    claim(b);
    assert_false(next(b, &e));
    assert_true(b->books.damaged);
}

/* A worker that asks for its item and then ends it unread: the item's memory is its owner's again, and is not sent from any more. */
static void an_item_asked_for_and_finished_unread_is_not_sent_on(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_FRAMED, 0);
    size_t size = 3 * (size_t)CHANNEL_STREAM;
    unsigned char *item = pattern(size, 3);
    struct event e;
    post(b, &call, item, 0, 1, size);
    claim(b);
    expect_nothing(b);                                      /* a window of it is sent */
    give(b, "done", 4);
    claim(b);
    if (next(b, &e))
        assert_int_equal(e.kind, EVENT_RESULT);
    free(item);
    b->books.channel.desk->item_stream_head = CHANNEL_STREAM;
    assert_false(next(b, &e));
    assert_true(b->books.damaged);
}

/* A context goes to the call that runs and to no other: that other's may be freed before it is through. */
static void a_context_of_another_call_is_not_sent(void **state)
{
    struct bench *b = *state;
    struct call_definition runs = call_of(1, RESULT_DROPPED, 0), waits = call_of(2, RESULT_DROPPED, 0);
    unsigned char *common = pattern(CHANNEL_STREAM * 2, 5);
    struct event e;
    waits.common = common;
    waits.common_size = CHANNEL_STREAM * 2;
    waits.common_id = 1;
    post(b, &runs, NULL, 0, 1, 0);
    post(b, &waits, NULL, 0, 1, 0);
    claim(b);
    tell(b, TELL_NEED_CONTEXT, 1, NULL, 0, NULL, 0);
    assert_false(next(b, &e));
    assert_true(b->books.damaged);
    free(common);
}

/* ---- Taking back */

static void a_whole_post_is_taken_back_with_its_room(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_FRAMED, 0);
    uint64_t tail = b->books.task_tail;
    struct piece piece;
    post(b, &call, "abc", 7, 3, 1);
    assert_int_equal(books_take_back(&b->books, SIZE_MAX, &piece), 0);
    assert_int_equal(piece.index, 7);
    assert_int_equal(piece.count, 3);
    assert_memory_equal(piece.data, "abc", 3);
    assert_int_equal(b->books.task_tail, tail);
    assert_int_equal(books_outstanding(&b->books), 0);
    assert_int_equal(claim(b), CLAIM_EMPTY);
}

static void what_is_taken_back_from_the_end_is_the_end(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_FRAMED, 0);
    struct piece piece;
    post(b, &call, "abcde", 10, 5, 1);
    assert_int_equal(books_take_back(&b->books, 2, &piece), 0);
    assert_int_equal(piece.index, 13);
    assert_int_equal(piece.count, 2);
    assert_memory_equal(piece.data, "de", 2);
}

static void what_runs_is_not_taken_back(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_FRAMED, 0);
    struct piece piece;
    post(b, &call, "abc", 0, 3, 1);
    claim(b);
    assert_int_equal(books_take_back(&b->books, SIZE_MAX, &piece), 0);
    assert_int_equal(piece.index, 1);
    assert_int_equal(piece.count, 2);
    assert_int_equal(books_take_back(&b->books, SIZE_MAX, &piece), -1);
}

/* Three of five at once, and `more` of those that it holds after the first. */
static void claim_three(struct bench *b, uint32_t more)
{
    struct desk *d = b->books.channel.desk;
    uint64_t left;
    claim(b);
    left = claim_encode(b->player.mine);
    assert_true(claim_go_on_together(&d->claim, &d->begun, &left, 3));
    b->player.mine = claim_decode(left);
    for (uint32_t i = 0; i < more; i++)
        assert_true(claim_begin(&d->claim, &d->begun, left, claim_add(b->player.mine.front, i)));
}

static void what_is_held_is_taken_back_when_nothing_else_waits(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_DROPPED, 0);
    struct piece piece;
    struct event e;
    for (uint32_t more = 0; more < 3; more++) {
        restart(b);
        post(b, &call, "abcdef", 10, 6, 1);
        claim_three(b, more);
        assert_int_equal(books_take_back(&b->books, SIZE_MAX, &piece), 0);
        assert_int_equal(piece.index, 14);
        assert_int_equal(piece.count, 2);
        int held = books_take_back(&b->books, SIZE_MAX, &piece);
        if (!fence_send()) {
            assert_int_equal(held, -1);             /* no fence, no recall */
            continue;
        }
        assert_int_equal(held, more < 2 ? 0 : -1);
        assert_int_equal(piece.index, more < 2 ? 12 + more : 14);
        assert_int_equal(books_take_back(&b->books, SIZE_MAX, &piece), -1);
        expect(b, &e, EVENT_RUN, 10, 1 + more);
        expect_nothing(b);
    }
}

static void of_the_dead_what_was_held_has_not_started(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_DROPPED, 0);
    struct event e;
    for (uint32_t more = 0; more < 3; more++) {
        restart(b);
        post(b, &call, "abcdef", 10, 6, 1);
        claim_three(b, more);
        books_recall(&b->books, 1);
        expect(b, &e, EVENT_RUN, 10, 1 + more);
        expect_nothing(b);
        assert_true(books_mourn(&b->books, &e));
        assert_int_equal(e.kind, EVENT_LOST);
        assert_int_equal(e.piece.index, 11 + more);
        assert_int_equal(e.piece.count, 1);
        assert_true(books_mourn(&b->books, &e));
        assert_int_equal(e.kind, EVENT_LEFT);
        assert_int_equal(e.piece.index, 12 + more);
        assert_int_equal(e.piece.count, 4 - more);
        assert_false(books_mourn(&b->books, &e));
    }
}

/* Beyond what it holds, or before it: a task wrote over the word. */
static void what_cannot_have_been_begun_is_not_believed(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_DROPPED, 0);
    const uint32_t words[] = {0, 5, 1000, CLAIM_MASK, UINT32_MAX};
    for (unsigned i = 0; i < 5; i++) {
        restart(b);
        post(b, &call, "abcdef", 10, 6, 1);
        claim_three(b, 0);
        atomic_store(&b->books.channel.desk->begun, words[i]);
        books_recall(&b->books, 1);
        assert_true(b->books.damaged);
    }
}

static void one_post_at_a_time_is_taken_back(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_FRAMED, 0);
    struct piece piece;
    post(b, &call, "abc", 0, 3, 1);
    post(b, &call, "xy", 20, 2, 1);
    assert_int_equal(books_take_back(&b->books, SIZE_MAX, &piece), 0);
    assert_int_equal(piece.index, 20);
    assert_int_equal(books_take_back(&b->books, SIZE_MAX, &piece), 0);
    assert_int_equal(piece.index, 0);
    assert_int_equal(books_take_back(&b->books, SIZE_MAX, &piece), -1);
}

static void new_items_follow_what_was_taken_back(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_FRAMED, 0);
    struct piece piece;
    struct event e;
    post(b, &call, "abcde", 0, 5, 1);
    claim(b);
    books_take_back(&b->books, 3, &piece);
    post(b, &call, "XY", 50, 2, 1);
    const char *wanted = "abXY";
    for (int i = 0; i < 4; i++) {
        assert_int_equal(*b->player.item, wanted[i]);
        give(b, b->player.item, 1);
        assert_int_equal(claim(b), i < 3 ? CLAIM_GOT : CLAIM_EMPTY);
    }
    expect(b, &e, EVENT_RESULT, 0, 1);
    expect(b, &e, EVENT_RESULT, 1, 1);
    expect(b, &e, EVENT_RESULT, 50, 1);
    expect(b, &e, EVENT_RESULT, 51, 1);
}

static void a_call_taken_back_unread_is_taught_again(void **state)
{
    struct bench *b = *state;
    struct call_definition one = call_of(1, RESULT_FRAMED, 0), two = call_of(2, RESULT_FRAMED, 0);
    struct piece piece;
    post(b, &one, "a", 0, 1, 1);
    claim(b);
    post(b, &two, "b", 0, 1, 1);
    books_take_back(&b->books, 1, &piece);
    post(b, &two, "c", 0, 1, 1);
    give(b, "", 0);
    claim(b);
    assert_int_equal(b->player.calls[b->player.span->call].name, 2);
    assert_int_equal(*b->player.item, 'c');
}

static void owned_memory_comes_back_with_its_post(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_FRAMED, 0);
    char *own = strdup("own");
    struct piece piece = {.owner = &owner_a, .index = 3, .count = 1, .data = own, .size = 3, .owned = own};
    assert_int_equal(books_post(&b->books, &call, &piece, 0, 0), 0);
    assert_int_equal(books_take_back(&b->books, 1, &piece), 0);
    assert_ptr_equal(piece.owned, own);
    free(own);
}

static void a_lane_slot_taken_back_is_free_again(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_FRAMED, 0);
    unsigned char *item = pattern(SLOT, 1);
    struct piece piece;
    for (size_t i = 0; i < CHANNEL_LANE_SLOTS; i++)
        post(b, &call, item, i, 1, SLOT);
    assert_int_equal(books_take_back(&b->books, 1, &piece), 0);
    assert_memory_equal(piece.data, item, SLOT);
    assert_int_equal(books_room(&b->books, &call, SLOT), 1);
    free(item);
}

static void a_closed_worker_gets_nothing_and_gives_back(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_FRAMED, 0);
    struct piece piece;
    post(b, &call, "ab", 0, 2, 1);
    books_close(&b->books);
    assert_int_equal(claim(b), CLAIM_CLOSED);
    assert_int_equal(books_room(&b->books, &call, 1), 0);
    assert_int_equal(books_take_back(&b->books, 9, &piece), 0);
    assert_int_equal(piece.count, 2);
}

/* ---- Spans that grow */

static void open_span(struct bench *b, const struct call_definition *call, const char *item, size_t index, size_t most)
{
    struct piece piece = {.owner = &owner_a, .index = index, .count = 1, .data = item, .size = 1};
    assert_true(books_room(&b->books, call, 1) >= most);
    assert_int_equal(books_post(&b->books, call, &piece, 0, most), 0);
}

/* The claim word is left alone meanwhile. */
static void what_joins_a_span_is_claimed_by_its_worker(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_FRAMED, 0);
    struct event e;
    open_span(b, &call, "a", 7, 3);
    assert_int_equal(claim(b), CLAIM_GOT);
    uint64_t word = b->books.channel.desk->claim;
    assert_int_equal(books_grow(&b->books, &owner_a, 8, "b", 1), 0);
    assert_int_equal(books_grow(&b->books, &owner_a, 9, "c", 1), 0);
    assert_int_equal(books_outstanding(&b->books), 3);
    assert_true(b->books.channel.desk->claim == word);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(index_of(&b->player), 7 + i);
        assert_int_equal(*b->player.item, 'a' + (int)i);
        give(b, "", 0);
        assert_int_equal(claim(b), i < 2 ? CLAIM_GOT : CLAIM_EMPTY);
        expect(b, &e, EVENT_RESULT, 7 + i, 1);
    }
    assert_int_equal(books_outstanding(&b->books), 0);
}

static void a_worker_that_ran_dry_is_woken_for_what_joins(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_FRAMED, 0);
    char byte;
    open_span(b, &call, "a", 0, 2);
    claim(b);
    give(b, "", 0);
    assert_int_equal(claim(b), CLAIM_EMPTY);
    b->books.channel.desk->worker_state = CHANNEL_ASLEEP;
    assert_int_equal(books_grow(&b->books, &owner_a, 1, "b", 1), 0);
    assert_int_equal(read(b->pipe[0], &byte, 1), 1);
    assert_int_equal(claim(b), CLAIM_GOT);
    assert_int_equal(*b->player.item, 'b');
}

/* Offered without a fence, what joins may have been missed by a worker that falls asleep: whoever ends the haste makes sure. */
static void haste_ends_with_a_look_for_a_sleeper(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_FRAMED, 0);
    char byte;
    open_span(b, &call, "a", 0, 3);
    books_hurry(&b->books, 1);
    assert_int_equal(b->books.open->hasty, 1);
    assert_int_equal(books_grow(&b->books, &owner_a, 1, "b", 1), 0);
    b->books.channel.desk->worker_state = CHANNEL_ASLEEP;       /* it has missed that one, and it was missed */
    books_hurry(&b->books, 0);
    assert_int_equal(b->books.open->hasty, 0);
    assert_int_equal(b->books.channel.desk->worker_state, CHANNEL_AWAKE);
    assert_int_equal(read(b->pipe[0], &byte, 1), 1);
    books_hurry(&b->books, 1);
    b->books.channel.desk->worker_state = CHANNEL_ASLEEP;
    assert_int_equal(books_grow(&b->books, &owner_a, 2, "c", 1), 0);
    assert_int_equal(read(b->pipe[0], &byte, 1), 1);            /* and one that sleeps in haste is woken as ever */
}

/* The worker has each at once; the rest of the books is told later, once for all. */
static void a_run_is_told_at_its_end(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_FRAMED, 0);
    open_span(b, &call, "a", 7, 4);
    assert_int_equal(books_may_run(&b->books, &owner_a, 8, 1), 0);      /* without haste it would take a fence for each */
    books_hurry(&b->books, 1);
    assert_int_equal(books_may_run(&b->books, &owner_a, 8, 1), 3);
    assert_int_equal(books_may_run(&b->books, &owner_b, 8, 1), 0);
    assert_int_equal(books_may_run(&b->books, &owner_a, 9, 1), 0);
    assert_int_equal(books_may_run(&b->books, &owner_a, 8, 2), 0);
    assert_int_equal(books_end_run(&b->books), 0);
    assert_int_equal(b->books.claim.exposed, 0);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(claim(b), CLAIM_GOT);
        assert_int_equal(*b->player.item, 'a' + (int)i);
        give(b, "", 0);
        assert_int_equal(claim(b), CLAIM_EMPTY);
        books_run(&b->books, &"bcd"[i], 1);
    }
    assert_int_equal(books_outstanding(&b->books), 1);
    assert_int_equal(books_end_run(&b->books), 3);
    assert_int_equal(b->books.claim.exposed, 1);
    assert_int_equal(books_end_run(&b->books), 0);
    assert_int_equal(books_outstanding(&b->books), 4);
    assert_int_equal(books_last(&b->books)->count, 4);
    assert_int_equal(books_may_run(&b->books, &owner_a, 11, 1), 0);     /* it is full */
}

static void haste_ends_with_its_span(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_FRAMED, 0);
    struct piece piece;
    open_span(b, &call, "a", 0, 3);
    struct task_span *span = b->books.open;
    books_hurry(&b->books, 1);
    assert_int_equal(books_grow(&b->books, &owner_a, 1, "b", 1), 0);
    assert_int_equal(books_take_back(&b->books, 1, &piece), 0);
    assert_int_equal(span->hasty, 0);
    books_hurry(&b->books, 1);                  /* there is none that is open */
    assert_int_equal(span->hasty, 0);
}

static void only_the_next_item_of_the_same_kind_joins(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_FRAMED, 0);
    assert_int_equal(books_grow(&b->books, &owner_a, 0, "a", 1), -1);
    post(b, &call, "a", 0, 1, 1);
    assert_int_equal(books_grow(&b->books, &owner_a, 1, "b", 1), -1);       /* it was posted not to grow */
    open_span(b, &call, "b", 1, 3);
    assert_int_equal(books_grow(&b->books, &owner_b, 2, "c", 1), -1);
    assert_int_equal(books_grow(&b->books, &owner_a, 2, "cc", 2), -1);
    assert_int_equal(books_grow(&b->books, &owner_a, 3, "c", 1), -1);
    assert_int_equal(books_grow(&b->books, &owner_a, 2, "c", 1), 0);
    assert_int_equal(books_grow(&b->books, &owner_a, 3, "d", 1), 0);
    assert_int_equal(books_grow(&b->books, &owner_a, 4, "e", 1), -1);       /* it is full */
    post(b, &call, "e", 4, 1, 1);
    assert_int_equal(books_outstanding(&b->books), 5);
}

/* What was offered is taken back like all else, and what remains is claimed; a span that is posted before the worker has moved on does not
 * grow. */
static void what_joined_is_taken_back(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_FRAMED, 0);
    struct piece piece;
    open_span(b, &call, "a", 0, 9);
    claim(b);
    for (size_t i = 1; i < 6; i++)
        assert_int_equal(books_grow(&b->books, &owner_a, i, &"abcdef"[i], 1), 0);
    assert_int_equal(books_waiting(&b->books, claim_load(&b->books.channel.desk->claim)), 5);
    assert_int_equal(books_take_back(&b->books, 3, &piece), 0);
    assert_int_equal(piece.index, 3);
    assert_int_equal(piece.count, 3);
    assert_memory_equal(piece.data, "def", 3);
    open_span(b, &call, "g", 6, 9);
    assert_int_equal(books_grow(&b->books, &owner_a, 7, "h", 1), -1);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(*b->player.item, "abcg"[i]);
        give(b, "", 0);
        assert_int_equal(claim(b), i < 3 ? CLAIM_GOT : CLAIM_EMPTY);
    }
    books_look(&b->books);
    open_span(b, &call, "h", 7, 2);
    assert_int_equal(books_grow(&b->books, &owner_a, 8, "i", 1), 0);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(claim(b), CLAIM_GOT);
        assert_int_equal(*b->player.item, "hi"[i]);
        give(b, "", 0);
    }
}

/* It looked at the word before, and at the offer after what was offered went over from the one to the other. */
static void a_worker_that_missed_the_end_of_an_offer_is_woken(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_FRAMED, 0);
    struct piece piece;
    char byte;
    open_span(b, &call, "a", 0, 9);
    claim(b);
    give(b, "", 0);
    assert_int_equal(claim(b), CLAIM_EMPTY);
    books_grow(&b->books, &owner_a, 1, "b", 1);
    books_grow(&b->books, &owner_a, 2, "c", 1);
    b->books.channel.desk->worker_state = CHANNEL_ASLEEP;
    assert_int_equal(books_take_back(&b->books, 1, &piece), 0);
    assert_int_equal(read(b->pipe[0], &byte, 1), 1);
    assert_int_equal(claim(b), CLAIM_GOT);
    assert_int_equal(*b->player.item, 'b');
}

static void a_worker_that_dies_leaves_what_joined_unstarted(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_FRAMED, 0);
    struct event e;
    open_span(b, &call, "a", 0, 9);
    claim(b);
    books_grow(&b->books, &owner_a, 1, "b", 1);
    books_grow(&b->books, &owner_a, 2, "c", 1);
    books_look(&b->books);
    assert_int_equal(books_mourn(&b->books, &e), 1);
    assert_int_equal(e.kind, EVENT_LOST);
    assert_int_equal(e.piece.count, 1);
    assert_int_equal(books_mourn(&b->books, &e), 1);
    assert_int_equal(e.kind, EVENT_LEFT);
    assert_int_equal(e.piece.index, 1);
    assert_int_equal(e.piece.count, 2);
    assert_memory_equal(e.piece.data, "bc", 2);
    assert_int_equal(books_mourn(&b->books, &e), 0);
    assert_int_equal(books_grow(&b->books, &owner_a, 3, "d", 1), -1);
}

static void nothing_joins_at_a_worker_that_was_told_to_leave(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_FRAMED, 0);
    open_span(b, &call, "a", 0, 9);
    assert_int_equal(books_grow(&b->books, &owner_a, 1, "b", 1), 0);
    books_close(&b->books);
    assert_int_equal(books_grow(&b->books, &owner_a, 2, "c", 1), -1);
    assert_int_equal(books_outstanding(&b->books), 2);
    assert_int_equal(claim(b), CLAIM_CLOSED);
}

static void nothing_joins_where_the_channel_is_damaged(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_FRAMED, 0);
    open_span(b, &call, "a", 0, 9);
    b->books.damaged = 1;
    books_close(&b->books);
    assert_int_equal(books_grow(&b->books, &owner_a, 1, "b", 1), -1);
}

/* ---- Calls */

static void sixteen_calls_are_known_and_the_next_takes_an_idle_number(void **state)
{
    struct bench *b = *state;
    struct event e;
    for (uint64_t fn = 1; fn <= CHANNEL_CALLS + 1; fn++) {
        struct call_definition call = call_of(fn, RESULT_FRAMED, 0);
        post(b, &call, "x", 0, 1, 1);
        claim(b);
        assert_int_equal(b->player.calls[b->player.span->call].name, fn);
        give(b, "", 0);
        claim(b);
        expect(b, &e, EVENT_RESULT, 0, 1);
    }
    struct call_definition first = call_of(1, RESULT_FRAMED, 0), last = call_of(CHANNEL_CALLS + 1, RESULT_FRAMED, 0);
    uint64_t before = b->books.task_tail;
    post(b, &last, "x", 0, 1, 1);
    uint64_t known = b->books.task_tail - before;
    before = b->books.task_tail;
    post(b, &first, "x", 0, 1, 1);
    assert_true(b->books.task_tail - before > known);       /* it had to be taught again */
}

static void a_number_in_use_is_not_given_away(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_FRAMED, 0);
    for (uint64_t fn = 1; fn <= CHANNEL_CALLS; fn++) {
        call = call_of(fn, RESULT_FRAMED, 0);
        post(b, &call, "x", 0, 1, 1);
    }
    assert_true(books_room(&b->books, &call, 1) > 0);
    call = call_of(99, RESULT_FRAMED, 0);
    assert_int_equal(books_room(&b->books, &call, 1), 0);
}

static void another_context_is_another_call(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_FRAMED, 0);
    call.common = "one";
    call.common_size = 3;
    call.common_id = 1;
    post(b, &call, "x", 0, 1, 1);
    call.common = "two";
    call.common_id = 2;
    post(b, &call, "x", 0, 1, 1);
    claim(b);
    give(b, "", 0);
    claim(b);
    assert_memory_equal(b->player.contexts[b->player.span->call], "two", 3);
}

/* ---- Room, questions */

static void what_has_room_can_be_posted(void **state)
{
    struct bench *b = *state;
    struct event e;
    unsigned char *items = pattern(BOOKS_INLINE, 0);
    size_t index = 0;
    for (int round = 0; round < 3000; round++) {
        size_t size = random_word() % 3 ? random_word() % 100 : random_word() % CHANNEL_INLINE;
        size_t out = random_word() % 3 ? random_word() % 50 : random_word() % CHANNEL_PACKED;
        struct call_definition call = call_of(1 + random_word() % 20, RESULT_PACKED, out);
        size_t room = books_room(&b->books, &call, size);
        if (room) {
            size_t count = size || call.out_size ? room : 100;
            post(b, &call, items, index, count < room ? count : room, size);
            index += count < room ? count : room;
            if (random_word() % 2)
                continue;
        }
        for (uint64_t n = random_word() % 3000; n && claim(b) == CLAIM_GOT; n--)
            give(b, items, (size_t)b->player.calls[b->player.span->call].out_size);
        while (next(b, &e))
            assert_int_equal(e.kind, EVENT_RUN);
        assert_false(b->books.damaged);
    }
    free(items);
}

static int runs(struct bench *b, const void *owner)
{
    uint32_t position;
    const struct piece *piece = books_running(&b->books, &position);
    return piece && piece->owner == owner;
}

static void the_books_know_whose_items_they_hold(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_FRAMED, 0);
    post(b, &call, "ab", 0, 2, 1);
    assert_true(books_holds(&b->books, &owner_a));
    assert_false(books_holds(&b->books, &owner_b));
    assert_false(runs(b, &owner_a));
    claim(b);
    assert_true(runs(b, &owner_a));
    assert_false(runs(b, &owner_b));
    give(b, "", 0);
    claim(b);
    give(b, "", 0);
    claim(b);
    assert_false(runs(b, &owner_a));
}

/* ---- Waiting for it */

/* Finishes what runs and claims the next, and wakes the caller as worker_child.c does. Nonzero: by its pipe. */
static int claim_and_wake(struct bench *b)
{
    struct desk *d = b->books.channel.desk;
    return claim(b) == CLAIM_GOT ? channel_must_wake_caller(d, claim_finished(b->player.mine)) : channel_must_wake_caller_now(d);
}

/* Items without frames: what the claim word says is all there is. */
static void post_dropped(struct bench *b, size_t count, int eager)
{
    struct call_definition call = call_of(1, RESULT_DROPPED, 0);
    struct piece piece = {.owner = &owner_a, .count = count, .data = "abcdefgh", .size = 1, .source_keeps = 1};
    assert_true(count <= 8);
    assert_int_equal(books_post(&b->books, &call, &piece, eager, 0), 0);
}

static int waits(struct bench *b)
{
    return !books_wait(&b->books, CHANNEL_WATCHING, 0);
}

static void a_worker_never_asked_is_looked_at(void **state)
{
    struct bench *b = *state;
    assert_true(books_rang(&b->books));
}

static void a_watching_caller_is_woken_by_the_word_alone(void **state)
{
    struct bench *b = *state;
    post_dropped(b, 4, 1);
    claim_and_wake(b);
    assert_false(books_wait(&b->books, CHANNEL_WATCHING, 0));
    assert_false(books_rang(&b->books));
    assert_false(claim_and_wake(b));                /* no ring */
    assert_true(books_rang(&b->books));
}

static void a_sleeping_caller_is_rung_once(void **state)
{
    struct bench *b = *state;
    post_dropped(b, 4, 1);
    claim_and_wake(b);
    assert_false(books_wait(&b->books, CHANNEL_ASLEEP, 0));
    assert_true(claim_and_wake(b));
    assert_false(claim_and_wake(b));
}

static void a_caller_that_watched_before_it_slept_is_rung(void **state)
{
    struct bench *b = *state;
    post_dropped(b, 4, 1);
    claim_and_wake(b);
    books_wait(&b->books, CHANNEL_WATCHING, 0);
    books_wait(&b->books, CHANNEL_ASLEEP, 0);
    assert_true(claim_and_wake(b));
}

static void who_woke_by_itself_is_not_woken(void **state)
{
    struct bench *b = *state;
    post_dropped(b, 4, 1);
    claim_and_wake(b);
    books_wait(&b->books, CHANNEL_ASLEEP, 0);
    books_awake(&b->books);
    assert_true(books_rang(&b->books));
    assert_false(claim_and_wake(b));
}

static void a_waiting_caller_is_woken_by_the_first_end(void **state)
{
    struct bench *b = *state;
    post_dropped(b, 8, 1);
    assert_true(waits(b));
    claim_and_wake(b);
    assert_false(books_rang(&b->books));
    claim_and_wake(b);
    assert_true(books_rang(&b->books));
}

static void one_eager_item_makes_all_of_them_so(void **state)
{
    struct bench *b = *state;
    post_dropped(b, 7, 0);
    post_dropped(b, 1, 1);
    assert_true(waits(b));
    claim_and_wake(b);
    claim_and_wake(b);
    assert_true(books_rang(&b->books));
}

/* Half of what is posted counts from what was taken, and is rounded up. */
static void woken_after(struct bench *b, unsigned ends)
{
    claim_and_wake(b);
    for (unsigned n = 0; n < ends; n++) {
        assert_false(books_rang(&b->books));
        claim_and_wake(b);
    }
    assert_true(books_rang(&b->books));
}

static void a_map_is_woken_when_half_is_done(void **state)
{
    struct bench *b = *state;
    post_dropped(b, 8, 0);
    assert_true(waits(b));
    woken_after(b, 4);
}

/* Where nothing could be given to the worker meanwhile. */
static void a_patient_map_is_woken_when_all_is_done(void **state)
{
    struct bench *b = *state;
    post_dropped(b, 8, 0);
    assert_false(books_wait(&b->books, CHANNEL_WATCHING, 1));
    woken_after(b, 8);
}

static void the_half_of_an_odd_number_is_the_larger_one(void **state)
{
    struct bench *b = *state;
    post_dropped(b, 5, 0);
    assert_true(waits(b));
    woken_after(b, 3);
}

static void the_half_is_of_what_was_not_taken(void **state)
{
    struct bench *b = *state;
    struct event e;
    post_dropped(b, 8, 0);
    for (int i = 0; i < 3; i++)
        claim(b);
    expect(b, &e, EVENT_RUN, 0, 2);
    assert_true(waits(b));
    for (int ends = 2; ends < 5; ends++) {
        assert_false(books_rang(&b->books));
        claim_and_wake(b);
    }
    assert_true(books_rang(&b->books));
}

static void a_worker_with_nothing_to_do_wakes_the_caller(void **state)
{
    struct bench *b = *state;
    struct piece piece;
    post_dropped(b, 8, 0);
    claim_and_wake(b);
    assert_true(waits(b));
    assert_int_equal(books_take_back(&b->books, 7, &piece), 0);
    claim_and_wake(b);
    assert_true(books_rang(&b->books));
}

static void an_end_that_came_before_the_wait_is_told(void **state)
{
    struct bench *b = *state;
    post_dropped(b, 4, 1);
    assert_true(waits(b));
    claim(b);
    assert_true(waits(b));
    claim(b);
    assert_false(waits(b));
}

static void a_half_done_before_the_wait_is_told(void **state)
{
    struct bench *b = *state;
    post_dropped(b, 8, 0);
    for (int i = 0; i < 4; i++) {
        claim(b);
        assert_true(waits(b));
    }
    claim(b);
    assert_false(waits(b));
}

static void an_end_that_was_taken_is_told_no_more(void **state)
{
    struct bench *b = *state;
    struct event e;
    post_dropped(b, 4, 1);
    claim(b);
    claim(b);
    assert_false(waits(b));
    expect(b, &e, EVENT_RUN, 0, 1);
    assert_true(waits(b));
}

static void a_worker_that_has_finished_everything_is_told(void **state)
{
    struct bench *b = *state;
    post_dropped(b, 1, 0);
    claim(b);
    assert_true(waits(b));
    assert_int_equal(claim(b), CLAIM_EMPTY);
    assert_false(waits(b));
}

/* It wakes nobody any more, having nothing to do: so whoever waits for it has to see that. */
static void a_worker_whose_word_says_that_nothing_waits_is_told(void **state)
{
    struct bench *b = *state;
    post_dropped(b, 4, 0);
    assert_true(waits(b));
    b->books.channel.desk->claim = claim_encode((struct claim){0});
    assert_false(waits(b));
    assert_false(books_look(&b->books));
    assert_true(b->books.damaged);
}

static void a_wait_for_nothing_goes_on(void **state)
{
    struct bench *b = *state;
    struct event e;
    assert_true(waits(b));
    post_dropped(b, 2, 1);
    for (int i = 0; i < 3; i++)
        claim(b);
    expect(b, &e, EVENT_RUN, 0, 2);
    assert_true(waits(b));
}

static void a_frame_that_came_before_the_wait_is_told(void **state)
{
    struct bench *b = *state;
    assert_true(waits(b));                          /* nothing is posted: it starts up */
    tell(b, TELL_READY, GENERATION, NULL, 0, NULL, 0);
    assert_false(waits(b));
}

static void a_frame_of_what_still_runs_is_told_once(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_FRAMED, 0);
    post(b, &call, "abcd", 0, 4, 1);
    claim(b);
    expect_nothing(b);
    give(b, "", 0);
    assert_false(waits(b));
    expect_nothing(b);
    assert_true(waits(b));
}

/* The look saw the claim word before the claim, and the ring after what the claimed item told. */
static void look_across(struct bench *b)
{
    struct event e;
    books_look(&b->books);
    claim(b);
    b->books.result_tail = b->books.channel.desk->result_tail;
    assert_false(books_next(&b->books, GENERATION, &e));
    assert_false(b->books.damaged);
    assert_int_equal(b->player.doing, b->player.unread[0] ? WANTS_CONTEXT : WANTS_ITEM);
}

static void a_need_claimed_after_the_look_is_told(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_FRAMED, 0);
    unsigned char *item = pattern(SLOT + 1, 5);
    post(b, &call, item, 0, 1, SLOT + 1);
    look_across(b);
    assert_false(waits(b));
    expect_nothing(b);
    assert_true(b->books.item_written > 0);
    free(item);
}

static void a_context_wanted_after_the_look_is_told(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_FRAMED, 0);
    unsigned char *common = pattern(CHANNEL_INLINE + 1, 5);
    call.common = common;
    call.common_size = CHANNEL_INLINE + 1;
    call.common_id = 1;
    post(b, &call, "a", 0, 1, 1);
    look_across(b);
    assert_false(waits(b));
    expect_nothing(b);
    assert_true(b->books.item_written > 0);
    free(common);
}

static void room_for_the_rest_of_an_item_is_told(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_FRAMED, 0);
    const size_t size = CHANNEL_STREAM + 100;
    unsigned char *item = pattern(size, 5);
    post(b, &call, item, 0, 1, size);
    claim(b);
    expect_nothing(b);
    assert_true(waits(b));
    go_on(b);
    assert_false(waits(b));
    expect_nothing(b);
    assert_true(waits(b));                          /* all of it was sent */
    free(item);
}

static void more_of_a_streamed_result_is_told(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_FRAMED, 0);
    const size_t size = CHANNEL_STREAM + 100;
    unsigned char *result = pattern(size, 5);
    post(b, &call, "a", 0, 1, 1);
    claim(b);
    assert_true(give(b, result, size));
    expect_nothing(b);
    assert_true(waits(b));
    go_on(b);
    assert_false(waits(b));
    expect_nothing(b);
    assert_true(waits(b));
    free(result);
}

/* Only its death ends that wait. */
static void nothing_is_told_of_a_damaged_worker(void **state)
{
    struct bench *b = *state;
    struct event e;
    post_dropped(b, 1, 1);
    claim(b);
    claim(b);
    assert_false(waits(b));
    tell(b, TELL_READY, GENERATION - 1, NULL, 0, NULL, 0);
    assert_false(next(b, &e));
    assert_true(b->books.damaged);
    assert_true(waits(b));
    assert_false(books_rang(&b->books));
}

/* ---- Death */

static void what_ran_is_lost_and_what_waited_is_left(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_FRAMED, 0);
    struct event e;
    post(b, &call, "abcd", 0, 4, 1);
    claim(b);
    give(b, "A", 1);
    claim(b);
    expect(b, &e, EVENT_RESULT, 0, 1);
    expect_nothing(b);
    assert_true(books_mourn(&b->books, &e));
    assert_int_equal(e.kind, EVENT_LOST);
    assert_int_equal(e.piece.index, 1);
    assert_int_equal(e.piece.count, 1);
    assert_int_equal(e.piece.tries, 1);
    assert_true(books_mourn(&b->books, &e));
    assert_int_equal(e.kind, EVENT_LEFT);
    assert_int_equal(e.piece.index, 2);
    assert_int_equal(e.piece.count, 2);
    assert_int_equal(e.piece.tries, 0);
    assert_memory_equal(e.piece.data, "cd", 2);
    assert_false(books_mourn(&b->books, &e));
    assert_int_equal(books_outstanding(&b->books), 0);
}

static void a_result_written_but_not_finished_is_lost(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_FRAMED, 0);
    struct event e;
    post(b, &call, "a", 0, 1, 1);
    claim(b);
    give(b, "A", 1);
    expect_nothing(b);
    assert_true(books_mourn(&b->books, &e));
    assert_int_equal(e.kind, EVENT_LOST);
    assert_false(books_mourn(&b->books, &e));
}

static void an_idle_worker_loses_nothing(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_FRAMED, 0);
    struct event e;
    post(b, &call, "ab", 0, 2, 1);
    expect_nothing(b);
    assert_true(books_mourn(&b->books, &e));
    assert_int_equal(e.kind, EVENT_LEFT);
    assert_int_equal(e.piece.count, 2);
    assert_false(books_mourn(&b->books, &e));
}

static void the_first_answers_for_damage(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_FRAMED, 0);
    struct event e;
    post(b, &call, "abc", 0, 3, 1);
    b->books.channel.desk->claim = UINT64_MAX;
    assert_false(next(b, &e));
    assert_true(b->books.damaged);
    assert_true(books_mourn(&b->books, &e));
    assert_int_equal(e.kind, EVENT_LOST);
    assert_int_equal(e.piece.count, 1);
    assert_true(books_mourn(&b->books, &e));
    assert_int_equal(e.kind, EVENT_LEFT);
    assert_int_equal(e.piece.count, 2);
    assert_false(books_mourn(&b->books, &e));
}

static void damage_with_nothing_posted_loses_nothing(void **state)
{
    struct bench *b = *state;
    struct event e;
    b->books.channel.desk->result_tail = 8;
    assert_false(next(b, &e));
    assert_true(b->books.damaged);
    assert_false(books_mourn(&b->books, &e));
}

static void a_posting_over_damage_is_refused_whole(void **state)
{
    struct bench *b = *state;
    struct call_definition call = call_of(1, RESULT_FRAMED, 0);
    struct piece piece = {.owner = &owner_a, .count = 1, .data = "a", .size = 1, .source_keeps = 1};
    b->books.channel.desk->claim = 12345;
    assert_int_equal(books_post(&b->books, &call, &piece, 0, 0), -1);
    assert_true(b->books.damaged);
    assert_int_equal(books_outstanding(&b->books), 0);
    assert_null(books_last(&b->books));
}

/* ---- All of it at random, against plain counts */

enum { ITEMS = 4096 };

static struct {
    unsigned char ended[ITEMS];                 /* how often told: once each in the end */
    unsigned char tried[ITEMS];
    size_t        made, grown;
} account;

static size_t largest;

static size_t size_of(size_t index)
{
    static const size_t sizes[] = {0, 1, 8, 64, 100, 5000, CHANNEL_INLINE, CHANNEL_INLINE + 1, SLOT, SLOT + 1, CHANNEL_STREAM + 77};
    return sizes[index % 11] < largest ? sizes[index % 11] : largest;
}

/* Bytes of an item or a result: this, from index * 13 on. */
static unsigned char ramp[CHANNEL_STREAM + 1024];

static const unsigned char *ramp_of(size_t index)
{
    for (size_t i = 0; !ramp[1] && i < sizeof ramp; i++)
        ramp[i] = (unsigned char)i;
    return ramp + (index * 13 & 255);
}

static unsigned char *bytes_for(size_t index, size_t size)
{
    unsigned char *bytes = malloc(size ? size : 1);
    assert_non_null(bytes);
    memcpy(bytes, ramp_of(index), size);
    return bytes;
}

static void check_bytes(const unsigned char *bytes, size_t index, size_t size)
{
    if (size && memcmp(bytes, ramp_of(index), size))
        fail_msg("item %zu: its %zu bytes are wrong", index, size);
}

static void end_items(size_t index, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        assert_true(index + i < ITEMS);
        account.ended[index + i]++;
    }
}

/* To how many items a span may grow. */
static size_t some(size_t room)
{
    size_t most = random_word() % 100;
    return most < room ? most : room;
}

/* One item of its own memory for each kind of size. */
static void post_one(struct bench *b, const struct call_definition *call)
{
    size_t index = account.made, size = size_of(index), room = books_room(&b->books, call, size);
    if (index == ITEMS || !room)
        return;
    void *own = bytes_for(index, size);
    struct piece piece = {.owner = &owner_a, .index = index, .count = 1, .data = own, .size = size, .owned = own};
    account.made++;
    assert_int_equal(books_post(&b->books, call, &piece, (int)(index & 1), some(room)), 0);
}

static void post_span(struct bench *b, const struct call_definition *call)
{
    static unsigned char bytes[64 * 40];
    size_t index = account.made, count = 1 + random_word() % 40, size = random_word() % 65;
    size_t room = books_room(&b->books, call, size);
    if (index + count > ITEMS || room < count)
        return;
    for (size_t n = 0; n < count; n++)
        memcpy(bytes + n * size, ramp_of(index + n), size);
    struct piece piece = {.owner = &owner_a, .index = index, .count = count, .data = bytes, .size = size, .source_keeps = 1};
    account.made += count;
    assert_int_equal(books_post(&b->books, call, &piece, (int)(index & 1), some(room)), 0);
}

/* Whatever size comes: only one like those before it may join them. */
static void grow(struct bench *b)
{
    size_t index = account.made, size = b->books.open && random_word() % 8 ? (size_t)b->books.open->item_size : random_word() % 65;
    if (index == ITEMS || books_grow(&b->books, &owner_a, index, ramp_of(index), size))
        return;
    account.made++;
    account.grown++;
}

static void take_back_some(struct bench *b)
{
    struct piece piece;
    if (books_take_back(&b->books, 1 + random_word() % 20, &piece))
        return;
    for (size_t n = 0; n < piece.count; n++)
        check_bytes((const unsigned char *)piece.data + n * piece.size, piece.index + n, piece.size);
    end_items(piece.index, piece.count);
    free(piece.owned);
}

static void step_player(struct bench *b)
{
    struct player *p = &b->player;
    if (p->doing == IDLE) {
        claim(b);
    } else if (p->doing == HAS_ITEM) {
        size_t index = index_of(p), size = p->calls[p->span->call].mode == RESULT_PACKED ? 8 : size_of(index * 7);
        check_bytes(p->item, index, p->size);
        account.tried[index]++;
        unsigned char *bytes = bytes_for(index, size);
        if (index % 17 == 0 ? tell_failure(b, TELL_FAILED, p->position, (int)index, "as told") : give(b, bytes, size))
            p->doing = p->doing == SENDS_RESULT ? SENDS_RESULT : IDLE;
        free(bytes);
    } else {
        go_on(b);
    }
}

static void take_one(struct bench *b)
{
    struct event e;
    if (!next(b, &e))
        return;
    size_t index = e.piece.index;
    assert_ptr_equal(e.piece.owner, &owner_a);
    end_items(index, e.piece.count);
    if (e.kind == EVENT_FAILED) {
        assert_int_equal(e.code, index);
        assert_string_equal(e.text, "as told");
    } else {
        for (size_t n = 0; e.data && n < e.piece.count; n++)
            check_bytes((const unsigned char *)e.data + n * e.size, index + n, e.size);
    }
    free(e.owned);
    books_give_up(&b->books, e.slot);
}

static void mourn_all(struct bench *b)
{
    struct event e;
    while (books_mourn(&b->books, &e)) {
        assert_true(e.kind == EVENT_LOST || e.kind == EVENT_LEFT);
        assert_ptr_equal(e.piece.owner, &owner_a);
        end_items(e.piece.index, e.piece.count);
        for (size_t n = 0; e.kind == EVENT_LEFT && n < e.piece.count; n++)
            check_bytes((const unsigned char *)e.piece.data + n * e.piece.size, e.piece.index + n, e.piece.size);
        free(e.piece.owned);
    }
    assert_null(books_last(&b->books));
    assert_int_equal(b->books.item_slots, 0);
    assert_int_equal(books_outstanding(&b->books), 0);
}

static void check_account(unsigned round)
{
    for (size_t i = 0; i < account.made; i++)
        if (account.ended[i] != 1)
            fail_msg("round %u: item %zu ended %d times", round, i, account.ended[i]);
}

static void play_one_round(struct bench *b, unsigned steps)
{
    struct call_definition calls[20];
    unsigned char *common = pattern(CHANNEL_STREAM + 5, 1);
    for (unsigned i = 0; i < 20; i++) {
        calls[i] = call_of(i + 1, i % 3, i % 3 == RESULT_PACKED ? 8 : 0);
        calls[i].common = i % 4 ? common : NULL;
        calls[i].common_size = i % 4 == 0 ? 0 : i % 4 == 1 ? 100 : i % 4 == 2 ? CHANNEL_INLINE : CHANNEL_STREAM + 5;
        calls[i].common_id = i % 4 ? i : 0;
    }
    for (; steps; steps--) {
        switch (random_word() % 10) {
        case 0: post_one(b, &calls[random_word() % 20]); break;
        case 1: post_span(b, &calls[random_word() % 20]); break;
        case 2: take_back_some(b); break;
        case 9: books_hurry(&b->books, (int)(random_word() % 2)); grow(b); break;
        case 3: case 4: case 5: take_one(b); break;
        default: step_player(b); break;
        }
        if (b->books.damaged)
            fail_msg("an honest worker was taken for a damaged one");
    }
    while (books_outstanding(&b->books) && random_word() % 4000) {      /* most rounds end by themselves, some by death */
        step_player(b);
        take_one(b);
    }
    for (unsigned i = 0; i < 3; i++)
        take_one(b);
    mourn_all(b);
    free(common);
}

static void every_item_ends_once_whatever_the_order(void **state)
{
    struct bench *b = *state;
    const unsigned rounds = check_under("address") || check_under("valgrind") ? 25 : 100;
    size_t grown = 0;
    for (unsigned round = 0; round < rounds; round++) {
        largest = round % 8 ? SLOT + 1 : SIZE_MAX;          /* what does not fit the stream's window is slow */
        memset(&account, 0, sizeof account);
        play_one_round(b, 1500);
        check_account(round);
        for (size_t i = 0; i < account.made; i++)
            assert_true(account.tried[i] <= 1);
        grown += account.grown;
        restart(b);
    }
    assert_true(grown > 10 * rounds);
}

/* ---- Written over */

static volatile unsigned sink;

static void touch(const void *data, size_t size)
{
    const unsigned char *bytes = data;
    unsigned sum = size ? bytes[size - 1] : 0;
    for (size_t i = 0; i < size; i += 61)
        sum += bytes[i];
    sink = sum;
}

/* Moves the rings to a place of their own, so that garbage meets their ends too. */
static void begin_at(struct bench *b, uint64_t at)
{
    struct desk *d = b->books.channel.desk;
    b->books.result_head = b->books.result_next = b->books.result_tail = b->player.result_tail = at;
    d->result_head = d->result_tail = at;
}

static uint64_t wild(void)
{
    switch (random_word() % 5) {
    case 0: return random_word();
    case 1: return random_word() >> random_word() % 64;
    case 2: return UINT64_MAX - random_word() % 100;
    default: return random_word() % 70;
    }
}

/* A header that passes its check, with a payload as it may be. */
static void write_wild_frame(struct bench *b)
{
    static const uint32_t kinds[] = {TELL_READY, TELL_UNREADY, TELL_NEED_ITEM, TELL_NEED_CONTEXT, TELL_RESULT, TELL_RESULT_LANE,
                                     TELL_RESULT_STREAM, TELL_FAILED, FRAME_PAD, TASK_SPAN, 999};
    uint64_t words[4] = {wild(), wild(), wild(), wild()};
    uint32_t kind = kinds[random_word() % 11], tag = random_word() % 4 ? (uint32_t)random_word() % 12 : (uint32_t)wild();
    tag = kind == TELL_READY || kind == TELL_UNREADY ? GENERATION : tag;
    size_t size = kind == TELL_RESULT_STREAM || kind == TELL_NEED_ITEM ? 8 : kind == TELL_RESULT_LANE ? 16 : random_word() % 33;
    if (kind == TELL_RESULT_STREAM)         /* memory for all of it, or for sure none */
        words[0] = random_word() % 2 ? random_word() % (random_word() % 32 ? 50000 : 700000) : UINT64_MAX >> random_word() % 8;
    if (kind == TELL_RESULT_LANE)
        words[0] = random_word() % 5;
    uint64_t tail = b->player.result_tail;
    if (!tell(b, kind, tag, words, size, NULL, 0) || random_word() % 8)
        return;
    uint64_t at = tail & (CHANNEL_RESULTS - 1);
    frame_write(b->books.channel.results.bytes + at, kind, tag, wild());
}

static void write_garbage(struct bench *b)
{
    struct channel *c = &b->books.channel;
    struct desk *d = c->desk;
    uint64_t at = b->books.result_next, size = 16 + random_word() % 2000 / 16 * 16;
    _Atomic uint64_t *const words[] = {&d->claim, &d->result_head, &d->item_stream_tail, &d->result_stream_head, &d->result_tail,
                                       &d->item_stream_head, &d->result_stream_tail, &d->lane_free};
    switch (random_word() % 8) {
    case 0:                                             /* anything in the ring */
        for (uint64_t i = 0; i < size; i++)
            c->results.bytes[(at + i) & (CHANNEL_RESULTS - 1)] = (unsigned char)random_word();
        d->result_tail = at + size;
        break;
    case 1:                                             /* a few bits of what is there */
        for (uint64_t n = 1 + random_word() % 4; n; n--)
            c->results.bytes[(at + random_word() % 200) & (CHANNEL_RESULTS - 1)] ^= (unsigned char)(1u << random_word() % 8);
        break;
    case 2:
        *words[random_word() % 8] = wild();
        break;
    case 3:                                             /* a bit of a word */
        *words[random_word() % 8] ^= 1ull << random_word() % 64;
        break;
    case 4: {                                           /* a claim word that could be, nearly */
        struct claim claim = claim_load(&d->claim);
        claim.front = claim_add(claim.front, (uint32_t)random_word() % 8 + CLAIM_MASK - 1);
        claim.running ^= random_word() % 2;
        d->claim = claim_encode(claim);
        b->player.mine = claim;
        break;
    }
    case 5:                                             /* the streams move */
        d->result_stream_tail += random_word() % CHANNEL_STREAM;
        d->item_stream_head += random_word() % CHANNEL_STREAM;
        break;
    case 6:                                             /* spans and calls: nothing there is read again */
        for (uint64_t i = 0; i < 512; i++)
            c->tasks.bytes[i] = (unsigned char)random_word();
        break;
    default:
        write_wild_frame(b);
        break;
    }
}

/* What the scheduler does with a worker, until it is dead: every event is used, and everything ends. */
static void take_whatever_comes(struct bench *b)
{
    struct event e;
    for (unsigned looks = 0; looks < 3; looks++) {
        books_look(&b->books);
        unsigned events = 0;
        while (books_next(&b->books, GENERATION, &e)) {
            assert_true(++events <= CHANNEL_RESULTS / FRAME_HEAD + ITEMS);
            if (e.kind >= EVENT_RESULT)
                end_items(e.piece.index, e.piece.count);
            if (e.kind == EVENT_FAILED || e.kind == EVENT_UNREADY)
                assert_true(strlen(e.text) <= STATUS_TEXT);
            if (e.data)
                touch(e.data, e.piece.count * e.size);
            free(e.owned);
            books_give_up(&b->books, e.slot);
        }
        assert_true(books_wait(&b->books, CHANNEL_WATCHING, 0) <= !b->books.damaged);
        assert_false(books_rang(&b->books));
        if (random_word() % 2)
            b->books.channel.desk->result_stream_tail += random_word() % 100000;
    }
}

static void mourn_whatever_is_left(struct bench *b)
{
    struct event e;
    while (books_mourn(&b->books, &e)) {
        assert_true(e.kind == EVENT_LOST || e.kind == EVENT_LEFT);
        end_items(e.piece.index, e.piece.count);
        if (e.kind == EVENT_LEFT)
            touch(e.piece.data, e.piece.count * e.piece.size);
        free(e.piece.owned);
    }
    assert_null(books_last(&b->books));
}

/* The last has a context larger than its window, which is slow. */
static const struct call_definition *a_call(const struct call_definition *calls)
{
    return random_word() % 64 ? &calls[random_word() % 5] : &calls[5];
}

static void prepare_some(struct bench *b, const struct call_definition *calls)
{
    size_t kinds = random_word() % 6;
    begin_at(b, random_word() % 2 ? CHANNEL_RESULTS - 16 * (random_word() % 20) : random_word() % CHANNEL_RESULTS & ~15ull);
    for (size_t i = 0; i < kinds; i++) {
        if (random_word() % 3) {
            post_span(b, a_call(calls));
            for (uint64_t more = random_word() % 4; more; more--)
                grow(b);
            continue;
        }
        account.made += random_word() % 11;                 /* some size or other; what is passed over was never posted */
        post_one(b, a_call(calls));
    }
    for (uint64_t steps = random_word() % 12; steps; steps--) {
        step_player(b);
        if (random_word() % 4 == 0)
            take_one(b);
    }
}

/* Which items were posted is known by the books' own list, before anything is written over. */
static size_t count_posted(const struct bench *b, unsigned char *posted)
{
    size_t count = 0;
    for (uint32_t n = b->books.post_head; n != b->books.post_tail; n++) {
        const struct piece *piece = &b->books.posts[n % BOOKS_POSTS].piece;
        for (size_t i = 0; i < piece->count; i++, count++)
            posted[piece->index + i] = 1;
    }
    return count;
}

static void a_channel_written_over_harms_nobody_else(void **state)
{
    struct bench *b = *state;
    struct call_definition calls[6];
    unsigned char *common = pattern(CHANNEL_STREAM + 5, 1);
    unsigned damaged = 0;
    largest = SLOT + 1;
    const unsigned rounds = getenv("FORKPOOL_LONG") ? 5000000 : check_under("valgrind") ? 4000 : check_under("address") ? 60000 : 200000;
    for (unsigned i = 0; i < 6; i++) {
        calls[i] = call_of(i + 1, i % 3, i % 3 == RESULT_PACKED ? 8 : 0);
        if (i >= 3) {
            calls[i].common = common;
            calls[i].common_size = i == 3 ? 20 : i == 4 ? CHANNEL_INLINE + 1 : CHANNEL_STREAM + 5;
            calls[i].common_id = i;
        }
    }
    for (unsigned round = 0; round < rounds; round++) {
        static unsigned char posted[ITEMS];
        memset(&account, 0, sizeof account);
        memset(posted, 0, sizeof posted);
        restart(b);
        prepare_some(b, calls);
        memset(account.ended, 0, sizeof account.ended);
        count_posted(b, posted);
        for (uint64_t n = 1 + random_word() % 3; n; n--)
            write_garbage(b);
        take_whatever_comes(b);
        damaged += b->books.damaged != 0;
        mourn_whatever_is_left(b);
        for (size_t i = 0; i < account.made; i++)
            if (account.ended[i] != posted[i])
                fail_msg("round %u: item %zu, posted %d times, ended %d times", round, i, posted[i], account.ended[i]);
    }
    assert_true(damaged > rounds / 4);
    free(common);
}

/* A wild size must fail at once: with AddressSanitizer a few GiB cost seconds, used or not. And memory used again is memory paged in. */
const char *__asan_default_options(void);

const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1:max_allocation_size_mb=64:quarantine_size_mb=2:thread_local_quarantine_size_kb=64";
}

#define on_bench(test) cmocka_unit_test_setup_teardown(test, open_bench, close_bench)

int main(void)
{
    const struct CMUnitTest tests[] = {
        on_bench(a_worker_is_ready_when_it_says_so),
        on_bench(a_failed_initializer_says_why),
        on_bench(another_generation_is_not_believed),
        on_bench(framed_results_come_one_by_one_in_order),
        on_bench(a_result_waits_for_its_finish),
        on_bench(packed_results_come_as_a_run),
        on_bench(a_run_is_taken_as_far_as_it_is_finished),
        on_bench(dropped_results_come_as_a_run_without_data),
        on_bench(a_failure_parts_a_run),
        on_bench(a_packed_result_of_another_size_comes_in_a_frame),
        on_bench(a_run_ends_with_its_post),
        on_bench(a_message_has_1000_bytes_at_most),
        on_bench(a_large_item_lies_in_a_lane_slot),
        on_bench(lane_slots_run_out_and_come_back),
        on_bench(a_large_result_stays_in_its_slot_until_given_up),
        on_bench(a_slot_still_held_is_not_the_next_workers),
        on_bench(a_slot_told_twice_is_not_believed),
        on_bench(an_item_larger_than_a_slot_is_streamed),
        on_bench(a_result_larger_than_a_slot_is_streamed),
        on_bench(a_large_context_is_streamed_once),
        on_bench(a_small_context_comes_with_the_call),
        on_bench(a_stream_cut_short_is_not_believed),
        on_bench(an_item_asked_for_and_finished_unread_is_not_sent_on),
        on_bench(a_context_of_another_call_is_not_sent),
        on_bench(a_whole_post_is_taken_back_with_its_room),
        on_bench(what_is_taken_back_from_the_end_is_the_end),
        on_bench(what_runs_is_not_taken_back),
        on_bench(what_is_held_is_taken_back_when_nothing_else_waits),
        on_bench(of_the_dead_what_was_held_has_not_started),
        on_bench(what_cannot_have_been_begun_is_not_believed),
        on_bench(one_post_at_a_time_is_taken_back),
        on_bench(new_items_follow_what_was_taken_back),
        on_bench(a_call_taken_back_unread_is_taught_again),
        on_bench(owned_memory_comes_back_with_its_post),
        on_bench(a_lane_slot_taken_back_is_free_again),
        on_bench(a_closed_worker_gets_nothing_and_gives_back),
        on_bench(what_joins_a_span_is_claimed_by_its_worker),
        on_bench(a_worker_that_ran_dry_is_woken_for_what_joins),
        on_bench(haste_ends_with_a_look_for_a_sleeper),
        on_bench(a_run_is_told_at_its_end),
        on_bench(haste_ends_with_its_span),
        on_bench(only_the_next_item_of_the_same_kind_joins),
        on_bench(what_joined_is_taken_back),
        on_bench(a_worker_that_missed_the_end_of_an_offer_is_woken),
        on_bench(a_worker_that_dies_leaves_what_joined_unstarted),
        on_bench(nothing_joins_at_a_worker_that_was_told_to_leave),
        on_bench(nothing_joins_where_the_channel_is_damaged),
        on_bench(sixteen_calls_are_known_and_the_next_takes_an_idle_number),
        on_bench(a_number_in_use_is_not_given_away),
        on_bench(another_context_is_another_call),
        on_bench(what_has_room_can_be_posted),
        on_bench(the_books_know_whose_items_they_hold),
        on_bench(a_worker_never_asked_is_looked_at),
        on_bench(a_watching_caller_is_woken_by_the_word_alone),
        on_bench(a_sleeping_caller_is_rung_once),
        on_bench(a_caller_that_watched_before_it_slept_is_rung),
        on_bench(who_woke_by_itself_is_not_woken),
        on_bench(a_waiting_caller_is_woken_by_the_first_end),
        on_bench(one_eager_item_makes_all_of_them_so),
        on_bench(a_map_is_woken_when_half_is_done),
        on_bench(a_patient_map_is_woken_when_all_is_done),
        on_bench(the_half_of_an_odd_number_is_the_larger_one),
        on_bench(the_half_is_of_what_was_not_taken),
        on_bench(a_worker_with_nothing_to_do_wakes_the_caller),
        on_bench(an_end_that_came_before_the_wait_is_told),
        on_bench(a_half_done_before_the_wait_is_told),
        on_bench(an_end_that_was_taken_is_told_no_more),
        on_bench(a_worker_that_has_finished_everything_is_told),
        on_bench(a_worker_whose_word_says_that_nothing_waits_is_told),
        on_bench(a_wait_for_nothing_goes_on),
        on_bench(a_frame_that_came_before_the_wait_is_told),
        on_bench(a_frame_of_what_still_runs_is_told_once),
        on_bench(a_need_claimed_after_the_look_is_told),
        on_bench(a_context_wanted_after_the_look_is_told),
        on_bench(room_for_the_rest_of_an_item_is_told),
        on_bench(more_of_a_streamed_result_is_told),
        on_bench(nothing_is_told_of_a_damaged_worker),
        on_bench(what_ran_is_lost_and_what_waited_is_left),
        on_bench(a_result_written_but_not_finished_is_lost),
        on_bench(an_idle_worker_loses_nothing),
        on_bench(the_first_answers_for_damage),
        on_bench(damage_with_nothing_posted_loses_nothing),
        on_bench(a_posting_over_damage_is_refused_whole),
        on_bench(every_item_ends_once_whatever_the_order),
        on_bench(a_channel_written_over_harms_nobody_else),
    };
    return cmocka_run_group_tests(tests, check_setup, check_teardown);
}
