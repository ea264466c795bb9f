/* Asynchronous calls: a job is asked, waited for, read, cancelled and freed in every order, by any thread, and ends as its call would have.
 *
 * Tasks wait at the ledger's gate where the test has to do something before they end. Where a test needs a thread to be inside a wait,
 * it asks the pool's own count of callers for it. Most pools have one or two workers, so that it is known what has not started.
 *
 * ctest: label memcheck */
#define _GNU_SOURCE
#include "child.h"
#include "clock.h"
#include "ledger.h"
#include "pool.h"

#include <dirent.h>
#include <math.h>
#include <pthread.h>

enum { COUNT = 20 };

static int xs[COUNT];

/* ---- Tasks: their item is an int */

static int value_in(const struct pool_task *task)
{
    return *(const int *)task->in;
}

static int square(struct pool_task *task)
{
    int y = value_in(task) * value_in(task);

    atomic_fetch_add(&ledger->ends, 1);
    return pool_return(task, &y, sizeof y);
}

static int square_at_gate(struct pool_task *task)
{
    note_start(task);
    wait_for_gate();
    return square(task);
}

/* Notes itself under its item's value, since an apply's index is always 0. */
static int square_by_value_at_gate(struct pool_task *task)
{
    atomic_fetch_add(&ledger->started[value_in(task) % LEDGER_ITEMS], 1);
    ledger->pid[value_in(task) % 8] = getpid();
    wait_for_gate();
    return square(task);
}

static int stay_from_3(struct pool_task *task)
{
    note_start(task);
    if (task->index >= 3)
        pause_for_ever();
    return square(task);
}

static int fail_at_2_stay_after(struct pool_task *task)
{
    note_start(task);
    if (task->index == 2)
        return pool_fail(task, 7, "the second is bad");
    if (task->index > 2)
        pause_for_ever();
    return square(task);
}

static int fail_at_5_and_9(struct pool_task *task)
{
    if (task->index == 5 || task->index == 9)
        return pool_fail(task, (int)task->index, "no %zu", task->index);
    return square(task);
}

static int crash(struct pool_task *task)
{
    (void)task;
    raise(SIGKILL);
    return 0;
}

static int tell_common(struct pool_task *task)
{
    wait_for_gate();
    return pool_return(task, task->common, task->common_size);
}

static int fail_when_told(struct pool_worker *worker)
{
    return ledger->fail ? pool_init_fail(worker, 3, "told to fail") : 0;
}

/* ---- In the host */

static int setup(void **state)
{
    int i;

    for (i = 0; i < COUNT; i++)
        xs[i] = i;
    return ledger_setup(state);
}

static void open_gate(void)
{
    ledger->open = 1;
}

static struct pool_items all(void)
{
    return pool_array(xs, COUNT, sizeof *xs);
}

static struct pool_job *apply(struct pool *pool, pool_fn *fn, int x)
{
    struct pool_job *job = pool_apply_async(pool, fn, &x, sizeof x, NULL);

    if (!job)
        fail_msg("%s", pool_error());
    return job;
}

static struct pool_job *map(struct pool *pool, pool_fn *fn, const struct pool_call *call)
{
    struct pool_job *job = pool_map_async(pool, fn, all(), call);

    if (!job)
        fail_msg("%s", pool_error());
    return job;
}

static const struct pool_result *at(struct pool_job *job, size_t index)
{
    const struct pool_result *r = pool_results_at(pool_job_results(job), index);

    assert_non_null(r);
    assert_int_equal(r->index, index);
    return r;
}

static void assert_square(struct pool_job *job, size_t index, int x)
{
    const struct pool_result *r = at(job, index);

    assert_int_equal(r->status, POOL_OK);
    assert_int_equal(r->size, sizeof x);
    assert_int_equal(*(const int *)r->data, x * x);
}

static void assert_all_squares(struct pool_job *job)
{
    size_t i;

    assert_int_equal(pool_results_count(pool_job_results(job)), COUNT);
    for (i = 0; i < COUNT; i++)
        assert_square(job, i, (int)i);
}

static void ends_ok(struct pool_job *job)
{
    assert_int_equal(pool_job_wait(job, PATIENCE), POOL_OK);
}

/* Nothing of it runs any more in the process, callbacks included. */
static void join(struct pool *pool)
{
    pool_close(pool);
    assert_int_equal(pool_join(pool, PATIENCE), POOL_OK);
}

struct callers {
    struct pool *pool;
    unsigned     count;
};

static int are_inside(void *callers)
{
    struct callers *c = callers;
    unsigned count;

    sched_enter(&c->pool->sched);
    count = c->pool->callers;
    sched_leave(&c->pool->sched);
    return count == c->count;
}

static void await_callers(struct pool *pool, unsigned count)
{
    struct callers callers = {pool, count};

    assert_true(check_until(are_inside, &callers, PATIENCE));
}

static pthread_t thread(void *(*main)(void *), void *arg)
{
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, main, arg), 0);
    return thread;
}

/* ---- Waiting and asking */

static void a_wait_of_0_asks(void **state)
{
    struct pool *pool = make_pool(1);
    struct pool_job *job = apply(pool, square_at_gate, 7);

    (void)state;
    await_start(0);
    assert_int_equal(pool_job_wait(job, 0), POOL_PENDING);
    assert_string_equal(pool_error(), "");
    open_gate();
    ends_ok(job);
    assert_int_equal(pool_job_wait(job, 0), POOL_OK);
    pool_job_free(job);
    pool_destroy(pool);
}

static void a_small_wait_is_not_early(void **state)
{
    struct pool *pool = make_pool(1);
    struct pool_job *job = apply(pool, square_at_gate, 7);
    int64_t deadline = clock_deadline(0.02);

    (void)state;
    assert_int_equal(pool_job_wait(job, 0.02), POOL_PENDING);
    assert_true(clock_now() >= deadline);
    open_gate();
    ends_ok(job);
    pool_job_free(job);
    pool_destroy(pool);
}

static void *open_gate_when_waited_for(void *pool)
{
    struct callers callers = {pool, 1};

    if (check_until(are_inside, &callers, PATIENCE))
        open_gate();
    return NULL;
}

static void waits_for_ever(double seconds)
{
    struct pool *pool = make_pool(1);
    struct pool_job *job = apply(pool, square_at_gate, 7);
    pthread_t opener = thread(open_gate_when_waited_for, pool);

    assert_int_equal(pool_job_wait(job, seconds), POOL_OK);
    assert_square(job, 0, 7);
    pthread_join(opener, NULL);
    pool_job_free(job);
    pool_destroy(pool);
}

static void a_negative_wait_is_for_ever(void **state)
{
    (void)state;
    waits_for_ever(-0.5);
}

static void an_infinite_wait_is_for_ever(void **state)
{
    (void)state;
    waits_for_ever(INFINITY);
}

static void a_wait_of_nan_is_invalid(void **state)
{
    struct pool *pool = make_pool(1);
    struct pool_job *job = apply(pool, square, 7);

    (void)state;
    assert_int_equal(pool_job_wait(job, NAN), POOL_INVALID);
    assert_string_not_equal(pool_error(), "");
    ends_ok(job);
    assert_int_equal(pool_job_wait(job, NAN), POOL_INVALID);
    pool_job_free(job);
    pool_destroy(pool);
}

static void the_status_is_pending_and_then_the_end(void **state)
{
    struct pool *pool = make_pool(1);
    struct pool_job *job = apply(pool, square_at_gate, 7);

    (void)state;
    assert_int_equal(pool_job_status(job), POOL_PENDING);
    open_gate();
    ends_ok(job);
    assert_int_equal(pool_job_status(job), POOL_OK);
    pool_job_free(job);
    pool_destroy(pool);
}

static int has_status_ok(void *job)
{
    return pool_job_status(job) == POOL_OK;
}

static void it_ends_though_nobody_waits(void **state)
{
    struct pool *pool = make_pool(2);
    struct pool_job *job = map(pool, square, NULL);

    (void)state;
    assert_true(check_until(has_status_ok, job, PATIENCE));
    assert_all_squares(job);
    pool_job_free(job);
    pool_destroy(pool);
}

static void there_are_no_results_before_the_end_and_all_after(void **state)
{
    struct pool *pool = make_pool(2);
    struct pool_job *job = map(pool, square_at_gate, NULL);

    (void)state;
    await_start(0);
    assert_null(pool_job_results(job));
    open_gate();
    ends_ok(job);
    assert_all_squares(job);
    assert_int_equal(pool_results_status(pool_job_results(job)), POOL_OK);
    assert_ptr_equal(pool_job_results(job), pool_job_results(job));
    pool_job_free(job);
    pool_destroy(pool);
}

static void its_status_is_that_of_the_first_failed_item(void **state)
{
    struct pool *pool = make_pool(2);
    struct pool_job *job = map(pool, fail_at_5_and_9, NULL);

    (void)state;
    assert_int_equal(pool_job_wait(job, PATIENCE), POOL_FAILED);
    assert_string_equal(pool_error(), "no 5");
    assert_int_equal(at(job, 5)->code, 5);
    assert_int_equal(at(job, 9)->code, 9);
    assert_square(job, 10, 10);
    pool_job_free(job);
    pool_destroy(pool);
}

static void a_crash_costs_its_own_job_only(void **state)
{
    struct pool *pool = make_pool(1);
    struct pool_job *bad = apply(pool, crash, 1), *good_one = apply(pool, square, 3);

    (void)state;
    assert_int_equal(pool_job_wait(bad, PATIENCE), POOL_CRASHED);
    assert_int_equal(at(bad, 0)->signal, SIGKILL);
    ends_ok(good_one);
    assert_square(good_one, 0, 3);
    pool_job_free(bad);
    pool_job_free(good_one);
    pool_destroy(pool);
}

static void a_job_of_no_items_ends(void **state)
{
    struct pool *pool = make_pool(1);
    struct pool_job *job = pool_map_async(pool, square, pool_range(0), NULL);

    (void)state;
    assert_non_null(job);
    ends_ok(job);
    assert_non_null(pool_job_results(job));
    assert_int_equal(pool_results_count(pool_job_results(job)), 0);
    pool_job_free(job);
    pool_destroy(pool);
}

/* ---- What it keeps */

static void its_item_is_copied(void **state)
{
    struct pool *pool = make_pool(1);
    struct pool_job *first = apply(pool, square_at_gate, 1), *job;
    int x = 7;

    (void)state;
    await_start(0);                     /* the only worker is busy */
    job = pool_apply_async(pool, square, &x, sizeof x, NULL);
    assert_non_null(job);
    x = 1000;
    open_gate();
    ends_ok(job);
    assert_square(job, 0, 7);
    pool_job_free(first);
    pool_job_free(job);
    pool_destroy(pool);
}

/* Larger than what lies in a ring or in a slot of a lane. */
static int sum(struct pool_task *task)
{
    const unsigned char *bytes = task->in;
    unsigned long total = 0;
    size_t i;

    for (i = 0; i < task->in_size; i += 4096)
        total += bytes[i];
    return pool_return(task, &total, sizeof total);
}

static void a_large_item_is_copied(void **state)
{
    enum { SIZE = 9 << 20 };
    struct pool *pool = make_pool(1);
    struct pool_job *first = apply(pool, square_at_gate, 1), *job;
    unsigned char *bytes = malloc(SIZE);

    (void)state;
    assert_non_null(bytes);
    memset(bytes, 1, SIZE);
    await_start(0);
    job = pool_apply_async(pool, sum, bytes, SIZE, NULL);
    assert_non_null(job);
    memset(bytes, 2, SIZE);
    free(bytes);
    open_gate();
    ends_ok(job);
    assert_int_equal(*(const unsigned long *)at(job, 0)->data, SIZE / 4096);
    pool_job_free(first);
    pool_job_free(job);
    pool_destroy(pool);
}

static void its_context_is_copied(void **state)
{
    struct pool *pool = make_pool(1);
    char common[] = "before";
    struct pool_call call = {.common = common, .common_size = sizeof common};
    struct pool_job *job = pool_apply_async(pool, tell_common, NULL, 0, &call);

    (void)state;
    assert_non_null(job);
    memset(common, 'x', sizeof common);
    open_gate();
    ends_ok(job);
    assert_string_equal(at(job, 0)->data, "before");
    pool_job_free(job);
    pool_destroy(pool);
}

/* ---- Ten thousand */

static size_t count_entries(const char *path)
{
    DIR *list = opendir(path);
    struct dirent *entry;
    size_t count = 0;

    assert_non_null(list);
    while ((entry = readdir(list)))
        count += entry->d_name[0] != '.';
    closedir(list);
    return count;
}

static size_t threads(void)
{
    return count_entries("/proc/self/task");
}

static void ten_thousand_in_flight_cost_neither_threads_nor_descriptors(void **state)
{
    enum { JOBS = 10000 };
    struct pool *pool = make_pool(2);
    struct pool_job **jobs = calloc(JOBS, sizeof *jobs), *first = apply(pool, square_at_gate, 0);
    size_t threads_of_one, fds_of_one;
    int i;

    (void)state;
    assert_non_null(jobs);
    await_start(0);
    threads_of_one = threads();
    fds_of_one = count_entries("/proc/self/fd");
    for (i = 0; i < JOBS; i++)
        jobs[i] = apply(pool, square_at_gate, i);
    assert_int_equal(threads(), threads_of_one);
    assert_int_equal(count_entries("/proc/self/fd"), fds_of_one);
    for (i = 0; i < JOBS; i++)
        assert_int_equal(pool_job_status(jobs[i]), POOL_PENDING);
    open_gate();
    for (i = 0; i < JOBS; i++) {
        ends_ok(jobs[i]);
        assert_square(jobs[i], 0, i);
        pool_job_free(jobs[i]);
    }
    pool_job_free(first);
    free(jobs);
    pool_destroy(pool);
}

/* ---- Freed early: what is left over is found by ASan and valgrind */

static void freed_early_it_goes_on(void **state)
{
    struct pool *pool = make_pool(2);
    struct pool_job *job = map(pool, square_at_gate, NULL);

    (void)state;
    await_start(0);
    pool_job_free(job);
    assert_string_equal(pool_error(), "");
    open_gate();
    join(pool);
    assert_int_equal(ledger->ends, COUNT);
    pool_destroy(pool);
}

static void freed_before_it_has_started_it_goes_on(void **state)
{
    struct pool *pool = make_pool(1);
    struct pool_job *first = apply(pool, square_at_gate, 1);

    (void)state;
    await_start(0);
    pool_job_free(apply(pool, square, 2));
    open_gate();
    ends_ok(first);
    join(pool);
    assert_int_equal(ledger->ends, 2);
    pool_job_free(first);
    pool_destroy(pool);
}

static void freed_early_it_may_crash(void **state)
{
    struct pool *pool = make_pool(1);
    struct pool_stats stats;

    (void)state;
    pool_job_free(apply(pool, crash, 1));
    join(pool);
    assert_int_equal(pool_stats(pool, &stats), POOL_OK);
    assert_int_equal(stats.crashed, 1);
    pool_destroy(pool);
}

static void freed_early_it_ends_with_its_pool(void **state)
{
    struct pool *pool = make_pool(1);
    struct pool_job *job = map(pool, stay_from_3, NULL);

    (void)state;
    await_start(3);
    pool_job_free(job);
    pool_terminate(pool);
    assert_int_equal(pool_join(pool, PATIENCE), POOL_OK);
    pool_destroy(pool);
}

static void cancelled_and_freed_at_once_it_is_cleaned_up(void **state)
{
    struct pool *pool = make_pool(1);
    struct pool_job *job = map(pool, stay_from_3, NULL);

    (void)state;
    await_start(3);
    pool_job_cancel(job);
    pool_job_free(job);
    join(pool);                         /* would not end if the item still ran */
    pool_destroy(pool);
}

static void freeing_nothing_is_fine(void **state)
{
    (void)state;
    pool_job_free(NULL);
    assert_string_equal(pool_error(), "");
}

/* ---- Cut short */

static void cancel_kills_what_runs_and_drops_the_rest(void **state)
{
    struct pool *pool = make_pool(1);
    struct pool_job *job = map(pool, stay_from_3, NULL);
    pid_t worker = worker_of(pool, 0);
    size_t i;

    (void)state;
    await_start(3);
    pool_job_cancel(job);
    assert_int_equal(pool_job_wait(job, PATIENCE), POOL_CANCELLED);
    await_death(worker);
    for (i = 4; i < COUNT; i++)
        assert_int_equal(ledger->started[i], 0);
    pool_job_free(job);
    pool_destroy(pool);
}

static void a_cut_job_lists_what_finished_and_cancelled_for_the_rest(void **state)
{
    struct pool *pool = make_pool(1);
    struct pool_job *job = map(pool, stay_from_3, NULL);
    size_t i;

    (void)state;
    await_start(3);
    pool_job_cancel(job);
    assert_int_equal(pool_job_wait(job, PATIENCE), POOL_CANCELLED);
    assert_int_equal(pool_results_count(pool_job_results(job)), COUNT);
    assert_int_equal(pool_results_status(pool_job_results(job)), POOL_CANCELLED);
    for (i = 0; i < 3; i++)
        assert_square(job, i, (int)i);
    assert_int_equal(at(job, 3)->tries, 1);
    for (i = 3; i < COUNT; i++) {
        assert_int_equal(at(job, i)->status, POOL_CANCELLED);
        assert_null(at(job, i)->data);
        assert_string_not_equal(at(job, i)->message, "");
    }
    assert_int_equal(at(job, 4)->tries, 0);
    pool_job_free(job);
    pool_destroy(pool);
}

static void cancel_does_not_wait(void **state)
{
    struct pool *pool = make_pool(1);
    struct pool_job *job = map(pool, stay_from_3, NULL);
    pid_t nobody = worker_of(pool, 0);

    (void)state;
    await_start(3);
    kill(nobody, SIGSTOP);              /* cannot even finish what it does */
    pool_job_cancel(job);
    assert_int_equal(pool_job_wait(job, PATIENCE), POOL_CANCELLED);
    pool_job_free(job);
    pool_destroy(pool);
}

static void cancel_leaves_neighbours_alone(void **state)
{
    struct pool *pool = make_pool(2);
    struct pool_job *one = apply(pool, square_by_value_at_gate, 1), *other = apply(pool, square_by_value_at_gate, 2), *behind;

    (void)state;
    await_start(1);
    await_start(2);                     /* a worker each */
    behind = map(pool, square, NULL);
    pool_job_cancel(one);
    assert_int_equal(pool_job_wait(one, PATIENCE), POOL_CANCELLED);
    ends_ok(behind);
    assert_all_squares(behind);
    open_gate();
    ends_ok(other);
    assert_square(other, 0, 2);
    assert_int_equal(at(other, 0)->tries, 1);
    assert_int_equal(at(other, 0)->pid, ledger->pid[2]);
    pool_job_free(one);
    pool_job_free(other);
    pool_job_free(behind);
    pool_destroy(pool);
}

static void cancelled_before_its_start_it_costs_no_worker(void **state)
{
    struct pool *pool = make_pool(1);
    pid_t worker = worker_of(pool, 0);
    struct pool_job *first = apply(pool, square_by_value_at_gate, 1), *job;

    (void)state;
    await_start(1);
    job = apply(pool, square_by_value_at_gate, 2);
    pool_job_cancel(job);
    assert_int_equal(pool_job_wait(job, PATIENCE), POOL_CANCELLED);
    assert_int_equal(at(job, 0)->tries, 0);
    open_gate();
    ends_ok(first);
    assert_int_equal(ledger->started[2], 0);
    assert_int_equal(worker_of(pool, 0), worker);
    pool_job_free(first);
    pool_job_free(job);
    pool_destroy(pool);
}

static void cancelled_after_its_end_it_stays_as_it_was(void **state)
{
    struct pool *pool = make_pool(2);
    struct pool_job *job = map(pool, square, NULL);

    (void)state;
    ends_ok(job);
    pool_job_cancel(job);
    assert_int_equal(pool_job_status(job), POOL_OK);
    assert_all_squares(job);
    pool_job_free(job);
    pool_destroy(pool);
}

static void cancelled_twice_it_ends_once(void **state)
{
    struct pool *pool = make_pool(1);
    struct pool_job *job = map(pool, stay_from_3, NULL);
    struct pool_stats stats;

    (void)state;
    await_start(3);
    pool_job_cancel(job);
    pool_job_cancel(job);
    assert_int_equal(pool_job_wait(job, PATIENCE), POOL_CANCELLED);
    assert_int_equal(pool_stats(pool, &stats), POOL_OK);
    assert_int_equal(stats.ok, 3);
    assert_int_equal(stats.cancelled, COUNT - 3);
    pool_job_free(job);
    pool_destroy(pool);
}

static void the_pool_works_after_a_cancel(void **state)
{
    struct pool *pool = make_pool(1);
    struct pool_job *job = map(pool, stay_from_3, NULL);

    (void)state;
    await_start(3);
    pool_job_cancel(job);
    memset(ledger, 0, sizeof *ledger);
    assert_works(pool);
    pool_job_free(job);
    pool_destroy(pool);
}

static void fail_fast_ends_it_with_the_first_failure(void **state)
{
    struct pool *pool = make_pool(2);
    struct pool_job *job = map(pool, fail_at_2_stay_after, &(struct pool_call){.fail_fast = 1});
    size_t i;

    (void)state;
    assert_int_equal(pool_job_wait(job, PATIENCE), POOL_FAILED);
    assert_string_equal(pool_error(), "the second is bad");
    assert_int_equal(at(job, 2)->code, 7);
    for (i = 3; i < COUNT; i++)
        assert_int_equal(at(job, i)->status, POOL_CANCELLED);
    pool_job_free(job);
    pool_destroy(pool);
}

/* ---- Threads */

struct caller {
    struct pool *pool;
    int          first, wrong;
};

static void *call_many(void *arg)
{
    struct caller *c = arg;
    struct pool_job *jobs[200];
    int i, x;

    for (i = 0; i < 200; i++) {
        x = c->first + i;
        jobs[i] = pool_apply_async(c->pool, square, &x, sizeof x, NULL);
    }
    for (i = 200; i--;) {
        const struct pool_result *r;

        x = c->first + i;
        c->wrong += pool_job_wait(jobs[i], PATIENCE) != POOL_OK;
        r = pool_results_at(pool_job_results(jobs[i]), 0);
        c->wrong += !r || !r->data || *(const int *)r->data != x * x;
        pool_job_free(jobs[i]);
    }
    return NULL;
}

static void jobs_come_from_several_threads(void **state)
{
    enum { THREADS = 4 };
    struct pool *pool = make_pool(2);
    struct caller callers[THREADS];
    pthread_t ids[THREADS];
    int i;

    (void)state;
    for (i = 0; i < THREADS; i++) {
        callers[i] = (struct caller){pool, 1000 * i, 0};
        ids[i] = thread(call_many, &callers[i]);
    }
    for (i = 0; i < THREADS; i++)
        pthread_join(ids[i], NULL);
    for (i = 0; i < THREADS; i++)
        assert_int_equal(callers[i].wrong, 0);
    pool_destroy(pool);
}

struct waiting {
    struct pool_job *job;
    enum pool_status status;
};

static void *wait_long(void *arg)
{
    struct waiting *w = arg;

    w->status = pool_job_wait(w->job, PATIENCE);
    return NULL;
}

static void two_threads_wait_for_one_job(void **state)
{
    struct pool *pool = make_pool(1);
    struct pool_job *job = apply(pool, square_at_gate, 7);
    struct waiting one = {job, POOL_PENDING}, other = {job, POOL_PENDING};
    pthread_t first = thread(wait_long, &one), second = thread(wait_long, &other);

    (void)state;
    await_callers(pool, 2);
    open_gate();
    pthread_join(first, NULL);
    pthread_join(second, NULL);
    assert_int_equal(one.status, POOL_OK);
    assert_int_equal(other.status, POOL_OK);
    assert_square(job, 0, 7);
    pool_job_free(job);
    pool_destroy(pool);
}

static void one_waits_while_the_other_cancels(void **state)
{
    struct pool *pool = make_pool(1);
    struct pool_job *job = map(pool, stay_from_3, NULL);
    struct waiting one = {job, POOL_PENDING};
    pthread_t first = thread(wait_long, &one);

    (void)state;
    await_callers(pool, 1);
    await_start(3);
    pool_job_cancel(job);
    pthread_join(first, NULL);
    assert_int_equal(one.status, POOL_CANCELLED);
    pool_job_free(job);
    pool_destroy(pool);
}

static void freeing_what_another_waits_for_is_refused(void **state)
{
    struct pool *pool = make_pool(1);
    struct pool_job *job = apply(pool, square_at_gate, 7);
    struct waiting one = {job, POOL_PENDING};
    pthread_t first = thread(wait_long, &one);

    (void)state;
    await_callers(pool, 1);
    pool_job_free(job);
    assert_string_not_equal(pool_error(), "");
    assert_int_equal(pool_job_status(job), POOL_PENDING);       /* it stayed */
    open_gate();
    pthread_join(first, NULL);
    assert_int_equal(one.status, POOL_OK);
    pool_job_free(job);
    assert_string_equal(pool_error(), "");
    pool_destroy(pool);
}

/* ---- The end of the pool */

static void a_finished_job_outlives_its_pool(void **state)
{
    struct pool *pool = make_pool(2);
    struct pool_job *job = map(pool, square, NULL);

    (void)state;
    ends_ok(job);
    pool_destroy(pool);
    assert_int_equal(pool_job_status(job), POOL_OK);
    assert_int_equal(pool_job_wait(job, -1), POOL_OK);
    assert_all_squares(job);
    pool_job_cancel(job);
    pool_job_free(job);
}

static void an_open_job_ends_with_its_pool(void **state)
{
    struct pool *pool = make_pool(1);
    struct pool_job *job = map(pool, stay_from_3, NULL);

    (void)state;
    await_start(3);
    pool_destroy(pool);
    assert_int_equal(pool_job_wait(job, -1), POOL_CANCELLED);
    assert_square(job, 2, 2);
    assert_int_equal(at(job, COUNT - 1)->status, POOL_CANCELLED);
    pool_job_free(job);
}

static void one_waits_while_the_pool_is_terminated(void **state)
{
    struct pool *pool = make_pool(1);
    struct pool_job *job = map(pool, stay_from_3, NULL);
    struct waiting one = {job, POOL_PENDING};
    pthread_t first = thread(wait_long, &one);

    (void)state;
    await_callers(pool, 1);
    pool_terminate(pool);
    pthread_join(first, NULL);
    assert_int_equal(one.status, POOL_CANCELLED);
    pool_job_free(job);
    pool_destroy(pool);
}

static void broken_pool(struct pool **pool, struct pool_job **open)
{
    *pool = pool_create(&(struct pool_options){.workers = 1, .initializer = fail_when_told});
    assert_non_null(*pool);
    *open = map(*pool, stay_from_3, NULL);
    await_start(3);
    ledger->fail = 1;
    kill(worker_of(*pool, 0), SIGKILL);
}

static void an_open_job_of_a_pool_that_breaks_is_broken(void **state)
{
    struct pool *pool;
    struct pool_job *job;

    (void)state;
    broken_pool(&pool, &job);
    assert_int_equal(pool_job_wait(job, PATIENCE), POOL_BROKEN);
    assert_non_null(strstr(pool_error(), "told to fail"));
    assert_square(job, 2, 2);
    assert_int_equal(at(job, 3)->status, POOL_CRASHED);
    assert_int_equal(at(job, 4)->status, POOL_BROKEN);
    pool_job_free(job);
    pool_destroy(pool);
}

static void a_broken_pool_starts_no_job(void **state)
{
    struct pool *pool;
    struct pool_job *job;

    (void)state;
    broken_pool(&pool, &job);
    assert_int_equal(pool_job_wait(job, PATIENCE), POOL_BROKEN);
    errno = 0;
    assert_null(pool_map_async(pool, square, all(), NULL));
    assert_int_equal(errno, EPIPE);
    pool_job_free(job);
    pool_destroy(pool);
}

/* ---- Forks of the host */

static struct pool     *inherited_pool;
static struct pool_job *inherited_job;

static void be_refused_everything(void)
{
    struct pool *pool = inherited_pool;
    struct pool_job *job = inherited_job;
    int x = 1;

    errno = 0;
    WANT(!pool_apply_async(pool, square, &x, sizeof x, NULL) && errno == EINVAL);
    errno = 0;
    WANT(!pool_map_async(pool, square, all(), NULL) && errno == EINVAL);
    WANT(pool_job_wait(job, -1) == POOL_INVALID);
    WANT(pool_job_status(job) == POOL_INVALID);
    WANT(*pool_error());
    WANT(!pool_job_results(job));
    pool_job_cancel(job);
    WANT(*pool_error());
    errno = 0;
    WANT(pool_fd(pool) < 0 && errno == EINVAL);
    pool_job_free(job);
    pool_destroy(pool);
}

static void a_forked_child_is_refused(void **state)
{
    (void)state;
    inherited_pool = make_pool(1);
    inherited_job = map(inherited_pool, square_at_gate, NULL);
    await_start(0);
    in_child(be_refused_everything);
    open_gate();
    ends_ok(inherited_job);             /* nothing of that reached the host */
    assert_all_squares(inherited_job);
    pool_job_free(inherited_job);
    pool_destroy(inherited_pool);
}

/* ---- The pool's threads */

static const char *const names[] = {"pool-attendant", "pool-callbacks"};

/* One line of a thread's status file: what comes behind `key`. */
static void read_status(const char *id, const char *key, char *value, size_t size)
{
    char path[80], line[256];
    FILE *file;

    value[0] = '\0';
    snprintf(path, sizeof path, "/proc/self/task/%.20s/status", id);
    file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file)) {
        if (strncmp(line, key, strlen(key)))
            continue;
        snprintf(value, size, "%.*s", (int)strcspn(line + strlen(key), "\n"), line + strlen(key));
        break;
    }
    if (file)
        fclose(file);
}

/* How many threads of this process have that name; the blocked signals of the last one, as a mask in hexadecimal. */
static int named(const char *wanted, char *blocked, size_t size)
{
    DIR *list = opendir("/proc/self/task");
    struct dirent *entry;
    char name[64];
    int count = 0;

    assert_non_null(list);
    while ((entry = readdir(list))) {
        read_status(entry->d_name, "Name:\t", name, sizeof name);
        if (entry->d_name[0] == '.' || strcmp(name, wanted))
            continue;
        count++;
        read_status(entry->d_name, "SigBlk:\t", blocked, size);
    }
    closedir(list);
    return count;
}

static int is_called(void *name)
{
    char blocked[64];

    return named(name, blocked, sizeof blocked) == 1;
}

static void do_nothing(struct pool_job *job, void *arg)
{
    (void)job;
    (void)arg;
}

static struct pool_job *with_callback(struct pool *pool)
{
    struct pool_job *job = map(pool, square, &(struct pool_call){.done = do_nothing});

    ends_ok(job);
    return job;
}

static void *come_and_go(void *arg)
{
    return arg;
}

/* A tool may start a thread of its own with the first of ours. */
static void let_tools_start_their_threads(void)
{
    pthread_join(thread(come_and_go, NULL), NULL);
}

static int are_no_more_threads(void *count)
{
    return threads() <= *(size_t *)count;       /* one that was joined may still be listed for a moment */
}

static void no_thread_before_the_first_asynchronous_call(void **state)
{
    struct pool *pool;
    struct pool_iter *it;
    size_t before;
    int ys[COUNT];

    (void)state;
    let_tools_start_their_threads();
    before = threads();
    pool = make_pool(2);
    assert_int_equal(pool_map(pool, square, all(), ys, sizeof *ys, NULL), POOL_OK);
    it = pool_imap(pool, square, all(), NULL);
    while (pool_next(it))
        ;
    pool_iter_free(it);
    assert_true(check_until(are_no_more_threads, &before, PATIENCE));
    pool_destroy(pool);
}

static void one_thread_for_jobs_without_callbacks(void **state)
{
    struct pool *pool = make_pool(2);
    struct pool_job *job;
    size_t before;

    (void)state;
    let_tools_start_their_threads();
    before = threads();
    job = map(pool, square, NULL);
    ends_ok(job);
    assert_true(threads() <= before + 1);
    pool_job_free(job);
    pool_destroy(pool);
}

static void two_threads_at_most(void **state)
{
    struct pool *pool = make_pool(2);
    struct pool_job *job, *more;
    size_t before;

    (void)state;
    let_tools_start_their_threads();
    before = threads();
    job = with_callback(pool);
    more = with_callback(pool);
    assert_true(pool_fd(pool) >= 0);
    assert_true(threads() <= before + 2);
    pool_job_free(job);
    pool_job_free(more);
    pool_destroy(pool);
}

static void threads_have_names(void **state)
{
    struct pool *pool = make_pool(1);
    struct pool_job *job = with_callback(pool);
    size_t i;

    (void)state;
    for (i = 0; i < 2; i++)
        assert_true(check_until(is_called, (void *)(uintptr_t)names[i], PATIENCE));
    pool_job_free(job);
    pool_destroy(pool);
}

/* All but those that cannot be blocked, and the two of glibc's own behind 31. */
static void threads_have_all_signals_blocked(void **state)
{
    const unsigned long all_but = ~(1ul << (SIGKILL - 1) | 1ul << (SIGSTOP - 1)) & 0x7ffffffful;
    struct pool *pool;
    struct pool_job *job;
    char blocked[64];
    size_t i;

    (void)state;
    if (check_under("valgrind"))
        skip();                         /* which keeps the masks to itself */
    pool = make_pool(1);
    job = with_callback(pool);
    for (i = 0; i < 2; i++) {
        assert_true(check_until(is_called, (void *)(uintptr_t)names[i], PATIENCE));
        assert_int_equal(named(names[i], blocked, sizeof blocked), 1);
        assert_int_equal(strtoul(blocked, NULL, 16) & all_but, all_but);
    }
    pool_job_free(job);
    pool_destroy(pool);
}

static void threads_end_with_their_pool(void **state)
{
    struct pool *pool = make_pool(1);
    struct pool_job *job = with_callback(pool);
    char blocked[64];
    size_t i;

    (void)state;
    pool_job_free(job);
    pool_destroy(pool);
    let_tools_start_their_threads();
    for (i = 0; i < 2; i++) {
        size_t most = 10000;

        while (named(names[i], blocked, sizeof blocked) && most--)      /* joined, but may be listed for a moment */
            nap();
        assert_int_equal(named(names[i], blocked, sizeof blocked), 0);
    }
}

/* ---- Bad input: a status and a sentence */

static void refused(struct pool_job *job, int error)
{
    int told = errno;

    assert_null(job);
    assert_int_equal(told, error);
    assert_string_not_equal(pool_error(), "");
}

static int one_more(void *cursor, struct pool_bytes *item)
{
    (void)cursor;
    (void)item;
    return 0;
}

static void what_makes_no_sense_is_refused(void **state)
{
    struct pool *pool = make_pool(1);
    int x = 1;

    (void)state;
    refused(pool_apply_async(NULL, square, &x, sizeof x, NULL), EINVAL);
    refused(pool_apply_async(pool, NULL, &x, sizeof x, NULL), EINVAL);
    refused(pool_apply_async(pool, square, NULL, sizeof x, NULL), EINVAL);
    refused(pool_apply_async(pool, square, &x, sizeof x, &(struct pool_call){.timeout = -1}), EINVAL);
    refused(pool_apply_async(pool, square, &x, sizeof x, &(struct pool_call){.timeout = NAN}), EINVAL);
    refused(pool_apply_async(pool, square, &x, sizeof x, &(struct pool_call){.common_size = 1}), EINVAL);
    refused(pool_apply_async(pool, square, &x, sizeof x, &(struct pool_call){.reserved = {1}}), EINVAL);
    refused(pool_map_async(NULL, square, all(), NULL), EINVAL);
    refused(pool_map_async(pool, NULL, all(), NULL), EINVAL);
    refused(pool_map_async(pool, square, pool_array(NULL, 3, 4), NULL), EINVAL);
    refused(pool_map_async(pool, square, pool_generator(one_more, NULL), NULL), EINVAL);
    pool_destroy(pool);
}

static void no_item_at_all_is_fine(void **state)
{
    struct pool *pool = make_pool(1);
    struct pool_job *job;

    (void)state;
    job = pool_apply_async(pool, good, NULL, 0, NULL);
    assert_non_null(job);
    ends_ok(job);
    assert_int_equal(*(const long *)at(job, 0)->data, value_of(0));
    pool_job_free(job);
    pool_destroy(pool);
}

static void no_job_is_invalid(void **state)
{
    (void)state;
    assert_int_equal(pool_job_wait(NULL, -1), POOL_INVALID);
    assert_string_not_equal(pool_error(), "");
    assert_int_equal(pool_job_status(NULL), POOL_INVALID);
    assert_string_not_equal(pool_error(), "");
    assert_null(pool_job_results(NULL));
    assert_string_not_equal(pool_error(), "");
    pool_job_cancel(NULL);
    assert_string_not_equal(pool_error(), "");
}

static void a_closed_pool_starts_no_job(void **state)
{
    struct pool *pool = make_pool(1);
    int x = 1;

    (void)state;
    pool_close(pool);
    refused(pool_apply_async(pool, square, &x, sizeof x, NULL), ESHUTDOWN);
    refused(pool_map_async(pool, square, all(), NULL), ESHUTDOWN);
    assert_int_equal(pool_join(pool, PATIENCE), POOL_OK);
    pool_destroy(pool);
}

static void a_terminated_pool_starts_no_job(void **state)
{
    struct pool *pool = make_pool(1);

    (void)state;
    pool_terminate(pool);
    refused(pool_map_async(pool, square, all(), NULL), ESHUTDOWN);
    pool_destroy(pool);
}

static void a_serial_pool_starts_no_job(void **state)
{
    struct pool *pool = pool_create(&(struct pool_options){.serial = 1});
    int x = 1;

    (void)state;
    assert_non_null(pool);
    refused(pool_apply_async(pool, square, &x, sizeof x, NULL), EINVAL);
    refused(pool_map_async(pool, square, all(), NULL), EINVAL);
    pool_destroy(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(no_thread_before_the_first_asynchronous_call),
        STORY(a_wait_of_0_asks),
        STORY(a_small_wait_is_not_early),
        STORY(a_negative_wait_is_for_ever),
        STORY(an_infinite_wait_is_for_ever),
        STORY(a_wait_of_nan_is_invalid),
        STORY(the_status_is_pending_and_then_the_end),
        STORY(it_ends_though_nobody_waits),
        STORY(there_are_no_results_before_the_end_and_all_after),
        STORY(its_status_is_that_of_the_first_failed_item),
        STORY(a_crash_costs_its_own_job_only),
        STORY(a_job_of_no_items_ends),
        STORY(its_item_is_copied),
        STORY(a_large_item_is_copied),
        STORY(its_context_is_copied),
        STORY(ten_thousand_in_flight_cost_neither_threads_nor_descriptors),
        STORY(freed_early_it_goes_on),
        STORY(freed_before_it_has_started_it_goes_on),
        STORY(freed_early_it_may_crash),
        STORY(freed_early_it_ends_with_its_pool),
        STORY(cancelled_and_freed_at_once_it_is_cleaned_up),
        STORY(freeing_nothing_is_fine),
        STORY(cancel_kills_what_runs_and_drops_the_rest),
        STORY(a_cut_job_lists_what_finished_and_cancelled_for_the_rest),
        STORY(cancel_does_not_wait),
        STORY(cancel_leaves_neighbours_alone),
        STORY(cancelled_before_its_start_it_costs_no_worker),
        STORY(cancelled_after_its_end_it_stays_as_it_was),
        STORY(cancelled_twice_it_ends_once),
        STORY(the_pool_works_after_a_cancel),
        STORY(fail_fast_ends_it_with_the_first_failure),
        STORY(jobs_come_from_several_threads),
        STORY(two_threads_wait_for_one_job),
        STORY(one_waits_while_the_other_cancels),
        STORY(freeing_what_another_waits_for_is_refused),
        STORY(a_finished_job_outlives_its_pool),
        STORY(an_open_job_ends_with_its_pool),
        STORY(one_waits_while_the_pool_is_terminated),
        STORY(an_open_job_of_a_pool_that_breaks_is_broken),
        STORY(a_broken_pool_starts_no_job),
        STORY(a_forked_child_is_refused),
        STORY(one_thread_for_jobs_without_callbacks),
        STORY(two_threads_at_most),
        STORY(threads_have_names),
        STORY(threads_have_all_signals_blocked),
        STORY(threads_end_with_their_pool),
        STORY(what_makes_no_sense_is_refused),
        STORY(no_item_at_all_is_fine),
        STORY(no_job_is_invalid),
        STORY(a_closed_pool_starts_no_job),
        STORY(a_terminated_pool_starts_no_job),
        STORY(a_serial_pool_starts_no_job),
    };

    return cmocka_run_group_tests(tests, setup, ledger_teardown);
}
