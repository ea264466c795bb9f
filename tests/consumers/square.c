/* The smallest user of the library: [0, 1, 4, 9, 16] by map and by imap. Compiled in each way that the README names. */
#include <forkpool.h>
#include <stdio.h>

static int square(struct pool_task *task)
{
    int x = *(const int *)task->in;
    int y = x * x;
    return pool_return(task, &y, sizeof y);
}

int main(void)
{
    int xs[] = {0, 1, 2, 3, 4}, ys[5] = {0};
    struct pool_options options = {.workers = 2};
    struct pool *pool = pool_create(&options);

    if (!pool || pool_map(pool, square, pool_array(xs, 5, sizeof *xs), ys, sizeof *ys, NULL)) {
        fprintf(stderr, "%s\n", pool_error());
        return 1;
    }
    for (int i = 0; i < 5; i++)
        printf("%d ", ys[i]);

    struct pool_iter *it = pool_imap(pool, square, pool_array(xs, 5, sizeof *xs), NULL);
    for (const struct pool_result *r; (r = pool_next(it));)
        printf("%d ", *(const int *)r->data);
    pool_iter_free(it);
    pool_destroy(pool);
    printf("\n");
    return 0;
}
