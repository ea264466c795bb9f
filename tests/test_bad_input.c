/* A user's mistake is told: POOL_INVALID, or NULL with EINVAL, and one sentence that says what to do. Nothing is printed, nothing ends. */
#define _GNU_SOURCE
#include "check.h"

#include <forkpool.h>

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static struct pool *pool;
/* Shared with the workers, which were made before the pool's address was known. */
static struct own { struct pool *pool; } *own;

static int quiet = -1, loud = -1;           /* where stderr goes meanwhile; where it went */

static int open_pool(void **state)
{
    check_setup(state);
    own = mmap(NULL, sizeof *own, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(own != MAP_FAILED);
    pool = pool_create(&(struct pool_options){.workers = 2});
    assert_non_null(pool);
    return 0;
}

static int close_pool(void **state)
{
    pool_destroy(pool);
    munmap(own, sizeof *own);
    return check_teardown(state);
}

static void hush(void)
{
    quiet = memfd_create("stderr", MFD_CLOEXEC);
    loud = dup(2);
    assert_true(quiet >= 0 && loud >= 0);
    dup2(quiet, 2);
}

/* How much was printed. */
static long speak(void)
{
    long printed = (long)lseek(quiet, 0, SEEK_END);
    dup2(loud, 2);
    close(loud);
    close(quiet);
    return printed;
}

static int task_fn(struct pool_task *task)
{
    return pool_return(task, &task->index, sizeof task->index);
}

static int next_fn(void *cursor, struct pool_bytes *item)
{
    (void)cursor, (void)item;
    return 0;
}

/* ---- Calls: each is refused by all five kinds */

static void in_words(void)
{
    assert_true(strlen(pool_error()) > 15);
    assert_null(strchr(pool_error(), '\n'));
}

static void refused_map(struct pool *p, pool_fn *fn, struct pool_items items, void *out, size_t out_size, const struct pool_call *call)
{
    assert_int_equal(pool_map(p, fn, items, out, out_size, call), POOL_INVALID);
    in_words();
    assert_null(pool_failure());
}

static void refused(struct pool *p, pool_fn *fn, struct pool_items items, const struct pool_call *call)
{
    refused_map(p, fn, items, NULL, 0, call);
    errno = 0;
    assert_null(pool_map_results(p, fn, items, call));
    assert_int_equal(errno, EINVAL);
    in_words();
    errno = 0;
    assert_null(pool_imap(p, fn, items, call));
    assert_int_equal(errno, EINVAL);
    in_words();
    errno = 0;
    assert_null(pool_imap_unordered(p, fn, items, call));
    assert_int_equal(errno, EINVAL);
    in_words();
}

static void refused_call(struct pool_call call)
{
    refused(pool, task_fn, pool_range(3), &call);
    assert_int_equal(pool_apply(pool, task_fn, NULL, 0, NULL, 0, &call), POOL_INVALID);
    in_words();
}

static void a_null_pool_is_refused(void **state)
{
    (void)state;
    refused(NULL, task_fn, pool_range(1), NULL);
    assert_int_equal(pool_apply(NULL, task_fn, NULL, 0, NULL, 0, NULL), POOL_INVALID);
}

static void a_null_function_is_refused(void **state)
{
    (void)state;
    refused(pool, NULL, pool_range(1), NULL);
    assert_int_equal(pool_apply(pool, NULL, NULL, 0, NULL, 0, NULL), POOL_INVALID);
}

static void null_with_a_count_is_refused(void **state)
{
    (void)state;
    struct pool_bytes list[] = {{"a", 1}, {NULL, 1}};
    refused(pool, task_fn, pool_array(NULL, 1, 1), NULL);
    refused(pool, task_fn, pool_buffers(NULL, 1), NULL);
    refused(pool, task_fn, pool_buffers(list, 2), NULL);
    assert_int_equal(pool_apply(pool, task_fn, NULL, 1, NULL, 0, NULL), POOL_INVALID);
}

static void products_that_overflow_are_refused(void **state)
{
    (void)state;
    size_t out;
    refused(pool, task_fn, pool_array("", SIZE_MAX / 2 + 1, 2), NULL);
    refused(pool, task_fn, pool_array("", SIZE_MAX, SIZE_MAX), NULL);
    refused_map(pool, task_fn, pool_range(SIZE_MAX), &out, sizeof out, NULL);
}

static void a_generator_without_function_is_refused(void **state)
{
    (void)state;
    refused(pool, task_fn, pool_generator(NULL, NULL), NULL);
}

static void a_generator_with_out_is_refused(void **state)
{
    (void)state;
    size_t out;
    refused_map(pool, task_fn, pool_generator(next_fn, NULL), &out, sizeof out, NULL);
}

static void items_that_no_constructor_made_are_refused(void **state)
{
    (void)state;
    struct pool_items zero = {{0}}, wild = {{77, 1, 2, 3, 4, 5}};
    refused(pool, task_fn, zero, NULL);
    refused(pool, task_fn, wild, NULL);
}

static void a_reserved_field_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < 8; i++) {
        struct pool_call call = {0};
        call.reserved[i] = 1;
        refused_call(call);
    }
}

static void what_the_call_does_not_honour_is_refused_by_name(void **state)
{
    (void)state;
    const struct { struct pool_call call; const char *name; } calls[] = {
        {{.done = (void (*)(struct pool_job *, void *))(void (*)(void))task_fn}, "done"}, {{.done_arg = pool}, "done"},
    };
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        refused_call(calls[i].call);
        assert_non_null(strstr(pool_error(), calls[i].name));
    }
}

static void no_limit_is_a_timeout_that_is_honoured(void **state)
{
    (void)state;
    assert_int_equal(pool_map(pool, task_fn, pool_range(3), NULL, 0, &(struct pool_call){.timeout = (double)INFINITY}), POOL_OK);
}

static void seconds_that_make_no_sense_are_refused(void **state)
{
    (void)state;
    const double times[] = {-1, -0.001, -(double)INFINITY, (double)NAN};
    for (size_t i = 0; i < 4; i++)
        refused_call((struct pool_call){.timeout = times[i]});
}

static void a_context_at_null_is_refused(void **state)
{
    (void)state;
    refused_call((struct pool_call){.common_size = 1});
}

static void any_chunk_and_window_are_hints(void **state)
{
    (void)state;
    struct pool_call call = {.chunk = SIZE_MAX, .window = SIZE_MAX};
    assert_int_equal(pool_map(pool, task_fn, pool_range(30), NULL, 0, &call), POOL_OK);
    struct pool_iter *it = pool_imap(pool, task_fn, pool_range(30), &call);
    size_t count = 0;
    while (pool_next(it))
        count++;
    assert_int_equal(count, 30);
    pool_iter_free(it);
}

/* ---- Functions that are none */

static void a_function_outside_of_all_objects_is_refused(void **state)
{
    (void)state;
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *heap = malloc(64);
    pool_fn *trampoline, *on_heap;
    if (page == MAP_FAILED)
        skip();                             /* no such pages here: then there are no trampolines either */
    memset(page, 0xc3, 4096);
    memcpy(&trampoline, &page, sizeof page);
    memcpy(&on_heap, &heap, sizeof heap);
    refused(pool, trampoline, pool_range(1), NULL);
    assert_non_null(strstr(pool_error(), "trampoline"));
    refused(pool, on_heap, pool_range(1), NULL);
    munmap(page, 4096);
    free(heap);
}

static void data_is_no_function(void **state)
{
    (void)state;
    static int variable;
    void *address = &variable;
    pool_fn *fn;
    memcpy(&fn, &address, sizeof fn);
    refused(pool, fn, pool_range(1), NULL);
}

/* ---- Options */

static void refused_options(struct pool_options options)
{
    errno = 0;
    assert_null(pool_create(&options));
    assert_int_equal(errno, EINVAL);
    in_words();
}

static void max_workers_below_workers_or_beyond_measure_is_refused(void **state)
{
    (void)state;
    const struct pool_options all[] = {{.workers = 2, .max_workers = 1}, {.workers = 1, .max_workers = 100000},
                                       {.workers = 1, .max_workers = UINT_MAX}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        refused_options(all[i]);
        assert_non_null(strstr(pool_error(), "max_workers"));
    }
}

static void a_reserved_option_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < 8; i++) {
        struct pool_options options = {.workers = 1};
        options.reserved[i] = 1;
        refused_options(options);
        options.serial = 1;
        refused_options(options);
    }
}

static void limits_that_make_no_sense_are_refused(void **state)
{
    (void)state;
    const double times[] = {-1, -(double)INFINITY, (double)NAN};
    for (size_t i = 0; i < 3; i++) {
        refused_options((struct pool_options){.init_timeout = times[i]});
        refused_options((struct pool_options){.cpu_limit = times[i]});
    }
}

static void too_many_workers_are_refused(void **state)
{
    (void)state;
    refused_options((struct pool_options){.workers = 100000});
    refused_options((struct pool_options){.workers = UINT_MAX});
}

static void descriptors_at_null_are_refused(void **state)
{
    (void)state;
    refused_options((struct pool_options){.close_fds = 1, .pass_fds_count = 1});
}

static void infinite_limits_are_none(void **state)
{
    (void)state;
    struct pool *other = pool_create(&(struct pool_options){.workers = 1, .init_timeout = (double)INFINITY, .cpu_limit = (double)INFINITY});
    assert_non_null(other);
    pool_destroy(other);
}

/* ---- NULL, everywhere */

static void null_is_nothing_to_end_or_ask(void **state)
{
    (void)state;
    pool_destroy(NULL);
    pool_iter_free(NULL);
    pool_iter_cancel(NULL);
    pool_results_free(NULL);
    assert_int_equal(pool_size(NULL), 0);
    assert_int_equal(pool_worker_pid(NULL, 0), 0);
    assert_null(pool_next(NULL));
    assert_null(pool_next_timeout(NULL, (double)NAN));
    assert_int_equal(pool_iter_status(NULL), POOL_INVALID);
    assert_int_equal(pool_results_count(NULL), 0);
    assert_null(pool_results_at(NULL, 0));
    assert_int_equal(pool_results_status(NULL), POOL_INVALID);
}

static void no_index_is_too_large_to_ask_for(void **state)
{
    (void)state;
    struct pool_results *list = pool_map_results(pool, task_fn, pool_range(2), NULL);
    assert_null(pool_results_at(list, 2));
    assert_null(pool_results_at(list, SIZE_MAX));
    assert_int_equal(pool_worker_pid(pool, 2), 0);
    assert_int_equal(pool_worker_pid(pool, UINT_MAX), 0);
    pool_results_free(list);
}

/* ---- The pool of the task */

/* Everything that a task could ask its own pool for; the number of what was not refused. */
static int use_own_pool(struct pool_task *task)
{
    int wrong = 0;
    wrong += pool_map(own->pool, task_fn, pool_range(1), NULL, 0, NULL) != POOL_INVALID || !pool_error()[0];
    wrong += pool_apply(own->pool, task_fn, NULL, 0, NULL, 0, NULL) != POOL_INVALID;
    errno = 0;
    wrong += pool_imap(own->pool, task_fn, pool_range(1), NULL) != NULL || errno != EINVAL;
    errno = 0;
    wrong += pool_map_results(own->pool, task_fn, pool_range(1), NULL) != NULL || errno != EINVAL;
    pool_destroy(own->pool);
    (void)task;
    return wrong;
}

static void a_task_cannot_use_its_own_pool(void **state)
{
    (void)state;
    own->pool = pool;
    assert_int_equal(pool_apply(pool, use_own_pool, NULL, 0, NULL, 0, NULL), POOL_OK);
    assert_int_equal(pool_apply(pool, task_fn, NULL, 0, NULL, 0, NULL), POOL_OK);
}

/* ---- A pool on its way out */

static _Atomic int *hung;

static int hang(struct pool_task *task)
{
    *hung = 1;
    while (task)
        pause();
    return 0;
}

static int is_hung(void *unused)
{
    (void)unused;
    return *hung;
}

static void *destroy(void *leaving)
{
    pool_destroy(leaving);
    return NULL;
}

static void a_pool_being_destroyed_takes_no_calls(void **state)
{
    (void)state;
    pthread_t thread;
    hung = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true((void *)hung != MAP_FAILED);
    struct pool *leaving = pool_create(&(struct pool_options){.workers = 2});
    struct pool_iter *it = pool_imap(leaving, hang, pool_range(1), NULL);       /* its handle keeps the pool's memory */
    assert_true(check_until(is_hung, NULL, 30));
    assert_int_equal(pthread_create(&thread, NULL, destroy, leaving), 0);
    enum pool_status status;
    do {
        status = pool_apply(leaving, task_fn, NULL, 0, NULL, 0, NULL);
        assert_true(status == POOL_OK || status == POOL_CANCELLED || status == POOL_INVALID);
    } while (status != POOL_INVALID);
    refused(leaving, task_fn, pool_range(1), NULL);
    pthread_join(thread, NULL);
    assert_int_equal(pool_next(it)->status, POOL_CANCELLED);
    assert_null(pool_next(it));
    assert_int_equal(pool_iter_status(it), POOL_CANCELLED);
    pool_iter_free(it);
    munmap((void *)(uintptr_t)hung, 4096);
}

/* ---- And after all of it */

static void nothing_was_printed(void **state)
{
    hush();
    a_null_pool_is_refused(state);
    a_null_function_is_refused(state);
    null_with_a_count_is_refused(state);
    products_that_overflow_are_refused(state);
    a_generator_with_out_is_refused(state);
    items_that_no_constructor_made_are_refused(state);
    what_the_call_does_not_honour_is_refused_by_name(state);
    data_is_no_function(state);
    max_workers_below_workers_or_beyond_measure_is_refused(state);
    too_many_workers_are_refused(state);
    null_is_nothing_to_end_or_ask(state);
    a_task_cannot_use_its_own_pool(state);
    assert_int_equal(speak(), 0);
}

static void the_pool_still_works(void **state)
{
    (void)state;
    size_t out[50];
    assert_int_equal(pool_map(pool, task_fn, pool_range(50), out, sizeof *out, NULL), POOL_OK);
    assert_int_equal(out[49], 49);
    assert_string_equal(pool_error(), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_null_pool_is_refused),
        cmocka_unit_test(a_null_function_is_refused),
        cmocka_unit_test(null_with_a_count_is_refused),
        cmocka_unit_test(products_that_overflow_are_refused),
        cmocka_unit_test(a_generator_without_function_is_refused),
        cmocka_unit_test(a_generator_with_out_is_refused),
        cmocka_unit_test(items_that_no_constructor_made_are_refused),
        cmocka_unit_test(a_reserved_field_is_refused),
        cmocka_unit_test(what_the_call_does_not_honour_is_refused_by_name),
        cmocka_unit_test(no_limit_is_a_timeout_that_is_honoured),
        cmocka_unit_test(seconds_that_make_no_sense_are_refused),
        cmocka_unit_test(a_context_at_null_is_refused),
        cmocka_unit_test(any_chunk_and_window_are_hints),
        cmocka_unit_test(a_function_outside_of_all_objects_is_refused),
        cmocka_unit_test(data_is_no_function),
        cmocka_unit_test(max_workers_below_workers_or_beyond_measure_is_refused),
        cmocka_unit_test(a_reserved_option_is_refused),
        cmocka_unit_test(limits_that_make_no_sense_are_refused),
        cmocka_unit_test(too_many_workers_are_refused),
        cmocka_unit_test(descriptors_at_null_are_refused),
        cmocka_unit_test(infinite_limits_are_none),
        cmocka_unit_test(null_is_nothing_to_end_or_ask),
        cmocka_unit_test(no_index_is_too_large_to_ask_for),
        cmocka_unit_test(a_task_cannot_use_its_own_pool),
        cmocka_unit_test(a_pool_being_destroyed_takes_no_calls),
        cmocka_unit_test(nothing_was_printed),
        cmocka_unit_test(the_pool_still_works),
    };
    return cmocka_run_group_tests(tests, open_pool, close_pool);
}
