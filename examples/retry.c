/* retry: an item whose worker died is started again, on another worker. Of twelve items three are flaky: their first try kills
 * its worker, the second (a file left behind by the first tells which it is) ends OK. Item 6 is poison: it kills every
 * worker it meets. With pool_call.retries = 2 it ends CRASHED after its third try, named, and all others are there. */
#define _XOPEN_SOURCE 700           /* mkdtemp */
#include <fcntl.h>
#include <forkpool.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { COUNT = 12, POISON = 6, RETRIES = 2 };

static char directory[] = "/tmp/forkpool-retry-XXXXXX";     /* made before the pool, so the workers know its name */

static int flaky(size_t index)
{
    return index % 4 == 1;
}

static void name_mark(size_t index, char name[80])
{
    snprintf(name, 80, "%s/%zu", directory, index);
}

/* Only one try can make the file. */
static int first_try(size_t index)
{
    char name[80];
    name_mark(index, name);
    int fd = open(name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    return fd >= 0 && close(fd) == 0;
}

static int work(struct pool_task *task)
{
    if (task->index == POISON)
        abort();                            /* a bug: it will be the same next time */
    if (flaky(task->index) && first_try(task->index))
        raise(SIGKILL);                     /* as the kernel does when there is no memory, just then */

    size_t y = task->index * task->index;
    return pool_return(task, &y, sizeof y);
}

/* Prints one result; returns whether it is as it should be. */
static int show(const struct pool_result *r)
{
    if (r->status == POOL_OK) {
        size_t y = *(const size_t *)r->data;
        printf("item %2zu: %zu, try %u\n", r->index, y, r->tries);
        return y == r->index * r->index && r->tries == (flaky(r->index) ? 2 : 1);
    }
    printf("item %2zu: %s, try %u: %s\n", r->index, pool_status_text(r->status), r->tries, r->message);
    return r->status == POOL_CRASHED && r->index == POISON && r->tries == 1 + RETRIES && r->signal == SIGABRT;
}

static int run(struct pool *pool)
{
    struct pool_call call = {.retries = RETRIES};
    struct pool_iter *it = pool_imap(pool, work, pool_range(COUNT), &call);
    int good = 0;
    for (const struct pool_result *r; (r = pool_next(it));)
        good += show(r);
    pool_iter_free(it);

    struct pool_stats stats = {0};
    if (!it || pool_stats(pool, &stats) != POOL_OK) {
        fprintf(stderr, "retry: %s\n", pool_error());
        return EXIT_FAILURE;
    }
    printf("%d of %d items are there, after %d retries\n", (int)stats.ok, COUNT, (int)stats.retried);
    return good == COUNT ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(void)
{
    int status = EXIT_FAILURE;

    if (!mkdtemp(directory)) {
        perror("retry: mkdtemp");
        return EXIT_FAILURE;
    }
    struct pool *pool = pool_create(NULL);
    if (pool)
        status = run(pool);
    else
        fprintf(stderr, "retry: %s\n", pool_error());
    pool_destroy(pool);

    for (size_t i = 0; i < COUNT; i++) {
        char name[80];
        name_mark(i, name);
        unlink(name);
    }
    rmdir(directory);
    return status;
}
