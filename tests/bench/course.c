/* What asynchronous calls, time limits and recycling cost, with 2 workers: no peer has the same, so these stand alone. Prints lines. */
#define _GNU_SOURCE
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { TRIPS = 20000, FLIGHT = 10000, LIMITS = 50, LIMIT_MS = 50, WORK = 20000 };

static int echo(struct pool_task *task)
{
    return pool_return(task, task->in, task->in_size);
}

/* Works for 100 us. */
static int work(struct pool_task *task)
{
    (void)task;
    for (double end = seconds() + 1e-4; seconds() < end;)
        ;
    return 0;
}

/* Says when it started, and never ends. */
static int stay(struct pool_task *task)
{
    double now = seconds();
    memcpy(*(void *const *)task->common, &now, sizeof now);
    for (volatile int go_on = 1; go_on;)
        ;
    return 0;
}

static double best_of(double (*run)(struct pool *), struct pool *pool)
{
    double best = run(pool);
    for (int i = 0; i < 4; i++) {
        double value = run(pool);
        best = value < best ? value : best;
    }
    return best;
}

static double sync_trips(struct pool *pool)
{
    char in[8] = "1234567", out[8];
    double start = seconds();
    for (int i = 0; i < TRIPS; i++)
        need(pool_apply(pool, echo, in, 8, out, 8, NULL) == POOL_OK);
    return (seconds() - start) * 1e6 / TRIPS;
}

static double async_trips(struct pool *pool)
{
    char in[8] = "1234567";
    double start = seconds();
    for (int i = 0; i < TRIPS; i++) {
        struct pool_job *job = pool_apply_async(pool, echo, in, 8, NULL);
        need(pool_job_wait(job, -1) == POOL_OK);
        pool_job_free(job);
    }
    return (seconds() - start) * 1e6 / TRIPS;
}

static double in_flight(struct pool *pool)
{
    static struct pool_job *jobs[FLIGHT];
    char in[8] = "1234567";
    double start = seconds();
    for (int i = 0; i < FLIGHT; i++)
        need((jobs[i] = pool_apply_async(pool, echo, in, 8, NULL)) != NULL);
    for (int i = 0; i < FLIGHT; i++) {
        need(pool_job_wait(jobs[i], -1) == POOL_OK);
        pool_job_free(jobs[i]);
    }
    return (seconds() - start) * 1e6 / FLIGHT;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* How long after its time limit an item's end is known, in milliseconds. `noted`: memory that workers share. */
static void lateness(struct pool *pool, double *noted)
{
    double late[LIMITS];
    struct pool_call call = {.common = &noted, .common_size = sizeof noted, .timeout = LIMIT_MS / 1e3};
    for (int i = 0; i < LIMITS; i++) {
        need(pool_apply(pool, stay, NULL, 0, NULL, 0, &call) == POOL_TIMED_OUT);
        late[i] = (seconds() - *noted) * 1e3 - LIMIT_MS;
    }
    qsort(late, LIMITS, sizeof *late, by_value);
    printf("%-44s least %.2f  median %.2f  worst %.2f ms\n", "time limit of 50 ms: known so much later", late[0], late[LIMITS / 2],
           late[LIMITS - 1]);
}

static double work_with(size_t max_tasks)
{
    struct pool *pool = pool_create(&(struct pool_options){.workers = 2, .max_tasks = max_tasks});
    need(pool != NULL);
    double start = seconds();
    need(pool_map(pool, work, pool_range(WORK), NULL, 0, NULL) == POOL_OK);
    double spent = seconds() - start;
    pool_destroy(pool);
    return WORK / spent;
}

int main(void)
{
    double *noted = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct pool *pool = pool_create(&(struct pool_options){.workers = 2});
    need(pool && noted != MAP_FAILED);
    printf("%-44s %.2f us\n", "8-byte round trip, pool_apply", best_of(sync_trips, pool));
    printf("%-44s %.2f us\n", "8-byte round trip, pool_apply_async and wait", best_of(async_trips, pool));
    printf("%-44s %.2f us each\n", "10,000 asynchronous calls in flight", best_of(in_flight, pool));
    lateness(pool, noted);
    pool_destroy(pool);
    double all = work_with(0), recycled = work_with(100);
    printf("%-44s %.0f items/s; with max_tasks = 100: %.0f (%.1f %% less)\n", "items of 100 us", all, recycled, 100 * (1 - recycled / all));
}
