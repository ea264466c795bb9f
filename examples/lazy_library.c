/* lazy_library: some libraries do not survive a fork. GNU OpenMP, once used, has threads; a forked child has not, but its
 * copy of the library still waits for them. So a pool is made before the library is used, and each worker loads it
 * itself, in its initializer: then host and workers, and workers started later, can all use it. The same goes for CUDA.
 * --broken shows what happens otherwise: a plain fork after the first use, and a child that never returns. */
#define _POSIX_C_SOURCE 200809L
#include <dlfcn.h>
#include <forkpool.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { COUNT = 16, THREADS = 4, SKIP = 77 };

struct openmp {
    void (*parallel)(void (*body)(void *), void *data, unsigned threads, unsigned flags);   /* what gcc makes of a pragma */
    int (*thread)(void);
    int (*threads)(void);
};

static int find(void *library, const char *name, void *function)
{
    void *address = dlsym(library, name);
    memcpy(function, &address, sizeof address);
    return address != NULL;
}

static int load_openmp(struct openmp *omp)
{
    void *library = dlopen("libgomp.so.1", RTLD_NOW);
    return library && find(library, "GOMP_parallel", &omp->parallel)
        && find(library, "omp_get_thread_num", &omp->thread)
        && find(library, "omp_get_num_threads", &omp->threads);
}

/* A parallel region: each thread adds its share of 1 + 2 + ... + n. */
struct sum { const struct openmp *omp; long n; atomic_long total; };

static void add_share(void *data)
{
    struct sum *sum = data;
    long share = 0;
    for (long i = 1 + sum->omp->thread(); i <= sum->n; i += sum->omp->threads())
        share += i;
    atomic_fetch_add(&sum->total, share);
}

static long add_up(const struct openmp *omp, long n)
{
    struct sum sum = {omp, n, 0};
    omp->parallel(add_share, &sum, THREADS, 0);
    return atomic_load(&sum.total);
}

/* ---- As it should be ---- */

static int load(struct pool_worker *worker)
{
    static struct openmp openmp;
    worker->state = &openmp;
    return load_openmp(&openmp) ? 0 : pool_init_fail(worker, SKIP, "libgomp.so.1 not found");
}

static int add_up_task(struct pool_task *task)
{
    long total = add_up(task->worker->state, 1000 * (long)task->index);
    return pool_return(task, &total, sizeof total);
}

static int lazily(struct pool *pool, const struct openmp *omp)
{
    long host[COUNT], workers[COUNT];
    for (long i = 0; i < COUNT; i++)
        host[i] = add_up(omp, 1000 * i);
    if (pool_map(pool, add_up_task, pool_range(COUNT), workers, sizeof *workers, NULL) != POOL_OK) {
        fprintf(stderr, "lazy_library: %s\n", pool_error());
        return EXIT_FAILURE;
    }
    int same = memcmp(host, workers, sizeof host) == 0;
    printf("OpenMP works in the host and in its workers: %d sums %s\n", COUNT, same ? "agree" : "DIFFER");
    return same ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* ---- As it should not be ---- */

static int broken(const struct openmp *omp)
{
    int ends[2], status;
    add_up(omp, 1000);

    pid_t child = pipe(ends) ? -1 : fork();
    if (child < 0) {
        perror("lazy_library");
        return EXIT_FAILURE;
    }
    if (child == 0) {
        add_up(omp, 1000);
        _exit(0);
    }
    close(ends[1]);                                         /* now only the child has it: poll wakes when it ends */
    int hung = poll(&(struct pollfd){.fd = ends[0]}, 1, 2000) == 0;
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    close(ends[0]);

    puts(hung ? "a plain forked child hung in its parallel region, as expected"
              : "a plain forked child did not hang: this OpenMP survives a fork");
    return hung ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    int lazy = argc < 2 || strcmp(argv[1], "--broken") != 0;
    struct openmp openmp;

    /* Before anything here has used the library. */
    struct pool *pool = lazy ? pool_create(&(struct pool_options){.initializer = load}) : NULL;
    const char *error = pool_error();
    if (!load_openmp(&openmp)) {
        fputs("SKIP: libgomp.so.1 not found\n", stderr);
        return SKIP;
    }
    if (lazy && !pool) {
        fprintf(stderr, "lazy_library: %s\n", error);
        return EXIT_FAILURE;
    }
    int status = lazy ? lazily(pool, &openmp) : broken(&openmp);
    pool_destroy(pool);
    return status;
}
