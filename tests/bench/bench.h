/* What the benchmark's C programs share: the clock, the line protocol, a loop that costs CPU time, the list of skewed work.
 *
 * Every program is given names of workloads and prints one line "peer figure value unit" for each figure: the median of a few runs in one
 * process, after a run that is not counted. `run` calls all of them in turn, round by round. */
#ifndef BENCH_H
#define BENCH_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    SQUARES = 1000000,                      /* W1: uint32_t */
    TRIPS = 20000,                          /* W2: 8-byte round trips */
    STREAM = 200000,                        /* W3: 8-byte items */
    LARGE = 64, LARGE_SIZE = 4 << 20,       /* W4 */
    SKEWED = 8192, SKEWED_LONG = 1024,      /* W5 */
};

static inline double seconds_of(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static inline double seconds(void)
{
    return seconds_of(CLOCK_MONOTONIC);
}

static inline int is_quick(void)
{
    return getenv("BENCH_QUICK") != NULL;
}

static inline void report(const char *peer, const char *figure, double value, const char *unit)
{
    printf("%s %s %.6g %s\n", peer, figure, value, unit);
    fflush(stdout);
}

static inline int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static inline double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, by_value);
    return values[count / 2];
}

/* Memory that has been written to, not only in the compiler's mind. */
static inline void *touched(size_t size)
{
    void *memory = malloc(size);
    if (!memory)
        exit(1);
    memset(memory, 1, size);
    __asm__ volatile("" : : "r"(memory) : "memory");
    return memory;
}

/* The median of `runs` (at most 40), after one that warms up. */
static inline double measured(double (*run)(void *), void *arg, int runs)
{
    double values[40];
    run(arg);
    for (int i = 0; i < runs; i++)
        values[i] = run(arg);
    return median(values, runs);
}

struct turn { const char *figure; double (*run)(void *); void *arg; };

/* What is compared with each other (at most 10), by turns (at most 100): where the virtual CPUs lie changes within a second, and that
 * counts for twice. */
static inline void by_turns(const char *peer, const struct turn *turns, int count, int rounds, const char *unit)
{
    static double values[10][100];
    for (int i = 0; i < count; i++)
        turns[i].run(turns[i].arg);
    for (int round = 0; round < rounds; round++)
        for (int i = 0; i < count; i++)
            values[i][round] = turns[i].run(turns[i].arg);
    for (int i = 0; i < count; i++)
        report(peer, turns[i].figure, median(values[i], rounds), unit);
}

/* A chain of multiplications: costs CPU time and nothing else. Never inlined, and aligned: two copies of the loop, one of which lay across
 * a boundary, differed by a tenth, and so did what is timed from what is not. */
__attribute__((noinline, aligned(64), unused)) static void burn(uint64_t loops)
{
    uint64_t x = loops;
    for (; loops; loops--) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        __asm__ volatile("" : "+r"(x));
    }
}

/* How many loops take a microsecond: the runner asks once, so that all peers are given the same work. */
static inline double loops_per_us(void)
{
    const char *text = getenv("BENCH_LOOPS_PER_US");
    return text ? atof(text) : 1000;
}

struct piece { uint32_t loops, timed; };

/* Works one piece. The CPU time it took, where that is asked for: reading that clock costs as much as some pieces, so only a few are. */
static inline double work(const struct piece *piece)
{
    if (!piece->timed) {
        burn(piece->loops);
        return 0;
    }
    double start = seconds_of(CLOCK_THREAD_CPUTIME_ID);
    burn(piece->loops);
    return seconds_of(CLOCK_THREAD_CPUTIME_ID) - start;
}

static inline uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 16;
}

/* The list of W5: 7,168 short pieces of 5 to 35 us, then 1,024 long ones of 100 to 600 us, every eighth of them timed; half a second of
 * work. Shuffled or not. pool.py makes the same. */
static inline void skewed(struct piece *list, int shuffled)
{
    uint32_t state = 1;
    for (uint32_t i = 0; i < SKEWED; i++) {
        int is_long = i >= SKEWED - SKEWED_LONG;
        uint32_t us = is_long ? 100 + next_random(&state) % 501 : 5 + next_random(&state) % 31;
        list[i] = (struct piece){(uint32_t)(us * loops_per_us()), is_long && i % 8 == 0};
    }
    for (uint32_t i = SKEWED - 1; shuffled && i > 0; i--) {
        uint32_t j = next_random(&state) % (i + 1);
        struct piece kept = list[i];
        list[i] = list[j];
        list[j] = kept;
    }
}

/* CPU time of the pieces / (workers * wall); the timed pieces tell what a loop took. */
static inline double efficiency(const struct piece *list, const double *cpu, double wall, int workers)
{
    double all = 0, timed = 0, timed_cpu = 0;
    for (int i = 0; i < SKEWED; i++) {
        all += list[i].loops;
        timed += list[i].timed ? list[i].loops : 0;
        timed_cpu += cpu[i];
    }
    return all * timed_cpu / timed / (workers * wall);
}

#endif
