/* An iterator's cells: in order or as they finish, over holes, around the ring, with results copied, owned and lent. */
#define _GNU_SOURCE
#include "cells.h"
#include "check.h"

#include <stdlib.h>
#include <string.h>

static struct cells opened(size_t window, int ordered)
{
    struct cells c;
    assert_int_equal(cells_init(&c, window, ordered), 0);
    return c;
}

static int fill(struct cells *c, size_t index, const void *data, size_t size)
{
    struct ending e = {.index = index, .data = data, .size = size, .slot = -1, .text = ""};
    return cells_fill(c, &e);
}

static void fail_item(struct cells *c, size_t index, const char *text)
{
    struct ending e = {.index = index, .status = POOL_FAILED, .code = 3, .slot = -1, .text = text};
    assert_int_equal(cells_fill(c, &e), 0);
}

/* The index at the front, which is consumed; -1: nothing is there. */
static int next(struct cells *c)
{
    struct cell *cell = cells_front(c);
    if (!cell)
        return -1;
    int index = (int)cell->result.index;
    cells_deliver(c, cell);
    cells_clear(c, cell);
    return index;
}

static void ordered_cells_wait_for_the_next_index(void **state)
{
    (void)state;
    struct cells c = opened(4, 1);
    fill(&c, 1, "b", 1);
    assert_int_equal(next(&c), -1);
    fill(&c, 0, "a", 1);
    assert_int_equal(next(&c), 0);
    assert_int_equal(next(&c), 1);
    assert_int_equal(next(&c), -1);
    cells_fini(&c);
}

static void unordered_cells_come_as_filled(void **state)
{
    (void)state;
    struct cells c = opened(4, 0);
    fill(&c, 7, "b", 1);
    fill(&c, 2, "a", 1);
    assert_int_equal(next(&c), 7);
    assert_int_equal(next(&c), 2);
    assert_int_equal(next(&c), -1);
    cells_fini(&c);
}

static void a_window_goes_round_and_round(void **state)
{
    (void)state;
    for (int ordered = 0; ordered < 2; ordered++) {
        struct cells c = opened(5, ordered);
        for (int round = 0; round < 1000; round++) {
            for (int i = 4; i >= 0; i--)
                fill(&c, (size_t)(round * 5 + i), &i, sizeof i);
            for (int i = 0; i < 5; i++)
                assert_int_equal(next(&c), round * 5 + (ordered ? i : 4 - i));
        }
        cells_fini(&c);
    }
}

static void there_is_room_beside_the_window(void **state)
{
    (void)state;
    for (size_t window = 0; window < 70; window++) {
        struct cells c = opened(window, 1);
        assert_true(c.mask + 1 >= window + 2);
        assert_int_equal((c.mask + 1) & c.mask, 0);
        cells_fini(&c);
    }
}

static void holes_are_passed_over_to_the_end(void **state)
{
    (void)state;
    struct cells c = opened(10, 1);
    fill(&c, 2, "c", 1);
    fill(&c, 7, "h", 1);
    struct cell *cell = cells_front_over_holes(&c, 9);
    assert_int_equal(cell->result.index, 2);
    cells_deliver(&c, cell);
    cells_clear(&c, cell);
    cell = cells_front_over_holes(&c, 9);
    assert_int_equal(cell->result.index, 7);
    cells_deliver(&c, cell);
    cells_clear(&c, cell);
    assert_null(cells_front_over_holes(&c, 9));
    assert_int_equal(c.delivered, 9);
    cells_fini(&c);
}

static void results_of_all_sizes_are_copied(void **state)
{
    (void)state;
    struct cells c = opened(1, 1);
    char data[5000];
    for (size_t size = 0; size < sizeof data; size = size < 100 ? size + 1 : size * 2) {
        memset(data, (int)size, sizeof data);
        assert_int_equal(fill(&c, c.delivered, data, size), 0);
        memset(data, 0x55, sizeof data);
        struct cell *cell = cells_front(&c);
        assert_int_equal(cell->result.size, size);
        assert_non_null(cell->result.data);
        assert_int_equal((uintptr_t)cell->result.data % 16, 0);
        for (size_t i = 0; i < size; i++)
            assert_int_equal(((const unsigned char *)cell->result.data)[i], (unsigned char)size);
        cells_deliver(&c, cell);
        cells_clear(&c, cell);
    }
    cells_fini(&c);
}

static void waiting_bytes_are_counted(void **state)
{
    (void)state;
    struct cells c = opened(4, 1);
    fill(&c, 0, "abc", 3);
    fill(&c, 1, "abcde", 5);
    fail_item(&c, 2, "no");
    assert_int_equal(cells_bytes(&c), 8);
    next(&c);
    assert_int_equal(cells_bytes(&c), 5);
    cells_fini(&c);
}

static void an_owned_result_is_taken_over(void **state)
{
    (void)state;
    struct cells c = opened(4, 1);
    char *own = strdup("owned");
    struct ending e = {.data = own, .owned = own, .size = 6, .slot = -1, .text = ""};
    assert_int_equal(cells_fill(&c, &e), 0);
    assert_ptr_equal(cells_front(&c)->result.data, own);
    cells_fini(&c);
}

static void a_lent_result_stays_where_it_is(void **state)
{
    (void)state;
    struct cells c = opened(4, 1);
    char place[] = "lent";
    int lender;
    struct ending e = {.data = place, .size = 5, .lender = &lender, .slot = 3, .text = ""};
    assert_int_equal(cells_fill(&c, &e), 1);
    struct cell *cell = cells_front(&c);
    assert_ptr_equal(cell->result.data, place);
    assert_ptr_equal(cell->lender, &lender);
    assert_int_equal(cell->slot, 3);
    cells_clear(&c, cell);
    assert_null(cell->lender);
    cells_fini(&c);
}

static void a_slot_that_is_not_lent_is_copied(void **state)
{
    (void)state;
    struct cells c = opened(4, 1);
    char place[] = "its worker wants this place back";
    struct ending e = {.data = place, .size = sizeof place, .slot = 3, .text = ""};
    assert_int_equal(cells_fill(&c, &e), 0);
    memset(place, 0, sizeof place);
    assert_string_equal(cells_front(&c)->result.data, "its worker wants this place back");
    assert_null(cells_front(&c)->lender);
    cells_fini(&c);
}

static void a_failure_has_no_data_and_its_own_text(void **state)
{
    (void)state;
    struct cells c = opened(4, 1);
    char text[] = "a message of more than thirty-two bytes, so that it needs memory";
    fail_item(&c, 0, text);
    text[0] = 'x';
    const struct pool_result *r = &cells_front(&c)->result;
    assert_int_equal(r->status, POOL_FAILED);
    assert_int_equal(r->code, 3);
    assert_null(r->data);
    assert_int_equal(r->size, 0);
    assert_true(r->message[0] == 'a');
    cells_fini(&c);
}

static void a_failure_without_words_has_an_empty_message(void **state)
{
    (void)state;
    struct cells c = opened(4, 1);
    fail_item(&c, 0, "");
    assert_string_equal(cells_front(&c)->result.message, "");
    cells_fini(&c);
}

static void all_that_is_known_of_an_end_is_passed_on(void **state)
{
    (void)state;
    struct cells c = opened(4, 0);
    struct ending e = {.index = 77, .status = POOL_CRASHED, .code = 1, .signal = 9, .tries = 2, .pid = 1234, .slot = -1, .text = "died"};
    cells_fill(&c, &e);
    const struct pool_result *r = &cells_front(&c)->result;
    assert_int_equal(r->index, 77);
    assert_int_equal(r->status, POOL_CRASHED);
    assert_int_equal(r->code, 1);
    assert_int_equal(r->signal, 9);
    assert_int_equal(r->tries, 2);
    assert_int_equal(r->pid, 1234);
    assert_string_equal(r->message, "died");
    cells_fini(&c);
}

static void a_result_is_owed_nothing_of_the_one_before(void **state)
{
    (void)state;
    struct cells c = opened(1, 1);
    for (size_t i = 0; i < 40; i++) {
        if (i % 2)
            fail_item(&c, i, "a rather long message that needs some memory of its own");
        else
            fill(&c, i, "ok", 3);
        struct cell *cell = cells_front(&c);
        assert_int_equal(cell->result.status, i % 2 ? POOL_FAILED : POOL_OK);
        assert_int_equal(cell->result.code, i % 2 ? 3 : 0);
        assert_int_equal(cell->result.message[0], i % 2 ? 'a' : '\0');
        assert_true((cell->result.data != NULL) == (i % 2 == 0));
        next(&c);
    }
    cells_fini(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ordered_cells_wait_for_the_next_index),
        cmocka_unit_test(unordered_cells_come_as_filled),
        cmocka_unit_test(a_window_goes_round_and_round),
        cmocka_unit_test(there_is_room_beside_the_window),
        cmocka_unit_test(holes_are_passed_over_to_the_end),
        cmocka_unit_test(results_of_all_sizes_are_copied),
        cmocka_unit_test(waiting_bytes_are_counted),
        cmocka_unit_test(an_owned_result_is_taken_over),
        cmocka_unit_test(a_lent_result_stays_where_it_is),
        cmocka_unit_test(a_slot_that_is_not_lent_is_copied),
        cmocka_unit_test(a_failure_has_no_data_and_its_own_text),
        cmocka_unit_test(a_failure_without_words_has_an_empty_message),
        cmocka_unit_test(all_that_is_known_of_an_end_is_passed_on),
        cmocka_unit_test(a_result_is_owed_nothing_of_the_one_before),
    };
    return cmocka_run_group_tests(tests, check_setup, check_teardown);
}
