/* What a user of Python's multiprocessing.Pool relies on, told by what CPython's own tests of it check: asynchronous calls and their
 * callbacks, close, join, terminate, and workers of limited life.
 *
 * Each test bears the name of its counterpart in CPython's Lib/test/_test_multiprocessing.py, with a suffix where one there is several
 * here; the line above it says what is checked there and what differs here. The calls that wait are in story_python_pool.c. Where CPython
 * sleeps for a while, a task here waits at a gate that the test opens.
 *
 * ctest: timeout 200 */
#define _GNU_SOURCE
#include "child.h"
#include "clock.h"
#include "forkpool.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { WORKERS = 4, MOST = 1000, MIB = 1 << 20 };

static struct pool *pool;
static int xs[MOST];

/* Shared with the workers, and with hosts that are children of the test. */
static struct shared {
    atomic_int gate;                    /* tasks that wait go on once it is open */
    atomic_int started, ended;          /* tasks at the gate */
    atomic_int births, finals;          /* of workers with note_birth and note_end */
    _Atomic(pid_t) pids[WORKERS];
} *shared;

static int open_pool(void **state)
{
    int i;

    check_setup(state);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(shared != MAP_FAILED);
    for (i = 0; i < MOST; i++)
        xs[i] = i;
    pool = pool_create(&(struct pool_options){.workers = WORKERS});
    if (!pool)
        fail_msg("%s", pool_error());
    return 0;
}

static int close_pool(void **state)
{
    pool_destroy(pool);
    munmap(shared, sizeof *shared);
    return check_teardown(state);
}

static int begin(void **state)
{
    (void)state;
    memset(shared, 0, sizeof *shared);
    return 0;
}

/* What is measured is done less often where it is not measured. */
static int often(int times)
{
    return !check_under("") ? times : times / 10;
}

static struct pool_items first(size_t count)
{
    return pool_array(xs, count, sizeof *xs);
}

static int note_birth(struct pool_worker *worker)
{
    shared->pids[worker->index % WORKERS] = getpid();
    shared->births++;
    return 0;
}

static void note_end(struct pool_worker *worker)
{
    (void)worker;
    shared->finals++;
}

/* A pool of the test's own. */
static struct pool *make(unsigned workers, size_t max_tasks)
{
    struct pool *own = pool_create(&(struct pool_options){.workers = workers, .max_tasks = max_tasks, .initializer = note_birth,
                                                          .finalizer = note_end});

    if (!own)
        fail_msg("%s", pool_error());
    return own;
}

static void end(struct pool *own)
{
    pool_close(own);
    assert_int_equal(pool_join(own, PATIENCE), POOL_OK);
    pool_destroy(own);
}

/* ---- Tasks */

static int sqr(struct pool_task *task)
{
    int x = *(const int *)task->in, y = x * x;

    return pool_return(task, &y, sizeof y);
}

/* Python's sqr(x, wait). */
static int sqr_at_gate(struct pool_task *task)
{
    shared->started++;
    while (!shared->gate)
        nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
    shared->ended++;
    return sqr(task);
}

struct pair {
    int x, y;
};

static int mul(struct pool_task *task)
{
    const struct pair *pair = task->in;
    int z = pair->x * pair->y;

    return pool_return(task, &z, sizeof z);
}

/* Python's int: of a text of one character. */
static int to_int(struct pool_task *task)
{
    int digit = *(const char *)task->in - '0';

    if (digit < 0 || digit > 9)
        return pool_fail(task, 22, "no digit: '%c'", *(const char *)task->in);
    return pool_return(task, &digit, sizeof digit);
}

static int raising(struct pool_task *task)
{
    return pool_fail(task, 9, "key");
}

/* A result that there is no sending of. */
static int unpickleable_result(struct pool_task *task)
{
    return pool_return(task, NULL, 42);
}

static int raise_on_thirds(struct pool_task *task)
{
    if (task->index % 3 == 0)
        return pool_fail(task, 3, "a third");
    return sqr(task);
}

static int big_result(struct pool_task *task)
{
    void *out = pool_out(task, MIB);

    if (!out)
        return 1;
    memset(out, 1, MIB);
    return 0;
}

static char large[MIB];

static int raise_large(struct pool_task *task)
{
    memset(large, 'x', sizeof large - 1);
    return pool_fail(task, 5, "%s", large);
}

/* ---- Jobs */

static void open_gate(void)
{
    shared->gate = 1;
}

static int as_many_started(void *least)
{
    return shared->started >= *(int *)least;
}

static void until_started(int least)
{
    assert_true(check_until(as_many_started, &least, PATIENCE));
}

static struct pool_job *apply_async(struct pool *some, pool_fn *fn, int x)
{
    struct pool_job *job = pool_apply_async(some, fn, &x, sizeof x, NULL);

    if (!job)
        fail_msg("%s", pool_error());
    return job;                         /* x is gone: it was copied */
}

static struct pool_job *map_async(struct pool *some, pool_fn *fn, size_t count, size_t chunk)
{
    struct pool_job *job = pool_map_async(some, fn, first(count), &(struct pool_call){.chunk = chunk});

    if (!job)
        fail_msg("%s", pool_error());
    return job;
}

static const struct pool_result *result_of(struct pool_job *job, size_t index)
{
    const struct pool_results *results = pool_job_results(job);

    assert_non_null(results);
    assert_non_null(pool_results_at(results, index));
    return pool_results_at(results, index);
}

/* Python's get(), of one value. */
static int get(struct pool_job *job)
{
    const struct pool_result *r;
    int value;

    assert_int_equal(pool_job_wait(job, PATIENCE), POOL_OK);
    r = result_of(job, 0);
    assert_int_equal(r->size, sizeof value);
    value = *(const int *)r->data;
    pool_job_free(job);
    return value;
}

/* Python's get(), of a list. */
static void get_squares(struct pool_job *job, size_t count)
{
    size_t i;

    assert_int_equal(pool_job_wait(job, PATIENCE), POOL_OK);
    assert_int_equal(pool_results_count(pool_job_results(job)), count);
    for (i = 0; i < count; i++)
        assert_int_equal(*(const int *)result_of(job, i)->data, (int)(i * i));
    pool_job_free(job);
}

/* What a callback was told. It has returned before a wait on its job returns, so that no lock is needed to read it then. */
struct heard {
    int              times;
    enum pool_status status;
    size_t           count;
    int              value, code;       /* of the first result */
    char             message[100];
};

static void hear(struct pool_job *job, void *arg)
{
    struct heard *heard = arg;
    const struct pool_results *results = pool_job_results(job);
    const struct pool_result *r = results ? pool_results_at(results, 0) : NULL;

    heard->times++;
    heard->status = pool_job_status(job);
    heard->count = pool_results_count(results);
    if (!r)
        return;
    heard->code = r->code;
    heard->value = r->data && r->size == sizeof heard->value ? *(const int *)r->data : -1;
    snprintf(heard->message, sizeof heard->message, "%s", r->message);
}

/* Waits for a job with this callback, and frees it. */
static enum pool_status wait_for(struct pool_job *job)
{
    enum pool_status status;

    if (!job)
        fail_msg("%s", pool_error());
    status = pool_job_wait(job, PATIENCE);
    pool_job_free(job);
    return status;
}

#define HEARD_BY(heard) (&(struct pool_call){.done = hear, .done_arg = &(heard)})

/* ---- apply_async */

/* Python: get() waits for the value. Here: it is there once the wait has ended, and not before the task has. */
static void test_async(void **state)
{
    struct pool_job *job = apply_async(pool, sqr_at_gate, 7);

    (void)state;
    until_started(1);
    assert_int_equal(pool_job_status(job), POOL_PENDING);
    assert_null(pool_job_results(job));
    open_gate();
    assert_int_equal(get(job), 49);
}

/* Python: ready() and successful(). Here both are the status. */
static void test_async_successful(void **state)
{
    struct pool_job *job = apply_async(pool, sqr, 7);

    (void)state;
    assert_int_equal(pool_job_wait(job, PATIENCE), POOL_OK);
    assert_int_equal(pool_job_status(job), POOL_OK);
    assert_int_equal(pool_job_wait(job, 0), POOL_OK);
    pool_job_free(job);
}

/* Python: get(timeout) raises TimeoutError after that time. Here: PENDING, and never early. */
static void test_async_timeout(void **state)
{
    struct pool_job *job = apply_async(pool, sqr_at_gate, 6);
    int64_t deadline;

    (void)state;
    deadline = clock_deadline(0.05);
    assert_int_equal(pool_job_wait(job, 0.05), POOL_PENDING);
    assert_true(clock_now() >= deadline);
    open_gate();
    assert_int_equal(get(job), 36);     /* it went on */
}

/* Python: a pool whose task is still being waited for can be terminated and joined. */
static void test_async_timeout_and_terminate(void **state)
{
    struct pool *own = make(3, 0);
    struct pool_job *job = apply_async(own, sqr_at_gate, 6);

    (void)state;
    assert_int_equal(pool_job_wait(job, 0.01), POOL_PENDING);
    pool_terminate(own);
    assert_int_equal(pool_join(own, PATIENCE), POOL_OK);
    assert_int_equal(pool_job_status(job), POOL_CANCELLED);
    pool_job_free(job);
    pool_destroy(own);
}

/* ---- map_async */

/* Python: the list of the values, in order, without callbacks. */
static void test_map_async(void **state)
{
    (void)state;
    get_squares(map_async(pool, sqr, 10, 0), 10);
}

/* Python: in chunks. */
static void test_map_async_chunks(void **state)
{
    (void)state;
    get_squares(map_async(pool, sqr, 1000, 1), 1000);
    get_squares(map_async(pool, sqr, 1000, 10), 1000);
    get_squares(map_async(pool, sqr, 1000, 100), 1000);
    get_squares(map_async(pool, sqr, 1000, 0), 1000);
}

/* Python: each tuple is spread over the arguments. Here a struct is the tuple. */
static void test_starmap_async(void **state)
{
    struct pair pairs[100];
    struct pool_job *job;
    int i;

    (void)state;
    for (i = 0; i < 100; i++)
        pairs[i] = (struct pair){i, 99 - i};
    job = pool_map_async(pool, mul, pool_array(pairs, 100, sizeof *pairs), NULL);
    assert_int_equal(pool_job_wait(job, PATIENCE), POOL_OK);
    for (i = 0; i < 100; i++)
        assert_int_equal(*(const int *)result_of(job, (size_t)i)->data, i * (99 - i));
    pool_job_free(job);
}

/* Python: chunks of an empty list do not stall. */
static void test_map_chunksize(void **state)
{
    (void)state;
    get_squares(map_async(pool, sqr, 0, 1), 0);
}

static int never_pulled(void *cursor, struct pool_bytes *item)
{
    (void)item;
    ++*(int *)cursor;
    return -7;
}

/* Python: any iterable; one that raises fails the call. Here no generator, since nobody would pull it: it is refused unpulled. */
static void test_map_handle_iterable_exception_async(void **state)
{
    int pulls = 0;

    (void)state;
    errno = 0;
    assert_null(pool_map_async(pool, sqr, pool_generator(never_pulled, &pulls), NULL));
    assert_int_equal(errno, EINVAL);
    assert_int_equal(pulls, 0);
}

/* Python: the failure of some throws away the results of all. Here the others' are there. */
static void test_map_no_failfast_async(void **state)
{
    struct pool_job *job = map_async(pool, raise_on_thirds, 100, 0);
    size_t i;

    (void)state;
    assert_int_equal(pool_job_wait(job, PATIENCE), POOL_FAILED);
    for (i = 0; i < 100; i++) {
        if (i % 3 == 0)
            assert_int_equal(result_of(job, i)->status, POOL_FAILED);
        else
            assert_int_equal(*(const int *)result_of(job, i)->data, (int)(i * i));
    }
    pool_job_free(job);
}

/* ---- Callbacks */

static struct pool_items text(const char *digits)
{
    return pool_array(digits, strlen(digits), 1);
}

/* Python: the callback is called with the list, once, before wait() returns. Here: with the job. */
static void test_map_async_callbacks(void **state)
{
    struct heard heard = {0};

    (void)state;
    assert_int_equal(wait_for(pool_map_async(pool, to_int, text("1"), HEARD_BY(heard))), POOL_OK);
    assert_int_equal(heard.times, 1);
    assert_int_equal(heard.status, POOL_OK);
    assert_int_equal(heard.count, 1);
    assert_int_equal(heard.value, 1);
}

/* Python: where an item raised, the error callback is called with the exception. Here: the same one, and its job tells. */
static void test_map_async_callbacks_error(void **state)
{
    struct heard heard = {0};

    (void)state;
    assert_int_equal(wait_for(pool_map_async(pool, to_int, text("a"), HEARD_BY(heard))), POOL_FAILED);
    assert_int_equal(heard.times, 1);
    assert_int_equal(heard.status, POOL_FAILED);
    assert_int_equal(heard.code, 22);
    assert_string_equal(heard.message, "no digit: 'a'");
}

/* Python: one call for the whole list, not one for each item. */
static void test_map_async_callbacks_of_many(void **state)
{
    struct heard heard = {0};

    (void)state;
    assert_int_equal(wait_for(pool_map_async(pool, sqr, first(1000), HEARD_BY(heard))), POOL_OK);
    assert_int_equal(heard.times, 1);
    assert_int_equal(heard.count, 1000);
}

/* Python: none for an empty list, which is ready at once. Here: once, whatever the outcome. */
static void test_map_async_callbacks_of_none(void **state)
{
    struct heard heard = {0};

    (void)state;
    assert_int_equal(wait_for(pool_map_async(pool, sqr, first(0), HEARD_BY(heard))), POOL_OK);
    assert_int_equal(heard.times, 1);
    assert_int_equal(heard.count, 0);
}

/* Python: the error callback of an apply. */
static void test_async_error_callback(void **state)
{
    struct heard heard = {0};

    (void)state;
    assert_int_equal(wait_for(pool_apply_async(pool, raising, NULL, 0, HEARD_BY(heard))), POOL_FAILED);
    assert_int_equal(heard.times, 1);
    assert_int_equal(heard.code, 9);
    assert_string_equal(heard.message, "key");
}

/* Python: results that cannot be pickled are an error that the error callback is told, and twenty of them cost no worker. */
static void test_unpickleable_result(void **state)
{
    struct heard heard = {0};
    pid_t before[WORKERS];
    unsigned i;

    (void)state;
    for (i = 0; i < WORKERS; i++)
        before[i] = pool_worker_pid(pool, i);
    for (i = 0; i < 20; i++)
        assert_int_equal(wait_for(pool_apply_async(pool, unpickleable_result, NULL, 0, HEARD_BY(heard))), POOL_FAILED);
    assert_int_equal(heard.times, 20);
    assert_int_equal(heard.status, POOL_FAILED);
    for (i = 0; i < WORKERS; i++)
        assert_int_equal(pool_worker_pid(pool, i), before[i]);
}

/* Python: an item that cannot be pickled: the result is its error. Here: refused, and no callback comes. */
static void test_map_unplicklable(void **state)
{
    const struct pool_bytes item = {NULL, 4};
    struct heard heard = {0};

    (void)state;
    errno = 0;
    assert_null(pool_map_async(pool, sqr, pool_buffers(&item, 1), HEARD_BY(heard)));
    assert_int_equal(errno, EINVAL);
    assert_int_equal(heard.times, 0);
}

/* ---- terminate */

static int none_alive(void *unused)
{
    int i;

    (void)unused;
    for (i = 0; i < WORKERS; i++)
        if (check_alive(shared->pids[i]))
            return 0;
    return 1;
}

/* Python: 10,000 tasks that take for ever do not hold up terminate and join. */
static void test_terminate(void **state)
{
    struct pool *own = make(3, 0);
    struct pool_job *job = pool_map_async(own, sqr_at_gate, pool_range(10000), &(struct pool_call){.chunk = 1});

    (void)state;
    assert_non_null(job);
    until_started(3);
    pool_terminate(own);
    assert_int_equal(pool_join(own, PATIENCE), POOL_OK);
    assert_true(none_alive(NULL));
    assert_int_equal(shared->started, 3);
    pool_job_free(job);
    pool_destroy(own);
}

/* Python: a get() of what was terminated waits for ever. Here all that had not finished is CANCELLED, also what ran. */
static void test_terminate_ends_its_jobs(void **state)
{
    struct pool *own = make(3, 0);
    struct pool_job *job = map_async(own, sqr_at_gate, 1000, 1);

    (void)state;
    until_started(3);
    pool_terminate(own);
    assert_int_equal(pool_job_wait(job, PATIENCE), POOL_CANCELLED);
    assert_int_equal(pool_results_count(pool_job_results(job)), 1000);
    assert_int_equal(result_of(job, 0)->status, POOL_CANCELLED);
    assert_int_equal(result_of(job, 999)->status, POOL_CANCELLED);
    pool_job_free(job);
    pool_destroy(own);
}

static void *wait_for_ever(void *job)
{
    static enum pool_status status;

    status = pool_job_wait(job, -1);
    return &status;
}

/* The same where somebody waits at that moment. */
static void test_terminate_while_another_waits(void **state)
{
    struct pool *own = make(3, 0);
    struct pool_job *job = map_async(own, sqr_at_gate, 1000, 1);
    pthread_t thread;
    void *status;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, wait_for_ever, job), 0);
    until_started(3);
    pool_terminate(own);
    assert_int_equal(pthread_join(thread, &status), 0);
    assert_int_equal(*(enum pool_status *)status, POOL_CANCELLED);
    pool_job_free(job);
    pool_destroy(own);
}

/* Python: neither of the two callbacks comes then. Here: once, whatever the outcome. */
static void test_terminate_calls_back(void **state)
{
    struct pool *own = make(1, 0);
    struct heard heard = {0};
    struct pool_job *job = pool_map_async(own, sqr_at_gate, first(10), HEARD_BY(heard));

    (void)state;
    until_started(1);
    pool_terminate(own);
    assert_int_equal(wait_for(job), POOL_CANCELLED);
    assert_int_equal(heard.times, 1);
    assert_int_equal(heard.status, POOL_CANCELLED);
    pool_destroy(own);
}

/* Python: next() on an iterator of a terminated pool waits for ever. Here it ends. */
static void test_terminate_ends_iterators(void **state)
{
    struct pool *own = make(2, 0);
    struct pool_iter *it = pool_imap(own, sqr_at_gate, first(10), NULL);
    const struct pool_result *r;

    (void)state;
    assert_non_null(it);
    until_started(2);
    pool_terminate(own);
    while ((r = pool_next(it)))
        assert_int_equal(r->status, POOL_CANCELLED);
    assert_int_equal(pool_iter_status(it), POOL_CANCELLED);
    pool_iter_free(it);
    pool_destroy(own);
}

/* Python: workers are sent SIGTERM, and what they registered does not run. Here: killed, finalizers do not run. */
static void test_terminate_runs_no_finalizer(void **state)
{
    struct pool *own = make(3, 0);
    struct pool_job *job = map_async(own, sqr_at_gate, 3, 1);

    (void)state;
    until_started(3);
    pool_terminate(own);
    assert_int_equal(pool_join(own, PATIENCE), POOL_OK);
    assert_int_equal(shared->finals, 0);
    pool_job_free(job);
    pool_destroy(own);
}

/* ---- Nothing to do */

/* Python: map_async of an empty list, and the pool can be closed and joined afterwards. */
static void test_empty_iterable(void **state)
{
    struct pool *own = make(1, 0);

    (void)state;
    get_squares(map_async(own, sqr, 0, 0), 0);
    end(own);
}

/* ---- close, join, and `with` */

/* Python: the end of a with block terminates the pool; the results that were got stay. */
static void test_context(void **state)
{
    struct pool *own = make(2, 0);
    struct pool_job *job = map_async(own, sqr, 10, 0);

    (void)state;
    assert_int_equal(pool_job_wait(job, PATIENCE), POOL_OK);
    pool_terminate(own);
    assert_int_equal(pool_join(own, PATIENCE), POOL_OK);
    pool_destroy(own);
    get_squares(job, 10);
}

/* Python: map_async on it afterwards is a ValueError, "Pool not running". */
static void test_context_over(void **state)
{
    struct pool *own = make(2, 0);

    (void)state;
    pool_terminate(own);
    errno = 0;
    assert_null(pool_map_async(own, sqr, first(10), NULL));
    assert_int_equal(errno, ESHUTDOWN);
    assert_true(strlen(pool_error()) > 0);
    assert_int_equal(pool_join(own, PATIENCE), POOL_OK);
    pool_destroy(own);
}

/* Python: a pool that is no longer running cannot be entered. Here: no call of any kind can be made on it. */
static void test_enter(void **state)
{
    struct pool *own = make(1, 0);
    int y;

    (void)state;
    pool_terminate(own);
    assert_int_equal(pool_map(own, sqr, first(1), &y, sizeof y, NULL), POOL_CLOSED);
    assert_int_equal(pool_apply(own, sqr, xs, sizeof *xs, &y, sizeof y, NULL), POOL_CLOSED);
    errno = 0;
    assert_true(!pool_imap(own, sqr, first(1), NULL) && errno == ESHUTDOWN);
    errno = 0;
    assert_true(!pool_apply_async(own, sqr, xs, sizeof *xs, NULL) && errno == ESHUTDOWN);
    assert_int_equal(pool_join(own, PATIENCE), POOL_OK);
    pool_destroy(own);
}

/* Python: the same after close. */
static void test_enter_after_close(void **state)
{
    struct pool *own = make(1, 0);
    int y;

    (void)state;
    pool_close(own);
    assert_int_equal(pool_map(own, sqr, first(1), &y, sizeof y, NULL), POOL_CLOSED);
    errno = 0;
    assert_true(!pool_apply_async(own, sqr, xs, sizeof *xs, NULL) && errno == ESHUTDOWN);
    assert_int_equal(pool_join(own, PATIENCE), POOL_OK);
    pool_destroy(own);
}

/* Python: join before close is a ValueError, "Pool is still running". */
static void test_join_running(void **state)
{
    (void)state;
    assert_int_equal(pool_join(pool, 0), POOL_INVALID);
    assert_true(strlen(pool_error()) > 0);
}

/* Python: join has no time limit. Here it may have one, after which the pool is as it was. */
static void test_join_timeout(void **state)
{
    struct pool *own = make(1, 0);
    struct pool_job *job = apply_async(own, sqr_at_gate, 5);

    (void)state;
    pool_close(own);
    assert_int_equal(pool_join(own, 0.01), POOL_PENDING);
    open_gate();
    assert_int_equal(pool_join(own, PATIENCE), POOL_OK);
    assert_int_equal(get(job), 25);
    pool_destroy(own);
}

/* Python: close and join may be called again. */
static void test_close_twice(void **state)
{
    struct pool *own = make(1, 0);

    (void)state;
    pool_close(own);
    pool_close(own);
    assert_int_equal(pool_join(own, PATIENCE), POOL_OK);
    assert_int_equal(pool_join(own, PATIENCE), POOL_OK);
    pool_destroy(own);
}

/* Python: Pool(3), closed and joined, leaves no process. */
static void test_make_pool_close_and_join(void **state)
{
    struct pool *own = make(3, 0);

    (void)state;
    pool_close(own);
    assert_int_equal(pool_join(own, PATIENCE), POOL_OK);
    assert_true(none_alive(NULL));
    pool_destroy(own);
}

/* Python: what was asked for before close still runs, and join waits for it. */
static void test_close_with_tasks_in_flight(void **state)
{
    struct pool *own = make(3, 0);
    struct pool_job *jobs[6];
    int i;

    (void)state;
    for (i = 0; i < 6; i++)
        jobs[i] = apply_async(own, sqr_at_gate, i);
    until_started(3);
    pool_close(own);
    open_gate();
    assert_int_equal(pool_join(own, PATIENCE), POOL_OK);
    assert_int_equal(shared->ended, 6);
    for (i = 0; i < 6; i++)
        assert_int_equal(get(jobs[i]), i * i);
    pool_destroy(own);
}

/* Python: callbacks have been called when join returns, whoever has forgotten the result. */
static void test_close_with_callbacks_in_flight(void **state)
{
    struct pool *own = make(3, 0);
    struct heard heard[6] = {{0}};
    int i;

    (void)state;
    for (i = 0; i < 6; i++)
        pool_job_free(pool_apply_async(own, sqr_at_gate, &xs[i], sizeof *xs, HEARD_BY(heard[i])));
    pool_close(own);
    open_gate();
    assert_int_equal(pool_join(own, PATIENCE), POOL_OK);
    for (i = 0; i < 6; i++)
        assert_true(heard[i].times == 1 && heard[i].value == i * i);
    pool_destroy(own);
}

/* Python: workers leave in order: what they registered to run at their end runs. Here: their finalizers. */
static void test_worker_finalization(void **state)
{
    struct pool *own = make(3, 0);

    (void)state;
    get_squares(map_async(own, sqr, 100, 0), 100);
    pool_close(own);
    assert_int_equal(pool_join(own, PATIENCE), POOL_OK);
    assert_int_equal(shared->finals, 3);
    pool_destroy(own);
}

/* Python: large errors of a map, whose workers fill the way back, once hung the join that followed. */
static void test_map_no_failfast(void **state)
{
    struct pool *own = make(2, 0);

    (void)state;
    assert_int_equal(pool_map(own, raise_large, first(20), NULL, 0, NULL), POOL_FAILED);
    end(own);
}

/* The same where nobody takes the errors at all. */
static void test_map_no_failfast_forgotten(void **state)
{
    struct pool *own = make(2, 0);

    (void)state;
    pool_job_free(map_async(own, raise_large, 20, 0));
    end(own);
}

/* ---- Workers of limited life */

/* A pool of three workers, and who they were. */
struct lives {
    struct pool *pool;
    pid_t        before[3];
};

static struct lives note_lives(struct pool *some)
{
    struct lives lives = {.pool = some};
    unsigned i;

    for (i = 0; i < 3; i++)
        lives.before[i] = pool_worker_pid(some, i);
    return lives;
}

static int all_there(void *lives)
{
    unsigned i;

    for (i = 0; i < 3; i++)
        if (!check_alive(pool_worker_pid(((struct lives *)lives)->pool, i)))
            return 0;
    return 1;
}

static int all_replaced(void *lives)
{
    struct lives *l = lives;
    unsigned i;

    for (i = 0; i < 3; i++)
        if (pool_worker_pid(l->pool, i) == l->before[i])
            return 0;
    return all_there(lives);
}

/* Python: three workers with ten tasks each do a hundred; afterwards there are three again, and others. */
static void test_pool_worker_lifetime(void **state)
{
    struct pool *own = make(3, 10);
    struct lives lives = note_lives(own), after;
    struct pool_job *jobs[100];
    unsigned i;

    (void)state;
    for (i = 0; i < 100; i++)
        jobs[i] = apply_async(own, sqr, (int)i);
    for (i = 0; i < 100; i++)
        assert_int_equal(get(jobs[i]), (int)(i * i));
    assert_true(check_until(all_there, &lives, PATIENCE));
    after = note_lives(own);
    assert_memory_not_equal(lives.before, after.before, sizeof lives.before);
    end(own);
}

/* How many of the results are of this process. */
static size_t made_by(const struct pool_results *results, pid_t pid)
{
    size_t i, count = 0;

    for (i = 0; i < pool_results_count(results); i++)
        count += pool_results_at(results, i)->pid == pid;
    return count;
}

/* Python: a task is a chunk, so that a worker of ten runs ten times chunksize items. Here an item is one, whatever the chunk. */
static void test_pool_worker_lifetime_counts_items(void **state)
{
    struct pool *own = make(3, 10);
    struct pool_results *results = pool_map_results(own, sqr, first(100), &(struct pool_call){.chunk = 50});
    size_t i;

    (void)state;
    assert_int_equal(pool_results_status(results), POOL_OK);
    for (i = 0; i < 100; i++)
        assert_in_range(made_by(results, pool_results_at(results, i)->pid), 1, 10);
    pool_results_free(results);
    end(own);
}

/* Python: many tasks across recycled workers give what they give without. */
static void test_pool_worker_lifetime_of_a_map(void **state)
{
    struct pool *own = make(3, 1);
    int ys[12], i;

    (void)state;
    assert_int_equal(pool_map(own, sqr, first(12), ys, sizeof *ys, NULL), POOL_OK);
    for (i = 0; i < 12; i++)
        assert_int_equal(ys[i], i * i);
    end(own);
}

/* The same for imap, one by one. */
static void test_pool_worker_lifetime_of_an_imap(void **state)
{
    struct pool *own = make(3, 1);
    struct pool_iter *it = pool_imap(own, sqr, first(12), NULL);
    const struct pool_result *r;
    int i;

    (void)state;
    for (i = 0; (r = pool_next(it)); i++)
        assert_int_equal(*(const int *)r->data, i * i);
    assert_int_equal(i, 12);
    pool_iter_free(it);
    end(own);
}

/* Python: a worker that has done its tasks leaves in order. Here: the finalizer of each runs, also of those replaced. */
static void test_pool_worker_lifetime_runs_finalizers(void **state)
{
    struct pool *own = make(3, 10);

    (void)state;
    get_squares(map_async(own, sqr, 100, 0), 100);
    end(own);
    assert_true(shared->finals >= 10);
}

/* Python: closed while tasks wait for workers that are yet to be born, join once hung. */
static void test_pool_worker_lifetime_early_close(void **state)
{
    struct pool *own = make(3, 1);
    struct pool_job *jobs[6];
    int i;

    (void)state;
    for (i = 0; i < 6; i++)
        jobs[i] = apply_async(own, sqr_at_gate, i);
    pool_close(own);
    open_gate();
    assert_int_equal(pool_join(own, PATIENCE), POOL_OK);
    for (i = 0; i < 6; i++)
        assert_int_equal(get(jobs[i]), i * i);
    pool_destroy(own);
}

/* The same once every worker was recycled and nothing waits. */
static void test_pool_worker_lifetime_late_close(void **state)
{
    struct pool *own = make(3, 1);
    struct lives lives = note_lives(own);
    struct pool_job *job = map_async(own, sqr_at_gate, 3, 1);

    (void)state;
    until_started(3);                   /* one by each */
    open_gate();
    get_squares(job, 3);
    assert_true(check_until(all_replaced, &lives, PATIENCE));
    end(own);
    assert_true(none_alive(NULL));
}

static void lives_for_ever(size_t max_tasks)
{
    struct pool *own = make(3, max_tasks);
    struct lives lives = note_lives(own), after;

    get_squares(map_async(own, sqr, 1000, 1), 1000);
    after = note_lives(own);
    assert_memory_equal(lives.before, after.before, sizeof lives.before);
    end(own);
}

/* Python: maxtasksperchild of 0 is a ValueError, None is no limit. Here 0 is no limit. */
static void test_pool_maxtasksperchild_invalid(void **state)
{
    (void)state;
    lives_for_ever(0);
}

/* Python: so is -1. Here the number is unsigned: -1 is more than anybody lives to see. */
static void test_pool_maxtasksperchild_invalid_minus_1(void **state)
{
    (void)state;
    lives_for_ever((size_t)-1);
}

/* ---- Nothing is held on to */

static long resident(void)
{
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");

    assert_non_null(file);
    assert_int_equal(fscanf(file, "%*s %ld", &pages), 1);
    fclose(file);
    return pages * sysconf(_SC_PAGESIZE) / 1024;
}

static void assert_flat(long before, long kib)
{
    long now = resident();

    if (!check_under("") && now > before + kib)
        fail_msg("the host grew from %ld to %ld KiB", before, now);
}

/* Python: a result is released with the last reference to its AsyncResult. Here: with its job. */
static void test_release_task_refs(void **state)
{
    struct pool_job *job;
    long before = 0;
    int i;

    (void)state;
    for (i = 0; i < often(120); i++) {
        if (i == 20)
            before = resident();
        job = pool_apply_async(pool, big_result, NULL, 0, NULL);
        assert_int_equal(wait_for(job), POOL_OK);
    }
    assert_flat(before, 30 * 1024);
}

static atomic_int called_back;          /* the callbacks of forgotten jobs may come late */

static void count(struct pool_job *job, void *unused)
{
    (void)job;
    (void)unused;
    called_back++;
}

static int as_many_called_back(void *least)
{
    return called_back >= *(int *)least;
}

/* Python: a result that nobody waits for is released when it arrives. Here: a job that was freed cleans itself up. */
static void test_release_task_refs_forgotten(void **state)
{
    const struct pool_call call = {.done = count};
    struct pool *own = make(2, 0);
    long before = 0;
    int i;

    (void)state;
    called_back = 0;
    for (i = 1; i <= often(200); i++) {
        pool_job_free(pool_apply_async(own, big_result, NULL, 0, &call));
        if (i % 20 == 0)
            assert_true(check_until(as_many_called_back, &i, PATIENCE));
        if (i == 60)
            before = resident();
    }
    assert_flat(before, 60 * 1024);
    end(own);
}

/* Items of 64 KiB in one and the same buffer: what shall be sent again has to be kept elsewhere. */
struct stream {
    int  left;
    char item[64 * 1024];
};

static int pull(void *cursor, struct pool_bytes *item)
{
    struct stream *s = cursor;

    memset(s->item, s->left & 0xff, sizeof s->item);
    *item = (struct pool_bytes){s->item, sizeof s->item};
    return s->left-- > 0;
}

static int identity(struct pool_task *task)
{
    return pool_return(task, task->in, task->in_size);
}

/* Python: none has retries. Here a generator's item is kept for them until it is settled, and no longer: 64 MiB leave no trace. */
static void test_release_task_refs_with_retries(void **state)
{
    static struct stream stream;
    struct pool_iter *it;
    const struct pool_result *r;
    long before = 0;
    int i;

    (void)state;
    stream.left = often(256 + 1024);
    it = pool_imap(pool, identity, pool_generator(pull, &stream), &(struct pool_call){.window = 8, .retries = 1});
    assert_non_null(it);
    for (i = often(256 + 1024); i > 0; i--) {
        if (i == 1024)
            before = resident();
        assert_non_null(r = pool_next(it));
        assert_int_equal(((const unsigned char *)r->data)[r->size - 1], i & 0xff);
    }
    assert_flat(before, 8 * 1024);
    assert_null(pool_next(it));
    pool_iter_free(it);
}

/* ---- A pool and its host */

static struct pool *forgotten;

/* At work, with a thread and a callback under way. */
static void forget(void)
{
    static struct heard heard;

    forgotten = pool_create(&(struct pool_options){.workers = WORKERS, .initializer = note_birth});
    WANT(forgotten != NULL);
    WANT(pool_map_async(forgotten, sqr_at_gate, first(10), HEARD_BY(heard)) != NULL);
    while (shared->started < WORKERS)
        nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
}

/* Python: a pool that is dropped while it runs is warned of. Here: its workers leave with the host, without a word. */
static void test_resource_warning(void **state)
{
    (void)state;
    in_child(forget);
    assert_int_equal(shared->births, WORKERS);
    assert_true(check_until(none_alive, NULL, PATIENCE));
}

static void forget_and_exit(void)
{
    forget();
    exit(0);
}

/* Python: a pool that is still referred to when the interpreter ends does not hang it. Here: nor exit(), though a job is under way. */
static void test_worker_finalization_via_atexit_handler_of_multiprocessing(void **state)
{
    (void)state;
    if (check_under("address"))
        skip();                         /* at exit it looks for leaks, and for threads that the fork has left in the parent */
    in_child(forget_and_exit);
    assert_true(check_until(none_alive, NULL, PATIENCE));
}

static void pool_in_process(void)
{
    struct pool *own = pool_create(&(struct pool_options){.workers = 4});
    struct pool_job *job;

    WANT(own != NULL);
    job = pool_map_async(own, sqr, first(8), NULL);
    WANT(pool_job_wait(job, PATIENCE) == POOL_OK);
    WANT(*(const int *)pool_results_at(pool_job_results(job), 7)->data == 49);
    pool_job_free(job);
    pool_close(own);
    WANT(pool_join(own, PATIENCE) == POOL_OK);
    pool_destroy(own);
}

/* Python: a forked process may have a pool of its own, closed and joined. */
static void test_pool_in_process(void **state)
{
    (void)state;
    if (check_under("thread"))
        skip();                         /* it takes the child's threads for those that the fork has left in the parent */
    in_child(pool_in_process);
}

static int square_by_another_pool(struct pool_task *task)
{
    struct pool *own = pool_create(&(struct pool_options){.workers = 1});
    struct pool_job *job = own ? pool_apply_async(own, sqr, task->in, task->in_size, NULL) : NULL;
    int y = -1;

    if (!job || pool_job_wait(job, PATIENCE))
        return pool_fail(task, 1, "%s", pool_error());
    y = *(const int *)pool_results_at(pool_job_results(job), 0)->data;
    pool_job_free(job);
    pool_close(own);
    if (pool_join(own, PATIENCE))
        return pool_fail(task, 2, "%s", pool_error());
    pool_destroy(own);
    return pool_return(task, &y, sizeof y);
}

/* Python: a pool in a pool is an AssertionError, "daemonic processes are not allowed to have children". Here it works, with its thread. */
static void test_pool_in_pool(void **state)
{
    int ys[6], i;

    (void)state;
    if (pool_map(pool, square_by_another_pool, first(6), ys, sizeof *ys, NULL))
        fail_msg("%s", pool_error());
    for (i = 0; i < 6; i++)
        assert_int_equal(ys[i], i * i);
}

static int use_the_pool_that_runs_it(struct pool_task *task)
{
    struct pool *runs_it = *(struct pool *const *)task->common;
    int x = 1;

    if (pool_apply_async(runs_it, sqr, &x, sizeof x, NULL))
        return pool_fail(task, 1, "it was not refused");
    if (errno != EINVAL)
        return pool_fail(task, 2, "errno is %d", errno);
    pool_close(runs_it);
    pool_terminate(runs_it);
    if (pool_join(runs_it, 0) != POOL_INVALID)
        return pool_fail(task, 3, "join was not refused");
    return 0;
}

/* Python: the pool cannot be given to its tasks. Here its address can, and every call on it there is refused and leaves it as it was. */
static void test_pool_in_pool_inherited(void **state)
{
    const struct pool_call call = {.common = &pool, .common_size = sizeof pool};

    (void)state;
    if (pool_map(pool, use_the_pool_that_runs_it, pool_range(1), NULL, 0, &call))
        fail_msg("%s", pool_error());
    get_squares(map_async(pool, sqr, 10, 0), 10);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, begin)
    const struct CMUnitTest tests[] = {
        TEST(test_async),
        TEST(test_async_successful),
        TEST(test_async_timeout),
        TEST(test_async_timeout_and_terminate),
        TEST(test_map_async),
        TEST(test_map_async_chunks),
        TEST(test_starmap_async),
        TEST(test_map_chunksize),
        TEST(test_map_handle_iterable_exception_async),
        TEST(test_map_no_failfast_async),
        TEST(test_map_async_callbacks),
        TEST(test_map_async_callbacks_error),
        TEST(test_map_async_callbacks_of_many),
        TEST(test_map_async_callbacks_of_none),
        TEST(test_async_error_callback),
        TEST(test_unpickleable_result),
        TEST(test_map_unplicklable),
        TEST(test_terminate),
        TEST(test_terminate_ends_its_jobs),
        TEST(test_terminate_while_another_waits),
        TEST(test_terminate_calls_back),
        TEST(test_terminate_ends_iterators),
        TEST(test_terminate_runs_no_finalizer),
        TEST(test_empty_iterable),
        TEST(test_context),
        TEST(test_context_over),
        TEST(test_enter),
        TEST(test_enter_after_close),
        TEST(test_join_running),
        TEST(test_join_timeout),
        TEST(test_close_twice),
        TEST(test_make_pool_close_and_join),
        TEST(test_close_with_tasks_in_flight),
        TEST(test_close_with_callbacks_in_flight),
        TEST(test_worker_finalization),
        TEST(test_map_no_failfast),
        TEST(test_map_no_failfast_forgotten),
        TEST(test_pool_worker_lifetime),
        TEST(test_pool_worker_lifetime_counts_items),
        TEST(test_pool_worker_lifetime_of_a_map),
        TEST(test_pool_worker_lifetime_of_an_imap),
        TEST(test_pool_worker_lifetime_runs_finalizers),
        TEST(test_pool_worker_lifetime_early_close),
        TEST(test_pool_worker_lifetime_late_close),
        TEST(test_pool_maxtasksperchild_invalid),
        TEST(test_pool_maxtasksperchild_invalid_minus_1),
        TEST(test_release_task_refs),
        TEST(test_release_task_refs_forgotten),
        TEST(test_release_task_refs_with_retries),
        TEST(test_resource_warning),
        TEST(test_worker_finalization_via_atexit_handler_of_multiprocessing),
        TEST(test_pool_in_process),
        TEST(test_pool_in_pool),
        TEST(test_pool_in_pool_inherited),
    };

    return cmocka_run_group_tests(tests, open_pool, close_pool);
}
