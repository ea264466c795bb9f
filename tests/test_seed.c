/* pool_task_seed: the same for an index in every pool, at every try and in the calling thread; and neighbours share nothing. */
#define _GNU_SOURCE
#include "check.h"
#include "task.h"

#include <forkpool.h>

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { COUNT = 1000, MANY = 100000, BITS = 64 };

static atomic_uint *starts;             /* of each item, in memory that workers share */

static int setup(void **state)
{
    void *pages = mmap(NULL, COUNT * sizeof *starts, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    check_setup(state);
    assert_true(pages != MAP_FAILED);
    starts = pages;
    return 0;
}

static int teardown(void **state)
{
    munmap(starts, COUNT * sizeof *starts);
    return check_teardown(state);
}

/* ---- As numbers */

static uint64_t seed_of(size_t index)
{
    struct task_run run = {.task = {.index = index}};

    return pool_task_seed(&run.task);
}

static int bits_of(uint64_t x)
{
    int n = 0;

    for (; x; x &= x - 1)
        n++;
    return n;
}

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* A program may have written down what it got, and wants to get it again from the next version. */
static void the_first_ones_are_these(void **state)
{
    (void)state;
    assert_true(seed_of(0) == 0xe220a8397b1dcdafu);
    assert_true(seed_of(1) == 0x6e789e6aa1b965f4u);
    assert_true(seed_of(2) == 0x06c45d188009454fu);
}

static void none_is_there_twice(void **state)
{
    uint64_t *seeds = malloc(MANY * sizeof *seeds);
    size_t i;

    (void)state;
    assert_non_null(seeds);
    for (i = 0; i < MANY; i++)
        seeds[i] = seed_of(i);
    qsort(seeds, MANY, sizeof *seeds, ascending);
    for (i = 1; i < MANY; i++)
        assert_true(seeds[i - 1] != seeds[i]);
    free(seeds);
}

/* Bits by which seeds differ that are so far apart: binomial, so 32 +- 4 for one and 32 +- 0.013 for the mean. */
static void differ_by_half_their_bits(size_t apart)
{
    double sum = 0;
    size_t i;

    for (i = 0; i < MANY; i++) {
        int bits = bits_of(seed_of(i) ^ seed_of(i + apart));

        assert_in_range(bits, 8, 56);
        sum += bits;
    }
    assert_true(sum / MANY > 31.9 && sum / MANY < 32.1);
}

static void neighbours_differ_by_half_their_bits(void **state)
{
    (void)state;
    differ_by_half_their_bits(1);
    differ_by_half_their_bits(2);
}

static void those_a_power_of_two_apart_too(void **state)
{
    (void)state;
    differ_by_half_their_bits((size_t)1 << 10);
    differ_by_half_their_bits((size_t)1 << (sizeof(size_t) * 8 - 1));
}

/* Deviations of 0.5 / sqrt(100,000) = 0.0016; six of them. */
static void each_bit_is_set_half_the_time(void **state)
{
    size_t set[BITS] = {0}, i, bit;

    (void)state;
    for (i = 0; i < MANY; i++)
        for (bit = 0; bit < BITS; bit++)
            set[bit] += seed_of(i) >> bit & 1;
    for (bit = 0; bit < BITS; bit++)
        if (set[bit] < MANY / 100 * 49 || set[bit] > MANY / 100 * 51)
            fail_msg("bit %zu is set %zu times of %d", bit, set[bit], MANY);
}

/* Also that of any bit and the same bit of its neighbour: they are equal half the time. */
static void each_bit_changes_half_the_time(void **state)
{
    size_t changed[BITS] = {0}, i, bit;

    (void)state;
    for (i = 0; i < MANY; i++)
        for (bit = 0; bit < BITS; bit++)
            changed[bit] += (seed_of(i) ^ seed_of(i + 1)) >> bit & 1;
    for (bit = 0; bit < BITS; bit++)
        if (changed[bit] < MANY / 100 * 49 || changed[bit] > MANY / 100 * 51)
            fail_msg("bit %zu changes %zu times of %d", bit, changed[bit], MANY);
}

static void the_last_index_has_one(void **state)
{
    (void)state;
    assert_true(seed_of(SIZE_MAX) != seed_of(SIZE_MAX - 1));
    assert_true(seed_of(SIZE_MAX - 1) != seed_of(0));
}

static void only_the_index_counts(void **state)
{
    struct task_run run = {.task = {.index = 17, .in = "item", .in_size = 4, .common = "common", .common_size = 6}};

    (void)state;
    assert_true(pool_task_seed(&run.task) == seed_of(17));
    assert_true(pool_task_seed(&run.task) == seed_of(17));
}

/* ---- In pools */

static int tell_seed(struct pool_task *task)
{
    uint64_t seed = pool_task_seed(task);

    return pool_return(task, &seed, sizeof seed);
}

static int tell_seed_at_second_try(struct pool_task *task)
{
    if (task->index % 100 == 7 && atomic_fetch_add(&starts[task->index], 1) == 0)
        raise(SIGKILL);
    return tell_seed(task);
}

static void assert_seeds(const struct pool_options *options, pool_fn *fn, const struct pool_call *call)
{
    static uint64_t seeds[COUNT];
    struct pool *pool = pool_create(options);
    size_t i;

    assert_non_null(pool);
    memset(seeds, 0, sizeof seeds);
    assert_int_equal(pool_map(pool, fn, pool_range(COUNT), seeds, sizeof *seeds, call), POOL_OK);
    for (i = 0; i < COUNT; i++)
        assert_true(seeds[i] == seed_of(i));
    pool_destroy(pool);
}

static void at_one_worker(void **state)
{
    (void)state;
    assert_seeds(&(struct pool_options){.workers = 1}, tell_seed, NULL);
}

static void at_several_workers(void **state)
{
    (void)state;
    assert_seeds(&(struct pool_options){.workers = 4}, tell_seed, &(struct pool_call){.chunk = 1});
}

static void in_a_serial_pool(void **state)
{
    (void)state;
    assert_seeds(&(struct pool_options){.serial = 1}, tell_seed, NULL);
}

static void at_the_second_try(void **state)
{
    (void)state;
    assert_seeds(&(struct pool_options){.workers = 2}, tell_seed_at_second_try, &(struct pool_call){.retries = 1});
    assert_int_equal(starts[7], 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_ones_are_these),
        cmocka_unit_test(none_is_there_twice),
        cmocka_unit_test(neighbours_differ_by_half_their_bits),
        cmocka_unit_test(those_a_power_of_two_apart_too),
        cmocka_unit_test(each_bit_is_set_half_the_time),
        cmocka_unit_test(each_bit_changes_half_the_time),
        cmocka_unit_test(the_last_index_has_one),
        cmocka_unit_test(only_the_index_counts),
        cmocka_unit_test(at_one_worker),
        cmocka_unit_test(at_several_workers),
        cmocka_unit_test(in_a_serial_pool),
        cmocka_unit_test(at_the_second_try),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
