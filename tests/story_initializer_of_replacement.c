/* An initializer that fails in a replacement breaks the pool after a few tries in a row, never after an endless respawn: every
 * open call and every later one ends POOL_BROKEN, with the initializer's own reason in pool_error(). One that fails once only
 * breaks nothing.
 *
 * The initializer succeeds until the ledger's switch is thrown; then the only worker, or one of two, is killed. */
#define _GNU_SOURCE
#include "ledger.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>

enum kind { FINE, RETURNS, SAYS, EXITS, DIES, STAYS };
enum { ITEMS = 8, FEW = 10 };           /* births that are still few */

static int initializer(struct pool_worker *worker)
{
    atomic_fetch_add(&ledger->births, 1);
    switch ((enum kind)atomic_load(&ledger->fail)) {
    case RETURNS:
        return 42;
    case SAYS:
        return pool_init_fail(worker, 17, "the device is gone");
    case EXITS:
        _exit(9);
    case DIES:
        raise(SIGSEGV);
        return 0;
    case STAYS:
        pause_for_ever();
        return 0;
    default:
        return 0;
    }
}

static struct pool *make(unsigned workers, double timeout)
{
    const struct pool_options options = {.workers = workers, .initializer = initializer, .init_timeout = timeout};
    struct pool *pool = pool_create(&options);

    if (!pool)
        fail_msg("no pool: %s", pool_error());
    return pool;
}

static int pauses(struct pool_task *task)
{
    note_start(task);
    pause_for_ever();
    return 0;
}

/* An open call's worker is killed, and no replacement can be had. */
static void breaks(enum kind kind, const char *why)
{
    struct pool *pool = make(1, kind == STAYS ? init_timeout() : 0);
    struct pool_iter *iter = begin(pool, pauses, ITEMS, 4);
    struct end ends[ITEMS] = {{0}};
    long value;
    size_t i;

    await_start(0);
    atomic_store(&ledger->fail, (int)kind);
    assert_int_equal(kill(worker_of(pool, 0), SIGKILL), 0);
    while (collect_one(iter, ends, ITEMS))
        ;
    assert_int_equal(pool_iter_status(iter), POOL_BROKEN);
    check_says("worker 0");
    check_says(why);
    pool_iter_free(iter);
    assert_crashed(&ends[0], 0, SIGKILL);
    for (i = 1; i < ITEMS; i++)
        if (ends[i].times)
            assert_int_equal(ends[i].status, POOL_BROKEN);

    assert_int_equal(pool_map(pool, good, pool_range(4), NULL, 0, NULL), POOL_BROKEN);
    check_says(why);
    assert_int_equal(pool_apply(pool, good, NULL, 0, &value, sizeof value, NULL), POOL_BROKEN);
    check_says(why);
    errno = 0;
    assert_null(pool_imap(pool, good, pool_range(4), NULL));
    assert_int_equal(errno, EPIPE);
    check_says(why);
    assert_true(ledger->births <= FEW);
    assert_int_equal(pool_worker_pid(pool, 0), 0);
    pool_destroy(pool);
}

static void a_code(void **state)
{
    (void)state;
    breaks(RETURNS, "code 42");
}

static void a_message(void **state)
{
    (void)state;
    breaks(SAYS, "the device is gone");
}

static void an_exit(void **state)
{
    (void)state;
    breaks(EXITS, "status 9");
}

static void a_signal(void **state)
{
    (void)state;
    breaks(DIES, "SIGSEGV");
}

static void a_timeout(void **state)
{
    (void)state;
    breaks(STAYS, "took longer");
}

/* ---- Calls of each kind, opened before the death is known */

static void an_open_map_ends_broken(void **state)
{
    struct pool *pool = make(1, 0);
    long values[ITEMS];
    pid_t pid = worker_of(pool, 0);

    (void)state;
    atomic_store(&ledger->fail, SAYS);
    assert_int_equal(kill(pid, SIGKILL), 0);
    await_death(pid);
    assert_int_equal(pool_map(pool, good, pool_range(ITEMS), values, sizeof *values, NULL), POOL_BROKEN);
    check_says("the device is gone");
    pool_destroy(pool);
}

static void an_open_list_ends_broken(void **state)
{
    struct pool *pool = make(1, 0);
    struct pool_results *list;
    pid_t pid = worker_of(pool, 0);

    (void)state;
    atomic_store(&ledger->fail, SAYS);
    assert_int_equal(kill(pid, SIGKILL), 0);
    await_death(pid);
    errno = 0;
    list = pool_map_results(pool, good, pool_range(ITEMS), NULL);
    if (list)
        assert_int_equal(pool_results_status(list), POOL_BROKEN);
    else
        assert_int_equal(errno, EPIPE);
    check_says("the device is gone");
    pool_results_free(list);
    pool_destroy(pool);
}

/* The other worker is in the middle of an item: it is not waited for. */
static int second_pauses(struct pool_task *task)
{
    note_start(task);
    if (task->worker->index == 1)
        pause_for_ever();
    wait_for_gate();
    return answer(task);
}

static int both_started(void *unused)
{
    (void)unused;
    return ledger->started[0] && ledger->started[1];
}

static void a_busy_worker_does_not_hold_up_the_end(void **state)
{
    struct pool *pool = make(2, 0);
    struct pool_iter *iter = begin(pool, second_pauses, 2, 1);
    struct end ends[2] = {{0}};

    (void)state;
    assert_true(check_until(both_started, NULL, PATIENCE));
    atomic_store(&ledger->fail, SAYS);
    assert_int_equal(kill(worker_of(pool, 0), SIGKILL), 0);
    while (collect_one(iter, ends, 2))
        ;
    assert_int_equal(pool_iter_status(iter), POOL_BROKEN);
    assert_int_equal(ends[0].times, 1);
    assert_int_equal(ends[1].times, 1);
    assert_int_equal(ends[0].status + ends[1].status, POOL_CRASHED + POOL_BROKEN);
    pool_iter_free(iter);
    pool_destroy(pool);
}

/* ---- Not in a row */

static int fails_every_other_time(struct pool_worker *worker)
{
    (void)worker;
    return atomic_fetch_add(&ledger->births, 1) % 2 ? 1 : 0;
}

static void a_failure_now_and_then_breaks_nothing(void **state)
{
    const struct pool_options options = {.workers = 1, .initializer = fails_every_other_time};
    struct pool *pool = pool_create(&options);
    pid_t pid;
    int round;

    (void)state;
    assert_non_null(pool);
    for (round = 0; round < 8; round++) {
        pid = worker_of(pool, 0);
        assert_int_equal(kill(pid, SIGKILL), 0);
        await_death(pid);
        assert_works(pool);
    }
    assert_int_equal(ledger->births, 1 + 2 * 8);
    pool_destroy(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(a_code),
        STORY(a_message),
        STORY(an_exit),
        STORY(a_signal),
        STORY(a_timeout),
        STORY(an_open_map_ends_broken),
        STORY(an_open_list_ends_broken),
        STORY(a_busy_worker_does_not_hold_up_the_end),
        STORY(a_failure_now_and_then_breaks_nothing),
    };

    return cmocka_run_group_tests(tests, ledger_setup, ledger_teardown);
}
