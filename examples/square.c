/* square: the same five squares by each of the three ways to map. pool_map returns when all are there, pool_imap hands
 * them out in order as they come, pool_imap_unordered as they finish (so they are sorted before they are printed). */
#include <forkpool.h>
#include <stdio.h>
#include <stdlib.h>

enum { COUNT = 5 };

static int square(struct pool_task *task)
{
    int x = *(const int *)task->in;
    int y = x * x;
    return pool_return(task, &y, sizeof y);
}

static void print(const int *ys)
{
    for (size_t i = 0; i < COUNT; i++)
        printf("%s%d", i ? ", " : "[", ys[i]);
    puts("]");
}

static int failed(const char *why)
{
    fprintf(stderr, "square: %s\n", why);
    return EXIT_FAILURE;
}

/* Takes all that an iterator has to give. */
static int collect(struct pool_iter *it, int *ys)
{
    int status = it ? 0 : failed(pool_error());
    for (const struct pool_result *r; (r = pool_next(it));) {
        if (r->status == POOL_OK)
            *ys++ = *(const int *)r->data;
        else
            status = failed(r->message);
    }
    pool_iter_free(it);
    return status;
}

static int compare(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;
    return (x > y) - (x < y);
}

int main(void)
{
    int xs[COUNT] = {0, 1, 2, 3, 4}, ys[COUNT] = {0};
    struct pool_items items = pool_array(xs, COUNT, sizeof *xs);

    struct pool *pool = pool_create(NULL);
    if (!pool)
        return failed(pool_error());

    int status = 0;
    if (pool_map(pool, square, items, ys, sizeof *ys, NULL) != POOL_OK)
        status = failed(pool_error());
    print(ys);

    status |= collect(pool_imap(pool, square, items, NULL), ys);
    print(ys);

    status |= collect(pool_imap_unordered(pool, square, items, NULL), ys);
    qsort(ys, COUNT, sizeof *ys, compare);
    print(ys);

    pool_destroy(pool);
    return status;
}
