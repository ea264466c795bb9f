/* Copies in pieces: every byte once, nothing beyond the end, and overlaps as memmove has them. */
#define _GNU_SOURCE
#include "check.h"
#include "copy.h"

#include <stdlib.h>

enum { MOST = 3 * COPY_PIECE + 99, EDGE = 64 };

static void fill(unsigned char *at, size_t size)
{
    for (size_t i = 0; i < size; i++)
        at[i] = (unsigned char)(i * 7 + i / 251);
}

static void all_bytes_and_no_others_are_copied(void **state)
{
    (void)state;
    const size_t sizes[] = {0, 1, COPY_PIECE - 1, COPY_PIECE, COPY_PIECE + 1, 2 * COPY_PIECE, MOST};
    unsigned char *from = malloc(MOST), *to = malloc(MOST + EDGE);
    assert_true(from && to);
    fill(from, MOST);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        memset(to, 0xee, MOST + EDGE);
        copy_bytes(to, from, sizes[i]);
        assert_memory_equal(to, from, sizes[i]);
        for (size_t k = 0; k < EDGE; k++)
            assert_int_equal(to[sizes[i] + k], 0xee);
    }
    free(from);
    free(to);
}

/* Where the copy begins in its page, as seen from what is copied, decides how it is made. */
static void begins_that_are_near_each_other_make_no_difference(void **state)
{
    (void)state;
    enum { SIZE = 3 * COPY_PAGE + 1, NEAR = 2 * COPY_TOO_NEAR };
    unsigned char *from = aligned_alloc(COPY_PAGE, 4 * COPY_PAGE), *to = aligned_alloc(COPY_PAGE, 4 * COPY_PAGE);
    assert_true(from && to);
    fill(from, 4 * COPY_PAGE);
    for (size_t ahead = 0; ahead <= NEAR; ahead++)
        for (size_t cut = 0; cut < 2 * COPY_BLOCK; cut += COPY_BLOCK - 1) {
            assert_int_equal(copy_is_too_near(to + ahead, from), ahead > 0 && ahead < COPY_TOO_NEAR);
            memset(to, 0xee, 4 * COPY_PAGE);
            copy_bytes(to + ahead, from, SIZE - cut);
            assert_memory_equal(to + ahead, from, SIZE - cut);
            for (size_t k = 0; k < EDGE; k++)
                assert_int_equal(to[ahead + SIZE - cut + k], 0xee);
        }
    free(from);
    free(to);
}

static void the_largest_are_copied_whole(void **state)
{
    (void)state;
    enum { ROOM = COPY_HUGE + 8 * COPY_PAGE };
    const size_t begins[] = {0, 1, 16, 63, 64, COPY_PAGE - 1}, more[] = {0, 1, 63, 5 * COPY_PAGE + 7};
    unsigned char *from = aligned_alloc(COPY_PAGE, ROOM), *to = aligned_alloc(COPY_PAGE, ROOM);
    assert_true(from && to);
    fill(from, ROOM);
    for (size_t i = 0; i < 6 * 4; i++) {
        size_t begin = begins[i % 6], size = COPY_HUGE + more[i / 6];
        memset(to, 0xee, ROOM);
        copy_bytes(to + begin, from + 3 * begin % COPY_PAGE, size);
        assert_memory_equal(to + begin, from + 3 * begin % COPY_PAGE, size);
        for (size_t k = 1; k <= EDGE; k++) {
            assert_true(k > begin || to[begin - k] == 0xee);
            assert_int_equal(to[begin + size + k - 1], 0xee);
        }
    }
    free(from);
    free(to);
}

static void move_by(size_t from_at, size_t to_at)
{
    unsigned char *memory = malloc(2 * MOST), *expected = malloc(2 * MOST);
    assert_true(memory && expected);
    fill(memory, 2 * MOST);
    memcpy(expected, memory, 2 * MOST);
    memmove(expected + to_at, expected + from_at, MOST);
    copy_or_move(memory + to_at, memory + from_at, MOST);
    assert_memory_equal(memory, expected, 2 * MOST);
    free(memory);
    free(expected);
}

static void overlaps_are_moved_in_either_direction(void **state)
{
    (void)state;
    move_by(0, 1000);
    move_by(1000, 0);
    move_by(0, MOST - 1);
    move_by(5, 5);
    move_by(0, MOST);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_bytes_and_no_others_are_copied),
        cmocka_unit_test(begins_that_are_near_each_other_make_no_difference),
        cmocka_unit_test(the_largest_are_copied_whole),
        cmocka_unit_test(overlaps_are_moved_in_either_direction),
    };
    return cmocka_run_group_tests(tests, check_setup, check_teardown);
}
