/* So many items of W1, W2 or W3, or of W3 from a generator or with a progress bar on a terminal, with one worker, for `instructions` to
 * count. Prints the process ids of host and worker. Nothing spins, or waiting would be counted as work; and the clock stands still, in host
 * and worker, since how many items wait at a worker is learned from the time they take, and under callgrind that is neither the real time
 * nor twice the same. */
#define _GNU_SOURCE
#include "bench.h"

#include <forkpool.h>

#include <fcntl.h>
#include <unistd.h>

int clock_gettime(clockid_t id, struct timespec *now)
{
    (void)id;
    *now = (struct timespec){.tv_sec = 1000};
    return 0;
}

static void need(int good)
{
    if (good)
        return;
    fprintf(stderr, "instructions: %s\n", pool_error());
    exit(1);
}

static int square(struct pool_task *task)
{
    uint32_t x = *(const uint32_t *)task->in;
    x *= x;
    return pool_return(task, &x, sizeof x);
}

static int echo(struct pool_task *task)
{
    return pool_return(task, task->in, task->in_size);
}

struct walk { const char *next, *end; };

static int next(void *cursor, struct pool_bytes *item)
{
    struct walk *walk = cursor;
    *item = (struct pool_bytes){walk->next, 8};
    walk->next += 8;
    return walk->next <= walk->end;
}

static void run(struct pool *pool, const char *workload, size_t count)
{
    char *in = touched(count * 8), *out = touched(count * 8);
    if (!strcmp(workload, "W1"))
        need(pool_map(pool, square, pool_array(in, count, 4), out, 4, NULL) == POOL_OK);
    for (size_t i = 0; !strcmp(workload, "W2") && i < count; i++)
        need(pool_apply(pool, echo, in, 8, out, 8, NULL) == POOL_OK);
    if (!strncmp(workload, "W3", 2)) {
        struct pool_call call = {.chunk = 1, .progress = strcmp(workload, "W3-bar") ? NULL : "counting"};
        struct walk walk = {in, in + count * 8};
        struct pool_items items = strcmp(workload, "W3-generator") ? pool_array(in, count, 8) : pool_generator(next, &walk);
        struct pool_iter *it = pool_imap_unordered(pool, echo, items, &call);
        while (pool_next(it))
            count--;
        need(count == 0);
        pool_iter_free(it);
    }
    free(in);
    free(out);
}

/* The bar is drawn at its beginning and its end, for which a terminal has room, and counts in between. */
static void open_terminal(void)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    if (master < 0 || grantpt(master) || unlockpt(master) || dup2(open(ptsname(master), O_RDWR | O_NOCTTY), 2) < 0)
        exit(1);
    setenv("TERM", "xterm", 1);
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "W3-bar"))
        open_terminal();
    struct pool *pool = pool_create(&(struct pool_options){.workers = 1, .no_spin = 1});
    need(pool && argc == 3);
    printf("%d %d\n", (int)getpid(), (int)pool_worker_pid(pool, 0));
    run(pool, argv[1], (size_t)atol(argv[2]));
    pool_close(pool);
    need(pool_join(pool, -1) == POOL_OK);
    pool_destroy(pool);
}
