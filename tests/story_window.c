/* All that an iterator's window has room for is handed out, though it be less than a batch, and though nothing else happens meanwhile.
 *
 * After many quick items, of which a batch is handed out at a time, some wait until the last item that the window holds beside them has
 * begun. Their consumer asks for them, and sleeps. How far the window was filled when they begin differs, so there are many of them. */
#define _GNU_SOURCE
#include "ledger.h"

enum { ITEMS = 6000, QUICK = 2000, WINDOW = 16, EVERY = 37 };

static int waits_for_the_windows_last(struct pool_task *task)
{
    size_t last = task->index + WINDOW - 1;
    unsigned begun = atomic_load(&ledger->received);

    while (begun < task->index && !atomic_compare_exchange_weak(&ledger->received, &begun, (unsigned)task->index))
        ;
    if (task->index >= QUICK && task->index % EVERY == 0 && last < ITEMS)
        while (atomic_load(&ledger->received) < last)
            nap();
    return answer(task);
}

static int next_number(void *cursor, struct pool_bytes *item)
{
    long *next = cursor;

    if (*next == ITEMS)
        return 0;
    ++*next;
    *item = (struct pool_bytes){next, sizeof *next};
    return 1;
}

static void all_of_the_window_begins(struct pool_items items, unsigned workers)
{
    static struct end ends[ITEMS];
    struct pool_call call = {.window = WINDOW};
    struct pool *pool = make_pool(workers);
    struct pool_iter *iter = pool_imap(pool, waits_for_the_windows_last, items, &call);
    size_t i;

    assert_non_null(iter);
    memset(ends, 0, sizeof ends);
    collect(iter, ends, ITEMS);
    for (i = 0; i < ITEMS; i++)
        assert_good(&ends[i], i);
    pool_destroy(pool);
}

static void of_a_range(void **state)
{
    (void)state;
    all_of_the_window_begins(pool_range(ITEMS), 2);
}

static void of_a_range_with_many_workers(void **state)
{
    (void)state;
    all_of_the_window_begins(pool_range(ITEMS), 6);
}

static void of_a_generator(void **state)
{
    long next = 0;

    (void)state;
    all_of_the_window_begins(pool_generator(next_number, &next), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(of_a_range),
        STORY(of_a_range_with_many_workers),
        STORY(of_a_generator),
    };

    return cmocka_run_group_tests(tests, ledger_setup, ledger_teardown);
}
