/* A libFuzzer target: what a worker's region may hold after a task wrote over it.
 *
 * The input is first a list of steps (what the caller does and how the shared words are changed), then bytes that are written into the
 * region.
 * Whatever they are, it must be true that nothing is read or written outside the region (AddressSanitizer: the parts lie in heap
 * blocks of their own), that each item ends at most once and none that was not posted, that an event's data lie in memory
 * that is there, and that after the worker's death all posted items are accounted for.
 *
 * frame_peek alone is driven by the same input first: any ring, any head and tail. */
#include "books.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SLOT = 64 << 10, ITEMS = 4096, STEPS = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

#define MUST(truth) do { if (!(truth)) { fprintf(stderr, "not true: %s (line %d)\n", #truth, __LINE__); abort(); } } while (0)

/* ---- The input */

struct input { const uint8_t *at; size_t left; };

static uint64_t number(struct input *in, size_t width)
{
    uint64_t n = 0;
    width = width < in->left ? width : in->left;
    memcpy(&n, in->at, width);
    in->at += width;
    in->left -= width;
    return n;
}

/* ---- Frames alone */

static void peek_frames(struct input in)
{
    enum { RING = 1024 };
    struct frame_ring ring = {malloc(RING), RING, in.left % 2 ? 64 : 16};
    uint64_t head = number(&in, 2) * (in.left % 3 ? 16 : 1), tail = head + number(&in, 2);
    memset(ring.bytes, 0, RING);
    memcpy(ring.bytes, in.at, in.left < RING ? in.left : RING);
    for (int i = 0; i < 200; i++) {
        struct frame frame;
        uint64_t before = head;
        if (frame_peek(&ring, &head, tail, &frame) != FRAME_WHOLE)
            break;
        const unsigned char *payload = frame.payload;
        MUST(payload >= ring.bytes + FRAME_HEAD && frame.size <= RING && payload + frame.size <= ring.bytes + RING);
        MUST(head >= before && head <= tail);
        unsigned char sum = 0;
        for (uint64_t k = 0; k < frame.size; k++)
            sum = (unsigned char)(sum + payload[k]);
        *(volatile unsigned char *)&sum = sum;
        head += frame_extent(&ring, frame.size);
        MUST(head <= tail);
    }
    free(ring.bytes);
}

/* ---- The books */

static struct books books;
static unsigned char owners[3];                         /* posts belong to one of three */
static unsigned char state[3][ITEMS];                   /* of each item: 1 posted, 2 ended or taken back */
static size_t next_index[3];
static int held[CHANNEL_LANE_SLOTS];
static uint64_t sum;

static size_t owner_of(const void *owner)
{
    size_t i = (size_t)((const unsigned char *)owner - owners);
    MUST(i < 3);
    return i;
}

static void ends(const struct piece *piece)
{
    size_t owner = owner_of(piece->owner);
    MUST(piece->count && piece->index + piece->count <= next_index[owner]);
    for (size_t i = piece->index; i < piece->index + piece->count; i++) {
        MUST(state[owner][i] == 1);
        state[owner][i] = 2;
    }
}

static void touch(const void *data, size_t size)
{
    const unsigned char *bytes = data;
    for (size_t i = 0; i < size; i += i + 64 < size ? 61 : 1)
        sum += bytes[i];
}

static void take(const struct event *e)
{
    switch (e->kind) {
    case EVENT_READY:
        return;
    case EVENT_UNREADY:
    case EVENT_UNFIT:
        touch(e->text, strlen(e->text) + 1);
        return;
    case EVENT_RUN:
        if (e->data)
            touch(e->data, e->size * e->piece.count);
        break;
    case EVENT_FAILED:
        MUST(e->piece.count == 1);
        touch(e->text, strlen(e->text) + 1);
        break;
    case EVENT_RESULT:
        MUST(e->piece.count == 1);
        touch(e->data, e->size);
        free(e->owned);
        if (e->slot >= 0) {
            MUST(e->slot < CHANNEL_LANE_SLOTS && !held[e->slot]);
            held[e->slot] = 1;
        }
        break;
    case EVENT_LOST:
        free(e->piece.owned);
        break;
    case EVENT_LEFT:
        touch(e->piece.data, e->piece.data ? e->piece.count * e->piece.size : 0);
        free(e->piece.owned);
        break;
    }
    ends(&e->piece);
}

static void take_all(void)
{
    struct event e;
    books_look(&books);
    for (int i = 0; i < 2 * ITEMS && books_next(&books, 7, &e); i++)
        take(&e);
}

static const size_t sizes[] = {0, 1, 8, 100, 3000, CHANNEL_INLINE, CHANNEL_INLINE + 1, SLOT, SLOT + 1};
enum { SIZES = sizeof sizes / sizeof *sizes };
static unsigned char payload[1 << 17];

static void post(struct input *in)
{
    size_t owner = number(in, 1) % 3, size = sizes[number(in, 1) % SIZES], want = number(in, 1) + 1;
    struct call_definition call = {.fn = {1, 2, 3 + number(in, 1) % 20}, .mode = (uint32_t)(number(in, 1) % 3)};
    if (call.mode == RESULT_PACKED)
        call.out_size = sizes[number(in, 1) % 5];
    if (number(in, 1) % 4 == 0) {
        call.common_id = 1;
        call.common = payload;
        call.common_size = sizes[number(in, 1) % SIZES];
    }
    size_t room = books_room(&books, &call, size);
    want = want < room ? want : room;
    want = want < ITEMS - next_index[owner] ? want : ITEMS - next_index[owner];
    if (size && want > sizeof payload / size)
        want = sizeof payload / size;
    if (!want)
        return;
    struct piece piece = {.owner = &owners[owner], .index = next_index[owner], .count = want, .data = payload, .size = size,
                          .source_keeps = 1};
    if (books_post(&books, &call, &piece, (int)(number(in, 1) & 1), 0))
        return;
    memset(state[owner] + next_index[owner], 1, want);
    next_index[owner] += want;
}

static void take_back(struct input *in)
{
    struct piece piece;
    if (!books_take_back(&books, number(in, 1) + 1, &piece)) {
        touch(piece.data, piece.data ? piece.count * piece.size : 0);
        ends(&piece);
    }
}

/* As an honest worker does: claims the next, and tells what the input says. */
static void claim(void)
{
    uint64_t left = atomic_load(&books.channel.desk->claim);
    claim_next(&books.channel.desk->claim, &(struct claim_offer){0}, &left);
}

static void tell(struct input *in)
{
    struct desk *d = books.channel.desk;
    static const uint32_t kinds[] = {TELL_READY, TELL_UNREADY, TELL_NEED_ITEM, TELL_NEED_CONTEXT, TELL_RESULT, TELL_RESULT_LANE,
                                     TELL_RESULT_STREAM, TELL_FAILED, FRAME_PAD, 99};
    uint32_t kind = kinds[number(in, 1) % 10], tag = (uint32_t)number(in, 1);
    uint64_t tail = atomic_load(&d->result_tail), size = number(in, 1) % 64;
    uint64_t head = atomic_load(&d->result_head);
    unsigned char *at;
    if (tail % 16 || tail - head > CHANNEL_RESULTS)     /* they were written over: an honest worker leaves */
        return;
    at = frame_reserve(&books.channel.results, head, &tail, size);
    if (!at)
        return;
    for (uint64_t i = 0; i < size; i++)
        at[i] = (unsigned char)number(in, 1);
    if (kind == TELL_RESULT_STREAM && size >= 8)
        at[3] = at[4] = at[5] = at[6] = at[7] = 0;              /* 16 MiB at most */
    atomic_store(&d->result_tail, frame_commit(&books.channel.results, tail, kind, tag, size));
}

static void scribble(struct input *in)
{
    struct desk *d = books.channel.desk;
    _Atomic uint64_t *const words[] = {&d->claim, &d->result_head, &d->item_stream_tail, &d->result_stream_head, &d->result_tail,
                                       &d->item_stream_head, &d->result_stream_tail, &d->lane_free};
    _Atomic uint64_t *word = words[number(in, 1) % 8];
    uint64_t how = number(in, 1), value = number(in, 8);
    atomic_store(word, how % 2 ? value : atomic_load(word) + value % 4096);
}

static void overwrite(struct input *in)
{
    size_t at = number(in, 2) * 4, much = number(in, 1);
    unsigned char *ring = number(in, 1) % 2 ? books.channel.tasks.bytes : books.channel.results.bytes;
    for (size_t i = 0; i < much; i++)
        ring[(at + i) % CHANNEL_RESULTS] = (unsigned char)number(in, 1);
}

static void step(struct input *in)
{
    switch (number(in, 1) % 12) {
    case 0: case 1: case 2: post(in); break;
    case 3: take_back(in); break;
    case 4: case 5: case 6: claim(); break;
    case 7: case 8: tell(in); break;
    case 9: take_all(); break;
    case 10: scribble(in); break;
    case 11:
        if (number(in, 1) % 2) {
            overwrite(in);
        } else {
            int slot = (int)(number(in, 1) % CHANNEL_LANE_SLOTS);
            if (held[slot])
                books_give_up(&books, slot);
            held[slot] = 0;
        }
        break;
    }
}

/* The worker is dead: everything that was posted is accounted for, once. */
static void bury(void)
{
    struct event e;
    take_all();
    while (books_mourn(&books, &e))
        take(&e);
    for (size_t owner = 0; owner < 3; owner++)
        for (size_t i = 0; i < next_index[owner]; i++)
            MUST(state[owner][i] == 2);
}

/* The parts of a region lie in blocks of their own, so that AddressSanitizer sees where each ends. */
static void open_channel(void)
{
    struct channel *c = &books.channel;
    if (c->desk)
        return;
    if (books_init(&books))
        abort();
    struct books fresh = books;
    fresh.channel.desk = aligned_alloc(64, sizeof *c->desk);
    fresh.channel.tasks = (struct frame_ring){aligned_alloc(64, CHANNEL_TASKS), CHANNEL_TASKS, 64};
    fresh.channel.results = (struct frame_ring){aligned_alloc(64, CHANNEL_RESULTS), CHANNEL_RESULTS, 16};
    fresh.channel.item_stream = calloc(1, CHANNEL_STREAM);
    fresh.channel.result_stream = calloc(1, CHANNEL_STREAM);
    fresh.channel.item_slots = calloc(CHANNEL_LANE_SLOTS, SLOT);
    fresh.channel.result_slots = calloc(CHANNEL_LANE_SLOTS, SLOT);
    fresh.channel.slot_size = SLOT;
    books = fresh;
    memset(books.channel.tasks.bytes, 0, CHANNEL_TASKS);
    memset(books.channel.results.bytes, 0, CHANNEL_RESULTS);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct input in = {bytes, size};
    peek_frames(in);
    open_channel();
    books.result_slots = 0;
    books_reset(&books, 1000000);               /* no such descriptor: nobody is there to be woken */
    memset(state, 0, sizeof state);
    memset(next_index, 0, sizeof next_index);
    memset(held, 0, sizeof held);
    for (int i = 0; i < STEPS && in.left; i++)
        step(&in);
    bury();
    return 0;
}
