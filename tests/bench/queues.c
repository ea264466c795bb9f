/* Queues and processes: queues.py does the same with multiprocessing. Prints "name value unit" a line, the best of the rounds given as
 * argument: 8-byte items one way and to and fro, 1 MiB items one way, and how long a process takes that does nothing, and a bare fork. */
#define _GNU_SOURCE
#include "bench.h"

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SMALL = 500000, TRIPS = 50000, LARGE = 500, LARGE_SIZE = 1 << 20, STARTS = 50 };

struct pair { struct pool_queue *there, *back; };

static struct pair make(void)
{
    struct pair pair = {pool_queue_create(0), pool_queue_create(0)};
    need(pair.there && pair.back);
    return pair;
}

static void end(struct pair *pair, struct pool_process *child)
{
    need(pool_process_join(child, -1) == POOL_OK && pool_process_exitcode(child) == 0);
    pool_process_free(child);
    pool_queue_free(pair->there);
    pool_queue_free(pair->back);
}

/* Takes all there is, and says so. */
static int sink(void *arg)
{
    struct pair *pair = arg;
    struct pool_bytes item;
    size_t bytes = 0;
    pool_queue_close(pair->there);
    while (pool_queue_get(pair->there, &item, -1) == POOL_OK)
        bytes += item.size;
    return pool_queue_put(pair->back, &bytes, sizeof bytes, -1) != POOL_OK;
}

static int echo(void *arg)
{
    struct pair *pair = arg;
    struct pool_bytes item;
    pool_queue_close(pair->there);
    while (pool_queue_get(pair->there, &item, -1) == POOL_OK)
        need(pool_queue_put(pair->back, item.data, item.size, -1) == POOL_OK);
    return 0;
}

static double one_way(size_t count, size_t size)
{
    struct pair pair = make();
    struct pool_bytes item;
    char *data = malloc(size);
    need(data != NULL);
    memset(data, 1, size);
    struct pool_process *child = pool_process_start(sink, &pair);
    need(child != NULL);
    double start = seconds();
    for (size_t i = 0; i < count; i++)
        need(pool_queue_put(pair.there, data, size, -1) == POOL_OK);
    pool_queue_close(pair.there);
    need(pool_queue_get(pair.back, &item, -1) == POOL_OK && *(const size_t *)item.data == count * size);
    double took = seconds() - start;
    free(data);
    end(&pair, child);
    return took;
}

static double small(void)
{
    return SMALL / one_way(SMALL, 8) / 1e3;
}

static double large(void)
{
    return (double)LARGE * LARGE_SIZE / (1 << 30) / one_way(LARGE, LARGE_SIZE);
}

static double to_and_fro(void)
{
    struct pair pair = make();
    struct pool_bytes item;
    struct pool_process *child = pool_process_start(echo, &pair);
    need(child != NULL);
    double start = seconds();
    for (int i = 0; i < TRIPS; i++)
        need(pool_queue_put(pair.there, "12345678", 8, -1) == POOL_OK && pool_queue_get(pair.back, &item, -1) == POOL_OK);
    double took = seconds() - start;
    pool_queue_close(pair.there);
    end(&pair, child);
    return took * 1e6 / TRIPS;
}

static int nothing(void *arg)
{
    (void)arg;
    return 0;
}

static double process(void)
{
    double start = seconds();
    for (int i = 0; i < STARTS; i++) {
        struct pool_process *child = pool_process_start(nothing, NULL);
        need(child && pool_process_join(child, -1) == POOL_OK);
        pool_process_free(child);
    }
    return (seconds() - start) * 1e6 / STARTS;
}

static double bare_fork(void)
{
    double start = seconds();
    for (int i = 0; i < STARTS; i++) {
        pid_t pid = fork();
        if (pid == 0)
            _exit(0);
        need(pid > 0 && waitpid(pid, NULL, 0) == pid);
    }
    return (seconds() - start) * 1e6 / STARTS;
}

static const struct workload {
    const char *name, *unit;
    double (*run)(void);
    int more_is_better;
} workloads[] = {
    {"queue-8B-one-way", "k/s", small, 1},
    {"queue-8B-to-and-fro", "us", to_and_fro, 0},
    {"queue-1MiB-one-way", "GiB/s", large, 1},
    {"process-start-join", "us", process, 0},
    {"bare-fork-wait", "us", bare_fork, 0},
};
enum { WORKLOADS = sizeof workloads / sizeof *workloads };

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 3;
    double best[WORKLOADS];
    for (int round = 0; round < rounds; round++)
        for (int i = 0; i < WORKLOADS; i++) {
            double value = workloads[i].run();
            if (!round || (workloads[i].more_is_better ? value > best[i] : value < best[i]))
                best[i] = value;
        }
    for (int i = 0; i < WORKLOADS && rounds > 0; i++)
        printf("%s %.4g %s\n", workloads[i].name, best[i], workloads[i].unit);
    return 0;
}
