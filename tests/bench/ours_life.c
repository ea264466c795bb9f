/* The workloads about a pool's life and what it costs: W6 (from creation to destruction), W8 (replacement), W9 (growth), W10 (CPU time, and
 * rest). */
#define _GNU_SOURCE
#include "ours.h"

#include <dirent.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

static int nothing(struct pool_task *task)
{
    (void)task;
    return 0;
}

/* ---- W6 -------------------------------------------------------------------------------------------------------- */

enum { LIVES = 40 };                    /* as many as of CPython's: some take twice as long as others */

static double one_life(void *unused)
{
    (void)unused;
    double begin = seconds();
    struct pool *pool = start(2, 0);
    for (int i = 0; i < 2; i++)
        need(pool_apply(pool, nothing, NULL, 0, NULL, 0, NULL) == POOL_OK);
    pool_destroy(pool);
    return (seconds() - begin) * 1e3;
}

static void live(const void *arg)
{
    const size_t *size = arg;
    char *memory = *size ? touched(*size) : NULL;
    report("forkpool", *size ? "create-1GiB" : "create", measured(one_life, NULL, *size ? 3 : LIVES), "ms");
    free(memory);
}

static void lives(void)
{
    apart(live, &(size_t){0});
    apart(live, &(size_t){(size_t)1 << 30});
}

/* ---- W8 -------------------------------------------------------------------------------------------------------- */

enum { KILLS = 200, BETWEEN = 100 };

struct kills {                  /* in shared memory */
    struct { double at; pid_t pid; } killed[2];     /* by worker index */
    double gap[KILLS];
    _Atomic int count;
};

/* Works for 100 us. Every hundredth item kills its worker instead; the next item at the same index knows how long that took. */
static int fragile(struct pool_task *task)
{
    struct kills *kills = *(struct kills *const *)task->common;
    unsigned me = task->worker->index;
    double now = seconds();
    if (kills->killed[me].at > 0 && kills->killed[me].pid != getpid()) {
        kills->gap[kills->count++] = (now - kills->killed[me].at) * 1e3;
        kills->killed[me].at = 0;
    }
    while (seconds() < now + 1e-4)
        ;
    if (task->index % BETWEEN == 0 && task->index && task->index <= KILLS * BETWEEN) {
        kills->killed[me].pid = getpid();
        kills->killed[me].at = seconds();
        kill(getpid(), SIGKILL);
    }
    return 0;
}

static void replacements(void)
{
    struct kills *kills = mmap(NULL, sizeof *kills, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct pool *pool = start(2, 0);
    struct pool_call call = {.common = &kills, .common_size = sizeof kills};
    need(kills != MAP_FAILED);
    /* A few items more, or the last one killed has no next. */
    need(pool_map(pool, fragile, pool_range((KILLS + 10) * BETWEEN), NULL, 0, &call) == POOL_CRASHED);
    int count = kills->count;
    double middle = median(kills->gap, count);
    report("forkpool", "replaced-median", middle, "ms");
    report("forkpool", "replaced-worst", kills->gap[count - 1], "ms");
    pool_destroy(pool);
    munmap(kills, sizeof *kills);
}

/* ---- W9 -------------------------------------------------------------------------------------------------------- */

enum { SIZES = 6 };
static const char *const map_figures[SIZES] = {"grow-map-1e3", "grow-map-1e4", "grow-map-1e5", "grow-map-1e6", "grow-map-1e7",
                                               "grow-map-1e8"};
static const char *const imap_figures[SIZES] = {"grow-imap-1e3", "grow-imap-1e4", "grow-imap-1e5", "grow-imap-1e6", "grow-imap-1e7",
                                                "grow-imap-1e8"};

enum { MAPS = 31, SLICES = 100 };

struct growth { struct pool *pool; size_t count; int iterated; struct pool_iter *iter; size_t walked; };

/* So many items of calls of that size, one after the other; the last may be left in the middle, to go on from there. */
static void walk(struct growth *g, size_t items)
{
    for (; items; items--) {
        if (!g->iter)
            need((g->iter = pool_imap(g->pool, nothing, pool_range(g->count), NULL)) != NULL);
        need(pool_next(g->iter) != NULL);
        if (++g->walked < g->count)
            continue;
        need(!pool_next(g->iter) && pool_iter_status(g->iter) == POOL_OK);
        pool_iter_free(g->iter);
        g->iter = NULL;
        g->walked = 0;
    }
}

static void grow(struct growth *g, size_t items)
{
    if (g->iterated)
        walk(g, items);
    else
        for (size_t done = 0; done < items; done += g->count)
            need(pool_map(g->pool, nothing, pool_range(g->count), NULL, 0, NULL) == POOL_OK);
}

/* Nanoseconds per item. A machine's good and bad moments last for seconds, and 10^8 items of an iterator do, too: to have each size see
 * the same, they are measured by turns, and the longer calls of iterators in slices. Those without a bar get fewer items. */
static double grown(void *arg)
{
    struct growth *g = arg;
    size_t items = g->count < 100000 ? 100000 : g->iterated ? 1000000 : 10000000;
    items = is_quick() ? items / 10 : items;
    items = !g->iterated && items < g->count ? g->count : items;
    double begin = seconds();
    grow(g, items);
    return (seconds() - begin) * 1e9 / (double)items;
}

static void peak(const void *arg)
{
    struct growth g = *(const struct growth *)arg;
    char figure[48];
    struct rusage usage;
    g.pool = start(2, 0);
    grow(&g, g.count);
    pool_destroy(g.pool);
    getrusage(RUSAGE_SELF, &usage);
    snprintf(figure, sizeof figure, "peak-%s-1e%d", g.iterated ? "imap" : "map", snprintf(NULL, 0, "%zu", g.count) - 1);
    report("forkpool", figure, (double)usage.ru_maxrss / 1024, "MiB");
}

/* An iterator that is left in the middle has a call under way: each size has a pool of its own. */
static void growth_of(int iterated, int sizes_count, int rounds)
{
    struct growth sizes[SIZES];
    struct turn turns[SIZES];
    size_t count = 1000;
    for (int i = 0; i < sizes_count; i++, count *= 10) {
        sizes[i] = (struct growth){.count = count, .iterated = iterated};
        apart(peak, &sizes[i]);
        sizes[i].pool = start(2, 0);
        turns[i] = (struct turn){(iterated ? imap_figures : map_figures)[i], grown, &sizes[i]};
    }
    by_turns("forkpool", turns, sizes_count, rounds, "ns");
    for (int i = 0; i < sizes_count; i++) {
        pool_iter_free(sizes[i].iter);
        pool_destroy(sizes[i].pool);
    }
}

static void growth(void)
{
    int sizes_count = is_quick() ? SIZES - 1 : SIZES;
    growth_of(0, sizes_count, is_quick() ? 7 : MAPS);
    growth_of(1, sizes_count, SLICES);
}

/* ---- W10 ------------------------------------------------------------------------------------------------------- */

static double cpu_time(struct pool *pool)
{
    double sum = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
    for (unsigned i = 0; i < pool_size(pool); i++) {
        clockid_t clock;
        if (clock_getcpuclockid(pool_worker_pid(pool, i), &clock) == 0)
            sum += seconds_of(clock);
    }
    return sum;
}

static void cpu_per_item(void)
{
    for (unsigned no_spin = 0; no_spin < 2; no_spin++) {
        const char *peer = no_spin ? "no_spin" : "forkpool";
        struct pool *pool = start(2, no_spin);
        int count = no_spin ? TRIPS / 10 : TRIPS;
        round_trips(pool, count);
        double begin = cpu_time(pool);
        round_trips(pool, count);
        report(peer, "cpu-round-trip", (cpu_time(pool) - begin) * 1e6 / count, "us");
        stream_items(pool);
        begin = cpu_time(pool);
        for (int i = 0; i < 5; i++)
            stream_items(pool);
        report(peer, "cpu-stream", (cpu_time(pool) - begin) * 1e9 / (5.0 * STREAM), "ns");
        pool_destroy(pool);
    }
}

/* How often the threads of a process have gone to sleep or were made to; `but` one of them. */
static long switches(pid_t pid, pid_t but)
{
    char path[64], line[256];
    long sum = 0;
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *threads = opendir(path);
    for (const struct dirent *entry; threads && (entry = readdir(threads));) {
        if (entry->d_name[0] == '.' || atoi(entry->d_name) == (int)but)
            continue;
        snprintf(path, sizeof path, "/proc/%d/task/%.20s/status", (int)pid, entry->d_name);
        FILE *status = fopen(path, "r");
        while (status && fgets(line, sizeof line, status)) {
            const char *at = strstr(line, "voluntary_ctxt_switches:");
            sum += at ? atol(at + strlen("voluntary_ctxt_switches:")) : 0;
        }
        if (status)
            fclose(status);
    }
    if (threads)
        closedir(threads);
    return sum;
}

static pid_t parent_of(pid_t pid)
{
    char path[64];
    int parent = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "r");
    if (file && fscanf(file, "%*d (%*[^)]) %*c %d", &parent) != 1)
        parent = 0;
    if (file)
        fclose(file);
    return parent;
}

static long all_switches(struct pool *pool)
{
    pid_t worker = pool_worker_pid(pool, 0);
    return switches(getpid(), getpid()) + switches(parent_of(worker), 0) + switches(worker, 0) + switches(pool_worker_pid(pool, 1), 0);
}

/* A pool that has worked, with a helper thread too, and then rests: wake-ups of workers, nursery and helper in ten seconds. The main thread
 * is in sleep() and does not count. */
static void rest(void)
{
    struct pool *pool = start(2, 0);
    stream_items(pool);
    struct pool_job *job = pool_apply_async(pool, nothing, NULL, 0, NULL);
    need(pool_job_wait(job, -1) == POOL_OK);
    pool_job_free(job);
    nanosleep(&(struct timespec){.tv_nsec = 200000000}, NULL);
    long before = all_switches(pool);
    sleep(10);
    report("forkpool", "rest-wakeups", (double)(all_switches(pool) - before), "-");
    pool_destroy(pool);
}

const struct workload life_workloads[] = {
    {"W6", lives}, {"W8", replacements}, {"W9", growth}, {"W10", cpu_per_item}, {"W10-rest", rest}, {NULL, NULL},
};
