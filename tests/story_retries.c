/* Retries: an item whose worker crashed is started again, on another worker where one is free, with the same bytes and index, up to so many
 * times; what crashes every time is told under its own index, and the rest completes. What failed or timed out is not started again.
 *
 * How often an item was started stands in the ledger, which outlives the workers.
 *
 * ctest: label memcheck */
#define _GNU_SOURCE
#include "ledger.h"

#include <signal.h>

enum { LARGE = 9 << 20 };               /* bytes that no lane slot holds */

/* Bit masks of indexes, as task->common. */
struct plan {
    uint64_t flaky;                     /* die once */
    uint64_t poison;                    /* die always */
};

static int in(uint64_t mask, size_t index)
{
    return index < 64 && mask >> index & 1;
}

/* ---- In a worker */

static unsigned count_start(const struct pool_task *task)
{
    return atomic_fetch_add(&ledger->started[task->index % LEDGER_ITEMS], 1) + 1;
}

/* Dies where the plan says so. */
static void meet_fate(const struct pool_task *task)
{
    const struct plan *plan = task->common;
    unsigned start = count_start(task);

    if (in(plan->poison, task->index) || (in(plan->flaky, task->index) && start == 1))
        raise(SIGKILL);
}

static int flaky(struct pool_task *task)
{
    meet_fate(task);
    return answer(task);
}

/* The item itself comes back. */
static int flaky_echo(struct pool_task *task)
{
    meet_fate(task);
    return pool_return(task, task->in, task->in_size);
}

/* Exits with a status instead of being killed. */
static int exits_first(struct pool_task *task)
{
    if (count_start(task) == 1)
        _exit(7);
    return answer(task);
}

static int fails(struct pool_task *task)
{
    count_start(task);
    return pool_fail(task, 5, "on purpose");
}

static int hangs(struct pool_task *task)
{
    count_start(task);
    pause_for_ever();
    return 0;
}

/* Dies once, and tells where it was each time. */
static int first_dies(struct pool_task *task)
{
    unsigned start = count_start(task);

    atomic_store(&ledger->pid[start & 1], getpid());
    atomic_store(&ledger->pid[2 + (start & 1)], (int)task->worker->index + 1);
    if (start == 1)
        raise(SIGKILL);
    return answer(task);
}

static int always_dies(struct pool_task *task)
{
    count_start(task);
    raise(SIGKILL);
    return 0;
}

/* ---- In the host */

static struct pool_call call_of(const struct plan *plan, unsigned retries)
{
    return (struct pool_call){.common = plan, .common_size = sizeof *plan, .retries = retries};
}

static struct pool_iter *iterate(struct pool *pool, pool_fn *fn, struct pool_items items, const struct pool_call *call, int ordered)
{
    struct pool_iter *iter = ordered ? pool_imap(pool, fn, items, call) : pool_imap_unordered(pool, fn, items, call);

    if (!iter)
        fail_msg("no iterator: %s", pool_error());
    return iter;
}

static void assert_poisoned(const struct end *end, size_t index, unsigned tries)
{
    assert_int_equal(end->status, POOL_CRASHED);
    assert_int_equal(end->signal, SIGKILL);
    assert_int_equal(end->tries, tries);
    assert_true(end->pid > 0);
    assert_true(end->message[0]);
    assert_int_equal(ledger->started[index], tries);
}

/* Runs the plan and sees that each item ended as it says. */
static void assert_as_planned(unsigned workers, struct plan plan, unsigned retries, size_t count, int ordered)
{
    struct pool_call call = call_of(&plan, retries);
    struct end ends[64] = {{0}};
    struct pool_stats stats;
    struct pool *pool = make_pool(workers);
    uint64_t again = 0;
    size_t i;

    collect(iterate(pool, flaky, pool_range(count), &call, ordered), ends, count);
    for (i = 0; i < count; i++) {
        unsigned tries = in(plan.poison, i) ? retries + 1 : in(plan.flaky, i) ? 2 : 1;

        again += tries - 1;
        if (in(plan.poison, i)) {
            assert_poisoned(&ends[i], i, tries);
            continue;
        }
        assert_good(&ends[i], i);
        assert_int_equal(ends[i].tries, tries);
        assert_int_equal(ledger->started[i], tries);
    }
    assert_int_equal(pool_stats(pool, &stats), POOL_OK);
    assert_int_equal(stats.retried, again);
    assert_works(pool);
    pool_destroy(pool);
}

/* ---- Flaky and poison items */

static void a_flaky_item_ends_well(void **state)
{
    (void)state;
    assert_as_planned(2, (struct plan){.flaky = 1u << 3}, 1, 20, 0);
}

static void a_flaky_item_ends_well_at_the_only_worker(void **state)
{
    (void)state;
    assert_as_planned(1, (struct plan){.flaky = 1u << 3}, 1, 20, 0);
}

static void many_flaky_items(void **state)
{
    (void)state;
    assert_as_planned(2, (struct plan){.flaky = 0x5555555555555555u}, 3, 64, 0);
}

static void the_first_and_the_last(void **state)
{
    (void)state;
    assert_as_planned(2, (struct plan){.flaky = 1 | 1u << 19}, 1, 20, 0);
}

static void a_poison_item_is_named_and_the_rest_completes(void **state)
{
    (void)state;
    assert_as_planned(2, (struct plan){.poison = 1u << 7}, 3, 40, 0);
}

static void a_poison_item_at_the_only_worker(void **state)
{
    (void)state;
    assert_as_planned(1, (struct plan){.poison = 1u << 7}, 2, 20, 0);
}

static void flaky_and_poison_together(void **state)
{
    (void)state;
    assert_as_planned(3, (struct plan){.flaky = 0xf0f0, .poison = 0x010004}, 2, 40, 0);
}

static void every_item_is_poison(void **state)
{
    (void)state;
    assert_as_planned(2, (struct plan){.poison = UINT64_MAX}, 2, 8, 0);
}

/* A death with an item does not count as one of a worker that dies as soon as it is ready, which breaks a pool. */
static void many_retries_do_not_break_the_pool(void **state)
{
    (void)state;
    assert_as_planned(2, (struct plan){.poison = 1u << 2}, 150, 10, 0);
}

static void order_is_kept(void **state)
{
    struct plan plan = {.flaky = 0xaaaa, .poison = 1u << 20};
    struct pool_call call = call_of(&plan, 2);
    struct pool *pool = make_pool(2);
    struct pool_iter *iter;
    const struct pool_result *r;
    size_t next = 0;

    (void)state;
    call.window = 4;
    iter = iterate(pool, flaky, pool_range(40), &call, 1);
    while ((r = pool_next_timeout(iter, PATIENCE))) {
        assert_int_equal(r->index, next);
        assert_int_equal(r->status, next == 20 ? POOL_CRASHED : POOL_OK);
        next++;
    }
    assert_int_equal(next, 40);
    assert_int_equal(pool_iter_status(iter), POOL_OK);
    pool_iter_free(iter);
    pool_destroy(pool);
}

static void without_retries_one_start(void **state)
{
    (void)state;
    assert_as_planned(2, (struct plan){.poison = 1u << 3}, 0, 10, 0);
}

static void an_exit_is_a_crash_like_others(void **state)
{
    struct pool_call call = {.retries = 1};
    struct end ends[10] = {{0}};
    struct pool *pool = make_pool(2);
    size_t i;

    (void)state;
    collect(iterate(pool, exits_first, pool_range(10), &call, 0), ends, 10);
    for (i = 0; i < 10; i++) {
        assert_good(&ends[i], i);
        assert_int_equal(ends[i].tries, 2);
    }
    pool_destroy(pool);
}

/* With another worker idle, that one gets it; and it is another process in any case. Each time in a new pool, with all workers ready. */
static void it_runs_at_another_worker_where_one_is_free(void **state)
{
    struct pool_call call = {.retries = 1};
    int i;

    (void)state;
    for (i = 0; i < 8; i++) {
        struct pool *pool = make_pool(3);
        struct end end[1] = {{0}};

        ledger_clear(NULL);
        collect(iterate(pool, first_dies, pool_range(1), &call, 0), end, 1);
        assert_good(end, 0);
        assert_int_equal(end->tries, 2);
        assert_int_not_equal(ledger->pid[0], ledger->pid[1]);
        assert_int_not_equal(ledger->pid[2], ledger->pid[3]);
        assert_int_equal(end->pid, ledger->pid[0]);
        pool_destroy(pool);
    }
}

/* ---- What is not started again */

static void what_failed_is_not_started_again(void **state)
{
    struct pool_call call = {.retries = 5};
    struct end ends[3] = {{0}};
    struct pool *pool = make_pool(2);
    size_t i;

    (void)state;
    collect(iterate(pool, fails, pool_range(3), &call, 0), ends, 3);
    for (i = 0; i < 3; i++) {
        assert_int_equal(ends[i].status, POOL_FAILED);
        assert_int_equal(ends[i].tries, 1);
        assert_int_equal(ledger->started[i], 1);
    }
    pool_destroy(pool);
}

static void what_timed_out_is_not_started_again(void **state)
{
    struct pool_call call = {.retries = 5, .timeout = 0.1};
    struct end ends[3] = {{0}};
    struct pool *pool = make_pool(2);
    size_t i;

    (void)state;
    collect(iterate(pool, hangs, pool_range(3), &call, 0), ends, 3);
    for (i = 0; i < 3; i++) {
        assert_int_equal(ends[i].status, POOL_TIMED_OUT);
        assert_int_equal(ends[i].tries, 1);
        assert_int_equal(ledger->started[i], 1);
    }
    pool_destroy(pool);
}

static void a_result_of_the_wrong_size_is_not_started_again(void **state)
{
    struct plan plan = {0};
    struct pool_call call = call_of(&plan, 3);
    struct pool *pool = make_pool(1);
    char out[3];

    (void)state;
    assert_int_equal(pool_apply(pool, flaky, NULL, 0, out, sizeof out, &call), POOL_FAILED);
    assert_int_equal(ledger->started[0], 1);
    pool_destroy(pool);
}

static int dies_then_hangs(struct pool_task *task)
{
    if (count_start(task) == 1)
        raise(SIGKILL);
    pause_for_ever();
    return 0;
}

static void the_second_start_has_its_own_time(void **state)
{
    struct pool_call call = {.retries = 5, .timeout = 0.1};
    struct end end[1] = {{0}};
    struct pool *pool = make_pool(2);

    (void)state;
    collect(iterate(pool, dies_then_hangs, pool_range(1), &call, 0), end, 1);
    assert_int_equal(end->status, POOL_TIMED_OUT);
    assert_int_equal(end->tries, 2);
    assert_int_equal(ledger->started[0], 2);
    pool_destroy(pool);
}

/* ---- The same bytes again, wherever they come from */

static unsigned char byte_of(size_t index)
{
    return (unsigned char)(7 * index + 3);
}

struct stream {
    size_t next, count, size;
    unsigned char *bytes;               /* written over for each item */
};

static int pull(void *cursor, struct pool_bytes *item)
{
    struct stream *s = cursor;

    if (s->next == s->count)
        return 0;
    if (s->size)
        memset(s->bytes, byte_of(s->next), s->size);
    s->next++;
    *item = (struct pool_bytes){s->bytes, s->size};
    return 1;
}

static void assert_bytes(const struct pool_result *r, size_t size)
{
    const unsigned char *bytes = r->data;
    size_t i;

    if (r->status != POOL_OK)
        fail_msg("item %zu is %s: %s", r->index, pool_status_text(r->status), r->message);
    assert_int_equal(r->size, size);
    for (i = 0; i < size; i += i + 1 < size && size - i > 997 ? 997 : 1)
        assert_int_equal(bytes[i], byte_of(r->index));
}

static void generated(size_t size, size_t count, unsigned workers)
{
    struct plan plan = {.flaky = 0x1249249249249249u};
    struct pool_call call = call_of(&plan, 1);
    struct stream stream = {.count = count, .size = size, .bytes = malloc(size + 1)};
    struct pool *pool = make_pool(workers);
    struct pool_iter *iter = iterate(pool, flaky_echo, pool_generator(pull, &stream), &call, 1);
    const struct pool_result *r;
    size_t next = 0;

    assert_non_null(stream.bytes);
    while ((r = pool_next_timeout(iter, PATIENCE))) {
        assert_int_equal(r->index, next);
        assert_bytes(r, size);
        assert_int_equal(r->tries, in(plan.flaky, next) ? 2 : 1);
        next++;
    }
    assert_int_equal(next, count);
    pool_iter_free(iter);
    pool_destroy(pool);
    free(stream.bytes);
}

static void a_generators_small_items(void **state)
{
    (void)state;
    generated(100, 40, 2);
}

static void a_generators_items_without_bytes(void **state)
{
    (void)state;
    generated(0, 40, 2);
}

static void a_generators_items_in_the_lane(void **state)
{
    (void)state;
    generated(100 << 10, 30, 2);
}

static void a_generators_items_through_the_stream(void **state)
{
    (void)state;
    generated(LARGE, 7, 2);
}

static void a_generators_items_at_the_only_worker(void **state)
{
    (void)state;
    generated(100 << 10, 10, 1);
    ledger_clear(NULL);
    generated(LARGE, 4, 1);
}

static void buffers(void **state)
{
    enum { COUNT = 12 };
    static const size_t sizes[] = {0, 1, 100, 5000, 16384, 16385, 100 << 10, LARGE};
    struct plan plan = {.flaky = 0xfff};
    struct pool_call call = call_of(&plan, 1);
    struct pool_bytes items[COUNT];
    struct pool *pool = make_pool(2);
    struct pool_results *list;
    size_t i;

    (void)state;
    for (i = 0; i < COUNT; i++) {
        unsigned char *bytes = malloc(sizes[i % 8] + 1);

        assert_non_null(bytes);
        memset(bytes, byte_of(i), sizes[i % 8] + 1);
        items[i] = (struct pool_bytes){bytes, sizes[i % 8]};
    }
    list = pool_map_results(pool, flaky_echo, pool_buffers(items, COUNT), &call);
    assert_int_equal(pool_results_count(list), COUNT);
    for (i = 0; i < COUNT; i++) {
        assert_bytes(pool_results_at(list, i), sizes[i % 8]);
        assert_int_equal(pool_results_at(list, i)->tries, 2);
        free((void *)(uintptr_t)items[i].data);
    }
    pool_results_free(list);
    pool_destroy(pool);
}

static void an_array_mapped_into_an_array(void **state)
{
    enum { COUNT = 60 };
    struct plan plan = {.flaky = 0x10842108421084u};
    struct pool_call call = call_of(&plan, 1);
    struct pool *pool = make_pool(2);
    long items[COUNT], out[COUNT];
    long i;

    (void)state;
    for (i = 0; i < COUNT; i++)
        items[i] = 1000 - i;
    assert_int_equal(pool_map(pool, flaky_echo, pool_array(items, COUNT, sizeof *items), out, sizeof *out, &call), POOL_OK);
    assert_memory_equal(items, out, sizeof items);
    for (i = 0; i < COUNT; i++)
        assert_int_equal(ledger->started[i], in(plan.flaky, (size_t)i) ? 2 : 1);
    pool_destroy(pool);
}

static void a_map_with_a_poison_item(void **state)
{
    enum { COUNT = 30 };
    struct plan plan = {.flaky = 1u << 3, .poison = 1u << 11};
    struct pool_call call = call_of(&plan, 2);
    struct pool *pool = make_pool(2);
    long out[COUNT];
    size_t i;

    (void)state;
    for (i = 0; i < COUNT; i++)
        out[i] = -7;
    assert_int_equal(pool_map(pool, flaky, pool_range(COUNT), out, sizeof *out, &call), POOL_CRASHED);
    assert_int_equal(pool_failure()->index, 11);
    assert_int_equal(pool_failure()->tries, 3);
    assert_int_equal(pool_failure()->signal, SIGKILL);
    for (i = 0; i < COUNT; i++)
        assert_int_equal(out[i], i == 11 ? -7 : value_of(i));
    pool_destroy(pool);
}

static void apply(void **state)
{
    struct plan plan = {.flaky = 1};
    struct pool_call call = call_of(&plan, 1);
    struct pool *pool = make_pool(2);
    long item = 4711, out = 0;

    (void)state;
    assert_int_equal(pool_apply(pool, flaky_echo, &item, sizeof item, &out, sizeof out, &call), POOL_OK);
    assert_int_equal(out, 4711);
    assert_int_equal(ledger->started[0], 2);
    pool_destroy(pool);
}

/* The caller's bytes are gone by the time of the second start. */
static void apply_async(void **state)
{
    struct plan plan = {.flaky = 1};
    struct pool_call call = call_of(&plan, 1);
    struct pool *pool = make_pool(2);
    unsigned char *bytes = malloc(LARGE);
    struct pool_job *job;

    (void)state;
    assert_non_null(bytes);
    memset(bytes, byte_of(0), LARGE);
    job = pool_apply_async(pool, flaky_echo, bytes, LARGE, &call);
    memset(bytes, 0, LARGE);
    free(bytes);
    assert_non_null(job);
    assert_int_equal(pool_job_wait(job, PATIENCE), POOL_OK);
    assert_bytes(pool_results_at(pool_job_results(job), 0), LARGE);
    assert_int_equal(pool_results_at(pool_job_results(job), 0)->tries, 2);
    pool_job_free(job);
    pool_destroy(pool);
}

static void map_async(void **state)
{
    struct plan plan = {.flaky = 0xf0, .poison = 1u << 20};
    struct pool_call call = call_of(&plan, 1);
    struct pool *pool = make_pool(2);
    struct pool_job *job = pool_map_async(pool, flaky, pool_range(30), &call);
    size_t i;

    (void)state;
    assert_non_null(job);
    assert_int_equal(pool_job_wait(job, PATIENCE), POOL_CRASHED);
    for (i = 0; i < 30; i++) {
        assert_int_equal(pool_results_at(pool_job_results(job), i)->status, i == 20 ? POOL_CRASHED : POOL_OK);
        assert_int_equal(pool_results_at(pool_job_results(job), i)->tries, in(0x1000f0, i) ? 2 : 1);
    }
    pool_job_free(job);
    pool_destroy(pool);
}

/* ---- Calls that are cut short */

static void fail_fast_waits_for_the_last_try(void **state)
{
    struct plan plan = {.flaky = 0xff};
    struct pool_call call = call_of(&plan, 1);
    struct pool *pool = make_pool(2);
    long out[20];
    size_t i;

    (void)state;
    call.fail_fast = 1;
    assert_int_equal(pool_map(pool, flaky, pool_range(20), out, sizeof *out, &call), POOL_OK);
    for (i = 0; i < 20; i++)
        assert_int_equal(out[i], value_of(i));
    pool_destroy(pool);
}

static void fail_fast_ends_with_a_poison_item(void **state)
{
    struct plan plan = {.poison = 1u << 3};
    struct pool_call call = call_of(&plan, 2);
    struct pool *pool = make_pool(2);

    (void)state;
    call.fail_fast = 1;
    assert_int_equal(pool_map(pool, flaky, pool_range(1000), NULL, 0, &call), POOL_CRASHED);
    assert_int_equal(pool_failure()->index, 3);
    assert_int_equal(pool_failure()->tries, 3);
    assert_works(pool);
    pool_destroy(pool);
}

static int is_tried(void *unused)
{
    (void)unused;
    return atomic_load(&ledger->started[0]) >= 5;
}

/* Item 0 kills its workers again and again, in the hands of the helper. */
static struct pool_job *try_for_ever(struct pool *pool)
{
    struct pool_job *job = pool_apply_async(pool, always_dies, NULL, 0, &(struct pool_call){.retries = UINT32_MAX});

    assert_non_null(job);
    assert_true(check_until(is_tried, NULL, PATIENCE));
    return job;
}

static void assert_cut(enum pool_status status)
{
    assert_true(status == POOL_CANCELLED || status == POOL_CRASHED);
}

static void a_cancel_ends_the_tries(void **state)
{
    struct pool *pool = make_pool(2);
    struct pool_job *job = try_for_ever(pool);

    (void)state;
    pool_job_cancel(job);
    assert_cut(pool_job_wait(job, PATIENCE));
    pool_job_free(job);
    assert_works(pool);
    pool_destroy(pool);
}

static void a_terminate_ends_the_tries(void **state)
{
    struct pool *pool = make_pool(2);
    struct pool_job *job = try_for_ever(pool);

    (void)state;
    pool_terminate(pool);
    assert_cut(pool_job_wait(job, PATIENCE));
    assert_int_equal(pool_join(pool, PATIENCE), POOL_OK);
    pool_job_free(job);
    pool_destroy(pool);
}

static void a_destroy_ends_the_tries(void **state)
{
    struct pool *pool = make_pool(2);
    struct pool_job *job = try_for_ever(pool);

    (void)state;
    pool_destroy(pool);
    assert_cut(pool_job_wait(job, 0));
    pool_job_free(job);
}

static void a_freed_iterator_ends_the_tries(void **state)
{
    struct pool *pool = make_pool(2);
    struct pool_iter *iter = iterate(pool, always_dies, pool_range(1), &(struct pool_call){.retries = UINT32_MAX}, 1);

    (void)state;
    while (!is_tried(NULL))
        pool_next_timeout(iter, 0.01);
    pool_iter_free(iter);
    assert_works(pool);
    pool_destroy(pool);
}

static void a_close_lets_it_be_tried(void **state)
{
    struct plan plan = {.flaky = 0xff};
    struct pool_call call = call_of(&plan, 1);
    struct pool *pool = make_pool(2);
    struct pool_job *job = pool_map_async(pool, flaky, pool_range(8), &call);

    (void)state;
    assert_non_null(job);
    pool_close(pool);
    assert_int_equal(pool_join(pool, PATIENCE), POOL_OK);
    assert_int_equal(pool_job_wait(job, 0), POOL_OK);
    pool_job_free(job);
    pool_destroy(pool);
}

/* ---- Serial pools, memory */

static void a_serial_pool_has_nothing_to_retry(void **state)
{
    struct pool *pool = pool_create(&(struct pool_options){.serial = 1});
    long out[3];

    (void)state;
    assert_non_null(pool);
    assert_int_equal(pool_map(pool, good, pool_range(3), out, sizeof *out, &(struct pool_call){.retries = 3}), POOL_OK);
    assert_int_equal(out[2], value_of(2));
    pool_destroy(pool);
}

static long resident_kib(void)
{
    char line[256];
    long kib = -1;
    FILE *file = fopen("/proc/self/status", "re");

    assert_non_null(file);
    while (kib < 0 && fgets(line, sizeof line, file))
        if (strncmp(line, "VmRSS:", 6) == 0)
            kib = strtol(line + 6, NULL, 10);
    fclose(file);
    return kib;
}

static int drops(struct pool_task *task)
{
    return task->index % 1000 == 500 && count_start(task) == 1 ? raise(SIGKILL) : 0;
}

/* Kept until it is settled, and no longer: 80 MiB go by, some of them twice. */
static void a_long_stream_leaves_nothing_behind(void **state)
{
    enum { COUNT = 20000, SIZE = 4096 };
    static unsigned char bytes[SIZE];
    struct stream stream = {.count = COUNT, .size = SIZE, .bytes = bytes};
    struct pool_call call = {.retries = 2, .window = 64};
    struct pool *pool = make_pool(2);
    struct pool_iter *iter = iterate(pool, drops, pool_generator(pull, &stream), &call, 0);
    const struct pool_result *r;
    size_t count = 0;
    long before = 0;

    (void)state;
    while ((r = pool_next_timeout(iter, PATIENCE))) {
        assert_int_equal(r->status, POOL_OK);
        if (++count == COUNT / 10)
            before = resident_kib();
    }
    assert_int_equal(count, COUNT);
    if (!check_under(""))
        assert_true(resident_kib() < before + 4096);
    pool_iter_free(iter);
    pool_destroy(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(a_flaky_item_ends_well),
        STORY(a_flaky_item_ends_well_at_the_only_worker),
        STORY(many_flaky_items),
        STORY(the_first_and_the_last),
        STORY(a_poison_item_is_named_and_the_rest_completes),
        STORY(a_poison_item_at_the_only_worker),
        STORY(flaky_and_poison_together),
        STORY(every_item_is_poison),
        STORY(many_retries_do_not_break_the_pool),
        STORY(order_is_kept),
        STORY(without_retries_one_start),
        STORY(an_exit_is_a_crash_like_others),
        STORY(it_runs_at_another_worker_where_one_is_free),
        STORY(what_failed_is_not_started_again),
        STORY(what_timed_out_is_not_started_again),
        STORY(a_result_of_the_wrong_size_is_not_started_again),
        STORY(the_second_start_has_its_own_time),
        STORY(a_generators_small_items),
        STORY(a_generators_items_without_bytes),
        STORY(a_generators_items_in_the_lane),
        STORY(a_generators_items_through_the_stream),
        STORY(a_generators_items_at_the_only_worker),
        STORY(buffers),
        STORY(an_array_mapped_into_an_array),
        STORY(a_map_with_a_poison_item),
        STORY(apply),
        STORY(apply_async),
        STORY(map_async),
        STORY(fail_fast_waits_for_the_last_try),
        STORY(fail_fast_ends_with_a_poison_item),
        STORY(a_cancel_ends_the_tries),
        STORY(a_terminate_ends_the_tries),
        STORY(a_destroy_ends_the_tries),
        STORY(a_freed_iterator_ends_the_tries),
        STORY(a_close_lets_it_be_tried),
        STORY(a_serial_pool_has_nothing_to_retry),
        STORY(a_long_stream_leaves_nothing_behind),
    };

    return cmocka_run_group_tests(tests, ledger_setup, ledger_teardown);
}
