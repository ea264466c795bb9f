/* pool_stats, pool_worker_stats, pool_worker_pid: each item is counted once by its end, each replacement by its reason, each birth at its
 * index; seconds add up; and asking disturbs nobody. */
#define _GNU_SOURCE
#include "ledger.h"

#include "clock.h"

#include <pthread.h>
#include <signal.h>

static struct pool *make(struct pool_options options)
{
    struct pool *pool = pool_create(&options);

    if (!pool)
        fail_msg("no pool: %s", pool_error());
    return pool;
}

static struct pool_stats stats_of(const struct pool *pool)
{
    struct pool_stats stats;

    memset(&stats, 0xff, sizeof stats);
    assert_int_equal(pool_stats(pool, &stats), POOL_OK);
    assert_string_equal(pool_error(), "");
    return stats;
}

static struct pool_worker_stats worker_stats_of(const struct pool *pool, unsigned index)
{
    struct pool_worker_stats stats;

    memset(&stats, 0xff, sizeof stats);
    assert_int_equal(pool_worker_stats(pool, index, &stats), POOL_OK);
    return stats;
}

static void assert_stats(const struct pool *pool, struct pool_stats wanted)
{
    struct pool_stats s = stats_of(pool);

    assert_int_equal(s.ok, wanted.ok);
    assert_int_equal(s.failed, wanted.failed);
    assert_int_equal(s.crashed, wanted.crashed);
    assert_int_equal(s.timed_out, wanted.timed_out);
    assert_int_equal(s.cancelled, wanted.cancelled);
    assert_int_equal(s.retried, wanted.retried);
    assert_int_equal(s.replaced_crashed, wanted.replaced_crashed);
    assert_int_equal(s.replaced_timed_out, wanted.replaced_timed_out);
    assert_int_equal(s.replaced_cancelled, wanted.replaced_cancelled);
    assert_int_equal(s.replaced_max_tasks, wanted.replaced_max_tasks);
    assert_int_equal(s.replaced_max_memory, wanted.replaced_max_memory);
}

static int endless(struct pool_task *task)
{
    note_start(task);
    pause_for_ever();
    return 0;
}

static int waits(struct pool_task *task)
{
    note_start(task);
    wait_for_gate();
    return answer(task);
}

static int fails(struct pool_task *task)
{
    return pool_fail(task, 3, "no");
}

static int dies(struct pool_task *task)
{
    (void)task;
    raise(SIGKILL);
    return 0;
}

static int dies_once(struct pool_task *task)
{
    if (!atomic_exchange(&ledger->open, 1))
        raise(SIGKILL);
    return answer(task);
}

struct asked {
    struct pool *pool;
    unsigned     index;
};

static int is_there(void *arg)
{
    const struct asked *a = arg;

    return pool_worker_pid(a->pool, a->index) > 0;
}

static void await_worker(struct pool *pool, unsigned index)
{
    struct asked a = {pool, index};

    assert_true(check_until(is_there, &a, PATIENCE));
}

/* ---- Items */

static void a_new_pool_has_done_nothing(void **state)
{
    struct pool *pool = make((struct pool_options){.workers = 2});

    (void)state;
    assert_stats(pool, (struct pool_stats){0});
    for (unsigned i = 0; i < 2; i++) {
        struct pool_worker_stats w = worker_stats_of(pool, i);
        assert_int_equal(w.items, 0);
        assert_int_equal(w.births, 1);
        assert_true(w.busy == 0 && w.idle >= 0 && w.startup > 0);
    }
    pool_destroy(pool);
}

static void items_of_all_kinds_of_calls_count(void **state)
{
    struct pool *pool = make((struct pool_options){.workers = 2});
    struct pool_iter *iter;
    struct pool_job *job;
    long value;

    (void)state;
    assert_int_equal(pool_map(pool, good, pool_range(1000), NULL, 0, NULL), POOL_OK);
    assert_int_equal(pool_apply(pool, good, NULL, 0, &value, sizeof value, NULL), POOL_OK);
    pool_results_free(pool_map_results(pool, good, pool_range(10), NULL));
    iter = pool_imap(pool, good, pool_range(20), NULL);
    while (pool_next(iter))
        ;
    pool_iter_free(iter);
    job = pool_map_async(pool, good, pool_range(30), NULL);
    assert_int_equal(pool_job_wait(job, PATIENCE), POOL_OK);
    pool_job_free(job);
    assert_stats(pool, (struct pool_stats){.ok = 1061});
    assert_int_equal(worker_stats_of(pool, 0).items + worker_stats_of(pool, 1).items, 1061);
    pool_destroy(pool);
}

static void failures_count_as_such(void **state)
{
    struct pool *pool = make((struct pool_options){.workers = 2});
    char byte;

    (void)state;
    assert_int_equal(pool_map(pool, fails, pool_range(7), NULL, 0, NULL), POOL_FAILED);
    assert_int_equal(pool_map(pool, good, pool_range(2), &byte, 0, NULL), POOL_FAILED);     /* results of the wrong size */
    assert_stats(pool, (struct pool_stats){.failed = 9});
    pool_destroy(pool);
}

static void crashes_count_and_their_replacements(void **state)
{
    struct pool *pool = make((struct pool_options){.workers = 2});
    struct end ends[3];

    (void)state;
    run(pool, dies, 3, ends);
    await_worker(pool, 0);
    await_worker(pool, 1);
    assert_stats(pool, (struct pool_stats){.crashed = 3, .replaced_crashed = 3});
    assert_int_equal(worker_stats_of(pool, 0).births + worker_stats_of(pool, 1).births, 5);
    assert_int_equal(worker_stats_of(pool, 0).items + worker_stats_of(pool, 1).items, 3);
    pool_destroy(pool);
}

static void an_idle_worker_that_dies_costs_no_item(void **state)
{
    struct pool *pool = make((struct pool_options){.workers = 1});
    pid_t pid = worker_of(pool, 0);

    (void)state;
    assert_int_equal(kill(pid, SIGKILL), 0);
    await_death(pid);
    assert_works(pool);
    assert_stats(pool, (struct pool_stats){.ok = 32, .replaced_crashed = 1});
    assert_int_equal(worker_stats_of(pool, 0).births, 2);
    pool_destroy(pool);
}

static void retries_count_as_starts(void **state)
{
    struct pool *pool = make((struct pool_options){.workers = 1});
    long value;

    (void)state;
    assert_int_equal(pool_apply(pool, dies_once, NULL, 0, &value, sizeof value, &(struct pool_call){.retries = 3}), POOL_OK);
    assert_stats(pool, (struct pool_stats){.ok = 1, .retried = 1, .replaced_crashed = 1});
    assert_int_equal(pool_apply(pool, dies, NULL, 0, NULL, 0, &(struct pool_call){.retries = 2}), POOL_CRASHED);
    await_worker(pool, 0);
    assert_stats(pool, (struct pool_stats){.ok = 1, .crashed = 1, .retried = 3, .replaced_crashed = 4});
    pool_destroy(pool);
}

static void time_limits_count(void **state)
{
    struct pool *pool = make((struct pool_options){.workers = 1});

    (void)state;
    assert_int_equal(pool_apply(pool, endless, NULL, 0, NULL, 0, &(struct pool_call){.timeout = 0.02}), POOL_TIMED_OUT);
    assert_works(pool);
    assert_stats(pool, (struct pool_stats){.ok = 32, .timed_out = 1, .replaced_timed_out = 1});
    pool_destroy(pool);
}

static void what_is_cancelled_counts_killed_or_dropped(void **state)
{
    struct pool *pool = make((struct pool_options){.workers = 1});
    struct pool_job *job = pool_map_async(pool, endless, pool_range(50), NULL);

    (void)state;
    await_start(0);
    pool_job_cancel(job);
    assert_int_equal(pool_job_wait(job, PATIENCE), POOL_CANCELLED);
    pool_job_free(job);
    assert_works(pool);
    assert_stats(pool, (struct pool_stats){.ok = 32, .cancelled = 50, .replaced_cancelled = 1});
    pool_destroy(pool);
}

static void what_fail_fast_drops_counts_as_cancelled(void **state)
{
    struct pool *pool = make((struct pool_options){.workers = 1});
    struct pool_stats s;

    (void)state;
    assert_int_equal(pool_map(pool, fails, pool_range(50), NULL, 0, &(struct pool_call){.fail_fast = 1}), POOL_FAILED);
    s = stats_of(pool);
    assert_true(s.failed >= 1);
    assert_int_equal(s.failed + s.cancelled, 50);
    pool_destroy(pool);
}

static void what_terminate_cuts_off_counts_as_cancelled(void **state)
{
    struct pool *pool = make((struct pool_options){.workers = 2});
    struct pool_job *job = pool_map_async(pool, endless, pool_range(40), NULL);
    struct pool_stats s;

    (void)state;
    await_start(0);
    pool_terminate(pool);
    assert_int_equal(pool_join(pool, PATIENCE), POOL_OK);
    s = stats_of(pool);
    assert_int_equal(s.cancelled, 40);
    assert_int_equal(s.replaced_cancelled + s.replaced_crashed, 0);     /* nobody was replaced */
    pool_job_free(job);
    pool_destroy(pool);
}

static void an_iterator_that_is_freed_counts_what_it_drops(void **state)
{
    struct pool *pool = make((struct pool_options){.workers = 1});
    struct pool_iter *iter = pool_imap(pool, good, pool_range(100), &(struct pool_call){.window = 2});
    struct pool_stats s;

    (void)state;
    assert_non_null(pool_next(iter));
    pool_iter_free(iter);
    assert_works(pool);
    s = stats_of(pool);
    assert_int_equal(s.ok + s.cancelled, 132);
    assert_true(s.cancelled >= 90);
    pool_destroy(pool);
}

static void max_tasks_count_by_worker(void **state)
{
    struct pool *pool = make((struct pool_options){.workers = 1, .max_tasks = 5});

    (void)state;
    assert_int_equal(pool_map(pool, good, pool_range(23), NULL, 0, NULL), POOL_OK);
    assert_stats(pool, (struct pool_stats){.ok = 23, .replaced_max_tasks = 4});
    assert_int_equal(worker_stats_of(pool, 0).items, 23);
    assert_true(worker_stats_of(pool, 0).births >= 5);
    pool_destroy(pool);
}

/* ---- Seconds */

static int takes_50_ms(struct pool_task *task)
{
    const struct timespec moment = {.tv_nsec = 50000000};

    nanosleep(&moment, NULL);
    return answer(task);
}

static int slow_initializer(struct pool_worker *worker)
{
    const struct timespec moment = {.tv_nsec = 60000000};

    (void)worker;
    nanosleep(&moment, NULL);
    return 0;
}

static void seconds_of_one_worker(void **state)
{
    int64_t began = clock_now();
    struct pool *pool = make((struct pool_options){.workers = 1, .initializer = slow_initializer});
    struct pool_worker_stats w;
    double all;

    (void)state;
    assert_int_equal(pool_map(pool, takes_50_ms, pool_range(4), NULL, 0, NULL), POOL_OK);
    w = worker_stats_of(pool, 0);
    all = (double)(clock_now() - began) * 1e-9;
    assert_true(w.startup >= 0.06);
    assert_true(w.busy >= 0.15);        /* the first item may have begun before the clock was read: then it is idle's, */
    assert_true(w.busy + w.idle >= 0.2);        /*   and not lost */
    assert_true(w.idle >= 0);
    assert_true(w.startup + w.busy + w.idle <= all + 1e-3);
    pool_destroy(pool);
}

static void what_goes_on_now_is_part_of_them(void **state)
{
    struct pool *pool = make((struct pool_options){.workers = 1});
    struct pool_job *job = pool_map_async(pool, waits, pool_range(1), NULL);
    double before;

    (void)state;
    await_start(0);
    before = worker_stats_of(pool, 0).busy;
    nap();
    assert_true(worker_stats_of(pool, 0).busy >= before + 0.001);
    atomic_store(&ledger->open, 1);
    assert_int_equal(pool_job_wait(job, PATIENCE), POOL_OK);
    pool_job_free(job);
    before = worker_stats_of(pool, 0).busy;
    double idle = worker_stats_of(pool, 0).idle;
    nap();
    assert_true(worker_stats_of(pool, 0).busy == before);
    assert_true(worker_stats_of(pool, 0).idle >= idle + 0.001);
    pool_destroy(pool);
}

static void seconds_never_go_back(void **state)
{
    struct pool *pool = make((struct pool_options){.workers = 1, .max_tasks = 7});
    struct pool_worker_stats last = worker_stats_of(pool, 0), now;

    (void)state;
    for (int i = 0; i < 60; i++) {
        assert_int_equal(pool_map(pool, good, pool_range(1), NULL, 0, NULL), POOL_OK);
        now = worker_stats_of(pool, 0);
        assert_true(now.items == last.items + 1);
        assert_true(now.births >= last.births);
        assert_true(now.busy >= last.busy && now.startup >= last.startup);
        last = now;
    }
    pool_destroy(pool);
}

/* ---- Asking */

static void asking_disturbs_nobody(void **state)
{
    struct pool *pool = make((struct pool_options){.workers = 2});
    struct pool_job *job = pool_map_async(pool, waits, pool_range(2), NULL);
    pid_t pids[2] = {worker_of(pool, 0), worker_of(pool, 1)};

    (void)state;
    await_start(0);
    await_start(1);
    for (unsigned i = 0; i < 1000; i++) {
        stats_of(pool);
        worker_stats_of(pool, i % 2);
        assert_int_equal(pool_worker_pid(pool, i % 2), pids[i % 2]);
    }
    atomic_store(&ledger->open, 1);
    assert_int_equal(pool_job_wait(job, PATIENCE), POOL_OK);
    pool_job_free(job);
    pool_destroy(pool);
}

struct asker {
    pthread_t    thread;
    struct pool *pool;
    _Atomic int  stop;
    int          wrong;
};

static void *ask_for_ever(void *arg)
{
    struct asker *a = arg;
    uint64_t last = 0;

    while (!a->stop) {
        struct pool_stats s;
        struct pool_worker_stats w;

        a->wrong |= pool_stats(a->pool, &s) != POOL_OK || s.ok < last;
        a->wrong |= pool_worker_stats(a->pool, 1, &w) != POOL_OK;
        a->wrong |= pool_size(a->pool) != 2;
        last = s.ok;
        nap();
    }
    return NULL;
}

static void another_thread_may_ask_meanwhile(void **state)
{
    struct pool *pool = make((struct pool_options){.workers = 2});
    struct asker a = {.pool = pool};

    (void)state;
    assert_int_equal(pthread_create(&a.thread, NULL, ask_for_ever, &a), 0);
    for (int i = 0; i < 20; i++)
        assert_int_equal(pool_map(pool, good, pool_range(1000), NULL, 0, NULL), POOL_OK);
    a.stop = 1;
    assert_int_equal(pthread_join(a.thread, NULL), 0);
    assert_int_equal(a.wrong, 0);
    assert_stats(pool, (struct pool_stats){.ok = 20000});
    pool_destroy(pool);
}

static void questions_that_make_no_sense(void **state)
{
    struct pool *pool = make((struct pool_options){.workers = 2, .max_workers = 3});
    struct pool_stats s;
    struct pool_worker_stats w;

    (void)state;
    assert_int_equal(pool_stats(NULL, &s), POOL_INVALID);
    assert_int_equal(pool_stats(pool, NULL), POOL_INVALID);
    assert_true(pool_error()[0] != '\0');
    assert_int_equal(pool_worker_stats(NULL, 0, &w), POOL_INVALID);
    assert_int_equal(pool_worker_stats(pool, 0, NULL), POOL_INVALID);
    assert_int_equal(pool_worker_stats(pool, 3, &w), POOL_INVALID);
    assert_true(pool_error()[0] != '\0');
    assert_int_equal(pool_worker_stats(pool, (unsigned)-1, &w), POOL_INVALID);
    w = worker_stats_of(pool, 2);       /* it may come to be */
    assert_int_equal(w.births, 0);
    assert_int_equal(w.items, 0);
    assert_int_equal(pool_worker_pid(pool, 2), 0);
    assert_int_equal(pool_worker_pid(NULL, 0), 0);
    pool_destroy(pool);
}

static void figures_of_an_index_stay_when_it_has_left(void **state)
{
    struct pool *pool = make((struct pool_options){.workers = 2});
    struct pool_worker_stats w;

    (void)state;
    for (int i = 0; i < 20000 && worker_stats_of(pool, 1).items == 0; i++)
        assert_int_equal(pool_map(pool, good, pool_range(50), NULL, 0, NULL), POOL_OK);
    w = worker_stats_of(pool, 1);
    assert_true(w.items > 0);
    assert_int_equal(pool_resize(pool, 1), POOL_OK);
    assert_works(pool);
    assert_int_equal(worker_stats_of(pool, 1).items, w.items);
    assert_int_equal(worker_stats_of(pool, 1).births, 1);
    assert_true(worker_stats_of(pool, 1).busy >= w.busy);
    pool_destroy(pool);
}

static void reserved_room_is_zero(void **state)
{
    struct pool *pool = make((struct pool_options){.workers = 1});
    struct pool_stats s = stats_of(pool);
    struct pool_worker_stats w = worker_stats_of(pool, 0);

    (void)state;
    for (int i = 0; i < 8; i++)
        assert_true(s.reserved[i] == 0 && w.reserved[i] == 0);
    pool_destroy(pool);
}

static void a_serial_pool_counts_items_as_well(void **state)
{
    struct pool *pool = make((struct pool_options){.serial = 1});

    (void)state;
    assert_int_equal(pool_map(pool, good, pool_range(10), NULL, 0, NULL), POOL_OK);
    assert_int_equal(pool_map(pool, fails, pool_range(3), NULL, 0, NULL), POOL_FAILED);
    assert_stats(pool, (struct pool_stats){.ok = 10, .failed = 3});
    assert_int_equal(pool_worker_pid(pool, 0), getpid());
    assert_int_equal(pool_worker_pid(pool, 1), 0);
    struct pool_worker_stats w;
    assert_int_equal(pool_worker_stats(pool, 0, &w), POOL_OK);
    assert_int_equal(pool_worker_stats(pool, 1, &w), POOL_INVALID);
    pool_destroy(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(a_new_pool_has_done_nothing),
        STORY(items_of_all_kinds_of_calls_count),
        STORY(failures_count_as_such),
        STORY(crashes_count_and_their_replacements),
        STORY(an_idle_worker_that_dies_costs_no_item),
        STORY(retries_count_as_starts),
        STORY(time_limits_count),
        STORY(what_is_cancelled_counts_killed_or_dropped),
        STORY(what_fail_fast_drops_counts_as_cancelled),
        STORY(what_terminate_cuts_off_counts_as_cancelled),
        STORY(an_iterator_that_is_freed_counts_what_it_drops),
        STORY(max_tasks_count_by_worker),
        STORY(seconds_of_one_worker),
        STORY(what_goes_on_now_is_part_of_them),
        STORY(seconds_never_go_back),
        STORY(asking_disturbs_nobody),
        STORY(another_thread_may_ask_meanwhile),
        STORY(questions_that_make_no_sense),
        STORY(figures_of_an_index_stay_when_it_has_left),
        STORY(reserved_room_is_zero),
        STORY(a_serial_pool_counts_items_as_well),
    };

    return cmocka_run_group_tests(tests, ledger_setup, ledger_teardown);
}
