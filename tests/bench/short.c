/* The short benchmark: four workloads that say most about a pool, each with 2 workers. Prints "name value unit" a line, the best of the
 * rounds given as argument; short.py does the same with multiprocessing.Pool, and `run` sets them side by side. */
#define _GNU_SOURCE
#include "bench.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SQUARES = 1000000, TRIPS = 20000, STREAM = 200000, LARGE = 64, LARGE_SIZE = 4 << 20 };

static int square(struct pool_task *task)
{
    uint32_t x = *(const uint32_t *)task->in;
    x *= x;
    return pool_return(task, &x, sizeof x);
}

static int echo(struct pool_task *task)
{
    void *out = pool_out(task, task->in_size);
    if (!out)
        return 1;
    memcpy(out, task->in, task->in_size);
    return 0;
}

static double map_squares(struct pool *pool, void *in, void *out)
{
    double start = seconds();
    need(pool_map(pool, square, pool_array(in, SQUARES, 4), out, 4, NULL) == POOL_OK);
    return (seconds() - start) * 1e9 / SQUARES;
}

static double round_trip(struct pool *pool, void *in, void *out)
{
    double start = seconds();
    for (int i = 0; i < TRIPS; i++)
        need(pool_apply(pool, echo, in, 8, out, 8, NULL) == POOL_OK);
    return (seconds() - start) * 1e6 / TRIPS;
}

static double stream(struct pool *pool, void *in, void *out)
{
    (void)out;
    size_t count = 0;
    double start = seconds();
    struct pool_iter *it = pool_imap_unordered(pool, echo, pool_array(in, STREAM, 8), &(struct pool_call){.chunk = 1});
    for (const struct pool_result *r; (r = pool_next(it));)
        count += r->status == POOL_OK && r->size == 8;
    pool_iter_free(it);
    need(count == STREAM);
    return STREAM / (seconds() - start) / 1e3;
}

static double large(struct pool *pool, void *in, void *out)
{
    double start = seconds();
    need(pool_map(pool, echo, pool_array(in, LARGE, LARGE_SIZE), out, LARGE_SIZE, NULL) == POOL_OK);
    return (double)LARGE * LARGE_SIZE / (1 << 30) / (seconds() - start);
}

static double large_in_place(struct pool *pool, void *in, void *out)
{
    (void)out;
    size_t bytes = 0;
    double start = seconds();
    struct pool_iter *it = pool_imap(pool, echo, pool_array(in, LARGE, LARGE_SIZE), NULL);
    for (const struct pool_result *r; (r = pool_next(it));)
        bytes += r->size;
    pool_iter_free(it);
    need(bytes == (size_t)LARGE * LARGE_SIZE);
    return (double)bytes / (1 << 30) / (seconds() - start);
}

static const struct workload {
    const char *name, *unit;
    double (*run)(struct pool *, void *in, void *out);
    int more_is_better;
} workloads[] = {
    {"map-1M-ints", "ns/item", map_squares, 0},
    {"round-trip-8B", "us", round_trip, 0},
    {"stream-8B-chunk-1", "k/s", stream, 1},
    {"map-64x4MiB", "GiB/s", large, 1},
    {"imap-64x4MiB", "GiB/s", large_in_place, 1},
};

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 5;
    size_t size = (size_t)LARGE * LARGE_SIZE;
    unsigned char *in = malloc(size), *out = malloc(size);
    struct pool *pool = pool_create(&(struct pool_options){.workers = 2});
    need(pool && in && out);
    memset(in, 1, size);
    memset(out, 2, size);
    for (size_t i = 0; i < sizeof workloads / sizeof *workloads; i++) {
        const struct workload *w = &workloads[i];
        double best = 0;
        for (int round = 0; round < rounds; round++) {
            double value = w->run(pool, in, out);
            best = !round || (w->more_is_better ? value > best : value < best) ? value : best;
        }
        printf("%s %.4g %s\n", w->name, best, w->unit);
    }
    pool_destroy(pool);
    free(in);
    free(out);
}
