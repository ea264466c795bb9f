/* What the machine itself can do, without a pool: the bare things that a pool is made of. */
#define _GNU_SOURCE
#include "bench.h"

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static void pause_cpu(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void need(int good)
{
    if (good)
        return;
    perror("limits");
    exit(1);
}

/* ---- W2: a word in shared memory, and two pipes --------------------------------------------------------------------- */

static double word_trips(void *unused)
{
    (void)unused;
    struct { _Alignas(64) _Atomic unsigned there; _Alignas(64) _Atomic unsigned back; } *words =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    need(words != MAP_FAILED);
    pid_t child = fork();
    need(child >= 0);
    for (unsigned i = 1; child == 0 && i <= 10 * TRIPS; i++) {
        while (atomic_load_explicit(&words->there, memory_order_acquire) != i)
            pause_cpu();
        atomic_store_explicit(&words->back, i, memory_order_release);
    }
    if (child == 0)
        _exit(0);
    double begin = seconds();
    for (unsigned i = 1; i <= 10 * TRIPS; i++) {
        atomic_store_explicit(&words->there, i, memory_order_release);
        while (atomic_load_explicit(&words->back, memory_order_acquire) != i)
            pause_cpu();
    }
    double spent = seconds() - begin;
    need(waitpid(child, NULL, 0) == child);
    munmap(words, 4096);
    return spent * 1e6 / (10 * TRIPS);
}

static void receive(int fd, char bytes[8])
{
    ssize_t n;
    while ((n = read(fd, bytes, 8)) < 0)
        pause_cpu();                        /* EAGAIN: spins */
    need(n == 8);
}

/* `flags`: O_NONBLOCK to spin, 0 to block. */
static double pipe_trips(int flags, int count)
{
    int there[2], back[2];
    char bytes[8] = "1234567";
    need(pipe2(there, flags) == 0 && pipe2(back, flags) == 0);
    pid_t child = fork();
    need(child >= 0);
    for (int i = 0; child == 0 && i < count; i++) {
        receive(there[0], bytes);
        need(write(back[1], bytes, 8) == 8);
    }
    if (child == 0)
        _exit(0);
    double begin = seconds();
    for (int i = 0; i < count; i++) {
        need(write(there[1], bytes, 8) == 8);
        receive(back[0], bytes);
    }
    double spent = seconds() - begin;
    need(waitpid(child, NULL, 0) == child);
    for (int i = 0; i < 2; i++) {
        close(there[i]);
        close(back[i]);
    }
    return spent * 1e6 / count;
}

static double spinning_trips(void *unused)
{
    (void)unused;
    return pipe_trips(O_NONBLOCK, TRIPS);
}

static double blocking_trips(void *unused)
{
    (void)unused;
    return pipe_trips(0, TRIPS / 10);
}

static void trips(void)
{
    report("spun-word", "round-trip", measured(word_trips, NULL, 5), "us");
    report("pipe-spin", "round-trip", measured(spinning_trips, NULL, 5), "us");
    report("pipe-block", "round-trip", measured(blocking_trips, NULL, 3), "us");
}

/* ---- W4: one copy, by one thread -------------------------------------------------------------------------------- */

struct copy { char *in, *out; size_t size; int count; };

static double copies(void *arg)
{
    struct copy *c = arg;
    double begin = seconds();
    for (int i = 0; i < c->count; i++) {
        size_t at = c->size * (size_t)i % ((size_t)LARGE * LARGE_SIZE);
        memcpy(c->out + at, c->in + at, c->size);
        __asm__ volatile("" : : "r"(c->out + at) : "memory");
    }
    return seconds() - begin;
}

static void memory(void)
{
    size_t all = (size_t)LARGE * LARGE_SIZE;
    struct copy c = {touched(all), touched(all), LARGE_SIZE, LARGE};
    report("memcpy", "large-map", 0.25 / measured(copies, &c, 5), "GiB/s");
    free(c.in);
    free(c.out);
}

/* ---- W6, W8: forks ------------------------------------------------------------------------------------------------ */

/* Two children that each answer once, and are waited for. */
static double two_forks(void *unused)
{
    (void)unused;
    int pipes[2][2];
    pid_t children[2];
    double begin = seconds();
    for (int i = 0; i < 2; i++) {
        need(pipe(pipes[i]) == 0 && (children[i] = fork()) >= 0);
        if (children[i] == 0) {
            need(write(pipes[i][1], "", 1) == 1);
            _exit(0);
        }
    }
    for (int i = 0; i < 2; i++) {
        char byte;
        need(read(pipes[i][0], &byte, 1) == 1 && waitpid(children[i], NULL, 0) == children[i]);
        close(pipes[i][0]);
        close(pipes[i][1]);
    }
    return (seconds() - begin) * 1e3;
}

static double one_fork(void *unused)
{
    (void)unused;
    double begin = seconds();
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    need(child > 0 && waitpid(child, NULL, 0) == child);
    return (seconds() - begin) * 1e3;
}

static void forks(void)
{
    report("bare-forks", "create", measured(two_forks, NULL, 15), "ms");
    char *host = touched((size_t)1 << 30);
    report("bare-forks", "create-1GiB", measured(two_forks, NULL, 3), "ms");
    free(host);
}

static void fork_exit_wait(void)
{
    report("bare-fork", "replaced-median", measured(one_fork, NULL, 15), "ms");
}

/* ---- How many of burn's loops take a microsecond: while both CPUs work, as they will -------------------------------- */

static double burning(void *unused)
{
    (void)unused;
    double begin = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
    burn(20000000);
    return 20000000 / ((seconds_of(CLOCK_PROCESS_CPUTIME_ID) - begin) * 1e6);
}

static void calibrate(void)
{
    pid_t child = fork();
    while (child == 0)
        burn(1000);
    report("machine", "loops", measured(burning, NULL, 7), "/us");
    if (child > 0)
        kill(child, SIGKILL);
}

int main(int argc, char **argv)
{
    static const struct { const char *name; void (*run)(void); } all[] = {
        {"W2", trips}, {"W4", memory}, {"W6", forks}, {"W8", fork_exit_wait}, {"calibrate", calibrate},
    };
    for (int i = 1; i < argc; i++)
        for (size_t k = 0; k < sizeof all / sizeof *all; k++)
            if (!strcmp(all[k].name, argv[i]))
                all[k].run();
}
