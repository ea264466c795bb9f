/* Waiting under a lock: until woken, or until the time has come. */
#define _GNU_SOURCE
#include "check.h"
#include "clock.h"
#include "waiters.h"

#include <pthread.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct waiter waiter;
static int woken, go;

static int begin(void **state)
{
    (void)state;
    woken = go = 0;
    return waiter_init(&waiter);
}

static int end(void **state)
{
    (void)state;
    waiter_fini(&waiter);
    return 0;
}

static void *sleep_until_go(void *arg)
{
    pthread_mutex_lock(&lock);
    while (!go)
        waiter_sleep(&waiter, NULL, &lock, CLOCK_NEVER);
    woken++;
    pthread_mutex_unlock(&lock);
    return arg;
}

static int asleep(void *count)
{
    pthread_mutex_lock(&lock);
    int all = waiter.asleep == *(int *)count;
    pthread_mutex_unlock(&lock);
    return all;
}

static void a_passed_deadline_ends_the_sleep(void **state)
{
    (void)state;
    pthread_mutex_lock(&lock);
    waiter_sleep(&waiter, NULL, &lock, clock_now() - 1);
    assert_int_equal(waiter.asleep, 0);
    pthread_mutex_unlock(&lock);
}

static void a_sleep_is_not_over_before_its_deadline(void **state)
{
    (void)state;
    int64_t deadline = clock_deadline(0.02);
    pthread_mutex_lock(&lock);
    for (int rounds = 0; clock_now() < deadline && rounds < 1000; rounds++)
        waiter_sleep(&waiter, NULL, &lock, deadline);
    pthread_mutex_unlock(&lock);
    assert_true(clock_now() >= deadline);
}

static void waking_nobody_is_fine(void **state)
{
    (void)state;
    pthread_mutex_lock(&lock);
    waiter_wake(&waiter);
    pthread_mutex_unlock(&lock);
}

static void all_sleepers_are_woken(void **state)
{
    (void)state;
    pthread_t threads[5];
    int all = 5;
    for (int i = 0; i < all; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, sleep_until_go, NULL), 0);
    assert_true(check_until(asleep, &all, 30));
    pthread_mutex_lock(&lock);
    go = 1;
    waiter_wake(&waiter);
    pthread_mutex_unlock(&lock);
    for (int i = 0; i < all; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(woken, 5);
    assert_int_equal(waiter.asleep, 0);
}

#define on_waiter(test) cmocka_unit_test_setup_teardown(test, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        on_waiter(a_passed_deadline_ends_the_sleep),
        on_waiter(a_sleep_is_not_over_before_its_deadline),
        on_waiter(waking_nobody_is_fine),
        on_waiter(all_sleepers_are_woken),
    };
    return cmocka_run_group_tests(tests, check_setup, check_teardown);
}
