/* A finished item is never lost nor run again, whatever kills its worker an instant later; and a large payload that is under way when its
 * worker is killed ends CRASHED and leaves the way clear for the next.
 *
 * The host is kept from turning the loop, so that nothing is taken before the kill. That a result is published is read from the claim
 * word, or seen by the next item's start: the worker claims it in the very step that finishes the one before. */
#define _GNU_SOURCE
#include "ledger.h"
#include "pool.h"

#include <stdlib.h>

enum { ITEMS = 8 };

static struct claim claim_of(struct pool *pool)
{
    return claim_load(&pool->sched.crew.workers[0].books.channel.desk->claim);
}

static int has_finished_one(void *pool)
{
    return claim_finished(claim_of(pool)) == 1;
}

static int has_claimed_one(void *pool)
{
    return claim_of(pool).front == 1;
}

static void kill_worker(struct pool *pool)
{
    pid_t pid = worker_of(pool, 0);

    assert_int_equal(kill(pid, SIGKILL), 0);
    await_death(pid);
}

/* ---- Published, not taken */

static int second_pauses_once(struct pool_task *task)
{
    if (task->index != 1)
        return good(task);
    note_start(task);
    pause_for_ever();
    return 0;
}

static void the_one_before_is_ok_the_ones_behind_run_elsewhere(void **state)
{
    struct pool *pool = make_pool(1);
    struct pool_iter *iter = begin(pool, second_pauses_once, ITEMS, 4);
    struct end ends[ITEMS] = {{0}};
    size_t i;

    (void)state;
    await_start(1);
    kill_worker(pool);
    collect(iter, ends, ITEMS);
    for (i = 0; i < ITEMS; i++) {
        assert_int_equal(ledger->started[i], 1);
        if (i != 1)
            assert_good(&ends[i], i);
    }
    assert_crashed(&ends[1], 0, SIGKILL);
    pool_destroy(pool);
}

/* The size of its result is the item. */
static int fill(struct pool_task *task)
{
    size_t size = *(const size_t *)task->in;
    unsigned char *out = pool_out(task, size);

    note_start(task);
    if (!out)
        return 1;
    memset(out, (int)task->index + 1, size);
    return 0;
}

static void assert_filled(const struct pool_result *r, size_t index, size_t size)
{
    const unsigned char *bytes;
    size_t i;

    assert_non_null(r);
    bytes = r->data;
    assert_int_equal(r->index, index);
    assert_int_equal(r->status, POOL_OK);
    assert_int_equal(r->size, size);
    for (i = 0; i < size; i++)
        if (bytes[i] != (unsigned char)(index + 1))
            fail_msg("byte %zu of result %zu is %d", i, index, bytes[i]);
}

static void last_result_survives(size_t size)
{
    struct pool *pool = make_pool(1);
    struct pool_iter *iter = pool_imap(pool, fill, pool_array(&size, 1, sizeof size), NULL);
    const struct pool_result *r;

    assert_non_null(iter);
    assert_true(check_until(has_finished_one, pool, PATIENCE));
    kill_worker(pool);
    r = pool_next_timeout(iter, PATIENCE);
    assert_filled(r, 0, size);
    assert_int_equal(r->tries, 1);
    assert_null(pool_next_timeout(iter, PATIENCE));
    assert_int_equal(pool_iter_status(iter), POOL_OK);
    assert_int_equal(ledger->started[0], 1);
    pool_iter_free(iter);
    assert_works(pool);
    pool_destroy(pool);
}

static void an_empty_result(void **state)
{
    (void)state;
    last_result_survives(0);
}

static void a_small_result(void **state)
{
    (void)state;
    last_result_survives(100);
}

static void a_result_in_the_lane(void **state)
{
    (void)state;
    last_result_survives(100000);
}

/* The consumer holds a result where its worker wrote it; the successor, which has the same memory, must write elsewhere. */
static void a_result_that_is_held_while_the_successor_works(void **state)
{
    enum { SIZE = 100000, MORE = 20 };
    size_t sizes[MORE], i;
    struct pool *pool = make_pool(1);
    struct pool_iter *held, *more;
    const struct pool_result *r;

    (void)state;
    for (i = 0; i < MORE; i++)
        sizes[i] = SIZE;
    held = pool_imap(pool, fill, pool_array(sizes, 1, sizeof *sizes), NULL);
    assert_non_null(held);
    r = pool_next_timeout(held, PATIENCE);
    assert_filled(r, 0, SIZE);
    kill_worker(pool);
    more = pool_imap(pool, fill, pool_array(sizes, MORE, sizeof *sizes), NULL);
    assert_non_null(more);
    for (i = 0; i < MORE; i++)
        assert_filled(pool_next_timeout(more, PATIENCE), i, SIZE);
    assert_filled(r, 0, SIZE);
    pool_iter_free(more);
    pool_iter_free(held);
    pool_destroy(pool);
}

/* It has published when it finds that the pipe for waking its host is gone, and dies of that. */
static int closes_its_pipes(struct pool_task *task)
{
    int r = good(task);

    if (task->index == 1)
        close_from(3);
    return r;
}

static void its_way_to_wake_the_host_is_cut(void **state)
{
    struct pool *pool = make_pool(1);
    struct end ends[ITEMS];
    size_t i;

    (void)state;
    run(pool, closes_its_pipes, ITEMS, ends);
    assert_cost_one_at_most(ends, ITEMS);
    for (i = 0; i < ITEMS; i++)
        assert_true(ledger->started[i] <= 1);   /* 0: it was claimed, and its worker left before the task was called */
    assert_works(pool);
    pool_destroy(pool);
}

/* ---- Half-way through a large payload */

static void half_a_large_result_is_a_crash(void **state)
{
    struct pool *pool = make_pool(1);
    size_t size = (size_t)9 << 20, again = (size_t)10 << 20;
    struct pool_iter *iter = pool_imap(pool, fill, pool_array(&size, 1, sizeof size), NULL);
    const struct pool_result *r;

    (void)state;
    assert_non_null(iter);
    await_start(0);                     /* it cannot finish: the host reads nothing */
    kill_worker(pool);
    r = pool_next_timeout(iter, PATIENCE);
    assert_non_null(r);
    assert_int_equal(r->status, POOL_CRASHED);
    assert_int_equal(r->signal, SIGKILL);
    assert_null(r->data);
    pool_iter_free(iter);

    iter = pool_imap(pool, fill, pool_array(&again, 1, sizeof again), NULL);
    assert_non_null(iter);
    assert_filled(pool_next_timeout(iter, PATIENCE), 0, again);
    pool_iter_free(iter);
    pool_destroy(pool);
}

static int first_and_last(struct pool_task *task)
{
    const unsigned char *in = task->in;
    unsigned char ends[2] = {in[0], in[task->in_size - 1]};

    return pool_return(task, ends, sizeof ends);
}

static void half_a_large_item_is_a_crash(void **state)
{
    struct pool *pool = make_pool(1);
    size_t size = (size_t)9 << 20;
    unsigned char *item = malloc(size), ends[2] = {0};
    struct pool_iter *iter;
    const struct pool_result *r;

    (void)state;
    assert_non_null(item);
    memset(item, 7, size);
    iter = pool_imap(pool, first_and_last, pool_array(item, 1, size), NULL);
    assert_non_null(iter);
    assert_true(check_until(has_claimed_one, pool, PATIENCE));
    kill_worker(pool);
    r = pool_next_timeout(iter, PATIENCE);
    assert_non_null(r);
    assert_int_equal(r->status, POOL_CRASHED);
    pool_iter_free(iter);

    item[0] = 8;
    item[size - 1] = 9;
    assert_int_equal(pool_apply(pool, first_and_last, item, size, ends, sizeof ends, NULL), POOL_OK);
    assert_int_equal(ends[0], 8);
    assert_int_equal(ends[1], 9);
    free(item);
    pool_destroy(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(the_one_before_is_ok_the_ones_behind_run_elsewhere),
        STORY(an_empty_result),
        STORY(a_small_result),
        STORY(a_result_in_the_lane),
        STORY(a_result_that_is_held_while_the_successor_works),
        STORY(its_way_to_wake_the_host_is_cut),
        STORY(half_a_large_result_is_a_crash),
        STORY(half_a_large_item_is_a_crash),
    };

    return cmocka_run_group_tests(tests, ledger_setup, ledger_teardown);
}
