/* max_tasks and max_memory: workers that have done or grown enough leave in order, and nobody notices but by their pids. No worker runs
 * more than it may, each runs its finalizer, its heir is born while it still works, two of one index never work at the same time, and
 * nothing is lost.
 *
 * ctest: timeout 120 */
#define _GNU_SOURCE
#include "ledger.h"

#include <signal.h>

#define MIB ((size_t)1 << 20)
enum { INDEXES = 16 };

struct notes {
    _Atomic int      busy[INDEXES];     /* tasks that run at this index now */
    _Atomic unsigned clashes;           /* times that there were two */
    _Atomic unsigned most;              /* items that any worker has run */
    _Atomic unsigned run;               /* all items */
    _Atomic unsigned begun, at_begun;   /* a replacement's initializer, and items that had been run then */
    _Atomic unsigned gone_on;           /* items went on meanwhile */
    _Atomic unsigned strangers;         /* workers of an index that there is not */
};

static struct notes *notes;
static unsigned mine;                   /* in a worker: items that it has run */

static int initializer(struct pool_worker *worker)
{
    atomic_fetch_add(&ledger->births, 1);
    if (worker->index >= INDEXES)
        atomic_fetch_add(&notes->strangers, 1);
    if (atomic_load(&ledger->fail))
        return pool_init_fail(worker, 7, "the licence has run out");
    return 0;
}

static void finalizer(struct pool_worker *worker)
{
    (void)worker;
    atomic_fetch_add(&ledger->ends, 1);
}

static struct pool *make(struct pool_options options)
{
    options.initializer = options.initializer ? options.initializer : initializer;
    options.finalizer = options.finalizer ? options.finalizer : finalizer;
    struct pool *pool = pool_create(&options);

    if (!pool)
        fail_msg("no pool: %s", pool_error());
    return pool;
}

static void enter(const struct pool_task *task)
{
    unsigned seen = atomic_load(&notes->most);

    mine++;
    while (mine > seen && !atomic_compare_exchange_weak(&notes->most, &seen, mine))
        ;
    if (atomic_fetch_add(&notes->busy[task->worker->index % INDEXES], 1))
        atomic_fetch_add(&notes->clashes, 1);
    atomic_fetch_add(&notes->run, 1);
}

static void leave(const struct pool_task *task)
{
    atomic_fetch_sub(&notes->busy[task->worker->index % INDEXES], 1);
}

static int tiny(struct pool_task *task)
{
    enter(task);
    leave(task);
    return answer(task);
}

static struct pool_stats stats_of(struct pool *pool)
{
    struct pool_stats stats;

    assert_int_equal(pool_stats(pool, &stats), POOL_OK);
    return stats;
}

static void end_well(struct pool *pool)
{
    pool_close(pool);
    assert_int_equal(pool_join(pool, PATIENCE), POOL_OK);
    assert_int_equal(notes->clashes, 0);
    assert_int_equal(notes->strangers, 0);
    pool_destroy(pool);
}

static void map_all(struct pool *pool, size_t count)
{
    long *values = calloc(count, sizeof *values);

    assert_non_null(values);
    if (pool_map(pool, tiny, pool_range(count), values, sizeof *values, NULL) != POOL_OK)
        fail_msg("%s", pool_error());
    for (size_t i = 0; i < count; i++)
        assert_int_equal(values[i], value_of(i));
    free(values);
}

/* ---- max_tasks */

static size_t many(void)
{
    return check_under("") ? 1000 : 20000;
}

/* Where each birth counts: under a tool it takes half a second. */
static size_t some(size_t count)
{
    return check_under("") ? count / 10 : count;
}

static void no_worker_runs_more(void **state)
{
    struct pool *pool = make((struct pool_options){.workers = 2, .max_tasks = 100});

    (void)state;
    map_all(pool, many());
    assert_int_equal(notes->run, many());
    assert_int_equal(notes->most, 100);
    assert_true(stats_of(pool).replaced_max_tasks >= many() / 100 - 2);
    end_well(pool);
}

static void one_after_another_at_each_item(void **state)
{
    struct pool *pool = make((struct pool_options){.workers = 2, .max_tasks = 1});

    (void)state;
    map_all(pool, some(100));
    assert_int_equal(notes->most, 1);
    assert_true(stats_of(pool).replaced_max_tasks >= some(100) - 2);
    end_well(pool);
}

static void a_single_worker_at_each_item(void **state)
{
    struct pool *pool = make((struct pool_options){.workers = 1, .max_tasks = 1});
    long value;

    (void)state;
    for (size_t i = 0; i < some(40); i++)
        assert_int_equal(pool_apply(pool, tiny, NULL, 0, &value, sizeof value, NULL), POOL_OK);
    assert_int_equal(notes->most, 1);
    end_well(pool);
}

static void the_number_is_exact_for_any_small_one(void **state)
{
    (void)state;
    for (unsigned most = 2; most <= 5; most++) {
        struct pool *pool = make((struct pool_options){.workers = 1, .max_tasks = most});

        notes->most = 0;
        map_all(pool, 4 * most);
        assert_int_equal(notes->most, most);
        assert_true(stats_of(pool).replaced_max_tasks >= 3);
        end_well(pool);
    }
}

static void chunks_do_not_make_it_more(void **state)
{
    struct pool *pool = make((struct pool_options){.workers = 2, .max_tasks = 7});
    const struct pool_call call = {.chunk = 50};

    (void)state;
    assert_int_equal(pool_map(pool, tiny, pool_range(some(300)), NULL, 0, &call), POOL_OK);
    assert_int_equal(notes->most, 7);
    assert_int_equal(notes->run, some(300));
    end_well(pool);
}

static void a_huge_number_is_none(void **state)
{
    struct pool *pool = make((struct pool_options){.workers = 1, .max_tasks = SIZE_MAX});
    pid_t pid = worker_of(pool, 0);

    (void)state;
    map_all(pool, 1000);
    assert_int_equal(worker_of(pool, 0), pid);
    end_well(pool);
}

static void iterators_lose_nothing(void **state)
{
    struct pool *pool = make((struct pool_options){.workers = 2, .max_tasks = 50});
    size_t next = 0, count = many() / 10;
    struct pool_iter *iter = pool_imap(pool, tiny, pool_range(count), NULL);
    const struct pool_result *r;

    (void)state;
    while ((r = pool_next(iter))) {
        assert_int_equal(r->index, next++);
        assert_int_equal(r->status, POOL_OK);
    }
    assert_int_equal(next, count);
    pool_iter_free(iter);
    assert_true(notes->most <= 50);
    end_well(pool);
}

static int counts_up(void *cursor, struct pool_bytes *item)
{
    size_t *next = cursor;

    *item = (struct pool_bytes){next, sizeof *next};
    return (*next)++ < some(400);
}

static void generators_lose_nothing(void **state)
{
    struct pool *pool = make((struct pool_options){.workers = 2, .max_tasks = 10});
    size_t cursor = 0, count = 0;
    struct pool_iter *iter = pool_imap_unordered(pool, tiny, pool_generator(counts_up, &cursor), NULL);
    const struct pool_result *r;

    (void)state;
    while ((r = pool_next(iter))) {
        assert_int_equal(r->status, POOL_OK);
        count++;
    }
    assert_int_equal(count, some(400));
    assert_int_equal(notes->run, some(400));
    assert_true(notes->most <= 10);
    pool_iter_free(iter);
    end_well(pool);
}

static void jobs_lose_nothing(void **state)
{
    enum { MOST = 100 };
    const size_t jobs_count = some(MOST);
    struct pool *pool = make((struct pool_options){.workers = 2, .max_tasks = 3});
    struct pool_job *jobs[MOST];

    (void)state;
    for (size_t i = 0; i < jobs_count; i++)
        assert_non_null(jobs[i] = pool_map_async(pool, tiny, pool_range(2), NULL));
    for (size_t i = 0; i < jobs_count; i++) {
        if (pool_job_wait(jobs[i], PATIENCE) != POOL_OK)
            fail_msg("%s", pool_error());
        pool_job_free(jobs[i]);
    }
    assert_int_equal(notes->run, 2 * jobs_count);
    assert_true(notes->most <= 3);
    end_well(pool);
}

static int some_die(struct pool_task *task)
{
    enter(task);
    leave(task);
    if (task->index % 10 == 9)
        raise(SIGKILL);
    return answer(task);
}

static void crashes_in_between_cost_their_own_items(void **state)
{
    struct pool *pool = make((struct pool_options){.workers = 2, .max_tasks = 5});
    struct end ends[200];

    (void)state;
    run(pool, some_die, some(200), ends);
    for (size_t i = 0; i < some(200); i++) {
        if (i % 10 == 9)
            assert_crashed(&ends[i], 0, SIGKILL);
        else
            assert_good(&ends[i], i);
    }
    assert_true(notes->most <= 5);
    assert_works(pool);
    end_well(pool);
}

/* ---- In order */

static void each_that_was_born_runs_its_finalizer(void **state)
{
    struct pool *pool = make((struct pool_options){.workers = 2, .max_tasks = 4});
    unsigned left;

    (void)state;
    map_all(pool, some(160));
    left = (unsigned)stats_of(pool).replaced_max_tasks;
    assert_true(left >= some(160) / 4 - 2);
    end_well(pool);
    /* Only heirs that were not ready yet when all was over are killed: one for each index at most. */
    assert_true(ledger->ends >= left);
    assert_true(ledger->births >= ledger->ends && ledger->births - ledger->ends <= 2);
}

static void indexes_stay_the_same(void **state)
{
    struct pool *pool = make((struct pool_options){.workers = 3, .max_tasks = 2});
    struct pool_worker_stats w;
    uint64_t items = 0;

    (void)state;
    map_all(pool, some(90));
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(pool_worker_stats(pool, i, &w), POOL_OK);
        items += w.items;
    }
    assert_int_equal(items, some(90));
    for (unsigned i = 3; i < INDEXES; i++)
        assert_int_equal(notes->busy[i], 0);
    end_well(pool);
}

/* A replacement's initializer goes on only when further items have been run: the one that is to leave works on meanwhile. */
static int waits_for_items(struct pool_worker *worker)
{
    if (atomic_fetch_add(&ledger->births, 1) != 1)
        return 0;
    (void)worker;
    notes->at_begun = notes->run;
    notes->begun = 1;
    for (int i = 0; i < 20000 && notes->run < notes->at_begun + 3; i++)
        nap();
    notes->gone_on = notes->run >= notes->at_begun + 3;
    return 0;
}

static int takes_5_ms(struct pool_task *task)
{
    enter(task);
    for (int i = 0; i < 5; i++)
        nap();
    leave(task);
    return answer(task);
}

static void items_go_on_while_the_heir_is_made(void **state)
{
    struct pool *pool = make((struct pool_options){.workers = 1, .max_tasks = 60, .initializer = waits_for_items});

    (void)state;
    assert_int_equal(pool_map(pool, takes_5_ms, pool_range(70), NULL, 0, NULL), POOL_OK);
    assert_int_equal(notes->begun, 1);
    assert_int_equal(notes->gone_on, 1);
    assert_int_equal(notes->most, 60);
    end_well(pool);
}

/* The old one's finalizer takes its time: the heir does not wait for it. */
static void slow_finalizer(struct pool_worker *worker)
{
    unsigned seen = notes->run;

    (void)worker;
    notes->begun = 1;
    for (int i = 0; i < 20000 && notes->run < seen + 2 && !ledger->open; i++)
        nap();
    if (notes->run >= seen + 2)
        notes->gone_on = 1;
    atomic_fetch_add(&ledger->ends, 1);
}

/* Some of the heir's are still to come when the old one is in its finalizer. */
static int comes_when_the_old_one_ends(struct pool_task *task)
{
    for (int i = 0; i < 20000 && task->index >= 13 && !notes->begun; i++)
        nap();
    return tiny(task);
}

static void items_go_on_while_the_old_one_ends(void **state)
{
    struct pool *pool = make((struct pool_options){.workers = 1, .max_tasks = 10, .finalizer = slow_finalizer});

    (void)state;
    assert_int_equal(pool_map(pool, comes_when_the_old_one_ends, pool_range(18), NULL, 0, NULL), POOL_OK);
    atomic_store(&ledger->open, 1);
    end_well(pool);
    assert_int_equal(notes->gone_on, 1);
}

static void finalizer_that_stays(struct pool_worker *worker)
{
    (void)worker;
    atomic_fetch_add(&ledger->ends, 1);
    if (!ledger->open)
        pause_for_ever();
}

static void a_finalizer_that_stays_does_not_stop_the_pool(void **state)
{
    struct pool *pool = make((struct pool_options){.workers = 1, .max_tasks = 1, .finalizer = finalizer_that_stays});
    struct end ends[3];

    (void)state;
    run(pool, tiny, 3, ends);
    for (size_t i = 0; i < 3; i++)
        assert_good(&ends[i], i);
    assert_true(ledger->ends >= 2);
    pool_destroy(pool);
}

static void an_initializer_that_fails_breaks_the_pool(void **state)
{
    struct pool *pool = make((struct pool_options){.workers = 2, .max_tasks = 2});

    (void)state;
    atomic_store(&ledger->fail, 1);
    assert_int_equal(pool_map(pool, tiny, pool_range(100), NULL, 0, NULL), POOL_BROKEN);
    assert_non_null(strstr(pool_error(), "the licence has run out"));
    assert_int_equal(pool_map(pool, tiny, pool_range(1), NULL, 0, NULL), POOL_BROKEN);
    assert_true(ledger->births <= 12);
    assert_true(notes->run <= 4);
    pool_destroy(pool);
}

static void close_while_heirs_are_born(void **state)
{
    (void)state;
    for (size_t i = 1; i < 12; i += check_under("") ? 5 : 2) {
        struct pool *pool = make((struct pool_options){.workers = 2, .max_tasks = 4});

        map_all(pool, i);
        end_well(pool);
    }
}

static void terminate_while_heirs_are_born(void **state)
{
    (void)state;
    for (size_t i = 1; i < 12; i += check_under("") ? 5 : 2) {
        struct pool *pool = make((struct pool_options){.workers = 2, .max_tasks = 4});

        map_all(pool, i);
        pool_terminate(pool);
        assert_int_equal(pool_join(pool, PATIENCE), POOL_OK);
        pool_destroy(pool);
    }
}

/* ---- max_memory */

/* A MiB that is never given back, in 2 ms, so that each item is looked at. */
static int leaks(struct pool_task *task)
{
    char *at = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (at == MAP_FAILED)
        return 1;
    enter(task);
    memset(at, 1, MIB);
    nap();
    nap();
    leave(task);
    return answer(task);
}

static void a_worker_that_grows_is_replaced_soon(void **state)
{
    struct pool *pool = make((struct pool_options){.workers = 1, .max_memory = 8 * MIB});
    struct pool_stats stats;

    (void)state;
    assert_int_equal(pool_map(pool, leaks, pool_range(40), NULL, 0, NULL), POOL_OK);
    stats = stats_of(pool);
    assert_true(stats.replaced_max_memory >= 3);
    assert_int_equal(stats.replaced_max_tasks, 0);
    assert_int_equal(stats.replaced_crashed, 0);
    assert_true(notes->most <= 12);
    assert_true(check_under("") || notes->most >= 6);
    end_well(pool);
    assert_true(ledger->ends >= 4);
}

static int does_not_leak(struct pool_task *task)
{
    nap();
    nap();
    return tiny(task);
}

static void one_that_does_not_grow_stays(void **state)
{
    struct pool *pool = make((struct pool_options){.workers = 1, .max_memory = (check_under("") ? 512 : 8) * MIB});
    pid_t pid = worker_of(pool, 0);

    (void)state;
    assert_int_equal(pool_map(pool, does_not_leak, pool_range(60), NULL, 0, NULL), POOL_OK);
    assert_int_equal(worker_of(pool, 0), pid);
    assert_int_equal(stats_of(pool).replaced_max_memory, 0);
    end_well(pool);
}

static char *hosts;
enum { HOSTS_MIB = 200 };

static int reads_the_hosts(struct pool_task *task)
{
    long sum = 0;

    for (size_t i = 0; i < HOSTS_MIB * MIB; i += 4096)
        sum += ((volatile char *)hosts)[i];
    return sum ? does_not_leak(task) : 1;
}

static void memory_of_the_hosts_does_not_count(void **state)
{
    struct pool *pool;
    pid_t pid;

    (void)state;
    if (check_under("")) {
        print_message("skipped: a tool keeps books of its own on what is read\n");
        skip();
    }
    hosts = mmap(NULL, HOSTS_MIB * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(hosts != MAP_FAILED);
    memset(hosts, 1, HOSTS_MIB * MIB);
    pool = make((struct pool_options){.workers = 1, .max_memory = 8 * MIB});
    pid = worker_of(pool, 0);
    assert_int_equal(pool_map(pool, reads_the_hosts, pool_range(3), NULL, 0, NULL), POOL_OK);
    assert_int_equal(worker_of(pool, 0), pid);
    assert_int_equal(stats_of(pool).replaced_max_memory, 0);
    end_well(pool);
    munmap(hosts, HOSTS_MIB * MIB);
}

static int grows_at_birth(struct pool_worker *worker)
{
    char *at = mmap(NULL, 30 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (at == MAP_FAILED)
        return 1;
    memset(at, 1, 30 * MIB);
    return initializer(worker);
}

static void what_an_initializer_takes_does_not_count(void **state)
{
    struct pool *pool = make((struct pool_options){.workers = 1, .max_memory = (check_under("") ? 512 : 8) * MIB,
                                                   .initializer = grows_at_birth});

    (void)state;
    assert_int_equal(pool_map(pool, does_not_leak, pool_range(20), NULL, 0, NULL), POOL_OK);
    assert_int_equal(stats_of(pool).replaced_max_memory, 0);
    end_well(pool);
}

static void both_limits_at_once(void **state)
{
    struct pool *pool = make((struct pool_options){.workers = 1, .max_memory = 512 * MIB, .max_tasks = 5});

    (void)state;
    assert_int_equal(pool_map(pool, leaks, pool_range(20), NULL, 0, NULL), POOL_OK);
    assert_true(stats_of(pool).replaced_max_tasks >= 3);
    assert_int_equal(stats_of(pool).replaced_max_memory, 0);
    assert_int_equal(notes->most, 5);
    end_well(pool);
}

static int setup(void **state)
{
    ledger_setup(state);
    notes = mmap(NULL, sizeof *notes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return notes == MAP_FAILED;
}

static int teardown(void **state)
{
    munmap(notes, sizeof *notes);
    return ledger_teardown(state);
}

static int clear(void **state)
{
    memset(notes, 0, sizeof *notes);
    return ledger_clear(state);
}

#define RECYCLING(function) cmocka_unit_test_setup(function, clear)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RECYCLING(no_worker_runs_more),
        RECYCLING(one_after_another_at_each_item),
        RECYCLING(a_single_worker_at_each_item),
        RECYCLING(the_number_is_exact_for_any_small_one),
        RECYCLING(chunks_do_not_make_it_more),
        RECYCLING(a_huge_number_is_none),
        RECYCLING(iterators_lose_nothing),
        RECYCLING(generators_lose_nothing),
        RECYCLING(jobs_lose_nothing),
        RECYCLING(crashes_in_between_cost_their_own_items),
        RECYCLING(each_that_was_born_runs_its_finalizer),
        RECYCLING(indexes_stay_the_same),
        RECYCLING(items_go_on_while_the_heir_is_made),
        RECYCLING(items_go_on_while_the_old_one_ends),
        RECYCLING(a_finalizer_that_stays_does_not_stop_the_pool),
        RECYCLING(an_initializer_that_fails_breaks_the_pool),
        RECYCLING(close_while_heirs_are_born),
        RECYCLING(terminate_while_heirs_are_born),
        RECYCLING(a_worker_that_grows_is_replaced_soon),
        RECYCLING(one_that_does_not_grow_stays),
        RECYCLING(memory_of_the_hosts_does_not_count),
        RECYCLING(what_an_initializer_takes_does_not_count),
        RECYCLING(both_limits_at_once),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
