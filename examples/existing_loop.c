/* existing_loop: a loop that exists already, out[i] = f(in[i], &params), given to a pool without touching f. The loop's
 * body becomes a task of one line; the parameters, known only after the pool was made, travel once per worker as
 * pool_call.common. Both loops run, and their results agree bit for bit: it is the same f. */
#define _POSIX_C_SOURCE 200809L
#include <forkpool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { COUNT = 20000 };

struct params { double stiffness, hardening, damping, step; int steps; };

/* Where a damped, hardening spring that is let go at x ends up. */
static double f(double x, const struct params *p)
{
    double v = 0;
    for (int i = 0; i < p->steps; i++) {
        v -= (p->stiffness * x + p->hardening * x * x * x + p->damping * v) * p->step;
        x += v * p->step;
    }
    return x;
}

static int f_task(struct pool_task *task)
{
    double y = f(*(const double *)task->in, task->common);
    return pool_return(task, &y, sizeof y);
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static double in[COUNT], before[COUNT], after[COUNT];

int main(int argc, char **argv)
{
    struct pool *pool = pool_create(NULL);
    if (!pool) {
        fprintf(stderr, "existing_loop: %s\n", pool_error());
        return EXIT_FAILURE;
    }

    struct params params = {.stiffness = 1, .hardening = 0.5, .damping = 0.1, .step = 0.001};
    params.steps = argc > 1 ? atoi(argv[1]) : 3000;
    for (size_t i = 0; i < COUNT; i++)
        in[i] = (double)i / COUNT;

    /* Before: */
    double start = seconds();
    for (size_t i = 0; i < COUNT; i++)
        before[i] = f(in[i], &params);
    double loop = seconds() - start;

    /* After: */
    start = seconds();
    struct pool_call call = {.common = &params, .common_size = sizeof params};
    if (pool_map(pool, f_task, pool_array(in, COUNT, sizeof *in), after, sizeof *after, &call) != POOL_OK) {
        fprintf(stderr, "existing_loop: %s\n", pool_error());
        return EXIT_FAILURE;
    }
    double map = seconds() - start;

    int same = memcmp((const void *)before, (const void *)after, sizeof before) == 0;
    printf("%d results %s\n", COUNT, same ? "agree bit for bit" : "DIFFER");
    printf("loop %.3f s, pool_map %.3f s with %u workers\n", loop, map, pool_size(pool));

    pool_destroy(pool);
    return same ? EXIT_SUCCESS : EXIT_FAILURE;
}
