/* A pool's course: closed, joined, terminated, destroyed, in every order and beside calls in other threads. Each open call and handle ends
 * with a status, calls after the end are refused as CLOSED, finalizers run where workers leave in order and not where they are killed.
 *
 * Orders are tried exhaustively: all sequences of close, join, terminate and apply up to a length, then destroy, against a model of three
 * flags. For calls beside, a thread is in each kind of call while the pool's end comes from here.
 *
 * ctest: timeout 120
 * ctest: label memcheck */
#define _GNU_SOURCE
#include "ledger.h"

#include "clock.h"
#include "pool.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>

enum { WORKERS = 2, ITEMS = 12 };

static int initializer(struct pool_worker *worker)
{
    (void)worker;
    atomic_fetch_add(&ledger->births, 1);
    return 0;
}

static void finalizer(struct pool_worker *worker)
{
    (void)worker;
    atomic_fetch_add(&ledger->ends, 1);
}

static struct pool *make(unsigned workers, unsigned serial)
{
    const struct pool_options options = {.workers = workers, .serial = serial, .max_workers = workers, .initializer = initializer,
                                         .finalizer = finalizer};
    struct pool *pool = pool_create(&options);

    if (!pool)
        fail_msg("no pool: %s", pool_error());
    return pool;
}

static int waits(struct pool_task *task)
{
    note_start(task);
    wait_for_gate();
    return answer(task);
}

static int endless(struct pool_task *task)
{
    note_start(task);
    pause_for_ever();
    return 0;
}

/* ---- Every order */

struct course {
    int closed, terminated, joined;
};

static void try_apply(struct pool *pool, const struct course *c, const char *order)
{
    long value = 0;
    enum pool_status status = pool_apply(pool, good, NULL, 0, &value, sizeof value, NULL);

    if (status != (c->closed ? POOL_CLOSED : POOL_OK))
        fail_msg("%s: apply is %s: %s", order, pool_status_text(status), pool_error());
    assert_int_equal(pool_error()[0] != '\0', c->closed);
}

static void try_join(struct pool *pool, struct course *c, const char *order)
{
    enum pool_status status = pool_join(pool, PATIENCE);

    if (status != (c->closed ? POOL_OK : POOL_INVALID))
        fail_msg("%s: join is %s: %s", order, pool_status_text(status), pool_error());
    assert_int_equal(pool_error()[0] != '\0', !c->closed);
    c->joined |= c->closed;
}

static void take_step(struct pool *pool, char step, struct course *c, const char *order)
{
    switch (step) {
    case 'c':
        pool_close(pool);
        c->closed = 1;
        break;
    case 't':
        pool_terminate(pool);
        c->terminated |= !c->joined;        /* whoever has left in order cannot be killed any more */
        c->closed = 1;
        break;
    case 'j':
        try_join(pool, c, order);
        break;
    default:
        try_apply(pool, c, order);
        break;
    }
}

static void follow(const char *order, unsigned serial)
{
    struct course c = {0, 0, 0};
    struct pool *pool;

    ledger_clear(NULL);
    pool = make(1, serial);
    for (const char *step = order; *step; step++)
        take_step(pool, *step, &c, order);
    pool_destroy(pool);
    if (!c.terminated && ledger->ends != 1)
        fail_msg("%s: %u finalizers", order, ledger->ends);
    /* A kill may come too late for one that a close before it has sent home. */
    if (c.terminated && ledger->ends != 0 && !(strchr(order, 'c') && strchr(order, 'c') < strchr(order, 't')))
        fail_msg("%s: %u finalizers of what was killed", order, ledger->ends);
}

static void follow_all(unsigned serial)
{
    static const char steps[] = "cjta";
    const unsigned longest = check_under("") ? 2 : 4;
    char order[8];

    for (unsigned length = 0, count = 1; length <= longest; length++, count *= 4) {
        for (unsigned n = 0; n < count; n++) {
            unsigned rest = n;
            for (unsigned i = 0; i < length; i++, rest /= 4)
                order[i] = steps[rest % 4];
            order[length] = '\0';
            follow(order, serial);
        }
    }
}

static void every_order_of_steps(void **state)
{
    (void)state;
    follow_all(0);
}

static void every_order_of_steps_serially(void **state)
{
    (void)state;
    follow_all(1);
}

/* ---- Joining */

static void join_before_close_is_refused_in_words(void **state)
{
    struct pool *pool = make(1, 0);

    (void)state;
    assert_int_equal(pool_join(pool, -1), POOL_INVALID);
    check_says("pool_close");
    assert_works(pool);
    pool_destroy(pool);
}

static void steps_of_no_pool(void **state)
{
    (void)state;
    assert_int_equal(pool_join(NULL, 0), POOL_INVALID);
    check_says("NULL");
    pool_close(NULL);
    check_says("NULL");
    pool_terminate(NULL);
    check_says("NULL");
    pool_destroy(NULL);
    assert_string_equal(pool_error(), "");
}

static void join_for_no_number_of_seconds(void **state)
{
    struct pool *pool = make(1, 0);

    (void)state;
    pool_close(pool);
    assert_int_equal(pool_join(pool, NAN), POOL_INVALID);
    check_says("number");
    assert_int_equal(pool_join(pool, INFINITY), POOL_OK);
    pool_destroy(pool);
}

/* A job whose only task waits for the gate. */
static struct pool_job *hold(struct pool *pool)
{
    struct pool_job *job = pool_map_async(pool, waits, pool_range(1), NULL);

    if (!job)
        fail_msg("no job: %s", pool_error());
    await_start(0);
    return job;
}

static void join_asks_and_waits_for_a_while(void **state)
{
    struct pool *pool = make(1, 0);
    struct pool_job *job = hold(pool);
    int64_t began;

    (void)state;
    pool_close(pool);
    assert_int_equal(pool_join(pool, 0), POOL_PENDING);
    assert_string_equal(pool_error(), "");
    began = clock_now();
    assert_int_equal(pool_join(pool, 0.03), POOL_PENDING);
    assert_true(clock_now() - began >= 30000000);
    atomic_store(&ledger->open, 1);
    assert_int_equal(pool_join(pool, -1), POOL_OK);
    assert_int_equal(pool_job_status(job), POOL_OK);
    pool_job_free(job);
    pool_destroy(pool);
}

struct joiner {
    pthread_t        thread;
    struct pool     *pool;
    double           seconds;
    unsigned         beside;            /* threads to be inside the pool before the test goes on */
    enum pool_status status;
};

static void *join_there(void *arg)
{
    struct joiner *j = arg;

    j->status = pool_join(j->pool, j->seconds);
    return NULL;
}

static void many_threads_join(void **state)
{
    struct pool *pool = make(WORKERS, 0);
    struct pool_job *job = hold(pool);
    struct joiner joiners[4];

    (void)state;
    pool_close(pool);
    for (int i = 0; i < 4; i++) {
        joiners[i] = (struct joiner){.pool = pool, .seconds = i % 2 ? -1 : PATIENCE};
        assert_int_equal(pthread_create(&joiners[i].thread, NULL, join_there, &joiners[i]), 0);
    }
    atomic_store(&ledger->open, 1);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(joiners[i].thread, NULL), 0);
        assert_int_equal(joiners[i].status, POOL_OK);
    }
    assert_int_equal(ledger->ends, WORKERS);
    assert_int_equal(pool_join(pool, 0), POOL_OK);
    pool_job_free(job);
    pool_destroy(pool);
}

static void a_joining_thread_hears_of_terminate(void **state)
{
    struct pool *pool = make(WORKERS, 0);
    struct pool_job *job = hold(pool);
    struct joiner joiner = {.pool = pool, .seconds = -1};

    (void)state;
    pool_close(pool);
    assert_int_equal(pthread_create(&joiner.thread, NULL, join_there, &joiner), 0);
    pool_terminate(pool);
    assert_int_equal(pthread_join(joiner.thread, NULL), 0);
    assert_int_equal(joiner.status, POOL_OK);
    assert_int_equal(pool_job_status(job), POOL_CANCELLED);
    pool_job_free(job);
    pool_destroy(pool);
}

static void a_joined_pool_has_no_worker(void **state)
{
    struct pool *pool = make(WORKERS, 0);
    pid_t pids[WORKERS];

    (void)state;
    for (unsigned i = 0; i < WORKERS; i++)
        pids[i] = worker_of(pool, i);
    pool_close(pool);
    assert_int_equal(pool_join(pool, -1), POOL_OK);
    for (unsigned i = 0; i < WORKERS; i++) {
        assert_false(check_alive(pids[i]));
        assert_int_equal(pool_worker_pid(pool, i), 0);
    }
    pool_destroy(pool);
}

/* ---- Closing */

static void what_is_in_flight_runs_and_finalizers_run_after_it(void **state)
{
    struct pool *pool = make(WORKERS, 0);
    struct pool_job *job = pool_map_async(pool, waits, pool_range(ITEMS), NULL);

    (void)state;
    assert_non_null(job);
    await_start(0);
    pool_close(pool);
    pool_close(pool);
    assert_int_equal(ledger->ends, 0);
    atomic_store(&ledger->open, 1);
    assert_int_equal(pool_join(pool, PATIENCE), POOL_OK);
    assert_int_equal(pool_job_status(job), POOL_OK);
    assert_int_equal(pool_results_count(pool_job_results(job)), ITEMS);
    for (size_t i = 0; i < ITEMS; i++)
        assert_int_equal(pool_results_at(pool_job_results(job), i)->status, POOL_OK);
    assert_int_equal(ledger->ends, WORKERS);
    pool_job_free(job);
    pool_destroy(pool);
    assert_int_equal(ledger->ends, WORKERS);
}

static void close_alone_sends_idle_workers_home(void **state)
{
    struct pool *pool = make(1, 0);
    pid_t pid = worker_of(pool, 0);

    (void)state;
    pool_close(pool);
    await_death(pid);
    assert_int_equal(ledger->ends, 1);
    pool_destroy(pool);
}

/* Every kind of new call, and what it gives. */
static void every_call_is_refused(struct pool *pool)
{
    long value;

    assert_int_equal(pool_map(pool, good, pool_range(4), NULL, 0, NULL), POOL_CLOSED);
    check_says("closed");
    assert_int_equal(pool_apply(pool, good, NULL, 0, &value, sizeof value, NULL), POOL_CLOSED);
    check_says("closed");
    assert_int_equal(pool_resize(pool, 1), POOL_CLOSED);
    check_says("closed");
#define REFUSES(call) \
    do {              \
        errno = 0;    \
        assert_null(call);                   \
        assert_int_equal(errno, ESHUTDOWN);  \
        check_says("closed");                      \
    } while (0)
    REFUSES(pool_map_results(pool, good, pool_range(4), NULL));
    REFUSES(pool_imap(pool, good, pool_range(4), NULL));
    REFUSES(pool_imap_unordered(pool, good, pool_range(4), NULL));
    REFUSES(pool_apply_async(pool, good, NULL, 0, NULL));
    REFUSES(pool_apply_async(pool, good, "abc", 3, NULL));
    REFUSES(pool_map_async(pool, good, pool_range(4), NULL));
#undef REFUSES
    errno = 0;
    assert_int_equal(pool_fd(pool), -1);
    assert_int_equal(errno, ESHUTDOWN);
}

static void calls_after_close(void **state)
{
    struct pool *pool = make(WORKERS, 0);

    (void)state;
    pool_close(pool);
    every_call_is_refused(pool);
    assert_int_equal(pool_join(pool, PATIENCE), POOL_OK);
    every_call_is_refused(pool);
    pool_destroy(pool);
}

static void calls_after_close_while_another_runs(void **state)
{
    struct pool *pool = make(WORKERS, 0);
    struct pool_job *job = hold(pool);

    (void)state;
    pool_close(pool);
    every_call_is_refused(pool);
    atomic_store(&ledger->open, 1);
    assert_int_equal(pool_job_wait(job, PATIENCE), POOL_OK);
    pool_job_free(job);
    pool_destroy(pool);
}

static void calls_after_terminate(void **state)
{
    struct pool *pool = make(WORKERS, 0);

    (void)state;
    pool_terminate(pool);
    every_call_is_refused(pool);
    assert_int_equal(pool_join(pool, PATIENCE), POOL_OK);
    every_call_is_refused(pool);
    pool_destroy(pool);
}

static void questions_after_the_end(void **state)
{
    struct pool *pool = make(WORKERS, 0);
    struct pool_stats stats;

    (void)state;
    assert_works(pool);
    pool_close(pool);
    assert_int_equal(pool_join(pool, PATIENCE), POOL_OK);
    assert_int_equal(pool_size(pool), WORKERS);
    assert_int_equal(pool_stats(pool, &stats), POOL_OK);
    assert_int_equal(stats.ok, 32);
    pool_destroy(pool);
}

/* ---- Iterators and the end */

static struct pool_iter *narrow(struct pool *pool, size_t window, int ordered)
{
    const struct pool_call call = {.window = window};
    struct pool_iter *iter = ordered ? pool_imap(pool, good, pool_range(ITEMS), &call)
                                     : pool_imap_unordered(pool, good, pool_range(ITEMS), &call);

    assert_non_null(iter);
    return iter;
}

static void take_all(struct pool_iter *iter)
{
    struct end ends[ITEMS] = {{0}};

    collect(iter, ends, ITEMS);
    for (size_t i = 0; i < ITEMS; i++)
        assert_good(&ends[i], i);
}

static void iterators_are_taken_to_their_ends_after_close(void **state)
{
    struct pool *pool = make(WORKERS, 0);
    struct pool_iter *first = narrow(pool, 2, 1), *second = narrow(pool, 3, 0);

    (void)state;
    pool_close(pool);
    take_all(second);
    take_all(first);
    assert_int_equal(pool_join(pool, PATIENCE), POOL_OK);
    assert_int_equal(ledger->ends, WORKERS);
    pool_destroy(pool);
}

static int counts_up(void *cursor, struct pool_bytes *item)
{
    size_t *next = cursor;

    if (*next >= ITEMS)
        return 0;
    ++*next;
    *item = (struct pool_bytes){NULL, 0};
    return 1;
}

static void a_generator_is_pulled_to_its_end_after_close(void **state)
{
    struct pool *pool = make(WORKERS, 0);
    size_t cursor = 0;
    struct pool_iter *iter = pool_imap(pool, good, pool_generator(counts_up, &cursor), &(struct pool_call){.window = 2});

    (void)state;
    assert_non_null(iter);
    pool_close(pool);
    assert_int_equal(pool_join(pool, 0), POOL_PENDING);
    take_all(iter);
    assert_int_equal(pool_join(pool, PATIENCE), POOL_OK);
    pool_destroy(pool);
}

static void an_iterator_that_nobody_takes_keeps_join_waiting(void **state)
{
    struct pool *pool = make(WORKERS, 0);
    struct pool_iter *iter = narrow(pool, 2, 1);

    (void)state;
    pool_close(pool);
    assert_int_equal(pool_join(pool, 0.05), POOL_PENDING);
    assert_true(ledger->started[0] && ledger->started[1]);
    assert_int_equal(ledger->started[2], 0);
    take_all(iter);
    assert_int_equal(pool_join(pool, PATIENCE), POOL_OK);
    pool_destroy(pool);
}

static void an_iterator_that_fits_its_window_does_not(void **state)
{
    struct pool *pool = make(WORKERS, 0);
    struct pool_iter *iter = narrow(pool, ITEMS, 1);

    (void)state;
    pool_close(pool);
    assert_int_equal(pool_join(pool, PATIENCE), POOL_OK);
    take_all(iter);                     /* its results are still there */
    pool_destroy(pool);
}

static void one_that_is_freed_does_not(void **state)
{
    struct pool *pool = make(WORKERS, 0);
    struct pool_iter *iter = narrow(pool, 2, 1);

    (void)state;
    pool_close(pool);
    assert_int_equal(pool_join(pool, 0), POOL_PENDING);
    pool_iter_free(iter);
    assert_int_equal(pool_join(pool, PATIENCE), POOL_OK);
    assert_int_equal(ledger->ends, WORKERS);
    pool_destroy(pool);
}

static void one_that_is_cancelled_does_not(void **state)
{
    struct pool *pool = make(WORKERS, 0);
    struct pool_iter *iter = narrow(pool, 2, 0);

    (void)state;
    pool_close(pool);
    pool_iter_cancel(iter);
    assert_int_equal(pool_join(pool, PATIENCE), POOL_OK);
    while (pool_next(iter))
        ;
    assert_int_equal(pool_iter_status(iter), POOL_CANCELLED);
    pool_iter_free(iter);
    pool_destroy(pool);
}

static void a_cancelled_job_is_the_last(void **state)
{
    struct pool *pool = make(WORKERS, 0);
    struct pool_job *job = pool_map_async(pool, endless, pool_range(ITEMS), NULL);

    (void)state;
    assert_non_null(job);
    await_start(0);
    pool_close(pool);
    assert_int_equal(pool_join(pool, 0), POOL_PENDING);
    pool_job_cancel(job);
    assert_int_equal(pool_join(pool, PATIENCE), POOL_OK);
    assert_int_equal(pool_job_status(job), POOL_CANCELLED);
    pool_job_free(job);
    pool_destroy(pool);
}

/* ---- Callbacks and the end */

static struct pool *called_back;                /* the pool that a callback asks things of */
static _Atomic int answers[4], let_return, returned;

static void tries_to_wait(struct pool_job *job, void *arg)
{
    (void)job, (void)arg;
    pool_close(called_back);
    answers[0] = (int)pool_join(called_back, 0.01);
    answers[1] = pool_error()[0] != '\0';
    pool_destroy(called_back);
    answers[2] = pool_error()[0] != '\0';
    returned = 1;
}

static void a_callback_may_close_and_must_not_wait(void **state)
{
    struct pool *pool = called_back = make(WORKERS, 0);
    struct pool_job *job = pool_apply_async(pool, good, NULL, 0, &(struct pool_call){.done = tries_to_wait});

    (void)state;
    assert_non_null(job);
    assert_int_equal(pool_job_wait(job, PATIENCE), POOL_OK);
    assert_int_equal(answers[0], POOL_INVALID);
    assert_int_equal(answers[1], 1);
    assert_int_equal(answers[2], 1);
    assert_int_equal(pool_join(pool, PATIENCE), POOL_OK);
    pool_job_free(job);
    pool_destroy(pool);
}

static void terminates(struct pool_job *job, void *arg)
{
    (void)job, (void)arg;
    pool_terminate(called_back);
}

static void a_callback_may_terminate(void **state)
{
    struct pool *pool = called_back = make(WORKERS, 0);
    struct pool_job *job = pool_apply_async(pool, waits, NULL, 0, &(struct pool_call){.done = terminates});

    (void)state;
    assert_non_null(job);
    atomic_store(&ledger->open, 1);
    assert_int_equal(pool_map(pool, endless, pool_range(ITEMS), NULL, 0, NULL), POOL_CANCELLED);
    assert_int_equal(pool_join(pool, PATIENCE), POOL_OK);
    assert_int_equal(pool_job_status(job), POOL_OK);
    assert_int_equal(ledger->ends, 0);
    pool_job_free(job);
    pool_destroy(pool);
}

static void dawdles(struct pool_job *job, void *arg)
{
    (void)job, (void)arg;
    while (!let_return)
        nap();
    returned = 1;
}

static void join_waits_for_callbacks(void **state)
{
    struct pool *pool = make(1, 0);
    struct pool_job *job;
    struct joiner joiner = {.pool = pool, .seconds = -1};

    (void)state;
    let_return = returned = 0;
    job = pool_apply_async(pool, good, NULL, 0, &(struct pool_call){.done = dawdles});
    assert_non_null(job);
    pool_job_free(job);
    pool_close(pool);
    assert_int_equal(pool_join(pool, 0.05), POOL_PENDING);
    assert_int_equal(pthread_create(&joiner.thread, NULL, join_there, &joiner), 0);
    let_return = 1;
    assert_int_equal(pthread_join(joiner.thread, NULL), 0);
    assert_int_equal(joiner.status, POOL_OK);
    assert_int_equal(returned, 1);
    pool_destroy(pool);
}

static void destroy_waits_for_callbacks(void **state)
{
    struct pool *pool = make(1, 0);

    (void)state;
    returned = 0;
    let_return = 1;
    for (int i = 0; i < 8; i++)
        pool_job_free(pool_apply_async(pool, good, NULL, 0, &(struct pool_call){.done = dawdles}));
    pool_destroy(pool);
    assert_int_equal(returned, 1);
}

/* ---- Calls in other threads */

enum kind { MAP, APPLY, LIST, IMAP, UNORDERED, JOB, KINDS };

struct caller {
    pthread_t        thread;
    struct pool     *pool;
    enum kind        kind;
    pool_fn         *fn;
    enum pool_status status;
    unsigned         ok, cancelled, others;     /* items that it has heard of */
};

static void count(struct caller *c, enum pool_status status)
{
    if (status == POOL_OK)
        c->ok++;
    else if (status == POOL_CANCELLED)
        c->cancelled++;
    else
        c->others++;
}

static void iterate(struct caller *c)
{
    const struct pool_call call = {.window = 4};
    struct pool_iter *iter = c->kind == IMAP ? pool_imap(c->pool, c->fn, pool_range(ITEMS), &call)
                                             : pool_imap_unordered(c->pool, c->fn, pool_range(ITEMS), &call);
    const struct pool_result *r;

    while ((r = pool_next(iter)))
        count(c, r->status);
    c->status = pool_iter_status(iter);
    pool_iter_free(iter);
}

static void read_list(struct caller *c, const struct pool_results *list)
{
    for (size_t i = 0; i < pool_results_count(list); i++)
        count(c, pool_results_at(list, i)->status);
}

static void *call_there(void *arg)
{
    struct caller *c = arg;
    struct pool_results *list;
    struct pool_job *job;
    long value;

    switch (c->kind) {
    case MAP:
        c->status = pool_map(c->pool, c->fn, pool_range(ITEMS), NULL, 0, NULL);
        break;
    case APPLY:
        c->status = pool_apply(c->pool, c->fn, NULL, 0, &value, sizeof value, NULL);
        break;
    case LIST:
        list = pool_map_results(c->pool, c->fn, pool_range(ITEMS), NULL);
        c->status = pool_results_status(list);
        read_list(c, list);
        pool_results_free(list);
        break;
    case JOB:
        job = pool_map_async(c->pool, c->fn, pool_range(ITEMS), NULL);
        c->status = pool_job_wait(job, -1);
        read_list(c, pool_job_results(job));
        pool_job_free(job);
        break;
    default:
        iterate(c);
        break;
    }
    return NULL;
}

static void begin_calls(struct caller *callers, struct pool *pool, pool_fn *fn)
{
    for (int k = 0; k < KINDS; k++) {
        callers[k] = (struct caller){.pool = pool, .kind = (enum kind)k, .fn = fn, .status = POOL_PENDING};
        assert_int_equal(pthread_create(&callers[k].thread, NULL, call_there, &callers[k]), 0);
    }
}

/* The pool has books on them. */
static int all_have_entered(void *arg)
{
    struct pool *pool = arg;
    int count = 0;

    sched_enter(&pool->sched);
    for (const struct link *l = pool->sched.jobs.next; l != &pool->sched.jobs; l = l->next)
        count++;
    sched_leave(&pool->sched);
    return count == KINDS;
}

static struct pool *make_with_calls(struct caller *callers, pool_fn *fn)
{
    struct pool *pool = make(WORKERS, 0);

    atomic_store(&ledger->open, 0);
    begin_calls(callers, pool, fn);
    assert_true(check_until(all_have_entered, pool, PATIENCE));
    return pool;
}

static void end_calls(struct caller *callers, enum pool_status status)
{
    for (int k = 0; k < KINDS; k++) {
        struct caller *c = &callers[k];
        assert_int_equal(pthread_join(c->thread, NULL), 0);
        if (c->status != status || c->others)
            fail_msg("call of kind %d ended %s, %u of its items otherwise", k, pool_status_text(c->status), c->others);
        if (k != MAP && k != APPLY && status == POOL_OK)
            assert_int_equal(c->ok, ITEMS);
        if (k == LIST || k == JOB)
            assert_int_equal(c->ok + c->cancelled, ITEMS);
    }
}

static void close_lets_calls_in_other_threads_end(void **state)
{
    struct caller callers[KINDS];
    struct pool *pool = make_with_calls(callers, waits);

    (void)state;
    pool_close(pool);
    assert_int_equal(pool_join(pool, 0), POOL_PENDING);
    atomic_store(&ledger->open, 1);
    assert_int_equal(pool_join(pool, PATIENCE), POOL_OK);
    end_calls(callers, POOL_OK);
    assert_int_equal(ledger->ends, WORKERS);
    pool_destroy(pool);
}

static void terminate_ends_calls_in_other_threads(void **state)
{
    struct caller callers[KINDS];
    struct pool *pool = make_with_calls(callers, endless);

    (void)state;
    pool_terminate(pool);
    assert_int_equal(pool_join(pool, PATIENCE), POOL_OK);
    end_calls(callers, POOL_CANCELLED);
    assert_int_equal(ledger->ends, 0);
    pool_destroy(pool);
}

static void destroy_ends_calls_in_other_threads(void **state)
{
    struct caller callers[KINDS];
    struct pool *pool = make_with_calls(callers, endless);

    (void)state;
    pool_destroy(pool);
    end_calls(callers, POOL_CANCELLED);
}

static void destroy_straight_after_terminate_or_close(void **state)
{
    (void)state;
    for (int closed = 0; closed < 2; closed++) {
        struct caller callers[KINDS];
        struct pool *pool = make_with_calls(callers, closed ? waits : endless);

        if (closed)
            pool_close(pool);
        else
            pool_terminate(pool);
        pool_destroy(pool);
        end_calls(callers, POOL_CANCELLED);
    }
}

/* The end comes while calls begin and end by the hundred: they are OK, cut short, or refused. */
static void *call_again_and_again(void *arg)
{
    struct caller *c = arg;
    long value;
    enum pool_status status;

    while ((status = pool_apply(c->pool, good, NULL, 0, &value, sizeof value, NULL)) == POOL_OK)
        c->ok++;
    c->status = status;
    return NULL;
}

static void the_end_comes_between_short_calls(void **state)
{
    const int rounds = check_under("") ? 2 : 30;

    (void)state;
    for (int round = 0; round < rounds; round++) {
        struct pool *pool = make(WORKERS, 0);
        struct caller callers[3];

        for (int i = 0; i < 3; i++) {
            callers[i] = (struct caller){.pool = pool};
            assert_int_equal(pthread_create(&callers[i].thread, NULL, call_again_and_again, &callers[i]), 0);
        }
        await_start(0);
        if (round % 2)
            pool_close(pool);
        else
            pool_terminate(pool);
        assert_int_equal(pool_join(pool, PATIENCE), POOL_OK);
        for (int i = 0; i < 3; i++) {
            assert_int_equal(pthread_join(callers[i].thread, NULL), 0);
            if (callers[i].status != POOL_CLOSED && (round % 2 || callers[i].status != POOL_CANCELLED))
                fail_msg("%s", pool_status_text(callers[i].status));
        }
        pool_destroy(pool);
    }
}

/* ---- Terminating */

static void terminate_kills_what_runs_and_drops_the_rest(void **state)
{
    struct pool *pool = make(1, 0);
    struct pool_job *job = pool_map_async(pool, endless, pool_range(ITEMS), NULL);
    const struct pool_results *list;

    (void)state;
    assert_non_null(job);
    await_start(0);
    pool_terminate(pool);
    pool_terminate(pool);
    assert_int_equal(pool_job_wait(job, PATIENCE), POOL_CANCELLED);
    list = pool_job_results(job);
    assert_int_equal(pool_results_count(list), ITEMS);
    for (size_t i = 0; i < ITEMS; i++)
        assert_int_equal(pool_results_at(list, i)->status, POOL_CANCELLED);
    for (size_t i = 1; i < ITEMS; i++)
        assert_int_equal(ledger->started[i], 0);
    pool_job_free(job);
    pool_destroy(pool);
    assert_int_equal(ledger->ends, 0);
}

static void what_had_finished_before_terminate_stays(void **state)
{
    struct pool *pool = make(1, 0);
    struct pool_iter *iter = pool_imap(pool, good, pool_range(4), NULL);
    struct end ends[4] = {{0}};

    (void)state;
    assert_int_equal(pool_map(pool, good, pool_range(4), NULL, 0, NULL), POOL_OK);      /* served in turn: those of the iterator are done */
    for (size_t i = 0; i < 4; i++)
        await_start(i);
    assert_true(collect_one(iter, ends, 4));
    pool_terminate(pool);
    while (collect_one(iter, ends, 4))
        ;
    assert_int_equal(ends[0].status, POOL_OK);
    for (size_t i = 0; i < 4; i++)
        if (ends[i].times && ends[i].status != POOL_CANCELLED)
            assert_good(&ends[i], i);
    pool_iter_free(iter);
    pool_destroy(pool);
}

static void finalizer_that_stays(struct pool_worker *worker)
{
    (void)worker;
    atomic_fetch_add(&ledger->ends, 1);
    pause_for_ever();
}

static int both_are_ending(void *unused)
{
    (void)unused;
    return ledger->ends == WORKERS;
}

static void a_finalizer_that_stays_keeps_join_waiting_until_terminate(void **state)
{
    const struct pool_options options = {.workers = WORKERS, .finalizer = finalizer_that_stays};
    struct pool *pool = pool_create(&options);

    (void)state;
    assert_non_null(pool);
    pool_close(pool);
    assert_true(check_until(both_are_ending, NULL, PATIENCE));
    assert_int_equal(pool_join(pool, 0.03), POOL_PENDING);
    pool_terminate(pool);
    assert_int_equal(pool_join(pool, PATIENCE), POOL_OK);
    pool_destroy(pool);
}

static void finalizer_that_closes_all_and_stays(struct pool_worker *worker)
{
    (void)worker;
    for (int fd = 3; fd < 256; fd++)
        close(fd);
    pause_for_ever();
}

static void a_finalizer_that_closes_all_and_stays_is_no_worker_any_more(void **state)
{
    const struct pool_options options = {.workers = WORKERS, .finalizer = finalizer_that_closes_all_and_stays};
    struct pool *pool = pool_create(&options);

    (void)state;
    assert_non_null(pool);
    pool_close(pool);
    assert_int_equal(pool_join(pool, PATIENCE), POOL_OK);
    pool_destroy(pool);
}

/* ---- Destroying */

static void destroy_runs_finalizers_of_idle_workers(void **state)
{
    (void)state;
    pool_destroy(make(3, 0));
    assert_int_equal(ledger->births, 3);
    assert_int_equal(ledger->ends, 3);
}

static int takes_a_moment(struct pool_task *task)
{
    note_start(task);
    for (int i = 0; i < 150; i++)
        nap();
    return answer(task);
}

static void a_short_task_ends_well_in_the_grace(void **state)
{
    struct pool *pool = make(1, 0);
    struct pool_job *job = pool_map_async(pool, takes_a_moment, pool_range(4), NULL);

    (void)state;
    assert_non_null(job);
    await_start(0);
    pool_destroy(pool);
    assert_int_equal(pool_job_status(job), POOL_CANCELLED);
    assert_int_equal(pool_results_at(pool_job_results(job), 0)->status, POOL_OK);
    for (size_t i = 1; i < 4; i++)
        assert_int_equal(pool_results_at(pool_job_results(job), i)->status, POOL_CANCELLED);
    assert_int_equal(ledger->started[1], 0);
    assert_int_equal(ledger->ends, 1);
    pool_job_free(job);
}

static void an_endless_one_is_killed_after_it(void **state)
{
    struct pool *pool = make(1, 0);
    struct pool_job *job = pool_map_async(pool, endless, pool_range(1), NULL);
    pid_t pid = worker_of(pool, 0);
    int64_t began;

    (void)state;
    assert_non_null(job);
    await_start(0);
    began = clock_now();
    pool_destroy(pool);
    assert_true(clock_now() - began < (check_under("") ? 20 : 4) * (int64_t)1000000000);       /* a second, on a busy machine too */
    assert_false(check_alive(pid));
    assert_int_equal(pool_job_status(job), POOL_CANCELLED);
    assert_int_equal(ledger->ends, 0);
    pool_job_free(job);
}

static void after_terminate_there_is_no_grace(void **state)
{
    struct pool *pool = make(1, 0);
    struct pool_job *job = pool_map_async(pool, endless, pool_range(1), NULL);
    pid_t pid = worker_of(pool, 0);

    (void)state;
    assert_non_null(job);
    await_start(0);
    pool_terminate(pool);
    await_death(pid);                   /* with nobody in any call */
    pool_destroy(pool);
    pool_job_free(job);
}

static void handles_of_all_kinds_outlive_the_pool(void **state)
{
    struct pool *pool = make(WORKERS, 0);
    struct pool_job *job = pool_map_async(pool, good, pool_range(ITEMS), NULL);
    struct pool_iter *iter = narrow(pool, 2, 1);

    (void)state;
    assert_int_equal(pool_job_wait(job, PATIENCE), POOL_OK);
    pool_destroy(pool);
    assert_int_equal(pool_job_wait(job, -1), POOL_OK);
    assert_int_equal(pool_results_count(pool_job_results(job)), ITEMS);
    while (pool_next(iter))
        ;
    assert_int_equal(pool_iter_status(iter), POOL_CANCELLED);
    pool_job_cancel(job);
    pool_iter_cancel(iter);
    pool_job_free(job);
    pool_iter_free(iter);
}

/* ---- Serial pools */

static void a_serial_iterator_is_taken_after_close(void **state)
{
    struct pool *pool = make(1, 1);
    struct pool_iter *iter = narrow(pool, 2, 1);

    (void)state;
    pool_close(pool);
    assert_int_equal(pool_join(pool, 0), POOL_PENDING);
    assert_int_equal(pool_join(pool, 0.02), POOL_PENDING);
    assert_int_equal(ledger->ends, 0);
    take_all(iter);
    assert_int_equal(pool_join(pool, PATIENCE), POOL_OK);
    assert_int_equal(ledger->ends, 1);
    pool_destroy(pool);
    assert_int_equal(ledger->ends, 1);
}

static void a_serial_join_hears_of_the_end_in_another_thread(void **state)
{
    struct pool *pool = make(1, 1);
    struct pool_iter *iter = narrow(pool, 2, 0);
    struct joiner joiner = {.pool = pool, .seconds = -1};

    (void)state;
    pool_close(pool);
    assert_int_equal(pthread_create(&joiner.thread, NULL, join_there, &joiner), 0);
    take_all(iter);
    assert_int_equal(pthread_join(joiner.thread, NULL), 0);
    assert_int_equal(joiner.status, POOL_OK);
    pool_destroy(pool);
}

static void a_serial_join_hears_of_terminate(void **state)
{
    struct pool *pool = make(1, 1);
    struct pool_iter *iter = narrow(pool, 2, 0);
    struct joiner joiner = {.pool = pool, .seconds = -1};

    (void)state;
    pool_close(pool);
    assert_int_equal(pthread_create(&joiner.thread, NULL, join_there, &joiner), 0);
    pool_terminate(pool);
    assert_int_equal(pthread_join(joiner.thread, NULL), 0);
    assert_int_equal(joiner.status, POOL_OK);
    assert_null(pool_next(iter));
    assert_int_equal(pool_iter_status(iter), POOL_CANCELLED);
    pool_iter_free(iter);
    pool_destroy(pool);
    assert_int_equal(ledger->ends, 0);
}

static int so_many_are_inside(void *arg)
{
    struct joiner *j = arg;
    unsigned callers;

    sched_enter(&j->pool->sched);
    callers = j->pool->callers;
    sched_leave(&j->pool->sched);
    return callers == j->beside;
}

static int has_joined(void *joiners)
{
    return pthread_tryjoin_np(((struct joiner *)joiners)->thread, NULL) == 0;
}

static void many_threads_join_serially(void **state)
{
    struct pool *pool = make(1, 1);
    struct pool_iter *iter = narrow(pool, 2, 0);
    struct joiner joiners[2];

    (void)state;
    pool_close(pool);
    for (int i = 0; i < 2; i++) {
        joiners[i] = (struct joiner){.pool = pool, .seconds = PATIENCE, .beside = 2};
        assert_int_equal(pthread_create(&joiners[i].thread, NULL, join_there, &joiners[i]), 0);
    }
    assert_true(check_until(so_many_are_inside, joiners, PATIENCE));
    take_all(iter);
    for (int i = 0; i < 2; i++) {
        assert_true(check_until(has_joined, &joiners[i], 2 * PATIENCE));
        assert_int_equal(joiners[i].status, POOL_OK);
    }
    assert_int_equal(ledger->ends, 1);
    pool_destroy(pool);
}

static void a_serial_pool_is_destroyed_while_another_thread_joins(void **state)
{
    struct pool *pool = make(1, 1);
    struct pool_iter *iter = narrow(pool, 2, 0);
    struct joiner joiner = {.pool = pool, .seconds = -1, .beside = 1};

    (void)state;
    pool_close(pool);
    assert_int_equal(pthread_create(&joiner.thread, NULL, join_there, &joiner), 0);
    assert_true(check_until(so_many_are_inside, &joiner, PATIENCE));
    pool_destroy(pool);
    assert_true(check_until(has_joined, &joiner, PATIENCE));
    pool_iter_free(iter);
    assert_int_equal(ledger->ends, 1);
}

static void a_pool_is_destroyed_while_another_thread_joins(void **state)
{
    struct pool *pool = make(WORKERS, 0);
    struct pool_iter *iter = narrow(pool, 2, 0);
    struct joiner joiner = {.pool = pool, .seconds = -1, .beside = 1};

    (void)state;
    pool_close(pool);
    assert_int_equal(pthread_create(&joiner.thread, NULL, join_there, &joiner), 0);
    assert_true(check_until(so_many_are_inside, &joiner, PATIENCE));
    pool_destroy(pool);
    assert_true(check_until(has_joined, &joiner, PATIENCE));
    pool_iter_free(iter);
    assert_int_equal(ledger->ends, WORKERS);
}

static void a_serial_iterator_that_was_freed_does_not_keep_join_waiting(void **state)
{
    struct pool *pool = make(1, 1);
    struct pool_iter *iter = narrow(pool, 2, 0);

    (void)state;
    pool_close(pool);
    pool_iter_free(iter);
    assert_int_equal(pool_join(pool, -1), POOL_OK);
    pool_destroy(pool);
}

static void serial_calls_after_close(void **state)
{
    struct pool *pool = make(1, 1);
    long value;

    (void)state;
    pool_close(pool);
    assert_int_equal(pool_apply(pool, good, NULL, 0, &value, sizeof value, NULL), POOL_CLOSED);
    assert_int_equal(pool_map(pool, good, pool_range(4), NULL, 0, NULL), POOL_CLOSED);
    errno = 0;
    assert_null(pool_imap(pool, good, pool_range(4), NULL));
    assert_int_equal(errno, ESHUTDOWN);
    errno = 0;
    assert_null(pool_map_results(pool, good, pool_range(4), NULL));
    assert_int_equal(errno, ESHUTDOWN);
    assert_int_equal(pool_resize(pool, 1), POOL_CLOSED);
    pool_destroy(pool);
}

static struct pool *inside;

static int ends_its_own_pool(struct pool_task *task)
{
    answers[0] = (int)pool_join(inside, 0);
    pool_close(inside);
    answers[1] = pool_error()[0] != '\0';
    pool_terminate(inside);
    answers[2] = pool_error()[0] != '\0';
    pool_destroy(inside);
    answers[3] = pool_error()[0] != '\0';
    return good(task);
}

static void a_serial_task_cannot_end_its_pool(void **state)
{
    long value;

    (void)state;
    inside = make(1, 1);
    assert_int_equal(pool_apply(inside, ends_its_own_pool, NULL, 0, &value, sizeof value, NULL), POOL_OK);
    assert_int_equal(answers[0], POOL_INVALID);
    assert_true(answers[1] && answers[2] && answers[3]);
    assert_int_equal(pool_apply(inside, good, NULL, 0, &value, sizeof value, NULL), POOL_OK);
    pool_destroy(inside);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(every_order_of_steps),
        STORY(every_order_of_steps_serially),
        STORY(join_before_close_is_refused_in_words),
        STORY(steps_of_no_pool),
        STORY(join_for_no_number_of_seconds),
        STORY(join_asks_and_waits_for_a_while),
        STORY(many_threads_join),
        STORY(a_joining_thread_hears_of_terminate),
        STORY(a_joined_pool_has_no_worker),
        STORY(what_is_in_flight_runs_and_finalizers_run_after_it),
        STORY(close_alone_sends_idle_workers_home),
        STORY(calls_after_close),
        STORY(calls_after_close_while_another_runs),
        STORY(calls_after_terminate),
        STORY(questions_after_the_end),
        STORY(iterators_are_taken_to_their_ends_after_close),
        STORY(a_generator_is_pulled_to_its_end_after_close),
        STORY(an_iterator_that_nobody_takes_keeps_join_waiting),
        STORY(an_iterator_that_fits_its_window_does_not),
        STORY(one_that_is_freed_does_not),
        STORY(one_that_is_cancelled_does_not),
        STORY(a_cancelled_job_is_the_last),
        STORY(a_callback_may_close_and_must_not_wait),
        STORY(a_callback_may_terminate),
        STORY(join_waits_for_callbacks),
        STORY(destroy_waits_for_callbacks),
        STORY(close_lets_calls_in_other_threads_end),
        STORY(terminate_ends_calls_in_other_threads),
        STORY(destroy_ends_calls_in_other_threads),
        STORY(destroy_straight_after_terminate_or_close),
        STORY(the_end_comes_between_short_calls),
        STORY(terminate_kills_what_runs_and_drops_the_rest),
        STORY(what_had_finished_before_terminate_stays),
        STORY(a_finalizer_that_stays_keeps_join_waiting_until_terminate),
        STORY(a_finalizer_that_closes_all_and_stays_is_no_worker_any_more),
        STORY(destroy_runs_finalizers_of_idle_workers),
        STORY(a_short_task_ends_well_in_the_grace),
        STORY(an_endless_one_is_killed_after_it),
        STORY(after_terminate_there_is_no_grace),
        STORY(handles_of_all_kinds_outlive_the_pool),
        STORY(a_serial_iterator_is_taken_after_close),
        STORY(a_serial_join_hears_of_the_end_in_another_thread),
        STORY(a_serial_join_hears_of_terminate),
        STORY(many_threads_join_serially),
        STORY(a_pool_is_destroyed_while_another_thread_joins),
        STORY(a_serial_pool_is_destroyed_while_another_thread_joins),
        STORY(a_serial_iterator_that_was_freed_does_not_keep_join_waiting),
        STORY(serial_calls_after_close),
        STORY(a_serial_task_cannot_end_its_pool),
    };

    return cmocka_run_group_tests(tests, ledger_setup, ledger_teardown);
}
