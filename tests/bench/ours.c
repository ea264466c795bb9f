/* The workloads of the benchmark that are streams of work: W1 to W5, W7, W11. The others are in ours_life.c and ours_more.c. */
#define _GNU_SOURCE
#include "ours.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

void need(int good)
{
    if (good)
        return;
    fprintf(stderr, "bench: %s\n", pool_error());
    exit(1);
}

struct pool *start(unsigned workers, unsigned no_spin)
{
    struct pool *pool = pool_create(&(struct pool_options){.workers = workers, .no_spin = no_spin});
    need(pool != NULL);
    return pool;
}

void apart(void (*run)(const void *), const void *arg)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        run(arg);
        exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
        exit(1);
}

static int square(struct pool_task *task)
{
    uint32_t x = *(const uint32_t *)task->in;
    x *= x;
    return pool_return(task, &x, sizeof x);
}

int echo(struct pool_task *task)
{
    void *out = pool_out(task, task->in_size);
    if (!out)
        return 1;
    memcpy(out, task->in, task->in_size);
    return 0;
}

/* ---- W1 -------------------------------------------------------------------------------------------------------- */

static double map_squares(void *pool)
{
    static uint32_t in[SQUARES], out[SQUARES];
    for (uint32_t i = 0; i < SQUARES; i++)
        in[i] = i;
    double begin = seconds();
    need(pool_map(pool, square, pool_array(in, SQUARES, sizeof *in), out, sizeof *out, NULL) == POOL_OK);
    double spent = seconds() - begin;
    need(out[SQUARES - 1] == (uint32_t)(SQUARES - 1) * (uint32_t)(SQUARES - 1));
    return spent * 1e9 / SQUARES;
}

static void small_map(void)
{
    struct pool *pool = start(2, 0);
    report("forkpool", "map-ints", measured(map_squares, pool, 7), "ns");
    pool_destroy(pool);
}

/* ---- W2 -------------------------------------------------------------------------------------------------------- */

double round_trips(struct pool *pool, int count)
{
    char in[8] = "1234567", out[8];
    double begin = seconds();
    for (int i = 0; i < count; i++)
        need(pool_apply(pool, echo, in, sizeof in, out, sizeof out, NULL) == POOL_OK);
    return (seconds() - begin) * 1e6 / count;
}

static double many_trips(void *pool)
{
    return round_trips(pool, TRIPS);
}

static void trips(void)
{
    struct pool *pool = start(2, 0);
    report("forkpool", "round-trip", measured(many_trips, pool, 7), "us");
    pool_destroy(pool);
}

/* ---- W3, W7 ---------------------------------------------------------------------------------------------------- */

static char small_items[STREAM][8];

static double drained(struct pool_iter *it, double begin)
{
    size_t count = 0;
    need(it != NULL);
    for (const struct pool_result *r; (r = pool_next(it));)
        count += r->status == POOL_OK && r->size == 8;
    pool_iter_free(it);
    need(count == STREAM);
    return STREAM / (seconds() - begin) / 1e6;
}

static int next_item(void *cursor, struct pool_bytes *item)
{
    size_t *at = cursor;
    if (*at == STREAM)
        return 0;
    *item = (struct pool_bytes){small_items[(*at)++], 8};
    return 1;
}

static const struct pool_call one_by_one = {.chunk = 1};

double stream_items(struct pool *pool)
{
    double begin = seconds();
    return drained(pool_imap_unordered(pool, echo, pool_array(small_items, STREAM, 8), &one_by_one), begin);
}

static double unordered(void *pool)
{
    return stream_items(pool);
}

static double ordered(void *pool)
{
    double begin = seconds();
    return drained(pool_imap(pool, echo, pool_array(small_items, STREAM, 8), &one_by_one), begin);
}

static double generated(void *pool)
{
    size_t at = 0;
    double begin = seconds();
    return drained(pool_imap_unordered(pool, echo, pool_generator(next_item, &at), &one_by_one), begin);
}

/* With a terminal of its own behind descriptor 2; it holds what is drawn in that time. */
static double with_bar(void *pool)
{
    static const struct pool_call barred = {.chunk = 1, .progress = "stream"};
    static char screen[1 << 16];
    int master = posix_openpt(O_RDWR | O_NOCTTY), own = dup(STDERR_FILENO);
    need(master >= 0 && own >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
    int terminal = open(ptsname(master), O_RDWR | O_NOCTTY);
    need(setenv("TERM", "xterm", 1) == 0 && dup2(terminal, STDERR_FILENO) == STDERR_FILENO);
    double begin = seconds();
    double rate = drained(pool_imap_unordered(pool, echo, pool_array(small_items, STREAM, 8), &barred), begin);
    dup2(own, STDERR_FILENO);
    need(read(master, screen, sizeof screen) > 0);
    close(own), close(terminal), close(master);
    return rate;
}

static void streams(void)
{
    struct pool *pool = start(2, 0);
    by_turns("forkpool", (struct turn[]){{"stream", unordered, pool}, {"stream-ordered", ordered, pool},
                                         {"stream-generator", generated, pool}, {"stream-bar", with_bar, pool}}, 4, 25, "M/s");
    pool_destroy(pool);
}

static void many_workers(void)
{
    struct pool *pools[] = {start(2, 0), start(16, 0), start(64, 0), start(256, 0)};
    by_turns("forkpool", (struct turn[]){{"stream-2w", unordered, pools[0]}, {"stream-16w", unordered, pools[1]},
                                         {"stream-64w", unordered, pools[2]}, {"stream-256w", unordered, pools[3]}}, 4, 9, "M/s");
    for (int i = 0; i < 4; i++)
        pool_destroy(pools[i]);
}

/* ---- W4 -------------------------------------------------------------------------------------------------------- */

struct large { struct pool *pool; unsigned char *in, *out; size_t size, at; };

static double rate(size_t bytes, double begin)
{
    need(bytes == (size_t)LARGE * LARGE_SIZE);
    return (double)bytes / (1 << 30) / (seconds() - begin);
}

static double large_map(void *arg)
{
    struct large *l = arg;
    double begin = seconds();
    need(pool_map(l->pool, echo, pool_array(l->in, LARGE, LARGE_SIZE), l->out, LARGE_SIZE, NULL) == POOL_OK);
    return rate((size_t)LARGE * LARGE_SIZE, begin);
}

static double in_place(struct pool_iter *it, double begin)
{
    size_t bytes = 0;
    for (const struct pool_result *r; (r = pool_next(it));)
        bytes += r->size;
    pool_iter_free(it);
    return rate(bytes, begin);
}

static double large_imap(void *arg)
{
    struct large *l = arg;
    double begin = seconds();
    return in_place(pool_imap(l->pool, echo, pool_array(l->in, LARGE, LARGE_SIZE), NULL), begin);
}

static int next_large(void *cursor, struct pool_bytes *item)
{
    struct large *l = cursor;
    if (l->at == LARGE)
        return 0;
    *item = (struct pool_bytes){l->in + LARGE_SIZE * l->at++, LARGE_SIZE};
    return 1;
}

static double large_generated(void *arg)
{
    struct large *l = arg;
    l->at = 0;
    double begin = seconds();
    return in_place(pool_imap(l->pool, echo, pool_generator(next_large, l), NULL), begin);
}

static double large_echo(void *arg)
{
    struct large *l = arg;
    int count = (int)((64 << 20) / l->size);
    count = count > 2000 ? 2000 : count;
    double begin = seconds();
    for (int i = 0; i < count; i++)
        need(pool_apply(l->pool, echo, l->in, l->size, l->out, l->size, NULL) == POOL_OK);
    return (seconds() - begin) * 1e6 / count;
}

static void large_items(void)
{
    struct large l = {.pool = start(2, 0), .in = touched((size_t)LARGE * LARGE_SIZE), .out = touched((size_t)LARGE * LARGE_SIZE)};
    report("forkpool", "large-map", measured(large_map, &l, 5), "GiB/s");
    report("forkpool", "large-imap", measured(large_imap, &l, 5), "GiB/s");
    report("forkpool", "large-generator", measured(large_generated, &l, 5), "GiB/s");
    l.size = 4 << 10;
    report("forkpool", "echo-4k", measured(large_echo, &l, 5), "us");
    l.size = 64 << 10;
    report("forkpool", "echo-64k", measured(large_echo, &l, 5), "us");
    l.size = 1 << 20;
    report("forkpool", "echo-1m", measured(large_echo, &l, 5), "us");
    pool_destroy(l.pool);
    free(l.in);
    free(l.out);
}

/* ---- W5 -------------------------------------------------------------------------------------------------------- */

static int work_piece(struct pool_task *task)
{
    double cpu = work(task->in);
    return pool_return(task, &cpu, sizeof cpu);
}

struct skew { struct pool *pool; size_t chunk; int shuffled; };

static double skewed_map(void *arg)
{
    static struct piece list[SKEWED];
    static double cpu[SKEWED];
    struct skew *s = arg;
    struct pool_call call = {.chunk = s->chunk};
    skewed(list, s->shuffled);
    double begin = seconds();
    need(pool_map(s->pool, work_piece, pool_array(list, SKEWED, sizeof *list), cpu, sizeof *cpu, &call) == POOL_OK);
    return efficiency(list, cpu, seconds() - begin, 2);
}

static void skewed_work(void)
{
    static const size_t chunks[] = {0, 1, 64, 4096};
    struct pool *pool = start(2, 0);
    skewed_map(&(struct skew){pool, 0, 1});
    for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++)
        for (int shuffled = 0; shuffled < 2; shuffled++) {
            char figure[40];
            snprintf(figure, sizeof figure, "%s-chunk-%zu", shuffled ? "shuffled" : "long-last", chunks[i]);
            report("forkpool", figure, skewed_map(&(struct skew){pool, chunks[i], shuffled}), "-");
        }
    pool_destroy(pool);
}

/* ---- W11: beside two strangers that are never idle -------------------------------------------------------------- */

static pid_t stranger(void)
{
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;)
            burn(1000);
    }
    return child;
}

static double beside_trips(void *pool)
{
    int count = 0;
    double begin = seconds(), end;
    do {
        round_trips(pool, 10);
        count += 10;
        end = seconds();
    } while (end < begin + 0.2);
    return (end - begin) * 1e6 / count;
}

static void beside_strangers(void)
{
    static const char *peers[] = {"forkpool", "no_spin"};
    struct pool *pools[] = {start(2, 0), start(2, 1)};
    pid_t strangers[] = {stranger(), stranger()};
    for (int i = 0; i < 2; i++)
        report(peers[i], "beside-round-trip", measured(beside_trips, pools[i], 3), "us");
    for (int i = 0; i < 2; i++)
        report(peers[i], "beside-stream", measured(unordered, pools[i], 5), "M/s");
    for (int i = 0; i < 2; i++)
        report(peers[i], "beside-skewed", measured(skewed_map, &(struct skew){pools[i], 0, 1}, 1), "-");
    for (int i = 0; i < 2; i++) {
        kill(strangers[i], SIGKILL);
        waitpid(strangers[i], NULL, 0);
        pool_destroy(pools[i]);
    }
}

/* ---- By name ---------------------------------------------------------------------------------------------------- */

static const struct workload stream_workloads[] = {
    {"W1", small_map}, {"W2", trips}, {"W3", streams}, {"W4", large_items},
    {"W5", skewed_work}, {"W7", many_workers}, {"W11", beside_strangers}, {NULL, NULL},
};

int main(int argc, char **argv)
{
    const struct workload *all[] = {stream_workloads, life_workloads, more_workloads, queue_workloads};
    for (int i = 1; i < argc; i++)
        for (size_t part = 0; part < sizeof all / sizeof *all; part++)
            for (const struct workload *w = all[part]; w->name; w++)
                if (!strcmp(w->name, argv[i]))
                    w->run();
}
