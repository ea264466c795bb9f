/* The way into sleep, step by step: news that comes after the last look before a sleeper has said that it sleeps is found by the look after
 * it. Whoever brings it here acts between the two, so that nothing is left to chance. A lost wake-up is a hang: the alarm ends the test. */
#define _GNU_SOURCE
#include "check.h"

#include "clock.h"
#include "cpu_place.h"
#include "pool.h"
#include "worker_result.h"

#include <forkpool.h>

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- A worker on its way into sleep, and the test as its caller */

static struct worker worker;
static int looks, came;

static int news_after_first_look(struct worker *w)
{
    int found = came;
    if (++looks == 1) {
        came = 1;                       /* published; and now the caller looks whether the worker sleeps */
        assert_int_equal(channel_must_wake_worker(w->channel.desk), 0);
    }
    return found;
}

static int pipe_ends[2];

static int open_worker(void **state)
{
    struct desk *desk = aligned_alloc(64, 4096);
    (void)state;
    assert_non_null(desk);
    assert_int_equal(fd_pipe(pipe_ends, 0), 0);
    memset(desk, 0, 4096);
    worker = (struct worker){.task_pipe = pipe_ends[0], .result_pipe = pipe_ends[1], .spin.off = 1};
    assert_int_equal(fd_identify(pipe_ends[0], &worker.task_identity), 0);
    worker.channel.desk = desk;
    channel_reset(&worker.channel, CHANNEL_LANE_ALL);
    looks = came = 0;
    return 0;
}

static int close_worker(void **state)
{
    (void)state;
    fd_close(&pipe_ends[0]);
    fd_close(&pipe_ends[1]);
    free(worker.channel.desk);
    return 0;
}

static void worker_looks_again_before_it_sleeps(void **state)
{
    (void)state;
    alarm(20);
    worker_wait(&worker, news_after_first_look);
    alarm(0);
    assert_int_equal(looks, 3);                 /* before it said so, after it, and as the loop ends */
    assert_int_equal(atomic_load(&worker.channel.desk->worker_state), CHANNEL_AWAKE);
}

/* In a hasty span nobody need wake it: what its caller's look for a sleeper has missed it finds by itself, the first time soon. */
static int news_after_ten_looks(struct worker *w)
{
    (void)w;
    return ++looks >= 10;
}

static void worker_looks_again_while_it_sleeps_in_a_hasty_span(void **state)
{
    (void)state;
    struct task_span span = {.hasty = 1};
    worker.span = &span;
    alarm(20);
    worker_wait(&worker, news_after_ten_looks);
    alarm(0);
    assert_int_equal(atomic_load(&worker.channel.desk->worker_state), CHANNEL_AWAKE);
}

/* Its caller's word that there is no haste any more is taken as soon as it looks: then it sleeps until it is woken. */
static int news_once_woken(struct worker *w)
{
    struct task_span *span = (struct task_span *)(uintptr_t)w->span;
    if (++looks == 4) {
        atomic_store(&span->hasty, 0);
        assert_int_equal(channel_must_wake_worker(w->channel.desk), 1);
        assert_int_equal(fd_wake(pipe_ends[1]), 0);
    }
    return looks >= 5;
}

static void worker_is_woken_as_the_haste_ends(void **state)
{
    (void)state;
    struct task_span span = {.hasty = 1};
    worker.span = &span;
    alarm(20);
    worker_wait(&worker, news_once_woken);
    alarm(0);
    assert_int_equal(looks, 5);
}

/* ---- A worker's first spin */

static int yields;

/* In place of libc's: for the library, which is linked into this program, too. */
int sched_yield(void)
{
    yields++;
    return 0;
}

static int news_once_others_ran(struct worker *w)
{
    (void)w;
    return yields > 0;
}

static int news_after_three_looks(struct worker *w)
{
    (void)w;
    return ++looks >= 3;
}

/* What it waits for may need this very CPU. Later spins do not give it away. */
static void the_first_spin_lets_others_run(void **state)
{
    (void)state;
    yields = 0;
    worker.spin = (struct spin){.time = (int64_t)3600 * 1000000000};
    alarm(20);
    worker_wait(&worker, news_once_others_ran);
    assert_int_equal(yields, 1);
    worker_wait(&worker, news_after_three_looks);
    alarm(0);
    assert_int_equal(yields, 1);
    assert_int_equal(worker.spin.time, 0);
}

static void it_is_the_first_though_it_was_left_out(void **state)
{
    (void)state;
    yields = 0;
    worker.spin = (struct spin){.time = (int64_t)3600 * 1000000000};
    atomic_store(&worker.channel.desk->crowded, 1);
    alarm(20);
    worker_wait(&worker, news_after_first_look);
    atomic_store(&worker.channel.desk->crowded, 0);
    looks = 0;
    worker_wait(&worker, news_after_three_looks);
    alarm(0);
    assert_int_equal(yields, 0);
}

static void workers_spin_so_where_each_has_a_cpu(void **state)
{
    (void)state;
    for (unsigned more = 0; more <= 1; more++) {
        struct pool *pool = pool_create(&(struct pool_options){.workers = cpu_affinity() + more});
        assert_non_null(pool);
        assert_int_equal(pool->sched.crew.plan.first_spin != 0, !more);
        pool_destroy(pool);
    }
}

/* ---- A caller's spin */

static int take_longer_than_a_spin(struct pool_task *task)
{
    (void)task;
    return usleep(2000);
}

static int a_spin_has_failed(void *pool)
{
    assert_int_equal(pool_apply(pool, take_longer_than_a_spin, NULL, 0, NULL, 0, NULL), POOL_OK);
    return ((struct pool *)pool)->sched.spin.doubt != 0;
}

/* As if one were still on its way. */
static void callers_do_not_spin_before_all_workers_are_there(void **state)
{
    (void)state;
    struct pool *pool = pool_create(&(struct pool_options){.workers = 2});
    assert_non_null(pool);
    struct sched *s = &pool->sched;
    if (s->spin.off) {
        pool_destroy(pool);
        skip();
    }
    sched_enter(s);
    s->crew.alive++;
    s->complete = 0;
    s->spin.doubt = 0;
    sched_leave(s);
    for (int i = 0; i < 5; i++)
        assert_false(a_spin_has_failed(pool));
    sched_enter(s);
    s->crew.alive--;
    sched_leave(s);
    assert_true(check_until(a_spin_has_failed, pool, 20));
    pool_destroy(pool);
}

/* ---- A caller on its way into sleep, and a real worker that finishes its item just then */

static _Atomic int *go;

static int wait_for_go(struct pool_task *task)
{
    (void)task;
    while (!atomic_load(go))
        ;
    return 0;
}

struct moment { struct pool *pool; struct job *job; int calls, act_at; };

static int has_finished(void *desk)
{
    return !claim_load(&((struct desk *)desk)->claim).running;
}

static int ready(void *arg)
{
    struct moment *m = arg;
    int found = cells_front(&m->job->cells) != NULL;
    if (++m->calls == m->act_at) {
        atomic_store(go, 1);
        assert_true(check_until(has_finished, m->pool->sched.crew.workers[0].books.channel.desk, 20));
    }
    return found;
}

static int has_begun(void *desk)
{
    struct claim now = claim_load(&((struct desk *)desk)->claim);
    return now.running && now.front == now.back;
}

static void finish_at(int call)
{
    struct pool *pool = pool_create(&(struct pool_options){.workers = 1, .no_spin = 1});
    assert_non_null(pool);
    atomic_store(go, 0);
    struct pool_iter *it = pool_imap(pool, wait_for_go, pool_range(1), NULL);
    assert_non_null(it);
    assert_true(check_until(has_begun, pool->sched.crew.workers[0].books.channel.desk, 20));
    struct moment moment = {pool, (struct job *)(void *)it, 0, call};
    struct sched *s = &pool->sched;
    sched_enter(s);
    sched_turn(s, NULL);
    alarm(20);
    assert_true(sched_wait(s, ready, &moment, &s->waiter, NULL, CLOCK_NEVER));
    alarm(0);
    sched_leave(s);
    assert_true(moment.calls >= call);
    assert_int_equal(pool_next(it)->status, POOL_OK);
    pool_iter_free(it);
    pool_destroy(pool);
}

static void caller_looks_again_before_it_sleeps(void **state)
{
    (void)state;
    for (int call = 1; call <= 3; call++)       /* the loop asks several times before it sleeps: whenever it is */
        finish_at(call);
}

int main(void)
{
    go = mmap(NULL, sizeof *go, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(worker_looks_again_before_it_sleeps, open_worker, close_worker),
        cmocka_unit_test_setup_teardown(worker_looks_again_while_it_sleeps_in_a_hasty_span, open_worker, close_worker),
        cmocka_unit_test_setup_teardown(worker_is_woken_as_the_haste_ends, open_worker, close_worker),
        cmocka_unit_test_setup_teardown(the_first_spin_lets_others_run, open_worker, close_worker),
        cmocka_unit_test_setup_teardown(it_is_the_first_though_it_was_left_out, open_worker, close_worker),
        cmocka_unit_test(workers_spin_so_where_each_has_a_cpu),
        cmocka_unit_test(callers_do_not_spin_before_all_workers_are_there),
        cmocka_unit_test(caller_looks_again_before_it_sleeps),
    };
    return go == MAP_FAILED ? 1 : cmocka_run_group_tests(tests, check_setup, check_teardown);
}
