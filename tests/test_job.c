/* A job settles what its items came to: where results go, which failure counts, how much may be under way, and when it is over. */
#define _GNU_SOURCE
#include "check.h"
#include "job.h"

#include <stdlib.h>
#include <string.h>

static int never(void *cursor, struct pool_bytes *item)
{
    (void)cursor, (void)item;
    return 0;
}

static void open_job(struct job *j, enum job_kind kind, struct pool_items items, const struct pool_call *call)
{
    static const struct pool_call none;
    static uint64_t tally[POOL_PENDING + 1];
    *j = (struct job){.tally = tally};
    assert_int_equal(source_init(&j->source, items), 0);
    assert_int_equal(job_init(j, kind, call ? call : &none), 0);
    if (kind == JOB_LIST)
        assert_non_null(j->list = list_create());
}

static void open_iter(struct job *j, struct pool_items items, size_t window, int given, int ordered)
{
    open_job(j, JOB_ITER, items, NULL);
    j->window = window;
    j->window_given = given;
    assert_int_equal(cells_init(&j->cells, window, ordered), 0);
}

/* Hands `count` items over. */
static void send(struct job *j, size_t count, size_t size)
{
    struct piece piece;
    source_take(&j->source, count, &piece);
    assert_int_equal(piece.count, count);
    job_sent(j, count, size);
}

static void end_ok(struct job *j, size_t index, const void *data, size_t size)
{
    struct ending e = {.index = index, .data = data, .size = size, .slot = -1, .text = ""};
    job_settle(j, &e, 0);
}

static void end_as(struct job *j, size_t index, enum pool_status status, int code, const char *text)
{
    struct ending e = {.index = index, .status = status, .code = code, .slot = -1, .text = text};
    job_settle(j, &e, 0);
}

/* ---- map */

static void a_map_puts_results_where_they_belong(void **state)
{
    (void)state;
    struct job j;
    int out[4] = {-1, -1, -1, -1}, run[] = {20, 30};
    open_job(&j, JOB_MAP, pool_range(4), NULL);
    j.out = (unsigned char *)out;
    j.out_size = sizeof *out;
    send(&j, 4, 0);
    end_ok(&j, 1, &(int){10}, sizeof(int));
    job_settle_run(&j, 2, 2, run, 0);
    assert_int_equal(out[0], -1);
    assert_int_equal(out[1], 10);
    assert_int_equal(out[2], 20);
    assert_int_equal(out[3], 30);
    assert_false(job_check_end(&j));
    end_ok(&j, 0, &(int){0}, sizeof(int));
    assert_true(job_check_end(&j));
    assert_int_equal(job_status(&j), POOL_OK);
    job_fini(&j);
}

static void a_wrong_size_fails_with_code_0_and_leaves_its_place(void **state)
{
    (void)state;
    struct job j;
    int out[1] = {-1};
    open_job(&j, JOB_MAP, pool_range(1), NULL);
    j.out = (unsigned char *)out;
    j.out_size = sizeof *out;
    send(&j, 1, 0);
    end_ok(&j, 0, "12345", 5);
    assert_int_equal(out[0], -1);
    assert_int_equal(job_status(&j), POOL_FAILED);
    assert_int_equal(j.failure.code, 0);
    assert_non_null(strstr(j.failure_text, "5 bytes where 4"));
    job_fini(&j);
}

static void the_failure_of_lowest_index_counts(void **state)
{
    (void)state;
    struct job j;
    open_job(&j, JOB_MAP, pool_range(9), NULL);
    send(&j, 9, 0);
    end_as(&j, 7, POOL_CRASHED, 1, "seven");
    end_as(&j, 3, POOL_FAILED, 5, "three");
    end_as(&j, 5, POOL_CRASHED, 2, "five");
    assert_int_equal(j.failure.index, 3);
    assert_int_equal(j.failure.code, 5);
    assert_string_equal(j.failure_text, "three");
    assert_int_equal(job_status(&j), POOL_FAILED);
    job_fini(&j);
}

static void what_was_cut_short_does_not_count(void **state)
{
    (void)state;
    struct job j;
    struct pool_call call = {.fail_fast = 1};
    open_job(&j, JOB_MAP, pool_range(9), &call);
    send(&j, 3, 0);
    end_as(&j, 2, POOL_CRASHED, 0, "two");
    end_as(&j, 0, POOL_CANCELLED, 0, "cut");
    end_as(&j, 1, POOL_CANCELLED, 0, "cut");
    assert_true(job_check_end(&j));
    assert_int_equal(job_status(&j), POOL_CRASHED);
    assert_int_equal(j.failure.index, 2);
    job_fini(&j);
}

static void the_generators_failure_comes_after_all_items(void **state)
{
    (void)state;
    struct job j;
    open_job(&j, JOB_MAP, pool_generator(never, NULL), NULL);
    source_pulled(&j.source, 1);
    job_sent(&j, 1, 0);
    job_source_failed(&j, -7);
    assert_int_equal(job_status(&j), POOL_SOURCE_FAILED);
    assert_int_equal(j.failure.code, -7);
    end_as(&j, 0, POOL_FAILED, 1, "zero");
    assert_true(job_check_end(&j));
    assert_int_equal(job_status(&j), POOL_FAILED);
    job_fini(&j);
}

/* ---- Ends */

static void nothing_is_over_at_once(void **state)
{
    (void)state;
    struct job j;
    open_job(&j, JOB_MAP, pool_range(0), NULL);
    assert_true(job_check_end(&j));
    assert_int_equal(job_status(&j), POOL_OK);
    job_fini(&j);
}

static void a_job_goes_on_while_its_generator_does(void **state)
{
    (void)state;
    struct job j;
    open_job(&j, JOB_MAP, pool_generator(never, NULL), NULL);
    assert_false(job_check_end(&j));
    j.source.pull = NULL;
    assert_true(job_check_end(&j));
    job_fini(&j);
}

static void items_that_came_back_are_not_outstanding(void **state)
{
    (void)state;
    struct job j;
    open_job(&j, JOB_MAP, pool_range(4), NULL);
    send(&j, 4, 10);
    job_unsent(&j, 3, 10);
    assert_int_equal(j.outstanding, 1);
    assert_int_equal(j.bytes, 10);
    job_fini(&j);
}

static void a_cut_job_sends_nothing_more(void **state)
{
    (void)state;
    struct job j;
    open_job(&j, JOB_MAP, pool_range(100), NULL);
    send(&j, 1, 0);
    job_cut(&j, POOL_CANCELLED, 1);
    assert_int_equal(job_may_send(&j, 10, 0, 2), 0);
    assert_int_equal(source_left(&j.source), 0);
    assert_false(job_check_end(&j));
    end_as(&j, 0, POOL_CANCELLED, 0, "");
    assert_true(job_check_end(&j));
    assert_int_equal(job_status(&j), POOL_CANCELLED);
    job_fini(&j);
}

static void the_first_reason_to_cut_stays(void **state)
{
    (void)state;
    struct job j;
    open_job(&j, JOB_MAP, pool_range(100), NULL);
    job_cut(&j, POOL_BROKEN, 0);
    job_cut(&j, POOL_CANCELLED, 1);
    assert_int_equal(j.cut, POOL_BROKEN);
    assert_true(j.kill);
    job_fini(&j);
}

static void fail_fast_cuts_at_the_first_failure(void **state)
{
    (void)state;
    struct job j;
    struct pool_call call = {.fail_fast = 1};
    open_job(&j, JOB_MAP, pool_range(100), &call);
    send(&j, 2, 0);
    end_as(&j, 1, POOL_FAILED, 4, "");
    assert_int_equal(j.cut, POOL_FAILED);
    assert_true(j.kill);
    job_fini(&j);
}

/* ---- list */

static void a_list_has_all_ends(void **state)
{
    (void)state;
    struct job j;
    open_job(&j, JOB_LIST, pool_range(3), NULL);
    send(&j, 3, 0);
    end_ok(&j, 2, "two", 4);
    end_as(&j, 1, POOL_FAILED, 6, "one");
    end_ok(&j, 0, "zero", 5);
    assert_true(job_check_end(&j));
    assert_int_equal(pool_results_count(j.list), 3);
    assert_int_equal(pool_results_status(j.list), POOL_FAILED);
    assert_string_equal(pool_results_at(j.list, 2)->data, "two");
    pool_results_free(j.list);
    job_fini(&j);
}

static void a_failed_generator_adds_an_entry(void **state)
{
    (void)state;
    struct job j;
    open_job(&j, JOB_LIST, pool_generator(never, NULL), NULL);
    source_pulled(&j.source, 1);
    job_sent(&j, 1, 0);
    end_ok(&j, 0, "", 0);
    job_source_failed(&j, -3);
    assert_true(job_check_end(&j));
    assert_int_equal(pool_results_count(j.list), 2);
    assert_int_equal(pool_results_at(j.list, 1)->status, POOL_SOURCE_FAILED);
    assert_int_equal(pool_results_at(j.list, 1)->index, 1);
    assert_int_equal(pool_results_at(j.list, 1)->code, -3);
    assert_int_equal(pool_results_status(j.list), POOL_SOURCE_FAILED);
    pool_results_free(j.list);
    job_fini(&j);
}

static void a_cut_list_says_which_never_started(void **state)
{
    (void)state;
    struct job j;
    open_job(&j, JOB_LIST, pool_range(5), NULL);
    send(&j, 1, 0);
    end_ok(&j, 0, "", 0);
    job_cut(&j, POOL_CANCELLED, 0);
    assert_true(job_check_end(&j));
    assert_int_equal(pool_results_count(j.list), 5);
    assert_int_equal(pool_results_at(j.list, 4)->status, POOL_CANCELLED);
    pool_results_free(j.list);
    job_fini(&j);
}

/* ---- iterator: the window */

static void a_given_window_is_what_may_be_under_way(void **state)
{
    (void)state;
    struct job j;
    for (int ordered = 0; ordered < 2; ordered++) {
        open_iter(&j, pool_range(100), 5, 1, ordered);
        assert_int_equal(job_may_send(&j, 100, 1u << 30, 2), 5);
        send(&j, 3, 0);
        assert_int_equal(job_may_send(&j, 100, 0, 2), 2);
        send(&j, 2, 0);
        assert_int_equal(job_may_send(&j, 100, 0, 2), 0);
        end_ok(&j, 0, "", 0);
        assert_int_equal(job_may_send(&j, 100, 0, 2), 0);
        struct cell *cell = cells_front(&j.cells);
        cells_deliver(&j.cells, cell);
        cells_clear(&j.cells, cell);
        assert_int_equal(job_may_send(&j, 100, 0, 2), 1);
        job_fini(&j);
    }
}

static void an_open_window_is_bounded_in_bytes(void **state)
{
    (void)state;
    struct job j;
    open_iter(&j, pool_range(100), 100, 0, 1);
    assert_int_equal(job_may_send(&j, 100, (16 << 20) - 1, 2), 4);
    job_fini(&j);
}

static void an_open_window_has_an_item_for_each_worker(void **state)
{
    (void)state;
    struct job j;
    open_iter(&j, pool_range(100), 100, 0, 1);
    assert_int_equal(job_may_send(&j, 100, (size_t)1 << 40, 3), 3);
    send(&j, 2, (size_t)1 << 40);
    assert_int_equal(job_may_send(&j, 100, (size_t)1 << 40, 3), 1);
    send(&j, 1, (size_t)1 << 40);
    assert_int_equal(job_may_send(&j, 100, (size_t)1 << 40, 3), 0);
    job_fini(&j);
}

static void results_that_wait_count_as_bytes(void **state)
{
    (void)state;
    struct job j;
    open_iter(&j, pool_range(100), 100, 0, 1);
    send(&j, 2, 0);
    j.cells.filled_bytes = 64 << 20;
    assert_int_equal(job_may_send(&j, 100, 1000, 2), 0);
    job_fini(&j);
}

static void what_came_back_was_in_the_window_already(void **state)
{
    (void)state;
    struct job j;
    struct piece piece = {.index = 1, .count = 1, .source_keeps = 1};
    open_iter(&j, pool_range(100), 2, 1, 1);
    send(&j, 2, 0);
    source_return(&j.source, &piece);
    job_unsent(&j, 1, 0);
    assert_int_equal(job_may_send(&j, 1, 0, 2), 1);
    job_fini(&j);
}

static void nobody_wants_results_of_an_abandoned_job(void **state)
{
    (void)state;
    struct job j;
    open_iter(&j, pool_range(5), 5, 1, 1);
    send(&j, 1, 0);
    j.abandoned = 1;
    void *own = malloc(8);
    struct ending e = {.data = own, .owned = own, .size = 8, .slot = -1, .text = ""};
    assert_int_equal(job_settle(&j, &e, 0), 0);
    assert_null(cells_front(&j.cells));
    job_fini(&j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_map_puts_results_where_they_belong),
        cmocka_unit_test(a_wrong_size_fails_with_code_0_and_leaves_its_place),
        cmocka_unit_test(the_failure_of_lowest_index_counts),
        cmocka_unit_test(what_was_cut_short_does_not_count),
        cmocka_unit_test(the_generators_failure_comes_after_all_items),
        cmocka_unit_test(nothing_is_over_at_once),
        cmocka_unit_test(a_job_goes_on_while_its_generator_does),
        cmocka_unit_test(items_that_came_back_are_not_outstanding),
        cmocka_unit_test(a_cut_job_sends_nothing_more),
        cmocka_unit_test(the_first_reason_to_cut_stays),
        cmocka_unit_test(fail_fast_cuts_at_the_first_failure),
        cmocka_unit_test(a_list_has_all_ends),
        cmocka_unit_test(a_failed_generator_adds_an_entry),
        cmocka_unit_test(a_cut_list_says_which_never_started),
        cmocka_unit_test(a_given_window_is_what_may_be_under_way),
        cmocka_unit_test(an_open_window_is_bounded_in_bytes),
        cmocka_unit_test(an_open_window_has_an_item_for_each_worker),
        cmocka_unit_test(results_that_wait_count_as_bytes),
        cmocka_unit_test(what_came_back_was_in_the_window_already),
        cmocka_unit_test(nobody_wants_results_of_an_abandoned_job),
    };
    return cmocka_run_group_tests(tests, check_setup, check_teardown);
}
