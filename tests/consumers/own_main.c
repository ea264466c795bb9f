/* Such a program takes up the shared library. Its own functions are called by itself alone, whatever the library does inside:
 * a pool whose initializer fails is torn down in pool_create, items fail, messages are made. */
#include <forkpool.h>
#include <stdio.h>

int own_calls(void);
int own_use(void);

static int refuse(struct pool_worker *worker)
{
    return pool_init_fail(worker, 5, "not today");
}

static int square(struct pool_task *task)
{
    int x = *(const int *)task->in;
    int y = x * x;
    return x < 0 ? pool_fail(task, 9, "negative") : pool_return(task, &y, sizeof y);
}

int main(void)
{
    struct pool_options bad = {.workers = 2, .initializer = refuse}, good = {.workers = 2};
    int xs[] = {3, -1, 4}, ys[3] = {0};

    if (pool_create(&bad))
        return printf("a pool was created with an initializer that fails\n"), 1;
    struct pool *pool = pool_create(&good);
    if (!pool)
        return printf("no pool\n"), 1;
    if (pool_map(pool, square, pool_array(xs, 3, sizeof *xs), ys, sizeof *ys, NULL) != POOL_FAILED || ys[0] != 9 || ys[2] != 16)
        return printf("map went wrong\n"), 1;
    if (pool_map(NULL, square, pool_array(xs, 3, sizeof *xs), ys, sizeof *ys, NULL) != POOL_INVALID)
        return printf("a map without a pool was not refused\n"), 1;
    if (own_calls() != 0)
        return printf("the library called the program's own functions %d times\n", own_calls()), 1;
    if (own_use() != 10 || own_calls() != 2)
        return printf("the program's own calls went elsewhere\n"), 1;
    printf("own\n");
    return 0;           /* and the pool leaves with the program */
}
