/* Any number of threads on any number of pools: each call ends with the outcome that it would have alone.
 *
 * ctest: timeout 120 */
#define _GNU_SOURCE
#include "check.h"
#include "clock.h"
#include "forkpool.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PATIENCE 30.0                   /* seconds; only a hang makes it expire */
enum { THREADS = 8, N = 60 };

static struct pool *pool;
static atomic_int wrong;                /* the line of the first that was not so, in any thread */

/* cmocka's asserts are for the main thread only. */
#define NOTE(what)                                              \
    do {                                                        \
        int nothing = 0;                                        \
        if (!(what))                                            \
            atomic_compare_exchange_strong(&wrong, &nothing, __LINE__); \
    } while (0)

/* ---- Tasks: even numbers are squared, 3 fails, 5 kills its worker */

static int square(struct pool_task *task)
{
    int x = *(const int *)task->in, y = x * x;

    return pool_return(task, &y, sizeof y);
}

static int square_or_not(struct pool_task *task)
{
    int x = *(const int *)task->in;

    if (x % N == 3)
        return pool_fail(task, 33, "three");
    if (x % N == 5)
        raise(SIGKILL);
    return square(task);
}

static int is_right(const struct pool_result *r, const int *in)
{
    int x = in[r->index];

    if (x % N == 3)
        return r->status == POOL_FAILED && r->code == 33 && strcmp(r->message, "three") == 0;
    if (x % N == 5)
        return r->status == POOL_CRASHED && r->signal == SIGKILL;
    return r->status == POOL_OK && r->size == sizeof(int) && *(const int *)r->data == x * x;
}

static void count_from(int *in, int first)
{
    int i;

    for (i = 0; i < N; i++)
        in[i] = first + i;
}

/* ---- What a thread does */

static void map(int first)
{
    int in[N], out[N], i;

    count_from(in, first);
    memset(out, 0, sizeof out);
    NOTE(pool_map(pool, square_or_not, pool_array(in, N, sizeof *in), out, sizeof *out, NULL) == POOL_FAILED);
    NOTE(pool_failure() && pool_failure()->index == 3 && pool_failure()->code == 33);
    for (i = 0; i < N; i++)
        NOTE(out[i] == (i == 3 || i == 5 ? 0 : in[i] * in[i]));
}

static void map_results(int first)
{
    struct pool_results *results;
    int in[N];
    size_t i;

    count_from(in, first);
    results = pool_map_results(pool, square_or_not, pool_array(in, N, sizeof *in), NULL);
    NOTE(pool_results_count(results) == N);
    for (i = 0; i < pool_results_count(results); i++)
        NOTE(is_right(pool_results_at(results, i), in));
    pool_results_free(results);
}

static void apply(int first)
{
    int in = first * N, out = 0;

    NOTE(pool_apply(pool, square_or_not, &in, sizeof in, &out, sizeof out, NULL) == POOL_OK && out == in * in);
}

static void imap(int first)
{
    const struct pool_result *r;
    struct pool_iter *it;
    int in[N];
    size_t i;

    count_from(in, first);
    it = pool_imap(pool, square_or_not, pool_array(in, N, sizeof *in), &(struct pool_call){.window = 5});
    for (i = 0; (r = pool_next(it)); i++)
        NOTE(r->index == i && is_right(r, in));
    NOTE(i == N && pool_iter_status(it) == POOL_OK);
    pool_iter_free(it);
}

static void imap_unordered(int first)
{
    const struct pool_result *r;
    struct pool_iter *it;
    char seen[N] = "";
    int in[N], i;

    count_from(in, first);
    it = pool_imap_unordered(pool, square_or_not, pool_array(in, N, sizeof *in), NULL);
    for (i = 0; (r = pool_next(it)); i++)
        NOTE(!seen[r->index]++ && is_right(r, in));
    NOTE(i == N);
    pool_iter_free(it);
}

static void cancel(int first)
{
    const struct pool_result *r;
    struct pool_iter *it;
    int in[N];

    count_from(in, first);
    it = pool_imap(pool, square_or_not, pool_array(in, N, sizeof *in), NULL);
    NOTE(pool_next(it) != NULL);
    pool_iter_cancel(it);
    while ((r = pool_next(it)))
        NOTE(r->status == POOL_CANCELLED || is_right(r, in));
    NOTE(pool_iter_status(it) == POOL_CANCELLED || pool_iter_status(it) == POOL_OK);
    pool_iter_free(it);
}

static void abandon(int first)
{
    struct pool_iter *it;
    int in[N];

    count_from(in, first);
    it = pool_imap_unordered(pool, square_or_not, pool_array(in, N, sizeof *in), NULL);
    NOTE(pool_next_timeout(it, 0.001) || pool_iter_status(it) == POOL_PENDING);
    pool_iter_free(it);
}

struct cursor {
    int at, item;
};

static int count_up(void *cursor, struct pool_bytes *item)
{
    struct cursor *c = cursor;

    c->item = c->at++;
    *item = (struct pool_bytes){&c->item, sizeof c->item};
    return c->at <= N;
}

static void generate(int first)
{
    struct cursor cursor = {0, 0};
    const struct pool_result *r;
    struct pool_iter *it = pool_imap(pool, square, pool_generator(count_up, &cursor), &(struct pool_call){.window = 6});
    int i;

    (void)first;
    for (i = 0; (r = pool_next(it)); i++)
        NOTE(r->status == POOL_OK && *(const int *)r->data == i * i);
    NOTE(i == N);
    pool_iter_free(it);
}

static void (*const deeds[])(int) = {map, apply, imap, imap_unordered, cancel, abandon, map_results, generate};
enum { DEEDS = sizeof deeds / sizeof *deeds };

static void *do_all(void *number)
{
    int rounds = getenv("FORKPOOL_LONG") ? 100 : 3, me = *(int *)number, i;

    for (i = 0; i < rounds * DEEDS; i++)
        deeds[(i + me) % DEEDS](N * me);
    return NULL;
}

static void *do_one(void *deed)
{
    int i;

    for (i = 0; i < 5; i++)
        deeds[*(int *)deed](0);
    return NULL;
}

/* Runs it in THREADS threads, each with a number; nothing may be wrong. */
static void in_threads(void *(*run)(void *), const int *numbers)
{
    pthread_t threads[THREADS];
    int own[THREADS], i;

    atomic_store(&wrong, 0);
    for (i = 0; i < THREADS; i++) {
        own[i] = numbers ? numbers[i] : i;
        assert_int_equal(pthread_create(&threads[i], NULL, run, &own[i]), 0);
    }
    for (i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    if (atomic_load(&wrong))
        fail_msg("line %d", atomic_load(&wrong));
}

static void make(void)
{
    pool = pool_create(&(struct pool_options){.workers = 3});
    assert_non_null(pool);
}

static void eight_threads_do_everything_on_one_pool(void **state)
{
    (void)state;
    make();
    in_threads(do_all, NULL);
    pool_destroy(pool);
}

static void eight_threads_do_the_same(void **state)
{
    int all[THREADS], i;

    make();
    for (i = 0; i < THREADS; i++)
        all[i] = **(int **)state;
    in_threads(do_one, all);
    pool_destroy(pool);
}

/* ---- Pools beside and inside one another */

static void *own_pool(void *number)
{
    struct pool *own = pool_create(&(struct pool_options){.workers = 1 + (unsigned)*(int *)number % 3});
    int in[N], out[N], i;

    NOTE(own != NULL);
    count_from(in, *(int *)number);
    NOTE(pool_map(own, square, pool_array(in, N, sizeof *in), out, sizeof *out, NULL) == POOL_OK);
    for (i = 0; i < N; i++)
        NOTE(out[i] == in[i] * in[i]);
    pool_destroy(own);
    return NULL;
}

static void eight_threads_have_a_pool_each(void **state)
{
    (void)state;
    if (check_under("thread"))
        skip();                         /* its runtime has locks of its own, and forks while other threads may hold them */
    in_threads(own_pool, NULL);
}

static void *come_and_go(void *rounds)
{
    for (int i = 0; i < *(int *)rounds; i++) {
        struct pool *own = pool_create(&(struct pool_options){.workers = 2});
        int three = 3, nine = 0;
        NOTE(own && pool_apply(own, square, &three, sizeof three, &nine, sizeof nine, NULL) == POOL_OK && nine == 9);
        pool_destroy(own);
    }
    return NULL;
}

/* What one thread's nursery inherits of a pool that another one takes down is whole or gone: no nursery dies of it, which libc would say
 * on stderr. */
static void pools_come_and_go_beside_each_other(void **state)
{
    char name[] = "/tmp/forkpool-threads-XXXXXX";
    int rounds[THREADS], said = mkstemp(name), own_stderr = dup(STDERR_FILENO);

    (void)state;
    assert_true(said >= 0 && own_stderr >= 0);
    unlink(name);
    if (check_under("thread")) {
        close(said);
        close(own_stderr);
        skip();
    }
    for (int i = 0; i < THREADS; i++)
        rounds[i] = check_under("") ? 5 : 150;
    dup2(said, STDERR_FILENO);
    in_threads(come_and_go, rounds);
    dup2(own_stderr, STDERR_FILENO);
    close(own_stderr);
    off_t size = lseek(said, 0, SEEK_END);
    close(said);
    assert_int_equal(size, 0);
}

static void two_pools_at_once(void **state)
{
    struct pool *one = pool_create(&(struct pool_options){.workers = 2}), *two = pool_create(&(struct pool_options){.workers = 2});
    struct pool_iter *a, *b;
    int in[N], i;

    (void)state;
    assert_non_null(one);
    assert_non_null(two);
    count_from(in, 0);
    a = pool_imap(one, square, pool_array(in, N, sizeof *in), NULL);
    b = pool_imap(two, square, pool_array(in, N, sizeof *in), NULL);
    for (i = 0; i < N; i++) {
        assert_int_equal(*(const int *)pool_next(a)->data, i * i);
        assert_int_equal(*(const int *)pool_next(b)->data, i * i);
    }
    pool_iter_free(a);
    pool_destroy(one);
    assert_null(pool_next(b));
    pool_iter_free(b);
    pool_destroy(two);
}

static int nest(struct pool_task *task)
{
    struct pool *inner = pool_create(&(struct pool_options){.workers = 2});
    int in[N], out[N], sum = 0, i;

    if (!inner)
        return pool_fail(task, 1, "%s", pool_error());
    count_from(in, 0);
    if (pool_map(inner, square, pool_array(in, N, sizeof *in), out, sizeof *out, NULL))
        return pool_fail(task, 2, "%s", pool_error());
    for (i = 0; i < N; i++)
        sum += out[i];
    if (task->index % 2)
        pool_destroy(inner);            /* the others are left to the end of their worker */
    return pool_return(task, &sum, sizeof sum);
}

static void a_task_may_have_a_pool_of_its_own(void **state)
{
    int out[6], i;

    (void)state;
    make();
    assert_int_equal(pool_map(pool, nest, pool_range(6), out, sizeof *out, NULL), POOL_OK);
    for (i = 0; i < 6; i++)
        assert_int_equal(out[i], (N - 1) * N * (2 * N - 1) / 6);
    pool_destroy(pool);
}

static int use_outer(struct pool_task *task)
{
    struct pool *outer = *(struct pool *const *)task->in;
    int in = 3, out = 0;

    return pool_apply(outer, square, &in, sizeof in, &out, sizeof out, NULL) == POOL_INVALID && strlen(pool_error()) > 20 ? 0 : 1;
}

static void a_task_is_refused_the_pool_that_runs_it(void **state)
{
    (void)state;
    make();
    assert_int_equal(pool_map(pool, use_outer, pool_array(&pool, 1, sizeof pool), NULL, 0, NULL), POOL_OK);
    pool_destroy(pool);
}

/* ---- Destroyed while others are inside */

static atomic_int *begun;               /* tasks; in shared memory */

static int linger(struct pool_task *task)
{
    (void)task;
    atomic_fetch_add(begun, 1);
    while (pause())                     /* it always fails */
        ;
    return 0;
}

static void *wait_in_map(void *unused)
{
    (void)unused;
    NOTE(pool_map(pool, linger, pool_range(10), NULL, 0, NULL) == POOL_CANCELLED);
    NOTE(strlen(pool_error()) > 10);
    return NULL;
}

static void *wait_in_apply(void *unused)
{
    (void)unused;
    NOTE(pool_apply(pool, linger, NULL, 0, NULL, 0, NULL) == POOL_CANCELLED);
    return NULL;
}

static void *wait_in_map_results(void *unused)
{
    struct pool_results *results = pool_map_results(pool, linger, pool_range(10), NULL);
    size_t i;

    (void)unused;
    NOTE(pool_results_count(results) == 10 && pool_results_status(results) == POOL_CANCELLED);
    for (i = 0; i < pool_results_count(results); i++)
        NOTE(pool_results_at(results, i)->status == POOL_CANCELLED);
    pool_results_free(results);
    return NULL;
}

static void *wait_in_next(void *iter)
{
    const struct pool_result *r;

    while ((r = pool_next(iter)))
        NOTE(r->status == POOL_CANCELLED);
    NOTE(pool_iter_status(iter) == POOL_CANCELLED);
    return NULL;
}

static int three_begun(void *unused)
{
    (void)unused;
    return atomic_load(begun) >= 3;
}

/* The callers' calls are in the pool once their tasks run; that the rest of them is inside as well nobody can tell, so each of
 * those may be refused instead, unless there is but one. */
static void destroyed_while_in(void *(*wait)(void *), int iterates)
{
    struct pool_iter *it = NULL;
    pthread_t thread;

    make();
    atomic_store(&wrong, 0);
    atomic_store(begun, 0);
    if (iterates)
        it = pool_imap(pool, linger, pool_range(10), NULL);
    assert_int_equal(pthread_create(&thread, NULL, wait, it), 0);
    assert_true(check_until(three_begun, NULL, PATIENCE));
    pool_destroy(pool);
    assert_int_equal(pthread_join(thread, NULL), 0);
    pool_iter_free(it);
    assert_int_equal(atomic_load(&wrong), 0);
}

static void destroyed_while_in_map(void **state)
{
    (void)state;
    destroyed_while_in(wait_in_map, 0);
}

static void destroyed_while_in_map_results(void **state)
{
    (void)state;
    destroyed_while_in(wait_in_map_results, 0);
}

static void destroyed_while_in_next(void **state)
{
    (void)state;
    destroyed_while_in(wait_in_next, 1);
}

static void destroyed_while_three_are_in_apply(void **state)
{
    pthread_t threads[3];
    int i;

    (void)state;
    make();
    atomic_store(&wrong, 0);
    atomic_store(begun, 0);
    for (i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, wait_in_apply, NULL), 0);
    assert_true(check_until(three_begun, NULL, PATIENCE));
    pool_destroy(pool);
    for (i = 0; i < 3; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(atomic_load(&wrong), 0);
}

/* ---- Handles that outlive their pool */

static void an_iterator_outlives_its_pool(void **state)
{
    const struct pool_result *r;
    size_t last = 0;
    struct pool_iter *it;
    int in[N], i;

    (void)state;
    make();
    count_from(in, 0);
    it = pool_imap(pool, square, pool_array(in, N, sizeof *in), NULL);
    assert_non_null(pool_next(it));
    pool_destroy(pool);
    for (i = 1; (r = pool_next(it)); i++) {
        assert_true(r->index > last);           /* in order; what had not started is left out */
        last = r->index;
        if (r->status == POOL_OK)
            assert_int_equal(*(const int *)r->data, last * last);
        else
            assert_int_equal(r->status, POOL_CANCELLED);
    }
    assert_true(pool_iter_status(it) == POOL_CANCELLED || i == N);
    pool_iter_cancel(it);
    pool_iter_free(it);
}

static int fill(struct pool_task *task)
{
    enum { SIZE = 200000 };
    char *out = pool_out(task, SIZE);

    if (!out)
        return 1;
    memset(out, 'a' + (int)task->index, SIZE);
    return 0;
}

static void a_large_result_outlives_its_pool(void **state)
{
    const struct pool_result *r;
    struct pool_iter *it;

    (void)state;
    make();
    it = pool_imap(pool, fill, pool_range(20), NULL);
    r = pool_next(it);
    assert_non_null(r);
    pool_destroy(pool);
    assert_int_equal(r->size, 200000);
    assert_int_equal(((const char *)r->data)[0], 'a');
    assert_int_equal(((const char *)r->data)[199999], 'a');
    while ((r = pool_next(it)))
        assert_true(r->status == POOL_CANCELLED || ((const char *)r->data)[199999] == 'a' + (int)r->index);
    pool_iter_free(it);
}

static void a_list_outlives_its_pool(void **state)
{
    struct pool_results *results;
    int in[N];

    (void)state;
    make();
    count_from(in, 0);
    results = pool_map_results(pool, square, pool_array(in, N, sizeof *in), NULL);
    pool_destroy(pool);
    assert_int_equal(*(const int *)pool_results_at(results, 9)->data, 81);
    pool_results_free(results);
}

static int setup(void **state)
{
    begun = mmap(NULL, sizeof *begun, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(begun != MAP_FAILED);
    return check_setup(state);
}

#define ALL_DO(name, number) {"eight_threads_in_" name, eight_threads_do_the_same, NULL, NULL, &(int){number}}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ALL_DO("map", 0), ALL_DO("apply", 1), ALL_DO("imap", 2), ALL_DO("imap_unordered", 3),
        ALL_DO("cancel", 4), ALL_DO("free", 5), ALL_DO("map_results", 6), ALL_DO("generators", 7),
        cmocka_unit_test(eight_threads_do_everything_on_one_pool),
        cmocka_unit_test(eight_threads_have_a_pool_each),
        cmocka_unit_test(pools_come_and_go_beside_each_other),
        cmocka_unit_test(two_pools_at_once),
        cmocka_unit_test(a_task_may_have_a_pool_of_its_own),
        cmocka_unit_test(a_task_is_refused_the_pool_that_runs_it),
        cmocka_unit_test(destroyed_while_in_map),
        cmocka_unit_test(destroyed_while_in_map_results),
        cmocka_unit_test(destroyed_while_in_next),
        cmocka_unit_test(destroyed_while_three_are_in_apply),
        cmocka_unit_test(an_iterator_outlives_its_pool),
        cmocka_unit_test(a_large_result_outlives_its_pool),
        cmocka_unit_test(a_list_outlives_its_pool),
    };

    return cmocka_run_group_tests(tests, setup, check_teardown);
}
