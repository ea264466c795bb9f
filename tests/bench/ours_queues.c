/* Queues and processes: 8-byte items one way and to and fro, 1 MiB items one way, how long a process takes that does nothing, and a bare
 * fork. queues.py does the same with multiprocessing. */
#define _GNU_SOURCE
#include "ours.h"

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SMALL = 500000, TO_AND_FRO = 50000, MEGABYTES = 500, STARTS = 20, TURNS = 9 };

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

static int answer(void *arg)
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
    return SMALL / one_way(SMALL, 8) / 1e6;
}

static double large(void)
{
    return MEGABYTES / 1024.0 / one_way(MEGABYTES, 1 << 20);
}

static double to_and_fro(void)
{
    struct pair pair = make();
    struct pool_bytes item;
    struct pool_process *child = pool_process_start(answer, &pair);
    need(child != NULL);
    double start = seconds();
    for (int i = 0; i < TO_AND_FRO; i++)
        need(pool_queue_put(pair.there, "12345678", 8, -1) == POOL_OK && pool_queue_get(pair.back, &item, -1) == POOL_OK);
    double took = seconds() - start;
    pool_queue_close(pair.there);
    end(&pair, child);
    return took * 1e6 / TO_AND_FRO;
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
    return (seconds() - start) * 1e3 / STARTS;
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
    return (seconds() - start) * 1e3 / STARTS;
}

/* By turns, after one of each that warms up: whichever came first took half a millisecond more for its first fifty. */
static void processes(void)
{
    double ours[TURNS], bare[TURNS];
    process();
    bare_fork();
    for (int i = 0; i < TURNS; i++) {
        ours[i] = process();
        bare[i] = bare_fork();
    }
    report("forkpool", "process", median(ours, TURNS), "ms");
    report("bare-fork", "process", median(bare, TURNS), "ms");
}

static void queues(void)
{
    report("forkpool", "queue-one-way", small(), "M/s");
    report("forkpool", "queue-to-and-fro", to_and_fro(), "us");
    report("forkpool", "queue-1m-one-way", large(), "GiB/s");
    processes();
}

const struct workload queue_workloads[] = {{"queues", queues}, {NULL, NULL}};
