/* Streams take constant memory, whatever the source, the consumer and the count; and sizes from nothing to gigabytes go through.
 *
 * Memory is measured natively only: sanitizers and valgrind have their own ideas of it. What is measured is the growth of the
 * resident set over a long stretch, after a short one has warmed everything up. FORKPOOL_LONG makes the figures those of the promises.
 *
 * ctest: timeout 120
 * ctest: serial */
#define _GNU_SOURCE
#include "check.h"
#include "forkpool.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PATIENCE 30.0                   /* seconds; only a hang makes it expire */
enum { WORKERS = 2, MIB = 1 << 20 };

static struct pool *pool;
static struct shared {
    atomic_llong sum;
    atomic_int   calls;
} *shared;

static int is_long(void)
{
    return getenv("FORKPOOL_LONG") != NULL;
}

/* Of /proc/<pid>/status, in KiB. */
static long memory(pid_t pid, const char *field)
{
    char path[64], line[256];
    long kib = -1;
    FILE *file;

    snprintf(path, sizeof path, "/proc/%ld/status", (long)pid);
    file = fopen(path, "r");
    assert_non_null(file);
    while (kib < 0 && fgets(line, sizeof line, file))
        if (strncmp(line, field, strlen(field)) == 0)
            kib = strtol(line + strlen(field) + 1, NULL, 10);
    fclose(file);
    return kib;
}

struct levels {
    long host, worker[WORKERS];
};

static struct levels levels(void)
{
    struct levels l;
    unsigned i;

    l.host = memory(getpid(), "VmRSS");
    for (i = 0; i < WORKERS; i++)
        l.worker[i] = memory(pool_worker_pid(pool, i), "VmRSS");
    return l;
}

static void assert_constant(struct levels before, long kib)
{
    struct levels now = levels();
    int i;

    if (check_under(""))
        return;
    if (now.host > before.host + kib)
        fail_msg("the host grew from %ld to %ld KiB", before.host, now.host);
    for (i = 0; i < WORKERS; i++)
        if (now.worker[i] > before.worker[i] + kib)
            fail_msg("worker %d grew from %ld to %ld KiB", i, before.worker[i], now.worker[i]);
}

static void make(void)
{
    memset(shared, 0, sizeof *shared);
    pool = pool_create(&(struct pool_options){.workers = WORKERS});
    assert_non_null(pool);
}

/* ---- Tasks */

static int echo(struct pool_task *task)
{
    return pool_return(task, task->in, task->in_size);
}

static int nothing(struct pool_task *task)
{
    (void)task;
    return 0;
}

static int tell_index(struct pool_task *task)
{
    return pool_return(task, &task->index, sizeof task->index);
}

static int count_call(struct pool_task *task)
{
    (void)task;
    atomic_fetch_add(&shared->calls, 1);
    return 0;
}

/* ---- Generators */

struct stream {
    size_t pulled, end, size;
    char  *item;
};

static int pull(void *cursor, struct pool_bytes *item)
{
    struct stream *s = cursor;

    if (s->pulled == s->end)
        return 0;
    memset(s->item, (int)(s->pulled % 251), s->size);   /* it is borrowed until now only */
    s->pulled++;
    *item = (struct pool_bytes){s->item, s->size};
    return 1;
}

static struct stream stream(size_t end, size_t size)
{
    struct stream s = {0, end, size, malloc(size ? size : 1)};

    assert_non_null(s.item);
    return s;
}

static void take(struct pool_iter *it, size_t from, size_t count, size_t size)
{
    const struct pool_result *r;
    size_t i;

    for (i = from; i < from + count; i++) {
        r = pool_next(it);
        assert_non_null(r);
        assert_int_equal(r->status, POOL_OK);
        assert_int_equal(r->size, size);
        assert_int_equal(((const unsigned char *)r->data)[size - 1], i % 251);
    }
}

/* Never more pulled and not delivered than the window has room for. */
static void pulls_within(int ordered, size_t window)
{
    struct stream s = stream(SIZE_MAX, 64);
    struct pool_call call = {.window = window};
    struct pool_iter *it;
    size_t i;

    make();
    it = (ordered ? pool_imap : pool_imap_unordered)(pool, echo, pool_generator(pull, &s), &call);
    for (i = 0; i < 2000; i++) {
        assert_true(s.pulled - i <= window);
        assert_non_null(pool_next(it));         /* delivered, it is in the window no more */
        assert_true(s.pulled - (i + 1) <= window);
    }
    pool_iter_free(it);
    pool_destroy(pool);
    free(s.item);
}

static void imap_pulls_within_its_window(void **state)
{
    (void)state;
    pulls_within(1, 1);
    pulls_within(1, 7);
    pulls_within(1, 100);
}

static void imap_unordered_pulls_within_its_window(void **state)
{
    (void)state;
    pulls_within(0, 1);
    pulls_within(0, 7);
    pulls_within(0, 100);
}

static void default_window_is_64_mib_and_an_item_per_worker(void **state)
{
    struct stream s = stream(SIZE_MAX, MIB);
    struct pool_iter *it;
    size_t i;

    (void)state;
    make();
    it = pool_imap(pool, echo, pool_generator(pull, &s), NULL);
    for (i = 0; i < 100; i++) {
        assert_true(s.pulled - i <= 64 + WORKERS);
        take(it, i, 1, MIB);
    }
    pool_iter_free(it);
    pool_destroy(pool);
    free(s.item);
}

static void endless_generator_takes_constant_memory(void **state)
{
    size_t count = is_long() ? 10000000 : !check_under("") ? 300000 : 5000;
    struct stream s = stream(SIZE_MAX, 100);
    struct levels before;
    struct pool_iter *it;

    (void)state;
    make();
    it = pool_imap(pool, echo, pool_generator(pull, &s), NULL);
    take(it, 0, count / 10, 100);
    before = levels();
    take(it, count / 10, count, 100);
    assert_constant(before, 1024);
    pool_iter_free(it);
    pool_destroy(pool);
    free(s.item);
}

static void large_items_take_constant_memory(void **state)
{
    size_t count = is_long() ? 5000 : !check_under("") ? 300 : 100;
    struct stream s = stream(SIZE_MAX, MIB);
    struct levels before;
    struct pool_iter *it;

    (void)state;
    make();
    it = pool_imap(pool, echo, pool_generator(pull, &s), &(struct pool_call){.window = 4});
    take(it, 0, 50, MIB);
    before = levels();
    take(it, 50, count, MIB);
    assert_constant(before, 16 * 1024);
    pool_iter_free(it);
    pool_destroy(pool);
    free(s.item);
}

/* The workers are ahead of the consumer. */
static int is_ahead(void *delivered)
{
    return atomic_load(&shared->calls) > *(int *)delivered;
}

static int count_and_echo(struct pool_task *task)
{
    int r = echo(task);

    atomic_fetch_add(&shared->calls, 1);
    return r;
}

static void slow_consumer_takes_constant_memory(void **state)
{
    struct stream s = stream(SIZE_MAX, 10000);
    struct levels before = {0, {0}};
    struct pool_iter *it;
    int i, behind = 0;

    (void)state;
    make();
    it = pool_imap(pool, count_and_echo, pool_generator(pull, &s), &(struct pool_call){.window = 50});
    for (i = 0; i < 600; i++) {
        if (i == 200)
            before = levels();
        behind += !check_until(is_ahead, &i, 0.02);     /* what is delivered in passing hands nothing out, but a slow consumer is noticed */
        assert_true(s.pulled - (size_t)i <= 50);
        take(it, (size_t)i, 1, 10000);
    }
    assert_constant(before, 1024);
    assert_true(behind < 60);
    pool_iter_free(it);
    pool_destroy(pool);
    free(s.item);
}

/* ---- Freed half-way */

static void freed_half_way_1000_times(void **state)
{
    int rounds = is_long() ? 10000 : !check_under("") ? 1000 : 100, i;
    struct stream s = stream(SIZE_MAX, 5000);
    struct check_state check;
    struct levels before = {0, {0}};
    struct pool_iter *it;

    (void)state;
    make();
    check_begin(&check);
    for (i = 0; i < rounds + 100; i++) {
        if (i == 100)
            before = levels();
        s.pulled = 0;
        it = (i % 2 ? pool_imap : pool_imap_unordered)(pool, echo, pool_generator(pull, &s), NULL);
        assert_non_null(pool_next(it));
        if (i % 3)
            assert_non_null(pool_next(it));
        pool_iter_free(it);
    }
    assert_int_equal(pool_apply(pool, nothing, NULL, 0, NULL, 0, NULL), POOL_OK);
    assert_constant(before, 8 * 1024);
    check_end(&check);
    pool_destroy(pool);
    free(s.item);
}

/* ---- Counts */

static void range_of_5_billion_takes_no_memory(void **state)
{
    size_t count = !check_under("") ? 1000000 : 50000, i;
    const struct pool_result *r;
    struct levels before;
    struct pool_iter *it;

    (void)state;
    make();
    before = levels();
    it = pool_imap(pool, tell_index, pool_range(5000000000), NULL);
    for (i = 0; i < count; i++) {
        r = pool_next(it);
        assert_true(r && r->index == i && *(const size_t *)r->data == i);
    }
    pool_iter_free(it);
    assert_constant(before, 4 * 1024);
    pool_destroy(pool);
}

static int sum_up(struct pool_task *task)
{
    atomic_fetch_add(&shared->sum, (long long)task->index);
    return 0;
}

static void map_over_millions_takes_no_memory(void **state)
{
    size_t count = is_long() ? 50000000 : !check_under("") ? 2000000 : 50000;
    struct levels before;

    (void)state;
    make();
    before = levels();
    assert_int_equal(pool_map(pool, sum_up, pool_range(count), NULL, 0, NULL), POOL_OK);
    assert_constant(before, 4 * 1024);
    assert_true(atomic_load(&shared->sum) == (long long)count * (long long)(count - 1) / 2);
    pool_destroy(pool);
}

/* ---- Sizes */

static int check_and_echo(struct pool_task *task)
{
    const unsigned char *in = task->in;
    unsigned char *out = pool_out(task, task->in_size);
    size_t i;

    if (!out)
        return 1;
    for (i = 0; i < task->in_size; i += 4096)
        out[i] = (unsigned char)(in[i] + 1);
    out[task->in_size - 1] = (unsigned char)(in[task->in_size - 1] + 1);
    return 0;
}

static void one_item_of_gigabytes(void **state)
{
    size_t size = is_long() ? (size_t)3 << 30 : !check_under("") ? (size_t)300 << 20 : (size_t)40 << 20, i;
    unsigned char *in = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned char *out = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    (void)state;
    assert_true(in != MAP_FAILED && out != MAP_FAILED);
    for (i = 0; i < size; i += 4096)
        in[i] = (unsigned char)(i >> 12);
    in[size - 1] = 77;
    make();
    assert_int_equal(pool_apply(pool, check_and_echo, in, size, out, size, NULL), POOL_OK);
    for (i = 0; i < size; i += 4096)
        if (out[i] != (unsigned char)((i >> 12) + 1))
            fail_msg("byte %zu", i);
    assert_int_equal(out[size - 1], 78);
    pool_destroy(pool);
    munmap(in, size);
    munmap(out, size);
}

static int read_common(struct pool_task *task)
{
    static const void *where;
    const char *common = task->common;

    if (where && where != common)
        return pool_fail(task, 1, "it came twice");
    where = common;
    return task->common_size == 64 * MIB && common[0] == 'c' && common[64 * MIB - 1] == 'c' ? 0 : 2;
}

/* Sent once: were it sent for each item, this took 64 GiB. */
static void common_of_64_mib_is_sent_once_per_worker(void **state)
{
    char *common = malloc(64 * MIB);

    (void)state;
    assert_non_null(common);
    memset(common, 'c', 64 * MIB);
    make();
    assert_int_equal(pool_map(pool, read_common, pool_range(1000), NULL, 0,
                              &(struct pool_call){.common = common, .common_size = 64 * MIB}), POOL_OK);
    pool_destroy(pool);
    free(common);
}

static void results_of_0_bytes(void **state)
{
    const struct pool_result *r;
    struct pool_iter *it;
    size_t i;

    (void)state;
    make();
    assert_int_equal(pool_map(pool, nothing, pool_range(1000), shared, 0, NULL), POOL_OK);
    it = pool_imap(pool, nothing, pool_range(1000), NULL);
    for (i = 0; (r = pool_next(it)); i++)
        assert_true(r->status == POOL_OK && r->size == 0 && r->index == i);
    assert_int_equal(i, 1000);
    pool_iter_free(it);
    pool_destroy(pool);
}

static int is_empty(struct pool_task *task)
{
    atomic_fetch_add(&shared->calls, 1);
    return task->in_size != 0;
}

static void items_of_0_bytes(void **state)
{
    const struct pool_bytes none[50] = {{NULL, 0}};
    struct stream s = stream(50, 0);

    (void)state;
    make();
    assert_int_equal(pool_map(pool, is_empty, pool_array(none, 50, 0), NULL, 0, NULL), POOL_OK);
    assert_int_equal(pool_map(pool, is_empty, pool_array(NULL, 50, 0), NULL, 0, NULL), POOL_OK);
    assert_int_equal(pool_map(pool, is_empty, pool_buffers(none, 50), NULL, 0, NULL), POOL_OK);
    assert_int_equal(pool_map(pool, is_empty, pool_generator(pull, &s), NULL, 0, NULL), POOL_OK);
    assert_int_equal(pool_apply(pool, is_empty, NULL, 0, NULL, 0, NULL), POOL_OK);
    assert_int_equal(atomic_load(&shared->calls), 4 * 50 + 1);
    pool_destroy(pool);
    free(s.item);
}

static void no_items_at_all(void **state)
{
    struct stream s = stream(0, 1);
    struct pool_items none[4];
    struct pool_results *results;
    struct pool_iter *it;
    int i;

    (void)state;
    none[0] = pool_array(NULL, 0, 8);
    none[1] = pool_range(0);
    none[2] = pool_buffers(NULL, 0);
    none[3] = pool_generator(pull, &s);
    make();
    for (i = 0; i < 4; i++) {
        assert_int_equal(pool_map(pool, count_call, none[i], NULL, 0, NULL), POOL_OK);
        results = pool_map_results(pool, count_call, none[i], NULL);
        assert_non_null(results);
        assert_int_equal(pool_results_count(results), 0);
        pool_results_free(results);
        it = pool_imap(pool, count_call, none[i], NULL);
        assert_non_null(it);
        assert_null(pool_next(it));
        assert_int_equal(pool_iter_status(it), POOL_OK);
        pool_iter_free(it);
    }
    assert_int_equal(atomic_load(&shared->calls), 0);
    pool_destroy(pool);
    free(s.item);
}

/* ---- A result that lies where its worker made it */

static int is_dead(void *pid)
{
    return !check_alive(*(pid_t *)pid);
}

static int fill(struct pool_task *task)
{
    char *out = pool_out(task, MIB);

    if (!out)
        return 1;
    memset(out, 'a' + (int)task->index, MIB);
    return 0;
}

static void a_result_stays_though_its_worker_dies(void **state)
{
    const struct pool_result *r;
    struct pool_iter *it;
    pid_t pid;
    size_t i;

    (void)state;
    make();
    it = pool_imap(pool, fill, pool_range(6), NULL);
    r = pool_next(it);
    assert_non_null(r);
    pid = r->pid;
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_true(check_until(is_dead, &pid, PATIENCE));
    /* The replacement works in the same region meanwhile. */
    for (i = 0; i < 20; i++)
        assert_int_not_equal(pool_apply(pool, fill, NULL, 0, NULL, 0, NULL), POOL_BROKEN);
    for (i = 0; i < MIB; i++)
        if (((const char *)r->data)[i] != 'a')
            fail_msg("byte %zu", i);
    pool_iter_free(it);
    pool_destroy(pool);
}

/* ---- Generators that fail, or use the pool */

struct failing {
    int at, item;
};

static int fail_at(void *cursor, struct pool_bytes *item)
{
    struct failing *f = cursor;

    if (f->item == f->at)
        return -42;
    f->item++;
    *item = (struct pool_bytes){&f->item, sizeof f->item};
    return 1;
}

static void imap_source_fails_at(int at)
{
    struct failing f = {at, 0};
    const struct pool_result *r;
    struct pool_iter *it;
    int i;

    make();
    it = pool_imap(pool, echo, pool_generator(fail_at, &f), NULL);
    for (i = 0; i < at; i++) {
        r = pool_next(it);
        assert_true(r && r->status == POOL_OK && *(const int *)r->data == i + 1);
    }
    r = pool_next(it);
    assert_non_null(r);
    assert_int_equal(r->status, POOL_SOURCE_FAILED);
    assert_int_equal(r->code, -42);
    assert_null(pool_next(it));
    assert_int_equal(pool_iter_status(it), POOL_SOURCE_FAILED);
    pool_iter_free(it);
    pool_destroy(pool);
}

static void imap_source_fails_at_first(void **state)
{
    (void)state;
    imap_source_fails_at(0);
}

static void imap_source_fails_in_the_middle(void **state)
{
    (void)state;
    imap_source_fails_at(500);
}

static void imap_unordered_source_fails_last(void **state)
{
    struct failing f = {100, 0};
    const struct pool_result *r;
    struct pool_iter *it;
    int i;

    (void)state;
    make();
    it = pool_imap_unordered(pool, echo, pool_generator(fail_at, &f), NULL);
    for (i = 0; i < 100; i++) {
        r = pool_next(it);
        assert_non_null(r);
        assert_int_equal(r->status, POOL_OK);
    }
    r = pool_next(it);
    assert_non_null(r);
    assert_int_equal(r->status, POOL_SOURCE_FAILED);
    assert_null(pool_next(it));
    pool_iter_free(it);
    pool_destroy(pool);
}

static void map_source_fails(void **state)
{
    struct failing f = {100, 0};

    (void)state;
    make();
    assert_int_equal(pool_map(pool, count_call, pool_generator(fail_at, &f), NULL, 0, NULL), POOL_SOURCE_FAILED);
    assert_int_equal(atomic_load(&shared->calls), 100);
    assert_non_null(pool_failure());
    assert_int_equal(pool_failure()->code, -42);
    pool_destroy(pool);
}

static void results_source_fails(void **state)
{
    struct failing f = {100, 0};
    struct pool_results *results;

    (void)state;
    make();
    results = pool_map_results(pool, echo, pool_generator(fail_at, &f), NULL);
    assert_int_equal(pool_results_count(results), 101);
    assert_int_equal(pool_results_at(results, 99)->status, POOL_OK);
    assert_int_equal(pool_results_at(results, 100)->status, POOL_SOURCE_FAILED);
    assert_int_equal(pool_results_status(results), POOL_SOURCE_FAILED);
    pool_results_free(results);
    pool_destroy(pool);
}

static int null_with_a_size(void *cursor, struct pool_bytes *item)
{
    (void)cursor;
    *item = (struct pool_bytes){NULL, 5};
    return 1;
}

static void null_with_a_size_is_a_failure_of_the_source(void **state)
{
    (void)state;
    make();
    assert_int_equal(pool_map(pool, nothing, pool_generator(null_with_a_size, NULL), NULL, 0, NULL), POOL_SOURCE_FAILED);
    pool_destroy(pool);
}

static int ask_the_pool(void *cursor, struct pool_bytes *item)
{
    struct failing *f = cursor;
    int in[4] = {1, 2, 3, f->item}, out[4] = {0};

    if (f->item == f->at)
        return 0;
    f->item++;
    if (pool_map(pool, echo, pool_array(in, 4, sizeof *in), out, sizeof *out, NULL) || memcmp(in, out, sizeof in) != 0)
        return -1;
    if (pool_apply(pool, echo, in, sizeof *in, out, sizeof *out, NULL))
        return -2;
    *item = (struct pool_bytes){&f->item, sizeof f->item};
    return 1;
}

static void generator_may_use_the_pool_in_imap(void **state)
{
    struct failing f = {200, 0};
    const struct pool_result *r;
    struct pool_iter *it;
    int i;

    (void)state;
    make();
    it = pool_imap(pool, echo, pool_generator(ask_the_pool, &f), NULL);
    for (i = 0; (r = pool_next(it)); i++)
        assert_true(r->status == POOL_OK && *(const int *)r->data == i + 1);
    assert_int_equal(i, 200);
    pool_iter_free(it);
    pool_destroy(pool);
}

static void generator_may_use_the_pool_in_map(void **state)
{
    struct failing f = {200, 0};

    (void)state;
    make();
    assert_int_equal(pool_map(pool, count_call, pool_generator(ask_the_pool, &f), NULL, 0, NULL), POOL_OK);
    assert_int_equal(atomic_load(&shared->calls), 200);
    pool_destroy(pool);
}

static struct pool_iter *asked;

static int ask_itself(void *cursor, struct pool_bytes *item)
{
    int *calls = cursor;

    if (asked && (pool_next(asked) || strlen(pool_error()) < 20))
        return -1;
    *item = (struct pool_bytes){calls, sizeof *calls};
    return ++*calls <= 5000;
}

static void generator_may_not_ask_its_own_iterator(void **state)
{
    const struct pool_result *r;
    int calls = 0, i;

    (void)state;
    make();
    asked = NULL;
    asked = pool_imap(pool, echo, pool_generator(ask_itself, &calls), &(struct pool_call){.window = 10});
    for (i = 0; (r = pool_next(asked)); i++)
        assert_int_equal(r->status, POOL_OK);
    assert_int_equal(i, 5000);
    pool_iter_free(asked);
    pool_destroy(pool);
}

static int setup(void **state)
{
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(shared != MAP_FAILED);
    return check_setup(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(imap_pulls_within_its_window),
        cmocka_unit_test(imap_unordered_pulls_within_its_window),
        cmocka_unit_test(default_window_is_64_mib_and_an_item_per_worker),
        cmocka_unit_test(endless_generator_takes_constant_memory),
        cmocka_unit_test(large_items_take_constant_memory),
        cmocka_unit_test(slow_consumer_takes_constant_memory),
        cmocka_unit_test(freed_half_way_1000_times),
        cmocka_unit_test(range_of_5_billion_takes_no_memory),
        cmocka_unit_test(map_over_millions_takes_no_memory),
        cmocka_unit_test(one_item_of_gigabytes),
        cmocka_unit_test(common_of_64_mib_is_sent_once_per_worker),
        cmocka_unit_test(results_of_0_bytes),
        cmocka_unit_test(items_of_0_bytes),
        cmocka_unit_test(no_items_at_all),
        cmocka_unit_test(a_result_stays_though_its_worker_dies),
        cmocka_unit_test(imap_source_fails_at_first),
        cmocka_unit_test(imap_source_fails_in_the_middle),
        cmocka_unit_test(imap_unordered_source_fails_last),
        cmocka_unit_test(map_source_fails),
        cmocka_unit_test(results_source_fails),
        cmocka_unit_test(null_with_a_size_is_a_failure_of_the_source),
        cmocka_unit_test(generator_may_use_the_pool_in_imap),
        cmocka_unit_test(generator_may_use_the_pool_in_map),
        cmocka_unit_test(generator_may_not_ask_its_own_iterator),
    };

    return cmocka_run_group_tests(tests, setup, check_teardown);
}
