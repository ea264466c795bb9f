/* pool_resize: newcomers take part in what runs, the highest indexes leave in order, and nothing is lost however often and whenever it is
 * called.
 *
 * ctest: timeout 120 */
#define _GNU_SOURCE
#include "ledger.h"
#include "pool.h"

#include <errno.h>
#include <pthread.h>

enum { MOST = 4, INDEXES = 16 };

/* What workers note beside the ledger. */
struct notes {
    _Atomic int      busy[INDEXES];     /* tasks that run at this index now */
    _Atomic unsigned clashes;           /* times that there were two */
    _Atomic unsigned begun[INDEXES], ended[INDEXES];    /* initializers done, finalizers run */
};

static struct notes *notes;

static int initializer(struct pool_worker *worker)
{
    atomic_fetch_add(&ledger->births, 1);
    if (atomic_load(&ledger->fail))
        return pool_init_fail(worker, 7, "not any more");
    atomic_fetch_add(&notes->begun[worker->index % INDEXES], 1);
    return 0;
}

static void finalizer(struct pool_worker *worker)
{
    atomic_fetch_add(&notes->ended[worker->index % INDEXES], 1);
    atomic_fetch_add(&ledger->ends, 1);
}

static struct pool *make_with(struct pool_options options)
{
    options.initializer = options.initializer ? options.initializer : initializer;
    options.finalizer = finalizer;
    struct pool *pool = pool_create(&options);

    if (!pool)
        fail_msg("no pool: %s", pool_error());
    return pool;
}

static struct pool *make(unsigned workers, unsigned most)
{
    return make_with((struct pool_options){.workers = workers, .max_workers = most});
}

static void resize(struct pool *pool, unsigned workers)
{
    if (pool_resize(pool, workers) != POOL_OK)
        fail_msg("%s", pool_error());
    assert_int_equal(pool_size(pool), workers);
}

static void enter(const struct pool_task *task)
{
    if (atomic_fetch_add(&notes->busy[task->worker->index % INDEXES], 1))
        atomic_fetch_add(&notes->clashes, 1);
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

static int waits(struct pool_task *task)
{
    note_start(task);
    enter(task);
    wait_for_gate();
    leave(task);
    return answer(task);
}

struct wanted {
    struct pool *pool;
    unsigned     count;
};

static int so_many_are_there(void *arg)
{
    const struct wanted *w = arg;
    size_t count;

    pool_worker_pid(w->pool, 0);        /* has the loop turned */
    sched_enter(&w->pool->sched);
    count = w->pool->sched.crew.hands_count;
    sched_leave(&w->pool->sched);
    return count == w->count;           /* those that leave, and may still have a pid, are not among them */
}

static void await_workers(struct pool *pool, unsigned count)
{
    struct wanted w = {pool, count};

    assert_true(check_until(so_many_are_there, &w, PATIENCE));
}

static int so_many_have_left(void *arg)
{
    const struct wanted *w = arg;

    pool_worker_pid(w->pool, 0);
    return ledger->ends == w->count;
}

static void await_ends(struct pool *pool, unsigned count)
{
    struct wanted w = {pool, count};

    assert_true(check_until(so_many_have_left, &w, PATIENCE));
}

static void end_well(struct pool *pool)
{
    pool_close(pool);
    assert_int_equal(pool_join(pool, PATIENCE), POOL_OK);
    assert_int_equal(notes->clashes, 0);
    pool_destroy(pool);
}

/* ---- Up */

static void newcomers_take_part_in_what_runs(void **state)
{
    struct pool *pool = make(1, 3);
    struct pool_job *job = pool_map_async(pool, waits, pool_range(3), NULL);
    const struct pool_results *list;

    (void)state;
    assert_non_null(job);
    await_start(0);
    resize(pool, 3);
    await_start(1);                     /* though the first item has not ended */
    await_start(2);
    atomic_store(&ledger->open, 1);
    assert_int_equal(pool_job_wait(job, PATIENCE), POOL_OK);
    list = pool_job_results(job);
    assert_true(pool_results_at(list, 0)->pid != pool_results_at(list, 1)->pid);
    assert_true(pool_results_at(list, 0)->pid != pool_results_at(list, 2)->pid);
    assert_true(pool_results_at(list, 1)->pid != pool_results_at(list, 2)->pid);
    pool_job_free(job);
    end_well(pool);
}

static void *grow_there(void *arg)
{
    struct pool *pool = arg;
    size_t first = 0, second = 1;
    int grown = check_until(has_started, &first, PATIENCE) && pool_resize(pool, 2) == POOL_OK &&
                check_until(has_started, &second, PATIENCE);

    atomic_store(&ledger->open, 1);
    return grown ? pool : NULL;
}

static void a_waiting_map_gets_them_from_another_thread(void **state)
{
    struct pool *pool = make(1, 2);
    pthread_t thread;
    void *grown;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, grow_there, pool), 0);
    assert_int_equal(pool_map(pool, waits, pool_range(2), NULL, 0, NULL), POOL_OK);
    assert_int_equal(pthread_join(thread, &grown), 0);
    assert_non_null(grown);
    end_well(pool);
}

static void newcomers_are_initialized_and_have_the_next_indexes(void **state)
{
    struct pool *pool = make(2, MOST);

    (void)state;
    resize(pool, MOST);
    await_workers(pool, MOST);
    for (unsigned i = 0; i < MOST; i++)
        assert_int_equal(notes->begun[i], 1);
    end_well(pool);
    for (unsigned i = 0; i < MOST; i++)
        assert_int_equal(notes->ended[i], 1);
}

static int slow_initializer(struct pool_worker *worker)
{
    if (worker->index)
        wait_for_gate();
    return initializer(worker);
}

static void newcomers_are_not_waited_for(void **state)
{
    struct pool *pool = make_with((struct pool_options){.workers = 1, .max_workers = 2, .initializer = slow_initializer});

    (void)state;
    resize(pool, 2);
    assert_works(pool);                 /* with the one that is there */
    assert_int_equal(pool_worker_pid(pool, 1), 0);
    atomic_store(&ledger->open, 1);
    await_workers(pool, 2);
    end_well(pool);
}

static void newcomers_that_cannot_be_break_the_pool(void **state)
{
    struct pool *pool = make(1, 2);
    enum pool_status status = POOL_OK;

    (void)state;
    atomic_store(&ledger->fail, 1);
    resize(pool, 2);
    for (int i = 0; i < 20000 && status == POOL_OK; i++) {
        nap();
        status = pool_map(pool, tiny, pool_range(1), NULL, 0, NULL);
    }
    assert_int_equal(status, POOL_BROKEN);
    assert_non_null(strstr(pool_error(), "not any more"));
    assert_int_equal(pool_resize(pool, 1), POOL_BROKEN);
    assert_true(ledger->births <= 10);
    pool_destroy(pool);
}

/* ---- Down */

static void the_highest_indexes_leave_in_order(void **state)
{
    struct pool *pool = make(MOST, 0);
    pid_t first = worker_of(pool, 0), last = worker_of(pool, MOST - 1);

    (void)state;
    resize(pool, 2);
    await_ends(pool, 2);
    await_death(last);
    assert_int_equal(notes->ended[0] + notes->ended[1], 0);
    assert_int_equal(notes->ended[2], 1);
    assert_int_equal(notes->ended[3], 1);
    assert_int_equal(pool_worker_pid(pool, 2), 0);
    assert_int_equal(pool_worker_pid(pool, 3), 0);
    assert_int_equal(pool_worker_pid(pool, 0), first);
    assert_works(pool);
    end_well(pool);
}

static void what_they_run_is_ended_first(void **state)
{
    struct pool *pool = make(2, 0);
    struct pool_job *job = pool_map_async(pool, waits, pool_range(8), NULL);

    (void)state;
    assert_non_null(job);
    await_start(0);
    for (unsigned i = 0; i < 20000 && ledger->started[1] + ledger->started[2] + ledger->started[3] + ledger->started[4] == 0; i++)
        nap();
    resize(pool, 1);
    assert_int_equal(ledger->ends, 0);
    atomic_store(&ledger->open, 1);
    assert_int_equal(pool_job_wait(job, PATIENCE), POOL_OK);
    for (size_t i = 0; i < 8; i++) {
        assert_int_equal(pool_results_at(pool_job_results(job), i)->status, POOL_OK);
        assert_int_equal(ledger->started[i], 1);
    }
    await_ends(pool, 1);
    assert_int_equal(notes->ended[1], 1);
    pool_job_free(job);
    end_well(pool);
}

/* What only waited behind a running item of a leaver's runs elsewhere at once. */
static int second_index_waits(struct pool_task *task)
{
    note_start(task);
    if (task->worker->index == 1)
        wait_for_gate();
    return answer(task);
}

struct taking {
    struct pool_iter *iter;
    struct end        ends[16];
    unsigned          got;
};

static int has_got_all_but_one(void *arg)
{
    struct taking *t = arg;
    const struct pool_result *r = pool_next_timeout(t->iter, 0);

    if (r) {
        t->ends[r->index].times++;
        t->got++;
    }
    return t->got == 15;
}

static void what_waits_behind_it_runs_elsewhere(void **state)
{
    struct pool *pool = make(2, 0);
    const struct pool_call call = {.chunk = 8};
    struct taking t = {.iter = pool_imap_unordered(pool, second_index_waits, pool_range(16), &call)};

    (void)state;
    assert_non_null(t.iter);
    resize(pool, 1);
    if (!check_until(has_got_all_but_one, &t, PATIENCE))
        fail_msg("only %u came", t.got);
    atomic_store(&ledger->open, 1);
    assert_non_null(pool_next(t.iter));
    assert_null(pool_next(t.iter));
    pool_iter_free(t.iter);
    end_well(pool);
}

static void the_same_size_changes_nothing(void **state)
{
    struct pool *pool = make(2, MOST);
    pid_t first = worker_of(pool, 0), second = worker_of(pool, 1);

    (void)state;
    resize(pool, 2);
    assert_works(pool);
    assert_int_equal(worker_of(pool, 0), first);
    assert_int_equal(worker_of(pool, 1), second);
    assert_int_equal(ledger->births, 2);
    end_well(pool);
}

/* ---- Up and down */

static void down_and_up_again(void **state)
{
    struct pool *pool = make(MOST, 0);

    (void)state;
    for (int i = 0; i < (check_under("") ? 2 : 5); i++) {
        resize(pool, 1);
        assert_works(pool);
        resize(pool, MOST);
        await_workers(pool, MOST);
        assert_works(pool);
    }
    end_well(pool);
    for (unsigned i = 0; i < MOST; i++)
        assert_int_equal(notes->begun[i], notes->ended[i]);
}

static void up_down_up_in_a_breath(void **state)
{
    struct pool *pool = make_with((struct pool_options){.workers = 1, .max_workers = MOST, .initializer = slow_initializer});

    (void)state;
    for (int i = 0; i < 10; i++) {      /* those that are still starting are killed, which is nobody's failure */
        resize(pool, MOST);
        resize(pool, 1);
        resize(pool, MOST);
        assert_works(pool);
    }
    atomic_store(&ledger->open, 1);
    await_workers(pool, MOST);
    assert_works(pool);
    end_well(pool);
}

static void down_and_up_while_the_leavers_are_busy(void **state)
{
    struct pool *pool = make(2, 0);
    struct pool_job *job = pool_map_async(pool, waits, pool_range(6), NULL);

    (void)state;
    assert_non_null(job);
    await_start(0);
    for (int i = 0; i < 5; i++) {
        resize(pool, 1);
        resize(pool, 2);
    }
    atomic_store(&ledger->open, 1);
    assert_int_equal(pool_job_wait(job, PATIENCE), POOL_OK);
    pool_job_free(job);
    await_workers(pool, 2);
    assert_works(pool);
    end_well(pool);
}

/* ---- Nothing is lost */

struct turmoil {
    pthread_t    thread;
    struct pool *pool;
    _Atomic int  stop;
    _Atomic unsigned times;
    enum pool_status status;
};

static int has_resized(void *turmoil)
{
    return ((struct turmoil *)turmoil)->times > 0;
}

static void *resize_for_ever(void *arg)
{
    struct turmoil *t = arg;
    unsigned seed = 11;

    while (!t->stop) {
        seed = seed * 1103515245u + 12345u;
        enum pool_status status = pool_resize(t->pool, 1 + (seed >> 16) % MOST);
        t->status = status ? status : t->status;
        t->times++;
        if ((seed >> 24) % 4)
            nap();
    }
    return NULL;
}

static void begin_turmoil(struct turmoil *t, struct pool *pool)
{
    *t = (struct turmoil){.pool = pool};
    assert_int_equal(pthread_create(&t->thread, NULL, resize_for_ever, t), 0);
    assert_true(check_until(has_resized, t, PATIENCE));
}

static void end_turmoil(struct turmoil *t)
{
    t->stop = 1;
    assert_int_equal(pthread_join(t->thread, NULL), 0);
    assert_int_equal(t->status, POOL_OK);
}

static size_t many(void)
{
    return check_under("") ? 2000 : 100000;
}

static void map_of(struct pool *pool, size_t count)
{
    long *values = calloc(count, sizeof *values);

    assert_non_null(values);
    if (pool_map(pool, tiny, pool_range(count), values, sizeof *values, NULL) != POOL_OK)
        fail_msg("%s", pool_error());
    for (size_t i = 0; i < count; i++)
        assert_int_equal(values[i], value_of(i));
    free(values);
}

static void map_in_turmoil(struct pool *pool)
{
    map_of(pool, many());
}

static void recycle_in_turmoil(struct pool *pool)
{
    map_of(pool, many() / 5);
}

static void iterate_in_turmoil(struct pool *pool)
{
    size_t count = many() / 4, next = 0;
    struct pool_iter *iter = pool_imap(pool, tiny, pool_range(count), NULL);
    const struct pool_result *r;

    assert_non_null(iter);
    while ((r = pool_next(iter))) {
        assert_int_equal(r->index, next++);
        assert_int_equal(r->status, POOL_OK);
    }
    assert_int_equal(next, count);
    assert_int_equal(pool_iter_status(iter), POOL_OK);
    pool_iter_free(iter);
}

static void jobs_in_turmoil(struct pool *pool)
{
    enum { JOBS = 200 };
    struct pool_job *jobs[JOBS];

    for (int i = 0; i < JOBS; i++)
        assert_non_null(jobs[i] = pool_map_async(pool, tiny, pool_range(5), NULL));
    for (int i = 0; i < JOBS; i++) {
        if (pool_job_wait(jobs[i], PATIENCE) != POOL_OK)
            fail_msg("%s", pool_error());
        pool_job_free(jobs[i]);
    }
}

static void in_turmoil(struct pool_options options, void (*act)(struct pool *))
{
    struct turmoil t;
    struct pool *pool = make_with(options);

    begin_turmoil(&t, pool);
    act(pool);
    end_turmoil(&t);
    resize(pool, 2);
    assert_works(pool);
    end_well(pool);
}

static void maps_under_constant_resizing(void **state)
{
    (void)state;
    in_turmoil((struct pool_options){.workers = MOST}, map_in_turmoil);
}

static void iterators_under_constant_resizing(void **state)
{
    (void)state;
    in_turmoil((struct pool_options){.workers = 2, .max_workers = MOST}, iterate_in_turmoil);
}

static void jobs_under_constant_resizing(void **state)
{
    (void)state;
    in_turmoil((struct pool_options){.workers = 1, .max_workers = MOST}, jobs_in_turmoil);
}

static void recycling_under_constant_resizing(void **state)
{
    (void)state;
    in_turmoil((struct pool_options){.workers = 2, .max_workers = MOST, .max_tasks = 500}, recycle_in_turmoil);
}

/* Heirs that are there already leave in order, too. */
static void heirs_leave_as_well(void **state)
{
    struct pool *pool = make_with((struct pool_options){.workers = 2, .max_tasks = 20});
    struct wanted w = {pool, 0};
    struct pool_stats stats;

    (void)state;
    for (int i = 0; i < 24; i++)        /* more than half of what one may do: at one of them at least an heir is born */
        assert_int_equal(pool_map(pool, tiny, pool_range(1), NULL, 0, NULL), POOL_OK);
    for (unsigned i = 0; i < 20000 && ledger->births < 3; i++) {
        pool_worker_pid(pool, 0);
        nap();
    }
    assert_true(ledger->births >= 3);
    for (int i = 0; i < 3; i++)
        assert_int_equal(pool_map(pool, tiny, pool_range(1), NULL, 0, NULL), POOL_OK);
    resize(pool, 1);
    resize(pool, 2);
    assert_works(pool);
    resize(pool, 1);
    assert_works(pool);
    w.count = 1;
    assert_true(check_until(so_many_are_there, &w, PATIENCE));
    assert_int_equal(pool_stats(pool, &stats), POOL_OK);
    assert_int_equal(stats.replaced_crashed, 0);
    end_well(pool);
}

/* ---- Refused */

static void sizes_that_cannot_be(void **state)
{
    struct pool *pool = make(2, 3);

    (void)state;
    assert_int_equal(pool_resize(pool, 0), POOL_INVALID);
    assert_non_null(strstr(pool_error(), "max_workers"));
    assert_int_equal(pool_resize(pool, 4), POOL_INVALID);
    assert_non_null(strstr(pool_error(), "max_workers"));
    assert_int_equal(pool_resize(pool, (unsigned)-1), POOL_INVALID);
    assert_int_equal(pool_size(pool), 2);
    resize(pool, 3);
    end_well(pool);
}

static void without_max_workers_there_is_no_growing(void **state)
{
    struct pool *pool = make(2, 0);

    (void)state;
    assert_int_equal(pool_resize(pool, 3), POOL_INVALID);
    resize(pool, 1);
    resize(pool, 2);
    end_well(pool);
}

static void fewer_than_workers_are_no_most(void **state)
{
    (void)state;
    errno = 0;
    assert_null(pool_create(&(struct pool_options){.workers = 3, .max_workers = 2}));
    assert_int_equal(errno, EINVAL);
    assert_non_null(strstr(pool_error(), "max_workers"));
}

static void no_pool_and_a_serial_one(void **state)
{
    struct pool *pool = pool_create(&(struct pool_options){.serial = 1, .max_workers = 4});

    (void)state;
    assert_int_equal(pool_resize(NULL, 1), POOL_INVALID);
    assert_int_equal(pool_size(NULL), 0);
    assert_non_null(pool);
    assert_int_equal(pool_resize(pool, 2), POOL_INVALID);
    assert_non_null(strstr(pool_error(), "serial"));
    assert_int_equal(pool_resize(pool, 1), POOL_INVALID);
    assert_int_equal(pool_size(pool), 1);
    pool_destroy(pool);
}

static void after_the_end(void **state)
{
    (void)state;
    for (int terminated = 0; terminated < 2; terminated++) {
        struct pool *pool = make(1, 2);

        if (terminated)
            pool_terminate(pool);
        else
            pool_close(pool);
        assert_int_equal(pool_resize(pool, 2), POOL_CLOSED);
        assert_int_equal(pool_resize(pool, 0), POOL_CLOSED);
        assert_int_equal(pool_join(pool, PATIENCE), POOL_OK);
        assert_int_equal(pool_resize(pool, 2), POOL_CLOSED);
        assert_int_equal(pool_size(pool), 1);
        pool_destroy(pool);
    }
}

static void close_while_newcomers_start(void **state)
{
    struct pool *pool = make_with((struct pool_options){.workers = 1, .max_workers = 3, .initializer = slow_initializer});

    (void)state;
    resize(pool, 3);
    end_well(pool);                     /* their initializers wait for a gate that never opens */
    assert_int_equal(notes->ended[0], 1);
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

#define RESIZE(function) cmocka_unit_test_setup(function, clear)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RESIZE(newcomers_take_part_in_what_runs),
        RESIZE(a_waiting_map_gets_them_from_another_thread),
        RESIZE(newcomers_are_initialized_and_have_the_next_indexes),
        RESIZE(newcomers_are_not_waited_for),
        RESIZE(newcomers_that_cannot_be_break_the_pool),
        RESIZE(the_highest_indexes_leave_in_order),
        RESIZE(what_they_run_is_ended_first),
        RESIZE(what_waits_behind_it_runs_elsewhere),
        RESIZE(the_same_size_changes_nothing),
        RESIZE(down_and_up_again),
        RESIZE(up_down_up_in_a_breath),
        RESIZE(down_and_up_while_the_leavers_are_busy),
        RESIZE(maps_under_constant_resizing),
        RESIZE(iterators_under_constant_resizing),
        RESIZE(jobs_under_constant_resizing),
        RESIZE(recycling_under_constant_resizing),
        RESIZE(heirs_leave_as_well),
        RESIZE(sizes_that_cannot_be),
        RESIZE(without_max_workers_there_is_no_growing),
        RESIZE(fewer_than_workers_are_no_most),
        RESIZE(no_pool_and_a_serial_one),
        RESIZE(after_the_end),
        RESIZE(close_while_newcomers_start),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
