/* crash: a worker is a process of its own, so whatever happens to it happens to one item only. Of twelve items one
 * writes through a wild pointer, one calls exit, and one closes every descriptor it has and then never returns. Each
 * comes back as CRASHED with how its worker ended; the other nine are all there. */
#define _POSIX_C_SOURCE 200809L
#include <forkpool.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { COUNT = 12, SEGFAULTS = 3, EXITS = 6, GOES_DEAF = 8 };

static char *volatile wild = (char *)8;

static int work(struct pool_task *task)
{
    switch (task->index) {
    case SEGFAULTS:
        *wild = 1;
        break;
    case EXITS:
        _exit(7);               /* exit(7) does as well, where the libc tells its handlers the status: glibc does, musl does not */
    case GOES_DEAF:
        for (int fd = 0; fd < 65536; fd++)
            close(fd);
        for (;;)
            pause();
    }
    size_t y = task->index * task->index;
    return pool_return(task, &y, sizeof y);
}

/* Prints one result; returns whether it is as it should be. */
static int show(const struct pool_result *r)
{
    if (r->status == POOL_OK) {
        size_t y = *(const size_t *)r->data;
        printf("item %2zu: %zu\n", r->index, y);
        return y == r->index * r->index;
    }
    printf("item %2zu: %s (signal %d, exit status %d): %s\n", r->index, pool_status_text(r->status), r->signal, r->code, r->message);
    return r->status == POOL_CRASHED
        && ((r->index == SEGFAULTS && r->signal == SIGSEGV)
            || (r->index == EXITS && r->signal == 0 && r->code == 7)
            || r->index == GOES_DEAF);
}

int main(void)
{
    struct pool *pool = pool_create(NULL);
    struct pool_iter *it = pool ? pool_imap(pool, work, pool_range(COUNT), NULL) : NULL;
    if (!it) {
        fprintf(stderr, "crash: %s\n", pool_error());
        return EXIT_FAILURE;
    }

    int good = 0, crashed = 0, wrong = 0;
    for (const struct pool_result *r; (r = pool_next(it));) {
        wrong += !show(r);
        good += r->status == POOL_OK;
        crashed += r->status == POOL_CRASHED;
    }
    printf("%d of %d items are there, %d crashed their workers\n", good, COUNT, crashed);

    pool_iter_free(it);
    pool_destroy(pool);
    return !wrong && good == COUNT - 3 && crashed == 3 ? EXIT_SUCCESS : EXIT_FAILURE;
}
