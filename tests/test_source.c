/* Where items come from: what the four constructors pack, in which order items are handed over, and how they come back. */
#define _GNU_SOURCE
#include "check.h"
#include "source.h"
#include "status.h"

#include <stdlib.h>
#include <string.h>

static int never(void *cursor, struct pool_bytes *item)
{
    (void)cursor, (void)item;
    return 0;
}

static struct source opened(struct pool_items items)
{
    struct source s;
    assert_int_equal(source_init(&s, items), 0);
    return s;
}

static void refused(struct pool_items items)
{
    struct source s;
    status_clear();
    assert_int_equal(source_init(&s, items), -1);
    assert_true(strlen(pool_error()) > 10);
}

static struct piece take(struct source *s, size_t most)
{
    struct piece piece;
    source_take(s, most, &piece);
    return piece;
}

static void is_piece(struct piece piece, size_t index, size_t count)
{
    assert_int_equal(piece.index, index);
    assert_int_equal(piece.count, count);
}

static void give_back(struct source *s, size_t index, size_t count, size_t size)
{
    struct piece piece = {.index = index, .count = count, .size = size, .source_keeps = 1};
    assert_int_equal(source_return(s, &piece), 0);
}

/* ---- What is refused */

static void an_array_at_null_is_refused(void **state)
{
    (void)state;
    refused(pool_array(NULL, 1, 8));
}

static void an_array_larger_than_memory_is_refused(void **state)
{
    (void)state;
    refused(pool_array("", SIZE_MAX / 2, 3));
    refused(pool_array("", 3, SIZE_MAX / 2));
    refused(pool_array("", SIZE_MAX, SIZE_MAX));
}

static void a_list_at_null_is_refused(void **state)
{
    (void)state;
    refused(pool_buffers(NULL, 1));
}

static void a_buffer_at_null_with_a_size_is_refused(void **state)
{
    (void)state;
    struct pool_bytes list[] = {{"a", 1}, {NULL, 2}};
    refused(pool_buffers(list, 2));
    assert_non_null(strstr(pool_error(), "buffer 1"));
}

static void a_generator_without_function_is_refused(void **state)
{
    (void)state;
    refused(pool_generator(NULL, NULL));
}

static void items_of_no_constructor_are_refused(void **state)
{
    (void)state;
    struct pool_items items;
    memset(&items, 0, sizeof items);
    refused(items);
    memset(&items, 0xff, sizeof items);
    refused(items);
}

static void nothing_at_null_is_fine(void **state)
{
    (void)state;
    struct pool_bytes empty = {NULL, 0};
    opened(pool_array(NULL, 0, 8));
    opened(pool_array(NULL, 5, 0));
    opened(pool_buffers(NULL, 0));
    opened(pool_buffers(&empty, 1));
    opened(pool_range(SIZE_MAX));
    opened(pool_array("", 1, SIZE_MAX));
}

/* ---- Handing over */

static void an_array_goes_out_in_spans(void **state)
{
    (void)state;
    int xs[10] = {0};
    size_t size;
    struct source s = opened(pool_array(xs, 10, sizeof *xs));
    assert_int_equal(source_ready(&s, &size), 10);
    assert_int_equal(size, sizeof *xs);
    is_piece(take(&s, 4), 0, 4);
    struct piece rest = take(&s, 100);
    is_piece(rest, 4, 6);
    assert_ptr_equal(rest.data, xs + 4);
    assert_true(rest.source_keeps);
    assert_int_equal(source_ready(&s, &size), 0);
    assert_int_equal(source_left(&s), 0);
    source_fini(&s);
}

static void a_range_has_indexes_only(void **state)
{
    (void)state;
    size_t size;
    struct source s = opened(pool_range(SIZE_MAX));
    assert_int_equal(source_ready(&s, &size), SIZE_MAX);
    assert_int_equal(size, 0);
    is_piece(take(&s, 1u << 20), 0, 1u << 20);
    is_piece(take(&s, 1), 1u << 20, 1);
    source_fini(&s);
}

static void buffers_go_out_one_by_one(void **state)
{
    (void)state;
    struct pool_bytes list[] = {{"abc", 3}, {NULL, 0}, {"x", 1}};
    size_t size;
    struct source s = opened(pool_buffers(list, 3));
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(source_ready(&s, &size), 1);
        assert_int_equal(size, list[i].size);
        struct piece piece = take(&s, 100);
        is_piece(piece, i, 1);
        assert_ptr_equal(piece.data, list[i].data);
    }
    assert_int_equal(source_ready(&s, &size), 0);
    source_fini(&s);
}

static void a_generator_has_nothing_ready_and_knows_no_end(void **state)
{
    (void)state;
    size_t size;
    struct source s = opened(pool_generator(never, NULL));
    assert_int_equal(source_ready(&s, &size), 0);
    assert_false(source_known(&s));
    source_pulled(&s, 1);
    assert_int_equal(s.next, 1);
    assert_int_equal(s.total, 1);
    assert_int_equal(source_left(&s), 0);
    source_fini(&s);
    assert_true(source_known(&s));
}

/* ---- Coming back */

static void what_came_back_goes_first_lowest_index_first(void **state)
{
    (void)state;
    int xs[100] = {0};
    struct source s = opened(pool_array(xs, 100, sizeof *xs));
    take(&s, 50);
    give_back(&s, 20, 5, sizeof *xs);
    give_back(&s, 40, 2, sizeof *xs);
    give_back(&s, 3, 1, sizeof *xs);
    assert_int_equal(source_left(&s), 58);
    struct piece first = take(&s, 100);
    is_piece(first, 3, 1);
    assert_ptr_equal(first.data, xs + 3);
    is_piece(take(&s, 100), 20, 5);
    is_piece(take(&s, 100), 40, 2);
    is_piece(take(&s, 100), 50, 50);
    source_fini(&s);
}

static void part_of_what_came_back_can_go(void **state)
{
    (void)state;
    int xs[100] = {0};
    struct source s = opened(pool_array(xs, 100, sizeof *xs));
    take(&s, 50);
    give_back(&s, 20, 5, sizeof *xs);
    is_piece(take(&s, 2), 20, 2);
    struct piece rest = take(&s, 100);
    is_piece(rest, 22, 3);
    assert_ptr_equal(rest.data, xs + 22);
    source_fini(&s);
}

static void many_pieces_come_back(void **state)
{
    (void)state;
    struct source s = opened(pool_range(10000));
    take(&s, 10000);
    for (size_t i = 0; i < 1000; i++)
        give_back(&s, i * 7919 % 1000, 1, 0);
    for (size_t i = 0; i < 1000; i++)
        is_piece(take(&s, 1), i, 1);
    source_fini(&s);
}

static void a_generators_item_is_copied_when_it_comes_back(void **state)
{
    (void)state;
    char item[] = "borrowed";
    struct source s = opened(pool_generator(never, NULL));
    source_pulled(&s, 1);
    struct piece piece = {.index = 0, .count = 1, .data = item, .size = sizeof item, .tries = 1};
    assert_int_equal(source_return(&s, &piece), 0);
    memset(item, 'x', sizeof item - 1);
    struct piece again = take(&s, 1);
    assert_string_equal(again.data, "borrowed");
    assert_ptr_equal(again.owned, again.data);
    assert_int_equal(again.tries, 1);
    free(again.owned);
    source_fini(&s);
}

static void an_owned_item_is_not_copied_again(void **state)
{
    (void)state;
    struct source s = opened(pool_generator(never, NULL));
    source_pulled(&s, 1);
    char *own = strdup("own");
    struct piece piece = {.index = 0, .count = 1, .data = own, .size = 4, .owned = own};
    assert_int_equal(source_return(&s, &piece), 0);
    assert_ptr_equal(take(&s, 1).owned, own);
    free(own);
    source_fini(&s);
}

/* Data that came back from a worker's channel lies there no longer. */
static void an_owned_item_lies_in_its_own_memory(void **state)
{
    (void)state;
    char channel[] = "own", *own = strdup("own");
    struct source s = opened(pool_generator(never, NULL));
    source_pulled(&s, 1);
    struct piece piece = {.index = 0, .count = 1, .data = channel, .size = 4, .owned = own};
    assert_int_equal(source_return(&s, &piece), 0);
    memset(channel, 0, sizeof channel);
    assert_string_equal(take(&s, 1).data, "own");
    free(own);
    source_fini(&s);
}

static void what_is_dropped_is_gone(void **state)
{
    (void)state;
    size_t size;
    char *own = strdup("own");
    struct piece piece = {.index = 2, .count = 1, .data = own, .size = 4, .owned = own};
    struct source s = opened(pool_range(100));
    take(&s, 10);
    source_return(&s, &piece);
    source_drop(&s);
    assert_int_equal(source_ready(&s, &size), 0);
    assert_int_equal(source_left(&s), 0);
    assert_int_equal(s.total, 100);
    source_fini(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_array_at_null_is_refused),
        cmocka_unit_test(an_array_larger_than_memory_is_refused),
        cmocka_unit_test(a_list_at_null_is_refused),
        cmocka_unit_test(a_buffer_at_null_with_a_size_is_refused),
        cmocka_unit_test(a_generator_without_function_is_refused),
        cmocka_unit_test(items_of_no_constructor_are_refused),
        cmocka_unit_test(nothing_at_null_is_fine),
        cmocka_unit_test(an_array_goes_out_in_spans),
        cmocka_unit_test(a_range_has_indexes_only),
        cmocka_unit_test(buffers_go_out_one_by_one),
        cmocka_unit_test(a_generator_has_nothing_ready_and_knows_no_end),
        cmocka_unit_test(what_came_back_goes_first_lowest_index_first),
        cmocka_unit_test(part_of_what_came_back_can_go),
        cmocka_unit_test(many_pieces_come_back),
        cmocka_unit_test(a_generators_item_is_copied_when_it_comes_back),
        cmocka_unit_test(an_owned_item_is_not_copied_again),
        cmocka_unit_test(an_owned_item_lies_in_its_own_memory),
        cmocka_unit_test(what_is_dropped_is_gone),
    };
    return cmocka_run_group_tests(tests, check_setup, check_teardown);
}
