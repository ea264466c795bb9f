/* deadline: a time limit for each item, among items of which some never end. Halve a number if it is even, else take five
 * times it plus one, and so on: how many steps lead to 1? From some numbers none do, they go round in a circle. With
 * pool_call.timeout each has a second, counted from its own start: what takes longer comes back as TIMED_OUT, in its place,
 * its worker killed and replaced, and nobody else is kept waiting by it. */
#include <forkpool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static int count_steps(struct pool_task *task)
{
    uint64_t n = *(const uint64_t *)task->in;
    int steps = 0;

    for (;; steps++) {                  /* for some numbers: for ever */
        if (n == 1)
            return pool_return(task, &steps, sizeof steps);
        n = n % 2 ? 5 * n + 1 : n / 2;
    }
}

static int failed(const char *why)
{
    fprintf(stderr, "deadline: %s\n", why);
    return EXIT_FAILURE;
}

int main(void)
{
    static const uint64_t numbers[] = {1, 2, 3, 4, 5, 6, 8, 12, 13, 15, 16, 17, 19, 24};
    struct pool_items items = pool_array(numbers, sizeof numbers / sizeof *numbers, sizeof *numbers);

    struct pool *pool = pool_create(NULL);
    if (!pool)
        return failed(pool_error());

    struct pool_call call = {.timeout = 1};
    struct pool_iter *it = pool_imap(pool, count_steps, items, &call);
    int status = it ? EXIT_SUCCESS : failed(pool_error()), done = 0, timed_out = 0;
    for (const struct pool_result *r; (r = pool_next(it));) {
        printf("%2d: ", (int)numbers[r->index]);
        switch (r->status) {
        case POOL_OK:
            printf("%d steps\n", *(const int *)r->data);
            done++;
            break;
        case POOL_TIMED_OUT:
            printf("no end in sight, %s\n", pool_status_text(r->status));
            timed_out++;
            break;
        default:
            printf("%s: %s\n", pool_status_text(r->status), r->message);
            status = EXIT_FAILURE;
        }
    }
    printf("%d done, %d timed out\n", done, timed_out);

    pool_iter_free(it);
    pool_destroy(pool);
    return status;
}
