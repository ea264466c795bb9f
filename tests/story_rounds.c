/* Making, using and destroying pools, again and again, leaves nothing: descriptors, children, mappings and memory are the same after
 * as before. FORKPOOL_LONG: 1,000 rounds of each kind, else 200 in all. */
#define _GNU_SOURCE
#include "check.h"
#include "forkpool.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { N = 50, WARM = 5 };

static int rounds(void)
{
    return getenv("FORKPOOL_LONG") ? 1000 : !check_under("") ? 25 : 10;
}

static int count_mappings(void)
{
    FILE *file = fopen("/proc/self/maps", "r");
    int count = 0, c;

    assert_non_null(file);
    while ((c = getc(file)) != EOF)
        count += c == '\n';
    fclose(file);
    return count;
}

static long resident(void)
{
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");

    assert_non_null(file);
    assert_int_equal(fscanf(file, "%*s %ld", &pages), 1);
    fclose(file);
    return pages * sysconf(_SC_PAGESIZE) / 1024;
}

/* ---- Tasks */

static int square(struct pool_task *task)
{
    int x = *(const int *)task->in, y = x * x;

    return pool_return(task, &y, sizeof y);
}

static int die(struct pool_task *task)
{
    (void)task;
    raise(SIGKILL);
    return 0;
}

static int large(struct pool_task *task)
{
    void *out = pool_out(task, 300000);

    if (!out)
        return 1;
    memset(out, 1, 300000);
    return 0;
}

static int say_no(struct pool_worker *worker)
{
    return worker->index == 1 ? pool_init_fail(worker, 5, "not today") : 0;
}

/* ---- Rounds */

static struct pool *make(void)
{
    struct pool *pool = pool_create(&(struct pool_options){.workers = 2});

    assert_non_null(pool);
    return pool;
}

static void nothing_asked(void)
{
    pool_destroy(make());
}

static void mapped(void)
{
    struct pool *pool = make();
    int in[N] = {0}, out[N];

    assert_int_equal(pool_map(pool, square, pool_array(in, N, sizeof *in), out, sizeof *out, NULL), POOL_OK);
    pool_destroy(pool);
}

static void large_results_left_half_way(void)
{
    struct pool *pool = make();
    struct pool_iter *it = pool_imap(pool, large, pool_range(20), NULL);

    assert_non_null(pool_next(it));
    assert_non_null(pool_next(it));
    pool_iter_free(it);
    pool_destroy(pool);
}

static void iterator_outlives_pool(void)
{
    struct pool *pool = make();
    struct pool_iter *it = pool_imap_unordered(pool, large, pool_range(20), NULL);

    assert_non_null(pool_next(it));
    pool_destroy(pool);
    pool_iter_free(it);
}

static void worker_died(void)
{
    struct pool *pool = make();

    assert_int_equal(pool_apply(pool, die, NULL, 0, NULL, 0, NULL), POOL_CRASHED);
    pool_destroy(pool);
}

static void initializer_failed(void)
{
    errno = 0;
    assert_null(pool_create(&(struct pool_options){.workers = 3, .initializer = say_no}));
    assert_int_equal(errno, ECANCELED);
}

static void listed(void)
{
    struct pool *pool = make();
    struct pool_results *results = pool_map_results(pool, large, pool_range(10), NULL);

    assert_int_equal(pool_results_count(results), 10);
    pool_destroy(pool);
    pool_results_free(results);
}

static void serial(void)
{
    struct pool *pool = pool_create(&(struct pool_options){.serial = 1});

    assert_non_null(pool);
    assert_int_equal(pool_map(pool, large, pool_range(10), NULL, 0, NULL), POOL_OK);
    pool_destroy(pool);
}

static void leaves_nothing(void **state)
{
    void (*round)(void) = *(void (**)(void))*state;
    struct check_state before;
    int mappings = 0, now, i;
    long memory = 0;

    for (i = 0; i < WARM + rounds(); i++) {
        if (i == WARM) {
            check_begin(&before);
            resident();
            mappings = count_mappings();
            memory = resident();
        }
        round();
    }
    check_end(&before);
    if (check_under(""))
        return;
    now = count_mappings();
    if (now != mappings)
        fail_msg("%d mappings, %d before", now, mappings);
    if (resident() > memory + 512)
        fail_msg("%ld KiB resident, %ld before", resident(), memory);
}

#define ROUND(name) {#name, leaves_nothing, NULL, NULL, &(void (*[])(void)){name}}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROUND(nothing_asked),
        ROUND(mapped),
        ROUND(large_results_left_half_way),
        ROUND(iterator_outlives_pool),
        ROUND(worker_died),
        ROUND(initializer_failed),
        ROUND(listed),
        ROUND(serial),
    };

    return cmocka_run_group_tests(tests, check_setup, check_teardown);
}
