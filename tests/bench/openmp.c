/* The same work by threads that share everything: gcc's OpenMP, two of them, one item at a time (schedule dynamic), and for W1 an even
 * share each (static), which is as little as it can cost. */
#define _GNU_SOURCE
#include "bench.h"

static double squares_static(void *unused)
{
    static uint32_t in[SQUARES], out[SQUARES];
    (void)unused;
    for (uint32_t i = 0; i < SQUARES; i++)
        in[i] = i;
    double begin = seconds();
#pragma omp parallel for schedule(static) num_threads(2)
    for (int i = 0; i < SQUARES; i++)
        out[i] = in[i] * in[i];
    __asm__ volatile("" : : "r"(out) : "memory");
    return (seconds() - begin) * 1e9 / SQUARES;
}

static double squares_dynamic(void *unused)
{
    static uint32_t in[SQUARES], out[SQUARES];
    (void)unused;
    for (uint32_t i = 0; i < SQUARES; i++)
        in[i] = i;
    double begin = seconds();
#pragma omp parallel for schedule(dynamic, 1) num_threads(2)
    for (int i = 0; i < SQUARES; i++)
        out[i] = in[i] * in[i];
    __asm__ volatile("" : : "r"(out) : "memory");
    return (seconds() - begin) * 1e9 / SQUARES;
}

static void small_map(void)
{
    report("openmp", "map-ints", measured(squares_dynamic, NULL, 5), "ns");
    report("openmp-static", "map-ints", measured(squares_static, NULL, 5), "ns");
}

static double stream(void *unused)
{
    static uint64_t in[STREAM], out[STREAM];
    (void)unused;
    double begin = seconds();
#pragma omp parallel for schedule(dynamic, 1) num_threads(2)
    for (int i = 0; i < STREAM; i++)
        out[i] = in[i];
    __asm__ volatile("" : : "r"(out) : "memory");
    return STREAM / (seconds() - begin) / 1e6;
}

static void streams(void)
{
    report("openmp", "stream", measured(stream, NULL, 5), "M/s");
}

struct large { char *in, *out; };

static double copies(void *arg)
{
    struct large *l = arg;
    double begin = seconds();
#pragma omp parallel for schedule(dynamic, 1) num_threads(2)
    for (int i = 0; i < LARGE; i++)
        memcpy(l->out + (size_t)i * LARGE_SIZE, l->in + (size_t)i * LARGE_SIZE, LARGE_SIZE);
    return 0.25 / (seconds() - begin);
}

static void large_items(void)
{
    size_t all = (size_t)LARGE * LARGE_SIZE;
    struct large l = {touched(all), touched(all)};
    report("openmp", "large-map", measured(copies, &l, 5), "GiB/s");
    free(l.in);
    free(l.out);
}

static double skewed_loop(int shuffled)
{
    static struct piece list[SKEWED];
    static double cpu[SKEWED];
    skewed(list, shuffled);
    double begin = seconds();
#pragma omp parallel for schedule(dynamic, 1) num_threads(2)
    for (int i = 0; i < SKEWED; i++)
        cpu[i] = work(&list[i]);
    return efficiency(list, cpu, seconds() - begin, 2);
}

static void skewed_work(void)
{
    skewed_loop(1);
    report("openmp", "long-last-chunk-1", skewed_loop(0), "-");
    report("openmp", "shuffled-chunk-1", skewed_loop(1), "-");
}

static double loop_of(int count, uint64_t loops)
{
    double begin = seconds();
#pragma omp parallel for schedule(dynamic, 1) num_threads(2)
    for (int i = 0; i < count; i++)
        burn(loops);
    return (seconds() - begin) * 1e9 / count;
}

static void costs(void)
{
    for (int us = 1; us <= 1000; us *= 10) {
        char figure[32];
        double values[3];
        loop_of(200000 / us, (uint64_t)(us * loops_per_us()));
        for (int i = 0; i < 3; i++)
            values[i] = loop_of(200000 / us, (uint64_t)(us * loops_per_us()));
        snprintf(figure, sizeof figure, "cost-%dus", us);
        report("openmp", figure, median(values, 3), "ns");
    }
}

int main(int argc, char **argv)
{
    static const struct { const char *name; void (*run)(void); } all[] = {
        {"W1", small_map}, {"W3", streams}, {"W4", large_items}, {"W5", skewed_work}, {"costs", costs},
    };
    for (int i = 1; i < argc; i++)
        for (size_t k = 0; k < sizeof all / sizeof *all; k++)
            if (!strcmp(all[k].name, argv[i]))
                all[k].run();
}
