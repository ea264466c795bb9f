/* What the benchmark's programs share. */
#ifndef BENCH_H
#define BENCH_H

#include <forkpool.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static inline double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static inline void need(int good)
{
    if (good)
        return;
    fprintf(stderr, "bench: %s\n", pool_error());
    exit(1);
}

#endif
