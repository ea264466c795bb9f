/* What is measured without a bar: items that cost something, many threads at one pool, asynchronous calls, a large common context, the
 * first item after a rest, time limits, workers that are replaced after some items. */
#define _GNU_SOURCE
#include "ours.h"

#include <pthread.h>
#include <sys/mman.h>

/* ---- Items that cost something ------------------------------------------------------------------------------------ */

static int burn_item(struct pool_task *task)
{
    burn(*(const uint64_t *)task->common);
    return 0;
}

static void costs(void)
{
    struct pool *pool = start(2, 0);
    for (unsigned us = 1; us <= 1000; us *= 10) {
        char figure[32];
        double values[3];
        uint64_t loops = (uint64_t)(us * loops_per_us());
        size_t count = 200000 / us;
        struct pool_call call = {.common = &loops, .common_size = sizeof loops};
        need(pool_map(pool, burn_item, pool_range(count), NULL, 0, &call) == POOL_OK);
        for (int i = 0; i < 3; i++) {
            double begin = seconds();
            need(pool_map(pool, burn_item, pool_range(count), NULL, 0, &call) == POOL_OK);
            values[i] = (seconds() - begin) * 1e9 / (double)count;
        }
        snprintf(figure, sizeof figure, "cost-%uus", us);
        report("forkpool", figure, median(values, 3), "ns");
    }
    pool_destroy(pool);
}

/* ---- Eight threads, one pool ------------------------------------------------------------------------------------- */

enum { THREADS = 8, TRIPS_EACH = 2500 };

static void *some_trips(void *pool)
{
    round_trips(pool, TRIPS_EACH);
    return NULL;
}

static double shared_trips(void *pool)
{
    pthread_t threads[THREADS];
    double begin = seconds();
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, some_trips, pool) != 0)
            exit(1);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    return (seconds() - begin) * 1e6 / (THREADS * TRIPS_EACH);
}

static void threads(void)
{
    struct pool *pool = start(2, 0);
    report("forkpool", "threads-8", measured(shared_trips, pool, 3), "us");
    pool_destroy(pool);
}

/* ---- Asynchronous calls ------------------------------------------------------------------------------------------- */

enum { ASYNC_TRIPS = 10000, FLIGHT = 10000 };

static double async_trips(void *pool)
{
    double begin = seconds();
    for (int i = 0; i < ASYNC_TRIPS; i++) {
        struct pool_job *job = pool_apply_async(pool, echo, "1234567", 8, NULL);
        need(pool_job_wait(job, -1) == POOL_OK);
        pool_job_free(job);
    }
    return (seconds() - begin) * 1e6 / ASYNC_TRIPS;
}

static double in_flight(void *pool)
{
    static struct pool_job *jobs[FLIGHT];
    double begin = seconds();
    for (int i = 0; i < FLIGHT; i++)
        need((jobs[i] = pool_apply_async(pool, echo, "1234567", 8, NULL)) != NULL);
    for (int i = 0; i < FLIGHT; i++) {
        need(pool_job_wait(jobs[i], -1) == POOL_OK);
        pool_job_free(jobs[i]);
    }
    return (seconds() - begin) * 1e6 / FLIGHT;
}

static void async(void)
{
    struct pool *pool = start(2, 0);
    report("forkpool", "async-trip", measured(async_trips, pool, 3), "us");
    report("forkpool", "async-in-flight", measured(in_flight, pool, 3), "us");
    pool_destroy(pool);
}

/* ---- A common context of 64 MiB ----------------------------------------------------------------------------------- */

enum { CONTEXT = 64 << 20 };

static int look(struct pool_task *task)
{
    return ((const char *)task->common)[task->common_size - 1] != 1;
}

struct context { struct pool *pool; void *bytes; };

static double with_context(void *arg)
{
    struct context *c = arg;
    struct pool_call call = {.common = c->bytes, .common_size = CONTEXT};
    double begin = seconds();
    need(pool_map(c->pool, look, pool_range(1000), NULL, 0, &call) == POOL_OK);
    return (seconds() - begin) * 1e3;
}

static void common(void)
{
    struct context c = {start(2, 0), touched(CONTEXT)};
    report("forkpool", "common-64MiB", measured(with_context, &c, 3), "ms");
    pool_destroy(c.pool);
    free(c.bytes);
}

/* ---- The first item after a rest ---------------------------------------------------------------------------------- */

static void first_after(unsigned seconds_of_rest, const char *figure)
{
    struct pool *pool = start(2, 0);
    round_trips(pool, 1000);
    nanosleep(&(struct timespec){.tv_sec = (time_t)seconds_of_rest}, NULL);
    report("forkpool", figure, round_trips(pool, 1), "us");
    pool_destroy(pool);
}

static void after_a_second(void)
{
    first_after(1, "first-after-1s");
}

static void after_a_minute(void)
{
    first_after(60, "first-after-60s");
}

/* ---- Time limits and replacement in order -------------------------------------------------------------------------- */

enum { LIMITS = 50, LIMIT_MS = 50, WORK = 10000 };

/* Says when it started, and never ends. */
static int stay(struct pool_task *task)
{
    double now = seconds();
    memcpy(*(void *const *)task->common, &now, sizeof now);
    for (volatile int go_on = 1; go_on;)
        burn(1000);
    return 0;
}

/* How long after its time limit an item's end is known. */
static void time_limits(void)
{
    double late[LIMITS], *noted = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct pool *pool = start(2, 0);
    struct pool_call call = {.common = &noted, .common_size = sizeof noted, .timeout = LIMIT_MS / 1e3};
    need(noted != MAP_FAILED);
    int count = is_quick() ? 10 : LIMITS;
    for (int i = 0; i < count; i++) {
        need(pool_apply(pool, stay, NULL, 0, NULL, 0, &call) == POOL_TIMED_OUT);
        late[i] = (seconds() - *noted) * 1e3 - LIMIT_MS;
    }
    double middle = median(late, count);
    report("forkpool", "late-median", middle, "ms");
    report("forkpool", "late-worst", late[count - 1], "ms");
    pool_destroy(pool);
    munmap(noted, 4096);
}

static double recycled(size_t max_tasks)
{
    uint64_t loops = (uint64_t)(100 * loops_per_us());
    struct pool_call call = {.common = &loops, .common_size = sizeof loops};
    struct pool *pool = pool_create(&(struct pool_options){.workers = 2, .max_tasks = max_tasks});
    need(pool != NULL);
    double begin = seconds();
    need(pool_map(pool, burn_item, pool_range(WORK), NULL, 0, &call) == POOL_OK);
    double spent = seconds() - begin;
    pool_destroy(pool);
    return spent * 1e6 / WORK;
}

static void recycling(void)
{
    report("forkpool", "recycled-100us", recycled(100), "us");
    report("no-max_tasks", "recycled-100us", recycled(0), "us");
}

const struct workload more_workloads[] = {
    {"costs", costs}, {"threads", threads}, {"async", async}, {"common", common}, {"rest-1s", after_a_second}, {"rest-60s", after_a_minute},
    {"limits", time_limits}, {"recycling", recycling}, {NULL, NULL},
};
