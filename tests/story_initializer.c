/* An initializer that fails, dies or never ends makes pool_create return NULL, with errno, a sentence that names worker, cause
 * and message, and nothing left behind. One that succeeds is seen by every task of its worker, and by its replacement's; the finalizer
 * runs at each orderly end. */
#define _GNU_SOURCE
#include "ledger.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>

enum { WORKERS = 3 };

static void note_pid(const struct pool_worker *worker)
{
    atomic_store(&ledger->pid[worker->index], (int)getpid());
}

/* ---- Failing at creation */

static int returns_code(struct pool_worker *worker)
{
    note_pid(worker);
    return worker->index == 1 ? 42 : 0;
}

static int fails_with_message(struct pool_worker *worker)
{
    note_pid(worker);
    return worker->index == 1 ? pool_init_fail(worker, 17, "no device %u of %d", worker->index, 5) : 0;
}

static int fails_without_code(struct pool_worker *worker)
{
    return pool_init_fail(worker, 0, "nothing");
}

static int exits(struct pool_worker *worker)
{
    note_pid(worker);
    if (worker->index == 1)
        _exit(9);
    return 0;
}

static int raises_sigsegv(struct pool_worker *worker)
{
    note_pid(worker);
    if (worker->index == 1)
        raise(SIGSEGV);
    return 0;
}

static int never_ends(struct pool_worker *worker)
{
    note_pid(worker);
    if (worker->index == 1)
        pause_for_ever();
    return 0;
}

static int closes_everything(struct pool_worker *worker)
{
    note_pid(worker);
    if (worker->index == 1) {
        close_from(0);
        pause_for_ever();
    }
    return 0;
}

static void note_end(struct pool_worker *worker)
{
    (void)worker;
    atomic_fetch_add(&ledger->ends, 1);
}

static void refused(pool_initializer *initializer, double timeout, int error)
{
    const struct pool_options options = {.workers = WORKERS, .initializer = initializer, .init_timeout = timeout};
    struct check_state before;
    unsigned i;

    check_begin(&before);
    errno = 0;
    assert_null(pool_create(&options));
    assert_int_equal(errno, error);
    check_end(&before);
    for (i = 0; i < WORKERS; i++)
        assert_false(check_alive(atomic_load(&ledger->pid[i])));
}

static void a_code(void **state)
{
    (void)state;
    refused(returns_code, 0, ECANCELED);
    check_says("worker 1");
    check_says("code 42");
}

static void a_message(void **state)
{
    (void)state;
    refused(fails_with_message, 0, ECANCELED);
    check_says("worker 1");
    check_says("code 17");
    check_says("no device 1 of 5");
}

static void a_failure_with_code_0_is_minus_1(void **state)
{
    (void)state;
    refused(fails_without_code, 0, ECANCELED);
    check_says("code -1");
    check_says("nothing");
}

static void an_exit(void **state)
{
    (void)state;
    refused(exits, 0, ECANCELED);
    check_says("worker 1");
    check_says("status 9");
}

static void a_signal(void **state)
{
    (void)state;
    refused(raises_sigsegv, 0, ECANCELED);
    check_says("worker 1");
    check_says("SIGSEGV");
}

static void a_timeout(void **state)
{
    (void)state;
    refused(never_ends, init_timeout(), ETIMEDOUT);
    check_says("worker 1");
    check_says("took longer");
}

static void a_lost_pipe(void **state)
{
    (void)state;
    refused(closes_everything, 0, ECANCELED);
    check_says("worker 1");
}

static void an_infinite_timeout_is_none(void **state)
{
    const struct pool_options options = {.workers = 1, .initializer = returns_code, .init_timeout = HUGE_VAL};
    struct pool *pool = pool_create(&options);

    (void)state;
    assert_non_null(pool);
    pool_destroy(pool);
}

/* ---- What tasks see of it */

static int prepares(struct pool_worker *worker)
{
    long *state = malloc(sizeof *state);

    if (!state)
        return 1;
    *state = *(const long *)worker->arg + worker->index;
    worker->state = state;
    atomic_fetch_add(&ledger->births, 1);
    note_pid(worker);
    return 0;
}

static void frees(struct pool_worker *worker)
{
    free(worker->state);
    atomic_store(&ledger->pid[WORKERS + worker->index], (int)getpid());
    note_end(worker);
}

struct seen {
    long     state;
    unsigned index;
    int      arg_fits;
};

static int looks(struct pool_task *task)
{
    const struct pool_worker *worker = task->worker;
    struct seen seen = {*(const long *)worker->state, worker->index, *(const long *)worker->arg == 1000};

    return pool_return(task, &seen, sizeof seen);
}

static struct pool *make_prepared(unsigned workers)
{
    static long base;
    const struct pool_options options = {.workers = workers, .initializer = prepares, .initarg = &base, .finalizer = frees};
    struct pool *pool;

    base = 1000;
    pool = pool_create(&options);
    base = 0;                               /* workers saw it as it was in pool_create, replacements too */
    if (!pool)
        fail_msg("no pool: %s", pool_error());
    return pool;
}

static void assert_all_see_it(struct pool *pool)
{
    struct seen seen[32];
    size_t i;

    assert_int_equal(pool_map(pool, looks, pool_range(32), seen, sizeof *seen, NULL), POOL_OK);
    for (i = 0; i < 32; i++) {
        assert_true(seen[i].index < pool_size(pool));
        assert_int_equal(seen[i].state, 1000 + seen[i].index);
        assert_true(seen[i].arg_fits);
    }
}

static void all_workers_are_ready_at_once(void **state)
{
    struct pool *pool = make_prepared(WORKERS);
    unsigned i;

    (void)state;
    assert_int_equal(ledger->births, WORKERS);
    for (i = 0; i < WORKERS; i++)
        assert_int_equal(pool_worker_pid(pool, i), ledger->pid[i]);
    pool_destroy(pool);
}

static void tasks_see_state_index_and_arg(void **state)
{
    struct pool *pool = make_prepared(WORKERS);

    (void)state;
    assert_all_see_it(pool);
    pool_destroy(pool);
}

static void a_replacement_is_prepared_under_the_same_index(void **state)
{
    struct pool *pool = make_prepared(WORKERS);
    pid_t pid = worker_of(pool, 1);

    (void)state;
    assert_int_equal(kill(pid, SIGKILL), 0);
    await_death(pid);
    assert_all_see_it(pool);
    while (!pool_worker_pid(pool, 1))
        assert_all_see_it(pool);
    assert_all_see_it(pool);
    assert_int_equal(ledger->births, WORKERS + 1);
    assert_int_equal(pool_worker_pid(pool, 1), ledger->pid[1]);
    assert_int_not_equal(ledger->pid[1], pid);
    pool_destroy(pool);
}

/* ---- Finalizers */

static void a_finalizer_runs_in_each_worker(void **state)
{
    struct pool *pool = make_prepared(WORKERS);

    (void)state;
    assert_all_see_it(pool);
    assert_int_equal(ledger->ends, 0);
    pool_destroy(pool);
    assert_int_equal(ledger->ends, WORKERS);
}

static void a_finalizer_does_not_run_in_a_killed_worker(void **state)
{
    struct pool *pool = make_prepared(WORKERS);
    pid_t pid = worker_of(pool, 0);

    (void)state;
    assert_int_equal(kill(pid, SIGKILL), 0);
    await_death(pid);
    pool_destroy(pool);                     /* which may come upon a replacement there, and end it in order */
    assert_int_not_equal(ledger->pid[WORKERS], pid);
    assert_true(ledger->ends >= WORKERS - 1);
}

static int exits_in_a_task(struct pool_task *task)
{
    (void)task;
    exit(3);
}

static void a_finalizer_does_not_run_where_a_task_exits(void **state)
{
    struct pool *pool = make_prepared(1);

    (void)state;
    assert_int_equal(pool_apply(pool, exits_in_a_task, NULL, 0, NULL, 0, NULL), POOL_CRASHED);
    assert_int_equal(ledger->ends, 0);
    pool_destroy(pool);
}

static void pauses_at_its_end(struct pool_worker *worker)
{
    note_end(worker);
    pause_for_ever();
}

static void a_finalizer_that_never_ends_is_killed(void **state)
{
    const struct pool_options options = {.workers = 2, .finalizer = pauses_at_its_end};
    struct pool *pool = pool_create(&options);

    (void)state;
    assert_non_null(pool);
    pool_destroy(pool);
    assert_int_equal(ledger->ends, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(a_code),
        STORY(a_message),
        STORY(a_failure_with_code_0_is_minus_1),
        STORY(an_exit),
        STORY(a_signal),
        STORY(a_timeout),
        STORY(a_lost_pipe),
        STORY(an_infinite_timeout_is_none),
        STORY(all_workers_are_ready_at_once),
        STORY(tasks_see_state_index_and_arg),
        STORY(a_replacement_is_prepared_under_the_same_index),
        STORY(a_finalizer_runs_in_each_worker),
        STORY(a_finalizer_does_not_run_in_a_killed_worker),
        STORY(a_finalizer_does_not_run_where_a_task_exits),
        STORY(a_finalizer_that_never_ends_is_killed),
    };

    return cmocka_run_group_tests(tests, ledger_setup, ledger_teardown);
}
