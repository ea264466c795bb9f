/* pool_fd: a program whose only wait is that of its event loop gets everything that a pool has for it, and is never woken for nothing
 * once it has taken all there was.
 *
 * The loop here is epoll on that one descriptor, level-triggered. When it is readable, each handle is asked with 0 seconds until it has
 * nothing more; no call blocks. A piece of news that is lost is an epoll_wait that meets its deadline; one that is stuck is a
 * descriptor that is readable after everything was taken. Tasks wait at steps: item i goes on when the ledger's gate is above i.
 *
 * ctest: label memcheck */
#define _GNU_SOURCE
#include "child.h"
#include "ledger.h"

#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>

#ifdef __has_include
#if __has_include(<uv.h>)
#include <dlfcn.h>
#include <uv.h>
#define HAVE_UV 1
#endif
#endif

enum { HANDLES = 64 };

/* ---- Tasks */

static int good_at_step(struct pool_task *task)
{
    note_start(task);
    while (atomic_load(&ledger->open) <= (int)task->index)
        nap();
    return answer(task);
}

/* Item 0 waits for the gate, the others do not. */
static int first_at_gate(struct pool_task *task)
{
    if (task->index == 0)
        wait_for_gate();
    return good(task);
}

static int crash_at_2(struct pool_task *task)
{
    if (task->index == 2)
        raise(SIGKILL);
    return good(task);
}

static int fail_at_0_stay_after(struct pool_task *task)
{
    note_start(task);
    if (task->index == 0)
        return pool_fail(task, 7, "it is bad");
    pause_for_ever();
    return 0;
}

static int stay_at_2(struct pool_task *task)
{
    note_start(task);
    if (task->index == 2)
        pause_for_ever();
    return answer(task);
}

static int fail_when_told(struct pool_worker *worker)
{
    return ledger->fail ? pool_init_fail(worker, 3, "told to fail") : 0;
}

/* ---- A generator */

struct counter {
    size_t    next, count;
    int       error;                    /* instead of an end */
    pthread_t thread;                   /* the only one that may pull */
    int       strangers;
};

static int pull(void *cursor, struct pool_bytes *item)
{
    struct counter *c = cursor;

    c->strangers += !pthread_equal(c->thread, pthread_self());
    if (c->next == c->count)
        return c->error;
    *item = (struct pool_bytes){&c->next, sizeof c->next};
    c->next++;
    return 1;
}

static struct counter counter(size_t count)
{
    return (struct counter){.count = count, .thread = pthread_self()};
}

/* ---- The loop */

struct handle {
    struct pool_job  *job;              /* one of the two, or none any more */
    struct pool_iter *iter;
    int               ordered, gaps;    /* gaps: cancelled, and what had not started is left out */
    size_t            next;             /* results that came, of an iterator */
    size_t            ok, not_ok;
    enum pool_status  end;
};

struct loop {
    struct pool  *pool;
    int           fd, epoll;
    struct handle handles[HANDLES];
    size_t        count, open;
};

static void open_loop(struct loop *loop, struct pool *pool)
{
    struct epoll_event event = {.events = EPOLLIN};

    memset(loop, 0, sizeof *loop);
    loop->pool = pool;
    loop->fd = pool_fd(pool);
    if (loop->fd < 0)
        fail_msg("%s", pool_error());
    loop->epoll = epoll_create1(EPOLL_CLOEXEC);
    assert_true(loop->epoll >= 0);
    assert_int_equal(epoll_ctl(loop->epoll, EPOLL_CTL_ADD, loop->fd, &event), 0);
}

static void close_loop(struct loop *loop)
{
    close(loop->epoll);
    pool_destroy(loop->pool);
}

static struct handle *add(struct loop *loop)
{
    assert_true(loop->count < HANDLES);
    loop->open++;
    return &loop->handles[loop->count++];
}

static struct handle *add_job(struct loop *loop, struct pool_job *job)
{
    struct handle *h = add(loop);

    if (!job)
        fail_msg("%s", pool_error());
    h->job = job;
    return h;
}

static struct handle *add_iter(struct loop *loop, struct pool_iter *iter, int ordered)
{
    struct handle *h = add(loop);

    if (!iter)
        fail_msg("%s", pool_error());
    h->iter = iter;
    h->ordered = ordered;
    return h;
}

static void take_result(struct handle *h, const struct pool_result *r)
{
    if (h->ordered && !h->gaps)
        assert_int_equal(r->index, h->next);
    else if (h->ordered)
        assert_true(r->index >= h->next);
    h->next = h->gaps ? r->index + 1 : h->next + 1;
    if (r->status != POOL_OK) {
        h->not_ok++;
        return;
    }
    assert_int_equal(*(const long *)r->data, value_of(r->index));
    h->ok++;
}

static void take_from_iter(struct loop *loop, struct handle *h)
{
    const struct pool_result *r;

    while ((r = pool_next_timeout(h->iter, 0)))
        take_result(h, r);
    h->end = pool_iter_status(h->iter);
    if (h->end == POOL_PENDING)
        return;
    pool_iter_free(h->iter);
    h->iter = NULL;
    loop->open--;
}

static void take_from_job(struct loop *loop, struct handle *h)
{
    size_t i, count;

    h->end = pool_job_wait(h->job, 0);
    if (h->end == POOL_PENDING)
        return;
    count = pool_results_count(pool_job_results(h->job));
    for (i = 0; i < count; i++)
        take_result(h, pool_results_at(pool_job_results(h->job), i));
    pool_job_free(h->job);
    h->job = NULL;
    loop->open--;
}

static void take_all(struct loop *loop)
{
    size_t i;

    for (i = 0; i < loop->count; i++) {
        if (loop->handles[i].iter)
            take_from_iter(loop, &loop->handles[i]);
        else if (loop->handles[i].job)
            take_from_job(loop, &loop->handles[i]);
    }
}

static void await_news(struct loop *loop)
{
    struct epoll_event event;
    int n;

    do
        n = epoll_wait(loop->epoll, &event, 1, (int)(PATIENCE * 1000));
    while (n < 0 && errno == EINTR);
    if (n != 1)
        fail_msg("news was lost: %zu handles are open", loop->open);
}

static int is_readable(int fd)
{
    struct pollfd poller = {.fd = fd, .events = POLLIN};

    return poll(&poller, 1, 0) == 1;
}

static void run_to_the_end(struct loop *loop)
{
    while (loop->open) {
        await_news(loop);
        take_all(loop);
    }
    assert_false(is_readable(loop->fd));
}

/* ---- Handles of all kinds */

static struct handle *begin_map(struct loop *loop, pool_fn *fn, size_t count, const struct pool_call *call)
{
    return add_job(loop, pool_map_async(loop->pool, fn, pool_range(count), call));
}

static struct handle *begin_imap(struct loop *loop, pool_fn *fn, struct pool_items items, const struct pool_call *call)
{
    return add_iter(loop, pool_imap(loop->pool, fn, items, call), 1);
}

static struct handle *begin_unordered(struct loop *loop, pool_fn *fn, struct pool_items items, const struct pool_call *call)
{
    return add_iter(loop, pool_imap_unordered(loop->pool, fn, items, call), 0);
}

static void came(const struct handle *h, size_t count)
{
    assert_int_equal(h->end, POOL_OK);
    assert_int_equal(h->ok, count);
    assert_int_equal(h->not_ok, 0);
}

struct wanted {
    struct pool *pool;
    unsigned     ok, cancelled;
};

static int have_ended(void *wanted)
{
    struct wanted *w = wanted;
    struct pool_stats stats;

    return pool_stats(w->pool, &stats) == POOL_OK && stats.ok >= w->ok && stats.cancelled >= w->cancelled;
}

/* Until so many items of the pool have ended, whoever took note of it. */
static void await_ends(struct pool *pool, unsigned ok, unsigned cancelled)
{
    struct wanted wanted = {pool, ok, cancelled};

    assert_true(check_until(have_ended, &wanted, PATIENCE));
}

/* ---- All at once, and nothing that blocks */

static void maps_iterators_and_jobs_together_to_the_end(void **state)
{
    struct counter source = counter(3000), other = counter(3000);
    struct loop loop;
    int i;

    (void)state;
    open_loop(&loop, make_pool(2));
    begin_map(&loop, good, 3000, NULL);
    begin_map(&loop, good, 3, NULL);
    begin_map(&loop, good, 0, NULL);
    begin_imap(&loop, good, pool_range(3000), NULL);
    begin_unordered(&loop, good, pool_range(3000), NULL);
    begin_imap(&loop, good, pool_generator(pull, &source), &(struct pool_call){.window = 5});
    begin_unordered(&loop, good, pool_generator(pull, &other), NULL);
    begin_imap(&loop, good, pool_range(0), NULL);
    for (i = 0; i < 40; i++)
        add_job(&loop, pool_apply_async(loop.pool, good, NULL, 0, NULL));
    run_to_the_end(&loop);
    came(&loop.handles[0], 3000);
    came(&loop.handles[1], 3);
    came(&loop.handles[2], 0);
    for (i = 3; i < 7; i++)
        came(&loop.handles[i], 3000);
    came(&loop.handles[7], 0);
    for (i = 8; i < 48; i++)
        came(&loop.handles[i], 1);
    assert_int_equal(source.strangers + other.strangers, 0);
    close_loop(&loop);
}

static void many_rounds_on_one_descriptor(void **state)
{
    int rounds = getenv("FORKPOOL_LONG") ? 20000 : check_under("") ? 50 : 500;
    struct loop loop;
    int i;

    (void)state;
    open_loop(&loop, make_pool(2));
    for (i = 0; i < rounds; i++) {
        struct counter source = counter(5);

        loop.count = 0;
        memset(loop.handles, 0, sizeof loop.handles);
        begin_map(&loop, good, 3, NULL);
        add_job(&loop, pool_apply_async(loop.pool, good, NULL, 0, NULL));
        begin_imap(&loop, good, pool_range(4), NULL);
        begin_unordered(&loop, good, pool_generator(pull, &source), NULL);
        run_to_the_end(&loop);
        came(&loop.handles[0], 3);
        came(&loop.handles[3], 5);
    }
    close_loop(&loop);
}

static void items_that_end_badly_come_like_others(void **state)
{
    struct loop loop;

    (void)state;
    open_loop(&loop, make_pool(2));
    begin_imap(&loop, crash_at_2, pool_range(10), NULL);
    begin_unordered(&loop, stay_at_2, pool_range(10), &(struct pool_call){.timeout = 0.05});
    begin_map(&loop, crash_at_2, 10, NULL);
    run_to_the_end(&loop);
    assert_int_equal(loop.handles[0].end, POOL_OK);
    assert_int_equal(loop.handles[1].end, POOL_OK);
    assert_int_equal(loop.handles[2].end, POOL_CRASHED);
    assert_int_equal(loop.handles[0].not_ok, 1);
    assert_int_equal(loop.handles[1].not_ok, 1);
    assert_int_equal(loop.handles[2].not_ok, 1);
    close_loop(&loop);
}

static int work_and_crash_now_and_then(struct pool_task *task)
{
    if (task->index % 10 == 9)
        raise(SIGKILL);
    return good(task);
}

/* With its only worker a generator's iterator loses everything that could have news for it but the replacement. */
static void goes_on_after_the_only_worker(pool_fn *fn, int ordered, const struct pool_options *options, size_t bad)
{
    const struct pool_call call = {.window = 1};        /* nothing else waits to be handed out */
    struct counter source = counter(50);
    struct pool *pool = pool_create(options);
    struct loop loop;

    assert_non_null(pool);
    open_loop(&loop, pool);
    if (ordered)
        begin_imap(&loop, fn, pool_generator(pull, &source), &call);
    else
        begin_unordered(&loop, fn, pool_generator(pull, &source), &call);
    run_to_the_end(&loop);
    assert_int_equal(loop.handles[0].end, POOL_OK);
    assert_int_equal(loop.handles[0].ok, 50 - bad);
    assert_int_equal(loop.handles[0].not_ok, bad);
    close_loop(&loop);
}

static void a_generator_in_order_goes_on_after_the_only_workers_crash(void **state)
{
    (void)state;
    goes_on_after_the_only_worker(work_and_crash_now_and_then, 1, &(struct pool_options){.workers = 1}, 5);
}

static void a_generator_out_of_order_goes_on_after_the_only_workers_crash(void **state)
{
    (void)state;
    goes_on_after_the_only_worker(work_and_crash_now_and_then, 0, &(struct pool_options){.workers = 1}, 5);
}

static void a_generator_goes_on_after_its_only_worker_was_replaced(void **state)
{
    (void)state;
    goes_on_after_the_only_worker(good, 0, &(struct pool_options){.workers = 1, .max_tasks = 1}, 0);
}

static void a_generator_that_fails_ends_like_that(void **state)
{
    struct counter source = counter(10), other = counter(10);
    struct loop loop;

    (void)state;
    source.error = other.error = -5;
    open_loop(&loop, make_pool(2));
    begin_imap(&loop, good, pool_generator(pull, &source), NULL);
    begin_unordered(&loop, good, pool_generator(pull, &other), NULL);
    run_to_the_end(&loop);
    assert_int_equal(loop.handles[0].end, POOL_SOURCE_FAILED);
    assert_int_equal(loop.handles[1].end, POOL_SOURCE_FAILED);
    assert_int_equal(loop.handles[0].ok, 10);
    assert_int_equal(loop.handles[1].ok, 10);
    close_loop(&loop);
}

/* ---- Level-triggered: readable exactly while there is something */

static void a_new_pool_has_no_news(void **state)
{
    struct loop loop;

    (void)state;
    open_loop(&loop, make_pool(1));
    assert_false(is_readable(loop.fd));
    close_loop(&loop);
}

static void it_is_the_same_every_time(void **state)
{
    struct loop loop;

    (void)state;
    open_loop(&loop, make_pool(1));
    assert_int_equal(pool_fd(loop.pool), loop.fd);
    close_loop(&loop);
}

/* One worker, one item at a time: nothing else can come until the next step. */
static void each_result_is_one_piece_of_news(struct loop *loop, size_t count)
{
    size_t i;

    assert_false(is_readable(loop->fd));
    for (i = 0; i < count; i++) {
        ledger->open = (int)i + 1;
        await_news(loop);
        take_all(loop);
        assert_int_equal(loop->handles[0].next, i + 1);
        if (i + 1 < count)
            assert_false(is_readable(loop->fd));
    }
    run_to_the_end(loop);
    came(&loop->handles[0], count);
}

static void not_readable_between_results_in_order(void **state)
{
    struct loop loop;

    (void)state;
    open_loop(&loop, make_pool(1));
    begin_imap(&loop, good_at_step, pool_range(10), NULL);
    each_result_is_one_piece_of_news(&loop, 10);
    close_loop(&loop);
}

static void not_readable_between_results_out_of_order(void **state)
{
    struct loop loop;

    (void)state;
    open_loop(&loop, make_pool(1));
    begin_unordered(&loop, good_at_step, pool_range(10), NULL);
    each_result_is_one_piece_of_news(&loop, 10);
    close_loop(&loop);
}

/* No worker has to do with it: it ends where it was to be kept. Of its bytes none is ever looked at. */
static int pull_too_large(void *cursor, struct pool_bytes *item)
{
    *item = (struct pool_bytes){cursor, (size_t)1 << 46};
    return 1;
}

static void an_item_that_the_host_has_no_memory_for_is_told(struct pool_iter *(*imap)(struct pool *, pool_fn *, struct pool_items,
                                                                                      const struct pool_call *))
{
    struct pool_call call = {.window = 1, .retries = 1};
    struct pool *pool = make_pool(1);
    struct pollfd news = {.fd = pool_fd(pool), .events = POLLIN};
    struct pool_iter *iter = imap(pool, answer, pool_generator(pull_too_large, &call), &call);
    const struct pool_result *r;

    assert_non_null(iter);
    assert_int_equal(poll(&news, 1, (int)(PATIENCE * 1000)), 1);
    assert_non_null(r = pool_next_timeout(iter, 0));
    assert_int_equal(r->status, POOL_FAILED);
    pool_iter_free(iter);
    pool_destroy(pool);
}

static void what_the_host_has_no_memory_for_is_news(void **state)
{
    (void)state;
    an_item_that_the_host_has_no_memory_for_is_told(pool_imap);
    an_item_that_the_host_has_no_memory_for_is_told(pool_imap_unordered);
}

static void not_readable_between_results_of_a_generator(void **state)
{
    struct counter source = counter(10);
    struct loop loop;

    (void)state;
    open_loop(&loop, make_pool(1));
    begin_unordered(&loop, good_at_step, pool_generator(pull, &source), NULL);
    take_all(&loop);                    /* a generator is pulled only here: let the worker have what it wants */
    each_result_is_one_piece_of_news(&loop, 10);
    close_loop(&loop);
}

static void not_readable_before_a_job_has_ended(void **state)
{
    struct loop loop;

    (void)state;
    open_loop(&loop, make_pool(1));
    begin_map(&loop, good_at_step, 3, NULL);
    ledger->open = 2;
    await_ends(loop.pool, 2, 0);
    assert_false(is_readable(loop.fd));
    ledger->open = 3;
    await_news(&loop);
    take_all(&loop);
    assert_int_equal(loop.open, 0);
    assert_false(is_readable(loop.fd));
    close_loop(&loop);
}

static void not_readable_while_the_next_in_order_is_missing(void **state)
{
    struct loop loop;

    (void)state;
    open_loop(&loop, make_pool(2));
    begin_imap(&loop, first_at_gate, pool_range(10), NULL);
    await_ends(loop.pool, 9, 0);
    assert_false(is_readable(loop.fd));
    ledger->open = 1;
    run_to_the_end(&loop);
    came(&loop.handles[0], 10);
    close_loop(&loop);
}

static void readable_until_all_was_taken(void **state)
{
    struct loop loop;
    struct handle *h;
    int i;

    (void)state;
    open_loop(&loop, make_pool(1));
    h = begin_imap(&loop, good, pool_range(3), NULL);
    await_ends(loop.pool, 3, 0);
    for (i = 0; i < 3; i++) {
        assert_true(is_readable(loop.fd));
        assert_true(is_readable(loop.fd));              /* looking takes nothing away */
        assert_non_null(pool_next_timeout(h->iter, 0));
    }
    assert_true(is_readable(loop.fd));                  /* the end */
    assert_null(pool_next_timeout(h->iter, 0));
    assert_false(is_readable(loop.fd));
    pool_iter_free(h->iter);
    close_loop(&loop);
}

static void an_end_that_was_told_is_not_news(void **state)
{
    struct loop loop;
    struct handle *h, *j;

    (void)state;
    open_loop(&loop, make_pool(1));
    h = begin_imap(&loop, good, pool_range(3), NULL);
    j = begin_map(&loop, good, 3, NULL);
    await_ends(loop.pool, 6, 0);
    while (pool_next_timeout(h->iter, 0))
        ;
    while (pool_job_wait(j->job, 0) == POOL_PENDING)
        ;
    assert_false(is_readable(loop.fd));                 /* though neither was freed */
    pool_iter_cancel(h->iter);
    pool_job_cancel(j->job);
    assert_false(is_readable(loop.fd));
    pool_iter_free(h->iter);
    pool_job_free(j->job);
    close_loop(&loop);
}

/* The second item is killed after the failure of the first was delivered as the end of all. */
static void what_comes_after_a_failure_that_ended_it_is_not_news(void **state)
{
    struct loop loop;
    struct handle *h;

    (void)state;
    open_loop(&loop, make_pool(2));
    h = begin_unordered(&loop, fail_at_0_stay_after, pool_range(2), &(struct pool_call){.fail_fast = 1});
    while (!pool_next_timeout(h->iter, 0))
        await_news(&loop);
    while (pool_next_timeout(h->iter, 0))
        ;
    assert_int_equal(pool_iter_status(h->iter), POOL_FAILED);
    await_ends(loop.pool, 0, 1);
    assert_false(is_readable(loop.fd));
    pool_iter_free(h->iter);
    close_loop(&loop);
}

static void one_of_two_is_news_enough(void **state)
{
    struct loop loop;
    struct handle *one, *other;

    (void)state;
    open_loop(&loop, make_pool(1));
    one = begin_map(&loop, good, 3, NULL);
    other = begin_map(&loop, good, 3, NULL);
    await_ends(loop.pool, 6, 0);
    while (pool_job_wait(one->job, 0) == POOL_PENDING)
        ;
    assert_true(is_readable(loop.fd));
    while (pool_job_wait(other->job, 0) == POOL_PENDING)
        ;
    assert_false(is_readable(loop.fd));
    pool_job_free(one->job);
    pool_job_free(other->job);
    close_loop(&loop);
}

/* ---- Made before and after, freed early */

static void a_descriptor_made_late_tells_what_was_there(void **state)
{
    struct pool *pool = make_pool(2);
    struct pool_job *job = pool_map_async(pool, good, pool_range(3), NULL);
    struct loop loop;

    (void)state;
    await_ends(pool, 3, 0);
    open_loop(&loop, pool);
    assert_true(is_readable(loop.fd));
    add_job(&loop, job);
    run_to_the_end(&loop);
    came(&loop.handles[0], 3);
    close_loop(&loop);
}

static void a_descriptor_made_late_tells_an_end_that_nobody_was_told(void **state)
{
    struct pool *pool = make_pool(2);
    struct pool_iter *iter = pool_imap(pool, good, pool_range(1), NULL);
    struct loop loop;

    (void)state;
    assert_non_null(pool_next(iter));
    open_loop(&loop, pool);
    assert_true(is_readable(loop.fd));
    assert_null(pool_next_timeout(iter, 0));
    assert_false(is_readable(loop.fd));
    pool_iter_free(iter);
    close_loop(&loop);
}

static void a_descriptor_made_late_tells_what_comes(void **state)
{
    struct counter source = counter(50);
    struct pool *pool = make_pool(2);
    struct pool_job *job = pool_map_async(pool, good_at_step, pool_range(10), NULL);
    struct pool_iter *iter = pool_imap_unordered(pool, good_at_step, pool_range(10), NULL);
    struct pool_iter *pulled = pool_imap(pool, good_at_step, pool_generator(pull, &source), NULL);
    struct loop loop;

    (void)state;
    open_loop(&loop, pool);
    add_job(&loop, job);
    add_iter(&loop, iter, 0);
    add_iter(&loop, pulled, 1);
    take_all(&loop);
    ledger->open = 50;
    run_to_the_end(&loop);
    came(&loop.handles[0], 10);
    came(&loop.handles[1], 10);
    came(&loop.handles[2], 50);
    close_loop(&loop);
}

static void a_descriptor_made_late_does_not_tell_ends_again(void **state)
{
    struct pool *pool = make_pool(2);
    struct pool_job *job = pool_map_async(pool, good, pool_range(3), NULL);
    struct pool_iter *iter = pool_imap(pool, good, pool_range(3), NULL);
    struct loop loop;

    (void)state;
    while (pool_next(iter))
        ;
    assert_int_equal(pool_job_wait(job, PATIENCE), POOL_OK);
    open_loop(&loop, pool);
    assert_false(is_readable(loop.fd));
    pool_iter_free(iter);
    pool_job_free(job);
    close_loop(&loop);
}

static void what_was_freed_has_no_news(void **state)
{
    struct loop loop;
    struct handle *job, *iter;

    (void)state;
    open_loop(&loop, make_pool(1));
    job = begin_map(&loop, good, 3, NULL);
    iter = begin_imap(&loop, good, pool_range(3), NULL);
    await_ends(loop.pool, 6, 0);
    await_news(&loop);
    pool_job_free(job->job);
    assert_true(is_readable(loop.fd));                  /* the iterator's */
    pool_iter_free(iter->iter);
    assert_false(is_readable(loop.fd));
    close_loop(&loop);
}

static void what_was_freed_early_never_has_news(void **state)
{
    struct loop loop;

    (void)state;
    open_loop(&loop, make_pool(1));
    pool_job_free(pool_map_async(loop.pool, good_at_step, pool_range(3), NULL));
    pool_iter_free(pool_imap(loop.pool, good_at_step, pool_range(3), NULL));
    ledger->open = 3;
    pool_close(loop.pool);
    assert_int_equal(pool_join(loop.pool, PATIENCE), POOL_OK);
    assert_false(is_readable(loop.fd));
    close_loop(&loop);
}

/* ---- With callbacks */

struct gate {
    int        pipe[2];
    atomic_int entered;
};

static void wait_at_pipe(struct pool_job *job, void *arg)
{
    struct gate *gate = arg;
    char byte;

    (void)job;
    gate->entered = 1;
    while (read(gate->pipe[0], &byte, 1) < 0 && errno == EINTR)
        ;
}

static int has_entered(void *gate)
{
    return ((struct gate *)gate)->entered;
}

static void a_job_is_news_once_its_callback_has_returned(void **state)
{
    struct gate gate = {.entered = 0};
    struct loop loop;

    (void)state;
    assert_int_equal(pipe(gate.pipe), 0);
    open_loop(&loop, make_pool(1));
    begin_map(&loop, good, 3, &(struct pool_call){.done = wait_at_pipe, .done_arg = &gate});
    assert_true(check_until(has_entered, &gate, PATIENCE));
    assert_false(is_readable(loop.fd));
    assert_int_equal(write(gate.pipe[1], "", 1), 1);
    run_to_the_end(&loop);
    came(&loop.handles[0], 3);
    close_loop(&loop);
    close(gate.pipe[0]);
    close(gate.pipe[1]);
}

static void ask(struct pool_job *job, void *arg)
{
    atomic_fetch_add((atomic_int *)arg, pool_job_status(job) == POOL_OK && pool_job_wait(job, 0) == POOL_OK);
}

static void what_a_callback_was_told_is_still_news_for_the_loop(void **state)
{
    atomic_int asked = 0;
    struct loop loop;
    int i;

    (void)state;
    open_loop(&loop, make_pool(2));
    for (i = 0; i < 20; i++)
        begin_map(&loop, good, 3, &(struct pool_call){.done = ask, .done_arg = &asked});
    run_to_the_end(&loop);
    assert_int_equal(asked, 20);
    close_loop(&loop);
}

static void free_it(struct pool_job *job, void *arg)
{
    pool_job_free(job);
    atomic_fetch_add((atomic_int *)arg, 1);
}

static void what_a_callback_has_freed_is_no_news(void **state)
{
    atomic_int freed = 0;
    struct loop loop;
    int i;

    (void)state;
    open_loop(&loop, make_pool(2));
    for (i = 0; i < 20; i++)
        assert_non_null(pool_map_async(loop.pool, good, pool_range(3), &(struct pool_call){.done = free_it, .done_arg = &freed}));
    pool_close(loop.pool);
    assert_int_equal(pool_join(loop.pool, PATIENCE), POOL_OK);
    assert_int_equal(freed, 20);
    assert_false(is_readable(loop.fd));
    close_loop(&loop);
}

/* ---- Beside a thread that blocks */

struct blocking {
    struct pool *pool;
    int          wrong;
};

static void *use_blocking_calls(void *arg)
{
    struct blocking *b = arg;
    struct pool_iter *iter;
    struct pool_job *job;
    int i, n;

    for (i = 0; i < 50; i++) {
        b->wrong += pool_map(b->pool, good, pool_range(20), NULL, 0, NULL) != POOL_OK;
        b->wrong += pool_apply(b->pool, good, NULL, 0, NULL, 0, NULL) != POOL_OK;
        iter = pool_imap_unordered(b->pool, good, pool_range(20), NULL);
        for (n = 0; pool_next(iter); n++)
            ;
        pool_iter_free(iter);
        b->wrong += n != 20;
        job = pool_map_async(b->pool, good, pool_range(20), NULL);
        b->wrong += pool_job_wait(job, -1) != POOL_OK;
        pool_job_free(job);
    }
    return NULL;
}

static void beside_a_thread_of_blocking_calls(void **state)
{
    struct blocking blocking = {0};
    struct loop loop;
    pthread_t thread;
    int i, rounds = 0;

    (void)state;
    open_loop(&loop, make_pool(2));
    blocking.pool = loop.pool;
    assert_int_equal(pthread_create(&thread, NULL, use_blocking_calls, &blocking), 0);
    for (rounds = 0; rounds < 50; rounds++) {
        struct counter source = counter(20);

        loop.count = 0;
        memset(loop.handles, 0, sizeof loop.handles);
        begin_map(&loop, good, 20, NULL);
        begin_imap(&loop, good, pool_range(20), NULL);
        begin_unordered(&loop, good, pool_generator(pull, &source), NULL);
        while (loop.open) {
            await_news(&loop);
            take_all(&loop);
        }
        for (i = 0; i < 3; i++)
            came(&loop.handles[i], 20);
        assert_int_equal(source.strangers, 0);
    }
    pthread_join(thread, NULL);
    assert_int_equal(blocking.wrong, 0);
    assert_false(is_readable(loop.fd));
    close_loop(&loop);
}

struct long_call {
    struct pool     *pool;
    struct counter   source;
    enum pool_status status;
};

static void *map_at_gate(void *arg)
{
    struct long_call *c = arg;

    c->status = pool_map(c->pool, first_at_gate, pool_range(1), NULL, 0, NULL);
    return NULL;
}

/* The thread that waits turns the loop for all, and has nothing to do with what comes. */
static void news_comes_while_another_thread_is_deep_in_a_call(void **state)
{
    struct counter source = counter(50);
    struct long_call blocking = {.status = POOL_PENDING};
    struct loop loop;
    pthread_t thread;

    (void)state;
    open_loop(&loop, make_pool(2));
    blocking.pool = loop.pool;
    assert_int_equal(pthread_create(&thread, NULL, map_at_gate, &blocking), 0);
    begin_map(&loop, good, 20, NULL);
    begin_imap(&loop, good, pool_range(20), NULL);
    begin_unordered(&loop, crash_at_2, pool_generator(pull, &source), NULL);
    run_to_the_end(&loop);
    came(&loop.handles[0], 20);
    came(&loop.handles[1], 20);
    assert_int_equal(loop.handles[2].ok, 49);
    ledger->open = 1;
    pthread_join(thread, NULL);
    assert_int_equal(blocking.status, POOL_OK);
    close_loop(&loop);
}

/* ---- Ends */

static void what_is_cancelled_ends_in_the_loop(void **state)
{
    struct counter source = counter(1000000);
    struct loop loop;
    struct handle *job, *iter, *pulled;

    (void)state;
    open_loop(&loop, make_pool(2));
    job = begin_map(&loop, good_at_step, 20, NULL);
    iter = begin_imap(&loop, good_at_step, pool_range(20), NULL);
    pulled = begin_unordered(&loop, good_at_step, pool_generator(pull, &source), NULL);
    await_start(0);
    pool_job_cancel(job->job);
    iter->gaps = 1;
    pool_iter_cancel(iter->iter);
    pool_iter_cancel(pulled->iter);
    run_to_the_end(&loop);
    assert_int_equal(job->end, POOL_CANCELLED);
    assert_int_equal(iter->end, POOL_CANCELLED);
    assert_int_equal(pulled->end, POOL_CANCELLED);
    close_loop(&loop);
}

static void what_is_terminated_ends_in_the_loop(void **state)
{
    struct counter source = counter(1000000);
    struct loop loop;
    int i;

    (void)state;
    open_loop(&loop, make_pool(2));
    begin_map(&loop, good_at_step, 20, NULL);
    begin_imap(&loop, good_at_step, pool_range(20), NULL);
    begin_unordered(&loop, good_at_step, pool_generator(pull, &source), NULL);
    await_start(0);
    pool_terminate(loop.pool);
    run_to_the_end(&loop);
    for (i = 0; i < 3; i++)
        assert_int_equal(loop.handles[i].end, POOL_CANCELLED);
    close_loop(&loop);
}

static void what_was_begun_before_close_ends_in_the_loop(void **state)
{
    struct counter source = counter(500);
    struct loop loop;

    (void)state;
    open_loop(&loop, make_pool(2));
    begin_map(&loop, good, 500, NULL);
    begin_imap(&loop, good, pool_generator(pull, &source), NULL);
    pool_close(loop.pool);
    run_to_the_end(&loop);
    came(&loop.handles[0], 500);
    came(&loop.handles[1], 500);
    assert_int_equal(pool_join(loop.pool, PATIENCE), POOL_OK);
    close_loop(&loop);
}

static void what_breaks_ends_in_the_loop(void **state)
{
    struct counter source = counter(1000000);
    struct pool *pool = pool_create(&(struct pool_options){.workers = 1, .initializer = fail_when_told});
    struct loop loop;

    (void)state;
    assert_non_null(pool);
    open_loop(&loop, pool);
    begin_map(&loop, good_at_step, 20, NULL);
    begin_imap(&loop, good_at_step, pool_range(20), NULL);
    begin_unordered(&loop, good_at_step, pool_generator(pull, &source), NULL);
    await_start(0);
    ledger->fail = 1;
    kill(worker_of(pool, 0), SIGKILL);
    run_to_the_end(&loop);
    assert_int_equal(loop.handles[0].end, POOL_BROKEN);
    assert_int_equal(loop.handles[1].end, POOL_BROKEN);
    assert_int_equal(loop.handles[2].end, POOL_BROKEN);
    close_loop(&loop);
}

/* ---- Bad input */

static void a_serial_pool_has_none(void **state)
{
    struct pool *pool = pool_create(&(struct pool_options){.serial = 1});

    (void)state;
    assert_non_null(pool);
    errno = 0;
    assert_int_equal(pool_fd(pool), -1);
    assert_int_equal(errno, ENOTSUP);
    assert_string_not_equal(pool_error(), "");
    pool_destroy(pool);
}

static void no_pool_has_none(void **state)
{
    (void)state;
    errno = 0;
    assert_int_equal(pool_fd(NULL), -1);
    assert_int_equal(errno, EINVAL);
    assert_string_not_equal(pool_error(), "");
}

static void a_closed_pool_gives_no_new_one(void **state)
{
    struct pool *pool = make_pool(1);

    (void)state;
    pool_close(pool);
    errno = 0;
    assert_int_equal(pool_fd(pool), -1);
    assert_int_equal(errno, ESHUTDOWN);
    pool_destroy(pool);
}

/* ---- libuv: what its own header and library are there for */

#ifdef HAVE_UV

static struct {
    int  (*loop_init)(uv_loop_t *loop);
    int  (*loop_close)(uv_loop_t *loop);
    int  (*run)(uv_loop_t *loop, uv_run_mode mode);
    int  (*poll_init)(uv_loop_t *loop, uv_poll_t *handle, int fd);
    int  (*poll_start)(uv_poll_t *handle, int events, uv_poll_cb callback);
    int  (*timer_init)(uv_loop_t *loop, uv_timer_t *handle);
    int  (*timer_start)(uv_timer_t *handle, uv_timer_cb callback, uint64_t timeout, uint64_t repeat);
    void (*close)(uv_handle_t *handle, uv_close_cb callback);
} uv;

static int expired;

static void on_timer(uv_timer_t *timer)
{
    expired = 1;
    uv.close((uv_handle_t *)timer, NULL);
}

static uv_timer_t uv_deadline;

static void on_readable(uv_poll_t *handle, int status, int events)
{
    struct loop *loop = handle->data;

    (void)status;
    (void)events;
    take_all(loop);
    if (loop->open)
        return;
    uv.close((uv_handle_t *)handle, NULL);
    uv.close((uv_handle_t *)&uv_deadline, NULL);
}

static void find(void *library, const char *name, void *function)
{
    void *symbol = dlsym(library, name);

    assert_non_null(symbol);
    memcpy(function, &symbol, sizeof symbol);
}

static void *open_uv(void)
{
    void *library = dlopen("libuv.so.1", RTLD_NOW);

    if (!library)
        return NULL;
    find(library, "uv_loop_init", &uv.loop_init);
    find(library, "uv_loop_close", &uv.loop_close);
    find(library, "uv_run", &uv.run);
    find(library, "uv_poll_init", &uv.poll_init);
    find(library, "uv_poll_start", &uv.poll_start);
    find(library, "uv_timer_init", &uv.timer_init);
    find(library, "uv_timer_start", &uv.timer_start);
    find(library, "uv_close", &uv.close);
    return library;
}

static void a_libuv_program_drives_it(void **state)
{
    struct counter source = counter(1000);
    void *library = open_uv();
    struct loop loop;
    uv_loop_t uv_loop;
    uv_poll_t poller;
    int i;

    (void)state;
    if (!library) {
        print_message("libuv.so.1 is not there\n");
        skip();
    }
    open_loop(&loop, make_pool(2));
    begin_map(&loop, good, 1000, NULL);
    begin_imap(&loop, good, pool_range(1000), NULL);
    begin_unordered(&loop, good, pool_generator(pull, &source), NULL);
    assert_int_equal(uv.loop_init(&uv_loop), 0);
    assert_int_equal(uv.timer_init(&uv_loop, &uv_deadline), 0);
    assert_int_equal(uv.timer_start(&uv_deadline, on_timer, (uint64_t)(PATIENCE * 1000), 0), 0);
    assert_int_equal(uv.poll_init(&uv_loop, &poller, loop.fd), 0);
    poller.data = &loop;
    assert_int_equal(uv.poll_start(&poller, UV_READABLE, on_readable), 0);
    while (uv.run(&uv_loop, UV_RUN_ONCE) && !expired)
        ;
    assert_false(expired);
    assert_int_equal(uv.loop_close(&uv_loop), 0);
    for (i = 0; i < 3; i++)
        came(&loop.handles[i], 1000);
    assert_false(is_readable(loop.fd));
    close_loop(&loop);
    dlclose(library);
}

#else

static void a_libuv_program_drives_it(void **state)
{
    (void)state;
    print_message("uv.h was not there when this was built\n");
    skip();
}

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(maps_iterators_and_jobs_together_to_the_end),
        STORY(many_rounds_on_one_descriptor),
        STORY(items_that_end_badly_come_like_others),
        STORY(a_generator_in_order_goes_on_after_the_only_workers_crash),
        STORY(a_generator_out_of_order_goes_on_after_the_only_workers_crash),
        STORY(a_generator_goes_on_after_its_only_worker_was_replaced),
        STORY(a_generator_that_fails_ends_like_that),
        STORY(a_new_pool_has_no_news),
        STORY(it_is_the_same_every_time),
        STORY(not_readable_between_results_in_order),
        STORY(not_readable_between_results_out_of_order),
        STORY(not_readable_between_results_of_a_generator),
        STORY(what_the_host_has_no_memory_for_is_news),
        STORY(not_readable_before_a_job_has_ended),
        STORY(not_readable_while_the_next_in_order_is_missing),
        STORY(readable_until_all_was_taken),
        STORY(an_end_that_was_told_is_not_news),
        STORY(what_comes_after_a_failure_that_ended_it_is_not_news),
        STORY(one_of_two_is_news_enough),
        STORY(a_descriptor_made_late_tells_what_was_there),
        STORY(a_descriptor_made_late_tells_an_end_that_nobody_was_told),
        STORY(a_descriptor_made_late_tells_what_comes),
        STORY(a_descriptor_made_late_does_not_tell_ends_again),
        STORY(what_was_freed_has_no_news),
        STORY(what_was_freed_early_never_has_news),
        STORY(a_job_is_news_once_its_callback_has_returned),
        STORY(what_a_callback_was_told_is_still_news_for_the_loop),
        STORY(what_a_callback_has_freed_is_no_news),
        STORY(beside_a_thread_of_blocking_calls),
        STORY(news_comes_while_another_thread_is_deep_in_a_call),
        STORY(what_is_cancelled_ends_in_the_loop),
        STORY(what_is_terminated_ends_in_the_loop),
        STORY(what_was_begun_before_close_ends_in_the_loop),
        STORY(what_breaks_ends_in_the_loop),
        STORY(a_serial_pool_has_none),
        STORY(no_pool_has_none),
        STORY(a_closed_pool_gives_no_new_one),
        STORY(a_libuv_program_drives_it),
    };

    return cmocka_run_group_tests(tests, ledger_setup, ledger_teardown);
}
