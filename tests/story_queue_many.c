/* Many producers and many consumers: each item arrives once, in its producer's order; and so it is while some of them are killed all
 * the time, but that a killed producer's last item may be there or not, and a killed consumer may take one along.
 *
 * FORKPOOL_LONG=1: 8 times 8 times 1,000,000 items, and 10,000 kills.
 *
 * ctest: not valgrind
 * ctest: timeout 900 */
#define _GNU_SOURCE
#include "child.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { MANY = 8, LIVES = 12000 };       /* LIVES: of producers, as they are killed and replaced */

/* What all processes write down. */
static struct ledger {
    atomic_long begun[LIVES], put[LIVES];   /* items that this producer has begun to put, and has put */
    atomic_long got;
    atomic_int  stop;
    atomic_uint seen[];                     /* one bit for each item: got; in the order of lives */
} *ledger;

struct item { uint32_t life, number, check, rest[]; };

static struct pool_queue *queue;
static size_t most;                     /* items that one producer may put */
static uint32_t life;                   /* of the next one started */

static void open_ledger(size_t lives)
{
    size_t size = sizeof *ledger + lives * most / 8 + 8;

    ledger = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_true(ledger != MAP_FAILED);
}

static void close_ledger(size_t lives)
{
    munmap(ledger, sizeof *ledger + lives * most / 8 + 8);
}

/* Nonzero: that item was there before. */
static int note(uint32_t of, uint32_t number)
{
    size_t index = of * most + number;
    unsigned bit = 1u << index % 32;

    return (atomic_fetch_or(&ledger->seen[index / 32], bit) & bit) != 0;
}

static int was_seen(uint32_t of, uint32_t number)
{
    size_t index = of * most + number;

    return atomic_load(&ledger->seen[index / 32]) >> index % 32 & 1;
}

static int produce(void *arg)
{
    static union { struct item item; unsigned char room[20000]; } u;

    (void)arg;
    u.item.life = life;
    for (uint32_t i = 0; i < most && !atomic_load(&ledger->stop); i++) {
        size_t size = sizeof u.item + (i % 997 == 996 ? 15000 : i % 13 * 4);    /* now and then beside the ring */
        u.item.number = i;
        u.item.check = (uint32_t)size ^ i ^ life;
        atomic_store(&ledger->begun[life], (long)i + 1);
        if (pool_queue_put(queue, &u, size, PATIENCE) != POOL_OK)
            return 1;
        atomic_store(&ledger->put[life], (long)i + 1);
    }
    return 0;
}

static int consume(void *arg)
{
    static uint32_t next[LIVES];
    struct pool_bytes got;

    (void)arg;
    pool_queue_close(queue);
    for (;;) {
        enum pool_status status = pool_queue_get(queue, &got, 4 * PATIENCE);
        if (status != POOL_OK)
            return status != POOL_CLOSED;
        const struct item *item = got.data;
        WANT(got.size >= sizeof *item && item->check == ((uint32_t)got.size ^ item->number ^ item->life));
        WANT(item->life < LIVES && item->number >= next[item->life]);   /* in its order */
        next[item->life] = item->number + 1;
        WANT(!note(item->life, item->number));                  /* once */
        atomic_fetch_add_explicit(&ledger->got, 1, memory_order_relaxed);
    }
}

static struct pool_process *start(int (*run)(void *))
{
    struct pool_process *p = pool_process_start(run, NULL);

    if (!p)
        fail_msg("not started: %s", pool_error());
    return p;
}

static void end_well(struct pool_process *p)
{
    assert_int_equal(pool_process_join(p, 600), POOL_OK);
    assert_int_equal(pool_process_exitcode(p), 0);
    pool_process_free(p);
}

static void each_once_and_in_order(void **state)
{
    struct pool_process *producers[MANY], *consumers[MANY];

    (void)state;
    most = getenv("FORKPOOL_LONG") ? 1000000 : check_under("") ? 1000 : 10000;
    open_ledger(MANY);
    queue = pool_queue_create(16384);
    assert_non_null(queue);
    for (life = 0; life < MANY; life++) {
        producers[life] = start(produce);
        consumers[life] = start(consume);
    }
    pool_queue_close(queue);
    for (int i = 0; i < MANY; i++)
        end_well(producers[i]);
    for (int i = 0; i < MANY; i++)
        end_well(consumers[i]);
    assert_int_equal(atomic_load(&ledger->got), MANY * most);
    for (uint32_t i = 0; i < MANY; i++)
        for (uint32_t n = 0; n < most; n++)
            assert_true(was_seen(i, n));
    pool_queue_free(queue);
    close_ledger(MANY);
}

/* ---- Kills */

static unsigned seed;

static unsigned any(unsigned limit)
{
    seed = seed * 1103515245u + 12345u;
    return (seed >> 16) % limit;
}

static void wait_a_little(void)
{
    volatile unsigned turns = any(200) * any(200);

    while (turns)
        turns--;
    if (any(4) == 0)
        sched_yield();
}

static void killed_all_the_time(void **state)
{
    enum { EACH = 3 };
    struct pool_process *p[2 * EACH];
    int kills = getenv("FORKPOOL_LONG") ? 10000 : check_under("") ? 60 : 300, killed_consumers = 0;
    long lost = 0;

    (void)state;
    seed = getenv("FORKPOOL_SEED") ? (unsigned)atoi(getenv("FORKPOOL_SEED")) : 1;
    most = 200000;
    open_ledger(LIVES);
    queue = pool_queue_create(4096);
    assert_non_null(queue);
    for (life = 0; life < EACH; life++)
        p[life] = start(produce);
    for (int i = EACH; i < 2 * EACH; i++)
        p[i] = start(consume);
    for (int i = 0; i < kills; i++) {
        unsigned whom = any(2 * EACH);
        wait_a_little();
        pool_process_kill(p[whom]);
        assert_int_equal(pool_process_join(p[whom], PATIENCE), POOL_OK);
        assert_true(pool_process_exitcode(p[whom]) == -SIGKILL || pool_process_exitcode(p[whom]) == 0);
        pool_process_free(p[whom]);
        p[whom] = start(whom < EACH ? produce : consume);
        life += whom < EACH;
        killed_consumers += whom >= EACH;
    }
    atomic_store(&ledger->stop, 1);
    pool_queue_close(queue);
    for (int i = 0; i < 2 * EACH; i++)
        end_well(p[i]);
    for (uint32_t i = 0; i < life; i++) {
        long begun = atomic_load(&ledger->begun[i]), put = atomic_load(&ledger->put[i]);
        for (long n = 0; n < put; n++)
            lost += !was_seen(i, (uint32_t)n);
        for (long n = begun; n < begun + 100 && n < (long)most; n++)
            assert_false(was_seen(i, (uint32_t)n));
    }
    print_message("%d kills, %ld items got, %ld lost with %d killed consumers\n", kills, atomic_load(&ledger->got), lost, killed_consumers);
    assert_true(lost <= killed_consumers);
    pool_queue_free(queue);
    close_ledger(LIVES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_once_and_in_order),
        cmocka_unit_test(killed_all_the_time),
    };

    return cmocka_run_group_tests(tests, check_setup, check_teardown);
}
