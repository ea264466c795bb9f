/* Time limits: an item that runs longer than its limit is TIMED_OUT and its worker killed, whatever it does and whoever waits for it;
 * nothing is killed early, nor for waiting, nor for having finished while the host was not looking; and its neighbours run elsewhere.
 *
 * "Early" is judged by what the worker itself noted as the item's start, read from its channel by the task. How late a kill is depends on
 * the machine, so that is printed, and only a hang fails here.
 *
 * ctest: label threads
 * ctest: timeout 120 */
#define _GNU_SOURCE
#include "ledger.h"

#include "clock.h"
#include "worker_result.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#define SHORT 0.1                       /* seconds: limits that are to be exceeded */
#define AMPLE 25.0                      /* and those that are not, on any machine */
#define LATE 20.0                       /* seconds after the limit until a kill counts as a hang */
enum { LARGE = 9 << 20, MANY = 64 };    /* bytes that no lane slot holds; workers */

/* What tasks note beside the ledger. */
static struct note {
    _Atomic int64_t began, ended;       /* clock_now(); began: as the worker noted it */
    _Atomic int     pid;
} *notes;

static int setup(void **state)
{
    void *pages;

    ledger_setup(state);
    pages = mmap(NULL, LEDGER_ITEMS * sizeof *notes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(pages != MAP_FAILED);
    notes = pages;
    return 0;
}

static int teardown(void **state)
{
    munmap(notes, LEDGER_ITEMS * sizeof *notes);
    return ledger_teardown(state);
}

static int clear(void **state)
{
    memset(notes, 0, LEDGER_ITEMS * sizeof *notes);
    return ledger_clear(state);
}

#undef STORY
#define STORY(function) cmocka_unit_test_setup(function, clear)

static int is_long(void)
{
    return getenv("FORKPOOL_LONG") != NULL;
}

/* ---- In a worker */

static struct note *note_of(const struct pool_task *task)
{
    return &notes[task->index % LEDGER_ITEMS];
}

/* Its worker's own note of when it started is the one that limits go by. */
static void begins(const struct pool_task *task)
{
    const struct worker *w = (const struct worker *)(const void *)task;
    int64_t noted = (int64_t)atomic_load(&w->channel.desk->started_at);

    atomic_store(&note_of(task)->began, noted ? noted : clock_now());
    atomic_store(&note_of(task)->pid, getpid());
    note_start(task);
}

static int ends_well(struct pool_task *task)
{
    atomic_store(&note_of(task)->ended, clock_now());
    return answer(task);
}

static void nap_for(double seconds)
{
    int64_t until = clock_deadline(seconds);

    while (clock_now() < until)
        nap();
}

static void become_deaf(void)
{
    sigset_t all;

    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    signal(SIGTERM, SIG_IGN);
    signal(SIGALRM, SIG_IGN);
}

static void loop_for_ever(void)
{
    volatile unsigned n = 0;

    for (;;)
        n++;
}

/* Items that task->common, a bit mask, names never end. */
static int some_hang(struct pool_task *task)
{
    begins(task);
    if (*(const uint64_t *)task->common >> (task->index % 64) & 1)
        pause_for_ever();
    return ends_well(task);
}

static int all_hang(struct pool_task *task)
{
    begins(task);
    pause_for_ever();
    return 0;
}

static int deaf_loop(struct pool_task *task)
{
    begins(task);
    if (task->index == 1) {
        become_deaf();
        loop_for_ever();
    }
    return ends_well(task);
}

static int well(struct pool_task *task)
{
    begins(task);
    return ends_well(task);
}

/* As many seconds as task->common says. */
static int naps(struct pool_task *task)
{
    begins(task);
    nap_for(*(const double *)task->common);
    return ends_well(task);
}

static int gated(struct pool_task *task)
{
    begins(task);
    wait_for_gate();
    return ends_well(task);
}

/* ---- In the host */

static struct pool_call hanging(const uint64_t *which, double limit)
{
    return (struct pool_call){.common = which, .common_size = sizeof *which, .timeout = limit};
}

static void assert_not_early(size_t index, double limit)
{
    int64_t now = clock_now(), began = atomic_load(&notes[index % LEDGER_ITEMS].began);

    if (!began)
        return;                         /* killed before the task could note it */
    if ((double)(now - began) < limit * 1e9)
        fail_msg("item %zu timed out %g s after its start, with a limit of %g", index, (double)(now - began) / 1e9, limit);
}

static void assert_timed_out(const struct end *end, size_t index, double limit)
{
    if (end->status != POOL_TIMED_OUT)
        fail_msg("item %zu is %s: %s", index, pool_status_text(end->status), end->message);
    assert_int_equal(end->code, 0);
    assert_int_equal(end->size, 0);
    assert_int_equal(end->tries, 1);
    assert_true(end->pid > 0);
    assert_non_null(strstr(end->message, "time limit"));
    assert_not_early(index, limit);
}

static struct pool_iter *iterate(struct pool *pool, pool_fn *fn, struct pool_items items, const struct pool_call *call, int ordered)
{
    struct pool_iter *iter = ordered ? pool_imap(pool, fn, items, call) : pool_imap_unordered(pool, fn, items, call);

    if (!iter)
        fail_msg("no iterator: %s", pool_error());
    return iter;
}

/* Runs it and sees that each item ended so, and that what should end well started once. */
static void assert_only_hanging_time_out(struct pool *pool, size_t count, uint64_t which, int ordered)
{
    struct pool_call call = hanging(&which, SHORT);
    struct end ends[LEDGER_ITEMS] = {{0}};
    size_t i;

    collect(iterate(pool, some_hang, pool_range(count), &call, ordered), ends, count);
    for (i = 0; i < count; i++) {
        assert_int_equal(ledger->started[i], 1);
        if (which >> (i % 64) & 1)
            assert_timed_out(&ends[i], i, SHORT);
        else
            assert_good(&ends[i], i);
    }
}

static pid_t await_pid(size_t index)
{
    await_start(index);
    return notes[index].pid;
}

static void print_lateness(const char *what, int64_t at, size_t index, double limit)
{
    double late = (double)(at - notes[index].began) / 1e9 - limit;

    print_message("    %s %.2f ms after the limit\n", what, late * 1e3);
    assert_true(late < LATE);
}

/* ---- What becomes of the item and of others */

static void it_is_told(void **state)
{
    struct pool_call call = {.timeout = SHORT};
    struct end end[1] = {{0}};
    struct pool *pool = make_pool(1);
    pid_t worker = worker_of(pool, 0);

    (void)state;
    collect(iterate(pool, all_hang, pool_range(1), &call, 1), end, 1);
    assert_timed_out(end, 0, SHORT);
    print_lateness("told", clock_now(), 0, SHORT);
    assert_int_equal(end->pid, worker);
    assert_int_equal(end->pid, notes[0].pid);
    assert_false(check_alive(worker));
    pool_destroy(pool);
}

static void neighbours_run_elsewhere(void **state)
{
    struct pool *pool = make_pool(2);

    (void)state;
    assert_only_hanging_time_out(pool, 40, 1u << 3, 0);
    assert_works(pool);
    pool_destroy(pool);
}

static void neighbours_run_after_it_at_the_only_worker(void **state)
{
    struct pool *pool = make_pool(1);

    (void)state;
    assert_only_hanging_time_out(pool, 20, 1u << 3, 0);
    assert_works(pool);
    pool_destroy(pool);
}

static void several_in_a_row(void **state)
{
    struct pool *pool = make_pool(1);

    (void)state;
    assert_only_hanging_time_out(pool, 10, 7u << 4, 1);
    pool_destroy(pool);
}

static void every_one(void **state)
{
    struct pool *pool = make_pool(2);

    (void)state;
    assert_only_hanging_time_out(pool, 8, UINT64_MAX, 0);
    assert_works(pool);
    pool_destroy(pool);
}

static void the_next_item_is_served_at_once(void **state)
{
    uint64_t which = 1;
    struct pool_call call = hanging(&which, SHORT);
    struct end ends[2] = {{0}};
    struct pool *pool = make_pool(1);

    (void)state;
    collect(iterate(pool, some_hang, pool_range(2), &call, 1), ends, 2);
    assert_timed_out(&ends[0], 0, SHORT);
    assert_good(&ends[1], 1);
    print_lateness("the next item started", notes[1].began, 0, SHORT);
    assert_int_not_equal(ends[0].pid, ends[1].pid);
    pool_destroy(pool);
}

static void the_other_worker_goes_on_meanwhile(void **state)
{
    enum { COUNT = 100 };
    uint64_t which = 1;
    struct pool_call call = hanging(&which, 1.0);
    struct end ends[COUNT] = {{0}};
    struct pool *pool = make_pool(2);
    struct pool_iter *iter;
    size_t i, before = 0;

    (void)state;
    iter = iterate(pool, some_hang, pool_range(64), &call, 0);
    while (!ends[0].times && collect_one(iter, ends, COUNT))
        before += !ends[0].times;
    collect(iter, ends, 64);
    assert_timed_out(&ends[0], 0, 1.0);
    for (i = 1; i < 64; i++)
        assert_good(&ends[i], i);
    assert_int_equal(before, 63);
    pool_destroy(pool);
}

static void stats_tell_it(void **state)
{
    struct pool_stats stats;
    struct pool *pool = make_pool(2);

    (void)state;
    assert_only_hanging_time_out(pool, 10, 5, 0);
    assert_works(pool);
    assert_int_equal(pool_stats(pool, &stats), POOL_OK);
    assert_int_equal(stats.timed_out, 2);
    assert_int_equal(stats.replaced_timed_out, 2);
    assert_int_equal(stats.replaced_crashed, 0);
    assert_int_equal(stats.crashed, 0);
    assert_int_equal(stats.cancelled, 0);
    assert_int_equal(stats.ok, 8 + 32);
    pool_destroy(pool);
}

static void a_loop_with_all_signals_blocked(void **state)
{
    struct pool_call call = {.timeout = SHORT};
    struct end ends[4] = {{0}};
    struct pool *pool = make_pool(2);
    size_t i;

    (void)state;
    collect(iterate(pool, deaf_loop, pool_range(4), &call, 0), ends, 4);
    for (i = 0; i < 4; i++) {
        if (i == 1)
            assert_timed_out(&ends[i], i, SHORT);
        else
            assert_good(&ends[i], i);
    }
    pool_destroy(pool);
}

static void all_of_many_workers_hang(void **state)
{
    const size_t count = check_under("") ? 12 : MANY;
    struct pool_call call = {.timeout = 0.3};
    struct end ends[MANY] = {{0}};
    struct pool *pool = make_pool((unsigned)count);
    size_t i;

    (void)state;
    collect(iterate(pool, all_hang, pool_range(count), &call, 0), ends, count);
    for (i = 0; i < count; i++)
        assert_timed_out(&ends[i], i, 0.3);
    assert_works(pool);
    pool_destroy(pool);
}

static int fork_and_hang(struct pool_task *task)
{
    pid_t child;

    begins(task);
    child = fork();
    if (child)
        atomic_store(&ledger->pid[0], child);
    pause_for_ever();
    return 0;
}

static void what_the_item_has_forked_is_killed_too(void **state)
{
    struct pool_call call = {.timeout = SHORT};
    struct end end[1] = {{0}};
    struct pool *pool = make_pool(1);

    (void)state;
    collect(iterate(pool, fork_and_hang, pool_range(1), &call, 1), end, 1);
    assert_timed_out(end, 0, SHORT);
    assert_true(ledger->pid[0] > 0);
    await_death(ledger->pid[0]);
    pool_destroy(pool);
}

/* ---- Never early */

/* On a machine so busy that such an item took longer than its limit, it may have timed out: then it must have been that long. */
static void assert_fair(const struct end *end, size_t index, double limit)
{
    if (end->status == POOL_TIMED_OUT)
        assert_not_early(index, limit);
    else
        assert_good(end, index);
}

static void an_item_of_three_fifths_of_its_limit(void **state)
{
    enum { WORKERS = 16 };
    double seconds = 0.3;
    struct pool_call call = {.common = &seconds, .common_size = sizeof seconds, .timeout = 0.5};
    size_t count = WORKERS * (is_long() ? 15 : 4), ok = 0, i;
    struct end ends[LEDGER_ITEMS] = {{0}};
    struct pool *pool = make_pool(WORKERS);
    struct pool_iter *iter = iterate(pool, naps, pool_range(count), &call, 1);

    (void)state;
    for (i = 0; i < count; i++) {
        assert_true(collect_one(iter, ends, count));
        assert_fair(&ends[i], i, 0.5);
        ok += ends[i].status == POOL_OK;
    }
    collect(iter, ends, count);
    print_message("    %zu of %zu ended in time\n", ok, count);
    pool_destroy(pool);
}

static int about_the_limit(struct pool_task *task)
{
    begins(task);
    nap_for(0.005 + 0.010 * (double)(pool_task_seed(task) % 1000) / 1000);
    return ends_well(task);
}

/* Ends and kills meet: each item has one end, a result that is there is right, and no neighbour is hit. */
static void items_that_end_just_at_their_limit(void **state)
{
    enum { COUNT = 200 };
    struct pool_call call = {.timeout = 0.010};
    struct end ends[COUNT] = {{0}};
    struct pool *pool = make_pool(4);
    struct pool_iter *iter = iterate(pool, about_the_limit, pool_range(COUNT), &call, 1);
    size_t i;

    (void)state;
    for (i = 0; i < COUNT; i++) {
        assert_true(collect_one(iter, ends, COUNT));
        assert_fair(&ends[i], i, 0.010);
        assert_true(ledger->started[i] <= 1);   /* 0: killed before the task began */
    }
    collect(iter, ends, COUNT);
    assert_works(pool);
    pool_destroy(pool);
}

static void waiting_before_the_start_does_not_count(void **state)
{
    enum { COUNT = 6 };
    double seconds = 0.3;
    struct pool_call call = {.common = &seconds, .common_size = sizeof seconds, .timeout = 1.0, .chunk = COUNT};
    struct end ends[COUNT] = {{0}};
    struct pool *pool = make_pool(1);
    size_t i;

    (void)state;
    collect(iterate(pool, naps, pool_range(COUNT), &call, 0), ends, COUNT);
    for (i = 0; i < COUNT; i++)
        assert_fair(&ends[i], i, 1.0);
    assert_true(notes[COUNT - 1].ended - notes[0].began > 1000000000);
    pool_destroy(pool);
}

static void waiting_behind_a_call_without_limit_does_not_count(void **state)
{
    struct pool_call limited = {.timeout = 1.0};
    struct end slow[1] = {{0}}, ends[4] = {{0}};
    struct pool *pool = make_pool(1);
    struct pool_iter *before, *behind;
    int64_t until;
    size_t i;

    (void)state;
    before = iterate(pool, gated, pool_range(1), NULL, 0);
    await_start(0);
    memset(notes, 0, LEDGER_ITEMS * sizeof *notes);
    behind = iterate(pool, well, pool_range(4), &limited, 0);
    until = clock_deadline(1.3);
    while (clock_now() < until)
        assert_null(pool_next_timeout(behind, 0.1));
    ledger->open = 1;
    collect(behind, ends, 4);
    collect(before, slow, 1);
    assert_good(slow, 0);
    for (i = 0; i < 4; i++)
        assert_fair(&ends[i], i, 1.0);
    pool_destroy(pool);
}

/* ---- Each kind of call */

static void map_into_an_array(void **state)
{
    enum { COUNT = 20 };
    uint64_t which = 1u << 5 | 1u << 9;
    struct pool_call call = hanging(&which, SHORT);
    struct pool *pool = make_pool(2);
    long out[COUNT];
    size_t i;

    (void)state;
    for (i = 0; i < COUNT; i++)
        out[i] = -7;
    assert_int_equal(pool_map(pool, some_hang, pool_range(COUNT), out, sizeof *out, &call), POOL_TIMED_OUT);
    assert_non_null(pool_failure());
    assert_int_equal(pool_failure()->index, 5);
    assert_int_equal(pool_failure()->status, POOL_TIMED_OUT);
    assert_non_null(strstr(pool_error(), "time limit"));
    for (i = 0; i < COUNT; i++)
        assert_int_equal(out[i], which >> i & 1 ? -7 : value_of(i));
    pool_destroy(pool);
}

static void map_results(void **state)
{
    enum { COUNT = 20 };
    uint64_t which = 1u << 5;
    struct pool_call call = hanging(&which, SHORT);
    struct pool *pool = make_pool(2);
    struct pool_results *list = pool_map_results(pool, some_hang, pool_range(COUNT), &call);
    size_t i;

    (void)state;
    assert_int_equal(pool_results_count(list), COUNT);
    assert_int_equal(pool_results_status(list), POOL_TIMED_OUT);
    for (i = 0; i < COUNT; i++)
        assert_int_equal(pool_results_at(list, i)->status, i == 5 ? POOL_TIMED_OUT : POOL_OK);
    assert_not_early(5, SHORT);
    assert_null(pool_results_at(list, 5)->data);
    assert_non_null(strstr(pool_results_at(list, 5)->message, "time limit"));
    pool_results_free(list);
    pool_destroy(pool);
}

static void apply(void **state)
{
    struct pool_call call = {.timeout = SHORT};
    struct pool *pool = make_pool(2);
    long out = -7;

    (void)state;
    assert_int_equal(pool_apply(pool, all_hang, NULL, 0, &out, sizeof out, &call), POOL_TIMED_OUT);
    assert_not_early(0, SHORT);
    assert_int_equal(out, -7);
    assert_int_equal(pool_failure()->status, POOL_TIMED_OUT);
    assert_int_equal(pool_apply(pool, well, NULL, 0, &out, sizeof out, &(struct pool_call){.timeout = AMPLE}), POOL_OK);
    assert_int_equal(out, value_of(0));
    pool_destroy(pool);
}

static void imap_has_it_in_its_place(void **state)
{
    enum { COUNT = 20 };
    uint64_t which = 1u << 5;
    struct pool_call call = hanging(&which, SHORT);
    struct pool *pool = make_pool(2);
    struct pool_iter *iter = iterate(pool, some_hang, pool_range(COUNT), &call, 1);
    const struct pool_result *r;
    size_t next = 0;

    (void)state;
    while ((r = pool_next_timeout(iter, PATIENCE))) {
        assert_int_equal(r->index, next);
        assert_int_equal(r->status, next == 5 ? POOL_TIMED_OUT : POOL_OK);
        next++;
    }
    assert_int_equal(next, COUNT);
    assert_int_equal(pool_iter_status(iter), POOL_OK);
    pool_iter_free(iter);
    pool_destroy(pool);
}

struct counter { long next, count; };

static int count_up(void *cursor, struct pool_bytes *item)
{
    struct counter *c = cursor;

    if (c->next == c->count)
        return 0;
    c->next++;
    *item = (struct pool_bytes){&c->next, sizeof c->next};
    return 1;
}

static void imap_over_a_generator(void **state)
{
    enum { COUNT = 20 };
    struct counter counter = {0, COUNT};
    uint64_t which = 1u << 5;
    struct pool_call call = hanging(&which, SHORT);
    struct end ends[COUNT] = {{0}};
    struct pool *pool = make_pool(2);
    size_t i;

    (void)state;
    call.window = 3;
    collect(iterate(pool, some_hang, pool_generator(count_up, &counter), &call, 0), ends, COUNT);
    for (i = 0; i < COUNT; i++) {
        if (i == 5)
            assert_timed_out(&ends[i], i, SHORT);
        else
            assert_good(&ends[i], i);
    }
    pool_destroy(pool);
}

static void map_over_a_generator(void **state)
{
    enum { COUNT = 20 };
    struct counter counter = {0, COUNT};
    uint64_t which = 1u << 5;
    struct pool_call call = hanging(&which, SHORT);
    struct pool *pool = make_pool(2);
    size_t i;

    (void)state;
    assert_int_equal(pool_map(pool, some_hang, pool_generator(count_up, &counter), NULL, 0, &call), POOL_TIMED_OUT);
    assert_int_equal(pool_failure()->index, 5);
    for (i = 0; i < COUNT; i++)
        assert_int_equal(ledger->started[i], 1);
    pool_destroy(pool);
}

static void apply_async_waited_for(void **state)
{
    struct pool *pool = make_pool(2);
    struct pool_job *job = pool_apply_async(pool, all_hang, NULL, 0, &(struct pool_call){.timeout = SHORT});

    (void)state;
    assert_non_null(job);
    assert_int_equal(pool_job_wait(job, PATIENCE), POOL_TIMED_OUT);
    assert_not_early(0, SHORT);
    assert_non_null(strstr(pool_error(), "time limit"));
    assert_int_equal(pool_results_at(pool_job_results(job), 0)->status, POOL_TIMED_OUT);
    pool_job_free(job);
    pool_destroy(pool);
}

static _Atomic int called_with;

static void called(struct pool_job *job, void *arg)
{
    (void)arg;
    atomic_store(&called_with, (int)pool_job_status(job) + 1);
}

static int was_called(void *unused)
{
    (void)unused;
    return atomic_load(&called_with);
}

/* Nobody waits: the callback tells. */
static void map_async_with_a_callback(void **state)
{
    uint64_t which = 1u << 5;
    struct pool_call call = hanging(&which, SHORT);
    struct pool *pool = make_pool(2);
    struct pool_job *job;

    (void)state;
    called_with = 0;
    call.done = called;
    job = pool_map_async(pool, some_hang, pool_range(20), &call);
    assert_non_null(job);
    assert_true(check_until(was_called, NULL, PATIENCE));
    assert_int_equal(called_with, POOL_TIMED_OUT + 1);
    assert_not_early(5, SHORT);
    assert_int_equal(pool_results_count(pool_job_results(job)), 20);
    pool_job_free(job);
    pool_destroy(pool);
}

static void fail_fast_ends_the_call_with_it(void **state)
{
    uint64_t which = 1u << 5 | 1u << 6;
    struct pool_call call = hanging(&which, SHORT);
    struct pool *pool = make_pool(2);

    (void)state;
    call.fail_fast = 1;
    assert_int_equal(pool_map(pool, some_hang, pool_range(1000), NULL, 0, &call), POOL_TIMED_OUT);
    assert_int_equal(pool_failure()->status, POOL_TIMED_OUT);
    assert_works(pool);
    pool_destroy(pool);
}

static void fail_fast_ends_an_iterator_with_it(void **state)
{
    uint64_t which = 1u << 5;
    struct pool_call call = hanging(&which, SHORT);
    struct pool *pool = make_pool(2);
    struct pool_iter *iter;
    const struct pool_result *r;
    enum pool_status last = POOL_OK;

    (void)state;
    call.fail_fast = 1;
    iter = iterate(pool, some_hang, pool_range(20), &call, 1);
    while ((r = pool_next_timeout(iter, PATIENCE)))
        last = r->status;
    assert_int_equal(last, POOL_TIMED_OUT);
    assert_int_equal(pool_iter_status(iter), POOL_TIMED_OUT);
    pool_iter_free(iter);
    pool_destroy(pool);
}

/* ---- With nobody in any call */

static void the_consumer_is_elsewhere(void **state)
{
    uint64_t which = 1;
    struct pool_call call = hanging(&which, SHORT);
    struct end ends[4] = {{0}};
    struct pool *pool = make_pool(1);
    struct pool_iter *iter = iterate(pool, some_hang, pool_range(4), &call, 1);
    size_t i;

    (void)state;
    await_death(await_pid(0));
    print_lateness("gone", clock_now(), 0, SHORT);
    assert_not_early(0, SHORT);
    collect(iter, ends, 4);
    assert_timed_out(&ends[0], 0, SHORT);
    for (i = 1; i < 4; i++)
        assert_good(&ends[i], i);
    pool_destroy(pool);
}

static void the_consumer_left_after_some_results(void **state)
{
    uint64_t which = 1u << 3;
    struct pool_call call = hanging(&which, SHORT);
    struct end ends[8] = {{0}};
    struct pool *pool = make_pool(2);
    struct pool_iter *iter = iterate(pool, some_hang, pool_range(8), &call, 1);
    size_t i;

    (void)state;
    for (i = 0; i < 3; i++)
        assert_true(collect_one(iter, ends, 8));
    await_death(await_pid(3));
    collect(iter, ends, 8);
    assert_timed_out(&ends[3], 3, SHORT);
    pool_destroy(pool);
}

static void the_generator_of_another_call_keeps_the_thread_busy(void **state);

static void a_freed_iterators_item(void **state)
{
    struct pool_call call = {.timeout = SHORT};
    struct pool *pool = make_pool(1);
    struct pool_iter *iter = iterate(pool, all_hang, pool_range(4), &call, 1);
    pid_t pid;

    (void)state;
    pid = await_pid(0);
    pool_iter_free(iter);
    await_death(pid);
    assert_works(pool);
    pool_destroy(pool);
}

static void a_freed_jobs_item(void **state)
{
    struct pool_call call = {.timeout = SHORT};
    struct pool *pool = make_pool(1);
    struct pool_job *job = pool_apply_async(pool, all_hang, NULL, 0, &call);
    pid_t pid;

    (void)state;
    assert_non_null(job);
    pid = await_pid(0);
    pool_job_free(job);
    await_death(pid);
    assert_works(pool);
    pool_destroy(pool);
}

/* A call without a limit is what its caller waits in. */
struct beside { struct pool *pool; pid_t pid; };

static int pull_once_it_is_dead(void *cursor, struct pool_bytes *item)
{
    struct beside *b = cursor;

    if (!b->pid)
        return 0;
    if (!check_until(is_dead, &b->pid, PATIENCE))
        return -1;
    b->pid = 0;
    *item = (struct pool_bytes){NULL, 0};
    return 1;
}

static void the_generator_of_another_call_keeps_the_thread_busy(void **state)
{
    struct pool_call call = {.timeout = SHORT};
    struct beside beside;
    struct end end[1] = {{0}};
    struct pool *pool = make_pool(2);
    struct pool_iter *iter = iterate(pool, all_hang, pool_range(1), &call, 1);

    (void)state;
    beside = (struct beside){pool, await_pid(0)};
    assert_int_equal(pool_map(pool, good, pool_generator(pull_once_it_is_dead, &beside), NULL, 0, NULL), POOL_OK);
    collect(iter, end, 1);
    assert_timed_out(end, 0, SHORT);
    pool_destroy(pool);
}

static void the_pool_is_destroyed_meanwhile(void **state)
{
    struct pool_call call = {.timeout = 0.5};
    struct pool *pool = make_pool(2);
    struct pool_iter *iter = iterate(pool, all_hang, pool_range(2), &call, 0);
    const struct pool_result *r;

    (void)state;
    await_start(0);
    pool_destroy(pool);
    while ((r = pool_next(iter)))
        assert_true(r->status == POOL_TIMED_OUT || r->status == POOL_CANCELLED);
    assert_int_equal(pool_iter_status(iter), POOL_CANCELLED);
    pool_iter_free(iter);
}

/* ---- Several limits at once */

static void each_call_has_its_own(void **state)
{
    struct pool_call limits[3] = {{.timeout = 0.3}, {.timeout = 0}, {.timeout = SHORT}};
    pool_fn *fns[3] = {all_hang, gated, all_hang};
    struct end ends[3][1] = {{{0}}};
    struct pool_iter *iters[3];
    struct pool *pool = make_pool(3);
    int i;

    (void)state;
    for (i = 0; i < 3; i++)
        iters[i] = iterate(pool, fns[i], pool_range(1), &limits[i], 0);
    collect(iters[2], ends[2], 1);
    collect(iters[0], ends[0], 1);
    assert_null(pool_next_timeout(iters[1], SHORT));
    ledger->open = 1;
    collect(iters[1], ends[1], 1);
    assert_int_equal(ends[0]->status, POOL_TIMED_OUT);
    assert_int_equal(ends[2]->status, POOL_TIMED_OUT);
    assert_good(ends[1], 0);
    pool_destroy(pool);
}

static int gate_of_its_own(struct pool_task *task)
{
    atomic_store(&ledger->pid[1], getpid());
    wait_for_gate();
    return answer(task);
}

/* The item with the longer limit was there first; the shorter one is not made to wait for it. */
static void a_shorter_limit_does_not_wait_for_a_longer_one(void **state)
{
    struct end slow[1] = {{0}}, quick[1] = {{0}};
    struct pool *pool = make_pool(2);
    struct pool_iter *longer = iterate(pool, gate_of_its_own, pool_range(1), &(struct pool_call){.timeout = 1000}, 0);
    struct pool_iter *shorter = iterate(pool, all_hang, pool_range(1), &(struct pool_call){.timeout = SHORT}, 0);

    (void)state;
    await_death(await_pid(0));          /* nobody is in any call */
    assert_not_early(0, SHORT);
    collect(shorter, quick, 1);
    assert_timed_out(quick, 0, SHORT);
    ledger->open = 1;
    collect(longer, slow, 1);
    assert_good(slow, 0);
    pool_destroy(pool);
}

static struct pool *shared;
static _Atomic int tid, ended;

static void *wait_without_limit(void *status)
{
    atomic_store(&tid, (int)gettid());
    *(enum pool_status *)status = pool_apply(shared, gate_of_its_own, NULL, 0, NULL, 0, NULL);
    return NULL;
}

static void *wait_with_limit(void *status)
{
    *(enum pool_status *)status = pool_apply(shared, all_hang, NULL, 0, NULL, 0, &(struct pool_call){.timeout = SHORT});
    atomic_store(&ended, 1);
    return NULL;
}

static int first_one_sleeps(void *unused)
{
    char path[64], line[512] = "", *end;
    FILE *file;

    (void)unused;
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", atomic_load(&tid));
    file = atomic_load(&ledger->pid[1]) ? fopen(path, "re") : NULL;
    if (!file)
        return 0;
    if (!fgets(line, sizeof line, file))
        line[0] = '\0';
    fclose(file);
    end = strrchr(line, ')');
    return end && end[2] == 'S';
}

static int limited_ended(void *unused)
{
    (void)unused;
    return atomic_load(&ended);
}

/* The thread that turns the loop is asleep, and has no reason of its own to wake up, when another one brings an item with a limit. */
static void a_limit_is_brought_to_a_thread_that_sleeps(void **state)
{
    enum pool_status without = POOL_PENDING, with = POOL_PENDING;
    pthread_t first, second;

    (void)state;
    shared = make_pool(2);
    atomic_store(&tid, 0);
    atomic_store(&ended, 0);
    assert_int_equal(pthread_create(&first, NULL, wait_without_limit, &without), 0);
    assert_true(check_until(first_one_sleeps, NULL, PATIENCE));
    assert_int_equal(pthread_create(&second, NULL, wait_with_limit, &with), 0);
    int seen = check_until(limited_ended, NULL, LATE);
    atomic_store(&ledger->open, 1);
    assert_int_equal(pthread_join(second, NULL), 0);
    assert_int_equal(pthread_join(first, NULL), 0);
    assert_true(seen);
    assert_int_equal(with, POOL_TIMED_OUT);
    assert_int_equal(without, POOL_OK);
    pool_destroy(shared);
}

static void the_same_function_with_and_without(void **state)
{
    double seconds = 0.3;
    struct pool_call without = {.common = &seconds, .common_size = sizeof seconds}, with = without;
    struct end ends[1] = {{0}};
    struct pool *pool = make_pool(1);

    (void)state;
    with.timeout = SHORT;
    collect(iterate(pool, naps, pool_range(1), &without, 0), ends, 1);
    assert_good(ends, 0);
    memset(ends, 0, sizeof ends);
    collect(iterate(pool, naps, pool_range(1), &with, 0), ends, 1);
    assert_timed_out(ends, 0, SHORT);
    memset(ends, 0, sizeof ends);
    collect(iterate(pool, naps, pool_range(1), &without, 0), ends, 1);
    assert_good(ends, 0);
    pool_destroy(pool);
}

/* ---- Limits of any size */

static void tiny(double limit)
{
    enum { COUNT = 60 };
    struct pool_call call = {.timeout = limit};
    struct end ends[COUNT] = {{0}};
    struct pool *pool = make_pool(2);
    size_t i;

    collect(iterate(pool, well, pool_range(COUNT), &call, 0), ends, COUNT);
    for (i = 0; i < COUNT; i++) {
        assert_true(ledger->started[i] <= 1);
        assert_fair(&ends[i], i, limit);
    }
    assert_works(pool);
    pool_destroy(pool);
}

static void tiny_limits(void **state)
{
    (void)state;
    tiny(1e-3);
    clear(state);
    tiny(1e-9);
    clear(state);
    tiny(5e-324);
}

static void tiny_limits_of_a_map(void **state)
{
    enum { COUNT = 60 };
    struct pool_call call = {.timeout = 1e-6};
    struct pool *pool = make_pool(2);
    enum pool_status status;
    long out[COUNT];
    size_t i;

    (void)state;
    for (i = 0; i < COUNT; i++)
        out[i] = -7;
    status = pool_map(pool, well, pool_range(COUNT), out, sizeof *out, &call);
    assert_true(status == POOL_OK || status == POOL_TIMED_OUT);
    for (i = 0; i < COUNT; i++)
        assert_true(out[i] == value_of(i) || (out[i] == -7 && status == POOL_TIMED_OUT));
    assert_works(pool);
    pool_destroy(pool);
}

static void a_limit_without_end_is_none(void **state)
{
    const double none[] = {0, (double)INFINITY, 1e300, 1.7e308, 9e9};
    double seconds = 0.05;
    struct pool *pool = make_pool(1);
    size_t i;

    (void)state;
    for (i = 0; i < sizeof none / sizeof *none; i++) {
        struct pool_call call = {.common = &seconds, .common_size = sizeof seconds, .timeout = none[i]};
        struct end ends[2] = {{0}};

        collect(iterate(pool, naps, pool_range(2), &call, 0), ends, 2);
        assert_good(&ends[0], 0);
        assert_good(&ends[1], 1);
    }
    pool_destroy(pool);
}

/* ---- Bad input */

static void assert_refused(struct pool *pool, double limit)
{
    struct pool_call call = {.timeout = limit};

    assert_int_equal(pool_map(pool, good, pool_range(3), NULL, 0, &call), POOL_INVALID);
    assert_true(pool_error()[0]);
    assert_int_equal(pool_apply(pool, good, NULL, 0, NULL, 0, &call), POOL_INVALID);
    assert_null(pool_map_results(pool, good, pool_range(3), &call));
    assert_int_equal(errno, EINVAL);
    assert_null(pool_imap(pool, good, pool_range(3), &call));
    assert_int_equal(errno, EINVAL);
    assert_null(pool_imap_unordered(pool, good, pool_range(3), &call));
    assert_null(pool_map_async(pool, good, pool_range(3), &call));
    assert_int_equal(errno, EINVAL);
    assert_null(pool_apply_async(pool, good, NULL, 0, &call));
    assert_true(pool_error()[0]);
    assert_int_equal(ledger->started[0], 0);
}

static void what_is_no_time_is_refused(void **state)
{
    struct pool *pool = make_pool(1);

    (void)state;
    assert_refused(pool, -1);
    assert_refused(pool, -1e-300);
    assert_refused(pool, -(double)INFINITY);
    assert_refused(pool, (double)NAN);
    assert_works(pool);
    pool_destroy(pool);
}

static void a_serial_pool_refuses_limits(void **state)
{
    struct pool *pool = pool_create(&(struct pool_options){.serial = 1});

    (void)state;
    assert_non_null(pool);
    assert_refused(pool, 1);
    assert_refused(pool, 1e-9);
    assert_int_equal(pool_map(pool, good, pool_range(3), NULL, 0, &(struct pool_call){.timeout = (double)INFINITY}), POOL_OK);
    pool_destroy(pool);
}

/* ---- A worker that has to wait for the host in the middle of an item */

/* The whole of a large result; its bytes tell the item. */
static int large(struct pool_task *task)
{
    unsigned char *out;

    begins(task);
    out = pool_out(task, LARGE);
    if (!out)
        return pool_fail(task, 1, "no memory");
    memset(out, (int)task->index + 1, LARGE);
    atomic_store(&note_of(task)->ended, clock_now());
    return 0;
}

static void assert_large(const struct pool_result *r)
{
    const unsigned char *bytes = r->data;
    size_t i;

    if (r->status != POOL_OK)
        fail_msg("item %zu is %s: %s", r->index, pool_status_text(r->status), r->message);
    assert_int_equal(r->size, LARGE);
    for (i = 0; i < LARGE; i += 4093)
        assert_int_equal(bytes[i], (unsigned char)(r->index + 1));
}

static void large_results_within_the_limit(void **state)
{
    enum { COUNT = 6 };
    struct pool *pool = make_pool(2);
    struct pool_results *list = pool_map_results(pool, large, pool_range(COUNT), &(struct pool_call){.timeout = AMPLE});
    size_t i;

    (void)state;
    assert_int_equal(pool_results_count(list), COUNT);
    for (i = 0; i < COUNT; i++)
        assert_large(pool_results_at(list, i));
    pool_results_free(list);
    pool_destroy(pool);
}

/* Some are killed while their result is on its way: it is whole, or they timed out; and the next one's is right. */
static void large_results_about_the_limit(void **state)
{
    enum { COUNT = 12 };
    const double limits[] = {1e-4, 3e-3, 8e-3};
    struct pool *pool = make_pool(2);
    size_t i, k;

    (void)state;
    for (k = 0; k < 3; k++) {
        struct pool_results *list = pool_map_results(pool, large, pool_range(COUNT), &(struct pool_call){.timeout = limits[k]});

        assert_int_equal(pool_results_count(list), COUNT);
        for (i = 0; i < COUNT; i++) {
            const struct pool_result *r = pool_results_at(list, i);

            if (r->status == POOL_TIMED_OUT)
                assert_not_early(i, limits[k]);
            else
                assert_large(r);
        }
        pool_results_free(list);
    }
    assert_works(pool);
    pool_destroy(pool);
}

static int hang_with_large_item(struct pool_task *task)
{
    begins(task);
    if (task->in_size != LARGE || ((const unsigned char *)task->in)[LARGE - 1] != 'x')
        return pool_fail(task, 1, "wrong bytes");
    if (task->index == 1)
        pause_for_ever();
    return ends_well(task);
}

static void large_items(void **state)
{
    enum { COUNT = 5 };
    struct pool_bytes buffers[COUNT];
    struct end ends[COUNT] = {{0}};
    struct pool *pool = make_pool(2);
    char *bytes = malloc(LARGE);
    size_t i;

    (void)state;
    assert_non_null(bytes);
    memset(bytes, 'x', LARGE);
    for (i = 0; i < COUNT; i++)
        buffers[i] = (struct pool_bytes){bytes, LARGE};
    collect(iterate(pool, hang_with_large_item, pool_buffers(buffers, COUNT), &(struct pool_call){.timeout = 1.0}, 0), ends, COUNT);
    for (i = 0; i < COUNT; i++) {
        if (i == 1)
            assert_timed_out(&ends[i], i, 1.0);
        else
            assert_fair(&ends[i], i, 1.0);
    }
    free(bytes);
    pool_destroy(pool);
}

static int has_ended(void *index)
{
    return atomic_load(&notes[*(const size_t *)index].ended) != 0;
}

static void await_end(size_t index)
{
    assert_true(check_until(has_ended, &index, PATIENCE));
}

static int64_t instant;

static int has_passed(void *unused)
{
    (void)unused;
    return clock_now() >= instant;
}

static void let_pass(double seconds)
{
    instant = clock_deadline(seconds);
    assert_true(check_until(has_passed, NULL, seconds + PATIENCE));
}

/* What it waits for is the host: that is not the item's time. */
static void a_consumer_elsewhere_costs_no_large_result(void **state)
{
    const double limit = 1.0;
    struct pool *pool = make_pool(1);
    struct pool_iter *iter = iterate(pool, large, pool_range(2), &(struct pool_call){.timeout = limit}, 1);
    const struct pool_result *r;
    size_t count = 0;

    (void)state;
    await_end(0);
    let_pass(1.5 * limit);
    while ((r = pool_next_timeout(iter, PATIENCE))) {
        assert_large(r);
        count++;
    }
    assert_int_equal(count, 2);
    pool_iter_free(iter);
    pool_destroy(pool);
}

static size_t result_size;

static int sized(struct pool_task *task)
{
    unsigned char *out;

    begins(task);
    out = pool_out(task, result_size);
    if (!out)
        return pool_fail(task, 1, "no memory");
    memset(out, (int)task->index + 1, result_size);
    atomic_store(&note_of(task)->ended, clock_now());
    return 0;
}

/* Results fill the ring, or the lane, and the next item waits for room there. */
static void consumer_elsewhere(size_t size)
{
    enum { COUNT = 120 };
    const double limit = 0.5;
    struct pool *pool;
    struct pool_iter *iter;
    const struct pool_result *r;
    size_t count = 0;

    result_size = size;
    pool = make_pool(1);
    iter = iterate(pool, sized, pool_range(COUNT), &(struct pool_call){.timeout = limit, .chunk = COUNT}, 1);
    await_end(0);
    let_pass(2 * limit);
    while ((r = pool_next_timeout(iter, PATIENCE))) {
        if (r->status != POOL_OK)
            fail_msg("item %zu is %s: %s", r->index, pool_status_text(r->status), r->message);
        assert_int_equal(r->size, size);
        assert_int_equal(((const unsigned char *)r->data)[size - 1], r->index + 1);
        count++;
    }
    assert_int_equal(count, COUNT);
    pool_iter_free(iter);
    pool_destroy(pool);
}

static void a_consumer_elsewhere_costs_no_results_that_fill_the_ring(void **state)
{
    (void)state;
    consumer_elsewhere(12 << 10);
}

static void a_consumer_elsewhere_costs_no_results_that_fill_the_lane(void **state)
{
    (void)state;
    consumer_elsewhere(100 << 10);
}

/* ---- A task that has written over what it shares with the host, and never ends */

enum pattern { ZEROS, ONES, NOISE };
static enum pattern pattern;            /* set before the pool is made */
static size_t scribbling;               /* the item that does */

static void cover(unsigned char *at, size_t size)
{
    uint64_t x = 88172645463325252u;
    size_t i;

    if (pattern != NOISE) {
        memset(at, pattern == ZEROS ? 0 : 0xff, size);
        return;
    }
    for (i = 0; i + sizeof x <= size; i += sizeof x) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        memcpy(at + i, &x, sizeof x);
    }
}

/* Its whole desk and region but for the lane, which begins after the streams; the item runs on without either. */
static int scribble_and_loop(struct pool_task *task)
{
    const struct worker *w = (const struct worker *)(const void *)task;
    struct channel channel = w->channel;
    unsigned char *desk = (unsigned char *)channel.desk, *region = (unsigned char *)channel.tasks.bytes;

    begins(task);
    if (task->index != scribbling)
        return ends_well(task);
    become_deaf();
    cover(region, (size_t)(channel.item_slots - region));
    cover(desk, sizeof *channel.desk);
    loop_for_ever();
    return 0;
}

static void assert_killed(const struct end *end)
{
    if (end->status != POOL_TIMED_OUT && end->status != POOL_CRASHED)
        fail_msg("the scribbler is %s: %s", pool_status_text(end->status), end->message);
}

static void scribbler(enum pattern with, unsigned workers)
{
    enum { COUNT = 16 };
    struct pool_call call = {.timeout = 0.3};
    struct end ends[COUNT] = {{0}};
    struct pool *pool;
    size_t i;

    pattern = with;
    scribbling = 3;
    pool = make_pool(workers);
    collect(iterate(pool, scribble_and_loop, pool_range(COUNT), &call, 0), ends, COUNT);
    assert_killed(&ends[3]);
    for (i = 0; i < COUNT; i++)
        if (i != 3 && ends[i].status != POOL_CRASHED)
            assert_good(&ends[i], i);
    await_death(notes[3].pid);
    assert_works(pool);
    pool_destroy(pool);
}

static void a_scribbler_of_zeros(void **state)
{
    (void)state;
    scribbler(ZEROS, 1);
    clear(state);
    scribbler(ZEROS, 2);
}

static void a_scribbler_of_ones(void **state)
{
    (void)state;
    scribbler(ONES, 1);
    clear(state);
    scribbler(ONES, 2);
}

static void a_scribbler_of_noise(void **state)
{
    (void)state;
    scribbler(NOISE, 1);
    clear(state);
    scribbler(NOISE, 2);
}

static void a_scribbler_in_a_map(enum pattern with)
{
    enum { COUNT = 16 };
    struct pool *pool;
    long out[COUNT];
    enum pool_status status;

    pattern = with;
    scribbling = 3;
    pool = make_pool(2);
    status = pool_map(pool, scribble_and_loop, pool_range(COUNT), out, sizeof *out, &(struct pool_call){.timeout = 0.3});
    assert_true(status == POOL_TIMED_OUT || status == POOL_CRASHED);
    await_death(notes[3].pid);
    assert_works(pool);
    pool_destroy(pool);
}

static void scribblers_in_maps(void **state)
{
    a_scribbler_in_a_map(ZEROS);
    clear(state);
    a_scribbler_in_a_map(ONES);
    clear(state);
    a_scribbler_in_a_map(NOISE);
}

static void unwatched_scribbler(enum pattern with)
{
    struct end ends[4] = {{0}};
    struct pool_iter *iter;
    struct pool *pool;

    pattern = with;
    scribbling = 0;
    pool = make_pool(2);
    iter = iterate(pool, scribble_and_loop, pool_range(4), &(struct pool_call){.timeout = 0.3}, 0);
    await_death(await_pid(0));          /* nobody is in any call */
    collect(iter, ends, 4);
    assert_killed(&ends[0]);
    assert_works(pool);
    pool_destroy(pool);
}

static void scribblers_while_the_consumer_is_elsewhere(void **state)
{
    unwatched_scribbler(ZEROS);
    clear(state);
    unwatched_scribbler(ONES);
    clear(state);
    unwatched_scribbler(NOISE);
}

/* ---- A host that is stopped for a while */

#define STOP_LIMIT 1.0

/* Ends with the number of results that are not OK, or 100 where it could not be tried. */
static void be_host(pool_fn *fn, int how, size_t items)
{
    const struct pool_call call = {.timeout = STOP_LIMIT};
    struct pool *pool = pool_create(&(struct pool_options){.workers = 2});
    const struct pool_results *list = NULL;
    struct pool_job *job = NULL;
    int bad = 0;
    size_t i;

    signal(SIGSEGV, SIG_DFL);           /* cmocka's handler would go on with the next test here */
    if (!pool)
        _exit(100);
    if (how == 0) {
        list = pool_map_results(pool, fn, pool_range(items), &call);
    } else if (how == 1) {
        job = pool_map_async(pool, fn, pool_range(items), &call);
        pool_job_wait(job, -1);
        list = pool_job_results(job);
    } else {
        struct pool_iter *iter = pool_imap(pool, fn, pool_range(items), &call);
        const struct pool_result *r;

        while ((r = pool_next(iter)))
            bad += r->status != POOL_OK;
        pool_iter_free(iter);
    }
    for (i = 0; i < pool_results_count(list); i++)
        bad += pool_results_at(list, i)->status != POOL_OK;
    if (job)
        pool_job_free(job);
    pool_destroy(pool);
    _exit(bad);
}

struct host { pid_t pid; int status; };

static int has_left(void *host)
{
    struct host *h = host;

    return waitpid(h->pid, &h->status, WNOHANG) == h->pid;
}

static int has_stopped(void *host)
{
    struct host *h = host;

    return waitpid(h->pid, &h->status, WNOHANG | WUNTRACED) == h->pid && WIFSTOPPED(h->status);
}

/* Its first two items wait at a gate. It is stopped, their limit passes, the gate opens, they finish, and it is continued. */
static void stopped_host(pool_fn *fn, int how, size_t items)
{
    struct host host;
    int in_time;

    fflush(NULL);
    host.pid = fork();
    if (host.pid == 0)
        be_host(fn, how, items);
    assert_true(host.pid > 0);
    await_start(0);
    await_start(1);
    kill(host.pid, SIGSTOP);
    assert_true(check_until(has_stopped, &host, PATIENCE));
    in_time = (double)(clock_now() - notes[0].began) < STOP_LIMIT * 1e9 && (double)(clock_now() - notes[1].began) < STOP_LIMIT * 1e9;
    let_pass(STOP_LIMIT * 1.2);
    ledger->open = 1;
    if (in_time) {                      /* or the machine is too busy for this one */
        await_end(0);
        await_end(1);
        let_pass(0.1);                  /* from a note in the task to the result's publication; too little is seen below */
    }
    kill(host.pid, SIGCONT);
    assert_true(check_until(has_left, &host, PATIENCE));
    assert_true(WIFEXITED(host.status));
    if (in_time)
        assert_int_equal(WEXITSTATUS(host.status), 0);
}

static void what_finished_while_the_host_was_stopped(void **state)
{
    (void)state;
    stopped_host(gated, 0, 2);
}

static void what_finished_while_an_asynchronous_host_was_stopped(void **state)
{
    (void)state;
    stopped_host(gated, 1, 2);
}

static void what_finished_while_an_iterating_host_was_stopped(void **state)
{
    (void)state;
    stopped_host(gated, 2, 2);
}

static int gated_and_large(struct pool_task *task)
{
    begins(task);
    wait_for_gate();
    return large(task);
}

static int gated_in_the_lane(struct pool_task *task)
{
    begins(task);
    wait_for_gate();
    return sized(task);
}

/* The first two wait at the gate; those behind them fill what room there is for results. */
static void results_that_filled_the_lane_while_the_host_was_stopped(void **state)
{
    (void)state;
    result_size = 100 << 10;
    stopped_host(gated_in_the_lane, 0, 100);
}

static void a_large_result_begun_while_the_host_was_stopped(void **state)
{
    (void)state;
    stopped_host(gated_and_large, 0, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(it_is_told),
        STORY(neighbours_run_elsewhere),
        STORY(neighbours_run_after_it_at_the_only_worker),
        STORY(several_in_a_row),
        STORY(every_one),
        STORY(the_next_item_is_served_at_once),
        STORY(the_other_worker_goes_on_meanwhile),
        STORY(stats_tell_it),
        STORY(a_loop_with_all_signals_blocked),
        STORY(all_of_many_workers_hang),
        STORY(what_the_item_has_forked_is_killed_too),
        STORY(an_item_of_three_fifths_of_its_limit),
        STORY(items_that_end_just_at_their_limit),
        STORY(waiting_before_the_start_does_not_count),
        STORY(waiting_behind_a_call_without_limit_does_not_count),
        STORY(map_into_an_array),
        STORY(map_results),
        STORY(apply),
        STORY(imap_has_it_in_its_place),
        STORY(imap_over_a_generator),
        STORY(map_over_a_generator),
        STORY(apply_async_waited_for),
        STORY(map_async_with_a_callback),
        STORY(fail_fast_ends_the_call_with_it),
        STORY(fail_fast_ends_an_iterator_with_it),
        STORY(the_consumer_is_elsewhere),
        STORY(the_consumer_left_after_some_results),
        STORY(a_freed_iterators_item),
        STORY(a_freed_jobs_item),
        STORY(the_generator_of_another_call_keeps_the_thread_busy),
        STORY(the_pool_is_destroyed_meanwhile),
        STORY(each_call_has_its_own),
        STORY(a_shorter_limit_does_not_wait_for_a_longer_one),
        STORY(a_limit_is_brought_to_a_thread_that_sleeps),
        STORY(the_same_function_with_and_without),
        STORY(tiny_limits),
        STORY(tiny_limits_of_a_map),
        STORY(a_limit_without_end_is_none),
        STORY(what_is_no_time_is_refused),
        STORY(a_serial_pool_refuses_limits),
        STORY(large_results_within_the_limit),
        STORY(large_results_about_the_limit),
        STORY(large_items),
        STORY(a_consumer_elsewhere_costs_no_large_result),
        STORY(a_consumer_elsewhere_costs_no_results_that_fill_the_ring),
        STORY(a_consumer_elsewhere_costs_no_results_that_fill_the_lane),
        STORY(a_scribbler_of_zeros),
        STORY(a_scribbler_of_ones),
        STORY(a_scribbler_of_noise),
        STORY(scribblers_in_maps),
        STORY(scribblers_while_the_consumer_is_elsewhere),
        STORY(what_finished_while_the_host_was_stopped),
        STORY(what_finished_while_an_asynchronous_host_was_stopped),
        STORY(what_finished_while_an_iterating_host_was_stopped),
        STORY(results_that_filled_the_lane_while_the_host_was_stopped),
        STORY(a_large_result_begun_while_the_host_was_stopped),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
