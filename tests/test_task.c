/* What a task function may call, run without any pool. */
#define _GNU_SOURCE
#include "check.h"
#include "task.h"

#include <stdlib.h>
#include <string.h>

static struct task_run run;
static unsigned char place[100];
static int no_memory, rooms;

static void *make_room(struct task_run *r, size_t size)
{
    rooms++;
    r->room = (struct task_room){0};
    if (no_memory || size > sizeof place)
        return NULL;
    r->room = (struct task_room){.place = TASK_ELSEWHERE, .at = place, .size = size};
    return place;
}

static int begin(void **state)
{
    (void)state;
    memset(&run, 0, sizeof run);
    run.make_room = make_room;
    run.task.worker = &run.worker;
    no_memory = rooms = 0;
    task_begin(&run);
    return 0;
}

static void a_run_begins_without_result_or_message(void **state)
{
    (void)state;
    run.room.place = TASK_ELSEWHERE;
    strcpy(run.text, "of the one before");
    task_begin(&run);
    assert_int_equal(run.room.place, TASK_NO_ROOM);
    assert_string_equal(run.text, "");
}

static void out_gives_the_room(void **state)
{
    (void)state;
    assert_ptr_equal(pool_out(&run.task, 10), place);
    assert_int_equal(run.room.size, 10);
}

static void a_second_out_replaces_the_first(void **state)
{
    (void)state;
    pool_out(&run.task, 10);
    pool_out(&run.task, 20);
    assert_int_equal(run.room.size, 20);
    assert_int_equal(rooms, 2);
}

static uint32_t prepared;

static void prepare(void)
{
    prepared = 0;
    run.prepared.at = &prepared;
    run.prepared.size = sizeof prepared;
}

static void a_result_that_fits_takes_the_prepared_room(void **state)
{
    const uint32_t x = 7;
    (void)state;
    prepare();
    assert_int_equal(pool_return(&run.task, &x, sizeof x), 0);
    assert_int_equal(prepared, 7);
    assert_int_equal(run.room.place, TASK_PREPARED);
    assert_int_equal(rooms, 0);
}

static void what_does_not_fit_it_or_comes_second_goes_elsewhere(void **state)
{
    const uint32_t x = 7;
    (void)state;
    prepare();
    assert_ptr_equal(pool_out(&run.task, sizeof x + 1), place);
    task_begin(&run);
    assert_ptr_equal(pool_out(&run.task, sizeof x), &prepared);
    assert_int_equal(pool_return(&run.task, &x, sizeof x), 0);
    assert_int_equal(run.room.place, TASK_ELSEWHERE);
    assert_int_equal(prepared, 0);
    assert_int_equal(rooms, 2);
}

static void out_without_memory_is_null(void **state)
{
    (void)state;
    no_memory = 1;
    assert_null(pool_out(&run.task, 10));
}

static void return_copies(void **state)
{
    (void)state;
    assert_int_equal(pool_return(&run.task, "bytes", 5), 0);
    assert_memory_equal(place, "bytes", 5);
    assert_int_equal(run.room.size, 5);
}

static void return_of_nothing_is_an_empty_result(void **state)
{
    (void)state;
    assert_int_equal(pool_return(&run.task, NULL, 0), 0);
    assert_int_equal(run.room.size, 0);
}

static void return_of_null_with_a_size_fails_in_words(void **state)
{
    (void)state;
    assert_int_equal(pool_return(&run.task, NULL, 3), -1);
    assert_non_null(strstr(run.text, "NULL"));
}

static void return_without_memory_fails_in_words(void **state)
{
    (void)state;
    no_memory = 1;
    assert_int_equal(pool_return(&run.task, "x", 1), -1);
    assert_non_null(strstr(run.text, "no memory"));
}

static void what_out_gave_can_be_returned(void **state)
{
    (void)state;
    unsigned char *at = pool_out(&run.task, 50);
    memcpy(at, "0123456789", 10);
    assert_int_equal(pool_return(&run.task, at + 2, 8), 0);
    assert_memory_equal(place, "23456789", 8);
}

static void fail_returns_its_code(void **state)
{
    (void)state;
    assert_int_equal(pool_fail(&run.task, 7, "x"), 7);
    assert_int_equal(pool_fail(&run.task, -9, "x"), -9);
}

static void fail_with_code_0_is_minus_1(void **state)
{
    (void)state;
    assert_int_equal(pool_fail(&run.task, 0, "x"), -1);
}

static void fail_formats_its_message(void **state)
{
    (void)state;
    pool_fail(&run.task, 1, "%s of %d", "item", 5);
    assert_string_equal(run.text, "item of 5");
}

static void the_last_message_counts(void **state)
{
    (void)state;
    pool_fail(&run.task, 1, "a longer first one");
    pool_fail(&run.task, 1, "second");
    assert_string_equal(run.text, "second");
}

static void a_message_is_cut_after_1000_bytes(void **state)
{
    (void)state;
    char text[3000];
    for (size_t size = 998; size <= 2999; size = size < 1005 ? size + 1 : size + 997) {
        memset(text, 'm', sizeof text);
        text[size] = '\0';
        pool_fail(&run.task, 1, "%s", text);
        assert_int_equal(strlen(run.text), size < 1000 ? size : 1000);
    }
}

static void fail_without_format_has_no_message(void **state)
{
    (void)state;
    int (*fails)(struct pool_task *, int, const char *, ...) = pool_fail;    /* unchecked */
    assert_int_equal(fails(&run.task, 4, NULL), 4);
    assert_string_equal(run.text, "");
}

static void an_initializer_fails_through_its_worker(void **state)
{
    (void)state;
    assert_int_equal(pool_init_fail(&run.worker, 0, "device %d", 3), -1);
    assert_string_equal(run.text, "device 3");
    assert_int_equal(pool_init_fail(&run.worker, 12, "x"), 12);
}

#define on_run(test) cmocka_unit_test_setup(test, begin)

int main(void)
{
    const struct CMUnitTest tests[] = {
        on_run(a_run_begins_without_result_or_message),
        on_run(out_gives_the_room),
        on_run(a_result_that_fits_takes_the_prepared_room),
        on_run(what_does_not_fit_it_or_comes_second_goes_elsewhere),
        on_run(a_second_out_replaces_the_first),
        on_run(out_without_memory_is_null),
        on_run(return_copies),
        on_run(return_of_nothing_is_an_empty_result),
        on_run(return_of_null_with_a_size_fails_in_words),
        on_run(return_without_memory_fails_in_words),
        on_run(what_out_gave_can_be_returned),
        on_run(fail_returns_its_code),
        on_run(fail_with_code_0_is_minus_1),
        on_run(fail_formats_its_message),
        on_run(the_last_message_counts),
        on_run(a_message_is_cut_after_1000_bytes),
        on_run(fail_without_format_has_no_message),
        on_run(an_initializer_fails_through_its_worker),
    };
    return cmocka_run_group_tests(tests, check_setup, check_teardown);
}
