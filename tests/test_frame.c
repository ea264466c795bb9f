/* Frames: what was written is read, what is cut is not read, what was written over is not believed, and a ring holds frames in
 * order whatever its ends look like. All of it on memory of exactly the size that may be touched. */
#define _GNU_SOURCE
#include "check.h"
#include "frame.h"

#include <stdlib.h>
#include <string.h>

static uint64_t seed = 1;

static uint64_t random_word(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

/* The verdict on the first `have` bytes, held in memory of just that size. */
static enum frame_verdict read_cut(const void *bytes, size_t have, struct frame *frame)
{
    unsigned char *copy = malloc(have ? have : 1);
    assert_non_null(copy);
    memcpy(copy, bytes, have);
    enum frame_verdict verdict = frame_read(copy, have, frame);
    free(copy);
    return verdict;
}

static struct frame_ring make_ring(size_t size, size_t align)
{
    struct frame_ring ring = {aligned_alloc(align, size), size, align};
    assert_non_null(ring.bytes);
    memset(ring.bytes, 0xee, size);
    return ring;
}

static void fill(unsigned char *at, size_t size, uint32_t tag)
{
    for (size_t i = 0; i < size; i++)
        at[i] = (unsigned char)(tag * 31 + i * 7);
}

static int is_filled(const unsigned char *at, size_t size, uint32_t tag)
{
    for (size_t i = 0; i < size; i++)
        if (at[i] != (unsigned char)(tag * 31 + i * 7))
            return 0;
    return 1;
}

/* Puts a frame into the ring; 0 where there is no room. */
static int put(const struct frame_ring *ring, uint64_t head, uint64_t *tail, uint32_t kind, uint32_t tag, size_t size)
{
    unsigned char *at = frame_reserve(ring, head, tail, size);
    if (!at)
        return 0;
    fill(at, size, tag);
    *tail = frame_commit(ring, *tail, kind, tag, size);
    return 1;
}

/* ---- One frame */

static void a_frame_is_read_as_it_was_written(void **state)
{
    (void)state;
    const uint32_t kinds[] = {0, 1, 16, 0xfffe, 0xffff}, tags[] = {0, 1, 0x7fffffff, 0xffffffff};
    unsigned char bytes[FRAME_HEAD + 40];
    struct frame frame;
    for (size_t k = 0; k < 5; k++) {
        for (size_t t = 0; t < 4; t++) {
            frame_write(bytes, kinds[k], tags[t], 40);
            assert_int_equal(frame_read(bytes, sizeof bytes, &frame), FRAME_WHOLE);
            assert_int_equal(frame.kind, kinds[k]);
            assert_int_equal(frame.tag, tags[t]);
            assert_int_equal(frame.size, 40);
            assert_ptr_equal(frame.payload, bytes + FRAME_HEAD);
        }
    }
}

static void a_frame_cut_at_any_byte_is_short(void **state)
{
    (void)state;
    unsigned char bytes[FRAME_HEAD + 100];
    struct frame frame;
    memset(bytes, 7, sizeof bytes);
    frame_write(bytes, 5, 9, 100);
    for (size_t have = 0; have < sizeof bytes; have++)
        assert_int_equal(read_cut(bytes, have, &frame), FRAME_SHORT);
    assert_int_equal(read_cut(bytes, sizeof bytes, &frame), FRAME_WHOLE);
}

static void an_empty_frame_needs_its_header_only(void **state)
{
    (void)state;
    unsigned char bytes[FRAME_HEAD];
    struct frame frame;
    frame_write(bytes, 5, 9, 0);
    assert_int_equal(read_cut(bytes, sizeof bytes, &frame), FRAME_WHOLE);
    assert_int_equal(frame.size, 0);
}

static void bytes_behind_a_frame_are_not_its_own(void **state)
{
    (void)state;
    unsigned char bytes[FRAME_HEAD + 100] = {0};
    struct frame frame;
    frame_write(bytes, 5, 9, 3);
    assert_int_equal(frame_read(bytes, sizeof bytes, &frame), FRAME_WHOLE);
    assert_int_equal(frame.size, 3);
}

static void a_size_beyond_memory_is_short(void **state)
{
    (void)state;
    const uint64_t sizes[] = {SIZE_MAX, SIZE_MAX - FRAME_HEAD, SIZE_MAX - FRAME_HEAD + 1, 1ull << 63, 1ull << 32, 49};
    unsigned char bytes[FRAME_HEAD + 48] = {0};
    struct frame frame;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        frame_write(bytes, 5, 9, sizes[i]);
        assert_int_equal(read_cut(bytes, sizeof bytes, &frame), FRAME_SHORT);
    }
}

static void no_flipped_bit_of_a_header_goes_unseen(void **state)
{
    (void)state;
    unsigned char bytes[FRAME_HEAD + 64] = {0};
    struct frame frame;
    for (unsigned round = 0; round < 2000; round++) {
        frame_write(bytes, (uint32_t)random_word() & 0xffff, (uint32_t)random_word(), random_word() % 65);
        for (size_t bit = 0; bit < FRAME_HEAD * 8; bit++) {
            bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
            assert_int_equal(frame_read(bytes, sizeof bytes, &frame), FRAME_BAD);
            bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
        }
    }
}

static void zeros_are_no_frame(void **state)
{
    (void)state;
    unsigned char bytes[64] = {0};
    struct frame frame;
    assert_int_equal(frame_read(bytes, sizeof bytes, &frame), FRAME_BAD);
    memset(bytes, 0xff, sizeof bytes);
    assert_int_equal(frame_read(bytes, sizeof bytes, &frame), FRAME_BAD);
}

/* ---- A ring */

static void an_empty_ring_has_nothing(void **state)
{
    (void)state;
    struct frame_ring ring = make_ring(256, 16);
    struct frame frame;
    uint64_t head = 0;
    assert_int_equal(frame_peek(&ring, &head, 0, &frame), FRAME_SHORT);
    free(ring.bytes);
}

static void a_reserved_frame_is_not_there_before_its_commit(void **state)
{
    (void)state;
    struct frame_ring ring = make_ring(256, 16);
    struct frame frame;
    uint64_t head = 0, tail = 0;
    assert_non_null(frame_reserve(&ring, head, &tail, 20));
    assert_int_equal(frame_peek(&ring, &head, tail, &frame), FRAME_SHORT);
    free(ring.bytes);
}

static void a_ring_can_be_filled_to_the_last_byte(void **state)
{
    (void)state;
    struct frame_ring ring = make_ring(256, 16);
    uint64_t tail = 0;
    for (uint32_t i = 0; i < 8; i++)
        assert_true(put(&ring, 0, &tail, 1, i, 16));
    assert_int_equal(tail, 256);
    assert_false(put(&ring, 0, &tail, 1, 8, 0));
    assert_int_equal(tail, 256);
    free(ring.bytes);
}

static void a_frame_as_large_as_the_ring_fits(void **state)
{
    (void)state;
    struct frame_ring ring = make_ring(256, 16);
    struct frame frame;
    uint64_t head = 0, tail = 0;
    assert_true(put(&ring, 0, &tail, 1, 3, 256 - FRAME_HEAD));
    assert_int_equal(frame_peek(&ring, &head, tail, &frame), FRAME_WHOLE);
    assert_true(is_filled(frame.payload, 256 - FRAME_HEAD, 3));
    free(ring.bytes);
}

static void a_frame_larger_than_the_ring_never_fits(void **state)
{
    (void)state;
    struct frame_ring ring = make_ring(256, 16);
    uint64_t tail = 0;
    assert_null(frame_reserve(&ring, 0, &tail, 256 - FRAME_HEAD + 1));
    assert_null(frame_reserve(&ring, 0, &tail, SIZE_MAX));
    assert_null(frame_reserve(&ring, 0, &tail, SIZE_MAX - 15));
    assert_int_equal(tail, 0);
    free(ring.bytes);
}

static void half_a_ring_fits_wherever_an_empty_one_begins(void **state)
{
    (void)state;
    struct frame_ring ring = make_ring(512, 16);
    for (uint64_t at = 0; at < 1024; at += 16) {
        uint64_t tail = at;
        assert_true(put(&ring, at, &tail, 1, 1, 256 - FRAME_HEAD));
    }
    free(ring.bytes);
}

/* Frames that are taken soon stay in the first part of a ring; whatever is wanted fits behind a turn; all are read in order. */
static void a_ring_that_needs_little_turns_early(void **state)
{
    (void)state;
    struct frame_ring ring = make_ring(4096, 16);
    uint64_t head = 0, tail = 0, furthest = 0;
    struct frame frame;
    for (uint32_t n = 0; n < 1000; n++) {
        frame_turn_early(&ring, head, &tail, 512, 128);
        assert_true(put(&ring, head, &tail, 1, n, 64));
        furthest = (tail & 4095) > furthest ? tail & 4095 : furthest;
        if (n % 2)
            continue;
        for (int i = n ? 2 : 1; i; i--) {
            assert_int_equal(frame_peek(&ring, &head, tail, &frame), FRAME_WHOLE);
            assert_true(is_filled(frame.payload, 64, frame.tag));
            head += frame_extent(&ring, frame.size);
        }
    }
    assert_true(tail > 100 * 4096 && furthest <= 512 + 80);
    free(ring.bytes);
}

static void a_ring_turns_early_only_where_what_is_wanted_fits(void **state)
{
    (void)state;
    struct frame_ring ring = make_ring(4096, 16);
    for (uint64_t head = 0; head < 4096; head += 16)
        for (uint64_t used = 0; used < 4096 - head; used += 16) {
            uint64_t tail = head + used;
            frame_turn_early(&ring, head, &tail, 512, 240);
            int turned = tail != head + used;
            assert_int_equal(turned, head + used >= 512 && used <= 256 && head >= 240);
            assert_true(!turned || (tail == 4096 && put(&ring, head, &tail, 1, 1, 240 - FRAME_HEAD)));
        }
    free(ring.bytes);
}

static void a_frame_lies_in_one_piece_behind_a_pad(void **state)
{
    (void)state;
    struct frame_ring ring = make_ring(256, 16);
    struct frame frame;
    uint64_t head = 208, tail = 208;
    assert_true(put(&ring, head, &tail, 1, 4, 60));
    assert_int_equal(frame_peek(&ring, &head, tail, &frame), FRAME_WHOLE);
    assert_ptr_equal(frame.payload, ring.bytes + FRAME_HEAD);
    assert_true(is_filled(frame.payload, 60, 4));
    assert_int_equal(head, 256);
    free(ring.bytes);
}

static void no_pad_where_a_frame_ends_with_the_ring(void **state)
{
    (void)state;
    struct frame_ring ring = make_ring(256, 16);
    uint64_t tail = 192;
    assert_true(put(&ring, 192, &tail, 1, 4, 48));
    assert_int_equal(tail, 256);
    free(ring.bytes);
}

static void a_pad_that_does_not_fit_leaves_the_tail(void **state)
{
    (void)state;
    struct frame_ring ring = make_ring(256, 16);
    uint64_t tail = 224;
    assert_null(frame_reserve(&ring, 64, &tail, 64));       /* 32 of padding and 80 where 96 are free */
    assert_int_equal(tail, 224);
    free(ring.bytes);
}

static void frames_begin_where_the_ring_wants_them(void **state)
{
    (void)state;
    struct frame_ring ring = make_ring(1024, 64);
    uint64_t tail = 0;
    for (size_t size = 0; size < 100; size++) {
        tail = size * 64;
        assert_true(put(&ring, tail, &tail, 1, 1, size));
        assert_int_equal(tail % 64, 0);
    }
    free(ring.bytes);
}

static void a_frame_may_become_shorter(void **state)
{
    (void)state;
    struct frame_ring ring = make_ring(256, 16);
    struct frame frame;
    uint64_t head = 0, tail = 0;
    assert_non_null(frame_reserve(&ring, 0, &tail, 200));
    tail = frame_commit(&ring, tail, 1, 2, 10);
    assert_true(put(&ring, 0, &tail, 1, 3, 100));
    assert_int_equal(frame_peek(&ring, &head, tail, &frame), FRAME_WHOLE);
    assert_int_equal(frame.size, 10);
    head += frame_extent(&ring, frame.size);
    assert_int_equal(frame_peek(&ring, &head, tail, &frame), FRAME_WHOLE);
    assert_int_equal(frame.tag, 3);
    free(ring.bytes);
}

static void offsets_may_run_over(void **state)
{
    (void)state;
    struct frame_ring ring = make_ring(256, 16);
    struct frame frame;
    uint64_t head = UINT64_MAX - 511, tail = head;
    for (uint32_t i = 0; i < 40; i++) {
        assert_true(put(&ring, head, &tail, 1, i, 50));
        assert_int_equal(frame_peek(&ring, &head, tail, &frame), FRAME_WHOLE);
        assert_int_equal(frame.tag, i);
        assert_true(is_filled(frame.payload, 50, i));
        head += frame_extent(&ring, frame.size);
    }
    assert_true(head < 8192);
    free(ring.bytes);
}

static void a_tail_that_cannot_be_is_bad(void **state)
{
    (void)state;
    struct frame_ring ring = make_ring(256, 16);
    struct frame frame;
    uint64_t head = 64, tail = 64;
    assert_true(put(&ring, head, &tail, 1, 1, 100));
    assert_int_equal(frame_peek(&ring, &head, 64 + 257, &frame), FRAME_BAD);
    assert_int_equal(frame_peek(&ring, &head, 48, &frame), FRAME_BAD);
    assert_int_equal(frame_peek(&ring, &head, UINT64_MAX, &frame), FRAME_BAD);
    assert_int_equal(frame_peek(&ring, &head, 64 + 8, &frame), FRAME_BAD);
    assert_int_equal(frame_peek(&ring, &head, tail, &frame), FRAME_WHOLE);
    free(ring.bytes);
}

static void a_tail_within_a_frame_is_bad(void **state)
{
    (void)state;
    struct frame_ring ring = make_ring(256, 16);
    struct frame frame;
    uint64_t head = 0, tail = 0;
    assert_true(put(&ring, head, &tail, 1, 1, 100));
    for (uint64_t cut = 16; cut < tail; cut += 16)
        assert_int_equal(frame_peek(&ring, &head, cut, &frame), FRAME_BAD);
    free(ring.bytes);
}

static void a_frame_that_claims_to_cross_the_end_is_bad(void **state)
{
    (void)state;
    struct frame_ring ring = make_ring(256, 16);
    struct frame frame;
    uint64_t head = 224;
    frame_write(ring.bytes + 224, 1, 1, 64);
    assert_int_equal(frame_peek(&ring, &head, 224 + 80, &frame), FRAME_BAD);
    free(ring.bytes);
}

static void pads_alone_end(void **state)
{
    (void)state;
    struct frame_ring ring = make_ring(256, 16);
    struct frame frame;
    uint64_t head = 0;
    for (size_t at = 0; at < 256; at += 16)
        frame_write(ring.bytes + at, FRAME_PAD, 0, 0);
    assert_int_equal(frame_peek(&ring, &head, 256, &frame), FRAME_SHORT);
    assert_int_equal(head, 256);
    free(ring.bytes);
}

/* ---- Many */

struct told { uint32_t kind, tag; size_t size; };

enum { MODEL = 1024 };

static void play_against_a_model(size_t ring_size, size_t align, unsigned frames)
{
    struct frame_ring ring = make_ring(ring_size, align);
    struct told *model = malloc(MODEL * sizeof *model);
    assert_non_null(model);
    uint64_t head = 0, tail = 0;
    size_t first = 0, last = 0;
    for (unsigned written = 0; written < frames || first < last;) {
        struct frame frame;
        size_t size = random_word() % 5 ? random_word() % 60 : random_word() % 400;
        struct told told = {(uint32_t)random_word() % 0xffff, (uint32_t)random_word(), size};
        if (written < frames && random_word() % 2) {
            if (!put(&ring, head, &tail, told.kind, told.tag, told.size)) {
                assert_true(first < last);
                continue;
            }
            model[last++ % MODEL] = told;
            written++;
            continue;
        }
        enum frame_verdict verdict = frame_peek(&ring, &head, tail, &frame);
        assert_int_equal(verdict, first == last ? FRAME_SHORT : FRAME_WHOLE);
        if (first == last)
            continue;
        told = model[first++ % MODEL];
        if (frame.kind != told.kind || frame.tag != told.tag || frame.size != told.size || !is_filled(frame.payload, told.size, told.tag))
            fail_msg("frame %zu is not what was written", first - 1);
        head += frame_extent(&ring, frame.size);
    }
    assert_int_equal(head, tail);
    free(model);
    free(ring.bytes);
}

static void a_million_frames_come_out_as_they_went_in(void **state)
{
    (void)state;
    play_against_a_model(1024, 16, 700000);
    play_against_a_model(1024, 64, 300000);
}

static volatile unsigned sink;

/* Reads whatever is there to the end. Every frame's payload is touched: the sanitizers see to the bounds. */
static unsigned read_all(const struct frame_ring *ring, uint64_t head, uint64_t tail)
{
    struct frame frame;
    unsigned sum = 0, count = 0;
    while (frame_peek(ring, &head, tail, &frame) == FRAME_WHOLE) {
        for (uint64_t i = 0; i < frame.size; i++)
            sum += ((const unsigned char *)frame.payload)[i];
        head += frame_extent(ring, frame.size);
        assert_true(tail - head <= ring->size);
        assert_true(++count <= ring->size / FRAME_HEAD);
    }
    return sum;
}

static void garbage_is_read_within_bounds(void **state)
{
    (void)state;
    struct frame_ring ring = make_ring(512, 16);
    for (unsigned round = 0; round < 200000; round++) {
        uint64_t head = random_word() % 64 * 16, tail = head;
        for (uint32_t i = 0; put(&ring, head, &tail, (uint32_t)random_word() % 32, i, random_word() % 90);)
            i++;
        if (round % 4 == 0)
            for (size_t i = 0; i < 512; i += 8)
                memcpy(ring.bytes + i, &(uint64_t){random_word()}, 8);
        else if (round % 4 == 1)                            /* a header with a right check and any size */
            frame_write(ring.bytes + random_word() % 32 * 16, (uint32_t)random_word() & 0xffff, 0, random_word() >> random_word() % 64);
        else
            for (unsigned n = 1 + random_word() % 8; n; n--)
                ring.bytes[random_word() % 512] ^= (unsigned char)(1u << random_word() % 8);
        sink = read_all(&ring, head, round % 8 ? tail : random_word());
    }
    free(ring.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_frame_is_read_as_it_was_written),
        cmocka_unit_test(a_frame_cut_at_any_byte_is_short),
        cmocka_unit_test(an_empty_frame_needs_its_header_only),
        cmocka_unit_test(bytes_behind_a_frame_are_not_its_own),
        cmocka_unit_test(a_size_beyond_memory_is_short),
        cmocka_unit_test(no_flipped_bit_of_a_header_goes_unseen),
        cmocka_unit_test(zeros_are_no_frame),
        cmocka_unit_test(an_empty_ring_has_nothing),
        cmocka_unit_test(a_reserved_frame_is_not_there_before_its_commit),
        cmocka_unit_test(a_ring_can_be_filled_to_the_last_byte),
        cmocka_unit_test(a_frame_as_large_as_the_ring_fits),
        cmocka_unit_test(a_frame_larger_than_the_ring_never_fits),
        cmocka_unit_test(half_a_ring_fits_wherever_an_empty_one_begins),
        cmocka_unit_test(a_frame_lies_in_one_piece_behind_a_pad),
        cmocka_unit_test(no_pad_where_a_frame_ends_with_the_ring),
        cmocka_unit_test(a_pad_that_does_not_fit_leaves_the_tail),
        cmocka_unit_test(frames_begin_where_the_ring_wants_them),
        cmocka_unit_test(a_frame_may_become_shorter),
        cmocka_unit_test(offsets_may_run_over),
        cmocka_unit_test(a_tail_that_cannot_be_is_bad),
        cmocka_unit_test(a_tail_within_a_frame_is_bad),
        cmocka_unit_test(a_frame_that_claims_to_cross_the_end_is_bad),
        cmocka_unit_test(pads_alone_end),
        cmocka_unit_test(a_ring_that_needs_little_turns_early),
        cmocka_unit_test(a_ring_turns_early_only_where_what_is_wanted_fits),
        cmocka_unit_test(a_million_frames_come_out_as_they_went_in),
        cmocka_unit_test(garbage_is_read_within_bounds),
    };
    return cmocka_run_group_tests(tests, check_setup, check_teardown);
}
