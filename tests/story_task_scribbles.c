/* A task that writes over the memory which its worker shares with the host harms its own worker only: its item ends OK or CRASHED, items
 * that waited at the same worker end OK or CRASHED, and host, siblings and the next call are unharmed.
 *
 * The region is whatever mapping holds the item; the desk, the page of shared words, is the other mapping of shared anonymous memory
 * in the worker; the ledger, which is also one, is left alone. */
#define _GNU_SOURCE
#include "ledger.h"

#include <signal.h>
#include <stdint.h>
#include <stdlib.h>

enum { ITEMS = 64, BAD = 9, RINGS = 2 << 20 };      /* bytes at the start of a region with all that is not the lane, and some of that */
enum pattern { ZEROS, ONES, NOISE };
enum { REGION = 1, DESK = 2 };
enum then { RETURNS, PAUSES, DIES, FAILS };

struct deed {
    enum pattern pattern;
    int          what;                  /* REGION, DESK or both */
    enum then    then;
    int          whole;                 /* or else the first RINGS bytes of a mapping: the lane is large */
};

static struct deed deed;                /* set before the pool is made */

static void cover(unsigned char *at, size_t size)
{
    uint64_t x = 88172645463325252u ^ (uint64_t)(deed.what * 7 + (int)deed.then);
    size_t i;

    if (deed.pattern != NOISE) {
        memset(at, deed.pattern == ZEROS ? 0 : 0xff, size);
        return;
    }
    for (i = 0; i + sizeof x <= size; i += sizeof x) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        memcpy(at + i, &x, sizeof x);
    }
}

static int holds(uintptr_t from, uintptr_t to, const void *at)
{
    return (uintptr_t)at >= from && (uintptr_t)at < to;
}

/* Reads all of the list before anything is written: the list is stdio's business, which lies elsewhere. */
static void scribble(const void *item)
{
    struct range { uintptr_t from, to; } ranges[16];
    char line[512];
    FILE *maps = fopen("/proc/self/maps", "re");
    size_t count = 0, i;

    while (maps && count < 16 && fgets(line, sizeof line, maps)) {
        struct range *r = &ranges[count];
        char *end;

        r->from = (uintptr_t)strtoull(line, &end, 16);
        r->to = (uintptr_t)strtoull(end + 1, NULL, 16);
        if (!strstr(line, "/dev/zero") || !strstr(line, "rw-s") || holds(r->from, r->to, ledger))
            continue;
        count += (deed.what & (holds(r->from, r->to, item) ? REGION : DESK)) != 0;
    }
    if (maps)
        fclose(maps);
    for (i = 0; i < count; i++) {
        size_t size = ranges[i].to - ranges[i].from;

        cover((unsigned char *)ranges[i].from, deed.whole || size < RINGS ? size : RINGS);
    }
    if (!count)
        _exit(77);                      /* nothing found: the test would test nothing */
}

static int scribbles(struct pool_task *task)
{
    note_start(task);
    if (task->index != BAD)
        return answer(task);
    scribble(task->in);
    if (deed.then == PAUSES)
        pause_for_ever();
    if (deed.then == DIES)
        raise(SIGKILL);
    if (deed.then == FAILS)
        return pool_fail(task, 5, "on purpose");
    return answer(task);
}

static struct pool_iter *begin_array(struct pool *pool, size_t chunk)
{
    static const long items[ITEMS];
    struct pool_call call = {.chunk = chunk};
    struct pool_iter *iter = pool_imap_unordered(pool, scribbles, pool_array(items, ITEMS, sizeof *items), &call);

    assert_non_null(iter);
    return iter;
}

/* The damage may come to light only when the worker goes on to an item of the next call: that one it costs, and then all is well. */
static void assert_recovers(struct pool *pool)
{
    struct end ends[ITEMS];

    run(pool, good, ITEMS, ends);
    assert_cost_one_at_most(ends, ITEMS);
    assert_works(pool);
}

/* What the same worker had returned before, and the host was just reading, lay in the region, too: its header was whole, its bytes need not
 * be. */
static int lay_there(const struct end *ends, size_t i, int what)
{
    return i < BAD && ends[i].pid == ends[BAD].pid && what & REGION;
}

/* How often an item ran is not judged where the words that tell it were written over. */
static void harms_its_worker_only(enum pattern pattern, int what, enum then then)
{
    struct end ends[ITEMS] = {{0}};
    struct pool *pool;
    size_t i;

    ledger_clear(NULL);
    deed = (struct deed){pattern, what, then, then == RETURNS && what == REGION};
    pool = make_pool(2);
    collect(begin_array(pool, 8), ends, ITEMS);
    for (i = 0; i < ITEMS; i++) {
        if (ends[i].status == POOL_CRASHED)
            assert_int_not_equal(ends[i].code, 77);
        else if (lay_there(ends, i, what) && ends[i].status == POOL_OK)
            assert_int_equal(ends[i].size, sizeof ends[i].value);
        else if (i != BAD)
            assert_good(&ends[i], i);
    }
    if (then == DIES)
        assert_int_equal(ends[BAD].status, POOL_CRASHED);
    assert_recovers(pool);
    pool_destroy(pool);
}

static void each_end(enum pattern pattern, int what)
{
    harms_its_worker_only(pattern, what, RETURNS);
    harms_its_worker_only(pattern, what, FAILS);
    harms_its_worker_only(pattern, what, DIES);
}

static void zeros_over_the_region(void **state)
{
    (void)state;
    each_end(ZEROS, REGION);
}

static void zeros_over_the_desk(void **state)
{
    (void)state;
    each_end(ZEROS, DESK);
}

static void zeros_over_both(void **state)
{
    (void)state;
    each_end(ZEROS, REGION | DESK);
}

static void ones_over_the_region(void **state)
{
    (void)state;
    each_end(ONES, REGION);
}

static void ones_over_the_desk(void **state)
{
    (void)state;
    each_end(ONES, DESK);
}

static void ones_over_both(void **state)
{
    (void)state;
    each_end(ONES, REGION | DESK);
}

static void noise_over_the_region(void **state)
{
    (void)state;
    each_end(NOISE, REGION);
}

static void noise_over_the_desk(void **state)
{
    (void)state;
    each_end(NOISE, DESK);
}

static void noise_over_both(void **state)
{
    (void)state;
    each_end(NOISE, REGION | DESK);
}

/* A host that sleeps is not told of the damage by a worker that never comes back: what ends such a call is a kill. */
static void a_scribbler_that_pauses_can_be_cancelled(enum pattern pattern)
{
    struct end ends[ITEMS] = {{0}};
    struct pool_iter *iter;
    struct pool *pool;

    ledger_clear(NULL);
    deed = (struct deed){pattern, REGION | DESK, PAUSES, 0};
    pool = make_pool(1);
    iter = begin_array(pool, 8);
    while (!ledger->started[BAD])
        pool_next_timeout(iter, 0.01);
    pool_iter_cancel(iter);
    while (collect_one(iter, ends, ITEMS))
        ;
    assert_int_equal(pool_iter_status(iter), POOL_CANCELLED);
    pool_iter_free(iter);
    assert_recovers(pool);
    pool_destroy(pool);
}

static void pausing_after_zeros(void **state)
{
    (void)state;
    a_scribbler_that_pauses_can_be_cancelled(ZEROS);
}

static void pausing_after_ones(void **state)
{
    (void)state;
    a_scribbler_that_pauses_can_be_cancelled(ONES);
}

static void pausing_after_noise(void **state)
{
    (void)state;
    a_scribbler_that_pauses_can_be_cancelled(NOISE);
}

/* The same with results that lie beside their items, as pool_map has them. */
static void a_map_survives(enum pattern pattern)
{
    static const long items[ITEMS];
    long values[ITEMS];
    enum pool_status status;
    struct pool *pool;

    ledger_clear(NULL);
    deed = (struct deed){pattern, REGION | DESK, RETURNS, 0};
    pool = make_pool(2);
    status = pool_map(pool, scribbles, pool_array(items, ITEMS, sizeof *items), values, sizeof *values, NULL);
    assert_true(status == POOL_OK || status == POOL_CRASHED);
    if (status == POOL_CRASHED)
        assert_int_not_equal(pool_failure()->code, 77);
    assert_recovers(pool);
    pool_destroy(pool);
}

static void a_map_survives_each(void **state)
{
    (void)state;
    a_map_survives(ZEROS);
    a_map_survives(ONES);
    a_map_survives(NOISE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(zeros_over_the_region),
        STORY(zeros_over_the_desk),
        STORY(zeros_over_both),
        STORY(ones_over_the_region),
        STORY(ones_over_the_desk),
        STORY(ones_over_both),
        STORY(noise_over_the_region),
        STORY(noise_over_the_desk),
        STORY(noise_over_both),
        STORY(pausing_after_zeros),
        STORY(pausing_after_ones),
        STORY(pausing_after_noise),
        STORY(a_map_survives_each),
    };

    return cmocka_run_group_tests(tests, ledger_setup, ledger_teardown);
}
