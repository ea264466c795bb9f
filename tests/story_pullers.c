/* A generator is pulled on when the last worker has died and been replaced, though its caller is asleep, or elsewhere, meanwhile: with
 * nothing under way, nothing else would tell it that there is a worker again.
 *
 * The first two items kill their worker, the only one. Whether another thread turns the loop is read from the pool itself. */
#define _GNU_SOURCE
#include "check.h"

#include "pool.h"

#include <poll.h>
#include <pthread.h>

enum { ITEMS = 5 };
#define PATIENCE 30.0

static struct pool *pool;
static int calls;                   /* of the generator */

static int make(void **state)
{
    (void)state;
    calls = 0;
    pool = pool_create(&(struct pool_options){.workers = 1});
    return pool ? 0 : -1;
}

static int two_die(struct pool_task *task)
{
    if (task->index <= 1)
        raise(SIGKILL);
    return 0;
}

static int somebody_turns(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&pool->sched.lock);
    int turns = pool->sched.turning;
    pthread_mutex_unlock(&pool->sched.lock);
    return turns;
}

static int next(void *unused, struct pool_bytes *item)
{
    (void)unused;
    *item = (struct pool_bytes){"", 0};
    return calls++ < ITEMS;
}

/* Its first item comes when another thread turns the loop. */
static int next_beside(void *unused, struct pool_bytes *item)
{
    if (!calls)
        check_until(somebody_turns, NULL, PATIENCE);
    return next(unused, item);
}

static void *map(void *status)
{
    *(enum pool_status *)status = pool_map(pool, two_die, pool_generator(next_beside, NULL), NULL, 0, NULL);
    return NULL;
}

static int has_begun(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&pool->sched.lock);
    int begun = !link_is_empty(&pool->sched.jobs);
    pthread_mutex_unlock(&pool->sched.lock);
    return begun;
}

static void a_map_that_sleeps_goes_on_at_the_replacement(void **state)
{
    enum pool_status status = POOL_PENDING;
    pthread_t thread;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, map, &status), 0);
    assert_true(check_until(has_begun, NULL, PATIENCE));
    pool_close(pool);
    assert_int_equal(pool_join(pool, PATIENCE), POOL_OK);
    pthread_join(thread, NULL);
    assert_int_equal(status, POOL_CRASHED);
    assert_int_equal(calls, ITEMS + 1);
    pool_destroy(pool);
}

static void an_iterator_driven_by_the_descriptor_goes_on_at_the_replacement(void **state)
{
    struct pollfd watch = {.fd = pool_fd(pool), .events = POLLIN};
    struct pool_iter *iter = pool_imap(pool, two_die, pool_generator(next, NULL), NULL);
    size_t count = 0;

    (void)state;
    assert_non_null(iter);
    while (pool_iter_status(iter) == POOL_PENDING) {
        assert_int_equal(poll(&watch, 1, (int)(PATIENCE * 1000)), 1);
        while (pool_next_timeout(iter, 0))
            count++;
    }
    assert_int_equal(count, ITEMS);
    pool_iter_free(iter);
    pool_destroy(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_map_that_sleeps_goes_on_at_the_replacement, make),
        cmocka_unit_test_setup(an_iterator_driven_by_the_descriptor_goes_on_at_the_replacement, make),
    };

    return cmocka_run_group_tests(tests, check_setup, check_teardown);
}
