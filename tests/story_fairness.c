/* No item that has not started waits behind a slow one while a worker is idle, and what is finished is delivered at once, though
 * its worker is deep in the next item.
 *
 * The slow item is as slow as can be: it ends only once all others have ended, or have been delivered. A pool that lets one of them
 * wait behind it does not end at all. */
#define _GNU_SOURCE
#include "clock.h"
#include "ledger.h"

#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>

enum { ITEMS = 5000 };

static const size_t chunks[] = {0, 1, 64, 4096};

static void set_slow(unsigned which, size_t index)
{
    atomic_store(&ledger->pid[which], (int)index + 1);
}

static int is_slow(const struct pool_task *task)
{
    unsigned i;

    for (i = 0; i < 3; i++)
        if (atomic_load(&ledger->pid[i]) == (int)task->index + 1)
            return 1;
    return 0;
}

/* ---- Until all others are delivered */

static int slow_until_the_gate(struct pool_task *task)
{
    if (is_slow(task))
        wait_for_gate();
    return answer(task);
}

static void all_others_come_first(struct pool_items items, size_t count, size_t chunk, size_t slow)
{
    struct pool_call call = {.chunk = chunk, .window = count};
    struct pool *pool = make_pool(2);
    struct end *ends = calloc(count, sizeof *ends);
    struct pool_iter *iter;
    size_t i;

    assert_non_null(ends);
    ledger_clear(NULL);
    set_slow(0, slow);
    iter = pool_imap_unordered(pool, slow_until_the_gate, items, &call);
    assert_non_null(iter);
    for (i = 0; i < count - 1; i++)
        assert_int_equal(collect_one(iter, ends, count), 1);
    assert_int_equal(ends[slow].times, 0);
    atomic_store(&ledger->open, 1);
    collect(iter, ends, count);
    for (i = 0; i < count; i++)
        assert_good(&ends[i], i);
    free(ends);
    pool_destroy(pool);
}

static void at_each_chunk(size_t slow)
{
    size_t i;

    for (i = 0; i < sizeof chunks / sizeof *chunks; i++)
        all_others_come_first(pool_range(ITEMS), ITEMS, chunks[i], slow);
}

static void first_item_slow(void **state)
{
    (void)state;
    at_each_chunk(0);
}

static void middle_item_slow(void **state)
{
    (void)state;
    at_each_chunk(ITEMS / 2);
}

static void last_item_slow(void **state)
{
    (void)state;
    at_each_chunk(ITEMS - 1);
}

static void large_items(void **state)
{
    enum { SIZE = 64 << 10, COUNT = 40 };
    unsigned char *items = calloc(COUNT, SIZE);

    (void)state;
    assert_non_null(items);
    all_others_come_first(pool_array(items, COUNT, SIZE), COUNT, 0, 0);
    all_others_come_first(pool_array(items, COUNT, SIZE), COUNT, 64, 0);
    free(items);
}

static int next_number(void *cursor, struct pool_bytes *item)
{
    long *next = cursor;

    if (*next == 1000)
        return 0;
    ++*next;
    *item = (struct pool_bytes){next, sizeof *next};
    return 1;
}

static void generated_items(void **state)
{
    long next = 0;

    (void)state;
    all_others_come_first(pool_generator(next_number, &next), 1000, 64, 0);
}

/* ---- Until the very last has run: small items first, so that what is left is thought to be little work */

static int wait_for_the_last(struct pool_task *task)
{
    size_t last = (size_t)atomic_load(&ledger->fail);

    if (task->index == last)
        atomic_store(&ledger->open, 1);
    else if (task->index == last - 1)
        wait_for_gate();
    return answer(task);
}

static int some_numbers(void *cursor, struct pool_bytes *item)
{
    long *left = cursor;

    *item = (struct pool_bytes){left, sizeof *left};
    return (*left)-- > 0;
}

static void the_last_runs(unsigned workers, size_t count, size_t window, int ordered, int generated)
{
    struct pool_call call = {.window = window, .retries = generated ? 1 : 0};
    struct pool *pool = make_pool(workers);
    long left = (long)count;
    struct pool_items items = generated ? pool_generator(some_numbers, &left) : pool_range(count);
    struct pool_iter *iter;
    size_t i;

    ledger_clear(NULL);
    atomic_store(&ledger->fail, (int)count - 1);
    iter = (ordered ? pool_imap : pool_imap_unordered)(pool, wait_for_the_last, items, &call);
    assert_non_null(iter);
    for (i = 0; i < count; i++)
        if (!pool_next_timeout(iter, PATIENCE))
            fail_msg("%u workers, %zu items, window %zu, %s%s: the last one does not run", workers, count, window,
                     ordered ? "in order" : "as they come", generated ? ", from a generator" : "");
    pool_iter_free(iter);
    pool_destroy(pool);
}

static void last_but_one_waits_for_the_last(void **state)
{
    static const unsigned workers[] = {2, 3, 16};
    static const size_t counts[] = {4, 10, 100};
    size_t i, j;
    unsigned how;

    (void)state;
    for (i = 0; i < 3; i++)
        for (j = 0; j < 3; j++)
            for (how = 0; how < 8; how++)
                the_last_runs(workers[i], counts[j], how & 1 ? 2 : 0, how & 2, how & 4);
}

/* ---- Until all others have run, in a map */

static int slow_until_the_others_ran(struct pool_task *task)
{
    int last = atomic_load(&ledger->fail);

    if (!is_slow(task))
        atomic_fetch_add(&ledger->received, 1);
    else
        while (atomic_load(&ledger->received) < (unsigned)last)
            nap();
    return answer(task);
}

static void map_with_slow(unsigned workers, unsigned slow, size_t chunk)
{
    static long values[ITEMS];
    struct pool_call call = {.chunk = chunk};
    struct pool *pool = make_pool(workers);
    size_t i;

    ledger_clear(NULL);
    atomic_store(&ledger->fail, (int)(ITEMS - slow));
    for (i = 0; i < slow; i++)
        set_slow((unsigned)i, i * 7);
    assert_int_equal(pool_map(pool, slow_until_the_others_ran, pool_range(ITEMS), values, sizeof *values, &call), POOL_OK);
    for (i = 0; i < ITEMS; i++)
        assert_int_equal(values[i], value_of(i));
    pool_destroy(pool);
}

static void a_map_at_each_chunk(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < sizeof chunks / sizeof *chunks; i++)
        map_with_slow(2, 1, chunks[i]);
}

static void one_worker_of_four_does_all_the_rest(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < sizeof chunks / sizeof *chunks; i++)
        map_with_slow(4, 3, chunks[i]);
}

/* ---- With one CPU, where each worker that has something to do has none for itself */

static cpu_set_t cpus;

static int stay_on_one_cpu(void **state)
{
    cpu_set_t one;
    size_t cpu = 0;

    ledger_clear(state);
    assert_int_equal(sched_getaffinity(0, sizeof cpus, &cpus), 0);
    while (!CPU_ISSET(cpu, &cpus))
        cpu++;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    return sched_setaffinity(0, sizeof one, &one);
}

static int spread_again(void **state)
{
    (void)state;
    return sched_setaffinity(0, sizeof cpus, &cpus);
}

/* The other worker is through before anybody can tell that this one is slow: the caller has to look again by itself. */
static void few_items(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < 50; i++)
        all_others_come_first(pool_range(6), 6, chunks[i % 4], 0);
}

/* A worker that was stopped before it began: all that can be moved is. The last one that waits there is its own. */
static void one_that_does_not_begin(void)
{
    struct pool *pool = make_pool(2);
    pid_t stopped = worker_of(pool, 1);
    struct end ends[8] = {{0}};
    struct pool_iter *iter;
    int i;

    assert_int_equal(kill(stopped, SIGSTOP), 0);
    iter = pool_imap_unordered(pool, answer, pool_range(8), NULL);
    for (i = 0; i < 7; i++)
        assert_int_equal(collect_one(iter, ends, 8), 1);
    assert_int_equal(kill(stopped, SIGCONT), 0);
    collect(iter, ends, 8);
    for (i = 0; i < 8; i++)
        assert_good(&ends[i], (size_t)i);
    pool_destroy(pool);
}

static void a_worker_that_does_not_begin(void **state)
{
    int i;

    (void)state;
    for (i = 0; i < 20; i++)
        one_that_does_not_begin();
}

#define ON_ONE_CPU(function) cmocka_unit_test_setup_teardown(function, stay_on_one_cpu, spread_again)

static void another_call_does_not_wait(void **state)
{
    struct pool *pool = make_pool(2);
    struct pool_iter *iter;
    struct end end = {0};

    (void)state;
    set_slow(0, 0);
    iter = begin(pool, slow_until_the_gate, 1, 0);
    assert_works(pool);
    atomic_store(&ledger->open, 1);
    collect(iter, &end, 1);
    assert_good(&end, 0);
    pool_destroy(pool);
}

/* ---- Delivered while the next one runs */

static int waits_for_delivery_of_the_one_before(struct pool_task *task)
{
    while (atomic_load(&ledger->received) < task->index)
        nap();
    if (atomic_load(&ledger->fail)) {           /* a size, for large results */
        void *out = pool_out(task, (size_t)atomic_load(&ledger->fail));

        if (!out)
            return 1;
        memset(out, 1, (size_t)atomic_load(&ledger->fail));
        return 0;
    }
    return answer(task);
}

static void each_is_delivered_before_the_next_ends(size_t count, size_t chunk, int size)
{
    struct pool_call call = {.chunk = chunk};
    struct pool *pool = make_pool(1);
    struct pool_iter *iter;
    const struct pool_result *r;
    size_t i;

    ledger_clear(NULL);
    atomic_store(&ledger->fail, size);
    iter = pool_imap(pool, waits_for_delivery_of_the_one_before, pool_range(count), &call);
    assert_non_null(iter);
    for (i = 0; i < count; i++) {
        r = pool_next_timeout(iter, PATIENCE);
        if (!r)
            fail_msg("result %zu did not come", i);
        assert_int_equal(r->index, i);
        assert_int_equal(r->status, POOL_OK);
        atomic_fetch_add(&ledger->received, 1);
    }
    assert_null(pool_next_timeout(iter, PATIENCE));
    pool_iter_free(iter);
    pool_destroy(pool);
}

static void small_results_are_delivered_at_once(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < sizeof chunks / sizeof *chunks; i++)
        each_is_delivered_before_the_next_ends(100, chunks[i], 0);
}

static void large_results_are_delivered_at_once(void **state)
{
    (void)state;
    each_is_delivered_before_the_next_ends(20, 8, 100000);
}

static void results_larger_than_the_lane_are_delivered_at_once(void **state)
{
    (void)state;
    each_is_delivered_before_the_next_ends(3, 8, 9 << 20);
}

/* ---- Among calls */

static int endless(void *number, struct pool_bytes *item)
{
    *item = (struct pool_bytes){number, sizeof(long)};
    return 1;
}

/* The only worker is kept busy by one iterator, which alone is asked; the other's last item gets its turn all the same. */
static void a_call_is_not_starved_by_a_stream_beside_it(void **state)
{
    struct pool *pool = make_pool(1);
    struct pool_call one = {.window = 1};
    struct pool_iter *call = pool_imap(pool, good, pool_range(2), NULL), *stream;
    size_t last = 1;
    long number = 0;
    time_t end = time(NULL) + (time_t)PATIENCE;

    (void)state;
    stream = pool_imap(pool, answer, pool_generator(endless, &number), &one);
    assert_non_null(call);
    assert_non_null(stream);
    while (!has_started(&last) && time(NULL) < end)
        pool_next_timeout(stream, 0);
    assert_true(has_started(&last));
    pool_iter_free(stream);
    pool_iter_free(call);
    pool_destroy(pool);
}

static int counted_behind_the_gate(struct pool_task *task)
{
    (void)task;
    wait_for_gate();
    atomic_fetch_add(&ledger->received, 1);
    return 0;
}

static int how_many_came_first(struct pool_task *task)
{
    unsigned count = atomic_load(&ledger->received);

    return pool_return(task, &count, sizeof count);
}

/* All of a map that nothing is known of may wait at the only worker, but not in front of a call that comes later. */
static void a_call_does_not_wait_for_all_of_a_map(void **state)
{
    struct pool *pool = make_pool(1);
    struct pool_job *map = pool_map_async(pool, counted_behind_the_gate, pool_range(ITEMS), NULL), *call;
    const struct pool_result *r;

    (void)state;
    assert_non_null(map);
    call = pool_apply_async(pool, how_many_came_first, NULL, 0, NULL);
    assert_non_null(call);
    atomic_store(&ledger->open, 1);
    assert_int_equal(pool_job_wait(call, PATIENCE), POOL_OK);
    r = pool_results_at(pool_job_results(call), 0);
    assert_int_equal(r->status, POOL_OK);
    assert_true(*(const unsigned *)r->data <= 8);
    assert_int_equal(pool_job_wait(map, PATIENCE), POOL_OK);
    assert_int_equal(atomic_load(&ledger->received), ITEMS);
    pool_job_free(call);
    pool_job_free(map);
    pool_destroy(pool);
}

/* ---- A consumer that slows down */

static int has_ticked(void *ticks)
{
    return clock_ticks() != *(int64_t *)ticks;
}

static int counted(void *number, struct pool_bytes *item)
{
    ++*(long *)number;
    return endless(number, item);
}

/* So many results that come long after one another, until more items are pulled. */
static int slow_results_until_more_is_pulled(struct pool_iter *iter, const long *pulled)
{
    long before = *pulled;
    int taken = 0;

    for (; *pulled == before && taken < 100; taken++) {
        int64_t ticks = clock_ticks();

        assert_true(check_until(has_ticked, &ticks, PATIENCE));
        assert_non_null(pool_next_timeout(iter, PATIENCE));
    }
    return taken;
}

/* While it races through, most results are delivered in passing, and nothing is handed out; that must not go on when each takes long. */
static void a_consumer_that_slows_down_keeps_the_workers_busy(void **state)
{
    struct pool *pool = make_pool(2);
    struct pool_call call = {.window = 256};
    long pulled = 0;
    struct pool_iter *iter = pool_imap_unordered(pool, answer, pool_generator(counted, &pulled), &call);
    int rounds, i;

    (void)state;
    for (rounds = 0; rounds < 10; rounds++) {
        for (i = 0; i < 2000; i++)
            assert_non_null(pool_next_timeout(iter, PATIENCE));
        assert_true(slow_results_until_more_is_pulled(iter, &pulled) < 30);
    }
    pool_iter_free(iter);
    pool_destroy(pool);
}

/* ---- A caller that waits for slow items after many small ones */

enum { SMALL = 2000, SLOW_MS = 300 };

static int slow_at_the_end(struct pool_task *task)
{
    if (task->index >= SMALL)
        poll(NULL, 0, SLOW_MS);
    return answer(task);
}

static long times_asleep(void)
{
    struct rusage usage;

    getrusage(RUSAGE_THREAD, &usage);
    return usage.ru_nvcsw;
}

/* It took several results at a time before, since CPUs are short; it does not go on to look every 0.1 ms, which would be 3,000 times. */
static void a_caller_sleeps_while_slow_items_run(void **state)
{
    struct pool *pool = make_pool(2);
    struct pool_iter *iter = pool_imap(pool, slow_at_the_end, pool_range(SMALL + 2), NULL);
    long before;
    size_t i;

    (void)state;
    for (i = 0; i < SMALL; i++)
        assert_non_null(pool_next_timeout(iter, PATIENCE));
    before = times_asleep();
    assert_non_null(pool_next_timeout(iter, PATIENCE));
    assert_non_null(pool_next_timeout(iter, PATIENCE));
    assert_true(times_asleep() - before < 300);
    pool_iter_free(iter);
    pool_destroy(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(first_item_slow),
        STORY(middle_item_slow),
        STORY(last_item_slow),
        STORY(large_items),
        STORY(generated_items),
        STORY(last_but_one_waits_for_the_last),
        STORY(a_map_at_each_chunk),
        STORY(one_worker_of_four_does_all_the_rest),
        ON_ONE_CPU(few_items),
        ON_ONE_CPU(first_item_slow),
        ON_ONE_CPU(large_items),
        ON_ONE_CPU(a_map_at_each_chunk),
        ON_ONE_CPU(one_worker_of_four_does_all_the_rest),
        ON_ONE_CPU(a_worker_that_does_not_begin),
        ON_ONE_CPU(a_caller_sleeps_while_slow_items_run),
        STORY(another_call_does_not_wait),
        STORY(small_results_are_delivered_at_once),
        STORY(large_results_are_delivered_at_once),
        STORY(results_larger_than_the_lane_are_delivered_at_once),
        STORY(a_call_is_not_starved_by_a_stream_beside_it),
        STORY(a_call_does_not_wait_for_all_of_a_map),
        STORY(a_consumer_that_slows_down_keeps_the_workers_busy),
    };

    return cmocka_run_group_tests(tests, ledger_setup, ledger_teardown);
}
