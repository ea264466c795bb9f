/* What the public calls promise, on real workers: statuses, order, each item once, failures in words, windows, cancels, sizes.
 *
 * Most tests share one pool of two workers, which also shows that nothing of one call is left for the next. Where a task has to be seen
 * running or to be held up it is through words shared with the workers; nobody sleeps to be right. */
#define _GNU_SOURCE
#include "check.h"
#include "clock.h"

#include <forkpool.h>

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { WORKERS = 2, PLACES = 4096 };
#define PATIENCE 30.0

static struct pool *pool;

/* Shared with the workers. */
static struct shared {
    _Atomic int gate;                   /* tasks that wait go on once it is open */
    _Atomic int others;                 /* items that hang beside one that fails */
    _Atomic int started[PLACES];        /* by index: how often */
} *shared;

static int open_pool(void **state)
{
    check_setup(state);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(shared != MAP_FAILED);
    pool = pool_create(&(struct pool_options){.workers = WORKERS});
    if (!pool)
        fail_msg("%s", pool_error());
    return 0;
}

static int close_pool(void **state)
{
    pool_destroy(pool);
    munmap(shared, sizeof *shared);
    return check_teardown(state);
}

static int begin(void **state)
{
    (void)state;
    memset(shared, 0, sizeof *shared);
    return 0;
}

/* ---- Tasks */

static int square(struct pool_task *task)
{
    int x = *(const int *)task->in;
    int y = x * x;
    return pool_return(task, &y, sizeof y);
}

static int count_start(struct pool_task *task)
{
    shared->started[task->index % PLACES]++;
    return pool_return(task, &task->index, sizeof task->index);
}

static int fail_odd(struct pool_task *task)
{
    shared->started[task->index % PLACES]++;
    if (task->index % 2)
        return pool_fail(task, (int)task->index, "item %zu is odd", task->index);
    return pool_return(task, &task->index, sizeof task->index);
}

static int fail_silently(struct pool_task *task)
{
    (void)task;
    return 5;
}

static int return_nothing(struct pool_task *task)
{
    (void)task;
    return 0;
}

static void wait_for(const _Atomic int *word, int least)
{
    const struct timespec pause = {.tv_nsec = 200000};
    while (*word < least)
        nanosleep(&pause, NULL);
}

/* Item 0 ends at once, all others when the gate opens. */
static int wait_at_gate(struct pool_task *task)
{
    shared->started[task->index % PLACES]++;
    if (task->index)
        wait_for(&shared->gate, 1);
    return pool_return(task, &task->index, sizeof task->index);
}

/* Item 0 fails once another runs; those never end. */
static int fail_beside_one_that_hangs(struct pool_task *task)
{
    if (task->index == 0) {
        wait_for(&shared->others, 1);
        return pool_fail(task, 42, "the first");
    }
    shared->others++;
    wait_for(&shared->gate, 1);
    return 0;
}

static int has_started(void *index)
{
    return shared->started[*(size_t *)index] > 0;
}

static void until_started(size_t index)
{
    assert_true(check_until(has_started, &index, PATIENCE));
}

/* ---- map */

static void map_fills_the_array(void **state)
{
    (void)state;
    int xs[1000], ys[1000];
    for (int i = 0; i < 1000; i++)
        xs[i] = i;
    assert_int_equal(pool_map(pool, square, pool_array(xs, 1000, sizeof *xs), ys, sizeof *ys, NULL), POOL_OK);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(ys[i], i * i);
    assert_null(pool_failure());
    assert_string_equal(pool_error(), "");
}

static void map_may_write_over_its_input(void **state)
{
    (void)state;
    static int xs[100000];
    for (int i = 0; i < 100000; i++)
        xs[i] = i % 1000;
    assert_int_equal(pool_map(pool, square, pool_array(xs, 100000, sizeof *xs), xs, sizeof *xs, NULL), POOL_OK);
    for (int i = 0; i < 100000; i++)
        if (xs[i] != i % 1000 * (i % 1000))
            fail_msg("element %d is %d", i, xs[i]);
}

static void map_of_nothing_is_ok(void **state)
{
    (void)state;
    assert_int_equal(pool_map(pool, square, pool_array(NULL, 0, 4), NULL, 4, NULL), POOL_OK);
    assert_int_equal(pool_map(pool, square, pool_range(0), NULL, 0, NULL), POOL_OK);
    assert_int_equal(pool_map(pool, square, pool_buffers(NULL, 0), NULL, 0, NULL), POOL_OK);
}

static void map_runs_each_item_once(void **state)
{
    (void)state;
    const size_t chunks[] = {0, 1, 7, 100000};
    for (size_t c = 0; c < 4; c++) {
        begin(state);
        assert_int_equal(pool_map(pool, count_start, pool_range(PLACES), NULL, 0, &(struct pool_call){.chunk = chunks[c]}), POOL_OK);
        for (size_t i = 0; i < PLACES; i++)
            assert_int_equal(shared->started[i], 1);
    }
}

static void map_returns_the_failure_of_lowest_index(void **state)
{
    (void)state;
    static size_t out[PLACES];
    memset(out, 0xff, sizeof out);
    assert_int_equal(pool_map(pool, fail_odd, pool_range(PLACES), out, sizeof *out, NULL), POOL_FAILED);
    const struct pool_result *f = pool_failure();
    assert_non_null(f);
    assert_int_equal(f->index, 1);
    assert_int_equal(f->status, POOL_FAILED);
    assert_int_equal(f->code, 1);
    assert_int_equal(f->signal, 0);
    assert_int_equal(f->tries, 1);
    assert_true(f->pid == pool_worker_pid(pool, 0) || f->pid == pool_worker_pid(pool, 1));
    assert_null(f->data);
    assert_int_equal(f->size, 0);
    assert_string_equal(f->message, "item 1 is odd");
}

static void the_failures_message_is_the_error(void **state)
{
    (void)state;
    pool_map(pool, fail_odd, pool_range(8), NULL, 0, NULL);
    assert_non_null(strstr(pool_error(), "item 1 is odd"));
}

static void a_failed_place_is_left_and_all_others_filled(void **state)
{
    (void)state;
    static size_t out[PLACES];
    memset(out, 0xff, sizeof out);
    pool_map(pool, fail_odd, pool_range(PLACES), out, sizeof *out, NULL);
    for (size_t i = 0; i < PLACES; i++) {
        assert_int_equal(shared->started[i], 1);
        if (out[i] != (i % 2 ? SIZE_MAX : i))
            fail_msg("place %zu has %zu", i, out[i]);
    }
}

static void a_failure_without_message_has_words_all_the_same(void **state)
{
    (void)state;
    assert_int_equal(pool_map(pool, fail_silently, pool_range(3), NULL, 0, NULL), POOL_FAILED);
    assert_int_equal(pool_failure()->code, 5);
    assert_string_equal(pool_failure()->message, "");
    assert_true(strlen(pool_error()) > 5);
}

static void the_next_map_forgets_the_failure(void **state)
{
    (void)state;
    pool_map(pool, fail_silently, pool_range(3), NULL, 0, NULL);
    assert_int_equal(pool_map(pool, count_start, pool_range(3), NULL, 0, NULL), POOL_OK);
    assert_null(pool_failure());
    assert_string_equal(pool_error(), "");
}

static void asking_for_the_failure_disturbs_nothing(void **state)
{
    (void)state;
    pool_map(pool, fail_silently, pool_range(3), NULL, 0, NULL);
    char words[200];
    snprintf(words, sizeof words, "%s", pool_error());
    errno = 77;
    pool_failure();
    pool_status_text(POOL_FAILED);
    pool_error();
    assert_int_equal(errno, 77);
    assert_string_equal(pool_error(), words);
    assert_int_equal(pool_failure()->code, 5);
}

static int return_index_bytes(struct pool_task *task)
{
    static char bytes[100];
    return pool_return(task, bytes, task->index);
}

static void a_result_of_the_wrong_size_fails_with_code_0(void **state)
{
    (void)state;
    unsigned char out[8][4];
    memset(out, 0xee, sizeof out);
    assert_int_equal(pool_map(pool, return_index_bytes, pool_range(8), out, 4, NULL), POOL_FAILED);
    assert_int_equal(pool_failure()->index, 0);
    assert_int_equal(pool_failure()->code, 0);
    assert_true(strlen(pool_failure()->message) > 10);
    for (int i = 0; i < 8; i++)
        assert_int_equal(out[i][0], i == 4 ? 0 : 0xee);
}

static void dropped_results_may_have_any_size(void **state)
{
    (void)state;
    assert_int_equal(pool_map(pool, return_index_bytes, pool_range(100), NULL, 0, NULL), POOL_OK);
}

static void an_empty_result_fits_an_out_size_of_0(void **state)
{
    (void)state;
    char out[1];
    assert_int_equal(pool_map(pool, return_nothing, pool_range(100), out, 0, NULL), POOL_OK);
    assert_int_equal(pool_map(pool, return_nothing, pool_range(1), out, 1, NULL), POOL_FAILED);
}

static void map_with_fail_fast_kills_what_runs(void **state)
{
    (void)state;
    struct pool_call call = {.fail_fast = 1};
    assert_int_equal(pool_map(pool, fail_beside_one_that_hangs, pool_range(PLACES), NULL, 0, &call), POOL_FAILED);
    assert_int_equal(pool_failure()->index, 0);
    assert_int_equal(pool_failure()->code, 42);
    assert_in_range(shared->others, 1, WORKERS);
}

/* ---- apply */

static void apply_runs_one_item(void **state)
{
    (void)state;
    int y = 0;
    assert_int_equal(pool_apply(pool, square, &(int){12}, sizeof(int), &y, sizeof y, NULL), POOL_OK);
    assert_int_equal(y, 144);
}

static void apply_takes_nothing_and_drops_what_comes(void **state)
{
    (void)state;
    assert_int_equal(pool_apply(pool, count_start, NULL, 0, NULL, 0, NULL), POOL_OK);
    assert_int_equal(shared->started[0], 1);
}

static void apply_tells_its_failure(void **state)
{
    (void)state;
    assert_int_equal(pool_apply(pool, fail_silently, NULL, 0, NULL, 0, NULL), POOL_FAILED);
    assert_int_equal(pool_failure()->code, 5);
    assert_int_equal(pool_failure()->index, 0);
}

static void apply_wants_the_exact_size(void **state)
{
    (void)state;
    long y = 99;
    assert_int_equal(pool_apply(pool, square, &(int){12}, sizeof(int), &y, sizeof y, NULL), POOL_FAILED);
    assert_int_equal(pool_failure()->code, 0);
    assert_int_equal(y, 99);
}

/* ---- map_results */

static void a_list_has_each_end_in_its_place(void **state)
{
    (void)state;
    struct pool_results *list = pool_map_results(pool, fail_odd, pool_range(PLACES), NULL);
    assert_non_null(list);
    assert_int_equal(pool_results_count(list), PLACES);
    assert_int_equal(pool_results_status(list), POOL_FAILED);
    for (size_t i = 0; i < PLACES; i++) {
        const struct pool_result *r = pool_results_at(list, i);
        assert_int_equal(r->index, i);
        assert_int_equal(r->status, i % 2 ? POOL_FAILED : POOL_OK);
        assert_int_equal(r->tries, 1);
        if (i % 2)
            assert_null(r->data);
        else
            assert_int_equal(*(const size_t *)r->data, i);
    }
    pool_results_free(list);
}

static void a_list_of_nothing_is_a_list(void **state)
{
    (void)state;
    struct pool_results *list = pool_map_results(pool, fail_odd, pool_range(0), NULL);
    assert_non_null(list);
    assert_int_equal(pool_results_count(list), 0);
    assert_int_equal(pool_results_status(list), POOL_OK);
    pool_results_free(list);
}

static void a_list_with_fail_fast_tells_what_never_started(void **state)
{
    (void)state;
    struct pool_results *list = pool_map_results(pool, fail_beside_one_that_hangs, pool_range(500), &(struct pool_call){.fail_fast = 1});
    assert_non_null(list);
    assert_int_equal(pool_results_status(list), POOL_FAILED);
    assert_int_equal(pool_results_count(list), 500);
    assert_int_equal(pool_results_at(list, 0)->code, 42);
    unsigned killed = 0;
    for (size_t i = 1; i < 500; i++) {
        assert_int_equal(pool_results_at(list, i)->status, POOL_CANCELLED);
        assert_null(pool_results_at(list, i)->data);
        killed += pool_results_at(list, i)->tries;
    }
    assert_true(killed >= (unsigned)shared->others);        /* one may be killed between its claim, which counts, and its first step */
    pool_results_free(list);
}

/* ---- Generators */

struct counter { size_t pulled, count; int code; const void *data; size_t size; };

static int pull(void *cursor, struct pool_bytes *item)
{
    struct counter *c = cursor;
    if (c->pulled == c->count)
        return c->code;
    c->pulled++;
    *item = c->data ? (struct pool_bytes){c->data, c->size} : (struct pool_bytes){&c->pulled, sizeof c->pulled};
    return 1;
}

static int check_pulled(struct pool_task *task)
{
    shared->started[task->index % PLACES]++;
    return task->in_size == sizeof(size_t) && *(const size_t *)task->in == task->index + 1 ? 0 : 1;
}

static void a_generators_items_run_once_each(void **state)
{
    (void)state;
    struct counter c = {.count = PLACES};
    assert_int_equal(pool_map(pool, check_pulled, pool_generator(pull, &c), NULL, 0, NULL), POOL_OK);
    for (size_t i = 0; i < PLACES; i++)
        assert_int_equal(shared->started[i], 1);
}

static void a_failed_generator_ends_a_map(void **state)
{
    (void)state;
    struct counter c = {.count = 100, .code = -8};
    assert_int_equal(pool_map(pool, check_pulled, pool_generator(pull, &c), NULL, 0, NULL), POOL_SOURCE_FAILED);
    assert_int_equal(pool_failure()->code, -8);
    assert_int_equal(pool_failure()->index, 100);
    assert_int_equal(pool_failure()->pid, 0);
    assert_int_equal(shared->started[99], 1);
}

static void a_failed_item_comes_before_a_failed_generator(void **state)
{
    (void)state;
    struct counter c = {.count = 100, .code = -8};
    assert_int_equal(pool_map(pool, fail_odd, pool_generator(pull, &c), NULL, 0, NULL), POOL_FAILED);
    assert_int_equal(pool_failure()->index, 1);
}

static void a_failed_generator_adds_an_entry_to_a_list(void **state)
{
    (void)state;
    struct counter c = {.count = 10, .code = -8};
    struct pool_results *list = pool_map_results(pool, count_start, pool_generator(pull, &c), NULL);
    assert_int_equal(pool_results_count(list), 11);
    assert_int_equal(pool_results_at(list, 9)->status, POOL_OK);
    assert_int_equal(pool_results_at(list, 10)->status, POOL_SOURCE_FAILED);
    assert_int_equal(pool_results_at(list, 10)->code, -8);
    assert_int_equal(pool_results_status(list), POOL_SOURCE_FAILED);
    pool_results_free(list);
}

static void a_failed_generator_ends_an_iteration_with_one_last_result(void **state)
{
    (void)state;
    for (int ordered = 0; ordered < 2; ordered++) {
        struct counter c = {.count = 50, .code = -8};
        struct pool_iter *it = (ordered ? pool_imap : pool_imap_unordered)(pool, count_start, pool_generator(pull, &c), NULL);
        const struct pool_result *r;
        size_t count = 0;
        enum pool_status last = POOL_OK;
        for (; (r = pool_next(it)); count++) {
            assert_true(count < 51);
            if (ordered)
                assert_int_equal(r->status, count < 50 ? POOL_OK : POOL_SOURCE_FAILED);
            last = r->status;
        }
        assert_int_equal(count, 51);
        assert_int_equal(last, POOL_SOURCE_FAILED);
        assert_int_equal(pool_iter_status(it), POOL_SOURCE_FAILED);
        pool_iter_free(it);
    }
}

static int give_null(void *cursor, struct pool_bytes *item)
{
    (void)cursor;
    *item = (struct pool_bytes){NULL, 5};
    return 1;
}

static void a_generators_null_with_a_size_is_its_failure(void **state)
{
    (void)state;
    assert_int_equal(pool_map(pool, count_start, pool_generator(give_null, NULL), NULL, 0, NULL), POOL_SOURCE_FAILED);
}

/* ---- imap */

static void imap_keeps_the_order(void **state)
{
    (void)state;
    struct pool_iter *it = pool_imap(pool, fail_odd, pool_range(PLACES), NULL);
    const struct pool_result *r;
    size_t i = 0;
    for (; (r = pool_next(it)); i++) {
        assert_int_equal(r->index, i);
        assert_int_equal(r->status, i % 2 ? POOL_FAILED : POOL_OK);
        if (i % 2)
            assert_int_equal(r->code, i);
        else
            assert_int_equal(*(const size_t *)r->data, i);
    }
    assert_int_equal(i, PLACES);
    assert_string_equal(pool_error(), "");
    assert_int_equal(pool_iter_status(it), POOL_OK);
    assert_null(pool_next(it));
    pool_iter_free(it);
}

static void imap_unordered_gives_each_once(void **state)
{
    (void)state;
    static unsigned char seen[PLACES];
    memset(seen, 0, sizeof seen);
    struct pool_iter *it = pool_imap_unordered(pool, count_start, pool_range(PLACES), NULL);
    const struct pool_result *r;
    while ((r = pool_next(it))) {
        assert_int_equal(*(const size_t *)r->data, r->index);
        seen[r->index]++;
    }
    for (size_t i = 0; i < PLACES; i++) {
        assert_int_equal(seen[i], 1);
        assert_int_equal(shared->started[i], 1);
    }
    assert_int_equal(pool_iter_status(it), POOL_OK);
    pool_iter_free(it);
}

static void imap_unordered_gives_first_what_is_done_first(void **state)
{
    (void)state;
    struct pool_iter *it = pool_imap_unordered(pool, fail_beside_one_that_hangs, pool_range(2), NULL);
    assert_int_equal(pool_next(it)->index, 0);
    shared->gate = 1;
    assert_int_equal(pool_next(it)->index, 1);
    assert_null(pool_next(it));
    pool_iter_free(it);
}

static void imap_of_nothing_ends_ok(void **state)
{
    (void)state;
    struct pool_iter *it = pool_imap(pool, square, pool_range(0), NULL);
    assert_non_null(it);
    assert_int_equal(pool_iter_status(it), POOL_OK);
    assert_null(pool_next(it));
    assert_int_equal(pool_iter_status(it), POOL_OK);
    pool_iter_free(it);
}

static void imap_starts_without_being_asked(void **state)
{
    (void)state;
    struct pool_iter *it = pool_imap(pool, count_start, pool_range(1), NULL);
    until_started(0);
    pool_iter_free(it);
}

static void an_iterator_is_pending_until_all_is_delivered(void **state)
{
    (void)state;
    struct pool_iter *it = pool_imap(pool, count_start, pool_range(3), NULL);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pool_iter_status(it), POOL_PENDING);
        assert_non_null(pool_next(it));
    }
    assert_null(pool_next(it));
    assert_int_equal(pool_iter_status(it), POOL_OK);
    pool_iter_free(it);
}

static void a_result_holds_until_the_next_call(void **state)
{
    (void)state;
    struct pool_iter *it = pool_imap(pool, count_start, pool_range(PLACES), &(struct pool_call){.window = 2});
    const struct pool_result *r;
    for (size_t i = 0; (r = pool_next(it)); i++) {
        struct pool_result copy = *r;
        size_t value = *(const size_t *)r->data;
        if (i % 64 == 0)
            assert_int_equal(pool_map(pool, return_nothing, pool_range(50), NULL, 0, NULL), POOL_OK);
        assert_memory_equal(&copy, r, sizeof copy);
        assert_int_equal(*(const size_t *)r->data, value);
    }
    pool_iter_free(it);
}

static void a_window_is_never_overrun(void **state)
{
    (void)state;
    for (size_t window = 1; window <= 9; window += 4) {
        for (int ordered = 0; ordered < 2; ordered++) {
            struct counter c = {.count = 300};
            size_t delivered = 0;
            struct pool_iter *it = (ordered ? pool_imap : pool_imap_unordered)(pool, count_start, pool_generator(pull, &c),
                                                                               &(struct pool_call){.window = window});
            do {
                if (c.pulled > delivered + window)
                    fail_msg("%zu were pulled when %zu of a window of %zu were delivered", c.pulled, delivered, window);
                delivered++;
            } while (pool_next(it));
            assert_int_equal(delivered, 301);
            pool_iter_free(it);
        }
    }
}

static void an_open_window_is_pulled_to_64_mib_at_most(void **state)
{
    (void)state;
    struct counter c = {.count = 20, .size = 24 << 20};
    c.data = calloc(1, c.size);
    assert_non_null(c.data);
    struct pool_iter *it = pool_imap(pool, return_nothing, pool_generator(pull, &c), NULL);
    assert_true(c.pulled >= 1);
    assert_true(c.pulled <= 3);
    pool_iter_free(it);
    free((void *)(uintptr_t)c.data);
}

static void two_iterators_and_a_map_get_on(void **state)
{
    (void)state;
    struct pool_iter *a = pool_imap(pool, count_start, pool_range(1000), NULL), *b = pool_imap(pool, fail_odd, pool_range(1000), NULL);
    for (size_t i = 0; i < 1000; i++) {
        assert_int_equal(pool_next(a)->status, POOL_OK);
        assert_int_equal(pool_next(b)->index, i);
        if (i % 100 == 0)
            assert_int_equal(pool_map(pool, return_nothing, pool_range(10), NULL, 0, NULL), POOL_OK);
    }
    assert_null(pool_next(a));
    assert_null(pool_next(b));
    pool_iter_free(a);
    pool_iter_free(b);
}

static void a_freed_iterator_leaves_the_pool_as_it_was(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++) {
        struct pool_iter *it = pool_imap(pool, count_start, pool_range(1000000), NULL);
        for (int k = 0; k < i % 5; k++)
            pool_next(it);
        pool_iter_free(it);
    }
    assert_int_equal(pool_map(pool, return_nothing, pool_range(100), NULL, 0, NULL), POOL_OK);
}

/* ---- next with a time */

static void next_times_out_and_goes_on(void **state)
{
    (void)state;
    struct pool_iter *it = pool_imap(pool, wait_at_gate, pool_range(2), NULL);
    assert_int_equal(pool_next(it)->index, 0);
    const double times[] = {0, (double)NAN, 0.01};
    for (int i = 0; i < 3; i++) {
        assert_null(pool_next_timeout(it, times[i]));
        assert_int_equal(pool_iter_status(it), POOL_PENDING);
        assert_string_equal(pool_error(), "");
    }
    shared->gate = 1;
    const struct pool_result *r = pool_next_timeout(it, -1);
    assert_int_equal(r->index, 1);
    assert_null(pool_next_timeout(it, -0.5));
    assert_int_equal(pool_iter_status(it), POOL_OK);
    pool_iter_free(it);
}

static void next_waits_as_long_as_it_is_told(void **state)
{
    (void)state;
    struct pool_iter *it = pool_imap(pool, wait_at_gate, pool_range(2), NULL);
    pool_next(it);
    int64_t begun = clock_now();
    assert_null(pool_next_timeout(it, 0.05));
    assert_true(clock_now() - begun >= 50000000);
    shared->gate = 1;
    assert_non_null(pool_next_timeout(it, PATIENCE));
    pool_iter_free(it);
}

static int there_is_one(void *it)
{
    return pool_next_timeout(it, 0) != NULL;
}

static void next_without_waiting_finds_what_is_done(void **state)
{
    (void)state;
    struct pool_iter *it = pool_imap(pool, count_start, pool_range(3), NULL);
    for (int i = 0; i < 3; i++)
        assert_true(check_until(there_is_one, it, PATIENCE));
    assert_null(pool_next_timeout(it, 0));
    assert_int_equal(pool_iter_status(it), POOL_OK);
    pool_iter_free(it);
}

static void next_of_null_is_the_end(void **state)
{
    (void)state;
    assert_null(pool_next(NULL));
    assert_null(pool_next_timeout(NULL, 1));
    assert_int_equal(pool_iter_status(NULL), POOL_INVALID);
    pool_iter_cancel(NULL);
    pool_iter_free(NULL);
}

/* ---- Cut short */

static void cancel_delivers_what_is_done_and_kills_what_runs(void **state)
{
    (void)state;
    struct pool_iter *it = pool_imap(pool, wait_at_gate, pool_range(100), NULL);
    assert_int_equal(pool_next(it)->index, 0);
    until_started(1);
    pool_iter_cancel(it);
    size_t cancelled = 0;
    const struct pool_result *r;
    while ((r = pool_next(it))) {
        assert_int_equal(r->status, POOL_CANCELLED);
        assert_true(r->tries == 1);
        cancelled++;
    }
    assert_true(cancelled >= 1 && cancelled <= WORKERS);
    assert_int_equal(pool_iter_status(it), POOL_CANCELLED);
    pool_iter_free(it);
}

static int hang_first(struct pool_task *task)
{
    shared->started[task->index]++;
    if (task->index == 0)
        wait_for(&shared->gate, 1);
    return 0;
}

static int all_50_started(void *it)
{
    int count = 0;
    pool_next_timeout(it, 0);                   /* hands out what waits; in order, nothing can come before item 0 */
    for (int i = 0; i < 50; i++)
        count += shared->started[i];
    return count == 50;
}

static void what_finished_before_a_cancel_is_still_delivered(void **state)
{
    (void)state;
    struct pool_iter *it = pool_imap(pool, hang_first, pool_range(50), NULL);
    assert_true(check_until(all_50_started, it, PATIENCE));
    pool_iter_cancel(it);
    assert_int_equal(pool_next(it)->status, POOL_CANCELLED);
    const struct pool_result *r;
    int ok = 0;
    while ((r = pool_next(it)))
        ok += r->status == POOL_OK;
    assert_in_range(ok, 48, 49);                /* the one that started last may not have ended */
    assert_int_equal(pool_iter_status(it), POOL_CANCELLED);
    pool_iter_free(it);
}

static void a_cancel_after_the_end_changes_nothing(void **state)
{
    (void)state;
    struct pool_iter *it = pool_imap(pool, count_start, pool_range(2), NULL);
    while (pool_next(it))
        ;
    pool_iter_cancel(it);
    assert_int_equal(pool_iter_status(it), POOL_OK);
    pool_iter_free(it);
}

static void a_pool_goes_on_after_a_cancel(void **state)
{
    (void)state;
    struct pool_iter *it = pool_imap(pool, wait_at_gate, pool_range(100), NULL);
    until_started(1);
    pool_iter_cancel(it);
    while (pool_next(it))
        ;                                       /* whoever had just begun is dead then */
    pool_iter_free(it);
    begin(state);
    assert_int_equal(pool_map(pool, count_start, pool_range(PLACES), NULL, 0, NULL), POOL_OK);
    for (size_t i = 0; i < PLACES; i++)
        assert_int_equal(shared->started[i], 1);
}

static void imap_with_fail_fast_ends_after_its_failure(void **state)
{
    (void)state;
    for (int ordered = 0; ordered < 2; ordered++) {
        begin(state);
        struct pool_iter *it = (ordered ? pool_imap : pool_imap_unordered)(pool, fail_beside_one_that_hangs, pool_range(PLACES),
                                                                           &(struct pool_call){.fail_fast = 1});
        const struct pool_result *r = pool_next(it);
        assert_non_null(r);
        assert_int_equal(r->index, 0);
        assert_int_equal(r->status, POOL_FAILED);
        assert_int_equal(r->code, 42);
        assert_null(pool_next(it));
        assert_int_equal(pool_iter_status(it), POOL_FAILED);
        pool_iter_free(it);
    }
}

static void an_iterator_outlives_its_pool(void **state)
{
    (void)state;
    struct pool *own = pool_create(&(struct pool_options){.workers = 1});
    struct pool_iter *it = pool_imap(own, count_start, pool_range(50), NULL);
    assert_int_equal(pool_next(it)->index, 0);
    pool_destroy(own);
    const struct pool_result *r;
    enum pool_status last = POOL_OK;
    while ((r = pool_next(it))) {
        assert_true(r->status == POOL_OK || r->status == POOL_CANCELLED);
        if (r->status == POOL_OK)
            assert_int_equal(*(const size_t *)r->data, r->index);
        last = r->status == POOL_OK && r->index == 49 ? POOL_OK : POOL_CANCELLED;
    }
    assert_int_equal(pool_iter_status(it), last);
    pool_iter_free(it);
}

static int give_large(struct pool_task *task)
{
    memset(pool_out(task, 100000), (int)task->index + 1, 100000);
    return 0;
}

static void a_large_result_in_hand_outlives_its_pool(void **state)
{
    (void)state;
    struct pool *own = pool_create(&(struct pool_options){.workers = 1});
    struct pool_iter *it = pool_imap(own, give_large, pool_range(50), NULL);
    const struct pool_result *r = pool_next(it);
    pool_destroy(own);
    assert_int_equal(r->size, 100000);
    for (size_t i = 0; i < r->size; i++)
        assert_int_equal(((const char *)r->data)[i], 1);
    pool_iter_free(it);
}

/* ---- Sizes and alignment */

enum { SMALL = 16 << 10, SLOT = 8 << 20 };

static const size_t sizes[] = {0, 1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 4095, 4096, 4097, SMALL - 1, SMALL, SMALL + 1,
                               262143, 262144, 262145, SLOT - 1, SLOT, SLOT + 1, 9 << 20};
enum { SIZES = sizeof sizes / sizeof *sizes };

static unsigned char *pattern(size_t size)
{
    unsigned char *bytes = aligned_alloc(64, (size + 63) / 64 * 64 + 64);
    assert_non_null(bytes);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (unsigned char)(i ^ i >> 8 ^ i >> 16);
    return bytes;
}

static size_t wanted_alignment(size_t size)
{
    size_t align = size & -size;
    return align && align < 64 ? align : size ? 64 : 1;
}

static int echo(struct pool_task *task)
{
    return pool_return(task, task->in, task->in_size);
}

static int echo_aligned(struct pool_task *task)
{
    if ((uintptr_t)task->in % wanted_alignment(task->in_size))
        return pool_fail(task, 1, "an item of %zu bytes at %p", task->in_size, task->in);
    void *out = pool_out(task, task->in_size);
    size_t wanted = wanted_alignment(task->in_size);
    if (!out || (uintptr_t)out % (wanted < 16 ? wanted : 16))
        return pool_fail(task, 2, "room for %zu bytes at %p", task->in_size, out);
    if (task->in_size)
        memcpy(out, task->in, task->in_size);
    return 0;
}

static int echo_buffer(struct pool_task *task)
{
    return task->in_size && (uintptr_t)task->in % 16 ? pool_fail(task, 1, "a buffer at %p", task->in) : echo(task);
}

static void results_of_every_size_fill_an_array(void **state)
{
    (void)state;
    for (size_t i = 1; i < SIZES; i++) {
        const size_t count = 3;
        unsigned char *in = pattern(sizes[i] * count), *out = calloc(count, sizes[i]);
        assert_non_null(out);
        if (pool_map(pool, echo_aligned, pool_array(in, count, sizes[i]), out, sizes[i], NULL))
            fail_msg("%zu bytes: %s", sizes[i], pool_error());
        if (memcmp(in, out, sizes[i] * count))
            fail_msg("results of %zu bytes are wrong", sizes[i]);
        free(in);
        free(out);
    }
}

static void items_of_every_size_are_streamed(void **state)
{
    (void)state;
    struct pool_bytes list[SIZES];
    unsigned char *bytes = pattern(9 << 20);
    for (size_t i = 0; i < SIZES; i++)
        list[i] = (struct pool_bytes){bytes + i, sizes[i] < i ? 0 : sizes[i] - i};
    struct pool_iter *it = pool_imap(pool, echo_buffer, pool_buffers(list, SIZES), NULL);
    const struct pool_result *r;
    size_t i = 0;
    for (; (r = pool_next(it)); i++) {
        if (r->status)
            fail_msg("%s", r->message);
        assert_int_equal(r->size, list[i].size);
        assert_non_null(r->data);
        assert_int_equal((uintptr_t)r->data % 16, 0);
        if (memcmp(r->data, list[i].data, r->size))
            fail_msg("the result of %zu bytes is wrong", r->size);
    }
    assert_int_equal(i, SIZES);
    pool_iter_free(it);
    free(bytes);
}

static void results_of_every_size_are_listed(void **state)
{
    (void)state;
    struct pool_bytes list[SIZES];
    unsigned char *bytes = pattern(9 << 20);
    for (size_t i = 0; i < SIZES; i++)
        list[i] = (struct pool_bytes){bytes, sizes[i]};
    struct pool_results *results = pool_map_results(pool, echo, pool_buffers(list, SIZES), NULL);
    assert_int_equal(pool_results_status(results), POOL_OK);
    for (size_t i = 0; i < SIZES; i++) {
        const struct pool_result *r = pool_results_at(results, i);
        assert_int_equal(r->size, sizes[i]);
        assert_int_equal((uintptr_t)r->data % 16, 0);
        assert_int_equal(memcmp(r->data, bytes, sizes[i]), 0);
    }
    pool_results_free(results);
    free(bytes);
}

static void many_large_results_stay_right_in_a_slow_consumers_window(void **state)
{
    (void)state;
    struct counter c = {.count = 40, .size = 200000};
    unsigned char *bytes = pattern(c.size);
    c.data = bytes;
    struct pool_iter *it = pool_imap(pool, echo, pool_generator(pull, &c), &(struct pool_call){.window = 20});
    const struct pool_result *r;
    size_t i = 0;
    for (; (r = pool_next(it)); i++) {
        assert_int_equal(r->size, c.size);
        assert_int_equal(memcmp(r->data, bytes, c.size), 0);
    }
    assert_int_equal(i, 40);
    pool_iter_free(it);
    free(bytes);
}

static int out_twice(struct pool_task *task)
{
    const size_t first[] = {10, 100, 100000, 9 << 20, 4}, second[] = {100000, 4, 20, 30000, 9 << 20};
    memset(pool_out(task, first[task->index]), 1, first[task->index]);
    memset(pool_out(task, second[task->index]), 2, second[task->index]);
    return 0;
}

static void a_second_out_replaces_the_first(void **state)
{
    (void)state;
    const size_t second[] = {100000, 4, 20, 30000, 9 << 20};
    struct pool_results *results = pool_map_results(pool, out_twice, pool_range(5), NULL);
    for (size_t i = 0; i < 5; i++) {
        const struct pool_result *r = pool_results_at(results, i);
        assert_int_equal(r->size, second[i]);
        assert_int_equal(*(const unsigned char *)r->data, 2);
        assert_int_equal(((const unsigned char *)r->data)[r->size - 1], 2);
    }
    pool_results_free(results);
}

static int return_null(struct pool_task *task)
{
    return task->index ? pool_return(task, NULL, 4) : pool_return(task, NULL, 0);
}

static void return_of_null_with_a_size_fails(void **state)
{
    (void)state;
    struct pool_results *results = pool_map_results(pool, return_null, pool_range(2), NULL);
    assert_int_equal(pool_results_at(results, 0)->status, POOL_OK);
    assert_int_equal(pool_results_at(results, 0)->size, 0);
    assert_non_null(pool_results_at(results, 0)->data);
    assert_int_equal(pool_results_at(results, 1)->status, POOL_FAILED);
    assert_true(pool_results_at(results, 1)->code != 0);
    assert_non_null(strstr(pool_results_at(results, 1)->message, "NULL"));
    pool_results_free(results);
}

static int out_without_end(struct pool_task *task)
{
    return pool_out(task, SIZE_MAX / 4) ? 0 : 12;
}

static void out_of_more_than_memory_is_null(void **state)
{
    (void)state;
    assert_int_equal(pool_apply(pool, out_without_end, NULL, 0, NULL, 0, NULL), POOL_FAILED);
    assert_int_equal(pool_failure()->code, 12);
}

static int fail_at_length(struct pool_task *task)
{
    char text[3000];
    memset(text, 'm', sizeof text);
    text[998 + task->index] = '\0';
    return pool_fail(task, 0, "%s", text);
}

static void a_message_is_cut_after_1000_bytes(void **state)
{
    (void)state;
    struct pool_results *results = pool_map_results(pool, fail_at_length, pool_range(2000), NULL);
    for (size_t i = 0; i < 2000; i++) {
        assert_int_equal(strlen(pool_results_at(results, i)->message), i < 2 ? 998 + i : 1000);
        assert_int_equal(pool_results_at(results, i)->code, -1);
    }
    pool_results_free(results);
    assert_int_equal(pool_map(pool, fail_at_length, pool_range(3), NULL, 0, NULL), POOL_FAILED);
    assert_int_equal(strlen(pool_failure()->message), 998);
}

/* ---- The common context */

static int check_common(struct pool_task *task)
{
    const unsigned char *bytes = task->common;
    if (task->common_size != *(const size_t *)task->in || (!bytes && task->common_size) || (uintptr_t)bytes % 16)
        return pool_fail(task, 1, "%zu bytes of context at %p", task->common_size, task->common);
    for (size_t i = 0; i < task->common_size; i++)
        if (bytes[i] != (unsigned char)(i ^ i >> 8 ^ i >> 16))
            return pool_fail(task, 2, "byte %zu of the context is wrong", i);
    return 0;
}

static void the_context_reaches_every_item_whatever_its_size(void **state)
{
    (void)state;
    const size_t all[] = {0, 1, 100, SMALL - 1, SMALL, SMALL + 1, 262145, 1 << 20, SLOT + 1};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        size_t items[20];
        for (size_t k = 0; k < 20; k++)
            items[k] = all[i];
        unsigned char *common = pattern(all[i]);
        struct pool_call call = {.common = all[i] ? common : NULL, .common_size = all[i]};
        if (pool_map(pool, check_common, pool_array(items, 20, sizeof *items), NULL, 0, &call))
            fail_msg("%zu bytes: %s", all[i], pool_error());
        free(common);
    }
}

static int sum_common(struct pool_task *task)
{
    int sum = *(const int *)task->common + (int)task->index;
    return pool_return(task, &sum, sizeof sum);
}

static void an_iterators_context_is_copied_when_it_is_made(void **state)
{
    (void)state;
    int common = 1000;
    struct pool_call call = {.common = &common, .common_size = sizeof common};
    struct pool_iter *it = pool_imap(pool, sum_common, pool_range(2000), &call);
    common = -1;
    const struct pool_result *r;
    for (int i = 0; (r = pool_next(it)); i++)
        assert_int_equal(*(const int *)r->data, 1000 + i);
    pool_iter_free(it);
}

static void calls_at_once_have_their_own_contexts(void **state)
{
    (void)state;
    struct pool_iter *its[30];
    for (int i = 0; i < 30; i++) {
        int common = i * 100000;
        its[i] = pool_imap(pool, sum_common, pool_range(100), &(struct pool_call){.common = &common, .common_size = sizeof common});
    }
    for (int k = 0; k < 100; k++)
        for (int i = 0; i < 30; i++)
            assert_int_equal(*(const int *)pool_next(its[i])->data, i * 100000 + k);
    for (int i = 0; i < 30; i++)
        pool_iter_free(its[i]);
}

/* ---- The pool itself */

static int tell_worker(struct pool_task *task)
{
    struct { unsigned index; pid_t pid; void *arg, *state; } me = {task->worker->index, getpid(), task->worker->arg, task->worker->state};
    if (task->index < WORKERS) {            /* each worker has one of the first two */
        shared->started[task->index]++;
        wait_for(&shared->started[!task->index], 1);
    }
    return pool_return(task, &me, sizeof me);
}

static int set_state(struct pool_worker *worker)
{
    worker->state = (char *)worker->arg + worker->index;
    return 0;
}

static void a_worker_knows_itself_and_what_its_initializer_left(void **state)
{
    (void)state;
    static char arg[WORKERS];
    struct { unsigned index; pid_t pid; char *arg, *state; } me[WORKERS];
    struct pool *own = pool_create(&(struct pool_options){.workers = WORKERS, .initializer = set_state, .initarg = arg});
    assert_non_null(own);
    assert_int_equal(pool_size(own), WORKERS);
    assert_int_equal(pool_map(own, tell_worker, pool_range(WORKERS), me, sizeof *me, NULL), POOL_OK);
    assert_int_equal(me[0].index + me[1].index, 1);
    for (int i = 0; i < WORKERS; i++) {
        assert_int_equal(me[i].pid, pool_worker_pid(own, me[i].index));
        assert_ptr_equal(me[i].arg, arg);
        assert_ptr_equal(me[i].state, arg + me[i].index);
    }
    assert_int_equal(pool_worker_pid(own, WORKERS), 0);
    pool_destroy(own);
}

static int is_open(struct pool_task *task)
{
    return fcntl(*(const int *)task->in, F_GETFD) >= 0 ? 0 : errno;
}

static void workers_keep_what_was_open_unless_told_to_close(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    for (int closes = 0; closes < 2; closes++) {
        struct pool_options options = {.workers = 1, .close_fds = (unsigned)closes, .pass_fds = &ends[1], .pass_fds_count = 1};
        struct pool *own = pool_create(&options);
        assert_non_null(own);
        assert_int_equal(pool_apply(own, is_open, &ends[0], sizeof(int), NULL, 0, NULL), closes ? POOL_FAILED : POOL_OK);
        if (closes)
            assert_int_equal(pool_failure()->code, EBADF);
        assert_int_equal(pool_apply(own, is_open, &ends[1], sizeof(int), NULL, 0, NULL), POOL_OK);
        for (int fd = 0; fd < 3; fd++)
            assert_int_equal(pool_apply(own, is_open, &fd, sizeof(int), NULL, 0, NULL), POOL_OK);
        pool_destroy(own);
    }
    close(ends[0]);
    close(ends[1]);
}

/* ---- Functions of libraries */

static pool_fn *plugin_task(void *library)
{
    void *address = dlsym(library, "plugin_task");
    pool_fn *fn;
    assert_non_null(address);
    memcpy(&fn, &address, sizeof fn);
    return fn;
}

static void *load(const char *path)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        fail_msg("%s", dlerror());
    return library;
}

static void a_library_loaded_before_the_pool_works(void **state)
{
    (void)state;
    void *library = load(PLUGIN_B);
    struct pool *own = pool_create(&(struct pool_options){.workers = 1});
    assert_int_equal(pool_apply(own, plugin_task(library), NULL, 0, NULL, 0, NULL), POOL_FAILED);
    assert_int_equal(pool_failure()->code, 2);
    pool_destroy(own);
    dlclose(library);
}

static void a_library_that_only_the_host_loaded_is_refused_in_words(void **state)
{
    (void)state;
    struct pool *own = pool_create(&(struct pool_options){.workers = 1});
    void *library = load(PLUGIN_A);
    assert_int_equal(pool_apply(own, plugin_task(library), NULL, 0, NULL, 0, NULL), POOL_FAILED);
    assert_int_equal(pool_failure()->code, -1);
    assert_non_null(strstr(pool_failure()->message, "load"));
    assert_int_equal(pool_apply(own, return_nothing, NULL, 0, NULL, 0, NULL), POOL_OK);
    pool_destroy(own);
    dlclose(library);
}

static int load_both(struct pool_worker *worker)
{
    (void)worker;
    return dlopen(PLUGIN_B, RTLD_NOW | RTLD_LOCAL) && dlopen(PLUGIN_A, RTLD_NOW | RTLD_LOCAL) ? 0 : 1;
}

/* The worker has B where the host has A: by its bare address the other library's function would run. */
static void a_library_at_another_address_in_the_worker_is_the_right_one(void **state)
{
    (void)state;
    struct pool *own = pool_create(&(struct pool_options){.workers = 1, .initializer = load_both});
    assert_non_null(own);
    void *a = load(PLUGIN_A), *b = load(PLUGIN_B);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pool_apply(own, plugin_task(a), NULL, 0, NULL, 0, NULL), POOL_FAILED);
        assert_int_equal(pool_failure()->code, 1);
        assert_int_equal(pool_apply(own, plugin_task(b), NULL, 0, NULL, 0, NULL), POOL_FAILED);
        assert_int_equal(pool_failure()->code, 2);
    }
    pool_destroy(own);
    dlclose(a);
    dlclose(b);
}

#define on_pool(test) cmocka_unit_test_setup(test, begin)

int main(void)
{
    const struct CMUnitTest tests[] = {
        on_pool(map_fills_the_array),
        on_pool(map_may_write_over_its_input),
        on_pool(map_of_nothing_is_ok),
        on_pool(map_runs_each_item_once),
        on_pool(map_returns_the_failure_of_lowest_index),
        on_pool(the_failures_message_is_the_error),
        on_pool(a_failed_place_is_left_and_all_others_filled),
        on_pool(a_failure_without_message_has_words_all_the_same),
        on_pool(the_next_map_forgets_the_failure),
        on_pool(asking_for_the_failure_disturbs_nothing),
        on_pool(a_result_of_the_wrong_size_fails_with_code_0),
        on_pool(dropped_results_may_have_any_size),
        on_pool(an_empty_result_fits_an_out_size_of_0),
        on_pool(map_with_fail_fast_kills_what_runs),
        on_pool(apply_runs_one_item),
        on_pool(apply_takes_nothing_and_drops_what_comes),
        on_pool(apply_tells_its_failure),
        on_pool(apply_wants_the_exact_size),
        on_pool(a_list_has_each_end_in_its_place),
        on_pool(a_list_of_nothing_is_a_list),
        on_pool(a_list_with_fail_fast_tells_what_never_started),
        on_pool(a_generators_items_run_once_each),
        on_pool(a_failed_generator_ends_a_map),
        on_pool(a_failed_item_comes_before_a_failed_generator),
        on_pool(a_failed_generator_adds_an_entry_to_a_list),
        on_pool(a_failed_generator_ends_an_iteration_with_one_last_result),
        on_pool(a_generators_null_with_a_size_is_its_failure),
        on_pool(imap_keeps_the_order),
        on_pool(imap_unordered_gives_each_once),
        on_pool(imap_unordered_gives_first_what_is_done_first),
        on_pool(imap_of_nothing_ends_ok),
        on_pool(imap_starts_without_being_asked),
        on_pool(an_iterator_is_pending_until_all_is_delivered),
        on_pool(a_result_holds_until_the_next_call),
        on_pool(a_window_is_never_overrun),
        on_pool(an_open_window_is_pulled_to_64_mib_at_most),
        on_pool(two_iterators_and_a_map_get_on),
        on_pool(a_freed_iterator_leaves_the_pool_as_it_was),
        on_pool(next_times_out_and_goes_on),
        on_pool(next_waits_as_long_as_it_is_told),
        on_pool(next_without_waiting_finds_what_is_done),
        on_pool(next_of_null_is_the_end),
        on_pool(cancel_delivers_what_is_done_and_kills_what_runs),
        on_pool(what_finished_before_a_cancel_is_still_delivered),
        on_pool(a_cancel_after_the_end_changes_nothing),
        on_pool(a_pool_goes_on_after_a_cancel),
        on_pool(imap_with_fail_fast_ends_after_its_failure),
        on_pool(an_iterator_outlives_its_pool),
        on_pool(a_large_result_in_hand_outlives_its_pool),
        on_pool(results_of_every_size_fill_an_array),
        on_pool(items_of_every_size_are_streamed),
        on_pool(results_of_every_size_are_listed),
        on_pool(many_large_results_stay_right_in_a_slow_consumers_window),
        on_pool(a_second_out_replaces_the_first),
        on_pool(return_of_null_with_a_size_fails),
        on_pool(out_of_more_than_memory_is_null),
        on_pool(a_message_is_cut_after_1000_bytes),
        on_pool(the_context_reaches_every_item_whatever_its_size),
        on_pool(an_iterators_context_is_copied_when_it_is_made),
        on_pool(calls_at_once_have_their_own_contexts),
        on_pool(a_worker_knows_itself_and_what_its_initializer_left),
        on_pool(workers_keep_what_was_open_unless_told_to_close),
        on_pool(a_library_loaded_before_the_pool_works),
        on_pool(a_library_that_only_the_host_loaded_is_refused_in_words),
        on_pool(a_library_at_another_address_in_the_worker_is_the_right_one),
    };
    return cmocka_run_group_tests(tests, open_pool, close_pool);
}
