/* No wake-up is lost: caller and worker fall asleep at any moment relative to each other's news, and neither sleeps for ever.
 *
 * Items take a random time, and so does the caller between two of them, around the time after which either side goes to sleep; so the
 * news of one falls into each step of the other's way into sleep, many times over. A lost wake-up is a hang: the alarm ends the test. */
#define _GNU_SOURCE
#include "check.h"

#include <forkpool.h>

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS = 5000, LONGEST = 60000 };       /* nanoseconds; a spin before sleep is 30,000 */

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void pass(int64_t nanoseconds)
{
    for (int64_t end = now() + nanoseconds; now() < end;)
        ;
}

static uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

static int take_a_while(struct pool_task *task)
{
    pass(*(const int64_t *)task->in);
    return pool_return(task, task->in, task->in_size);
}

static int rounds(void)
{
    return check_under("") ? ROUNDS / 20 : ROUNDS;
}

static void apply_at_random_times(unsigned no_spin)
{
    uint64_t seed = 20261124;
    struct pool *pool = pool_create(&(struct pool_options){.workers = 1, .no_spin = no_spin});
    assert_non_null(pool);
    for (int i = 0; i < rounds(); i++) {
        int64_t duration = (int64_t)(next_random(&seed) % LONGEST), back = 0;
        alarm(60);
        pass((int64_t)(next_random(&seed) % LONGEST));
        assert_int_equal(pool_apply(pool, take_a_while, &duration, sizeof duration, &back, sizeof back, NULL), POOL_OK);
        assert_true(back == duration);
    }
    alarm(0);
    pool_destroy(pool);
}

static void spinning_sides_wake_each_other(void **state)
{
    (void)state;
    apply_at_random_times(0);
}

static void sides_that_sleep_at_once_wake_each_other(void **state)
{
    (void)state;
    apply_at_random_times(1);
}

/* A window of one: the worker runs dry after each item, and the consumer waits for each. */
static void a_window_of_one_goes_on(void **state)
{
    (void)state;
    uint64_t seed = 1;
    size_t count = (size_t)rounds();
    int64_t *durations = calloc(count, sizeof *durations);
    struct pool *pool = pool_create(&(struct pool_options){.workers = 2});
    assert_non_null(durations);
    assert_non_null(pool);
    for (size_t i = 0; i < count; i++)
        durations[i] = (int64_t)(next_random(&seed) % LONGEST);
    struct pool_iter *it = pool_imap(pool, take_a_while, pool_array(durations, count, sizeof *durations), &(struct pool_call){.window = 1});
    size_t got = 0;
    for (const struct pool_result *r; alarm(60), (r = pool_next(it)); got++)
        assert_true(r->index == got && r->status == POOL_OK);
    alarm(0);
    assert_true(got == count);
    pool_iter_free(it);
    pool_destroy(pool);
    free(durations);
}

static int return_16000_bytes(struct pool_task *task)
{
    return pool_out(task, 16000) ? 0 : 1;
}

/* More results than the ring has room for come in one batch: the worker waits for room, and the caller has to say that there is some. */
static void a_full_ring_goes_on(void **state)
{
    (void)state;
    struct pool *pool = pool_create(&(struct pool_options){.workers = 1});
    assert_non_null(pool);
    alarm(60);
    struct pool_results *results = pool_map_results(pool, return_16000_bytes, pool_range(1000), NULL);
    alarm(0);
    assert_int_equal(pool_results_count(results), 1000);
    assert_int_equal(pool_results_status(results), POOL_OK);
    pool_results_free(results);
    pool_destroy(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spinning_sides_wake_each_other),
        cmocka_unit_test(sides_that_sleep_at_once_wake_each_other),
        cmocka_unit_test(a_window_of_one_goes_on),
        cmocka_unit_test(a_full_ring_goes_on),
    };
    return cmocka_run_group_tests(tests, check_setup, check_teardown);
}
