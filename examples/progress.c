/* progress: a bar on stderr while the work goes on. First by hand, as one does in Python with sys.stderr.write('\rdone ...') in a loop over
 * imap_unordered; then the same by one option of the call. The hand-made one writes for each item, also into a file; the bar on a
 * terminal only, ten times a second at most, with a rate and the time that is left, and into a file one line at its end. Item 77
 * fails, so that there is a failure to be seen. */
#define _POSIX_C_SOURCE 200809L
#include <forkpool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { COUNT = 100, BAD = 77 };

static long milliseconds = 20;              /* set before the pool is made, so the workers know it */

static int work(struct pool_task *task)
{
    struct timespec pause = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    nanosleep(&pause, NULL);
    return task->index == BAD ? pool_fail(task, 1, "item %d is bad", BAD) : 0;
}

/* The article's loop. Returns how many items failed. */
static int by_hand(struct pool *pool)
{
    struct pool_iter *it = pool_imap_unordered(pool, work, pool_range(COUNT), NULL);
    int done = 0, failed = 0;
    for (const struct pool_result *r; (r = pool_next(it));) {
        failed += r->status != POOL_OK;
        fprintf(stderr, "\rdone %.0f%%", 100.0 * ++done / COUNT);
    }
    fputc('\n', stderr);
    pool_iter_free(it);
    return failed;
}

/* The same by one option. */
static int by_option(struct pool *pool)
{
    struct pool_iter *it = pool_imap_unordered(pool, work, pool_range(COUNT), &(struct pool_call){.progress = "working"});
    int failed = 0;
    for (const struct pool_result *r; (r = pool_next(it));)
        failed += r->status != POOL_OK;
    if (!it)
        fprintf(stderr, "progress: %s\n", pool_error());
    pool_iter_free(it);
    return failed;
}

int main(int argc, char **argv)
{
    if (argc > 1)
        milliseconds = atol(argv[1]);
    struct pool *pool = pool_create(NULL);
    if (!pool) {
        fprintf(stderr, "progress: %s\n", pool_error());
        return EXIT_FAILURE;
    }

    int hand = by_hand(pool), option = by_option(pool);
    printf("%d and %d of %d failed\n", hand, option, COUNT);

    pool_destroy(pool);
    return hand == 1 && option == 1 ? EXIT_SUCCESS : EXIT_FAILURE;
}
