/* Callbacks of asynchronous calls: each fires exactly once, when its job has ended, on a thread of the pool's, with no lock held.
 *
 * Callbacks note what they see; it is looked at by the test's own thread once a wait, a join or the end of the pool has made sure that
 * they have returned. A slow callback is one that reads from a pipe of the test: it takes as long as the test likes.
 *
 * ctest: label memcheck */
#define _GNU_SOURCE
#include "child.h"
#include "ledger.h"
#include "pool.h"

#include <pthread.h>

enum { COUNT = 20 };

/* ---- Tasks */

static int good_at_gate(struct pool_task *task)
{
    note_start(task);
    wait_for_gate();
    return answer(task);
}

static int fail_7(struct pool_task *task)
{
    return pool_fail(task, 7, "it is bad");
}

static int crash(struct pool_task *task)
{
    (void)task;
    raise(SIGKILL);
    return 0;
}

static int stay(struct pool_task *task)
{
    note_start(task);
    pause_for_ever();
    return 0;
}

static int fail_when_told(struct pool_worker *worker)
{
    return ledger->fail ? pool_init_fail(worker, 3, "told to fail") : 0;
}

/* ---- In the host */

typedef void done_fn(struct pool_job *job, void *arg);

static struct pool_job *start(struct pool *pool, pool_fn *fn, done_fn *done, void *arg)
{
    struct pool_job *job = pool_map_async(pool, fn, pool_range(COUNT), &(struct pool_call){.done = done, .done_arg = arg});

    if (!job)
        fail_msg("%s", pool_error());
    return job;
}

static struct pool_job *apply(struct pool *pool, pool_fn *fn, done_fn *done, void *arg)
{
    struct pool_job *job = pool_apply_async(pool, fn, NULL, 0, &(struct pool_call){.done = done, .done_arg = arg});

    if (!job)
        fail_msg("%s", pool_error());
    return job;
}

static void open_gate(void)
{
    ledger->open = 1;
}

static void join(struct pool *pool)
{
    pool_close(pool);
    assert_int_equal(pool_join(pool, PATIENCE), POOL_OK);
}

static void ends(struct pool_job *job, enum pool_status status)
{
    assert_int_equal(pool_job_wait(job, PATIENCE), status);
}

static pthread_t thread(void *(*main)(void *), void *arg)
{
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, main, arg), 0);
    return thread;
}

/* What a callback was told. */
struct told {
    atomic_int       times;
    struct pool_job *job;
    enum pool_status status, waited;    /* of its own job, asked inside; and what a wait of 0 says there */
    size_t           count;
    pthread_t        thread;
};

static void tell(struct pool_job *job, void *arg)
{
    struct told *told = arg;

    told->job = job;
    told->status = pool_job_status(job);
    told->waited = pool_job_wait(job, 0);
    told->count = pool_results_count(pool_job_results(job));
    told->thread = pthread_self();
    atomic_fetch_add(&told->times, 1);
}

static void assert_told_once(const struct told *told, enum pool_status status)
{
    assert_int_equal(told->times, 1);
    assert_int_equal(told->status, status);
    assert_int_equal(told->waited, status);
}

/* ---- Exactly once, whatever the outcome */

static void ends_and_tells(pool_fn *fn, const struct pool_call *options, enum pool_status status)
{
    struct pool *pool = make_pool(2);
    struct told told = {0};
    struct pool_call call = *options;
    struct pool_job *job;

    call.done = tell;
    call.done_arg = &told;
    job = pool_map_async(pool, fn, pool_range(2), &call);
    assert_non_null(job);
    ends(job, status);
    assert_ptr_equal(told.job, job);
    assert_int_equal(told.count, 2);
    pool_job_free(job);
    pool_destroy(pool);
    assert_told_once(&told, status);
}

static void it_fires_once_for_a_job_that_is_ok(void **state)
{
    (void)state;
    ends_and_tells(good, &(struct pool_call){0}, POOL_OK);
}

static void it_fires_once_for_a_job_that_failed(void **state)
{
    (void)state;
    ends_and_tells(fail_7, &(struct pool_call){0}, POOL_FAILED);
}

static void it_fires_once_for_a_job_that_failed_fast(void **state)
{
    (void)state;
    ends_and_tells(fail_7, &(struct pool_call){.fail_fast = 1}, POOL_FAILED);
}

static void it_fires_once_for_a_job_that_crashed(void **state)
{
    (void)state;
    ends_and_tells(crash, &(struct pool_call){0}, POOL_CRASHED);
}

static void it_fires_once_for_a_job_that_was_tried_again(void **state)
{
    (void)state;
    ends_and_tells(crash, &(struct pool_call){.retries = 2}, POOL_CRASHED);
}

static void it_fires_once_for_a_job_that_took_too_long(void **state)
{
    (void)state;
    ends_and_tells(stay, &(struct pool_call){.timeout = 0.02}, POOL_TIMED_OUT);
}

static void it_fires_once_for_a_job_of_no_items(void **state)
{
    struct pool *pool = make_pool(1);
    struct told told = {0};
    struct pool_job *job = pool_map_async(pool, good, pool_range(0), &(struct pool_call){.done = tell, .done_arg = &told});

    (void)state;
    assert_non_null(job);
    ends(job, POOL_OK);
    assert_ptr_equal(told.job, job);
    pool_job_free(job);
    pool_destroy(pool);
    assert_told_once(&told, POOL_OK);
}

static void it_fires_once_for_a_job_that_was_cancelled(void **state)
{
    struct pool *pool = make_pool(1);
    struct told told = {0};
    struct pool_job *job = start(pool, stay, tell, &told);

    (void)state;
    await_start(0);
    pool_job_cancel(job);
    pool_job_cancel(job);
    ends(job, POOL_CANCELLED);
    pool_job_free(job);
    pool_destroy(pool);
    assert_told_once(&told, POOL_CANCELLED);
}

static void it_fires_once_for_a_job_cancelled_before_its_start(void **state)
{
    struct pool *pool = make_pool(1);
    struct told told = {0};
    struct pool_job *first = apply(pool, good_at_gate, NULL, NULL), *job;

    (void)state;
    await_start(0);
    job = start(pool, good, tell, &told);
    pool_job_cancel(job);
    ends(job, POOL_CANCELLED);
    assert_told_once(&told, POOL_CANCELLED);
    assert_int_equal(told.count, COUNT);
    open_gate();
    ends(first, POOL_OK);
    pool_job_free(first);
    pool_job_free(job);
    pool_destroy(pool);
}

static void it_fires_once_where_the_pool_is_terminated(void **state)
{
    struct pool *pool = make_pool(1);
    struct told told = {0};
    struct pool_job *job = start(pool, stay, tell, &told);

    (void)state;
    await_start(0);
    pool_terminate(pool);
    assert_int_equal(pool_join(pool, PATIENCE), POOL_OK);
    assert_told_once(&told, POOL_CANCELLED);
    pool_destroy(pool);
    assert_told_once(&told, POOL_CANCELLED);
    pool_job_free(job);
}

static void it_fires_once_where_the_pool_is_destroyed(void **state)
{
    struct pool *pool = make_pool(1);
    struct told told = {0};
    struct pool_job *job = start(pool, stay, tell, &told);

    (void)state;
    await_start(0);
    pool_destroy(pool);
    assert_told_once(&told, POOL_CANCELLED);
    assert_int_equal(pool_job_status(job), POOL_CANCELLED);
    pool_job_free(job);
}

static void it_fires_once_where_the_pool_breaks(void **state)
{
    struct pool *pool = pool_create(&(struct pool_options){.workers = 1, .initializer = fail_when_told});
    struct told told = {0};
    struct pool_job *job;

    (void)state;
    assert_non_null(pool);
    job = start(pool, stay, tell, &told);
    await_start(0);
    ledger->fail = 1;
    kill(worker_of(pool, 0), SIGKILL);
    ends(job, POOL_BROKEN);
    pool_job_free(job);
    pool_destroy(pool);
    assert_told_once(&told, POOL_BROKEN);
}

static void it_fires_once_for_a_job_freed_early(void **state)
{
    struct pool *pool = make_pool(1);
    struct told told = {0};
    struct pool_job *job = start(pool, good_at_gate, tell, &told);

    (void)state;
    await_start(0);
    pool_job_free(job);
    open_gate();
    join(pool);
    assert_told_once(&told, POOL_OK);
    pool_destroy(pool);
}

static void count(struct pool_job *job, void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
    pool_job_free(job);
}

struct starter {
    struct pool *pool;
    atomic_int  *fired;
    int          wrong;
};

static void *start_many(void *arg)
{
    struct starter *s = arg;
    int i;

    for (i = 0; i < 500; i++)
        s->wrong += !pool_apply_async(s->pool, i % 50 ? good : crash, NULL, 0, &(struct pool_call){.done = count, .done_arg = s->fired});
    return NULL;
}

static void a_thousand_from_two_threads_fire_once_each(void **state)
{
    struct pool *pool = make_pool(2);
    atomic_int fired = 0;
    struct starter one = {pool, &fired, 0}, other = {pool, &fired, 0};
    pthread_t first = thread(start_many, &one), second = thread(start_many, &other);

    (void)state;
    pthread_join(first, NULL);
    pthread_join(second, NULL);
    join(pool);
    assert_int_equal(one.wrong + other.wrong, 0);
    assert_int_equal(fired, 1000);
    pool_destroy(pool);
}

static void it_runs_on_a_thread_of_the_pools(void **state)
{
    struct pool *pool = make_pool(1);
    struct told one = {0}, other = {0};
    struct pool_job *job = start(pool, good, tell, &one), *more = start(pool, good, tell, &other);

    (void)state;
    ends(job, POOL_OK);
    ends(more, POOL_OK);
    assert_false(pthread_equal(one.thread, pthread_self()));
    assert_true(pthread_equal(one.thread, other.thread));
    pool_job_free(job);
    pool_job_free(more);
    pool_destroy(pool);
}

static void calls_that_wait_take_no_callback(void **state)
{
    const struct pool_call call = {.done = tell};
    struct pool *pool = make_pool(1);

    (void)state;
    assert_int_equal(pool_map(pool, good, pool_range(1), NULL, 0, &call), POOL_INVALID);
    assert_string_not_equal(pool_error(), "");
    assert_null(pool_map_results(pool, good, pool_range(1), &call));
    assert_null(pool_imap(pool, good, pool_range(1), &call));
    pool_destroy(pool);
}

/* ---- Slow callbacks */

struct slow {
    int        pipe[2];
    atomic_int entered, left;
};

static void be_slow(struct pool_job *job, void *arg)
{
    struct slow *slow = arg;
    char byte;

    (void)job;
    slow->entered = 1;
    while (read(slow->pipe[0], &byte, 1) < 0 && errno == EINTR)
        ;
    slow->left = 1;
}

static int has_entered(void *slow)
{
    return ((struct slow *)slow)->entered;
}

/* A job has ended whose callback takes as long as we like. */
static struct pool_job *begin_slow(struct pool *pool, struct slow *slow)
{
    struct pool_job *job;

    *slow = (struct slow){.entered = 0};
    assert_int_equal(pipe(slow->pipe), 0);
    job = apply(pool, good, be_slow, slow);
    assert_true(check_until(has_entered, slow, PATIENCE));
    return job;
}

static void let_go(struct slow *slow)
{
    assert_int_equal(write(slow->pipe[1], "", 1), 1);
}

static void end_slow(struct pool_job *job, struct slow *slow)
{
    ends(job, POOL_OK);
    assert_int_equal(slow->left, 1);
    pool_job_free(job);
    close(slow->pipe[0]);
    close(slow->pipe[1]);
}

static void no_wait_returns_before_it_has(void **state)
{
    struct pool *pool = make_pool(1);
    struct slow slow;
    struct pool_job *job = begin_slow(pool, &slow);

    (void)state;
    assert_int_equal(pool_job_wait(job, 0), POOL_PENDING);
    assert_int_equal(pool_job_wait(job, 0.02), POOL_PENDING);
    assert_int_equal(pool_job_status(job), POOL_OK);            /* the job itself has ended */
    let_go(&slow);
    end_slow(job, &slow);
    pool_destroy(pool);
}

static void join_waits_for_it(void **state)
{
    struct pool *pool = make_pool(1);
    struct slow slow;
    struct pool_job *job = begin_slow(pool, &slow);

    (void)state;
    pool_close(pool);
    assert_int_equal(pool_join(pool, 0.02), POOL_PENDING);
    let_go(&slow);
    assert_int_equal(pool_join(pool, PATIENCE), POOL_OK);
    assert_int_equal(slow.left, 1);
    end_slow(job, &slow);
    pool_destroy(pool);
}

struct destroyer {
    struct pool *pool;
    struct slow *slow;
    int          left;                  /* had it, when the pool was destroyed? */
};

static void *destroy(void *arg)
{
    struct destroyer *d = arg;

    pool_destroy(d->pool);
    d->left = d->slow->left;
    return NULL;
}

static int is_being_destroyed(void *pool)
{
    struct pool *p = pool;
    int is;

    sched_enter(&p->sched);
    is = p->destroying;
    sched_leave(&p->sched);
    return is;
}

static void destroy_waits_for_it(void **state)
{
    struct pool *pool = make_pool(1);
    struct slow slow;
    struct pool_job *job = begin_slow(pool, &slow);
    struct destroyer destroyer = {pool, &slow, 0};
    pthread_t destroying = thread(destroy, &destroyer);

    (void)state;
    assert_true(check_until(is_being_destroyed, pool, PATIENCE));
    let_go(&slow);
    pthread_join(destroying, NULL);
    assert_int_equal(destroyer.left, 1);
    end_slow(job, &slow);
}

static int has_ended_ok(void *job)
{
    return pool_job_status(job) == POOL_OK;
}

static void a_slow_one_delays_other_callbacks(void **state)
{
    struct pool *pool = make_pool(1);
    struct slow slow;
    struct told told = {0};
    struct pool_job *job = begin_slow(pool, &slow), *other = start(pool, good, tell, &told);

    (void)state;
    assert_true(check_until(has_ended_ok, other, PATIENCE));
    assert_int_equal(told.times, 0);
    assert_int_equal(pool_job_wait(other, 0), POOL_PENDING);
    let_go(&slow);
    ends(other, POOL_OK);
    assert_told_once(&told, POOL_OK);
    end_slow(job, &slow);
    pool_job_free(other);
    pool_destroy(pool);
}

/* What goes on meanwhile: the callback is slow all the time. */
static void goes_on(void (*act)(struct pool *pool))
{
    struct pool *pool = make_pool(2);
    struct slow slow;
    struct pool_job *job = begin_slow(pool, &slow);

    act(pool);
    assert_int_equal(slow.left, 0);
    let_go(&slow);
    end_slow(job, &slow);
    pool_destroy(pool);
}

static void do_jobs(struct pool *pool)
{
    struct pool_job *job;
    int i;

    for (i = 0; i < 10; i++) {
        job = start(pool, good, NULL, NULL);
        assert_true(check_until(has_ended_ok, job, PATIENCE));
        ends(job, POOL_OK);
        assert_int_equal(*(const long *)pool_results_at(pool_job_results(job), 3)->data, value_of(3));
        pool_job_free(job);
    }
}

static void a_slow_one_delays_no_results_of_jobs(void **state)
{
    (void)state;
    goes_on(do_jobs);
}

static void a_slow_one_delays_no_calls_that_wait(void **state)
{
    (void)state;
    goes_on(assert_works);
}

static void do_kill(struct pool *pool)
{
    struct pool_job *job = apply(pool, stay, NULL, NULL);

    await_start(0);
    pool_job_cancel(job);
    ends(job, POOL_CANCELLED);
    pool_job_free(job);
}

static void a_slow_one_delays_no_kills(void **state)
{
    (void)state;
    goes_on(do_kill);
}

static int has_timed_out(void *job)
{
    return pool_job_status(job) == POOL_TIMED_OUT;
}

static void do_deadline(struct pool *pool)
{
    struct pool_job *job = pool_apply_async(pool, stay, NULL, 0, &(struct pool_call){.timeout = 0.02});

    assert_non_null(job);
    assert_true(check_until(has_timed_out, job, PATIENCE));     /* nobody waits: the pool's own threads see to it */
    pool_job_free(job);
}

static void a_slow_one_delays_no_deadlines(void **state)
{
    (void)state;
    goes_on(do_deadline);
}

static void do_crash(struct pool *pool)
{
    struct pool_job *job = apply(pool, crash, NULL, NULL);

    ends(job, POOL_CRASHED);
    pool_job_free(job);
    assert_works(pool);
}

static void a_slow_one_delays_no_replacements(void **state)
{
    (void)state;
    goes_on(do_crash);
}

/* ---- What it may do */

struct attempt {
    struct pool      *pool;
    struct pool_job  *own, *other, *made;       /* other: does not end before the gate is open */
    struct pool_iter *iter;
    void            (*act)(struct attempt *attempt);
    enum pool_status  status;
    const void       *pointer;
    int               error;            /* errno */
    char              text[200];        /* pool_error */
};

static void try(struct pool_job *job, void *arg)
{
    struct attempt *a = arg;

    a->own = job;
    errno = 0;
    a->act(a);
    a->error = errno;
    snprintf(a->text, sizeof a->text, "%s", pool_error());
}

static void begin_attempt(struct attempt *a, void (*act)(struct attempt *))
{
    *a = (struct attempt){.pool = make_pool(2), .act = act, .status = POOL_PENDING};
    a->other = apply(a->pool, good_at_gate, NULL, NULL);        /* at one worker; the other one is free */
    await_start(0);
}

/* In a callback whose job nobody else has a hold of: it is the callback's. */
static void attempt(struct attempt *a, void (*act)(struct attempt *))
{
    struct pool_job *job;

    begin_attempt(a, act);
    job = apply(a->pool, good, try, a);
    ends(job, POOL_OK);
    pool_job_free(job);
}

static void end_attempt(struct attempt *a)
{
    open_gate();
    ends(a->other, POOL_OK);
    pool_job_free(a->other);
    assert_works(a->pool);
    pool_destroy(a->pool);
}

static void start_apply(struct attempt *a)
{
    int x = 1;

    a->made = pool_apply_async(a->pool, good, &x, sizeof x, NULL);
}

static void it_may_start_an_apply(void **state)
{
    struct attempt a;

    (void)state;
    attempt(&a, start_apply);
    assert_non_null(a.made);
    ends(a.made, POOL_OK);
    pool_job_free(a.made);
    end_attempt(&a);
}

static void start_map(struct attempt *a)
{
    a->made = pool_map_async(a->pool, good, pool_range(COUNT), NULL);
}

static void it_may_start_a_map(void **state)
{
    struct attempt a;

    (void)state;
    attempt(&a, start_map);
    assert_non_null(a.made);
    ends(a.made, POOL_OK);
    pool_job_free(a.made);
    end_attempt(&a);
}

static void start_iterator(struct attempt *a)
{
    a->iter = pool_imap(a->pool, good, pool_range(COUNT), NULL);
}

static void it_may_start_an_iterator(void **state)
{
    struct end all[COUNT] = {{0}};
    struct attempt a;

    (void)state;
    attempt(&a, start_iterator);
    assert_non_null(a.iter);
    collect(a.iter, all, COUNT);
    end_attempt(&a);
}

static void ask_with_0(struct attempt *a)
{
    struct pool_iter *it = pool_imap(a->pool, good_at_gate, pool_range(1), NULL);

    a->status = pool_job_wait(a->other, 0);
    a->pointer = pool_next_timeout(it, 0);
    pool_iter_free(it);
}

static void it_may_ask_with_0_seconds(void **state)
{
    struct attempt a;

    (void)state;
    attempt(&a, ask_with_0);
    assert_int_equal(a.status, POOL_PENDING);
    assert_null(a.pointer);
    assert_string_equal(a.text, "");
    end_attempt(&a);
}

static void ask_of_its_own(struct attempt *a)
{
    a->status = pool_job_wait(a->own, -1);
}

static void it_may_wait_for_its_own_job_which_has_ended(void **state)
{
    struct attempt a;

    (void)state;
    attempt(&a, ask_of_its_own);
    assert_int_equal(a.status, POOL_OK);
    end_attempt(&a);
}

static void cancel_other(struct attempt *a)
{
    pool_job_cancel(a->other);
}

static void it_may_cancel(void **state)
{
    struct attempt a;

    (void)state;
    attempt(&a, cancel_other);
    ends(a.other, POOL_CANCELLED);
    pool_job_free(a.other);
    assert_works(a.pool);
    pool_destroy(a.pool);
}

static void free_own(struct attempt *a)
{
    pool_job_free(a->own);
}

static void it_may_free_its_own_job(void **state)
{
    struct attempt a;

    (void)state;
    begin_attempt(&a, free_own);
    apply(a.pool, good, try, &a);
    open_gate();
    join(a.pool);
    assert_string_equal(a.text, "");
    pool_job_free(a.other);
    pool_destroy(a.pool);
}

static void free_other(struct attempt *a)
{
    pool_job_free(a->other);
}

static void it_may_free_another_job_that_has_ended(void **state)
{
    struct attempt a;
    struct pool_job *job;

    (void)state;
    begin_attempt(&a, free_other);
    open_gate();
    ends(a.other, POOL_OK);
    job = apply(a.pool, good, try, &a);
    ends(job, POOL_OK);
    assert_string_equal(a.text, "");
    pool_job_free(job);
    pool_destroy(a.pool);
}

static void it_may_free_another_job_that_runs(void **state)
{
    struct pool_stats stats;
    struct attempt a;

    (void)state;
    attempt(&a, free_other);
    assert_string_equal(a.text, "");
    open_gate();
    join(a.pool);
    assert_int_equal(pool_stats(a.pool, &stats), POOL_OK);
    assert_int_equal(stats.ok, 2);      /* it went on */
    pool_destroy(a.pool);
}

static void terminate(struct attempt *a)
{
    pool_terminate(a->pool);
}

static void it_may_terminate(void **state)
{
    struct attempt a;

    (void)state;
    attempt(&a, terminate);
    assert_int_equal(pool_join(a.pool, PATIENCE), POOL_OK);
    assert_int_equal(pool_job_status(a.other), POOL_CANCELLED);
    pool_job_free(a.other);
    pool_destroy(a.pool);
}

static void close_pool(struct attempt *a)
{
    pool_close(a->pool);
}

static void it_may_close(void **state)
{
    struct attempt a;

    (void)state;
    attempt(&a, close_pool);
    open_gate();
    assert_int_equal(pool_join(a.pool, PATIENCE), POOL_OK);
    assert_int_equal(pool_job_status(a.other), POOL_OK);
    pool_job_free(a.other);
    pool_destroy(a.pool);
}

static void use_a_pool_of_its_own(struct attempt *a)
{
    struct pool *pool = pool_create(&(struct pool_options){.workers = 1});

    a->status = pool ? pool_map(pool, good, pool_range(COUNT), NULL, 0, NULL) : POOL_INVALID;
    pool_destroy(pool);
}

static void it_may_wait_at_another_pool(void **state)
{
    struct attempt a;

    (void)state;
    attempt(&a, use_a_pool_of_its_own);
    assert_int_equal(a.status, POOL_OK);
    end_attempt(&a);
}

static void use_stack(struct attempt *a)
{
    volatile char much[128 << 10];
    size_t i;

    for (i = 0; i < sizeof much; i += 1024)
        much[i] = 1;
    a->status = much[0] ? POOL_OK : POOL_FAILED;
}

static void it_has_some_stack(void **state)
{
    struct attempt a;

    (void)state;
    if (check_under("thread"))
        skip();                         /* which keeps much of its own there */
    attempt(&a, use_stack);
    assert_int_equal(a.status, POOL_OK);
    end_attempt(&a);
}

struct chain {
    struct pool *pool;
    int          left, wrong;
};

static void start_next(struct pool_job *job, void *arg)
{
    struct chain *chain = arg;

    chain->wrong += pool_job_status(job) != POOL_OK;
    pool_job_free(job);
    if (--chain->left)
        chain->wrong += !pool_apply_async(chain->pool, good, NULL, 0, &(struct pool_call){.done = start_next, .done_arg = chain});
    else
        pool_close(chain->pool);
}

static int is_closed(void *pool)
{
    struct pool *p = pool;
    int is;

    sched_enter(&p->sched);
    is = p->closing;
    sched_leave(&p->sched);
    return is;
}

static void a_chain_of_1000_each_starts_the_next(void **state)
{
    struct chain chain = {make_pool(1), 1000, 0};

    (void)state;
    apply(chain.pool, good, start_next, &chain);
    assert_true(check_until(is_closed, chain.pool, PATIENCE));
    assert_int_equal(pool_join(chain.pool, PATIENCE), POOL_OK);
    assert_int_equal(chain.left, 0);
    assert_int_equal(chain.wrong, 0);
    pool_destroy(chain.pool);
}

/* ---- What would wait is refused, and the pool stays as it was */

static void refused(struct attempt *a, void (*act)(struct attempt *))
{
    attempt(a, act);
    assert_non_null(strstr(a->text, "callback"));
    end_attempt(a);
}

static void do_map(struct attempt *a)
{
    a->status = pool_map(a->pool, good, pool_range(1), NULL, 0, NULL);
}

static void map_is_refused(void **state)
{
    struct attempt a;

    (void)state;
    refused(&a, do_map);
    assert_int_equal(a.status, POOL_INVALID);
}

static void do_apply(struct attempt *a)
{
    a->status = pool_apply(a->pool, good, NULL, 0, NULL, 0, NULL);
}

static void apply_is_refused(void **state)
{
    struct attempt a;

    (void)state;
    refused(&a, do_apply);
    assert_int_equal(a.status, POOL_INVALID);
}

static void do_map_results(struct attempt *a)
{
    a->pointer = pool_map_results(a->pool, good, pool_range(1), NULL);
}

static void map_results_is_refused(void **state)
{
    struct attempt a;

    (void)state;
    refused(&a, do_map_results);
    assert_null(a.pointer);
    assert_int_equal(a.error, EINVAL);
}

static void do_next(struct attempt *a)
{
    a->iter = pool_imap(a->pool, good, pool_range(1), NULL);
    a->pointer = pool_next(a->iter);
}

static void next_is_refused(void **state)
{
    struct attempt a;

    (void)state;
    attempt(&a, do_next);
    assert_null(a.pointer);
    assert_non_null(strstr(a.text, "callback"));
    assert_non_null(pool_next(a.iter));                         /* it lost nothing */
    pool_iter_free(a.iter);
    end_attempt(&a);
}

static void do_next_timeout(struct attempt *a)
{
    a->iter = pool_imap(a->pool, good, pool_range(1), NULL);
    a->pointer = pool_next_timeout(a->iter, 0.001);
    snprintf(a->text, sizeof a->text, "%s", pool_error());
}

static void next_with_a_time_limit_is_refused(void **state)
{
    struct attempt a;

    (void)state;
    attempt(&a, do_next_timeout);
    assert_null(a.pointer);
    assert_non_null(strstr(a.text, "callback"));
    pool_iter_free(a.iter);
    end_attempt(&a);
}

static void do_wait(struct attempt *a)
{
    a->status = pool_job_wait(a->other, -1);
}

static void a_wait_for_another_job_is_refused(void **state)
{
    struct attempt a;

    (void)state;
    refused(&a, do_wait);
    assert_int_equal(a.status, POOL_INVALID);
}

static void do_join(struct attempt *a)
{
    pool_close(a->pool);
    a->status = pool_join(a->pool, -1);
}

static void join_is_refused(void **state)
{
    struct attempt a;

    (void)state;
    attempt(&a, do_join);
    assert_int_equal(a.status, POOL_INVALID);
    assert_non_null(strstr(a.text, "callback"));
    open_gate();
    assert_int_equal(pool_join(a.pool, PATIENCE), POOL_OK);
    pool_job_free(a.other);
    pool_destroy(a.pool);
}

static void do_destroy(struct attempt *a)
{
    pool_destroy(a->pool);
}

static void destroy_is_refused(void **state)
{
    struct attempt a;

    (void)state;
    refused(&a, do_destroy);
}

static void *wait_for_it(void *job)
{
    pool_job_wait(job, PATIENCE);
    return NULL;
}

static int is_one_inside(void *pool)
{
    struct pool *p = pool;
    int is;

    sched_enter(&p->sched);
    is = p->callers == 1;
    sched_leave(&p->sched);
    return is;
}

static void freeing_its_own_job_is_refused_while_another_thread_waits_for_it(void **state)
{
    struct attempt a = {.pool = make_pool(1), .act = free_own};
    struct pool_job *job = apply(a.pool, good_at_gate, try, &a);
    pthread_t waiting = thread(wait_for_it, job);

    (void)state;
    assert_true(check_until(is_one_inside, a.pool, PATIENCE));
    open_gate();
    pthread_join(waiting, NULL);
    assert_string_not_equal(a.text, "");
    assert_int_equal(pool_job_status(job), POOL_OK);
    pool_job_free(job);
    pool_destroy(a.pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(it_fires_once_for_a_job_that_is_ok),
        STORY(it_fires_once_for_a_job_that_failed),
        STORY(it_fires_once_for_a_job_that_failed_fast),
        STORY(it_fires_once_for_a_job_that_crashed),
        STORY(it_fires_once_for_a_job_that_was_tried_again),
        STORY(it_fires_once_for_a_job_that_took_too_long),
        STORY(it_fires_once_for_a_job_of_no_items),
        STORY(it_fires_once_for_a_job_that_was_cancelled),
        STORY(it_fires_once_for_a_job_cancelled_before_its_start),
        STORY(it_fires_once_where_the_pool_is_terminated),
        STORY(it_fires_once_where_the_pool_is_destroyed),
        STORY(it_fires_once_where_the_pool_breaks),
        STORY(it_fires_once_for_a_job_freed_early),
        STORY(a_thousand_from_two_threads_fire_once_each),
        STORY(it_runs_on_a_thread_of_the_pools),
        STORY(calls_that_wait_take_no_callback),
        STORY(no_wait_returns_before_it_has),
        STORY(join_waits_for_it),
        STORY(destroy_waits_for_it),
        STORY(a_slow_one_delays_other_callbacks),
        STORY(a_slow_one_delays_no_results_of_jobs),
        STORY(a_slow_one_delays_no_calls_that_wait),
        STORY(a_slow_one_delays_no_kills),
        STORY(a_slow_one_delays_no_deadlines),
        STORY(a_slow_one_delays_no_replacements),
        STORY(it_may_start_an_apply),
        STORY(it_may_start_a_map),
        STORY(it_may_start_an_iterator),
        STORY(it_may_ask_with_0_seconds),
        STORY(it_may_wait_for_its_own_job_which_has_ended),
        STORY(it_may_cancel),
        STORY(it_may_free_its_own_job),
        STORY(it_may_free_another_job_that_has_ended),
        STORY(it_may_free_another_job_that_runs),
        STORY(it_may_terminate),
        STORY(it_may_close),
        STORY(it_may_wait_at_another_pool),
        STORY(it_has_some_stack),
        STORY(a_chain_of_1000_each_starts_the_next),
        STORY(map_is_refused),
        STORY(apply_is_refused),
        STORY(map_results_is_refused),
        STORY(next_is_refused),
        STORY(next_with_a_time_limit_is_refused),
        STORY(a_wait_for_another_job_is_refused),
        STORY(join_is_refused),
        STORY(destroy_is_refused),
        STORY(freeing_its_own_job_is_refused_while_another_thread_waits_for_it),
    };

    return cmocka_run_group_tests(tests, ledger_setup, ledger_teardown);
}
